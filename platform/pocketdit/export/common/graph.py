"""A PyTorch module to convert, with its inputs and outputs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from pocketdit.quantization.palette import Palette


@dataclass(frozen=True)
class Graph:
    """A module to convert.

    Attributes:
        module: Module that takes the inputs as positional arguments.
        inputs: Example inputs, named as in the package and in the order of the module's arguments.
        outputs: Names of the outputs in the package.
        exact: Names of inputs whose path up to the first matrix product is computed in fp32, regardless of the
            precision. For the time, fp16 would change the cosines by up to 0.2 and reduce the accuracy of the
            preconditioning factors.
        palettes: Palette of each quantized layer.
    """

    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]
    exact: tuple[str, ...] = ()
    palettes: Mapping[str, Palette] = field(default_factory=dict)
