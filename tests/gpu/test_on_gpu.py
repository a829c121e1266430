"""Tests that compare computations on a GPU with slow references. They are skipped if there is no GPU."""

import copy
from dataclasses import replace

import pytest
import torch

from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.form_timing import attention_in, random_inputs
from pocketdit.backbones.forms import Workload, grouped_forms, local_forms
from pocketdit.backbones.spec import AdaptiveSparseAttention, DiTSpec, FullAttention, Level
from pocketdit.losses.flow_matching import flow_matching_loss
from pocketdit.training.compilation import compile_blocks
from pocketdit.training.cost import network_inputs

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]
CUDA = torch.device("cuda")
SPARSE = AdaptiveSparseAttention("assa", 2, blocks=4, radius=1)
SPEC = DiTSpec(
    latent_channels=4, width=64, head_dim=16, text_inputs=(24,), text_width=32, text_kv_heads=2,
    levels=(Level(1, SPARSE), Level(2, FullAttention("full", 2), 3.0, 2), Level(1, SPARSE)), widths=(0.5, 1.0),
)  # fmt: skip
FULL = Workload(CUDA, torch.float32, gradient=False, batch=2, heads=4, groups=2, queries=64, keys=64, channels=16)
LOCAL = replace(FULL, blocks=4, radius=1)


@pytest.mark.parametrize("workload", [FULL, replace(FULL, keys=16, hidden_keys=True), LOCAL], ids=str)
@pytest.mark.parametrize("gradient", [False, True])
def test_all_forms_equal_the_masked_reference_on_the_cpu(workload: Workload, gradient: bool) -> None:
    workload = replace(workload, gradient=gradient)
    on_cpu = replace(workload, device=torch.device("cpu"))
    inputs = random_inputs(on_cpu)
    reference = attention_in("masked" if workload.blocks else "repeated", on_cpu)(*inputs)
    forms = local_forms(workload) if workload.blocks else grouped_forms(workload)
    for form in forms:
        output = attention_in(form, workload)(*(value.detach().cuda() for value in inputs))
        torch.testing.assert_close(output.cpu(), reference, atol=1e-5, rtol=0)


def gradients(network: ElasticDiT, width: float) -> tuple[float, dict[str, torch.Tensor]]:
    """Return the loss of a bf16 step, and its gradients on the CPU."""
    x, time, text = network_inputs(SPEC, 2, (16, 16), "cuda", [7])
    x = torch.linspace(-1, 1, x.numel(), device=CUDA).reshape(x.shape)
    with torch.autocast("cuda", torch.bfloat16):
        loss = flow_matching_loss(network(x, time + 0.5, text, width=width), x)
    loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
    return float(loss), {name: p.grad.cpu() for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("width", SPEC.widths)
def test_a_compiled_step_in_bf16_equals_an_eager_one(width: float) -> None:
    torch.manual_seed(0)
    network = ElasticDiT(SPEC).to(CUDA)
    compiled = copy.deepcopy(network)
    compile_blocks(compiled)
    (eager_loss, eager), (compiled_loss, fast) = gradients(network, width), gradients(compiled, width)
    assert compiled_loss == pytest.approx(eager_loss, rel=1e-2)
    assert eager.keys() == fast.keys()
    for name, gradient in eager.items():
        difference = (fast[name] - gradient).norm() / gradient.norm().clamp(min=1e-6)
        assert difference < 0.05, name
