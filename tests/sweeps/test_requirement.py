"""Tests that requirements are evaluated as comparisons of parameters and never as code."""

from typing import Any

import pytest

from sweeps.requirement import MAX_LENGTH, is_satisfied, param_names

PARAMS: dict[str, Any] = {"radius": 2, "blocks": 3, "rate": 0.5, "name": "adam", "none": None, "flag": True}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("radius < blocks", True),
        ("blocks < radius", False),
        ("1 < radius <= 2 < blocks", True),
        ("1 < radius < 2", False),
        ("radius * 2 + 1 == 5 and blocks % 2 == 1", True),
        ("blocks // 2 - radius / 4 == rate", True),
        ("-radius < 0", True),
        ("not flag or name == 'sgd'", False),
        ("name in ('adam', 'sgd')", True),
        ("name not in ['sgd']", True),
        ("none is None", True),
        ("none is not None", False),
        ("missing < 3", True),
        ("False and radius / 0 > 1", False),
    ],
)
def test_comparisons_have_the_values_of_python(text: str, expected: bool) -> None:
    assert is_satisfied(text, PARAMS) is expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("'x' * 10**10", "Pow is not allowed"),
        ("'x' * 10000000000 == name", "arithmetic needs numbers, but 'x' is not a number"),
        ("[0] * 10000000000 == name", r"arithmetic needs numbers, but \[0\] is not a number"),
        ("name % radius == 1", "arithmetic needs numbers, but 'adam' is not a number"),
        ("name + '%99999999999d' == 1", "arithmetic needs numbers"),
        ("flag + 1 == 2", "arithmetic needs numbers, but True is not a number"),
        ("1 << 10000000000 > radius", "LShift is not allowed"),
        ("__import__('os').system('true')", "is not allowed"),
        ("name.__class__ == 1", "Attribute is not allowed"),
        ("[x for x in blocks]", "is not allowed"),
        ("(lambda: 1) == 1", "is not allowed"),
        ("f'{name}' == 1", "is not allowed"),
        ("radius <", "is not a comparison of parameters"),
        ("radius\0", "is not a comparison of parameters"),
        ("radius / 0 > 1", "division by zero"),
        ("radius < name", "not supported between"),
        ("radius in blocks", "is not iterable"),
        ("(" * 240 + "radius" + ")" * 240, "is not a comparison of parameters"),
        ("- " * 240 + "radius > 0", None),
        ("radius > " + "9" * MAX_LENGTH, f"is longer than {MAX_LENGTH} characters"),
        ("1 < " * 100_000 + "radius", f"is longer than {MAX_LENGTH} characters"),
    ],
)
def test_everything_else_is_refused(text: str, message: str | None) -> None:
    if message is None:
        assert is_satisfied(text, PARAMS)
        return
    with pytest.raises(ValueError, match=message):
        is_satisfied(text, PARAMS)


def test_names_of_parameters() -> None:
    assert param_names("radius < blocks and not (rate > 1)") == {"radius", "blocks", "rate"}
