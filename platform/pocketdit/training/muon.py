"""Muon for the matrices of the transformer blocks and AdamW for everything else, as one optimizer.

Muon (Jordan et al. 2024) replaces the momentum of a matrix with the nearest matrix whose singular values are all equal,
so the update has the same size in every direction.
"""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, overload

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from pocketdit.config.component import Component
from pocketdit.config.importing import import_class
from pocketdit.training.precision import has_bf16_units

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ROUNDS = 5


def orthogonalize(matrix: Tensor) -> Tensor:
    """Move the singular values of a matrix close to 1 (0.7 to 1.2) with Newton-Schulz iterations.

    Each iteration computes X <- a X + b (X X^T) X + c (X X^T)^2 X. It uses bf16 if the processor multiplies bf16
    matrices faster, and the precision of ``matrix`` otherwise. (``torch.optim.Muon`` always uses bf16.)

    Args:
        matrix: Matrix of shape (m, n).

    Returns:
        A matrix of the same shape and dtype.
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
    """Optimizer that orthogonalizes Nesterov momentum and scales it to the size of a typical AdamW update.

    The scale is 0.2 sqrt(max(m, n)) (Liu et al. 2025). The steps are those of
    ``torch.optim.Muon(adjust_lr_fn="match_rms_adamw")``, except for the precision of ``orthogonalize``.
    """

    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update all parameters that have a gradient."""
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
    """``Muon`` for the matrices inside transformer blocks and ``torch.optim.AdamW`` for all other parameters.

    The two act as a single optimizer, so the trainer counts one step per update.

    Args:
        params: (name, parameter) pairs.
        lr: Learning rate of Muon.
        adamw_lr: Learning rate of AdamW.
        momentum: Momentum of Muon.
        betas: Betas of AdamW.
        weight_decay: Weight decay of both optimizers.

    Attributes:
        supports_sharding: False because Muon needs complete matrices.
    """

    supports_sharding: ClassVar[bool] = False

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
        matrix_names = {name for name, _ in matrices}
        others = [(n, p) for n, p in named if n not in matrix_names]
        self.parts: dict[str, Optimizer] = {
            "muon": Muon(matrices, lr=lr, momentum=momentum, weight_decay=weight_decay),
            "adamw": AdamW(others, lr=adamw_lr, betas=betas, weight_decay=weight_decay),
        }
        super().__init__([p for _, p in named], {})
        self.param_groups = [group for part in self.parts.values() for group in part.param_groups]

    @property  # type: ignore[override]  # a plain attribute in the base class
    def state(self) -> dict[Tensor, Any]:
        """The state of both optimizers."""
        return {key: value for part in self.parts.values() for key, value in part.state.items()}

    @state.setter
    def state(self, value: Any) -> None:
        """Ignore the empty state that the base class assigns. The parts contain the actual state."""

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Step both optimizers."""
        loss = closure() if closure is not None else None
        for part in self.parts.values():
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the state of each optimizer by name."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of both optimizers."""
        for name, part in self.parts.items():
            part.load_state_dict(state_dict[name])
        self.param_groups = [group for part in self.parts.values() for group in part.param_groups]


def is_muon(optimizer: Component) -> bool:
    """Return whether the configured optimizer is ``MuonAdamW`` or a subclass of it."""
    cls = import_class(optimizer.class_path)
    return isinstance(cls, type) and issubclass(cls, MuonAdamW)
