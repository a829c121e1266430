"""Settings of an export to Core ML."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pocketdit.bounds import Between, CountOrZero, Error, check_bounds
from pocketdit.export.common.budget import Budget
from pocketdit.export.common.settings import BaseExport


@dataclass(frozen=True, kw_only=True)
class CoreMLExport(BaseExport):
    """Settings for exporting one width of a network as Core ML packages, in the paper's mobile form (supplement C).

    ``precision`` applies to weights and arithmetic. With float16, the operations on the time input remain in float32.

    Attributes:
        kind: Name of this target.
        target: Minimum deployment target.
        batch: Batch size of the transformer. With 2, a single evaluation predicts both with and without text.
        blockwise: Whether the blocks of sparse attention are computed in a loop or as one batch.
        query_chunk: Number of queries that attend to all keys at a time; 0 processes all of them at once.
        lora: Whether the LoRA of a fine-tuned run is merged into the weights or kept separate. If it is kept, its
            strength is an input of the transformer, ``lora_scale``.
        budget: Limits on the graph of the transformer.
        verify: Whether to compare the packages with PyTorch after the export.
    """

    in_bundle_name: ClassVar[tuple[str, ...]] = (
        *BaseExport.in_bundle_name, "batch", "target", "blockwise", "query_chunk", "lora"
    )  # fmt: skip

    kind: Literal["coreml"] = "coreml"
    precision: Literal["float16", "float32"] = "float16"
    target: Literal["iOS17", "iOS18"] = "iOS17"
    batch: Annotated[int, Between(1, 1024)] = 1
    blockwise: Literal["loop", "batched"] = "batched"
    query_chunk: CountOrZero = 1024
    lora: Literal["merged", "kept"] = "merged"
    budget: Budget = field(default_factory=Budget)
    verify: bool = True
    max_error: Error = 1e-5
    out: Path = Path("exports")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds(self)
