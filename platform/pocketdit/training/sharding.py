"""FSDP2 sharding of a backbone's weights, gradients, and optimizer state across ranks, block by block."""

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from pocketdit.backbones.dit import ElasticDiT


def mesh_to_shard(module: LightningModule, network: nn.Module) -> DeviceMesh | None:
    """Return the device mesh across which ``configure_model`` must shard a network.

    Returns None without FSDP2, and for a network that is already sharded, because Lightning calls ``configure_model``
    more than once.
    """
    if module.device_mesh is None or isinstance(next(network.parameters()), DTensor):
        return None
    return module.device_mesh["data_parallel"]


def shard(network: ElasticDiT, mesh: DeviceMesh) -> None:
    """Shard a backbone in place.

    A block gathers its weights when it runs, and slicing to a width then takes views of the gathered weights. The root
    also frees its weights after every forward pass, because the EMA network has no backward pass that would free them.
    """
    for block in network.blocks():
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh, reshard_after_forward=True)
    register_fsdp_forward_method(network, "forward_with_features")


@torch.no_grad()
def init_state(optimizer: Optimizer) -> None:
    """Create the optimizer state of every parameter, filled with zeros as it is before the first step.

    A sharded checkpoint is loaded into existing state for all parameters at once. Without this call, state would be
    missing for parameters that had no gradient before the checkpoint was saved.
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
    """Gather a tensor that is sharded across ranks. Any other tensor is returned unchanged."""
    return value.full_tensor() if isinstance(value, DTensor) else value
