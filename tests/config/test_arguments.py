import inspect
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import pytest

from pocketdit.config.component import Component, Supplied, arguments, build
from pocketdit.config.importing import import_class, require_module
from pocketdit.errors import ConfigError


def parameters(class_path: str) -> dict[str, inspect.Parameter]:
    return arguments(import_class(class_path))[0]


def annotations(class_path: str) -> dict[str, Any]:
    return {name: parameter.annotation for name, parameter in parameters(class_path).items()}


def test_annotations_are_those_of_the_class() -> None:
    assert annotations("gallery.shards.ShardData") == {
        "path": Annotated[Path, "exists"],
        "batch_size": int,
        "order": Literal["shuffled", "sorted"],
        "sizes": Sequence[tuple[int, int]],
        "weights": Mapping[str, float] | None,
        "limit": int,
    }


def test_components_protocols_and_aliases_of_other_modules() -> None:
    assert annotations("gallery.stages.Stage") == {
        "backbone": object,
        "optimizer": Annotated[Component, Supplied("params")],
        "decoder": import_class("gallery.stages.Decoder"),
        "heads": list[import_class("gallery.stages.Mlp")] | None,  # type: ignore[misc]
        "rate": float | Literal["shuffled", "sorted"],
    }


def test_class_without_init_has_the_arguments_of_its_base() -> None:
    expected = parameters("gallery.shards.ShardData")
    assert parameters("gallery.shards.Subset") == expected
    assert parameters("gallery.stages.Evaluated") == expected  # inherited from a class in another module


def test_fields_of_a_dataclass_are_arguments() -> None:
    schedule = parameters("gallery.stages.Schedule")
    assert annotations("gallery.stages.Schedule") == {"low": float, "high": float, "steps": int, "marks": list[int]}
    assert [name for name, parameter in schedule.items() if parameter.default is parameter.empty] == ["low"]
    assert schedule["steps"].default == 4


def test_extra_arguments_and_missing_annotations() -> None:
    named, open_ended = arguments(import_class("gallery.shards.Extra"))
    assert open_ended
    assert not arguments(import_class("gallery.shards.ShardData"))[1]
    assert list(named) == ["first", "second"]
    assert annotations("gallery.shards.Extra")["first"] is Any


def test_annotations_can_be_strings_and_use_names_that_only_type_checkers_import() -> None:
    assert annotations("gallery.checking.Typed") == {"part": Component, "depth": int}
    assert annotations("gallery.checking.Untyped") == {"absent": Any, "depth": Any}
    part = Component("gallery.stages.Mlp", {"width": 1})
    assert build(Component("gallery.checking.Typed", {"part": part})).part is part


def test_a_class_without_a_signature_has_no_arguments() -> None:
    assert arguments(import_class("pocketdit.errors.ConfigError")) == ({}, False)


def test_reexports_are_followed() -> None:
    assert import_class("gallery.ShardData") is import_class("gallery.shards.ShardData")


def test_torch_arguments() -> None:
    import torch

    for name in ("AdamW", "Muon", "SGD"):
        expected = inspect.signature(getattr(torch.optim, name)).parameters
        actual = parameters(f"torch.optim.{name}")
        assert list(actual) == list(expected)
        assert all(actual[name].default == expected[name].default for name in expected)
    number = float | torch.Tensor
    assert annotations("torch.optim.AdamW")["lr"] == number
    assert annotations("torch.optim.AdamW")["betas"] == tuple[number, number]
    assert annotations("torch.optim.Muon")["adjust_lr_fn"] == Optional[str]  # noqa: UP045


def test_modules_are_checked_without_importing_their_packages() -> None:
    program = """
import sys
from pocketdit.config.importing import require_module
for name in ("torch.optim.AdamW", "torchvision.transforms.Resize"):
    require_module(name)
assert not {"torch", "lightning", "torchvision", "numpy"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


MODULES = [
    ("torch.optin.AdamW", "torch.optin.AdamW is not trusted; did you mean 'torch.optim.AdamW'?"),
    ("torch.optim.adamw", "torch.optim.adamw is not trusted; did you mean 'torch.optim.AdamW'?"),
    (
        "galery.shards.ShardData",
        "galery.shards.ShardData is not trusted; did you mean 'gallery.shards.ShardData'? Otherwise, "
        'to allow YAML files to run its code, add "galery" to modules under [trust] in pocketdit.toml',
    ),
    ("gallery.shard.ShardData", "no module 'gallery.shard'; did you mean 'gallery.shards.ShardData'?"),
    (
        "gallery.shards.ShardData.x",
        "gallery.shards is a module, not a package, so it does not contain a module 'ShardData'",
    ),
    ("ShardData", "'ShardData' is not of the form 'package.module.Class'"),
    ("gallery/shards.py", "'gallery/shards.py' is not of the form 'package.module.Class'"),
]
CLASSES = [
    ("gallery.shards.SharData", "gallery.shards has no class 'SharData'; did you mean 'ShardData'?"),
    ("gallery.shards.Order", "gallery.shards has no class 'Order'"),
]


@pytest.mark.parametrize(("class_path", "message"), MODULES)
def test_nearest_module_is_suggested(class_path: str, message: str) -> None:
    for check in (require_module, import_class):
        with pytest.raises(ConfigError) as caught:
            check(class_path)
        assert str(caught.value) == message


@pytest.mark.parametrize(("class_path", "message"), CLASSES)
def test_nearest_class_is_suggested(class_path: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        import_class(class_path)
    assert str(caught.value) == message


def test_syntax_errors_include_file_and_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "unreadable.py").write_text("x = 1\nclass Net\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"unreadable\.py:2: "):
        import_class("unreadable.Net")
