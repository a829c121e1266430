"""Muon for the blocks' matrices, AdamW for everything else, as one optimizer."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class MuonAdamW(Optimizer):
    """``torch.optim.Muon`` on the matrices inside transformer blocks and ``torch.optim.AdamW`` on the rest.

    One optimizer to the trainer, so that a step counts once. Muon's updates are scaled to AdamW's usual size
    (``match_rms_adamw``). Muon orthogonalises whole matrices: not for weights sharded over devices.

    ``params``: (name, parameter) pairs. ``lr``: of Muon; ``adamw_lr``: of AdamW.
    """

    def __init__(
        self,
        params: Iterable[tuple[str, Tensor]],
        lr: float = 2e-3,
        adamw_lr: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        named = list(params)
        matrices = [(n, p) for n, p in named if p.ndim == 2 and ".blocks." in n and ".tables." not in n]
        inside = {name for name, _ in matrices}
        rest = [(n, p) for n, p in named if n not in inside]
        self.parts: dict[str, Optimizer] = {
            "muon": torch.optim.Muon(
                matrices, lr=lr, momentum=momentum, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
            ),
            "adamw": torch.optim.AdamW(rest, lr=adamw_lr, betas=betas, weight_decay=weight_decay),
        }
        super().__init__([p for _, p in named], {})
        self.param_groups = [group for part in self.parts.values() for group in part.param_groups]

    @property  # type: ignore[override]
    def state(self) -> dict[Tensor, Any]:
        return {key: value for part in self.parts.values() for key, value in part.state.items()}

    @state.setter
    def state(self, value: Any) -> None:
        """The parts hold the state; the base class's empty one is dropped."""

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = closure() if closure is not None else None
        for part in self.parts.values():
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, part in self.parts.items():
            part.load_state_dict(state_dict[name])
        self.param_groups = [group for part in self.parts.values() for group in part.param_groups]
