"""Uploads a published folder to the Hub as a single commit."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pocketdit.errors import ConfigError
from pocketdit.hub.connection import TOKEN, explain_hub_errors, hub_api, token
from pocketdit.hub.run_files import MANIFEST

_GIT_FILES = (".gitattributes",)
_CONSEQUENCE = "nothing was published; run the command again to resume"


def require_token() -> None:
    """Check that the environment contains a token.

    Raises:
        ConfigError: The environment contains no token.
    """
    if token() is None:
        raise ConfigError(
            f"{TOKEN}: not set; create a token with write permission in the settings of your account, and set this "
            "environment variable to it"
        )


def upload(folder: Path, repository: str, public: bool, replace: bool, message: str) -> str:
    """Upload a folder. All files become visible at the same time, with the last request.

    If an upload was interrupted, the large files that it has sent are not sent again.

    Args:
        folder: The published folder.
        repository: Name of the repository, which is created if it does not exist.
        public: Whether a new repository is public.
        replace: Whether to replace the files of a repository that is not empty.
        message: Message of the commit.

    Returns:
        Address of the commit.

    Raises:
        ConfigError: The environment contains no token, or the repository is not empty.
        RunError: A request failed.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete
    from huggingface_hub.errors import RepositoryNotFoundError

    require_token()
    api = hub_api()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in files]
    with explain_hub_errors(repository, _CONSEQUENCE):
        api.whoami()  # a wrong token would otherwise look like a missing repository
        try:
            info = api.model_info(repository)
        except RepositoryNotFoundError:
            api.create_repo(repository, private=not public)
            info = api.model_info(repository)
        existing = [file.rfilename for file in info.siblings or () if file.rfilename not in _GIT_FILES]
        if existing and is_same(api, repository, info.sha, existing, folder):
            return f"{api.endpoint}/{repository}/commit/{info.sha}"
        if existing and not replace:
            raise ConfigError(
                f"--hub {repository}: already contains {len(existing)} files; choose another name, or add --replace to "
                "replace them"
            )
        operations: list[Any] = [CommitOperationDelete(name) for name in existing if name not in names]
        operations += [CommitOperationAdd(name, path) for name, path in zip(names, files, strict=True)]
        with without_progress_bars():
            commit = api.create_commit(repository, operations, commit_message=message, parent_commit=info.sha)
        return str(commit.commit_url)


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Hide huggingface_hub's nested progress bars, which move the cursor with escape sequences."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    shown = not are_progress_bars_disabled()
    if shown:
        disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()


def is_same(api: Any, repository: str, revision: str, existing: list[str], folder: Path) -> bool:
    """Return whether a repository already contains this folder, as after a commit whose response was lost."""
    if MANIFEST not in existing:
        return False
    with tempfile.TemporaryDirectory() as temporary:
        path = api.hf_hub_download(repository, MANIFEST, revision=revision, local_dir=temporary)
        return Path(path).read_bytes() == (folder / MANIFEST).read_bytes()
