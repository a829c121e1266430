"""From a module to a package: what Core ML does not have is one line; palettes pass unchanged."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pocketdit.errors import RunError
from pocketdit.export import census, interpreter
from pocketdit.export.convert import Graph, convert
from pocketdit.export.package import Package


class Sorted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


def test_an_unsupported_operation_is_named(tmp_path: Path) -> None:
    graph = Graph(Sorted(), {"x": torch.rand(1, 4)}, ("y",))
    with pytest.raises(RunError, match=r"sorted: cannot be converted to Core ML: .*bessel_j0"):
        convert(graph, tmp_path / "sorted.mlpackage", "float32", "iOS17")


@pytest.mark.parametrize("target", ["iOS17", "iOS18"])
@pytest.mark.parametrize("bits", [4, 6])
def test_palettes_arrive_as_they_are(tmp_path: Path, target: Literal["iOS17", "iOS18"], bits: int) -> None:
    """In float16: the unpacked weight equals the palette's values, bit for bit, and takes so few bits."""
    torch.manual_seed(0)
    layer = nn.Conv2d(48, 47, 1)
    values = torch.randn(2**bits).half().sort().values
    layer.weight.data = values.float()[torch.randint(2**bits, (47, 48, 1, 1))]
    graph = Graph(nn.Sequential(layer), {"x": torch.randn(1, 48, 1, 8)}, ("y",), palettes={"0": values})
    path = tmp_path / "layer.mlpackage"
    convert(graph, path, "float16", target)
    package = Package(path)
    (unpacked,) = [interpreter.weight(package, o) for o in package.constants.values() if o.kind != "const"]
    assert np.array_equal(unpacked, layer.weight.detach().half().numpy())
    with torch.no_grad():
        error = (interpreter.run(package, graph.inputs)["y"] - layer(graph.inputs["x"])).abs().max()
    assert error < 2e-2
    (found,) = [o for o in census.take(package).operations if o.kind == "conv"]
    assert found.weight_bytes == -(-47 * 48 * bits // 8) + 2 * 2**bits + 2 * 47


class Both(nn.Module):
    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return x * (1000 * time).cos() + (x * x)


def test_the_path_of_an_exact_input_stays_in_float32(tmp_path: Path) -> None:
    graph = Graph(Both(), {"x": torch.rand(1, 4), "time": torch.rand(1)}, ("y",), exact=("time",))
    convert(graph, tmp_path / "both.mlpackage", "float16", "iOS17")
    kinds = {
        o.name: o.outputs[o.name].dtype for o in Package(tmp_path / "both.mlpackage").operations if o.kind == "mul"
    }
    assert sorted(kinds.values()) == ["FLOAT16", "FLOAT32", "FLOAT32"]  # x x; 1000 t; x cos
