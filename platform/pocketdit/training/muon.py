"""Muon for the matrices of transformer blocks or for convolution kernels, and AdamW for everything else.

Muon (Jordan et al. 2024) replaces the momentum of a weight matrix with the nearest matrix whose singular values are all
equal, so the update has the same size in every direction.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, overload

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer
from typing_extensions import override

from pocketdit.config.component import Component
from pocketdit.config.importing import import_class
from pocketdit.training.precision import has_bf16_units

# The four odd polynomials a x + b x^3 + c x^5 whose composition deviates least from 1 on [0.003, 1]. By the theorem in
# "The Polar Express" (Amsel et al. 2025), each polynomial is the best one for the range of the previous polynomial's
# values. For random matrices, the mean distance between the result and the polar factor is 0.323, compared with 0.313
# for five iterations with the coefficients of Jordan et al.
COEFFICIENTS = (
    (8.3837, -24.7659, 18.3571),
    (4.0434, -3.0114, 0.5695),
    (3.5056, -2.6267, 0.5257),
    (2.4901, -1.8343, 0.4368),
)


def gram_matrix(x: Tensor) -> Tensor:
    """Return X X^T for wide matrices X, and X^T X for tall ones. Both are (B, k, k), where k is the shorter side."""
    return x.mT @ x if x.shape[1] > x.shape[2] else x @ x.mT


def polynomial(gram: Tensor, a: float, b: float, c: float) -> Tensor:
    """Return a I + b G + c G^2 for Gram matrices G of shape (B, k, k)."""
    result = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    result.diagonal(dim1=1, dim2=2).add_(a)
    return result


def orthogonalize(matrices: Tensor) -> Tensor:
    """Move the singular values of matrices close to 1 with Newton-Schulz iterations.

    Each matrix is first divided by its Frobenius norm. Singular values of at least 0.003 times this norm end up between
    0.8 and 1.2, and smaller ones are multiplied by about 290. Each iteration multiplies X by P = a I + b G + c G^2,
    where G = X X^T. The next iteration's G is then P G P, so matrices with one side at least 1.5 times as long as the
    other are multiplied only once per two iterations, which saves FLOPs. Over more than two iterations, rounding errors
    in G would grow. For a tall matrix, G is X^T X, and P multiplies from the right.

    The products use bf16 if the processor multiplies bf16 matrices faster, and the dtype of ``matrices`` otherwise. In
    bf16, singular values of small matrices may end up as low as 0.6.

    Args:
        matrices: Matrices of the same shape, (B, m, n).

    Returns:
        Matrices of the same shape and dtype.
    """
    x: Tensor = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    if has_bf16_units(matrices.device.type):
        x = x.bfloat16()
    tall = x.shape[1] > x.shape[2]
    together = 1 if max(x.shape[1:]) < 1.5 * min(x.shape[1:]) else 2
    for start in range(0, len(COEFFICIENTS), together):
        gram = gram_matrix(x)
        factor = polynomial(gram, *COEFFICIENTS[start])
        for coefficients in COEFFICIENTS[start + 1 : start + together]:
            factor = factor @ polynomial(factor @ gram @ factor, *coefficients)
        x = x @ factor if tall else factor @ x
    return x.to(matrices.dtype)


def orthogonalize_all(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Orthogonalize matrices of different shapes, stacking those that have the same shape.

    Returns:
        One matrix per input, in the same order.
    """
    by_shape: dict[torch.Size, list[int]] = {}
    for index, matrix in enumerate(matrices):
        by_shape.setdefault(matrix.shape, []).append(index)
    results = list(matrices)
    for indices in by_shape.values():
        for index, result in zip(indices, orthogonalize(torch.stack([matrices[i] for i in indices])), strict=True):
            results[index] = result
    return results


class Muon(Optimizer):
    """Optimizer that orthogonalizes Nesterov momentum and scales it to the size of a typical AdamW update.

    The scale is 0.2 sqrt(max(m, n)) (Liu et al. 2025). The steps are the same as in
    ``torch.optim.Muon(adjust_lr_fn="match_rms_adamw")``, except for the iterations in ``orthogonalize``. Convolution
    kernels are flattened to matrices with one row per output channel.
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
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                continue
            gradients = [parameter.grad for parameter in parameters]
            for parameter in parameters:
                if not self.state[parameter]:
                    self.state[parameter]["momentum"] = torch.zeros_like(parameter)
            momenta = [self.state[parameter]["momentum"] for parameter in parameters]
            torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
            nesterov = torch._foreach_lerp(gradients, momenta, group["momentum"])
            updates = orthogonalize_all([update.flatten(1) for update in nesterov])
            if group["weight_decay"]:
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            for parameter, update in zip(parameters, updates, strict=True):
                scale = 0.2 * max(update.shape) ** 0.5
                parameter.add_(update.view(parameter.shape), alpha=-group["lr"] * scale)
        return loss


class MuonAdamW(Optimizer):
    """``Muon`` for the matrices inside transformer blocks and ``torch.optim.AdamW`` for all other parameters.

    The two optimizers act as one, so the trainer counts one step per update.

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
        matrices = [(name, parameter) for name, parameter in named if self.uses_muon(name, parameter)]
        matrix_names = {name for name, _ in matrices}
        others = [(n, p) for n, p in named if n not in matrix_names]
        self.parts: dict[str, Optimizer] = {
            "muon": Muon(matrices, lr=lr, momentum=momentum, weight_decay=weight_decay),
            # The cost estimate builds the optimizer for weights on the meta device, which has no fused kernel.
            "adamw": AdamW(
                others,
                lr=adamw_lr,
                betas=betas,
                weight_decay=weight_decay,
                fused=not any(parameter.is_meta for _, parameter in others),
            ),
        }
        super().__init__([p for _, p in named], {})
        self.param_groups = [group for part in self.parts.values() for group in part.param_groups]

    @staticmethod
    def uses_muon(name: str, parameter: Tensor) -> bool:
        """Return whether Muon updates a parameter."""
        return parameter.ndim == 2 and ".blocks." in name and ".tables." not in name

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
        """Take one step of each optimizer."""
        loss = closure() if closure is not None else None
        for part in self.parts.values():
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return a mapping from the name of each optimizer to its state."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of both optimizers."""
        for name, part in self.parts.items():
            part.load_state_dict(state_dict[name])
        self.param_groups = [group for part in self.parts.values() for group in part.param_groups]


class ConvolutionMuonAdamW(MuonAdamW):
    """``Muon`` for convolution kernels and ``torch.optim.AdamW`` for all other parameters."""

    @staticmethod
    @override
    def uses_muon(name: str, parameter: Tensor) -> bool:
        return parameter.ndim == 4


def is_muon(optimizer: Component) -> bool:
    """Return whether the configured optimizer is ``MuonAdamW`` or a subclass of it."""
    cls = import_class(optimizer.class_path)
    return isinstance(cls, type) and issubclass(cls, MuonAdamW)
