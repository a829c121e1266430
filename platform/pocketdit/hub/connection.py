"""The connection to the Hugging Face Hub: address, token, and one-line errors."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pocketdit.config.secrets import remember
from pocketdit.errors import ConfigError, RunError, UserError

TOKEN = "HF_TOKEN"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def endpoint() -> str:
    """Return the address of the Hub, which the environment variable HF_ENDPOINT can change."""
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def token() -> str | None:
    """Return the token in the environment, which is masked in all output from then on."""
    remember(f"${{oc.env:{TOKEN}}}")
    return os.environ.get(TOKEN) or None


def hub_api() -> Any:
    """Return huggingface_hub's client. Its token comes only from the environment, not from an earlier login."""
    from huggingface_hub import HfApi

    return HfApi(endpoint=endpoint(), token=token() or False, library_name="pocketdit")


def require_name(repository: str, option: str) -> str:
    """Return the name of a repository, USER/NAME.

    Raises:
        ConfigError: The name does not have this form.
    """
    if not _NAME.fullmatch(repository) or ".." in repository or "--" in repository or repository.endswith(".git"):
        raise ConfigError(
            f"{option}{repository}: must have the form USER/NAME, without '--' or '..', and must not end in .git"
        )
    return repository


@contextmanager
def explain_hub_errors(repository: str, consequence: str) -> Iterator[None]:
    """Within the ``with`` block, turn errors from Hub requests into one-line errors.

    Args:
        repository: Name of the repository.
        consequence: What the failure means and what to do, for example "nothing was published; run it again".

    Raises:
        RunError: A request failed.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        cause = request_error(error)
        if cause is None:
            raise
        raise RunError(f"{repository}: {_explain(cause)}; {consequence}") from error


def request_error(error: BaseException | None) -> BaseException | None:
    """Return the first request error among an error and its causes, or None if there is none."""
    import httpx2
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    kinds = (httpx2.HTTPError, httpx2.StreamError, LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError)
    while error is not None:
        if isinstance(error, kinds) and not (isinstance(error, LocalEntryNotFoundError) and error.__cause__):
            return error
        error = error.__cause__ or error.__context__
    return None


def _explain(error: BaseException) -> str:
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    status = error.response.status_code if isinstance(error, HfHubHTTPError) and error.response is not None else None
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so the Hub is not contacted (unset it)"
    if isinstance(error, GatedRepoError):
        return "its license must be accepted on the Hub first"
    if isinstance(error, RevisionNotFoundError):
        return "this revision does not exist"
    if status == 401 and not isinstance(error, RepositoryNotFoundError):
        return f"the Hub does not accept the token in {TOKEN}"
    if isinstance(error, RepositoryNotFoundError):
        return f"not found at {endpoint()}, or the token in {TOKEN} has no access to it"
    if status == 403:
        return f"the token in {TOKEN} has no permission for this"
    if status is not None:
        return f"the Hub answered with status {status}"
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"the connection to {endpoint()} failed ({reason})"
