"""Finds the captions of a folder's images, and records ambiguities for the report."""

from pathlib import Path
from typing import Any, NamedTuple

from datamodules.captions.text_files import CAPTION_SUFFIXES
from datamodules.imports.caption_files import CaptionTable, find_tables, read_caption_file, read_table
from datamodules.shards.schema import SampleError
from datamodules.shards.skips import SkippedImage
from datamodules.shards.sources import Listing, is_file, name_of, path_text

_MANY_CAPTIONS = 8
NO_CAPTION = "no caption (add a .txt or .json file next to the image, or a table row)"


class Found(NamedTuple):
    """The captions of an image, and the other values of its table row or its .json file."""

    captions: tuple[str, ...]
    columns: dict[str, Any]


class _Source(NamedTuple):
    captions: list[str]
    place: str
    columns: dict[str, Any]


class CaptionLookup:
    """The captions of a folder's images, from files next to them and from tables in any subfolder.

    The caption file of an image has the name of the image, with its suffix replaced (beach.txt) or followed by another
    suffix (beach.jpg.txt). Caption files take precedence over tables, .json takes precedence over .txt, and a table
    takes precedence over tables in the folders above it.

    Args:
        listing: The files in the folder.
        table: Caption table to use instead of all other captions.
        per_line: Treat each line of a text file as a caption. Otherwise, a text file contains a single caption.
        keep_columns: Also return the other columns of tables and keys of .json files.
        default: Caption for images without a caption, such as the trigger word of a concept. A caption that exists but
            cannot be read is still an error.

    Attributes:
        used: The files that were read.

    Raises:
        UserError: A table is invalid.
    """

    def __init__(
        self,
        listing: Listing,
        *,
        table: Path | None = None,
        per_line: bool = False,
        keep_columns: bool = False,
        default: str | None = None,
    ) -> None:
        self._default, self._defaults = default, 0
        self._folder, self._per_line, self._keep_columns = listing.folder, per_line, keep_columns
        self._beside: dict[Path, list[Path]] = {}
        tables = find_tables(listing.others) if table is None else [table]
        self.used = set(tables)
        for path in listing.others if table is None else ():
            if path.suffix.lower() in CAPTION_SUFFIXES:
                self._beside.setdefault(path.with_suffix(""), []).append(path)
        self._tables: dict[Path, CaptionTable] = {
            path: read_table(path, listing.folder, keep_columns) for path in tables
        }
        self._text_files = 0
        self._several_lines: list[tuple[int, str]] = []
        self._many_captions: list[tuple[int, str]] = []
        self._conflicts: list[str] = []
        self._ignored: list[str] = []

    def find(self, image: Path) -> Found:
        """Return the captions of an image and the values of its other columns. There is at least one caption.

        Raises:
            SampleError: The image has no readable caption. The message names the files and keys.
        """
        sources: list[_Source] = []
        problems: list[str] = []
        files = [*self._beside.get(image.with_suffix(""), []), *self._beside.get(image, [])]
        for path in sorted(files, key=lambda path: CAPTION_SUFFIXES.index(path.suffix.lower())):
            self.used.add(path)
            try:
                sources.append(self._read(path))
            except SampleError as error:
                problems.append(str(error))
        resolved = image.resolve()
        for entry in (table[resolved] for table in self._tables.values() if resolved in table):
            if entry.captions:
                sources.append(_Source(entry.captions, entry.place, entry.columns))
            else:
                problems.append(entry.problem or f"{entry.place}: the caption is empty")
        if not sources and not problems and self._default is not None:
            self._defaults += 1
            return Found((self._default,), {})
        if not sources:
            raise SampleError("; ".join(problems) or NO_CAPTION)
        self._ignored += problems
        columns = {key: value for source in reversed(sources) for key, value in source.columns.items()}
        return Found(self._choose(name_of(image, self._folder), sources), columns if self._keep_columns else {})

    def unknown_images(self, images: list[Path]) -> list[SkippedImage]:
        """Return the images that tables list but that are not among the folder's images."""
        known = {path.resolve() for path in images}
        unknown = {path: table for table, rows in self._tables.items() for path in rows if path not in known}
        return [
            SkippedImage(name_of(path, self._folder), f"in {name_of(table, self._folder)}, but {_unknown(path)}")
            for path, table in unknown.items()
        ]

    def notes(self) -> list[str]:
        """Return a line for each kind of ambiguity that was found."""
        notes = []
        if self._defaults:
            notes.append(f'images without a caption, for which "{self._default}" is used: {self._defaults}')
        if self._several_lines:
            most, name = max(self._several_lines)
            count = f"{len(self._several_lines)} of {self._text_files}"
            notes.append(
                f"text files with several lines: {count} (up to {most} lines, in {name}); the lines of a file form a "
                "single caption (--captions-per-line makes each line a caption)"
            )
        if self._many_captions:
            most, name = max(self._many_captions)
            notes.append(
                f"images with more than {_MANY_CAPTIONS} captions: {len(self._many_captions)} "
                f"(up to {most}, for {name}); training uses them one at a time, so check that each caption on its own "
                "describes the image"
            )
        if self._conflicts:
            notes.append(
                f"images with different captions in several places: {len(self._conflicts)} ({self._conflicts[0]})"
            )
        if self._ignored:
            notes.append(f"caption files or rows that are not used: {len(self._ignored)} ({self._ignored[0]})")
        return notes

    def _read(self, path: Path) -> _Source:
        content = read_caption_file(path)
        lines, name = content.captions, path_text(Path(path.name))
        if path.suffix.lower() == ".json" or self._per_line:
            return _Source(lines, name, content.columns)
        self._text_files += 1
        if len(lines) > 1:
            self._several_lines.append((len(lines), name_of(path, self._folder)))
        return _Source([" ".join(lines)], name, {})

    def _choose(self, name: str, sources: list[_Source]) -> tuple[str, ...]:
        distinct = [(tuple(dict.fromkeys(source.captions)), source.place) for source in sources]
        captions, place = distinct[0]
        if other := next((other for others, other in distinct[1:] if others != captions), None):
            self._conflicts.append(f"for {name}, {place} is used and {other} is not")
        if len(captions) > _MANY_CAPTIONS:
            self._many_captions.append((len(captions), name))
        return captions


def _unknown(path: Path) -> str:
    if not is_file(path):
        return "the folder does not contain this image"
    return f"{path.suffix} files are not read" if path.suffix else "files without a suffix are not read"
