"""Muon for the blocks' matrices, AdamW for everything else, as one optimizer.

Muon (Jordan et al. 2024) replaces a matrix's momentum by the nearest matrix with equal singular values, so that
every direction moves alike.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from pocketdit.training.precision import has_bf16_units

# Quintic iteration that lifts all singular values near 1 in five rounds (Jordan et al. 2024).
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ROUNDS = 5


def orthogonalize(matrix: Tensor) -> Tensor:
    """The matrix with its singular values drawn to about 1 (0.7 to 1.2), by Newton-Schulz. (m, n) -> (m, n).

    X <- a X + b (X X^T) X + c (X X^T)^2 X, in bf16 where the processor multiplies that faster (as
    ``torch.optim.Muon`` does everywhere), else in the gradient's own precision.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalize(matrix.T).T
    a, b, c = COEFFICIENTS
    x = matrix.bfloat16() if has_bf16_units(matrix.device.type) else matrix
    x = x / x.norm().clamp_min(1e-7)
    for _ in range(ROUNDS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.to(matrix.dtype)


class Muon(Optimizer):
    """Nesterov momentum, orthogonalized, at the size of AdamW's usual update: 0.2 sqrt(max(m, n)) (Liu et al. 2025).

    The same steps as ``torch.optim.Muon(adjust_lr_fn="match_rms_adamw")``, in the weights' precision.
    """

    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                update = orthogonalize(parameter.grad.lerp(momentum, group["momentum"]))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * 0.2 * max(parameter.shape) ** 0.5)
        return loss


class MuonAdamW(Optimizer):
    """``Muon`` on the matrices inside transformer blocks and ``torch.optim.AdamW`` on the rest.

    One optimizer to the trainer, so that a step counts once. Muon needs whole matrices: not for weights sharded
    over devices.

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
            "muon": Muon(matrices, lr=lr, momentum=momentum, weight_decay=weight_decay),
            "adamw": AdamW(rest, lr=adamw_lr, betas=betas, weight_decay=weight_decay),
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
