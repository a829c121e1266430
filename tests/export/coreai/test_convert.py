"""Tests the conversion of a module to a Core AI package: types, palettes, the census, and errors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("coreai_torch", reason="Core AI is optional: pip install 'pocketdit[coreai]'")

from pocketdit.errors import RunError
from pocketdit.export.common.comparison import compare
from pocketdit.export.common.graph import Graph
from pocketdit.export.coreai.census import take_census
from pocketdit.export.coreai.convert import convert
from pocketdit.export.coreai.package import Package
from pocketdit.export.coreai.runtime import CoreAIModel
from pocketdit.quantization.palette import Palette


class SingularValues(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.linalg.svdvals(x)
        return y


def test_unsupported_operations_are_named(tmp_path: Path) -> None:
    graph = Graph(SingularValues(), {"x": torch.rand(1, 4, 4)}, ("y",))
    with pytest.raises(RunError, match=r"svd: cannot be converted to Core AI: .*svd"):
        convert(graph, tmp_path / "svd.aimodel", "float32")


@pytest.mark.parametrize("bits", [4, 8])
def test_palettes_are_stored_exactly(tmp_path: Path, bits: int) -> None:
    """In float16, the expanded weight is bit-identical to the original, and only the palette and indices are stored."""
    torch.manual_seed(0)
    layer = nn.Conv2d(48, 47, 1)
    values, indices = torch.randn(2**bits).half().sort().values, torch.randint(2**bits, (47, 48, 1, 1))
    palette = Palette(values, indices.to(torch.uint8))
    layer.weight.data = palette.dense()
    layer.requires_grad_(False)
    graph = Graph(nn.Sequential(layer), {"x": torch.randn(1, 48, 1, 8)}, ("y",), palettes={"0": palette})
    convert(graph, tmp_path / "layer.aimodel", "float16")
    package = Package(tmp_path / "layer.aimodel")
    (expanded,) = [package.read(o) for o in package.constants.values() if o.kind == "lut_to_dense"]
    assert np.array_equal(expanded, layer.weight.half().numpy())
    with CoreAIModel(package.path) as model:
        assert compare("y", model(graph.inputs)["y"], layer(graph.inputs["x"])).snr > 50
    (conv,) = [o for o in take_census(package).operations if o.kind == "conv"]
    assert conv.weight_bytes == -(-47 * 48 * bits // 8) + 2 * 2**bits
    assert type(layer) is nn.Conv2d  # the conversion has restored the module


class TimeAndProduct(nn.Module):
    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return x * (1000 * time).cos() + (x * x)


def test_operations_on_exact_inputs_stay_in_float32(tmp_path: Path) -> None:
    inputs = {"x": torch.rand(1, 4), "time": torch.rand(1)}
    convert(Graph(TimeAndProduct(), inputs, ("y",), exact=("time",)), tmp_path / "p.aimodel", "float16")
    package = Package(tmp_path / "p.aimodel")
    products = sorted(o.outputs[0].element for o in package.operations if o.kind == "mul")
    assert products == ["f16", "f32", "f32"]  # x * x is f16; 1000 * time and x * cos are f32
    with CoreAIModel(package.path) as model:
        assert compare("y", model(inputs)["y"], TimeAndProduct()(**inputs)).snr > 65


class Composite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(8, 16)

    def forward(self, x: Tensor) -> Tensor:
        y = self.map(x)
        return nn.functional.scaled_dot_product_attention(y, y, y)


def test_census_of_a_small_graph(tmp_path: Path) -> None:
    """A composite counts as one operation with the FLOPs of its body, and a transposed weight is counted once."""
    graph = Graph(Composite().requires_grad_(False), {"x": torch.rand(1, 2, 5, 8)}, ("y",))
    convert(graph, tmp_path / "c.aimodel", "float32")
    census = take_census(Package(tmp_path / "c.aimodel"))
    costs = {o.kind: o for o in census.operations}
    product, attention = costs["matmul"], costs["scaled_dot_product_attention"]
    assert product.flops == 2 * (2 * 5 * 16) * 8
    assert product.weight_bytes == 4 * 8 * 16
    assert product.weight_bits == 32
    assert attention.output_bytes == 4 * 2 * 5 * 16
    assert attention.flops == 2 * 2 * (2 * 5 * 5 * 16) + 4 * (2 * 5 * 5) + 2 * 5 * 16  # matmul, softmax, scaling
    assert census.stored_bytes == 4 * (8 * 16 + 16)


def test_wrong_inputs_and_other_folders_are_errors(tmp_path: Path) -> None:
    convert(Graph(nn.ReLU(), {"x": torch.rand(1, 4)}, ("y",)), tmp_path / "r.aimodel", "float32")
    with CoreAIModel(tmp_path / "r.aimodel") as model, pytest.raises(RunError, match="expects inputs with the shapes"):
        model({"z": torch.rand(1, 4)})
    with pytest.raises(RunError, match=r"main\.mlirb is missing"):
        Package(tmp_path / "nothing.aimodel")
    with pytest.raises(RunError, match=r"main\.mlirb is missing"):
        CoreAIModel(tmp_path / "nothing.aimodel")
