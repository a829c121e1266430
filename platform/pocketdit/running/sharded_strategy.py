"""The FSDP2 strategy: a mesh for hybrid sharding, and checkpoints that any number of processes can load."""

from pathlib import Path
from typing import Any

from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer
from typing_extensions import override

from pocketdit.config.sharding import Sharding
from pocketdit.errors import RunError
from pocketdit.running.consolidation import name_parameters, number_parameters
from pocketdit.running.disk import explain_write_errors
from pocketdit.running.gathering import fail_together
from pocketdit.running.sharded import load_rest, load_shards, require_undamaged, save_shards
from pocketdit.training.sharding import build_mesh

NETWORK = "state_dict"


class ShardedStrategy(ModelParallelStrategy):
    """Lightning's FSDP2 strategy with hybrid sharding and checked checkpoints.

    Args:
        settings: The settings of FSDP2.
        processes: Number of processes of the run.
        group: Number of processes that share one copy of the weights.
    """

    def __init__(self, settings: Sharding, processes: int, group: int) -> None:
        # By default, Lightning uses the devices of a node as tensor-parallel ranks.
        super().__init__(
            data_parallel_size=processes,
            tensor_parallel_size=1,
            save_distributed_checkpoint=settings.checkpoint == "sharded",
        )
        self.saves_shards = settings.checkpoint == "sharded"
        self.group = group

    @override
    def setup_environment(self) -> None:
        super().setup_environment()
        assert self.lightning_module is not None
        mesh = build_mesh(self.root_device.type, self.world_size, self.group)
        self._device_mesh = self.lightning_module._device_mesh = mesh

    @property
    @override
    def distributed_sampler_kwargs(self) -> dict[str, Any]:
        return {"num_replicas": self.world_size, "rank": self.global_rank}

    @override
    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        if self.saves_shards:
            return super().optimizer_state(optimizer)
        assert self.model is not None
        inner = optimizer._optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state = get_optimizer_state_dict(self.model, inner, options=options)
        return number_parameters(state) if state else {}  # only the first rank has the state

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        path = Path(self.broadcast(filepath))
        if self.saves_shards:
            optimizers = enumerate(checkpoint.pop("optimizer_states", []))
            state = {NETWORK: checkpoint.pop("state_dict"), **{f"optimizer_{i}": value for i, value in optimizers}}
            save_shards(state, checkpoint, path, self.global_rank, self.world_size)
        else:
            with fail_together(self.world_size), explain_write_errors(path):
                super().save_checkpoint(checkpoint, path, storage_options)

    @override
    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        path = Path(self.broadcast(checkpoint_path))
        is_sharded = self.broadcast(path.is_dir())
        try:
            return self.load_sharded(path) if is_sharded else self.load_full(path)
        except (CheckpointException, KeyError) as error:
            raise mismatch(path) from error

    def load_sharded(self, path: Path) -> dict[str, Any]:
        """Load a sharded checkpoint, which may have been written by a different number of ranks."""
        model = self.model
        assert model is not None
        with fail_together(self.world_size):
            require_undamaged(path, self.global_rank, self.world_size)
        network = {NETWORK: get_model_state_dict(model)}
        load_shards(network, path)
        model.load_state_dict(network[NETWORK])
        for index, optimizer in enumerate(self.optimizers):
            state = {f"optimizer_{index}": get_optimizer_state_dict(model, optimizer)}
            load_shards(state, path)
            (loaded,) = state.values()
            set_optimizer_state_dict(model, optimizer, loaded, options=StateDictOptions(cpu_offload=True))
        with fail_together(self.world_size):
            rest = load_rest(path)
        return rest

    def load_full(self, path: Path) -> dict[str, Any]:
        """Load a single-file checkpoint, which the first rank reads and sends to the other ranks."""
        model = self.model
        assert model is not None
        checkpoint: dict[str, Any] = {}
        expected = set(get_model_state_dict(model))
        with fail_together(self.world_size):
            if self.is_global_zero:
                checkpoint = self.checkpoint_io.load_checkpoint(path)
                if set(checkpoint[NETWORK]) != expected:
                    raise mismatch(path)
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
        set_model_state_dict(model, checkpoint.pop(NETWORK, {}), options=options)
        names = {parameter: name for name, parameter in model.named_parameters()}
        states = checkpoint.pop("optimizer_states", [])
        # A run without FSDP2 has no optimizer state for weights that have not had a gradient yet.
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=False)
        for index, optimizer in enumerate(self.optimizers):
            own = [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
            state = name_parameters(states[index], own) if self.is_global_zero else {}
            set_optimizer_state_dict(model, optimizer, state, options=options)
        return self.broadcast(checkpoint)


def mismatch(path: Path) -> RunError:
    """Return the error for a checkpoint of another network."""
    return RunError(f"{path} does not match the configured network; start a new run without --resume")
