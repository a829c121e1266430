"""Tests SnapGen's U-Net, which has the same interface as the transformers, and its mobile form."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from pocketdit.backbones.spec import UNetSpec
from pocketdit.backbones.unet import UNet
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.encoders.contract import TextTokens
from pocketdit.errors import ConfigError
from pocketdit.latency.traced_census import trace_census
from pocketdit.mobile.build import build_mobile_form
from tests.conftest import PRETRAIN, ROOT

SPEC = UNetSpec("unet", 4, (8, 6), 32, (32, 64), (1, 2), head_dim=16, latent_std=(0.3, 1.0, 2.5, 0.1))


def build(spec: UNetSpec = SPEC) -> UNet:
    """Return a network with random weights, because zero-initialized weights would hide errors."""
    torch.manual_seed(0)
    network = UNet(spec)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network


def inputs() -> tuple[Tensor, Tensor, list[TextTokens]]:
    generator = torch.Generator().manual_seed(1)
    text = [
        TextTokens(torch.randn(2, 5, size, generator=generator), torch.rand(2, 5, generator=generator) > 0.4)
        for size in SPEC.text_inputs
    ]
    text[0].mask[1] = False
    return torch.randn(2, 4, 8, 12, generator=generator), torch.tensor([0.9, 0.2]), text


def test_masked_text_tokens_have_no_influence_and_visible_ones_do() -> None:
    network, (x, time, text) = build(), inputs()
    expected = network(x, time, text)
    hidden = [TextTokens(torch.where(part.mask[..., None], part.embeddings, 7.0), part.mask) for part in text]
    torch.testing.assert_close(network(x, time, hidden), expected)
    visible = [TextTokens(torch.where(part.mask[..., None], 7.0, part.embeddings), part.mask) for part in text]
    assert not torch.allclose(network(x, time, visible), expected, atol=1e-3)


def test_new_network_predicts_the_best_linear_estimate() -> None:
    """For x_t = (1 - t) x_0 + t e, the best linear estimate is x_t (t - (1 - t) s^2) / ((1 - t)^2 s^2 + t^2)."""
    x, time, text = inputs()
    t, s = time[:, None, None, None], torch.tensor(SPEC.latent_std)[:, None, None]
    estimate = x * (t - (1 - t) * s**2) / ((1 - t) ** 2 * s**2 + t**2)
    torch.testing.assert_close(UNet(SPEC)(x, time, text), estimate)
    plain = UNet(replace(SPEC, latent_std=()))
    torch.testing.assert_close(plain(x, time, text), torch.zeros_like(x))


def test_gradient_checkpointing_does_not_change_gradients() -> None:
    network = build()
    gradients = []
    for on in (False, True):
        network.use_gradient_checkpointing(on)
        network.zero_grad()
        network.train()(*inputs()).square().mean().backward()
        gradients.append({name: value.grad for name, value in network.named_parameters()})
    assert all(gradient is not None for gradient in gradients[0].values())
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("chunk", [0, 10])
@pytest.mark.parametrize("keep_residual", [False, True])
def test_mobile_form_equals_training_form(keep_residual: bool, chunk: int) -> None:
    network = build(replace(SPEC, keep_residual=keep_residual)).requires_grad_(False).eval()
    x, time, text = inputs()
    mobile, projection = build_mobile_form(network, (8, 12), query_chunk=chunk)
    tokens = projection([part.embeddings for part in text], [part.mask.float() for part in text])
    expected = network(x, time, text)
    assert float((mobile(x, time, *tokens) - expected).abs().max() / expected.abs().max()) < 1e-5


def test_layers_without_self_attention_replace_the_residual_stream_unless_it_is_kept() -> None:
    replaced, kept = build(), build(replace(SPEC, keep_residual=True))
    kept.load_state_dict(replaced.state_dict(), strict=False)
    assert not torch.allclose(replaced(*inputs()), kept(*inputs()), atol=1e-3)
    with_self_attention = [dict(block.named_children()).get("attn1") is not None for block in replaced.blocks()]
    # Self-attention exists only at half resolution and in the middle.
    assert with_self_attention == [False] * 2 + [True] * 12


def test_traced_census_counts_the_arithmetic_of_the_training_form() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    census = trace_census(SPEC, 1.0, (16, 16), 7)
    with torch.device("meta"):
        network, text = UNet(SPEC), [TextTokens(torch.empty(1, 3, size), torch.ones(1, 3) > 0) for size in (8, 6)]
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 4, 16, 16), torch.empty(1), text)
    projection = 2 * 3 * 32 * (8 + 6)  # the text projection is not part of this census
    flops = sum(o.flops for o in census.operations if o.kind in ("conv", "einsum"))
    assert flops == counter.get_total_flops() - projection


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": (32, 50)}, "channels must be multiples of 32 and of head_dim 16, but 50 is not"),
        ({"transformer_layers": (1,)}, "transformer_layers must contain as many numbers as channels"),
        ({"latent_std": (1.0,)}, "latent_std must be 4 positive numbers"),
    ],
)
def test_invalid_specifications_are_rejected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SPEC, **change)


def test_unsupported_sizes_and_widths_are_rejected() -> None:
    network, (x, time, text) = build(), inputs()
    with pytest.raises(ValueError, match="latent sides 8x11 must be multiples of 2"):
        network(x[..., :11], time, text)
    with pytest.raises(ValueError, match=r"no width 0\.5"):
        network(x, time, text, width=0.5)


U_NET = "backbone={kind: unet, latent_channels: 16, text_inputs: [128, 192], text_width: 64, channels: [32, 64], transformer_layers: [1, 1], head_dim: 16}"  # noqa: E501
ADAMW = "optimizer={class_path: torch.optim.AdamW}"


def test_kind_selects_the_network() -> None:
    assert isinstance(load(PRETRAIN, [U_NET, ADAMW], Experiment).config.backbone, UNetSpec)
    with pytest.raises(ConfigError, match="did you mean 'unet'"):
        load(PRETRAIN, ["backbone.kind=unte"], Experiment)
    with pytest.raises(ConfigError, match="unknown key"):
        load(PRETRAIN, [U_NET, "backbone.levels=[]"], Experiment)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("knowledge_distill", "backbone.kind: a U-Net is not supported here"),
        ("step_distill", "backbone.kind: a U-Net is not supported here"),
        ("quantize_finetune", "backbone.kind: a U-Net is not supported here"),
        ("finetune_lora", "backbone.kind: a U-Net is not supported here"),
    ],
)
def test_stages_for_transformers_refuse_a_u_net(file: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(ROOT / "experiments" / f"{file}.yaml", [U_NET, ADAMW], Experiment)


def test_an_optimizer_without_matrices_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.class_path: MuonAdamW does not support a U-Net"):
        load(PRETRAIN, [U_NET], Experiment)


def test_sharding_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"training\.strategy: fsdp2 does not support a U-Net"):
        load(PRETRAIN, [U_NET, "training.strategy=fsdp2", ADAMW], Experiment)
