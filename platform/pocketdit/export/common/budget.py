"""Limits on the graph of an exported transformer."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """Upper limits on the graph of the transformer. The limits are checked after the export.

    Null disables a limit. 1 MB is 10^6 bytes.

    Attributes:
        operations: Number of operations.
        tensor_mb: Size of the largest output of an operation.
        gflops: Number of floating-point operations per evaluation, in billions.
        weight_mb: Stored size of the weights.
        traffic_mb: Total size of the activations that all operations read and write.
        elsewhere: Number of operations that cannot run on the Neural Engine.
    """

    operations: int | None = None
    tensor_mb: float | None = None
    gflops: float | None = None
    weight_mb: float | None = None
    traffic_mb: float | None = None
    elsewhere: int | None = None
