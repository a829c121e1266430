"""Conditions on the columns of a source, such as ``aesthetic > 5.5 and lang == "en"``.

The grammar is a small subset of Python's expressions, so Python's parser can parse conditions. This module interprets
them and never executes them as code. As in SQL, a comparison with a missing value is neither true nor false.
"""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_MAX_LENGTH = 1000  # characters
_GRAMMAR = "write comparisons such as 'aesthetic > 5.5' or 'lang in [\"en\", \"de\"]', joined by and, or, and not"
_ORDER: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}

Row = Mapping[str, object]


class ConditionError(ValueError):
    """The text is not a valid condition. The message says what is wrong and what to write instead."""


@dataclass(frozen=True)
class Condition:
    """A parsed condition.

    Attributes:
        text: The text of the condition.
        columns: The columns to which the condition refers.
    """

    text: str
    columns: tuple[str, ...]

    def holds(self, row: Row) -> bool | None:
        """Return whether the condition holds, or None if that depends on a column without a value of the right type."""
        return _truth(_parse(self.text), row)


def parse_condition(text: str) -> Condition:
    """Parse a condition.

    A condition compares columns with numbers, strings, or other columns, and combines comparisons with ``and``, ``or``
    and ``not``. A column is written as its name, as ``outer.inner`` for a key of an object, or as ``row["a name"]``.
    A column that is not compared with anything is interpreted as a flag.

    Raises:
        ConditionError: The text is not a valid condition.
    """
    if len(text) > _MAX_LENGTH:
        raise ConditionError(f"is longer than {_MAX_LENGTH} characters")
    tree = _parse(text)
    columns: list[str] = []
    _check(tree, columns)
    if not columns:
        raise ConditionError(f"mentions no column; {_GRAMMAR}")
    return Condition(text, tuple(dict.fromkeys(columns)))


@lru_cache(maxsize=64)
def _parse(text: str) -> ast.expr:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConditionError(f"cannot be read ({getattr(error, 'msg', error)}); {_GRAMMAR}") from error


def _check(node: ast.expr, columns: list[str]) -> None:
    """Check that a condition contains only what the grammar allows, and add its columns to ``columns``."""
    match node:
        case ast.BoolOp(values=values):
            for value in values:
                _check(value, columns)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            _check(operand, columns)
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            for operation, operand in zip((None, *ops), (left, *comparators), strict=True):
                if isinstance(operation, ast.In | ast.NotIn):
                    _check_list(operand)
                elif isinstance(operation, None | ast.Lt | ast.LtE | ast.Gt | ast.GtE | ast.Eq | ast.NotEq):
                    _check_operand(operand, columns)
                else:
                    raise _not_allowed(node)
        case _:
            columns.append(_column_path(node)[0])


def _check_operand(node: ast.expr, columns: list[str]) -> None:
    if not _is_constant(node):
        columns.append(_column_path(node)[0])


def _check_list(node: ast.expr) -> None:
    if not (isinstance(node, ast.List | ast.Tuple) and all(map(_is_constant, node.elts))):
        raise ConditionError(f"{ast.unparse(node)!r} is not a list of numbers or strings; {_GRAMMAR}")


def _is_constant(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    return isinstance(node, ast.Constant) and isinstance(node.value, str | int | float | bool)


def _column_path(node: ast.expr) -> tuple[str, ...]:
    """Return the name of a column, followed by the keys that lead to the value inside it."""
    match node:
        case ast.Name(id=name):
            return (name,)
        case ast.Attribute(value=value, attr=key):
            return (*_column_path(value), key)
        case ast.Subscript(value=ast.Name(id="row"), slice=ast.Constant(value=str(name))):
            return (name,)
    raise _not_allowed(node)


def _not_allowed(node: ast.expr) -> ConditionError:
    return ConditionError(f"{ast.unparse(node)!r} is not allowed; {_GRAMMAR}")


def _truth(node: ast.expr, row: Row) -> bool | None:
    match node:
        case ast.BoolOp(op=ast.And(), values=values):
            return _all([_truth(value, row) for value in values])
        case ast.BoolOp(values=values):
            return _negate(_all([_negate(_truth(value, row)) for value in values]))
        case ast.UnaryOp(operand=operand):
            return _negate(_truth(operand, row))
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            operands = [left, *comparators]
            return _all([_compare(operands[i], ops[i], operands[i + 1], row) for i in range(len(ops))])
        case _:
            return _flag(_value(node, row))


def _all(values: list[bool | None]) -> bool | None:
    if False in values:
        return False
    return None if None in values else True


def _negate(value: bool | None) -> bool | None:
    return None if value is None else not value


def _flag(value: object) -> bool | None:
    if isinstance(value, str):
        return _FLAGS.get(value.strip().lower())
    return bool(value) if isinstance(value, bool | int | float) else None


def _compare(left: ast.expr, operation: ast.cmpop, right: ast.expr, row: Row) -> bool | None:
    if isinstance(operation, ast.In | ast.NotIn):
        assert isinstance(right, ast.List | ast.Tuple)
        equal = [_compare(left, ast.Eq(), item, row) for item in right.elts]
        is_in = _negate(_all([_negate(value) for value in equal])) if equal else False
        return is_in if isinstance(operation, ast.In) else _negate(is_in)
    first, second = _same_type(_value(left, row), _value(right, row))
    if first is None or second is None:
        return None
    return _ORDER[type(operation)](first, second)


def _value(node: ast.expr, row: Row) -> object:
    if _is_constant(node):
        return ast.literal_eval(node)
    name, *keys = _column_path(node)
    value = row.get(name)
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    is_missing = (isinstance(value, float) and math.isnan(value)) or (isinstance(value, str) and not value.strip())
    return None if is_missing else value


def _same_type(first: object, second: object) -> tuple[object, object]:
    """Convert both operands to numbers unless both are text. Cells of a CSV file are text even if they are numbers."""
    if isinstance(first, str) and isinstance(second, str):
        return first, second
    return _number(first), _number(second)


def _number(value: object) -> float | None:
    if isinstance(value, str):
        try:
            number = float(_FLAGS.get(value.strip().lower(), value))
        except ValueError:
            return None
        return None if math.isnan(number) else number
    return value if isinstance(value, bool | int | float) else None
