"""Comparisons of choices that a trial must meet to be trained: ``radius < blocks``."""

import ast
from collections.abc import Mapping
from typing import Any

# Arithmetic, comparison and logic: nothing that calls, looks up or assigns.
ALLOWED = (ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.BinOp, ast.Add, ast.Sub,
           ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Compare, ast.cmpop, ast.Name, ast.Load, ast.Constant,
           ast.Tuple, ast.List)  # fmt: skip


def names(text: str) -> set[str]:
    """The choices that it is about. Raises ``ValueError`` where it is no such comparison."""
    return {node.id for node in ast.walk(_parse(text)) if isinstance(node, ast.Name)}


def holds(text: str, choices: Mapping[str, Any]) -> bool:
    """Whether the choices meet it; also where one that it is about is not made.

    Raises ``ValueError`` where the values cannot be compared.
    """
    if not names(text) <= set(choices):
        return True
    try:
        return bool(eval(compile(_parse(text), text, "eval"), {"__builtins__": {}}, dict(choices)))
    except (TypeError, ArithmeticError) as error:
        raise ValueError(f"{text!r}: {error}") from None


def _parse(text: str) -> ast.Expression:
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError:
        raise ValueError(f"{text!r} is not a comparison of choices") from None
    for node in ast.walk(tree):
        if not isinstance(node, ALLOWED):
            raise ValueError(f"{text!r} may hold arithmetic, comparisons, and, or, not; no {type(node).__name__}")
    return tree
