"""Convert a torch.export program to float16, except for parts that need float32.

Core AI computes in the types that the program declares, so this conversion determines the precision of the arithmetic.
The program's inputs and outputs remain float32. coreai-opt has a similar pass, but that pass first rounds all constants
and inputs to float16, including constants and inputs of the parts that stay in float32.
"""

import operator
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Node

_ATEN = torch.ops.aten
_MATRIX_PRODUCTS = {
    _ATEN.convolution.default, _ATEN.addmm.default, _ATEN.mm.default, _ATEN.bmm.default, _ATEN.linear.default,
    _ATEN.scaled_dot_product_attention.default,
}  # fmt: skip


def convert_to_float16(
    program: ExportedProgram, exact: Collection[int], keep: Callable[[Node], bool] = lambda node: False
) -> None:
    """Change the floating-point types of a program in place.

    Args:
        program: A program whose floating-point tensors are float32.
        exact: Positions of inputs whose path up to the first matrix product stays in float32.
        keep: Function that selects further operations that stay in float32.
    """
    inputs = [node for node in program.graph.nodes if node.op == "placeholder"]
    kinds = {spec.arg.name: spec.kind for spec in program.graph_signature.input_specs}
    user_inputs = [node for node in inputs if kinds[node.name] is InputKind.USER_INPUT]
    float32 = exact_path(program, [user_inputs[position] for position in exact])
    float32 |= {node for node in program.graph.nodes if node.op == "call_function" and keep(node)}
    for node in inputs:
        if node not in user_inputs and _is_float32(node) and not any(user in float32 for user in node.users):
            _round_constant(program, node)
    casts: dict[tuple[Node, torch.dtype], Node] = {}
    for node in list(program.graph.nodes):
        if node.op == "call_function":
            _set_type(node, torch.float32 if node in float32 else torch.float16, casts)
    _restore_outputs(program, casts)
    program.graph.eliminate_dead_code()
    program.graph_module.recompile()


def exact_path(program: ExportedProgram, inputs: Collection[Node]) -> set[Node]:
    """Return the operations that depend on the inputs without a matrix product in between."""
    path = set(inputs)
    for node in program.graph.nodes:
        if node.op == "call_function" and node.target not in _MATRIX_PRODUCTS and path & set(node.all_input_nodes):
            path.add(node)
    return path


def _value(node: Node) -> Any:
    return node.meta.get("val")


def _is_float32(node: Node) -> bool:
    value = _value(node)
    return isinstance(value, Tensor) and value.dtype is torch.float32


def _round_constant(program: ExportedProgram, node: Node) -> None:
    """Round a parameter, a buffer or a constant to float16."""
    (target,) = [spec.target for spec in program.graph_signature.input_specs if spec.arg.name == node.name]
    assert target is not None
    store: Any = program.state_dict if target in program.state_dict else program.constants
    rounded = store[target].detach().half()
    store[target] = torch.nn.Parameter(rounded, False) if isinstance(store[target], torch.nn.Parameter) else rounded
    node.meta["val"] = _value(node).half()


def _set_type(node: Node, dtype: torch.dtype, casts: dict[tuple[Node, torch.dtype], Node]) -> None:
    """Make an operation compute in ``dtype``, and cast its inputs if necessary."""
    if node.target is operator.getitem:
        node.meta["val"] = _value(node.args[0])[node.args[1]]  # type: ignore[arg-type]  # the argument is a node
        return
    for source in node.all_input_nodes:
        value = _value(source)
        if isinstance(value, Tensor) and value.is_floating_point() and value.dtype is not dtype:
            node.replace_input_with(source, _cast(source, dtype, casts))
    if node.kwargs.get("dtype") is torch.float32:
        node.kwargs = {**node.kwargs, "dtype": dtype}
    value = _value(node)
    if isinstance(value, Tensor):
        node.meta["val"] = _in_type(value, dtype)
    elif isinstance(value, list | tuple):
        node.meta["val"] = type(value)(_in_type(part, dtype) for part in value)


def _in_type(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


def _cast(source: Node, dtype: torch.dtype, casts: dict[tuple[Node, torch.dtype], Node]) -> Node:
    """Return a node with the value of ``source`` in another type. Each node is cast to each type only once."""
    if (source, dtype) not in casts:
        last = source
        while last.next.op == "placeholder":
            last = last.next
        with source.graph.inserting_after(last):
            cast = source.graph.call_function(_ATEN._to_copy.default, (source,), {"dtype": dtype})
        cast.meta["val"] = _value(source).to(dtype)
        casts[source, dtype] = cast
    return casts[source, dtype]


def _restore_outputs(program: ExportedProgram, casts: dict[tuple[Node, torch.dtype], Node]) -> None:
    """Make the program return all outputs in float32."""
    output = program.graph.output_node()
    (values,) = output.args
    assert isinstance(values, list | tuple)
    restored = [value if _is_float32(value) else _cast(value, torch.float32, casts) for value in values]  # type: ignore[arg-type]
    output.args = (tuple(restored),)
    for spec, value in zip(program.graph_signature.output_specs, restored, strict=True):
        spec.arg.name = value.name  # type: ignore[union-attr]  # outputs are tensors
