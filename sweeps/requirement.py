"""Comparisons of parameters that a trial must satisfy to be trained, such as ``radius < blocks``.

A sweep file may come from another person, so a comparison is not evaluated as Python code. It can contain parameters,
numbers, strings, lists, arithmetic with numbers, comparisons, and logical operators.
"""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

MAX_LENGTH = 500  # characters; this also limits the size of numbers and the depth of nesting

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, items: item in items,
    ast.NotIn: lambda item, items: item not in items,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
_LOGIC = (ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.BinOp, ast.Compare,
          ast.Name, ast.Load, ast.Constant, ast.Tuple, ast.List)  # fmt: skip
_ALLOWED = (*_LOGIC, *_ARITHMETIC, *_COMPARISONS)


def param_names(text: str) -> set[str]:
    """Return the names of the parameters in a comparison.

    Raises:
        ValueError: ``text`` is not a comparison of parameters.
    """
    return {node.id for node in ast.walk(_parse(text)) if isinstance(node, ast.Name)}


def is_satisfied(text: str, params: Mapping[str, Any]) -> bool:
    """Evaluate a comparison. A comparison with a parameter that is not in ``params`` is satisfied.

    Raises:
        ValueError: The values cannot be compared.
    """
    if not param_names(text) <= set(params):
        return True
    try:
        return bool(_evaluate(_parse(text).body, params))
    except (TypeError, ArithmeticError) as error:
        raise ValueError(f"{text!r}: {error}") from None
    except RecursionError:
        raise ValueError(f"{text!r} is nested too deeply") from None


def _parse(text: str) -> ast.Expression:
    if len(text) > MAX_LENGTH:
        raise ValueError(f"{text[:60]!r}... is longer than {MAX_LENGTH} characters")
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # ValueError: a null character
        raise ValueError(f"{text!r} is not a comparison of parameters") from None
    for node in ast.walk(tree):
        if not isinstance(node, _ALLOWED):
            kind = type(node).__name__
            raise ValueError(
                f"{text!r} can use only arithmetic, comparisons, and the operators and, or, not; {kind} is not allowed"
            )
    return tree


def _evaluate(node: ast.expr, params: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return params[name]
        case ast.Tuple(elts=items) | ast.List(elts=items):
            return [_evaluate(item, params) for item in items]
        case ast.BoolOp(op=ast.And(), values=values):
            return all(_evaluate(value, params) for value in values)
        case ast.BoolOp(values=values):
            return any(_evaluate(value, params) for value in values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _evaluate(operand, params)
        case ast.UnaryOp(operand=operand):
            return -_number(_evaluate(operand, params))
        case ast.BinOp(left=left, op=operation, right=right):
            numbers = _number(_evaluate(left, params)), _number(_evaluate(right, params))
            return _ARITHMETIC[type(operation)](*numbers)
        case ast.Compare():
            return _compare(node, params)
    raise AssertionError(f"{type(node).__name__} should have been refused")


def _compare(node: ast.Compare, params: Mapping[str, Any]) -> bool:
    """Evaluate a chain of comparisons up to the first one that is false."""
    value = _evaluate(node.left, params)
    for operation, other in zip(node.ops, node.comparators, strict=True):
        following = _evaluate(other, params)
        if not _COMPARISONS[type(operation)](value, following):
            return False
        value = following
    return True


def _number(value: Any) -> float:
    """Return a number unchanged, and refuse strings and lists, whose multiplication could fill the memory."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"arithmetic needs numbers, but {value!r} is not a number")
    return value
