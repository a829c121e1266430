"""Settings of an export to Core AI."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pocketdit.bounds import Between, CountOrZero, Error, check_bounds
from pocketdit.export.common.budget import Budget
from pocketdit.export.common.settings import BaseExport

Form = Literal["split_einsum", "fused"]


@dataclass(frozen=True, kw_only=True)
class CoreAIExport(BaseExport):
    """Settings for exporting one width of a network as Core AI packages.

    ``precision`` applies to weights and arithmetic. With float16, the operations on the time input remain in float32.

    Attributes:
        kind: Name of this target.
        form: Form of the transformer. ``split_einsum`` is the paper's mobile form, as for Core ML; ``fused`` keeps
            attention, RoPE and norms as composite operations of Core AI.
        batch: Batch size of the transformer. With 2, a single evaluation predicts both with and without text.
        blockwise: Whether the blocks of sparse attention are computed in a loop or as one batch. Applies only to
            ``split_einsum``.
        query_chunk: Number of queries that attend to all keys at a time; 0 processes all of them at once. Applies only
            to ``split_einsum``.
        budget: Limits on the graph of the transformer.
        verify: Whether to run the packages and compare them with PyTorch after the export.
    """

    in_bundle_name: ClassVar[tuple[str, ...]] = (
        "form",
        "batch",
        "blockwise",
        "query_chunk",
        *BaseExport.in_bundle_name,
    )

    kind: Literal["coreai"] = "coreai"
    form: Form = "split_einsum"
    precision: Literal["float16", "float32"] = "float16"
    batch: Annotated[int, Between(1, 1024)] = 1
    blockwise: Literal["loop", "batched"] = "batched"
    query_chunk: CountOrZero = 1024
    budget: Budget = field(default_factory=Budget)
    verify: bool = True
    max_error: Error = 1e-4
    out: Path = Path("exports")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds(self)
