"""Tests for layer sensitivity, bit allocation, mixed-precision palettes, and palette files."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from pocketdit.backbones.elastic import Downsample, ElasticLinear, Upsample
from pocketdit.errors import ConfigError, RunError
from pocketdit.quantization.allocation import Ranking, allocate_bits, average_bits
from pocketdit.quantization.mixed_precision import apply_palettes, mixed_precision_palettes
from pocketdit.quantization.palette import (
    Palette,
    load_palettes,
    palettize,
    palettized_layers,
    save_palettes,
    stored_bits,
)
from pocketdit.quantization.report import plot_sensitivity
from pocketdit.quantization.sensitivity import output_errors


class SmallNetwork(nn.Module):
    """A network with every kind of layer that is palettized, one of them sliced, and one small layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = ElasticLinear(12, 32)
        self.down, self.up = Downsample(16), Upsample(16)
        self.last = nn.Linear(16, 4, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, 4, 4, 12) to (B, 4, 4, 4)."""
        h = torch.relu(self.first(x, out_features=16)).permute(0, 3, 1, 2)
        output: torch.Tensor = self.last(self.up(torch.relu(self.down(h))).permute(0, 2, 3, 1))
        return output


@pytest.fixture
def network() -> SmallNetwork:
    torch.manual_seed(0)
    return SmallNetwork()


def test_threshold_has_the_same_meaning_as_in_coremltools(network: SmallNetwork) -> None:
    """Only layers with more weights than the threshold are palettized. ``last`` has exactly 64 weights."""
    assert list(palettized_layers(network, 64)) == ["first", "down", "up"]
    assert list(palettized_layers(network, 63)) == ["first", "down", "up", "last"]


def test_sensitivity_equals_hand_computed_values(network: SmallNetwork) -> None:
    """The inputs of a layer come from the unquantized network, so the errors of earlier layers have no effect."""
    inputs = [torch.randn(2, 4, 4, 12), torch.randn(3, 4, 4, 12)]
    palettes = {
        name: palettize(layer.get_parameter("weight"), 1) for name, layer in palettized_layers(network, 0).items()
    }
    sums = output_errors(network, palettes, [(x,) for x in inputs])
    x = torch.cat(inputs)
    h = torch.relu(x @ network.first.weight[:16].T + network.first.bias[:16])
    delta = palettes["first"].dense()[:16] - network.first.weight[:16]
    torch.testing.assert_close(sums["first"][0], (x @ delta.T).double().square().sum(), rtol=1e-5, atol=0)
    y = x @ network.first.weight[:16].T + network.first.bias[:16]
    torch.testing.assert_close(sums["first"][1], y.double().square().sum(), rtol=1e-5, atol=0)
    assert sums["first"][2] == 5 * 4 * 4 * 16
    h = h.permute(0, 3, 1, 2)
    delta = palettes["down"].dense() - network.down.weight
    error = nn.functional.conv2d(h, delta, stride=2)
    torch.testing.assert_close(sums["down"][0], error.double().square().sum(), rtol=1e-5, atol=0)
    before = network(inputs[0])
    assert not any(module._forward_hooks for module in network.modules())
    assert torch.equal(before, network(inputs[0]))


def test_weights_are_restored_after_a_failed_forward_pass(network: SmallNetwork) -> None:
    original = network.first.weight.detach().clone()
    with pytest.raises(RuntimeError):
        output_errors(network, {"first": palettize(network.first.weight, 1)}, [(torch.randn(1, 4, 4, 5, 6),)])
    assert torch.equal(network.first.weight, original)
    assert not network.first._forward_hooks


WEIGHTS = {"a": 1000, "b": 3000, "c": 2000, "d": 500}
ERRORS = {"a": 0.1, "b": 0.4, "c": 0.3, "d": 0.2}


def test_average_includes_the_palettes() -> None:
    assert stored_bits(1000, 4) == 4000 + 16 * 16
    assert stored_bits(1000, 8) == 8000 + 256 * 16
    bits = {"a": 4, "b": 8, "c": 4, "d": 4}
    assert average_bits(WEIGHTS, bits) == (4 * 3500 + 3 * 256 + 8 * 3000 + 4096) / 6500


def test_most_sensitive_layers_get_more_bits_within_the_target() -> None:
    """With 4 bits per weight, all layers take 27,024 bits. 8 bits add 7,840 (a), 15,840 (b), 11,840 (c), 5,840 (d)."""

    def layers_with_8_bits(target_bits: float) -> str:
        bits = allocate_bits(WEIGHTS, ERRORS, target_bits / 6500, 4, 8)
        assert average_bits(WEIGHTS, bits) <= target_bits / 6500
        return "".join(sorted(name for name, count in bits.items() if count == 8))

    assert layers_with_8_bits(27_024) == ""
    assert layers_with_8_bits(27_024 + 15_840) == "b"
    assert layers_with_8_bits(27_024 + 15_839) == "c"  # b no longer fits and is skipped
    assert layers_with_8_bits(27_024 + 15_840 + 5_840) == "bd"  # c does not fit in addition to b
    assert layers_with_8_bits(1e6) == "abcd"
    with pytest.raises(ConfigError, match=r"4\.158, palettes included"):
        allocate_bits(WEIGHTS, ERRORS, 27_023 / 6500, 4, 8)


def test_equal_errors_are_ordered_by_name() -> None:
    bits = allocate_bits({"y": 100, "x": 100}, {"x": 1.0, "y": 1.0}, (2 * 656 + 4240) / 200, 4, 8)
    assert bits == {"x": 8, "y": 4}


def test_mixed_precision_palettes(network: SmallNetwork, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    # The weights of the first layer have only two values, so a palette with two values is exact.
    network.first.weight.data = torch.where(network.first.weight > 0, 0.5, -0.25)
    inputs = [(torch.randn(2, 4, 4, 12),)]
    target = (stored_bits(384, 1) + stored_bits(1024, 2) + stored_bits(1024, 1)) / 2432
    palettes, report = mixed_precision_palettes(network, inputs, target, 1, 2, 64)
    errors = {layer.name: layer.error for layer in report.layers}
    assert errors["first"] == 0.0
    worse = max(("down", "up"), key=lambda name: errors[name])
    assert {name: p.bits for name, p in palettes.items()} == dict.fromkeys(palettes, 1) | {worse: 2}
    assert report.average_bits == pytest.approx(target)
    assert report.palettized_weights == 2432
    assert report.other_parameters == 32 + 16 + 16 + 64
    assert report.bytes_fp16 == 2 * (2432 + 128)
    assert report.bytes_quantized == round(target * 2432 / 8) + 2 * 128
    assert torch.equal(network.down.weight, before["down.weight"])
    apply_palettes(network, palettes)
    for name, palette in palettes.items():
        assert torch.equal(network.get_parameter(f"{name}.weight"), palette.dense())
    assert torch.equal(network.last.weight, before["last.weight"])
    figures = json.loads(report.to_json())
    assert figures["average_bits"] == report.average_bits
    assert len(figures["layers"]) == 3
    plot_sensitivity(report, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_only_the_ranking_by_mse_depends_on_the_scale_of_a_layer(network: SmallNetwork) -> None:
    inputs = [(torch.randn(2, 4, 4, 12),)]
    target = (stored_bits(384, 1) + stored_bits(1024, 2) + stored_bits(1024, 1)) / 2432
    assert network.up.bias is not None
    network.up.bias.data.zero_()

    def chosen(ranking: Ranking) -> list[str]:
        _, report = mixed_precision_palettes(network, inputs, target, 1, 2, 64, ranking=ranking)
        return [layer.name for layer in report.layers if layer.bits == 2]

    before = chosen("relative")
    network.up.weight.data *= 64.0  # a power of two, so that the relative error of rounding to fp16 does not change
    assert chosen("relative") == before
    assert chosen("mse") == ["up"]
    network.up.weight.data /= 64.0**2
    assert chosen("relative") == before
    assert "up" not in chosen("mse")


def test_measurements_are_gathered_before_the_ratio(network: SmallNetwork) -> None:
    """``gather`` is applied before the ratio is computed. In this test, it triples the sums of squared outputs."""
    inputs = [(torch.randn(2, 4, 4, 12),)]
    _, alone = mixed_precision_palettes(network, inputs, 2.5, 1, 2, 64)
    _, gathered = mixed_precision_palettes(
        network, inputs, 2.5, 1, 2, 64, gather=lambda sums: sums * torch.tensor([1.0, 3.0, 1.0])
    )
    assert [layer.error for layer in gathered.layers] == pytest.approx([layer.error / 3 for layer in alone.layers])


def test_palettes_are_saved_and_loaded(tmp_path: Path) -> None:
    palettes = {f"layer.{bits}": palettize(torch.randn(20, 30), bits) for bits in (2, 4, 8)}
    save_palettes(tmp_path / "palettes.safetensors", palettes)
    read = load_palettes(tmp_path / "palettes.safetensors")
    assert set(read) == set(palettes)
    for name, palette in palettes.items():
        assert isinstance(read[name], Palette)
        assert read[name].bits == palette.bits
        assert torch.equal(read[name].dense(), palette.dense())
    (tmp_path / "other").write_bytes(b"no")
    with pytest.raises(RunError, match="cannot read palettes from this file"):
        load_palettes(tmp_path / "other")


def test_damaged_palettes_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "palettes.safetensors"
    save_palettes(path, {"layer": palettize(torch.randn(8, 8), 2)})
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(RunError, match=r"palettes\.safetensors is damaged"):
        load_palettes(path)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(RunError, match="Git LFS pointer"):
        load_palettes(path)
