"""Tests for comparing a study's settings with the settings with which it was created."""

from typing import Any

import pytest

from evaluation.preference.plans import require_same_design
from pocketdit.errors import ConfigError


def settings(**arguments: Any) -> dict[str, Any]:
    return {"seed": 0, "subjects": {"a": {"class_path": "x.Run", "init_args": arguments}}}


def test_an_argument_that_a_class_has_gained_since_is_ignored() -> None:
    require_same_design("study", settings(width=0.5), settings(width=0.5, scale=1.0))


@pytest.mark.parametrize(
    ("before", "now", "key"),
    [
        (settings(width=0.5), settings(width=1.0), "subjects.a.init_args.width"),
        (settings(width=0.5, scale=None), settings(width=0.5, scale=1.0), "subjects.a.init_args.scale"),
        (settings(width=0.5, scale=1.0), settings(width=0.5), "subjects.a.init_args.scale"),
        (settings(), settings() | {"ties": True}, "ties"),
    ],
)
def test_any_other_difference_is_named(before: dict[str, Any], now: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key}: study was created with "):
        require_same_design("study", before, now)
