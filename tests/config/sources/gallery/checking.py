from __future__ import annotations

from typing import TYPE_CHECKING

from pocketdit.config.component import Component

if TYPE_CHECKING:
    from nowhere import Absent


class Typed:
    def __init__(self, part: Component, depth: int = 1) -> None:
        self.part, self.depth = part, depth


class Untyped:
    def __init__(self, absent: Absent, depth: int = 1) -> None:
        self.absent, self.depth = absent, depth
