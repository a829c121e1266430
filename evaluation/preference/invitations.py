"""The tokens with which invited raters take part.

The database contains only digests of the tokens. The tokens themselves are in a file that only its owner can read.
"""

import csv
import io
import os
from pathlib import Path

from evaluation.preference.storage.store import Plan, Store
from evaluation.preference.tokens import digest, new_token
from pocketdit.errors import RunError
from pocketdit.files import write_atomically

FILE_NAME = "raters.csv"
_TOKEN, _LINK = "token", "link"


def invite(store: Store, plan: Plan, folder: Path, count: int) -> None:
    """Add raters until ``count`` have been invited. All tokens are written to the file first."""
    path = folder / FILE_NAME
    tokens = read_tokens(path)
    if len(tokens) < count:
        tokens += [new_token() for _ in range(count - len(tokens))]
        _write(path, [{_TOKEN: token} for token in tokens], (_TOKEN,))
    for token in tokens:
        store.add_rater(digest(token), plan)


def write_links(folder: Path, address: str) -> Path:
    """Add the link of every invited rater to the file, and return its path.

    Args:
        folder: Folder of the study.
        address: Address of the server, without a slash at the end.
    """
    path = folder / FILE_NAME
    rows = [{_TOKEN: token, _LINK: f"{address}/join/{token}"} for token in read_tokens(path)]
    _write(path, rows, (_TOKEN, _LINK))
    return path


def read_tokens(path: Path) -> list[str]:
    """Return the tokens in the file, or an empty list if it does not exist.

    Raises:
        RunError: A row of the file has no token.
    """
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not all(row.get(_TOKEN) for row in rows):
        raise RunError(f"{path}: a row has no {_TOKEN}; restore the file from a backup")
    return [row[_TOKEN] for row in rows]


def _write(path: Path, rows: list[dict[str, str]], columns: tuple[str, ...]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)

    def write_private(temporary: Path) -> None:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text.getvalue())

    write_atomically(path, write_private)
