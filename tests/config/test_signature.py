import inspect
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from pocketdit.config.component import Component, Given
from pocketdit.config.signature import UNKNOWN, Parameter, signature


def annotations(class_path: str) -> dict[str, Any]:
    return {name: parameter.annotation for name, parameter in signature(class_path).parameters.items()}


def test_annotations_become_typing_objects() -> None:
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
        "backbone": Any,
        "optimizer": Annotated[Component, Given("params")],
        "decoder": Any,
        "heads": list[Any] | None,
        "rate": float | Literal["shuffled", "sorted"],
    }


def test_defaults_are_literals_or_unknown() -> None:
    parameters = signature("gallery.shards.ShardData").parameters
    assert parameters["path"].required
    assert parameters["order"].default == "shuffled"
    assert not parameters["limit"].required and parameters["limit"].default is UNKNOWN


def test_class_without_init_takes_what_its_base_takes() -> None:
    expected = signature("gallery.shards.ShardData")
    assert signature("gallery.shards.Subset") == expected
    assert signature("gallery.stages.Evaluated") == expected  # base in another module, two steps up


def test_fields_of_a_dataclass_are_parameters() -> None:
    assert list(signature("gallery.stages.Schedule").parameters.values()) == [
        Parameter("low", float, required=True),
        Parameter("high", float, required=False, default=1.0),
        Parameter("steps", int, required=False, default=4),
        Parameter("marks", list[int], required=False),
    ]


def test_extra_arguments_and_missing_annotations() -> None:
    extra = signature("gallery.shards.Extra")
    assert extra.accepts_extra and not signature("gallery.shards.ShardData").accepts_extra
    assert extra.parameters["first"] == Parameter("first", Any, required=True)


def test_reexports_are_followed() -> None:
    assert signature("gallery.ShardData") == signature("gallery.shards.ShardData")
    assert "depth" in signature("gallery.everything.Unimportable").parameters  # star import


def test_torch_signatures_equal_the_imported_ones() -> None:
    import torch

    for name in ("AdamW", "Muon", "SGD"):
        real = inspect.signature(getattr(torch.optim, name)).parameters
        found = signature(f"torch.optim.{name}").parameters
        assert list(found) == list(real)
        for parameter in found.values():
            assert parameter.required == (real[parameter.name].default is inspect.Parameter.empty)
            assert parameter.default is UNKNOWN or parameter.default == real[parameter.name].default
    assert annotations("torch.optim.AdamW")["lr"] is float  # float | Tensor, of which YAML holds the float
    assert annotations("torch.optim.AdamW")["betas"] == tuple[float, float]
    assert annotations("torch.optim.Muon")["adjust_lr_fn"] == str | None
    assert {"in_features", "bias"} <= set(signature("torch.nn.Linear").parameters)


def test_nothing_is_imported() -> None:
    program = """
import sys
from pocketdit.config.load import load
from pocketdit.config.signature import signature
for name in ("torch.optim.AdamW", "torch.nn.Linear", "torchvision.transforms.Resize"):
    assert signature(name).parameters
assert not {"torch", "lightning", "torchvision", "numpy"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize(
    ("class_path", "message"),
    [
        ("gallery.shards.SharData", "gallery.shards has no class 'SharData'; did you mean 'ShardData'?"),
        ("torch.optim.adamw", "torch.optim has no class 'adamw'; did you mean 'AdamW'?"),
        ("torch.optin.AdamW", "no module 'torch.optin'; did you mean 'torch.optim.AdamW'?"),
        ("galery.shards.ShardData", "no module 'galery'; did you mean 'gallery.shards.ShardData'?"),
        ("gallery.shard.ShardData", "no module 'gallery.shard'; did you mean 'gallery.shards.ShardData'?"),
        ("gallery.shards.ShardData.x", "gallery.shards is a module, not a package: it has no 'ShardData'"),
        ("gallery.shards.Order", "gallery.shards has no class 'Order'"),
        ("ShardData", "'ShardData' is not of the form 'package.module.Class'"),
        ("gallery/shards.py", "'gallery/shards.py' is not of the form 'package.module.Class'"),
    ],
)
def test_wrong_class_path_names_the_nearest(class_path: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        signature(class_path)
    assert str(caught.value) == message


def test_syntax_error_tells_file_and_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "unreadable.py").write_text("x = 1\nclass Net\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"unreadable\.py:2: "):
        signature("unreadable.Net")
