"""One-line errors for published checkpoints that cannot be loaded from a folder, the cache, or the Hub."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from pocketdit.errors import RunError


@contextmanager
def explain_load_errors(description: str, repository: str) -> Iterator[None]:
    """Convert loading errors that a library raises inside the context to one-line errors.

    Args:
        description: Description of the checkpoint for the error message, with an article.
        repository: A folder, or the name of a repository on the Hub.

    Raises:
        RunError: The checkpoint is missing, incomplete, or not in the safetensors format.
    """
    try:
        yield
    # A RuntimeError means that the shapes of the weights do not match the configuration.
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(" .:")
        if Path(repository).is_dir():
            raise RunError(f"{repository}: cannot load {description} from this folder: {reason}") from error
        if is_path(repository):
            raise RunError(f"{repository}: no such folder; use a folder that contains {description}") from error
        raise RunError(
            f"{repository}: cannot load {description}: this is not a folder, and it is not available from the Hugging "
            f"Face Hub or its cache ({reason}); on a machine with an internet connection, run "
            f"`hf download {repository} --local-dir FOLDER`, then set the repository to FOLDER"
        ) from error


def local_folder(repository: str, revision: str | None) -> Path | None:
    """Return the folder of a repository on this machine, without downloading anything.

    Args:
        repository: A folder, or the name of a repository on the Hub.
        revision: Revision of the repository on the Hub.

    Returns:
        The folder, or None if the repository is neither a folder nor in the Hub's cache.
    """
    if Path(repository).is_dir():
        return Path(repository)
    if is_path(repository):
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, OSError, ValueError):
        return None


def is_path(repository: str) -> bool:
    """Return whether a repository must be a path, because it cannot be an OWNER/NAME repository on the Hub."""
    return repository.startswith((".", "/", "~", "\\")) or repository.count("/") != 1


def require_complete(description: str, repository: str, missing: Collection[str]) -> None:
    """Check that no weights are missing. Libraries only warn about missing weights and initialize them randomly.

    Args:
        description: Description of the checkpoint for the error message, with an article.
        repository: A folder, or the name of a repository on the Hub.
        missing: Names of the missing weights.

    Raises:
        RunError: Weights are missing.
    """
    if missing:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise RunError(f"{repository}: cannot load {description}: missing weights: {min(missing)}{others}")
