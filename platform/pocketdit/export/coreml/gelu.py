"""Replace coremltools' conversion of GELU, which ignores ``approximate="tanh"`` from torch.export.

coremltools 9.0 only looks for ``approximate`` among the positional arguments. The replacement is registered when this
module is imported.
"""

from typing import Any

from coremltools.converters.mil import Builder, register_torch_op
from coremltools.converters.mil.frontend.torch.ops import _get_inputs, _get_kwinputs

_MODES = {"none": "EXACT", "tanh": "TANH_APPROXIMATION"}


@register_torch_op(override=True)  # type: ignore[untyped-decorator]  # coremltools is untyped
def gelu(context: Any, node: Any) -> None:
    """Convert torch's gelu. ``approximate`` is a positional argument in TorchScript and a keyword in torch.export."""
    inputs = _get_inputs(context, node, min_expected=1)
    approximate = inputs[1] if len(inputs) > 1 else _get_kwinputs(context, node, "approximate", default=["none"])[0]
    mode = _MODES[getattr(approximate, "val", approximate)]  # keyword arguments are plain strings without a ``val``
    context.add(Builder.gelu(x=inputs[0], mode=mode, name=node.name))
