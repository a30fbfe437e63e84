"""Where a user's function cannot be traced: its line, and that line as it should be written for JAX.

Source text is read and rewritten, never run. Which values are traced is seen in the frame that raised.
"""

import ast
import builtins
import linecache
import math
import pathlib
import sys
import sysconfig
import textwrap
import traceback
import types
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

MOST_LINES = 6
"""Lines of one statement that are shown; of a longer one those where it failed."""

_SPECIAL = "jax.scipy.special"
_OWN = {"fabs": "abs", "pow": "power"}
_OF_MATH = {"gamma": "gamma", "lgamma": "gammaln", "erf": "erf", "erfc": "erfc"}
_REDUCED = {max: "max", min: "min", any: "any", all: "all", sorted: "sort"}
_UPDATED: dict[type, str] = {ast.Add: "add", ast.Mult: "multiply", ast.Div: "divide", ast.Pow: "power"}


class FailedLine(NamedTuple):
    """Where something was raised.

    Attributes:
        file: Of the user's.
        number: Of the line, from 1.
        text: The source there, as it stands; empty where Python does not have it.
        written: The same as it should be written; empty where nobody knows.
        needed: Whether it fails because it needs a value, which is not there when a function is traced.
        advice: What to know about that, in a sentence or two.
    """

    file: str
    number: int
    text: str
    written: str
    needed: bool
    advice: str = "It needs a value, and values are there only when the twin is solved; `jax.numpy` can wait for them."


def find_line(reason: BaseException) -> FailedLine | None:
    """The innermost line of the user's own that an exception passed through; None where there is none."""
    walked = zip(traceback.walk_tb(reason.__traceback__), traceback.extract_tb(reason.__traceback__), strict=True)
    own = [(frame, summary) for (frame, _), summary in walked if _is_user(summary.filename)]
    if not own:
        return None
    frame, at = own[-1]
    number = at.lineno or 0
    needed = isinstance(reason, jax.errors.JAXTypeError | jax.errors.JAXIndexError) or _asks_for_values(reason)
    lines = linecache.getlines(at.filename, frame.f_globals)
    line = FailedLine(at.filename, number, (at.line or "").strip(), "", needed)
    try:
        tree = ast.parse("".join(lines))
    except (SyntaxError, ValueError):
        return line
    start = (number, at.colno or 0)
    end = (at.end_lineno or number, at.end_colno or at.colno or 0)
    around = _around(tree, start, end)
    if around is None:
        return line
    writer = _Writer(lines, frame)
    text, written = writer.lines_of(around, (number, end[0])) if needed else ("", "")
    advice = " ".join([writer.advice(around, line.advice), *writer.imports(written)])
    return line._replace(text=text or line.text, written=written if written != text else "", advice=advice)


def _is_user(file: str) -> bool:
    """Whether a file is neither of this package nor of what is installed."""
    paths = sysconfig.get_paths()
    installed = (str(pathlib.Path(__file__).parents[1]), paths["purelib"], paths["platlib"], paths["stdlib"])
    return not file.startswith((*installed, "<frozen", jax.__path__[0], np.__path__[0]))


def _asks_for_values(reason: BaseException) -> bool:
    """Whether something was assigned to that keeps its values, or several values were asked for one answer."""
    told = str(reason)
    return isinstance(reason, TypeError | AttributeError | ValueError) and (
        "immutable" in told
        or "item assignment" in told
        or "can't set attribute" in told
        or "setting an array element with a sequence" in told
        or "truth value of an array" in told
    )


class _Around(NamedTuple):
    """What is rewritten: the innermost statement or lambda, what follows it, and the function that it is in."""

    node: ast.stmt | ast.Lambda
    following: Sequence[ast.stmt]
    function: ast.AST


def _around(tree: ast.AST, start: tuple[int, int], end: tuple[int, int]) -> _Around | None:
    found: _Around | None = None
    function: ast.AST = tree

    def visit(node: ast.AST, following: Sequence[ast.stmt]) -> None:
        nonlocal found, function
        if isinstance(node, ast.stmt | ast.Lambda):
            first, last = (node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)
            first = min([first, *((one.lineno, 0) for one in getattr(node, "decorator_list", ()))])
            if not (first <= start and end <= last):
                return
            found = _Around(node, following, function)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = node
        for _, held in ast.iter_fields(node):
            parts = held if isinstance(held, list) else [held]
            for place, part in enumerate(parts):
                if isinstance(part, ast.AST):
                    visit(part, parts[place + 1 :] if isinstance(part, ast.stmt) else [])

    visit(tree, [])
    return found


class _Writer:
    """Source text in which what JAX cannot trace is replaced."""

    def __init__(self, lines: Sequence[str], frame: types.FrameType) -> None:
        self.text = "".join(lines).encode()  # columns of a syntax tree count bytes
        sizes = [len(line.encode()) for line in lines]
        self.starts = [sum(sizes[:number]) for number in range(len(sizes) + 1)]
        self.names: Mapping[str, Any] = ChainMap(dict(frame.f_locals), frame.f_globals, dict(vars(builtins)))
        own = [name for name, value in self.names.items() if value is jnp]
        self.jnp = own[0] if own else "jnp"

    def imports(self, written: str) -> list[str]:
        """What has to be imported beyond what the file has, in a sentence."""
        wanted = {"jnp.": ("import jax.numpy as jnp", jnp), f"{_SPECIAL}.": ("import jax", jax)}
        missing = [
            words
            for name, (words, module) in wanted.items()
            if name in written and not any(value is module for value in self.names.values())
        ]
        return [f"It takes `{'; '.join(missing)}`."] if missing else []

    def advice(self, around: _Around, usual: str) -> str:
        """What to know about a statement that needs a value."""
        match around.node:
            case ast.Assert():
                return "Values are there only when the twin is solved, and cannot be asserted: leave the line out."
            case ast.While() | ast.For():
                return f"{usual} How often a loop turns has to be known: as often as it may ever have to."
            case ast.Assign(targets=[target, *_]) | ast.AugAssign(target=target) if isinstance(
                target, ast.Subscript | ast.Attribute
            ):
                if hasattr(self.value(target.value), "_fields"):
                    return "States, parameters and inputs keep their values: give the new value a name of its own."
                return "Arrays of JAX keep their values: a new one is made, with a part of it changed."
        return usual

    def lines_of(self, around: _Around, failed: tuple[int, int]) -> tuple[str, str]:
        """A statement as it stands and as it should be written, without indentation; the second one may be empty."""
        node = around.node
        if (written := self._statement(around)) is not None:
            last = node.end_lineno or node.lineno
            whole = "…, …" not in written and last - node.lineno < MOST_LINES
            return self._as_it_stands(node.lineno, last if whole else failed[1]), written
        if isinstance(node, ast.Assert | ast.For):
            return self._as_it_stands(*failed), ""
        edits = self._edits(node)
        spans = [(self._line_at(first), self._line_at(last)) for first, last, _ in edits]
        if spans and max(last for _, last in spans) - min(first for first, _ in spans) >= MOST_LINES:
            near = [i for i, (first, last) in enumerate(spans) if first <= failed[1] and failed[0] <= last]
            edits, spans = [edits[i] for i in near], [spans[i] for i in near]
        if not edits or any(last - first >= 2 * MOST_LINES for first, last in spans):
            return self._as_it_stands(failed[0], min(failed[1], failed[0] + MOST_LINES)), ""
        first, last = min(first for first, _ in spans), max(last for _, last in spans)
        ends = self.starts[first - 1], self.starts[last]
        return self._as_it_stands(first, last), _plain(self._spliced(*ends, edits))

    def _as_it_stands(self, first: int, last: int) -> str:
        return _plain(self.text[self.starts[first - 1] : self.starts[last]].decode())

    def _line_at(self, place: int) -> int:
        return sum(start <= place for start in self.starts)

    def _span(self, node: Any) -> tuple[int, int]:
        first = self.starts[node.lineno - 1] + node.col_offset
        return first, self.starts[node.end_lineno - 1] + node.end_col_offset

    def _spliced(self, start: int, end: int, edits: Sequence[tuple[int, int, str]]) -> str:
        pieces, at = [], start
        for first, last, new in sorted(edits):
            pieces += [self.text[at:first].decode(), new]
            at = last
        return "".join([*pieces, self.text[at:end].decode()])

    def _edits(self, node: ast.AST) -> list[tuple[int, int, str]]:
        """What is replaced within a node, the outermost pieces."""
        if isinstance(node, ast.expr) and (new := self._replacement(node)) is not None:
            return [(*self._span(node), new)]
        if isinstance(node, ast.JoinedStr):
            return []
        return [edit for part in ast.iter_child_nodes(node) for edit in self._edits(part)]

    def written(self, node: ast.AST) -> str:
        """An expression as it should be written."""
        return self._spliced(*self._span(node), self._edits(node))

    def _bracketed(self, node: ast.expr) -> str:
        bare = isinstance(node, ast.Name | ast.Attribute | ast.Call | ast.Subscript | ast.Constant)
        text = self.written(node)
        return text if bare or text.startswith("~(") else f"({text})"

    def depends(self, node: ast.AST) -> bool:
        """Whether traced values are in an expression; of a name that the frame does not have nobody knows."""
        return any(
            one.id not in self.names or _is_traced(self.names[one.id])
            for one in ast.walk(node)
            if isinstance(one, ast.Name)
        )

    def value(self, node: ast.expr) -> Any:
        """What a name, or an attribute of a module, stands for; None for all else."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id)
        if isinstance(node, ast.Attribute) and isinstance(home := self.value(node.value), types.ModuleType):
            return getattr(home, node.attr, None)
        return None

    def _replacement(self, node: ast.expr) -> str | None:
        """An expression that JAX cannot trace, as it can; None for any other."""
        if not self.depends(node):
            return None
        match node:
            case ast.Call():
                return self._call(node)
            case ast.IfExp(test=test, body=body, orelse=other) if self.depends(test):
                return self._where([self.condition(test)], [self.written(body), self.written(other)])
            case ast.BoolOp(op=sign, values=values):
                return f" {'&' if isinstance(sign, ast.And) else '|'} ".join(map(self._bracketed, values))
            case ast.UnaryOp(op=ast.Not(), operand=inner):
                return f"~({self.written(inner)})"
            case ast.Compare(left=left, ops=[_, _, *_], comparators=others):
                pairs = zip([left, *others], others, strict=False)
                texts = [self.text[self._span(a)[0] : self._span(b)[1]].decode() for a, b in pairs]
                return " & ".join(f"({text})" for text in texts)
            case ast.Subscript(value=held, slice=place, ctx=ast.Load()) if self.depends(place):
                listed = isinstance(held, ast.List | ast.Tuple) or isinstance(self.value(held), list | tuple)
                if not listed and not isinstance(self.value(held), np.ndarray):
                    return None
                return f"{self.jnp}.array({self.written(held)})[{self.written(place)}]"
        return None

    def condition(self, test: ast.expr) -> str:
        """A test as `jnp.where` takes it."""
        asked = isinstance(test, ast.Compare | ast.BoolOp | ast.Call | ast.UnaryOp)
        return self.written(test) if asked else f"{self._bracketed(test)} != 0"

    def _where(self, tests: Sequence[str], values: Sequence[str]) -> str:
        """The first value whose test holds, else the last."""
        if len(set(values)) == 1:
            return values[0]
        *front, text = values
        for test, value in zip(reversed(tests), reversed(front), strict=True):
            text = f"{self.jnp}.where({test}, {value}, {text})"
        return text

    def _call(self, node: ast.Call) -> str | None:
        called, arguments = self.value(node.func), node.args
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("item", "tolist") and not arguments:
            return self.written(node.func.value)
        if (name := self._name_for(node.func)) is not None:
            if called is math.log and len(arguments) == 2:
                return f"{name}({self.written(arguments[0])}) / {name}({self.written(arguments[1])})"
            edits = [(*self._span(node.func), name)]
            edits += [edit for part in (*arguments, *node.keywords) for edit in self._edits(part)]
            return self._spliced(*self._span(node), edits)
        if node.keywords or not arguments or any(isinstance(one, ast.Starred) for one in arguments):
            return None
        texts = [self._listed(one) for one in arguments]
        if called in (max, min) and len(texts) > 1:
            text = texts[0]
            for other in texts[1:]:
                text = f"{self.jnp}.{'maximum' if called is max else 'minimum'}({text}, {other})"
            return text
        whole: dict[Any, Callable[[str], str]] = {
            float: lambda text: text,
            bool: lambda text: f"({text} != 0)",
            int: lambda text: f"{self.jnp}.trunc({text})",
            round: lambda text: f"{self.jnp}.round({text})",
        }
        whole |= {
            one: lambda text, name=name: f"{self.jnp}.{name}({self.jnp}.array({text}))"
            for one, name in _REDUCED.items()
        }
        return whole[called](texts[0]) if len(texts) == 1 and _is_builtin(called, whole) else None

    def _listed(self, node: ast.expr) -> str:
        """An argument; what is made one by one as a list."""
        text = self.written(node)
        return f"[{text.removeprefix('(').removesuffix(')')}]" if isinstance(node, ast.GeneratorExp) else text

    def _name_for(self, function: ast.expr) -> str | None:
        """The function of JAX that stands for one of `math`, NumPy or SciPy."""
        called = self.value(function)
        name = function.attr if isinstance(function, ast.Attribute) else getattr(called, "__name__", "")

        def is_of(module: str) -> bool:
            return called is not None and getattr(sys.modules.get(module), name, None) is called

        if is_of("math") and name in _OF_MATH:
            return f"{_SPECIAL}.{_OF_MATH[name]}"
        if is_of("scipy.special") and hasattr(jax.scipy.special, name):
            return f"{_SPECIAL}.{name}"
        if is_of("numpy.linalg") and hasattr(jnp.linalg, name):
            return f"{self.jnp}.linalg.{name}"
        own = _OWN.get(name, name)
        return f"{self.jnp}.{own}" if (is_of("math") or is_of("numpy")) and hasattr(jnp, own) else None

    # Statements: branches, loops, and assignments to what keeps its values.

    def _statement(self, around: _Around) -> str | None:
        """A whole statement that is written in another way; None where only expressions within it are."""
        match around.node:
            case ast.If(test=test) as node if self.depends(test):
                return self._choice(node, around.following) or f"{self.jnp}.where({self.condition(test)}, …, …)"
            case ast.While(test=test) as node if self.depends(test):
                lines = self._assigned([self.condition(test)], [node.body, []]) or [
                    f"{self.jnp}.where({self.condition(test)}, …, …)"
                ]
                return "\n".join(
                    ["for _ in range(…):  # the most turns there can be", *(f"    {one}" for one in lines)]
                )
            case ast.Assign(targets=[ast.Subscript() | ast.Attribute() as target], value=value):
                return self._replaced(target, None, value, around)
            case ast.AugAssign(target=ast.Subscript() | ast.Attribute() as target, op=sign, value=value):
                return self._replaced(target, sign, value, around)
        return None

    def _choice(self, node: ast.If, following: Sequence[ast.stmt]) -> str | None:
        """Branches as a choice between values; None where they do more than that."""
        tests, bodies = [self.condition(node.test)], [node.body]
        while len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If):
            node = node.orelse[0]
            tests, bodies = [*tests, self.condition(node.test)], [*bodies, node.body]
        last = node.orelse
        if not last and following and isinstance(following[0], ast.Return):
            last = [following[0]] if all(isinstance(body[-1], ast.Return) for body in bodies) else []
        bodies = [*bodies, last]
        if all(len(body) == 1 and isinstance(body[0], ast.Return) and body[0].value for body in bodies):
            values = [body[0].value for body in bodies]  # type: ignore[union-attr]
            return f"return {self._chosen(tests, values)}"
        lines = self._assigned(tests, bodies)
        return "\n".join(lines) if lines else None

    def _chosen(self, tests: Sequence[str], values: Sequence[Any]) -> str:
        """A choice between expressions; between entries of dicts, lists and tuples one by one."""
        match values:
            case [ast.Dict(keys=keys), *rest] if all(
                isinstance(one, ast.Dict) and [_key(k) for k in one.keys] == [_key(k) for k in keys] for one in rest
            ) and None not in [_key(key) for key in keys]:
                entries = zip(*(one.values for one in values), strict=True)
                texts = [
                    f"{self.written(k)}: {self._chosen(tests, v)}" for k, v in zip(keys, entries, strict=True) if k
                ]
                return f"{{{', '.join(texts)}}}"
            case [ast.List(elts=first) | ast.Tuple(elts=first), *rest] if all(
                type(one) is type(values[0]) and len(one.elts) == len(first) for one in rest
            ):
                texts = [self._chosen(tests, part) for part in zip(*(one.elts for one in values), strict=True)]
                return f"[{', '.join(texts)}]"
        return self._where(tests, [self.written(value) for value in values])

    def _assigned(self, tests: Sequence[str], bodies: Sequence[Sequence[ast.stmt]]) -> list[str]:
        """Branches that give values to names, as a line for each name; none where that is not all they do."""
        found: dict[str, list[str]] = {}
        for place, body in enumerate(bodies):
            for one in body:
                match one:
                    case ast.Assign(targets=[ast.Name(id=name)], value=value):
                        text = self.written(value)
                    case ast.AugAssign(target=ast.Name(id=name), op=sign, value=value):
                        text = f"{name} {_SIGNS[type(sign)]} {self._bracketed(value)}"
                    case _:
                        return []
                found.setdefault(name, [name] * len(bodies))[place] = text
        lines: list[str] = []
        for place, (name, texts) in enumerate(found.items()):
            earlier = set(list(found)[:place])
            read = {n.id for text in (*texts, *tests) for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name)}
            if earlier & read or (name in texts and name not in self.names):
                return []  # one line after the other would compute something else
            lines.append(f"{name} = {self._where(tests, texts)}")
        return lines

    def _replaced(self, target: Any, sign: ast.operator | None, value: ast.expr, around: _Around) -> str | None:
        """An assignment to a part of something, as one that makes it anew."""
        held, new = self.value(target.value), self.written(value)
        if hasattr(held, "_fields"):  # states, parameters, inputs
            name = target.attr if isinstance(target, ast.Attribute) else getattr(target.slice, "value", "new")
            old = self.written(target)
            return (
                f"{name} = {new}" if sign is None else f"{name} = {old} {_SIGNS[type(sign)]} {self._bracketed(value)}"
            )
        if not isinstance(target, ast.Subscript) or not isinstance(target.value, ast.Name):
            return None
        if not isinstance(held, np.ndarray | jax.Array):
            return None
        name, place = target.value.id, self.written(target.slice)
        update = f"set({new})" if sign is None else f"{_UPDATED.get(type(sign), 'add')}({new})"
        if isinstance(sign, ast.Sub):
            update = f"add(-{self._bracketed(value)})"
        lines = [f"{name} = {name}.at[{place}].{update}"]
        made = self._made(name, around) if isinstance(held, np.ndarray) else None
        return "\n".join([made, *lines] if made else lines)

    def _made(self, name: str, around: _Around) -> str | None:
        """The line that makes a NumPy array, as one of JAX."""
        for one in _before(around.function, around.node.lineno):
            match one:
                case ast.Assign(targets=[ast.Name(id=target)], value=ast.Call(func=function) as call) if target == name:
                    replaced = self._name_for(function)
                    edits = [(*self._span(function), replaced)] if replaced else []
                    return f"{name} = {self._spliced(*self._span(call), edits)}" if edits else None
        return None


_SIGNS: dict[type, str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Pow: "**",
    ast.Mod: "%",
    ast.FloorDiv: "//",
    ast.MatMult: "@",
}


def _before(function: ast.AST, line: int) -> Iterator[ast.stmt]:
    """Statements of a function before a line, the nearest first."""
    own = [one for one in ast.walk(function) if isinstance(one, ast.stmt) and one.lineno < line]
    yield from sorted(own, key=lambda one: -one.lineno)


def _is_traced(value: Any) -> bool:
    try:
        return any(isinstance(leaf, Tracer) or hasattr(leaf, "__jax_array__") for leaf in jax.tree.leaves(value))
    except (TypeError, ValueError):
        return False


def _is_builtin(called: Any, known: Mapping[Any, object]) -> bool:
    return isinstance(called, type | types.BuiltinFunctionType) and called in known


def _key(node: ast.expr | None) -> Any:
    return node.value if isinstance(node, ast.Constant) else None


def _plain(text: str) -> str:
    return textwrap.dedent(text).strip()
