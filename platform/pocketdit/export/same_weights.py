"""Whether a package's matrices are the run's, bit for bit: in float16 one changed weight need not show in an output."""

import hashlib
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from pocketdit.errors import RunError
from pocketdit.export.interpreter import weight
from pocketdit.export.package import Package
from pocketdit.export.settings import Export

Mark = tuple[tuple[int, ...], str]
_TYPES = {"float16": torch.float16, "float32": torch.float32}


def require_same_weights(packages: Iterable[Package], weights: Mapping[str, Tensor], settings: Export) -> int:
    """How many convolutions' weights there are, each of which some package holds, rounded to the packages' precision.

    ``weights``: of the mobile form. Raises ``RunError`` naming the first that none holds.
    """
    held = {mark for package in packages for mark in _marks(package)}
    matrices = {name: value for name, value in weights.items() if value.ndim == 4 and name.endswith("weight")}
    for name, value in matrices.items():
        if _mark(value.to(_TYPES[settings.precision])) not in held:
            raise RunError(f"{name}: the packages do not hold this weight as the network has it")
    return len(matrices)


def _marks(package: Package) -> Iterable[Mark]:
    for operation in package.constants.values():
        declared = operation.outputs[operation.name]
        if len(declared.shape) == 4 and declared.dtype in ("FLOAT16", "FLOAT32"):
            yield _mark(torch.from_numpy(weight(package, operation).copy()))


def _mark(value: Tensor) -> Mark:
    """Shape and digest."""
    return tuple(value.shape), hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
