"""Adds a conversion to coremltools for the ``alias`` operation, to which torch.export reduces slices of whole tensors.

CLIP's text model contains an ``alias`` operation if a prompt has as many tokens as the model has positions. The
conversion is registered when this module is imported.
"""

from typing import Any

from coremltools.converters.mil import Builder, register_torch_op
from coremltools.converters.mil.frontend.torch.ops import _get_inputs


@register_torch_op(override=True)  # type: ignore[untyped-decorator]  # coremltools is untyped
def alias(context: Any, node: Any) -> None:
    """Convert torch's ``alias`` to an identity operation, which a later pass removes."""
    (value,) = _get_inputs(context, node, expected=1)
    context.add(Builder.identity(x=value, name=node.name))
