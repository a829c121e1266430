"""Tests that weights outside the range of float16 are refused, and that the message suggests another precision."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pocketdit.artifacts.weights import save_weights
from pocketdit.commands.main import main
from pocketdit.errors import ConfigError
from pocketdit.export.common.float16 import require_float16_range
from tests.export.conftest import COREML, tiny_run


def test_the_largest_float16_is_accepted() -> None:
    require_float16_range({"a": torch.tensor([65504.0, -65504.0]), "b": torch.tensor([10**6]), "c": torch.ones(0)}, "r")


@pytest.mark.parametrize("value", [65536.0, -1e6, float("inf"), float("nan")])
def test_larger_weights_are_refused(value: float) -> None:
    with pytest.raises(ConfigError, match=r"^precision=float16: b of r contains .* use precision=float32$"):
        require_float16_range({"a": torch.ones(2), "b": torch.tensor([1.0, value])}, "r")


def test_the_export_names_the_weight_and_the_other_precision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("coremltools")
    folder = tiny_run(tmp_path / "runs", "large")
    weights = load_file(folder.weights)
    name = next(name for name, value in weights.items() if name.endswith("ffn.up.weight") or value.ndim == 2)
    weights[name][0, 0] = 1e5
    save_weights(folder.weights, weights)
    arguments = [f"runs={tmp_path / 'runs'}", f"out={tmp_path / 'out'}", "run=elastic_pretrain/large", "width=1.0"]
    assert main(["export", str(COREML), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{name} of elastic_pretrain/large contains 1e+05" in line
    assert line.endswith("use precision=float32")
    assert not (tmp_path / "out").exists()
