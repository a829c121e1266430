"""FSDP2: the backbone's weights, gradients and optimizer state divided over the ranks, block by block."""

from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from elastic_dit.backbones.dit import ElasticDiT, Stage


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


def whole(value: Tensor) -> Tensor:
    """A plain tensor from one that is divided over the ranks; others pass unchanged."""
    return value.full_tensor() if isinstance(value, DTensor) else value
