from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from pocketdit.config.component import Component, Supplied, build
from pocketdit.config.errors import InvalidValueError
from pocketdit.config.scalar import Form
from pocketdit.config.typed import convert, plain
from pocketdit.errors import ConfigError


@dataclass(frozen=True)
class Full:
    kind: Literal["full"]
    heads: int


@dataclass(frozen=True)
class Sparse:
    kind: Literal["sparse"]
    heads: int
    radius: int = 1

    def __post_init__(self) -> None:
        if self.radius < 0:
            raise ValueError("radius must not\nbe negative")


@dataclass(frozen=True)
class Level:
    attention: Full | Sparse
    ratio: float = 4.0


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (1000.0, int, 1000),
        (3, float, 3.0),
        ("2e-3", float, 0.002),
        ("12", int, 12),
        ("-1.5E3", float, -1500.0),
        (False, bool, False),
        ("a", Path, Path("a")),
        (2, Literal["a", 2], 2),
        (None, int | None, None),
        ("auto", int | Literal["auto"], "auto"),
        ("3", float | str, "3"),
        ("3", float | None, 3.0),
        (3, float | int, 3),
        ([1, 2], list[float], [1.0, 2.0]),
        ([1, 2], tuple[int, ...], (1, 2)),
        ([1, "x"], tuple[int, str], (1, "x")),
        ([[1, 2]], Sequence[tuple[int, int]], [(1, 2)]),
        ({"a": 1}, dict[str, float], {"a": 1.0}),
        ({"a": None}, Mapping[str, int | None], {"a": None}),
        ({"a": [1, {"b": "c"}]}, Any, {"a": [1, {"b": "c"}]}),
        ({"kind": "sparse", "heads": 2}, Full | Sparse, Sparse("sparse", 2)),
        ({"kind": "full", "heads": 2}, Full | Sparse | None, Full("full", 2)),
        ({"attention": {"kind": "full", "heads": 2}}, Level, Level(Full("full", 2))),
    ],
)
def test_values(value: Any, annotation: Any, expected: Any) -> None:
    converted = convert(value, annotation, "key")
    assert converted == expected
    assert type(converted) is type(expected)
    assert convert(plain(converted), annotation, "key") == converted


@pytest.mark.parametrize(
    ("value", "annotation", "message"),
    [
        ("ten", int, "key: expected int, got 'ten'"),
        (True, int, "key: expected int, got True"),
        (1.5, int, "key: expected int, got 1.5"),
        (float("inf"), int, "key: expected int, got inf"),
        (float("inf"), float, "key: must be finite, not inf"),
        ("1e999", float, "key: must be finite, not '1e999'"),
        ("-inf", float | None, "key: must be finite, not '-inf'"),
        (10**40, int, f"key: {10**40} is too large"),
        (str(10**40), int, f"key: '{10**40}' is too large"),
        (1e40, int, "key: 1e+40 is too large"),
        (2.0**63, int, "key: 9.223372036854776e+18 is too large"),
        (10**400, float, "key: 100000000000000000000000000000000000000000000000000000000... is too large"),
        (True, float, "key: expected float, got True"),
        ("1e", float, "key: expected float, got '1e'"),
        ("nan", float, "key: must be finite, not 'nan'"),
        ("yes", bool, "key: expected bool, got 'yes'"),
        ([1, 2, 3], tuple[int, int], "key: expected a list of 2 items, got 3"),
        ("x", float | int | None, "key: expected float or int or null, got 'x'"),
        (float("nan"), float, "key: must be finite, not nan"),
        (1, bool, "key: expected bool, got 1"),
        (7, str, "key: expected str, got 7; put it in quotes"),
        (7, Annotated[str, Form("HEIGHTxWIDTH")], "key: must be HEIGHTxWIDTH, not 7"),
        ([7], Annotated[str, Form("HEIGHTxWIDTH")] | None, "key: must be HEIGHTxWIDTH, not a list"),
        (None, str, "key: expected str, got null"),
        ([], Path, "key: expected a path, got a list"),
        ("", Path, "key: expected a path, got ''"),
        ("bnaa", Literal["full", "bna"], "key: 'bnaa' is not one of 'full', 'bna'; did you mean 'bna'?"),
        (True, Literal[1, 2], "key: True is not one of 1, 2"),
        ("x", int | None, "key: expected int, got 'x'"),
        ("aut", int | Literal["auto"], "key: expected int or one of 'auto', got 'aut'; did you mean 'auto'?"),
        ([1, "x"], int | list[int], "key.1: expected int, got 'x'"),
        ("x", list[int], "key: expected a list, got 'x'"),
        ([1], tuple[int, int], "key: expected a list of 2 items, got 1"),
        ({"a": {"b": "x"}}, dict[str, dict[str, int]], "key.a.b: expected int, got 'x'"),
        ({1: 2}, dict[str, int], "key.1: keys must be strings; put this key in quotes"),
        (3, Level, "key: expected a mapping, got 3"),
        ({}, Level, "key: missing required key 'attention'"),
        ({"ratios": 1}, Level, "key.ratios: unknown key; did you mean 'ratio'?"),
        ({"zzz": 1}, Level, "key.zzz: unknown key; valid: attention, ratio"),
        ({"attention": {}}, Level, "key.attention: missing required key 'kind'; set it to one of 'full', 'sparse'"),
        (
            {"attention": {"kind": "sparce"}},
            Level,
            "key.attention.kind: 'sparce' is not one of 'full', 'sparse'; did you mean 'sparse'?",
        ),
        (
            {"attention": {"kind": "full", "head": 1}},
            Level,
            "key.attention.head: unknown key; did you mean 'heads'?",
        ),
        (
            [{"kind": "sparse", "heads": 1, "radius": -1}],
            list[Full | Sparse],
            "key.0: radius must not be negative",
        ),
    ],
)
def test_invalid_values(value: Any, annotation: Any, message: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        convert(value, annotation, "key")
    assert str(caught.value) == message


@dataclass(frozen=True)
class Bounds:
    low: float = float("-inf")
    high: float = float("inf")


def test_infinite_defaults_can_be_read_back() -> None:
    assert convert(plain(Bounds(low=1.0)), Bounds, "key") == Bounds(low=1.0)
    with pytest.raises(InvalidValueError, match=r"^key\.low: must be finite, not inf$"):
        convert({"low": float("inf")}, Bounds, "key")


def test_existing_path(tmp_path: Path) -> None:
    (tmp_path / "scenes").mkdir()
    existing = Annotated[Path, "exists"]
    assert convert(str(tmp_path / "scenes"), existing | None, "data") == tmp_path / "scenes"
    with pytest.raises(
        InvalidValueError, match=rf"'{tmp_path}/scens' does not exist; did you mean '{tmp_path}/scenes'"
    ):
        convert(str(tmp_path / "scens"), existing, "data")
    with pytest.raises(InvalidValueError, match=rf"'{tmp_path}/sceness/a/b' does not .* mean '{tmp_path}/scenes'\?$"):
        convert(str(tmp_path / "sceness" / "a" / "b"), existing, "data")
    with pytest.raises(InvalidValueError, match=r"does not exist$"):
        convert(str(tmp_path / "elsewhere"), existing, "data")


def test_components_receive_typed_arguments_and_defaults(tmp_path: Path) -> None:
    value = {
        "class_path": "gallery.shards.ShardData",
        "init_args": {"path": str(tmp_path), "weights": {"a": 1}},
    }
    component = convert(value, Component, "data")
    assert component.init_args == {
        "path": tmp_path,
        "batch_size": 32,
        "order": "shuffled",
        "weights": {"a": 1.0},
        "limit": 1000,
    }  # without `sizes`, whose default is a tuple, which YAML would turn into a list
    assert convert(plain(component), Component, "data") == component


def test_arguments_are_not_converted_without_classes() -> None:
    class_path = "gallery.unimportable.Absent"
    value = {"class_path": class_path, "init_args": {"depht": "x"}}
    assert convert(value, Component, "key", classes=False) == Component(class_path, {"depht": "x"})
    with pytest.raises(
        InvalidValueError, match=r"^key\.class_path: gallery\.unimportable\.Absent: cannot be imported: "
    ):
        convert(value, Component, "key")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"class_path": "gallery.stage.X"},
            "key.class_path: no module 'gallery.stage'; did you mean 'gallery.stages.X'?",
        ),
        ({"class_path": 3}, "key.class_path: expected str, got 3; put it in quotes"),
        ({"class_path": "gallery.shards.X", "init_args": [1]}, "key.init_args: expected a mapping, got a list"),
        (
            {"class_path": "gallery.X", "init_args": {1: 2}},
            "key.init_args.1: keys must be strings; put this key in quotes",
        ),
        ({"class_path": "gallery.shards.X", "args": {}}, "key.args: unknown key; did you mean 'init_args'?"),
    ],
)  # fmt: skip
def test_structure_of_a_component_is_checked_without_its_class(value: Any, message: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        convert(value, Component, "key", classes=False)
    assert str(caught.value) == message


def test_init_args_can_be_empty() -> None:
    assert convert(
        {"class_path": "gallery.stages.Rates", "init_args": None}, Component, "key", classes=False
    ) == Component("gallery.stages.Rates")


def test_nested_components_are_checked_without_their_classes() -> None:
    value = {"class_path": "gallery.unimportable.Absent", "init_args": {"parts": [{"class_path": "galery.stages.Mlp"}]}}
    with pytest.raises(
        InvalidValueError,
        match=r"^key\.init_args\.parts\.0\.class_path: galery\.stages\.Mlp is not trusted; did you mean",
    ):
        convert(value, Component, "key", classes=False)


def test_components_accept_extra_arguments_if_their_class_does() -> None:
    value = {"class_path": "gallery.shards.Extra", "init_args": {"first": 1, "other": [2]}}
    component = convert(value, Component, "key")
    assert component.init_args == {"first": 1, "second": None, "other": [2]}
    assert build(component).rest == {"other": [2]}


OPTIMIZER = Annotated[Component, Supplied("params")]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "torch.optim.AdamW",
            "key: expected a mapping, got 'torch.optim.AdamW'; write {class_path: torch.optim.AdamW}",
        ),
        ({"init_args": {}}, "key: missing required key 'class_path'"),
        ({"class_path": "torch.optim.AdamW", "args": 1}, "key.args: unknown key; did you mean 'init_args'?"),
        (
            {"class_path": "torch.optim.AdammW"},
            "key.class_path: torch.optim.AdammW is not trusted; did you mean 'torch.optim.AdamW'?",
        ),
        (
            {"class_path": "torch.optim.AdamW", "init_args": {"weight_decy": 0}},
            "key.init_args.weight_decy: unknown key of AdamW; did you mean 'weight_decay'?",
        ),
        (
            {"class_path": "torch.optim.AdamW", "init_args": {"lr": "fast"}},
            "key.init_args.lr: expected float, got 'fast'",
        ),
        (
            {"class_path": "torch.optim.AdamW", "init_args": {"betas": [0.9]}},
            "key.init_args.betas: expected a list of 2 items, got 1",
        ),
        (
            {"class_path": "torch.optim.AdamW", "init_args": {"params": []}},
            "key.init_args.params: the program supplies this argument of AdamW; remove it",
        ),
        (
            {"class_path": "gallery.stages.Mlp", "init_args": {"width": 3}},
            "key.class_path: Mlp does not accept the argument 'params', which the program supplies",
        ),
    ],
)
def test_invalid_components(value: Any, message: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        convert(value, OPTIMIZER, "key")
    assert str(caught.value) == message


STAGE = Annotated[Component, Supplied("backbone")]


def stage(**changes: Any) -> dict[str, Any]:
    mlp = {"class_path": "gallery.stages.Mlp", "init_args": {"width": 5}}
    init_args = {
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.5}},
        "decoder": mlp,
        "heads": [mlp],
    }
    return {"class_path": "gallery.stages.Stage", "init_args": init_args | changes}


def test_components_inside_components_are_checked() -> None:
    wrong = {"class_path": "gallery.stages.Mlp"}
    with pytest.raises(
        InvalidValueError, match=r"^key\.init_args\.decoder\.init_args: missing required key 'width' of Mlp$"
    ):
        convert(stage(decoder=wrong), STAGE, "key")
    with pytest.raises(InvalidValueError, match=r"^key\.init_args\.heads\.0\.init_args: missing required key 'width'"):
        convert(stage(heads=[wrong]), STAGE, "key")
    with pytest.raises(
        InvalidValueError, match=r"^key\.init_args\.optimizer\.class_path: Mlp does not accept the argument 'params'"
    ):
        convert(stage(optimizer=wrong), STAGE, "key")


def test_nested_components_are_built_unless_annotated_as_components() -> None:
    import torch

    backbone = torch.nn.Parameter(torch.zeros(2))
    built = build(convert(stage(), STAGE, "key"), backbone=backbone)
    assert type(built).__name__ == "Stage"
    assert built.backbone is backbone
    assert built.decoder.width == 5
    assert [head.width for head in built.heads] == [5]
    assert isinstance(built.optimizer, torch.optim.SGD)
    assert built.optimizer.param_groups[0]["lr"] == 0.5


def test_build_reports_rejected_values_and_failed_imports() -> None:
    with pytest.raises(ConfigError, match=r"^gallery.shards.ShardData: batch_size must be at least 1$"):
        build(Component("gallery.shards.ShardData", {"path": Path(), "batch_size": 0}))
    with pytest.raises(ConfigError, match=r"^gallery.unimportable.Unimportable: cannot be imported: gallery needs"):
        build(Component("gallery.unimportable.Unimportable", {"depth": 1}))


@pytest.mark.parametrize("value", [3, "x", None, [1, {"a": 2}]])
def test_annotations_that_yaml_cannot_represent_accept_any_value(value: Any) -> None:
    assert convert(value, Callable[[int], str], "key") == value
    assert convert(value, object, "key") == value
    assert convert({"a": [value]}, dict[str, list[bytes]], "key") == {"a": [value]}
    assert convert(value, int | bytes, "key") == value


def test_tensors_are_removed_from_unions() -> None:
    from torch import Tensor

    assert convert("2e-3", float | Tensor, "key") == 0.002
    for value in ("fast", None, [1.0]):
        with pytest.raises(InvalidValueError, match=r"^key: expected float, got "):
            convert(value, float | Tensor, "key")
