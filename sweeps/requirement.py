"""Comparisons of parameters that a trial must satisfy to be trained, such as ``radius < blocks``."""

import ast
from collections.abc import Mapping
from typing import Any

# Only arithmetic, comparisons, and logic: no calls, attribute access, or assignments.
ALLOWED = (ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.BinOp, ast.Add, ast.Sub,
           ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Compare, ast.cmpop, ast.Name, ast.Load, ast.Constant,
           ast.Tuple, ast.List)  # fmt: skip


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
        return bool(eval(compile(_parse(text), text, "eval"), {"__builtins__": {}}, dict(params)))
    except (TypeError, ArithmeticError) as error:
        raise ValueError(f"{text!r}: {error}") from None


def _parse(text: str) -> ast.Expression:
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError:
        raise ValueError(f"{text!r} is not a comparison of parameters") from None
    for node in ast.walk(tree):
        if not isinstance(node, ALLOWED):
            kind = type(node).__name__
            raise ValueError(f"{text!r} can only use arithmetic, comparisons, and, or, not; {kind} is not allowed")
    return tree
