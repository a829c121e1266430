"""Tests for the image sizes that prompts request."""

from typing import Any

import pytest

from evaluation.contract import Prompt
from evaluation.subjects.sampling import image_size
from pocketdit.errors import ConfigError


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, (8, 9)),
        ({"height": "", "width": ""}, (8, 9)),
        ({"height": None, "width": None}, (8, 9)),
        ({"height": 64, "width": "96"}, (64, 96)),
        ({"height": 1, "width": 65_536}, (1, 65_536)),
    ],
)
def test_sizes_are_those_of_the_prompt_or_the_default(metadata: dict[str, Any], expected: tuple[int, int]) -> None:
    assert image_size(Prompt("a", "x", metadata), (8, 9)) == expected


@pytest.mark.parametrize(("height", "width"), [(0, 0), (64, -8), (10**9, 64), ("64.0", "64"), (True, True), (64, None)])
def test_invalid_sizes_are_reported_before_sampling(height: Any, width: Any) -> None:
    with pytest.raises(ConfigError, match=r"prompt a: the height .* are not numbers of pixels from 1 to 65,536"):
        image_size(Prompt("a", "x", {"height": height, "width": width}), (8, 9))
