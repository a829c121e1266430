"""FSDP2 sharding of a backbone's weights, gradients, and optimizer state across ranks, block by block."""

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from pocketdit.backbones.dit import ElasticDiT
from pocketdit.config.sharding import Sharding


def build_mesh(device_type: str, processes: int, group: int) -> DeviceMesh:
    """Return a device mesh. The weights are sharded along its last dimension.

    Args:
        device_type: Type of the devices, for example "cuda".
        processes: Number of processes.
        group: Number of processes that share one copy of the weights. If there are several groups, the mesh has another
            dimension before the last, along which the weights are replicated.
    """
    if group == processes:
        return init_device_mesh(device_type, (processes,), mesh_dim_names=("shard",))
    return init_device_mesh(device_type, (processes // group, group), mesh_dim_names=("replicate", "shard"))


def mesh_to_shard(module: LightningModule, network: nn.Module) -> DeviceMesh | None:
    """Return the device mesh across which ``configure_model`` must shard a network.

    Returns None if FSDP2 is not used, or if the network is already sharded, because Lightning calls ``configure_model``
    more than once.
    """
    if module.device_mesh is None or isinstance(next(network.parameters()), DTensor):
        return None
    return module.device_mesh


def shard(network: ElasticDiT, mesh: DeviceMesh, settings: Sharding) -> None:
    """Shard a backbone in place.

    A block gathers its weights when it runs, and slicing to a width then takes views of the gathered weights. The root
    also frees its weights after every forward pass, because the EMA network has no backward pass that would free them.

    Inputs keep their dtype, because a diffusion time in bf16 would be off by up to 0.002. Autocast chooses the dtype of
    matrix products. The weights outside the blocks, a small part of all weights, are always gathered in fp32.
    """
    gradients = getattr(torch, settings.gradients)
    block_policy = MixedPrecisionPolicy(getattr(torch, settings.weights), gradients, cast_forward_inputs=False)
    for block in network.blocks():
        fully_shard(block, mesh=mesh, mp_policy=block_policy)
    policy = MixedPrecisionPolicy(torch.float32, gradients, cast_forward_inputs=False)
    fully_shard(network, mesh=mesh, reshard_after_forward=True, mp_policy=policy)
    register_fsdp_forward_method(network, "forward_with_features")


@torch.no_grad()
def init_state(optimizer: Optimizer) -> None:
    """Create the optimizer state of every parameter, filled with zeros, as if no step had been taken.

    A sharded checkpoint can only be loaded into existing state of all parameters. Without this call, parameters that
    had no gradient before the checkpoint was saved would have no state.
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
    """Gather a tensor that is sharded across ranks, and return any other tensor unchanged."""
    return value.full_tensor() if isinstance(value, DTensor) else value
