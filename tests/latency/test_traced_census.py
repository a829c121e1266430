"""Tests that the traced census agrees with PyTorch's FLOP counter and with the census of an exported graph."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pocketdit.backbones.spec import AdaptiveSparseAttention, DiTSpec, FullAttention, Level
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.latency.ladder import load_census
from pocketdit.latency.traced_census import trace_census
from pocketdit.mobile.attention import Blockwise
from pocketdit.mobile.dit import MobileDiT
from tests.conftest import ROOT

SPEC = DiTSpec(
    latent_channels=4, width=128, widths=(0.5, 1.0), head_dim=32, text_inputs=(16,), text_width=64, text_kv_heads=1,
    levels=(
        Level(1, AdaptiveSparseAttention("assa", 2, blocks=4)),
        Level(2, FullAttention("full", 2), scale=2, long_skips=True),
        Level(1, AdaptiveSparseAttention("assa", 2, blocks=4)),
    ),
)  # fmt: skip


@pytest.mark.parametrize("blockwise", ["batched", "loop"])
def test_flops_equal_pytorchs_count(blockwise: Blockwise) -> None:
    census = trace_census(SPEC, 1.0, (16, 16), 7, blockwise=blockwise, query_chunk=16)
    network = MobileDiT(DiTSpec(**{**vars(SPEC), "widths": (1.0,)}), (16, 16), blockwise, 16).to("meta")
    inputs = [torch.empty(shape, device="meta") for shape in ((1, 4, 16, 16), (1,), (1, 64, 1, 7), (1, 7, 1, 1))]
    with FlopCounterMode(display=False) as counter:
        network(*inputs)
    flops = sum(o.flops for o in census.operations if o.kind in ("conv", "conv_transpose", "einsum"))
    assert flops == counter.get_total_flops()


def test_weights_are_counted_as_fp16() -> None:
    census = trace_census(SPEC, 0.5, (16, 16), 7)
    with torch.device("meta"):
        network = MobileDiT(DiTSpec(**{**vars(SPEC), "width": 64, "widths": (1.0,)}), (16, 16))
    convolutions = sum(o.weight_bytes for o in census.operations if o.kind in ("conv", "conv_transpose"))
    layers = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)]
    assert convolutions == sum(2 * p.numel() for layer in layers for p in layer.parameters())
    assert census.stored_bytes == 2 * sum(p.numel() for p in (*network.parameters(), *network.buffers()))


def test_narrower_networks_cost_less() -> None:
    small, large = (trace_census(SPEC, width, (16, 16), 7) for width in (0.5, 1.0))
    assert small.flops < large.flops
    assert small.weight_bytes < large.weight_bytes


@pytest.mark.slow
def test_traced_census_agrees_with_exported_ladder() -> None:
    spec = load(ROOT / "experiments" / "paper" / "ladder_d.yaml", [], Experiment).config.backbone
    traced = trace_census(spec, 1.0, (128, 128), 78, blockwise="batched", query_chunk=1024)
    exported = load_census("d")
    assert traced.flops == pytest.approx(exported.flops, rel=1e-3)
    assert traced.weight_bytes == pytest.approx(exported.weight_bytes, rel=1e-3)
    assert traced.activation_bytes == pytest.approx(exported.activation_bytes, rel=0.02)
    assert traced.count == pytest.approx(exported.count, rel=0.02)
