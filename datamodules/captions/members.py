"""Finds the image, the captions and other values among the members of a sample in a tar."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from datamodules.captions.fields import Field, captions_of_fields
from datamodules.captions.json_text import parse_json
from datamodules.captions.text_files import CAPTION_SUFFIXES, decode_text, parse_caption_file
from datamodules.shards.images import IMAGE_SUFFIXES
from datamodules.shards.schema import SampleError

_CAPTIONS = tuple(suffix.removeprefix(".") for suffix in CAPTION_SUFFIXES)
_IMAGES = tuple(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)
Members = Mapping[str, bytes]  # contents by extension, in the order of the tar


@dataclass(frozen=True)
class MemberRules:
    """Which members of a sample contain its image and its captions.

    Attributes:
        image: Extension of the image; None for the first member with the suffix of an image.
        captions: Members with captions, or keys inside JSON members; empty for .json, .txt and .caption, in this order.
        captions_per_line: Make each line of a text member a caption, instead of the whole member.
    """

    image: str | None = None
    captions: tuple[Field, ...] = ()
    captions_per_line: bool = False

    def image_of(self, extensions: Iterable[str]) -> str:
        """Return the extension of the member that contains the image.

        Raises:
            SampleError: There is none.
        """
        names = list(extensions)
        expected = _IMAGES if self.image is None else (self.image.lower(),)
        found = next((name for name in names if name in expected), None)
        if found is None:
            raise SampleError(f"{self.image or 'an image'} is not among the members: {' '.join(names)}")
        return found

    def captions_of(self, members: Members) -> tuple[str, ...]:
        """Return at least one caption, without repetitions.

        Raises:
            SampleError: There is no caption, or a member is not readable.
        """
        captions = self._of_fields(members) if self.captions else self._of_usual_names(members)
        if not captions:
            raise SampleError(f"the members contain no caption: {' '.join(members)}")
        return tuple(dict.fromkeys(captions))

    def _of_fields(self, members: Members) -> list[str]:
        values = {field.name: _value(members, field) for field in self.captions}
        return captions_of_fields(values, self.captions)

    def _of_usual_names(self, members: Members) -> list[str]:
        problems = []
        for extension in (name for name in _CAPTIONS if name in members):
            try:
                lines = parse_caption_file(extension, members[extension], extension == "json").captions
            except SampleError as error:
                problems.append(str(error))
                continue
            return lines if extension == "json" or self.captions_per_line else [" ".join(lines)]
        if problems:
            raise SampleError("; ".join(problems))
        return []


def columns_of(members: Members, names: Iterable[str]) -> dict[str, object]:
    """Return the values on which filters depend, by column.

    These are the entries of all JSON members, among which those of "json" take precedence. A member named like a column
    is also a value: a JSON member as an object, any other member as text.

    Raises:
        SampleError: A member is not readable.
    """
    columns: dict[str, object] = {}
    for extension in sorted(filter(_is_json, members), key=lambda name: name != "json"):
        columns = {**_json(members, extension), **columns}
    for name in names:
        if name.lower() in members and name not in columns:
            value = _value(members, Field(name))
            columns[name] = value.strip() if isinstance(value, str) else value
    return columns


def _value(members: Members, field: Field) -> Any:
    extension = field.name.lower()
    if extension not in members:
        return None
    if field.keys or _is_json(extension):
        return _json(members, extension)
    try:
        return decode_text(members[extension])
    except ValueError as error:
        raise SampleError(f"{field} is not readable ({error})") from error


def _is_json(extension: str) -> bool:
    return extension.split(".")[-1] == "json"


def _json(members: Members, extension: str) -> dict[str, Any]:
    try:
        value = parse_json(decode_text(members[extension]))
    except (ValueError, RecursionError) as error:
        raise SampleError(f"{extension} is not readable ({error})") from error
    return value if isinstance(value, dict) else {}
