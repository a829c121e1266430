"""Tests for the elastic network: slicing, initialization, gradients, shapes, checkpointing, and compilation."""

from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from pocketdit.backbones import elastic
from pocketdit.backbones.attention import AdaptiveSparseSelfAttention, build_self_attention
from pocketdit.backbones.dit import ElasticDiT, extract_subnetwork, precondition
from pocketdit.backbones.forms import first_form
from pocketdit.backbones.position import apply_rope, axial_rope, positional_embedding
from pocketdit.backbones.spec import AdaptiveSparseAttention, DiTSpec, FullAttention, Level
from pocketdit.encoders.contract import TextTokens

SPARSE = AdaptiveSparseAttention("assa", kv_heads=2, blocks=4, radius=1)
FULL_ATTENTION = FullAttention("full", kv_heads=2)
THREE_STAGES = (
    Level(2, SPARSE, 4.0),
    Level(3, FULL_ATTENTION, 3.0, scale=2, long_skips=True),
    Level(2, SPARSE, 4.0),
)
SPEC = DiTSpec(4, 64, 8, (12, 20), 24, 2, THREE_STAGES, widths=(0.25, 0.5, 1.0))


def network(spec: DiTSpec = SPEC) -> ElasticDiT:
    """Return a network with random weights, because zero-initialized weights would hide errors."""
    torch.manual_seed(0)
    net = ElasticDiT(spec)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return net


def inputs(height: int = 8, width: int = 12) -> tuple[Tensor, Tensor, list[TextTokens]]:
    generator = torch.Generator().manual_seed(1)
    text = [
        TextTokens(torch.randn(3, 5, size, generator=generator), torch.rand(3, 5, generator=generator) > 0.4)
        for size in SPEC.text_inputs
    ]
    return torch.randn(3, 4, height, width, generator=generator), torch.rand(3, generator=generator), text


@pytest.mark.parametrize("width", SPEC.widths)
@pytest.mark.parametrize("groups", ["adjacent", "interleaved"])
def test_extracted_subnetwork_has_the_same_output(width: float, groups: Literal["adjacent", "interleaved"]) -> None:
    net, arguments = network(replace(SPEC, query_groups=groups)), inputs()
    torch.testing.assert_close(
        net(*arguments, width=width), extract_subnetwork(net, width)(*arguments), atol=1e-6, rtol=0
    )


def test_extraction_copies_the_weights() -> None:
    net = network()
    small = extract_subnetwork(net, 0.25)
    before = net.embed.weight.clone()
    with torch.no_grad():
        small.embed.weight.zero_()
    assert torch.equal(net.embed.weight, before)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in net.parameters()) / 4


def test_slicing_shares_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights of a sub-network are views of the supernet's weights."""
    net, used = network(), []
    original = elastic.leading

    def spy(weight: Tensor, *sizes: int) -> Tensor:
        sliced = original(weight, *sizes)
        used.append(sliced.untyped_storage().data_ptr())
        return sliced

    monkeypatch.setattr(elastic, "leading", spy)
    net(*inputs(), width=0.25)
    owned = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}
    assert len(used) > 50
    assert set(used) <= owned


def gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def test_gradient_of_unused_weights_is_zero() -> None:
    net = network()
    net(*inputs(), width=0.25).square().sum().backward()
    block = next(net.blocks())
    query = gradient(block.attention.q.weight)
    assert query[:16, :16].abs().min() > 0
    assert query[16:].abs().max() == 0
    assert query[:, 16:].abs().max() == 0
    downsample = gradient(net.down.weight)
    assert downsample[16:].abs().max() == 0
    assert downsample[:, 16:].abs().max() == 0
    # Modules for other widths get no gradient.
    assert net.time.for_hidden_size(64).get_parameter("modulation.weight").grad is None
    assert net.time.for_hidden_size(16).get_parameter("modulation.weight").grad is not None
    # The key and value projections of cross-attention are not sliced.
    assert gradient(block.cross.kv.weight).abs().min() > 0


def test_new_network_predicts_zero_and_its_blocks_are_identities() -> None:
    net = ElasticDiT(SPEC)
    assert net(*inputs()).abs().max() == 0
    hidden = torch.randn(3, 24, 64)
    modulation, cos_sin = torch.zeros(3, 6, 64), axial_rope(4, 6, 8, 1e4, torch.device("cpu"))
    text, mask = torch.randn(3, 7, 24), torch.ones(3, 7, dtype=torch.bool)
    assert torch.equal(net.stages[0](hidden, (4, 6), cos_sin, modulation, text, mask), hidden)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (8, 20), (32, 4)])
def test_any_aspect_ratio_works(height: int, width: int) -> None:
    arguments = inputs(height, width)
    assert network()(*arguments).shape == arguments[0].shape


def test_indivisible_sides_are_rejected() -> None:
    with pytest.raises(ValueError, match="multiples of 4"):
        network()(*inputs(8, 10))


def test_unknown_width_is_rejected() -> None:
    with pytest.raises(ValueError, match="this network has"):
        network()(*inputs(), width=0.75)


def test_masked_text_tokens_have_no_influence() -> None:
    net, (x, time, text) = network(), inputs()
    garbage = [TextTokens(torch.where(t.mask[..., None], t.embeddings, 1e3), t.mask) for t in text]
    torch.testing.assert_close(net(x, time, text), net(x, time, garbage), atol=1e-5, rtol=1e-5)
    hidden = [TextTokens(t.embeddings, torch.zeros_like(t.mask)) for t in text]
    assert net(x, time, hidden).isfinite().all()
    assert not torch.allclose(net(x, time, text), net(x, time, hidden))


def test_gradient_checkpointing_does_not_change_gradients() -> None:
    gradients = []
    for checkpointing in (False, True):
        net = network()
        net.use_gradient_checkpointing(checkpointing)
        net(*inputs(), width=0.5).square().mean().backward()
        gradients.append({n: p.grad for n, p in net.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


@pytest.mark.slow
def test_compiled_graph_equals_eager() -> None:
    """The graph captured by torch.compile is correct at two widths. The aot_eager backend needs no C++ compiler."""
    net = network()
    compiled = torch.compile(net, backend="aot_eager")
    for width in (0.5, 1.0):
        torch.testing.assert_close(compiled(*inputs(), width=width), net(*inputs(), width=width), atol=1e-5, rtol=1e-4)


def test_rope_preserves_norms_and_depends_only_on_offsets() -> None:
    cos, sin = axial_rope(5, 7, 8, 1e4, torch.device("cpu"))
    x = torch.randn(1, 1, 1, 8).expand(1, 1, 35, 8)
    rotated = apply_rope(x, cos, sin)
    torch.testing.assert_close(rotated.norm(dim=-1), x.norm(dim=-1))
    grid = torch.unflatten(rotated[0, 0], 0, (5, 7))
    # Both pairs of positions have the same offset, (2, 3).
    torch.testing.assert_close(grid[1, 2] @ grid[3, 5], grid[0, 0] @ grid[2, 3])
    # Row offsets and column offsets are not interchangeable.
    assert not torch.allclose(grid[0, 0] @ grid[2, 3], grid[0, 0] @ grid[3, 2])


def test_preconditioning_uses_the_least_squares_estimate_of_the_velocity() -> None:
    """Compare the input variance, slope, and residual with a regression on random data."""
    generator = torch.Generator().manual_seed(0)
    std, time = torch.tensor([0.2, 2.0]), torch.tensor([0.03, 0.5, 0.97])
    data = std[:, None] * torch.randn(3, 2, 400_000, generator=generator)
    noise = torch.randn(data.shape, generator=generator)
    t = time[:, None, None]
    x_t, velocity = (1 - t) * data + t * noise, noise - data
    c_in, c_skip, c_out = (part[..., 0] for part in precondition(time, std.tolist()))
    torch.testing.assert_close((c_in * x_t).std(-1), torch.ones(3, 2), atol=0.01, rtol=0)
    slope = (x_t * velocity).mean(-1) / x_t.square().mean(-1)
    torch.testing.assert_close(c_skip[..., 0], slope, atol=0.02, rtol=0.01)
    torch.testing.assert_close(c_out[..., 0], (velocity - c_skip * x_t).std(-1), atol=0.01, rtol=0.01)


def test_new_preconditioned_network_predicts_the_best_linear_estimate() -> None:
    std = torch.linspace(0.1, 2.0, SPEC.latent_channels)
    net = ElasticDiT(replace(SPEC, latent_std=tuple(std.tolist())))
    x, time, text = inputs()
    c_in, c_skip, c_out = precondition(time, std.tolist())
    torch.testing.assert_close(net(x, time, text), c_skip * x)
    plain = network()
    net.load_state_dict(plain.state_dict())
    torch.testing.assert_close(net(x, time, text), c_skip * x + c_out * plain(c_in * x, time, text))
    with pytest.raises(ValueError, match="latent_std must be"):
        replace(SPEC, latent_std=(1.0,))


def test_positional_embedding_is_unique_and_independent_of_resolution() -> None:
    device = torch.device("cpu")
    embedding = positional_embedding(6, 10, 64, device)
    assert torch.cdist(embedding, embedding).fill_diagonal_(1.0).min() > 0.1
    small, large = (torch.unflatten(positional_embedding(side, side, 64, device), 0, (side, side)) for side in (3, 9))
    torch.testing.assert_close(small, large[1::3, 1::3], atol=1e-4, rtol=0)


def test_new_attention_prefers_nearby_tokens() -> None:
    """On its own, the bias that queries and keys share produces scores that decrease with distance."""
    attention = AdaptiveSparseSelfAttention(32, 8, SPARSE)
    attention.init_locality()
    common = attention.q_norm.bias.detach().expand(1, 1, 81, 8)
    rotated = apply_rope(common, *axial_rope(9, 9, 8, 10.0, torch.device("cpu")))
    grid = torch.unflatten(rotated[0, 0], 0, (9, 9))
    scores = (grid @ grid[4, 4]).detach()
    assert scores.argmax() == 40
    assert (scores[4, 4:8].diff() < 0).all()
    assert (scores[4:8, 4].diff() < 0).all()


def test_gate_interpolates_between_the_two_branches() -> None:
    """A gate of 0 selects the global branch, and a gate of 1 the local branch. A new module returns their mean."""
    torch.manual_seed(0)
    attention = AdaptiveSparseSelfAttention(32, 8, SPARSE)
    attention.init_branches()
    x, cos_sin = torch.randn(1, 16, 32), axial_rope(4, 4, 8, 1e4, torch.device("cpu"))
    outputs = []
    with torch.no_grad():
        for bias in (-100.0, 0.0, 100.0):
            attention.gate.bias.fill_(bias)
            forms = attention.choose_forms(x, first_form)
            outputs.append(attention.attend(x, (4, 4), cos_sin, forms))
    torch.testing.assert_close(outputs[1], (outputs[0] + outputs[2]) / 2)
    assert not torch.allclose(outputs[0], outputs[2])


def test_compression_is_initialized_to_average_pooling() -> None:
    attention = AdaptiveSparseSelfAttention(32, 8, SPARSE)
    attention.init_branches()
    feature_map = torch.randn(1, 16, 4, 4)
    compressed = attention.compress_k(feature_map.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(compressed, torch.nn.functional.avg_pool2d(feature_map, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": (0.3, 1.0)}, "not a multiple of head_dim"),
        ({"widths": ()}, "at least one fraction"),
        ({"text_kv_heads": 3}, "not a multiple of the 3 key/value heads"),
        ({"levels": THREE_STAGES[:2]}, "one level, or three: down, middle, and up"),
        ({"levels": (THREE_STAGES[0],) * 3}, "levels must have the scales"),
        ({"head_dim": 6}, "multiple of 4"),
        ({"frequency_width": 255}, "frequency_width must be even"),
    ],
)
def test_invalid_specifications_are_rejected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SPEC, **change)


def test_layer_without_compression_is_neighborhood_attention() -> None:
    """Without a global branch and a gate, the layer is equivalent to full attention if every block is visible."""
    grid, cos_sin = (4, 6), axial_rope(4, 6, 8, 1e4, torch.device("cpu"))
    local_only = replace(SPARSE, compression=False)
    torch.manual_seed(0)
    local = build_self_attention(64, 8, replace(local_only, radius=9))
    full = build_self_attention(64, 8, FULL_ATTENTION)
    full.load_state_dict(local.state_dict())
    x = torch.randn(2, 24, 64)
    forms = local.choose_forms(x, first_form)
    torch.testing.assert_close(local(x, grid, cos_sin, forms), full(x, grid, cos_sin, forms), atol=1e-6, rtol=1e-5)
    near = build_self_attention(64, 8, replace(local_only, radius=0))
    near.load_state_dict(local.state_dict())
    changed = x.clone()
    changed[:, 6:] += 1  # all tokens outside the first of four blocks
    before, after = near(x, grid, cos_sin, forms), near(changed, grid, cos_sin, forms)
    assert torch.equal(before[:, :6], after[:, :6])
    assert not torch.allclose(before[:, 6:], after[:, 6:])


def test_network_without_compression_is_elastic_and_gets_gradients() -> None:
    levels = tuple(replace(level, attention=replace(SPARSE, compression=False)) for level in THREE_STAGES)
    net = network(replace(SPEC, levels=levels))
    assert not any("compress" in name or "gate" in name for name, _ in net.named_parameters())
    for width in SPEC.widths:
        torch.testing.assert_close(
            net(*inputs(), width=width), extract_subnetwork(net, width)(*inputs()), atol=1e-6, rtol=0
        )
    net(*inputs()).square().sum().backward()
    assert gradient(next(net.blocks()).attention.kv.weight).abs().min() > 0
