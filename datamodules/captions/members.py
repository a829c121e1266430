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
Members = Mapping[str, bytes]  # mapping from extensions to contents, in the order of the tar


@dataclass(frozen=True)
class MemberRules:
    """Rules that determine which members of a sample contain the image and the captions.

    Attributes:
        image: Extension of the image. None selects the first member with an image extension.
        captions: Members, or keys inside JSON members, that contain captions. If empty, the members json, txt and
            caption are tried in this order.
        captions_per_line: Treat each line of a text member as a caption, instead of the whole member.
    """

    image: str | None = None
    captions: tuple[Field, ...] = ()
    captions_per_line: bool = False

    def image_of(self, extensions: Iterable[str]) -> str:
        """Return the extension of the member that contains the image.

        Raises:
            SampleError: No member contains an image.
        """
        names = list(extensions)
        expected = _IMAGES if self.image is None else (self.image.lower(),)
        found = next((name for name in names if name in expected), None)
        if found is None:
            raise SampleError(f"the members contain no {self.image or 'image'}: {' '.join(names)}")
        return found

    def captions_of(self, members: Members) -> tuple[str, ...]:
        """Return the captions of a sample without duplicates.

        Raises:
            SampleError: The sample has no caption, or a member cannot be read.
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
    """Return the values of the columns to which filters refer.

    The values are the entries of all JSON members. The entries of the member "json" take precedence. A member whose
    extension is the name of a column also provides a value: an object if it is a JSON member, and otherwise text.

    Raises:
        SampleError: A member cannot be read.
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
        raise SampleError(f"{field} cannot be read ({error})") from error


def _is_json(extension: str) -> bool:
    return extension.split(".")[-1] == "json"


def _json(members: Members, extension: str) -> dict[str, Any]:
    try:
        value = parse_json(decode_text(members[extension]))
    except (ValueError, RecursionError) as error:
        raise SampleError(f"{extension} cannot be read ({error})") from error
    return value if isinstance(value, dict) else {}
