"""Tests that the mobile form computes the same function as the training form for all kinds of networks."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.per_width import standalone_network
from pocketdit.backbones.spec import AdaptiveSparseAttention, DiTSpec, FullAttention, Level
from pocketdit.encoders.contract import TextTokens
from pocketdit.mobile.attention import Blockwise
from pocketdit.mobile.dit import MobileDiT, MobileTextProjection, build_mobile

ASSA = AdaptiveSparseAttention("assa", kv_heads=2, blocks=4)
THREE = DiTSpec(
    latent_channels=4, width=32, head_dim=8, text_inputs=(6, 10), text_width=12, text_kv_heads=2,
    levels=(Level(1, ASSA), Level(2, FullAttention("full", 2), 3.0, 2, long_skips=True), Level(1, ASSA)),
    widths=(0.5, 1.0),
)  # fmt: skip
ONE = replace(THREE, levels=(Level(2, FullAttention("full", 4)),), widths=(1.0,), text_kv_heads=4)
MULTI_QUERY = replace(ONE, levels=(Level(3, FullAttention("full", 1), 3.0, long_skips=True),), text_kv_heads=1)
WIDE_BLOCKS = replace(ONE, levels=(Level(1, AdaptiveSparseAttention("assa", 4, blocks=6, radius=2)),))
LOCAL = replace(ONE, levels=(Level(1, AdaptiveSparseAttention("assa", 4, blocks=6, radius=1, compression=False)),))
INTERLEAVED = replace(THREE, width=48, query_groups="interleaved", widths=(1.0,))
PRECONDITIONED = replace(THREE, latent_std=(0.3, 1.0, 2.5, 0.1))


def network(spec: DiTSpec, width: float = 1.0) -> ElasticDiT:
    """Create a standalone network of the given width with random nonzero weights."""
    torch.manual_seed(0)
    supernet = ElasticDiT(spec)
    for parameter in supernet.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return standalone_network(supernet, width).requires_grad_(False).eval()


def inputs(spec: DiTSpec, size: tuple[int, int]) -> tuple[Tensor, Tensor, list[TextTokens]]:
    text = [TextTokens(torch.randn(2, 5 + i, w), torch.rand(2, 5 + i) > 0.4) for i, w in enumerate(spec.text_inputs)]
    text[0].mask[1] = False  # the second prompt has no tokens from the first encoder
    return torch.randn(2, spec.latent_channels, *size), torch.tensor([0.9, 0.2]), text


def relative_error(
    mobile: MobileDiT, projection: MobileTextProjection, network: ElasticDiT, size: tuple[int, int]
) -> float:
    x, time, text = inputs(network.spec, size)
    reference = network(x, time, text)
    tokens = projection([t.embeddings for t in text], [t.mask.float() for t in text])
    return float((mobile(x, time, *tokens) - reference).abs().max() / reference.abs().max())


@pytest.mark.parametrize("blockwise", ["loop", "batched"])
@pytest.mark.parametrize("chunk", [0, 12])
@pytest.mark.parametrize(
    ("spec", "width"),
    [
        (THREE, 0.5),
        (THREE, 1.0),
        (ONE, 1.0),
        (MULTI_QUERY, 1.0),
        (WIDE_BLOCKS, 1.0),
        (LOCAL, 1.0),
        (PRECONDITIONED, 0.5),
        (INTERLEAVED, 1.0),
    ],
    ids=["three-half", "three", "one", "multi-query", "radius-2", "local", "preconditioned", "interleaved"],
)
def test_mobile_form_equals_training_form(spec: DiTSpec, width: float, blockwise: Blockwise, chunk: int) -> None:
    trained = network(spec, width)
    mobile, projection = build_mobile(trained, (8, 24), blockwise, chunk)
    assert relative_error(mobile, projection, trained, (8, 24)) < 1e-5


def test_blocks_of_different_sizes_need_a_loop() -> None:
    trained = network(replace(THREE, levels=tuple(replace(level, attention=replace(ASSA, blocks=5)) if level.scale == 1
                                               else level for level in THREE.levels)))  # fmt: skip
    mobile, projection = build_mobile(trained, (8, 12), "loop")  # 24 tokens do not divide into 5 equal blocks
    assert relative_error(mobile, projection, trained, (8, 12)) < 1e-5
    with pytest.raises(ValueError, match="24 tokens cannot be divided into 5 equal blocks"):
        build_mobile(trained, (8, 12), "batched")


def test_unsupported_sizes_and_supernets_are_rejected() -> None:
    with pytest.raises(ValueError, match="10x12 must be multiples of 4"):
        build_mobile(network(THREE), (10, 12))
    with pytest.raises(ValueError, match="the mobile form supports only a single width"):
        MobileDiT(THREE, (8, 8))
