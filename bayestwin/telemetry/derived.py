"""What every feature is, the columns and lengths of time it is computed from, and the small language of expressions."""

import abc
import ast
import dataclasses
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pandas as pd

from bayestwin._base.units import registry
from bayestwin.errors import InvalidTelemetry
from bayestwin.telemetry.record import Zone
from bayestwin.telemetry.times import counted, length_of

# A small language over columns: numbers, quantities with units, arithmetic, comparisons and a few functions.
#
# It is read into a tree of known pieces, never evaluated as Python: what is not listed here is an error.

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


SLACK = 1e-9
"""Share of a length of time that counts as nothing, where times are numbers."""


@dataclasses.dataclass(frozen=True)
class RecordedColumns:
    """What a feature is computed from.

    Attributes:
        name: Of the feature, for messages.
        index: Times, dates or numbers, increasing; shape (n,).
        columns: What was recorded, and features made before; NaN is missing; shape (n,) each.
        units: Unit of each column where it is known, and of `time` where times are numbers.
        strict: Whether a feature without any value is an error, and functions are checked for looking ahead.
        zone: Declared for the telemetry: moments without an offset are on its clock.
    """

    name: str
    index: pd.Index
    columns: Mapping[str, np.ndarray]
    units: Mapping[str, str]
    strict: bool = True
    zone: Zone = None

    @property
    def dated(self) -> bool:
        """Whether times are dates."""
        return isinstance(self.index, pd.DatetimeIndex)

    @property
    def times(self) -> np.ndarray:
        """Times as numbers: dates in whole nanoseconds, others as they are; shape (n,)."""
        return counted(self.index)

    def values(self, column: str) -> np.ndarray:
        """A column.

        Raises:
            InvalidTelemetry: If there is none of that name.
        """
        if column in self.columns:
            return self.columns[column]
        there = ", ".join(f"`{name}`" for name in self.columns)
        return self.refuse(
            f"is made of `{column}`, which is no column.",
            expected=f"one of {there}",
            received=f"`{column}`",
            advice="A feature may be made of columns, by their names in the twin, and of features declared before it.",
        )

    def length(self, argument: str, value: str | float, *, zero: bool = False) -> int | float:
        """A length of time: whole nanoseconds for dates, else a number.

        Args:
            argument: What it is for, for messages.
            value: `"1h"` for dates, a number for times that are numbers.
            zero: Whether it may be nothing.

        Raises:
            InvalidTelemetry: If it is no length of time, or a negative one.
        """
        expected = "a duration such as `'1h'`" if self.dated else "a number, in the unit of the times"
        found = length_of(value, dated=self.dated)
        if found is None:
            self.refuse(f"has no length of time for `{argument}`.", expected, repr(value), "Correct it.")
        if found < 0:
            self.refuse(
                f"looks ahead: its `{argument}` is negative.",
                expected="at time t nothing but what was recorded at or before t",
                received=f"`{argument}={value!r}`",
                advice="Leads are not known when they are needed. For a value from before, give a positive length.",
            )
        if found == 0 and not zero:
            self.refuse(f"has a `{argument}` of nothing.", f"{expected}, above zero", repr(value), "Correct it.")
        return found

    def slack(self, length: float) -> np.ndarray:
        """Within which times that are numbers are the same; zero for dates; shape (n,)."""
        if self.dated:
            return np.zeros(len(self.index), dtype=np.int64)
        return SLACK * length + 4.0 * np.spacing(np.abs(self.times))

    def refuse(self, problem: str, expected: str, received: str, advice: str) -> NoReturn:
        """Raise the error that a feature cannot be made."""
        raise InvalidTelemetry(f"Feature `{self.name}` {problem}", expected=expected, received=received, advice=advice)


class FeatureColumn(NamedTuple):
    """What a feature is.

    Attributes:
        values: NaN where there is none; shape (n,).
        unit: Where it is known; `""` for none.
        until: Where statistics over a part of the record are in it, the end of that part.
    """

    values: np.ndarray
    unit: str | None
    until: Any = None


class Feature(abc.ABC):
    """A column that is made of others: at time t of what they were at `t - delay` and before.

    Attributes:
        delay: As text or number, as `RecordedColumns.length` takes it; None for none.
    """

    delay: str | float | None = None

    @property
    @abc.abstractmethod
    def made_of(self) -> tuple[str, ...]:
        """The columns that it is made of."""

    def waits(self, record: RecordedColumns) -> int | float:
        """How old the newest value is that counts, its delay, counted as `record.times`."""
        return record.length("delay", self.delay, zero=True) if self.delay is not None else 0

    @abc.abstractmethod
    def compute(self, record: RecordedColumns) -> FeatureColumn:
        """The feature at all times of a record.

        Raises:
            InvalidTelemetry: If it cannot be made, or would look ahead.
        """
