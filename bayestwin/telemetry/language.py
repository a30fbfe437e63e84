"""A small language over columns: numbers, quantities with units, arithmetic, comparisons and a few functions.

It is read into a tree of known pieces, never evaluated as Python: what is not listed here is an error.
"""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bayestwin._base.units import registry

FUNCTIONS: Mapping[str, tuple[int, Callable[..., Any]]] = {
    "abs": (1, np.abs),
    "sqrt": (1, np.sqrt),
    "exp": (1, np.exp),
    "log": (1, np.log),
    "sin": (1, np.sin),
    "cos": (1, np.cos),
    "min": (2, np.minimum),
    "max": (2, np.maximum),
}
"""By name, how many arguments each takes, and what it computes."""

OPERATORS: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}

LONGEST, MOST = 1000, 200
"""Characters and pieces of an expression, at most."""

ALLOWED = (
    "columns, numbers, quantities in quotes such as '4186 J/(kg K)', + - * / **, < <= > >=, brackets, and "
    + ", ".join(f"{name}({', '.join('xy'[:number])})" for name, (number, _) in FUNCTIONS.items())
)


def parse(text: str) -> tuple[ast.expr, tuple[str, ...], bool]:
    """Read an expression.

    Returns:
        Its tree, the columns that it names, and whether there are quantities with units in it.

    Raises:
        ValueError: Naming the piece that is not allowed.
    """
    if len(text) > LONGEST:
        message = f"{len(text)} characters, where {LONGEST} are allowed"
        raise ValueError(message)
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError) as reason:
        message = f"`{text}`, which does not read as an expression ({reason})"
        raise ValueError(message) from reason
    if (pieces := sum(1 for _ in ast.walk(tree))) > MOST:
        message = f"{pieces} pieces, where {MOST} are allowed"
        raise ValueError(message)
    columns = dict.fromkeys(_named(tree))
    quantities = any(isinstance(node, ast.Constant) and isinstance(node.value, str) for node in ast.walk(tree))
    return tree, tuple(columns), quantities


def evaluate(tree: ast.expr, columns: Mapping[str, Any]) -> Any:
    """The value of an expression that was read.

    Args:
        tree: As `parse` gave it.
        columns: Arrays or quantities by name.

    Raises:
        pint.PintError: Where units do not fit together.
    """
    match tree:
        case ast.Name(id=name):
            return columns[name]
        case ast.Constant(value=str(text)):
            return registry().Quantity(text)
        case ast.Constant(value=value):
            return np.float64(value)  # type: ignore[arg-type]
        case ast.UnaryOp(op=sign, operand=inner):
            value = evaluate(inner, columns)
            return -value if isinstance(sign, ast.USub) else value
        case ast.BinOp(left=left, op=sign, right=right):
            return OPERATORS[type(sign)](evaluate(left, columns), evaluate(right, columns))
        case ast.Compare(left=left, ops=[sign], comparators=[right]):
            return OPERATORS[type(sign)](evaluate(left, columns), evaluate(right, columns)) * 1.0
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return FUNCTIONS[name][1](*(evaluate(one, columns) for one in arguments))
    message = f"no such piece: {ast.dump(tree)}"
    raise AssertionError(message)  # `parse` lets nothing else through


def _named(tree: ast.AST) -> list[str]:
    """The columns that a tree names, each piece of it looked at."""
    match tree:
        case ast.Name(id=name):
            return [name]
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=str(text)):
            _check_quantity(text)
            return []
        case ast.Constant(value=int() | float() as number) if abs(number) < 1e300:
            return []
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=inner):
            return _named(inner)
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in OPERATORS:
            return [*_named(left), *_named(right)]
        case ast.Compare(left=left, ops=[sign], comparators=[right]) if type(sign) in OPERATORS:
            return [*_named(left), *_named(right)]
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            if len(arguments) == FUNCTIONS[name][0]:
                return [column for one in arguments for column in _named(one)]
    message = f"`{ast.unparse(tree)}`"
    raise ValueError(message)


def _check_quantity(text: str) -> None:
    try:
        float(registry().Quantity(text).magnitude)
    except Exception as reason:  # pint raises errors of many unrelated kinds for malformed text
        message = f"'{text}', which is no quantity that pint knows"
        raise ValueError(message) from reason
