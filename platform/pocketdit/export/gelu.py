"""GELU by its tanh approximation for coremltools, which loses torch.export's ``approximate="tanh"``.

It looks for ``approximate`` among the positional arguments only (coremltools 9.0); importing this file mends that.
"""

from typing import Any

from coremltools.converters.mil import Builder, register_torch_op
from coremltools.converters.mil.frontend.torch.ops import _get_inputs, _get_kwinputs

_MODES = {"none": "EXACT", "tanh": "TANH_APPROXIMATION"}


@register_torch_op(override=True)
def gelu(context: Any, node: Any) -> None:
    """torch's gelu with ``approximate`` by position (TorchScript) or by name (torch.export)."""
    inputs = _get_inputs(context, node, min_expected=1)
    given = inputs[1] if len(inputs) > 1 else _get_kwinputs(context, node, "approximate", default=["none"])[0]
    mode = _MODES[getattr(given, "val", given)]  # a name's value is a string as it is
    context.add(Builder.gelu(x=inputs[0], mode=mode, name=node.name))
