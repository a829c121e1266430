"""Published checkpoints: found in a folder, in the hub's cache or on the hub, or a clear error."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from pocketdit.errors import RunError


@contextmanager
def loading(what: str, repository: str) -> Iterator[None]:
    """Turns a library's failure to load ``what`` from ``repository`` into one line.

    Raises:
        RunError: the checkpoint is not there, not complete, or not in safetensors.
    """
    try:
        yield
    # RuntimeError: weights of other shapes than the configuration says.
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(" .:")
        if Path(repository).is_dir():
            raise RunError(f"{repository}: cannot load {what} from this folder: {reason}") from error
        if _is_path(repository):
            raise RunError(f"{repository}: no such folder; it should hold {what}") from error
        raise RunError(
            f"{repository}: cannot load {what}: no such folder, and not to be had from the Hugging Face hub "
            f"or its cache ({reason}). Where there is a connection run "
            f"`hf download {repository} --local-dir FOLDER`, then give FOLDER as the repository"
        ) from error


def _is_path(repository: str) -> bool:
    """Whether it cannot be the name of a repository on the hub, OWNER/NAME."""
    return repository.startswith((".", "/", "~", "\\")) or repository.count("/") != 1


def require_complete(what: str, repository: str, missing: Collection[str]) -> None:
    """Raises ``RunError`` where weights are missing, which libraries only warn of and fill with noise."""
    if missing:
        raise RunError(
            f"{repository}: not a complete {what}: {len(missing)} weights are missing, the first is {min(missing)}"
        )
