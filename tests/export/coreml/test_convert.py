"""Tests for converting a module to a package: unsupported operations are errors, and palettes are stored exactly."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pocketdit.errors import RunError
from pocketdit.export.common.graph import Graph
from pocketdit.export.coreml import interpreter
from pocketdit.export.coreml.census import take_census
from pocketdit.export.coreml.convert import convert
from pocketdit.export.coreml.package import Package
from pocketdit.quantization.palette import Palette


class Bessel(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.special.bessel_j0(x)
        return y


def test_unsupported_operations_are_named(tmp_path: Path) -> None:
    graph = Graph(Bessel(), {"x": torch.rand(1, 4)}, ("y",))
    with pytest.raises(RunError, match=r"bessel: cannot be converted to Core ML: .*bessel_j0"):
        convert(graph, tmp_path / "bessel.mlpackage", "float32", "iOS17")


@pytest.mark.parametrize("target", ["iOS17", "iOS18"])
@pytest.mark.parametrize("bits", [4, 6])
def test_palettes_are_stored_exactly(tmp_path: Path, target: Literal["iOS17", "iOS18"], bits: int) -> None:
    """In float16, the expanded weight is bit-identical to the original, and only the palette and indices are stored."""
    torch.manual_seed(0)
    layer = nn.Conv2d(48, 47, 1)
    values, indices = torch.randn(2**bits).half().sort().values, torch.randint(2**bits, (47, 48, 1, 1))
    palette = Palette(values, indices.to(torch.uint8))
    layer.weight.data = palette.dense()
    graph = Graph(nn.Sequential(layer), {"x": torch.randn(1, 48, 1, 8)}, ("y",), palettes={"0": palette})
    path = tmp_path / "layer.mlpackage"
    convert(graph, path, "float16", target)
    package = Package(path)
    (expanded,) = [interpreter.read_weight(package, o) for o in package.constants.values() if o.kind != "const"]
    assert np.array_equal(expanded, layer.weight.detach().half().numpy())
    with torch.no_grad():
        error = (interpreter.run(package, graph.inputs)["y"] - layer(graph.inputs["x"])).abs().max()
    assert error < 2e-2
    (conv,) = [o for o in take_census(package).operations if o.kind == "conv"]
    assert conv.weight_bytes == -(-47 * 48 * bits // 8) + 2 * 2**bits + 2 * 47


class TimeAndProduct(nn.Module):
    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return x * (1000 * time).cos() + (x * x)


def test_operations_on_exact_inputs_stay_in_float32(tmp_path: Path) -> None:
    graph = Graph(TimeAndProduct(), {"x": torch.rand(1, 4), "time": torch.rand(1)}, ("y",), exact=("time",))
    convert(graph, tmp_path / "product.mlpackage", "float16", "iOS17")
    dtypes = {
        o.name: o.outputs[o.name].dtype for o in Package(tmp_path / "product.mlpackage").operations if o.kind == "mul"
    }
    assert sorted(dtypes.values()) == ["FLOAT16", "FLOAT32", "FLOAT32"]  # in order: x * x, 1000 * time, x * cos
