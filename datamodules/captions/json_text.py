"""Parses JSON. A key that occurs twice in an object is an error, because Python would keep only the last value."""

import json
from typing import Any


def parse_json(text: str) -> Any:
    """Parse JSON.

    Raises:
        ValueError: The text is not JSON, or a key occurs twice in an object.
        RecursionError: The text is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {key!r} occurs twice")
        result[key] = value
    return result
