from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

LIMIT = 1000
Order = Literal["shuffled", "sorted"]


class ShardData:
    def __init__(
        self,
        path: Annotated[Path, "exists"],
        batch_size: int = 32,
        *,
        order: Order = "shuffled",
        sizes: Sequence[tuple[int, int]] = (),
        weights: Mapping[str, float] | None = None,
        limit: int = LIMIT,
    ) -> None:
        if batch_size < 1:
            raise ValueError("batch_size must\nbe at least 1")
        self.path, self.batch_size, self.order, self.weights = path, batch_size, order, weights


class Subset(ShardData):
    """Has the same arguments as ``ShardData``."""


class Extra:
    def __init__(self, first, second=None, **rest: Any) -> None:  # type: ignore[no-untyped-def]
        self.first, self.second, self.rest = first, second, rest
