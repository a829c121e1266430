"""Parses the captions of JSON and text files."""

from typing import Any, NamedTuple

from datamodules.captions.fields import captions_of_keys
from datamodules.captions.json_text import parse_json
from datamodules.shards.schema import SampleError

CAPTION_SUFFIXES = (".json", ".txt", ".caption")


class CaptionFile(NamedTuple):
    """The contents of a .json, .txt or .caption file.

    Attributes:
        captions: The captions of a .json file, or the lines of a text file that are not blank.
        columns: All values of a .json file that is an object.
    """

    captions: list[str]
    columns: dict[str, Any]


def parse_caption_file(name: str, content: bytes, is_json: bool) -> CaptionFile:
    """Parse the captions of a JSON file, or the lines of a text file that are not blank.

    A JSON file contains an object with the keys "caption", "text", or "captions", whose values are strings or lists of
    strings, or just such a value.

    Args:
        name: What to call the file in errors.
        content: The bytes of the file.
        is_json: Whether it is a JSON file.

    Raises:
        SampleError: The file is not readable or does not contain a caption.
    """
    try:
        text = decode_text(content)
        value = parse_json(text) if is_json else {"captions": text.splitlines()}
    except (ValueError, RecursionError) as error:
        raise SampleError(f"{name} is not readable ({error})") from error
    columns = value if isinstance(value, dict) else {"captions": value}
    try:
        captions = captions_of_keys(columns)
    except SampleError as error:
        raise SampleError(f"{name}: {error}") from error
    if not captions:
        raise SampleError(f"{name} does not contain a caption")
    return CaptionFile(captions, columns if is_json else {})


def decode_text(content: bytes) -> str:
    """Decode a text file.

    Raises:
        ValueError: The file is not UTF-8. UTF-16 without a byte order mark looks like UTF-8 with null characters.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{error}; save it as UTF-8") from error
    if "\0" in text:
        raise ValueError("it contains null characters; save it as UTF-8")
    return text
