"""Settings of FSDP2, which shards weights, gradients and optimizer state across processes."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pocketdit.bounds import Between, check_bounds
from pocketdit.counts import counted
from pocketdit.errors import ConfigError


@dataclass(frozen=True)
class Sharding:
    """Settings of ``training.strategy: fsdp2``.

    Attributes:
        group: Processes that share one copy of the weights: "all" for all processes of the run, "node" for the
            processes of a node, or a number of processes. With several groups, each group has a copy, and gradients are
            also averaged across the groups (hybrid sharding).
        weights: Dtype in which processes send weights to each other and compute with them. Each process stores and
            updates its shard in fp32. "bfloat16" requires bf16 precision.
        gradients: Dtype in which gradients are averaged across processes.
        checkpoint: "sharded" lets every process write its shards to a folder. "full" gathers the state in the memory of
            the first process, which writes it to one file.
    """

    group: Annotated[int, Between(1, 1_000_000)] | Literal["all", "node"] = "all"
    weights: Literal["float32", "bfloat16"] = "float32"
    gradients: Literal["float32", "bfloat16"] = "float32"
    checkpoint: Literal["sharded", "full"] = "sharded"

    def __post_init__(self) -> None:
        check_bounds(self)

    def group_size(self, devices: int, nodes: int) -> int:
        """Return the number of processes that share one copy of the weights.

        Args:
            devices: Number of processes per node.
            nodes: Number of nodes.

        Raises:
            ConfigError: The processes cannot be divided into groups of this size, within or across whole nodes.
        """
        match self.group:
            case "all":
                return devices * nodes
            case "node":
                return devices
            case int(size):
                sizes = [*divisors(devices), *(devices * n for n in divisors(nodes) if n > 1)]
                if size in sizes:
                    return size
        raise ConfigError(
            f"training.sharding.group is {self.group}, but {counted(nodes, 'node')} with "
            f"{counted(devices, 'process', 'processes')} each cannot be divided into groups of that size; set it to "
            f"node, all, or one of {', '.join(map(str, sizes))}"
        )


def divisors(number: int) -> list[int]:
    """Return the divisors of a positive number, in ascending order."""
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]
