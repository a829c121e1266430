"""FSDP2: the backbone's weights, gradients and optimizer state divided over the ranks, block by block."""

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from pocketdit.backbones.dit import ElasticDiT, Stage


def shard(network: ElasticDiT, mesh: DeviceMesh) -> None:
    """Shard in place. A block gathers its weights when it runs; slicing a width then takes views of them.

    The root frees its weights after every forward pass too: the averaged network has no backward pass that would.
    """
    for stage in network.stages:
        assert isinstance(stage, Stage)
        for block in stage.blocks:
            fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh, reshard_after_forward=True)
    register_fsdp_forward_method(network, "with_features")


@torch.no_grad()
def fill_state(optimizer: Optimizer) -> None:
    """Give every parameter its optimizer state, all zeros, as its first step would find it.

    A sharded checkpoint is loaded into the state that is there, of all parameters; without this it would lack that
    of parameters which had no gradient before it was written.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, Tensor):
                value.zero_()


def full_tensor(value: Tensor) -> Tensor:
    """A plain tensor from one that is divided over the ranks; others pass unchanged."""
    return value.full_tensor() if isinstance(value, DTensor) else value
