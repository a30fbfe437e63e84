"""Formulas of SBML and of PEtab's tables as expressions of SymPy, these as Python for JAX, and names for Python.

libsbml parses both kinds of formulas; none is ever run.
"""

import functools
import importlib.util
import itertools
import keyword
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bayestwin.errors import InvalidSetting
from bayestwin.model.checks import DIMENSIONS

TIME = "time"
"""The symbol of time."""


def require_packages() -> None:
    """Refuse where the extra is not installed.

    Raises:
        InvalidSetting: Naming what is missing.
    """
    missing = [name for name in ("libsbml", "sympy", "yaml") if importlib.util.find_spec(name) is None]
    if missing:
        raise InvalidSetting(
            "PEtab problems cannot be read or written here.",
            expected="the extra `petab`: python-libsbml, PyYAML and SymPy",
            received=f"no {', '.join(missing)}",
            advice="Install it: `pip install 'bayestwin[petab]'`.",
        )


class Unreadable(Exception):
    """A formula has something that no expression stands for; the text says what, after "has" or "calls"."""


def of_text(text: str) -> Any:
    """A formula of PEtab's tables: `log` is natural, `^` and `**` are powers.

    Raises:
        Unreadable: If it cannot be read.
    """
    import libsbml

    settings = libsbml.L3ParserSettings()
    settings.setParseLog(libsbml.L3P_PARSE_LOG_AS_LN)
    settings.setParseUnits(False)
    settings.setComparisonCaseSensitivity(libsbml.L3P_COMPARE_BUILTINS_CASE_SENSITIVE)
    node = libsbml.parseL3FormulaWithSettings(re.sub(r"\*\*", "^", text), settings)
    if node is None:
        message = f"a formula that cannot be read, `{text}`"
        raise Unreadable(message)
    return of_node(node)


def of_node(node: Any) -> Any:
    """A node of libsbml, and all beneath it; its ids become symbols.

    Raises:
        Unreadable: If it has delays, rates, chance, or functions that are not defined.
    """
    import libsbml
    import sympy

    kind = node.getType()
    if kind == libsbml.AST_NAME_TIME:
        return sympy.Symbol(TIME)
    if kind == libsbml.AST_NAME:
        return sympy.Symbol(node.getName())
    if kind == libsbml.AST_INTEGER:
        return sympy.Integer(node.getInteger())
    if kind in (libsbml.AST_REAL, libsbml.AST_REAL_E, libsbml.AST_NAME_AVOGADRO):
        value = node.getReal()
        return sympy.Integer(int(value)) if value == int(value) and abs(value) < 1e6 else sympy.Float(value)
    if kind == libsbml.AST_RATIONAL:
        return sympy.Rational(node.getNumerator(), node.getDenominator())
    if kind == libsbml.AST_FUNCTION_PIECEWISE:
        return _piecewise([of_node(node.getChild(n)) for n in range(node.getNumChildren())])
    if kind not in _operations():
        message = f"`{node.getName() or libsbml.formulaToL3String(node)}`, which has no formula at one time"
        raise Unreadable(message)
    logical = kind in _of_truth()
    given = [of_node(node.getChild(n)) for n in range(node.getNumChildren())]
    return _operations()[kind](*[_truth(one) if logical else _number(one) for one in given])


def _piecewise(given: list[Any]) -> Any:
    import sympy

    pairs = [(_number(value), _truth(condition)) for value, condition in zip(given[::2], given[1::2], strict=False)]
    if len(given) % 2:
        pairs.append((_number(given[-1]), sympy.true))
    return sympy.Piecewise(*pairs)


def _number(one: Any) -> Any:
    """A truth where a number is asked for: 1 or 0."""
    import sympy

    return sympy.Piecewise((1, one), (0, True)) if _is_truth(one) else one


def _truth(one: Any) -> Any:
    """A number where a truth is asked for: whether it is not 0."""
    import sympy

    return one if _is_truth(one) else sympy.Ne(one, 0)


def _is_truth(one: Any) -> bool:
    """Whether an expression is true or false; a symbol, which SymPy takes for either, is a number here."""
    import sympy

    return isinstance(one, sympy.logic.boolalg.Boolean) and not isinstance(one, sympy.Symbol)


@functools.cache
def _of_truth() -> frozenset[int]:
    import libsbml

    names = ("AND", "OR", "NOT", "XOR")
    return frozenset(getattr(libsbml, f"AST_LOGICAL_{name}") for name in names)


@functools.cache
def _operations() -> dict[int, Callable[..., Any]]:
    """What each kind of node does with its children."""
    import libsbml
    import sympy

    def chained(order: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given: sympy.And(*[order(a, b) for a, b in itertools.pairwise(given)])

    same = {name: getattr(sympy, name.lower()) for name in ("EXP", "FACTORIAL", "FLOOR", "CEILING")}
    same |= {name: getattr(sympy, name.lower()) for name in ("SIN", "COS", "TAN", "SINH", "COSH", "TANH")}
    same |= {f"ARC{name}": getattr(sympy, f"a{name.lower()}") for name in ("SIN", "COS", "TAN", "SINH", "COSH", "TANH")}
    same |= {name: getattr(sympy, name.lower()) for name in ("SEC", "CSC", "COT", "SECH", "CSCH", "COTH")}
    same |= {"ABS": sympy.Abs, "LN": sympy.log, "MIN": sympy.Min, "MAX": sympy.Max, "REM": sympy.Mod}
    found = {getattr(libsbml, f"AST_FUNCTION_{name}"): function for name, function in same.items()}
    orders = {"LT": sympy.Lt, "LEQ": sympy.Le, "GT": sympy.Gt, "GEQ": sympy.Ge, "EQ": sympy.Eq}
    found |= {getattr(libsbml, f"AST_RELATIONAL_{name}"): chained(order) for name, order in orders.items()}
    return found | {
        libsbml.AST_PLUS: lambda *given: sympy.Add(*given),
        libsbml.AST_MINUS: lambda *given: given[0] - given[1] if len(given) == 2 else -given[0],
        libsbml.AST_TIMES: lambda *given: sympy.Mul(*given),
        libsbml.AST_DIVIDE: lambda a, b: a / b,
        libsbml.AST_POWER: lambda a, b: a**b,
        libsbml.AST_FUNCTION_POWER: lambda a, b: a**b,
        libsbml.AST_FUNCTION_ROOT: lambda *given: given[-1] ** (1 / (given[0] if given[1:] else sympy.Integer(2))),
        libsbml.AST_FUNCTION_LOG: lambda *given: sympy.log(given[-1]) / sympy.log(given[0] if len(given) == 2 else 10),
        libsbml.AST_FUNCTION_QUOTIENT: lambda a, b: sympy.sign(a * b) * sympy.floor(sympy.Abs(a / b)),
        libsbml.AST_CONSTANT_E: lambda: sympy.E,
        libsbml.AST_CONSTANT_PI: lambda: sympy.pi,
        libsbml.AST_CONSTANT_TRUE: lambda: sympy.true,
        libsbml.AST_CONSTANT_FALSE: lambda: sympy.false,
        libsbml.AST_RELATIONAL_NEQ: sympy.Ne,
        libsbml.AST_LOGICAL_AND: sympy.And,
        libsbml.AST_LOGICAL_OR: sympy.Or,
        libsbml.AST_LOGICAL_NOT: sympy.Not,
        libsbml.AST_LOGICAL_XOR: sympy.Xor,
    }


# What is written: Python that JAX runs, in lines that can be read.

WIDTH = 116


class Names:
    """Python's names of the ids of a problem, no two alike."""

    def __init__(self) -> None:
        """None so far."""
        self._of: dict[str, str] = {}

    def __getitem__(self, identifier: str) -> str:
        """The name of an id; the same each time."""
        if identifier not in self._of:
            base = re.sub(r"[^A-Za-z0-9_]", "_", identifier).lstrip("_") or "quantity"
            if base[0].isdigit():
                base = f"n_{base}"
            if keyword.iskeyword(base) or base in DIMENSIONS:
                base = f"{base}_"
            taken, name, number = set(self._of.values()), base, 1
            while name in taken:
                number += 1
                name = f"{base}_{number}"
            self._of[identifier] = name
        return self._of[identifier]

    def renamed(self) -> dict[str, str]:
        """Ids that could not stay as they were."""
        return {identifier: name for identifier, name in self._of.items() if identifier != name}


@functools.cache
def _printer() -> Any:
    """SymPy's printer for JAX, with comparisons and choices as people write them."""
    from sympy.printing.numpy import JaxPrinter

    class Readable(JaxPrinter):
        def _print_Float(self, expr: Any) -> str:
            value = repr(float(expr))
            return value if value[-1].isdigit() else f"jnp.{value.lstrip('-')}"

        def _print_Rational(self, expr: Any) -> str:
            return repr(float(expr))

        def _print_Piecewise(self, expr: Any) -> str:
            text = "jnp.nan"
            for value, condition in reversed(expr.args):
                own = self._print(value)
                text = own if condition == True else f"jnp.where({self._print(condition)}, {own}, {text})"  # noqa: E712
            return text

        def _print_Relational(self, expr: Any) -> str:
            return f"({self._print(expr.lhs)} {expr.rel_op} {self._print(expr.rhs)})"

        def _print_And(self, expr: Any) -> str:
            return f"({' & '.join(self._print(one) for one in expr.args)})"

        def _print_Or(self, expr: Any) -> str:
            return f"({' | '.join(self._print(one) for one in expr.args)})"

        def _print_Not(self, expr: Any) -> str:
            return f"~{self._print(expr.args[0])}"

        def _print_Max(self, expr: Any) -> str:
            return self._nested("jnp.maximum", expr.args)

        def _print_Min(self, expr: Any) -> str:
            return self._nested("jnp.minimum", expr.args)

        def _nested(self, function: str, arguments: Iterable[Any]) -> str:
            first, *rest = map(self._print, arguments)
            return functools.reduce(lambda one, other: f"{function}({one}, {other})", rest, first)

    return Readable({"fully_qualified_modules": True})


def written(expression: Any, symbols: Mapping[Any, str]) -> str:
    """An expression as Python; `symbols` are what its ids are called there."""
    import sympy

    named = expression.xreplace({one: sympy.Symbol(symbols[one]) for one in expression.free_symbols})
    return str(_printer().doprint(named)).replace("jax.numpy.", "jnp.")


def wrapped(text: str, indent: int, first: str = "") -> str:
    """A long expression over several lines, in parentheses where it has none; a short one as it is.

    Args:
        text: The expression, which has blanks only where a line may end.
        indent: Of the line that it stands in.
        first: What stands before it in that line.
    """
    if len(first) + len(text) + indent <= WIDTH:
        return first + text
    deeper = " " * (indent + 4)
    filled = textwrap.fill(
        text, WIDTH, initial_indent=deeper, subsequent_indent=deeper, break_long_words=False, break_on_hyphens=False
    )
    return f"{first}(\n{filled}\n{' ' * indent})"


def comment(text: str) -> str:
    """Words of a file as they may stand in a comment or a docstring: one line, without quotes and backslashes."""
    return re.sub(r"[\\\"\x00-\x1f]", "", " ".join(text.split()))
