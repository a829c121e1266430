"""Tests kernel counts against known values, an independent formula, and torch's FLOP counter."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.spec import AdaptiveSparseAttention, DiTSpec, FullAttention, Level
from pocketdit.losses.flow_matching import flow_matching_loss
from pocketdit.training.cost import Pass, PassCount, count_parameters, count_pass, network_inputs
from pocketdit.training.kernels import Kernel, KernelCounter, Kernels, LikeGpu, total_bytes, total_flops

META = torch.device("meta")
SPARSE = AdaptiveSparseAttention("assa", 2, blocks=4, radius=1)
SPEC = DiTSpec(
    latent_channels=4, width=64, head_dim=16, text_inputs=(24,), text_width=32, text_kv_heads=2,
    levels=(Level(1, SPARSE), Level(2, FullAttention("full", 2), 3.0, 2), Level(1, SPARSE)), widths=(0.5, 1.0),
)  # fmt: skip
BATCH, SIDES, TEXT = 3, (16, 16), 7


def count_network(width: float, checkpointing: bool = False, autocast: bool = False) -> PassCount:
    with META:
        network = ElasticDiT(SPEC)
    network.use_gradient_checkpointing(checkpointing)
    inputs = network_inputs(SPEC, BATCH, SIDES, "meta", [TEXT])
    loss: Callable[[], Tensor] = lambda: flow_matching_loss(network(*inputs, width=width), inputs[0])  # noqa: E731
    with LikeGpu(autocast):
        return count_pass(Pass("", loss, network, count_parameters(network)))


def formula(width: float) -> int:
    """Derive the FLOPs of a forward pass from the architecture. A multiply-add counts as two FLOPs."""
    d, e, g, fine = int(SPEC.width * width), SPEC.head_dim, 2, SIDES[0] * SIDES[1] // 4
    text = TEXT + 1
    total = fine * (16 * d) * 2 + d * SPEC.frequency_width + d * d + d * 6 * d + TEXT * 24 * 32
    for tokens, ratio, sparse, depth in ((fine, 4, True, 2), (fine // 4, 3, False, 2)):
        block = tokens * (2 * d * d + d * 2 * g * e)  # the projections q, out, k and v
        block += tokens * 2 * d * d + text * 32 * 2 * g * e + 2 * tokens * text * d  # cross-attention
        block += tokens * 2 * ratio * d * d  # feed-forward layer
        if sparse:
            neighbors = (2 + 3 + 3 + 2) / 16  # fraction of all pairs of the 4 blocks that is visible
            block += 2 * tokens * d * int(tokens * neighbors) + 2 * tokens * d * (tokens // 4)
            block += 2 * (tokens // 4) * (4 * g * e) * (g * e) + tokens * d * (d // e)  # compression and gate
        else:
            block += 2 * tokens * tokens * d
        total += depth * block
    total += 2 * fine * d * d  # merging and splitting of 2x2 tokens
    return 2 * BATCH * total


def flops_of(kind: str, kernels: Kernels) -> int:
    return sum(kernel.flops * launches for kernel, launches in kernels.items() if kernel.kind == kind)


@pytest.mark.parametrize("width", [0.5, 1.0])
def test_flops_match_a_formula(width: float) -> None:
    assert total_flops(count_network(width).forward) == pytest.approx(formula(width), rel=0.02)


def test_flops_match_those_of_torch_on_real_tensors() -> None:
    """In the backward pass, fused attention needs 2.5 times the FLOPs of the forward pass."""
    network = ElasticDiT(SPEC)
    inputs = network_inputs(SPEC, BATCH, SIDES, "cpu", [TEXT])
    with FlopCounterMode(display=False) as counter:
        network(*inputs)
    count = count_network(1.0)
    ours = {
        kind: sum(k.flops * n for k, n in count.forward.items() if k.kind == kind) for kind in ("product", "attention")
    }
    assert ours["product"] == counter.get_total_flops()  # torch does not count attention on a CPU
    backward = sum(k.flops * n for k, n in count.backward.items() if k.kind == "attention")
    assert backward == 2.5 * ours["attention"]


def test_gradient_checkpointing_repeats_the_forward_pass_and_saves_memory() -> None:
    plain, saving = count_network(1.0), count_network(1.0, checkpointing=True)
    assert total_flops(saving.forward) == total_flops(plain.forward)
    repeated = total_flops(saving.backward) - total_flops(plain.backward)
    assert repeated == pytest.approx(total_flops(plain.forward), rel=0.1)
    assert saving.saved < plain.saved / 2
    assert saving.peak < plain.peak


def test_a_product_moves_its_operands_and_its_result() -> None:
    a, b = torch.empty(5, 7, device=META), torch.empty(7, 11, device=META, dtype=torch.float32)
    with KernelCounter() as counter:
        product = a @ b.t().t()
        product.view(11, 5).transpose(0, 1)
    assert counter.kernels == {Kernel("product", 2 * 5 * 7 * 11, 4 * (35 + 77 + 55)): 1}
    assert total_bytes(counter.kernels) == 4 * (35 + 77 + 55)


def test_memory_is_that_of_the_tensors_alive_at_the_same_time() -> None:
    with KernelCounter() as counter:
        first = torch.zeros(1000, device=META)
        second = first + 1
        del first
        third = second * 2
        assert counter.live == 8000
        del second, third
    assert (counter.peak, counter.live) == (8000, 0)


def test_gradients_are_counted_apart_from_activations() -> None:
    layer = nn.Linear(100, 100, bias=False, device=META)
    x = torch.empty(2, 100, device=META)
    count = count_pass(Pass("", lambda: layer(x).sum(), layer, 10_000))
    assert count.peak >= 4 * 10_000
    assert count.working_peak - 4 * 10_000 < 4 * 1000


def test_autocast_is_imitated() -> None:
    layer, x = nn.Linear(8, 8, device=META), torch.empty(2, 4, 8, 8, device=META)
    with LikeGpu(autocast=True):
        assert layer(x).dtype is torch.bfloat16
        assert F.layer_norm(x.bfloat16(), (8,)).dtype is torch.float32
        assert F.scaled_dot_product_attention(x, x, x).dtype is torch.bfloat16
    with LikeGpu(autocast=False):
        assert layer(x).dtype is torch.float32


def test_autocast_halves_the_operands_of_products_and_not_their_flops() -> None:
    full, half = count_network(1.0), count_network(1.0, autocast=True)
    assert total_flops(half.forward) == total_flops(full.forward)
    products = [sum(k.bytes * n for k, n in count.forward.items() if k.kind == "product") for count in (full, half)]
    assert products[1] == pytest.approx(products[0] / 2, rel=0.05)


def test_attention_is_one_kernel() -> None:
    q = torch.empty(2, 4, 64, 16, device=META)
    mask = torch.ones(2, 1, 1, 64, device=META, dtype=torch.bool)
    for visible in (None, mask):
        with LikeGpu(autocast=False), KernelCounter() as counter:
            output = F.scaled_dot_product_attention(q, q, q, attn_mask=visible)
        assert output.shape == q.shape
        assert sum(n for kernel, n in counter.kernels.items() if kernel.kind == "attention") == 1
        assert total_flops(counter.kernels) == 4 * 2 * 4 * 64 * 64 * 16
