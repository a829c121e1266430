from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Optional, Protocol, Union

from gallery import shards
from gallery.shards import Order
from pocketdit.config.component import Component, Supplied, build


class Decoder(Protocol):
    width: int


class Mlp:
    def __init__(self, width: int, scale: float | None = None) -> None:
        self.width, self.scale = width, scale


class Stage:
    def __init__(
        self,
        backbone: object,
        optimizer: Annotated[Component, Supplied("params")],
        decoder: Decoder,
        heads: Optional[list["Mlp"]] = None,  # noqa: UP045
        rate: Union[float, Order] = 1.0,  # noqa: UP007
    ) -> None:
        self.backbone, self.decoder, self.heads, self.rate = backbone, decoder, heads or [], rate
        self.optimizer = build(optimizer, params=[backbone])


@dataclass
class Rates:
    kinds: ClassVar[int] = 3
    low: float
    high: float = 1.0


@dataclass
class Schedule(Rates):
    steps: int = field(default=4)
    marks: list[int] = field(default_factory=list)
    total: int = field(init=False, default=0)


class Evaluated(shards.Subset):
    pass
