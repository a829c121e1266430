"""Settings of an export to Core ML."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from pocketdit.export.common.settings import BaseExport


@dataclass(frozen=True)
class Budget:
    """Upper limits for the transformer's graph, checked after the export. Null means no limit; 1 MB is 10^6 bytes.

    Attributes:
        operations: Number of operations.
        tensor_mb: The largest tensor between operations.
        gflops: Arithmetic of one evaluation.
        weight_mb: Weights as stored in the package.
        traffic_mb: Activations that operations read and write.
        elsewhere: Number of operations that cannot run on the Neural Engine.
    """

    operations: int | None = None
    tensor_mb: float | None = None
    gflops: float | None = None
    weight_mb: float | None = None
    traffic_mb: float | None = None
    elsewhere: int | None = None


@dataclass(frozen=True, kw_only=True)
class CoreMLExport(BaseExport):
    """One width of a network as Core ML packages in the paper's mobile form (supplement C).

    ``precision`` applies to weights and arithmetic. In float16, operations on the time stay in float32.

    Attributes:
        kind: The tag of this target.
        target: Minimum deployment target.
        batch: Batch size of the transformer: 2 to evaluate both halves of guidance at once.
        blockwise: Whether the blocks of sparse attention are computed one after another or as one batch.
        query_chunk: Queries per step in attention over all keys; 0 for all at once.
        decoder: Run of a tiny decoder to export. Null: the autoencoder's own decoder, or none with random weights.
        budget: Limits for the transformer's graph.
        verify: Whether the packages are compared with PyTorch after the export.
    """

    in_bundle_name: ClassVar[tuple[str, ...]] = ("batch", "target", "blockwise", "query_chunk", "decoder")

    kind: Literal["coreml"] = "coreml"
    precision: Literal["float16", "float32"] = "float16"
    target: Literal["iOS17", "iOS18"] = "iOS17"
    batch: int = 1
    blockwise: Literal["loop", "batched"] = "batched"
    query_chunk: int = 1024
    decoder: str | None = None
    budget: Budget = field(default_factory=Budget)
    verify: bool = True
    max_error: float = 1e-5
    out: Path = Path("exports")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch < 1 or self.query_chunk < 0:
            raise ValueError("batch must be at least 1 and query_chunk at least 0")
