"""One-line errors for published checkpoints that cannot be loaded from a folder, the cache or the hub."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from pocketdit.errors import RunError


@contextmanager
def explain_load_errors(what: str, repository: str) -> Iterator[None]:
    """Convert a library's loading errors inside the context to one line.

    Args:
        what: What is loaded, with an article, for the message.
        repository: A folder, or the name of a repository on the hub.

    Raises:
        RunError: The checkpoint is missing, incomplete, or not in safetensors.
    """
    try:
        yield
    # RuntimeError: the shapes of the weights do not match the configuration.
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(" .:")
        if Path(repository).is_dir():
            raise RunError(f"{repository}: cannot load {what} from this folder: {reason}") from error
        if _is_path(repository):
            raise RunError(f"{repository}: no such folder; it should contain {what}") from error
        raise RunError(
            f"{repository}: cannot load {what}: no such folder, and not available from the Hugging Face hub "
            f"or its cache ({reason}). On a machine with a connection run "
            f"`hf download {repository} --local-dir FOLDER`, then set the repository to FOLDER"
        ) from error


def _is_path(repository: str) -> bool:
    """Return whether the string cannot be the name of a repository on the hub, OWNER/NAME."""
    return repository.startswith((".", "/", "~", "\\")) or repository.count("/") != 1


def require_complete(what: str, repository: str, missing: Collection[str]) -> None:
    """Check that no weights are missing. Libraries only warn about them and initialize them randomly.

    Raises:
        RunError: Weights are missing.
    """
    if missing:
        raise RunError(
            f"{repository}: not a complete {what}: {len(missing)} weights are missing, the first is {min(missing)}"
        )
