"""Palettes in a Core ML package: the same weights bit for bit, in as little as they need."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from elastic_dit.errors import RunError
from elastic_dit.quantization.coreml import compress, table
from elastic_dit.quantization.palette import Palette, palettise, stored_bits

ct = pytest.importorskip("coremltools")


class Small(nn.Module):
    """Convolutions as the mobile form has them; one is not palettised, one is below the threshold."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(64, 128, 1), nn.Conv2d(128, 64, 1), nn.Conv2d(64, 64, 1)
        self.up, self.small = nn.ConvTranspose2d(64, 64, 2, 2), nn.Conv2d(64, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.small(self.up(torch.relu(self.c(torch.relu(self.b(torch.relu(self.a(x))))))))


def quantised() -> tuple[Small, dict[str, Palette]]:
    torch.manual_seed(0)
    network = Small().eval()
    palettes = {}
    for name, bits in {"a": 4, "b": 8, "up": 2}.items():
        layer = network.get_submodule(name)
        palettes[name] = palettise(layer.weight, bits)
        layer.weight.data = palettes[name].dense()
    return network, palettes


def size(package: Path) -> int:
    return sum(file.stat().st_size for file in package.rglob("*") if file.is_file())


def dense_weights(package: Path, target: str) -> dict[str, NDArray]:
    """Every palettised weight of a saved package by its operation's name, unpacked by coremltools' own reader."""
    model = ct.models.MLModel(str(package), skip_model_load=True)
    program = ct.optimize.coreml.decompress_weights(model)
    return {name: weight.val for name, weight in ct.optimize.coreml.get_weights_metadata(program, 2048).items()}


@pytest.mark.parametrize(("target", "precision"), [("iOS17", "FLOAT16"), ("iOS18", "FLOAT32")])
def test_package_holds_the_palettes_without_loss(tmp_path: Path, target: str, precision: str) -> None:
    network, palettes = quantised()
    package = tmp_path / "small.mlpackage"
    program = torch.export.export(network, (torch.randn(1, 64, 8, 8),)).run_decompositions({})
    ct.convert(
        program, convert_to="mlprogram", minimum_deployment_target=getattr(ct.target, target), skip_model_load=True,
        compute_precision=getattr(ct.precision, precision), package_dir=str(package),
    )  # fmt: skip
    before, unpalettised = size(package), network.c.weight.detach().numpy()
    names = compress(package, 2048)
    assert len(names) == 3
    weights = dense_weights(package, target)
    assert len(weights) == 4
    for name, palette in palettes.items():
        found = next(value for key, value in weights.items() if f"_{name}_weight" in key)
        assert np.array_equal(found, palette.dense().numpy().reshape(found.shape))
    kept = next(value for key, value in weights.items() if "_c_weight" in key)
    assert np.array_equal(kept, unpalettised.astype(kept.dtype))
    # A table in fp32 takes twice its fp16 size.
    word, table_bits = (16, 1) if precision == "FLOAT16" else (32, 2)
    saved = sum(
        p.indices.numel() * word - stored_bits(p.indices.numel(), p.bits) - (table_bits - 1) * 16 * 2**p.bits
        for p in palettes.values()
    )
    assert before - size(package) == pytest.approx(saved / 8, abs=6000)  # the program's text grows


def test_tables_are_of_sizes_that_core_ml_has() -> None:
    for count, length in [(2, 2), (3, 4), (5, 16), (16, 16), (17, 64), (200, 256)]:
        weight = np.random.default_rng(0).permutation(np.repeat(np.arange(count), 3)).reshape(3, -1) / 7
        values, indices = table(weight.astype(np.float16))
        assert len(values) == length and indices.dtype == np.uint8
        assert np.array_equal(values[indices].reshape(weight.shape), weight.astype(np.float16))


def test_what_is_no_package_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is no Core ML package"):
        compress(tmp_path / "nothing.mlpackage", 2048)
