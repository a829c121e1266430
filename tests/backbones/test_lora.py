"""Tests for standalone networks and their LoRA adapters: shared, active, and merged weights."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from pocketdit.backbones.dit import ElasticDiT, extract_subnetwork
from pocketdit.backbones.elastic import ElasticLinear
from pocketdit.backbones.lora import (
    LoraTarget,
    activate_adapter,
    active_adapter,
    adapter_parameters,
    add_adapters,
    clear_unused,
    load_adapter,
    lora_layers,
    lora_scale,
)
from pocketdit.backbones.per_width import (
    ELASTIC,
    LORA_PREFIX,
    PerWidthNetworks,
    base_parameters,
    merge_elastic_lora,
    merge_lora,
    split_by_width,
)
from pocketdit.backbones.spec import AdaptiveSparseAttention, DiTSpec, FullAttention, Level
from pocketdit.encoders.contract import TextTokens

SPARSE = AdaptiveSparseAttention("assa", kv_heads=2, blocks=4, radius=1)
SPEC = DiTSpec(
    latent_channels=4,
    width=64,
    head_dim=16,
    text_inputs=(12,),
    text_width=32,
    text_kv_heads=2,
    levels=(Level(1, SPARSE), Level(2, FullAttention("full", 2), scale=2, long_skips=True), Level(1, SPARSE)),
    widths=(0.5, 1.0),
    frequency_width=16,
)


def supernet() -> ElasticDiT:
    torch.manual_seed(0)
    network = ElasticDiT(SPEC)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network


def inputs() -> tuple[Tensor, Tensor, list[TextTokens]]:
    generator = torch.Generator().manual_seed(1)
    text = TextTokens(torch.randn(2, 5, 12, generator=generator), torch.ones(2, 5) > 0)
    return torch.randn(2, 4, 8, 12, generator=generator), torch.tensor([0.3, 0.8]), [text]


def storage_bytes(*modules: nn.Module) -> int:
    """Return the size of the parameters in bytes, counting shared storage once."""
    storages = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for m in modules for p in m.parameters()}
    return sum(storages.values())


def fill_adapter(network: nn.Module, name: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in adapter_parameters(network, name).values():
            weight.copy_(0.1 * torch.randn(weight.shape, generator=generator))


def test_forward_with_features_returns_the_velocity_of_forward() -> None:
    network = supernet()
    for width, hidden in ((0.5, 32), (1.0, 64)):
        velocity, features = network.forward_with_features(*inputs(), width=width)
        assert torch.equal(velocity, network(*inputs(), width=width))
        assert features.shape == (2, 4 * 6, hidden)


def test_shared_networks_equal_the_supernet_and_take_no_memory() -> None:
    network = supernet()
    networks = split_by_width(network, share_weights=True)
    for width in SPEC.widths:
        torch.testing.assert_close(networks(*inputs(), width=width), network(*inputs(), width=width), atol=1e-6, rtol=0)
    assert storage_bytes(network, networks) == storage_bytes(network)
    assert storage_bytes(network, split_by_width(network, share_weights=False)) > 1.2 * storage_bytes(network)


def test_weights_stay_shared_after_a_dtype_change() -> None:
    networks = split_by_width(supernet(), share_weights=True)
    for width in SPEC.widths:
        add_adapters(networks.for_width(width), ("student",), rank=4, alpha=8)
    bases = [base_parameters(networks.for_width(width)) for width in SPEC.widths]
    before = len({p.untyped_storage().data_ptr() for base in bases for p in base.values()})
    expected = {width: networks(*inputs(), width=width).double() for width in SPEC.widths}
    networks.double()
    bases = [base_parameters(networks.for_width(width)) for width in SPEC.widths]
    assert len({p.untyped_storage().data_ptr() for base in bases for p in base.values()}) == before
    x, time, (text,) = inputs()
    for width in SPEC.widths:
        actual = networks(x.double(), time.double(), [TextTokens(text.embeddings.double(), text.mask)], width=width)
        torch.testing.assert_close(actual, expected[width], atol=1e-4, rtol=1e-4)


def test_student_and_critic_share_their_base() -> None:
    """Each of the two adapters adds rank * (in + out) parameters per layer and no copy of the base weights."""
    network = split_by_width(supernet(), share_weights=False).for_width(1.0)
    base = storage_bytes(network)
    linear = {
        name: (module.in_features, module.out_features)
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and name.startswith("stages.")
    }
    parameters = sum(4 * sum(features) for features in linear.values())
    add_adapters(network, ("student", "critic"), rank=4, alpha=8)
    assert storage_bytes(network) == base + 2 * 4 * parameters  # two adapters with 4 bytes per parameter
    assert {name.rsplit(".", 1)[0] for name in adapter_parameters(network, "critic")} == set(linear)


def test_new_adapters_equal_the_base_and_only_the_active_one_changes_the_output() -> None:
    network = split_by_width(supernet(), share_weights=False).for_width(1.0)
    base = network(*inputs())
    add_adapters(network, ("student", "critic"), rank=4, alpha=8)
    assert torch.equal(network(*inputs()), base)
    fill_adapter(network, "critic", 0)
    assert torch.equal(network(*inputs()), base)
    with active_adapter(network, "critic", restore="student"):
        changed = network(*inputs())
    assert (changed - base).abs().max() > 1e-3
    assert torch.equal(network(*inputs()), base)
    with pytest.raises(RuntimeError, match="boom"), active_adapter(network, "critic", restore="student"):
        raise RuntimeError("boom")
    assert torch.equal(network(*inputs()), base)
    activate_adapter(network, "critic")
    activate_adapter(network, None)
    assert torch.equal(network(*inputs()), base)


def test_graph_keeps_its_gradients_while_another_adapter_is_active() -> None:
    network = split_by_width(supernet(), share_weights=False).for_width(1.0)
    add_adapters(network, ("student", "critic"), rank=4, alpha=8)
    loss = network(*inputs()).square().mean()
    with active_adapter(network, "critic", restore="student"):
        loss.backward()
    gradients = [p.grad for name, p in adapter_parameters(network, "student").items() if name.endswith(".B")]
    assert all(g is not None and g.abs().max() > 0 for g in gradients)
    assert all(p.grad is None for p in adapter_parameters(network, "critic").values())
    assert all(p.grad is None for p in base_parameters(network).values())


def test_merged_network_equals_the_network_with_adapters() -> None:
    """The merged weight is W + (alpha / rank) B A, where the stored B already includes alpha / rank."""
    network = supernet()
    networks = split_by_width(network, share_weights=True)
    stored = dict(network.state_dict())
    for seed, width in enumerate(SPEC.widths):
        subnetwork = networks.for_width(width)
        add_adapters(subnetwork, ("student",), rank=4, alpha=12)
        fill_adapter(subnetwork, "student", seed)
        assert lora_scale(subnetwork, "student") == 3
        for name, value in adapter_parameters(subnetwork, "student").items():
            stored[f"{LORA_PREFIX}{SPEC.hidden_size(width)}.{name}"] = value * (3 if name.endswith(".B") else 1)
    merged = merge_lora(network, stored)
    assert isinstance(merged, PerWidthNetworks)
    for width in SPEC.widths:
        torch.testing.assert_close(
            merged(*inputs(), width=width), networks(*inputs(), width=width), atol=1e-5, rtol=1e-4
        )
        assert (merged(*inputs(), width=width) - network(*inputs(), width=width)).abs().max() > 1e-2


def test_adapter_weights_of_another_network_are_rejected() -> None:
    network = split_by_width(supernet(), share_weights=False).for_width(0.5)
    add_adapters(network, ("student",), rank=4, alpha=8)
    weights = {name: value.clone() for name, value in adapter_parameters(network, "student").items()}
    weights.pop(min(weights))
    with pytest.raises(ValueError, match="do not fit"):
        load_adapter(network, "student", weights)


def elastic_pair() -> tuple[ElasticDiT, dict[str, Tensor]]:
    """Return a supernet with a nonzero adapter, and its weights in the format in which a run stores them."""
    network = supernet()
    stored = dict(network.state_dict())
    add_adapters(network, ("style",), rank=4, alpha=12)
    fill_adapter(network, "style", 0)
    for name, value in adapter_parameters(network, "style").items():
        stored[f"{LORA_PREFIX}{ELASTIC}.{name}"] = value.detach() * (3 if name.endswith(".B") else 1)
    return network, stored


def test_sliced_factors_equal_the_sliced_merged_weights() -> None:
    """One LoRA adapts every width: slicing its factors is equivalent to slicing the merged supernet."""
    network, stored = elastic_pair()
    merged = merge_elastic_lora(supernet(), stored)
    for width in SPEC.widths:
        expected = network(*inputs(), width=width)
        torch.testing.assert_close(merged(*inputs(), width=width), expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(extract_subnetwork(merged, width)(*inputs()), expected, atol=1e-5, rtol=1e-4)
        assert (expected - supernet()(*inputs(), width=width)).abs().max() > 1e-2


def test_elastic_adapters_are_sliced_on_the_inputs_of_a_and_the_outputs_of_b() -> None:
    network, _ = elastic_pair()
    layer = dict(lora_layers(network))["stages.0.blocks.0.attention.q"]
    assert isinstance(layer.base_layer, ElasticLinear)
    weights = adapter_parameters(network, "style")
    a, b = (weights[f"stages.0.blocks.0.attention.q.{name}"] for name in "AB")
    x = torch.randn(3, 32)
    base = layer.base_layer(x, 32)
    torch.testing.assert_close(layer(x, 32), base + 3 * x @ a[:, :32].mT @ b[:32].mT)


def test_new_elastic_adapters_equal_the_base_and_the_scale_weakens_them() -> None:
    network = supernet()
    add_adapters(network, ("style",), rank=4, alpha=12)
    for width in SPEC.widths:
        assert torch.equal(network(*inputs(), width=width), supernet()(*inputs(), width=width))
    _, stored = elastic_pair()
    base, half, full = (merge_elastic_lora(supernet(), stored, scale).state_dict() for scale in (0.0, 0.5, 1.0))
    for name, value in supernet().state_dict().items():
        assert torch.equal(base[name], value)
        torch.testing.assert_close(2 * half[name], base[name] + full[name])


def test_adapters_of_a_narrow_width_are_zero_outside_of_it() -> None:
    torch.manual_seed(0)
    network = ElasticDiT(replace(SPEC, widths=(0.5,)))
    add_adapters(network, ("style",), rank=4, alpha=4)
    clear_unused(network, "style")
    weights = adapter_parameters(network, "style")
    a = weights["stages.0.blocks.0.ffn.expand.A"]
    assert not a[:, 32:].any()
    assert a[:, :32].all()
    # The input of this layer is the text, whose size is the same at every width.
    assert weights["stages.0.blocks.0.cross.kv.A"].all()


@pytest.mark.parametrize(
    ("targets", "layers"),
    [
        (["attention"], {"q", "kv", "out", "gate"}),
        (["cross"], {"q", "kv", "out"}),
        (["ffn", "skips"], {"expand", "contract", "stream", "skip"}),
    ],
)
def test_targets_select_groups_of_layers(targets: list[LoraTarget], layers: set[str]) -> None:
    network = supernet()
    add_adapters(network, ("style",), 4, 4, targets)
    names = {name.removesuffix(".A") for name in adapter_parameters(network, "style") if name.endswith(".A")}
    assert {name.rpartition(".")[2] for name in names} == layers
    assert all(any(f".{target}." in name for target in targets) for name in names)
