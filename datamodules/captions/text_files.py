"""Parses the captions of JSON and text files."""

from typing import Any, NamedTuple

from datamodules.captions.fields import captions_of_keys
from datamodules.captions.json_text import parse_json
from datamodules.shards.schema import SampleError

CAPTION_SUFFIXES = (".json", ".txt", ".caption")


class CaptionFile(NamedTuple):
    """The contents of a .json, .txt or .caption file.

    Attributes:
        captions: The captions of a .json file, or the non-blank lines of a text file.
        columns: All entries of a .json file. A string or a list counts as the entry "captions". Empty for a text file.
    """

    captions: list[str]
    columns: dict[str, Any]


def parse_caption_file(name: str, content: bytes, is_json: bool) -> CaptionFile:
    """Parse the captions of a JSON file, or the non-blank lines of a text file.

    A JSON file contains a string, a list of strings, or an object with one of these under the key "caption", "text", or
    "captions".

    Args:
        name: Name of the file in error messages.
        content: The bytes of the file.
        is_json: Whether the file is a JSON file.

    Raises:
        SampleError: The file cannot be read or does not contain a caption.
    """
    try:
        text = decode_text(content)
        value = parse_json(text) if is_json else {"captions": text.splitlines()}
    except (ValueError, RecursionError) as error:
        raise SampleError(f"{name} cannot be read ({error})") from error
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
        ValueError: The file is not UTF-8, or contains null characters, as UTF-16 without a byte order mark does.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{error}; save the file as UTF-8") from error
    if "\0" in text:
        raise ValueError("it contains null characters; save the file as UTF-8")
    return text
