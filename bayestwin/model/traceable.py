"""A function that was written for NumPy, as one that JAX can trace.

Its syntax tree is changed, never its text: functions of NumPy, `math` and SciPy are exchanged for those of JAX, and
what asks for a value, as branches do, becomes a choice between values. Lines keep their numbers in the user's file.
"""

import ast
import builtins
import copy
import functools
import inspect
import math
import sys
import textwrap
import types
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayestwin._base.keys import of_library
from bayestwin.errors import InvalidTwin
from bayestwin.model.constructs import (
    NOWHERE,
    Sites,
    both,
    choose,
    either,
    given,
    holds_all,
    holds_any,
    in_order,
    item,
    largest,
    logarithm,
    near,
    negated,
    now,
    rounded,
    smallest,
    stored,
    to_bool,
    to_float,
    to_int,
    to_power,
)
from bayestwin.model.tables import table_of

# What it is exchanged for.

_BUILTINS: dict[Any, Callable] = {
    max: largest,
    min: smallest,
    float: to_float,
    int: to_int,
    bool: to_bool,
    round: rounded,
    sorted: in_order,
    any: holds_any,
    all: holds_all,
    math.pow: to_power,
    math.log: logarithm,
    math.isclose: near,
    math.fabs: jnp.abs,
    math.fsum: jnp.sum,
    math.gamma: jax.scipy.special.gamma,
    math.lgamma: jax.scipy.special.gammaln,
    math.erf: jax.scipy.special.erf,
    math.erfc: jax.scipy.special.erfc,
    np.float64: to_float,
}

_MODULES: dict[str, Any] = {
    "numpy": jnp,
    "numpy.linalg": jnp.linalg,
    "numpy.fft": jnp.fft,
    "math": jnp,
    "scipy.special": jax.scipy.special,
    "scipy.linalg": jax.scipy.linalg,
}


def _counterpart(value: Any) -> Any:
    """What computes the same in JAX; None where nothing is known to, or nothing needs to."""
    try:
        if value in _BUILTINS:
            return _BUILTINS[value]
    except (TypeError, ValueError):  # what cannot be hashed
        return None
    name = getattr(value, "__name__", "")
    if not callable(value) or isinstance(value, type) or not name:
        return None
    for module, ours in _MODULES.items():
        if getattr(sys.modules.get(module), name, None) is value:
            return getattr(ours, name, None)
    return None


class Translation:
    """Functions as JAX can trace them, each translated once.

    Attributes:
        names: Of parameters and inputs.
        around: Of those that functions take from around, what they are there.
        sites: What branches were computed from; filled while it is `recording` and the functions are called.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """Nothing is translated yet.

        Args:
            names: Of parameters and inputs, which functions may take from around.
        """
        self.names = frozenset(names)
        self.around: dict[str, Any] = {}
        self.sites = Sites()
        self.num_sites = 0
        self.done: dict[Any, Callable] = {}

    def translate(self, function: Callable) -> Callable:
        """A function as one that can be traced, with all functions of the user that it calls.

        Raises:
            InvalidTwin: If it has no source, or does what cannot be done in another way.
        """
        if isinstance(function, functools.partial):
            return functools.partial(self.translate(function.func), *function.args, **function.keywords)
        function = getattr(function, "py_func", function)  # of numba
        if isinstance(function, types.MethodType):
            owner = function.__self__
            return functools.partial(self._function(function.__func__, owner), owner)
        if not isinstance(function, types.FunctionType):
            call: Any = type(function).__call__
            return functools.partial(self._function(call, function), function)
        return self._function(function, None)

    def _function(self, function: types.FunctionType, owner: Any) -> Callable:
        key = (function, id(owner))
        if key in self.done:
            return self.done[key]
        self.done[key] = lambda *args, **kwargs: self.done[key](*args, **kwargs)  # for one that calls itself
        tree = _definition_of(function)
        closed = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        around = {name: cell.cell_contents for name, cell in closed}
        outside: dict[str, Any] = {**function.__globals__, **around}
        first = function.__code__.co_varnames[:1]
        known = {first[0]: owner} if owner is not None and first else {}
        rewriter = _Rewriter(self, function, outside, known)
        changed = rewriter.function(tree)
        names: dict[str, Any] = {**outside, **rewriter.taken, **_RUNTIME, "_bt_sites": self.sites}
        module = ast.fix_missing_locations(ast.Module([changed], []))
        exec(compile(module, function.__code__.co_filename, "exec"), names)  # the user's own code, as it was imported
        made = names[changed.name]
        made.__defaults__, made.__kwdefaults__ = function.__defaults__, function.__kwdefaults__
        made.__qualname__, made.__module__ = function.__qualname__, function.__module__
        self.done[key] = made
        return made


_CONSTRUCTS = (given, now, choose, both, either, negated, stored, item)
_RUNTIME: dict[str, Any] = {"_bt_NOWHERE": NOWHERE, **{f"_bt_{f.__name__}": f for f in _CONSTRUCTS}}


def refuse(function: Callable, line: int, what: str, advice: str) -> InvalidTwin:
    """The error that names a line of a function."""
    code = inspect.unwrap(function).__code__
    text = inspect.getsource(function).splitlines()[line - code.co_firstlineno].strip()
    return InvalidTwin(
        f"`{function.__qualname__}` cannot become a vector field: line {line} {what}.",
        expected="derivatives that follow from the arguments alone, in steps that JAX can trace",
        received=f"`{text}`",
        advice=advice,
    )


def _definition_of(function: types.FunctionType) -> ast.FunctionDef:
    """The syntax tree of a function, with lines and columns as in its file; of a lambda as if it had a name."""
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        raise InvalidTwin(
            f"The source of `{function.__qualname__}` cannot be read.",
            expected="a function that is written in a file or in a notebook",
            received="one that was made by `exec`, typed into Python's own prompt, or compiled",
            advice="Write it in a file, or write it with `jax.numpy` and pass it to `bt.Twin` as it is.",
        ) from None
    text = textwrap.dedent(source)
    try:
        tree = ast.parse(text)
    except SyntaxError:  # a lambda within a call over several lines
        tree = ast.parse(f"({text.strip().rstrip(',')})")
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    found: ast.FunctionDef | None = None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == function.__name__:
            found = node
            break
        if isinstance(node, ast.Lambda) and tuple(one.arg for one in node.args.args) == names:
            body = ast.copy_location(ast.Return(node.body), node.body)
            found = ast.copy_location(_function("_bt_lambda", node.args, [body]), node)
            break
    assert found is not None
    ast.increment_lineno(tree if found in ast.walk(tree) else found, function.__code__.co_firstlineno - 1)
    if found.name == "_bt_lambda":
        found.lineno = function.__code__.co_firstlineno
    found.decorator_list = []
    found.returns = None
    return found


class _Rewriter(ast.NodeTransformer):
    """Changes one function."""

    def __init__(self, whole: Translation, function: types.FunctionType, outside: Mapping[str, Any], known: Mapping):
        self.whole, self.origin = whole, function
        self.values = ChainMap(dict(known), dict(outside), dict(vars(builtins)))
        self.known = known
        self.locals: set[str] = set()
        self.taken: dict[str, Any] = {}
        self.made = 0

    # Functions and the statements in them.

    def function(self, node: ast.FunctionDef) -> ast.FunctionDef:
        before, self.locals = self.locals, self.locals | _names_in(node)
        node.body = self.block(node.body, last=True)
        node.args.defaults, node.args.kw_defaults = [], [None for _ in node.args.kw_defaults]
        for one in (*node.args.args, *node.args.posonlyargs, *node.args.kwonlyargs):
            one.annotation = None
        self.locals = before
        return node

    def block(self, statements: Sequence[ast.stmt], *, last: bool = False) -> list[ast.stmt]:
        """Statements one after the other; `last` where the function ends after them."""
        found: list[ast.stmt] = []
        for place, one in enumerate(statements):
            if isinstance(one, ast.Assert):
                one = _at(one, ast.If(ast.UnaryOp(ast.Not(), one.test), [_at(one, ast.Raise(None, None))], []))
            rest = list(statements[place + 1 :])
            if isinstance(one, ast.If) and (whole := _without_continue(one, rest)) is not None:
                return [*found, *self.block([whole], last=last)]
            if isinstance(one, ast.If) and not _jumps(one, last=last):
                if _ends(one.body) or _ends(one.orelse) or _leaves(one):
                    return [*found, *self._returned(one, rest)]
                found += self._assigned(one)
            else:
                found += self._plain(one, last=last)
        return found

    def _plain(self, one: ast.stmt, *, last: bool) -> list[ast.stmt]:
        match one:
            case ast.Raise():
                return [_at(one, ast.Return(_name("_bt_NOWHERE")))] if last else [one]
            case ast.Global() | ast.Nonlocal():
                raise refuse(
                    self.origin,
                    one.lineno,
                    "changes what is outside of it",
                    "What a system remembers is a state of it: give it a derivative, or pass it as an input.",
                )
            case ast.FunctionDef():
                defaults = one.args.defaults, one.args.kw_defaults
                own = self.function(one)
                own.args.defaults, own.args.kw_defaults = defaults
                return [own]
            case ast.If() | ast.While() | ast.For() | ast.With() | ast.Try():
                for field in ("test", "iter"):
                    if hasattr(one, field):
                        setattr(one, field, self.visit(getattr(one, field)))
                for field in ("body", "orelse", "finalbody"):
                    if getattr(one, field, None):
                        setattr(one, field, self.block(copy.deepcopy(getattr(one, field))))
                return [one]
            case ast.Assign(targets=targets, value=value):
                return self._stored_in(one, targets, self.visit(value))
            case ast.AnnAssign(target=ast.Subscript() as target, value=ast.expr() as value):
                return self._stored_in(one, [target], self.visit(value))
            case ast.AugAssign(target=ast.Subscript() as target, op=sign, value=value):
                old = copy.deepcopy(target)
                old.ctx = ast.Load()
                new = _at(one, ast.BinOp(self.visit(old), sign, self.visit(value)))
                return self._stored_in(one, [target], new)
        return [self.generic_visit(one)]  # type: ignore[list-item]

    def _returned(self, one: ast.If, rest: list[ast.stmt]) -> list[ast.stmt]:
        """Branches at least one of which ends the function, each with what follows it."""
        bodies = [own if _ends(own) else [*own, *copy.deepcopy(rest)] for own in (one.body, one.orelse)]
        names = self._taken_by([*bodies[0], *bodies[1]])[1]
        defined, choice = self._branches(one, bodies, names)
        return [*defined, _at(one, ast.Return(choice))]

    def _assigned(self, one: ast.If) -> list[ast.stmt]:
        """Branches that give values to names."""
        changed, names = self._taken_by([*one.body, *one.orelse])
        told: list[ast.expr] = [_call("_bt_now", _lambda(_name(name))) for name in changed]
        end = _at(one, ast.Return(ast.Tuple(told, ast.Load())))
        defined, choice = self._branches(one, [[*one.body, end], [*one.orelse, copy.deepcopy(end)]], names)
        target: Any = ast.Tuple([ast.Name(name, ast.Store()) for name in changed], ast.Store())
        return [*defined, _at(one, ast.Assign([target], choice) if changed else ast.Expr(choice))]

    def _branches(
        self, one: ast.If, bodies: Sequence[list[ast.stmt]], names: Sequence[str]
    ) -> tuple[list[ast.stmt], ast.expr]:
        """Both branches as functions of the names that they change, and the choice between what these return."""
        self.made += 1
        number, defined = self.made, []
        for word, body in zip(("yes", "no"), bodies, strict=True):
            arguments = ast.arguments([], [ast.arg(name) for name in names], None, [], [], None, [])
            own = self.block(copy.deepcopy(body) or [ast.Pass()], last=True) or [ast.Pass()]
            defined.append(_at(one, _function(f"_bt_{word}_{number}", arguments, own)))
        branches = [_name(f"_bt_{word}_{number}") for word in ("yes", "no")]
        return defined, _at(one, self._choice(one.test, branches, names))

    def _choice(self, test: ast.expr, branches: Sequence[ast.expr], names: Sequence[str]) -> ast.expr:
        self.whole.num_sites += 1
        values = ast.Tuple([_call("_bt_now", _lambda(_name(name))) for name in names], ast.Load())
        number = ast.Constant(self.whole.num_sites)
        return _call("_bt_choose", self.visit(test), *branches, values, _name("_bt_sites"), number)

    def _read(self, nodes: Sequence[ast.AST]) -> set[str]:
        """Local names that are read."""
        every = (one for node in nodes for one in ast.walk(node))
        return {one.id for one in every if isinstance(one, ast.Name)} & self.locals - set(self.known)

    def _taken_by(self, statements: Sequence[ast.stmt]) -> tuple[list[str], list[str]]:
        """Local names that branches change, and all that they take: these and those that they read."""
        changed = self._changed(statements)
        return sorted(changed), [*sorted(changed), *sorted(self._read(statements) - changed)]

    def _changed(self, statements: Sequence[ast.stmt]) -> set[str]:
        """Local names that statements give another value, or to a part of which they do, or whose methods they call."""
        found: set[str] = set()
        for node in (one for statement in statements for one in ast.walk(statement)):
            match node:
                case ast.Name(id=name, ctx=ast.Store()):
                    found.add(name)
                case ast.Subscript(ctx=ast.Store()):
                    found.add(_root(node))
                case ast.Call(func=ast.Attribute(value=ast.Name(id=name))):
                    found.add(name)
        inner = {
            part.id
            for statement in statements
            for node in ast.walk(statement)
            if isinstance(node, ast.comprehension)
            for part in ast.walk(node.target)
            if isinstance(part, ast.Name)
        }
        return (found & self.locals) - inner - set(self.known)

    def _stored_in(self, one: ast.stmt, targets: Sequence[ast.expr], value: ast.expr) -> list[ast.stmt]:
        """Assignments to names; to a part of something as one of it anew."""
        if len(targets) == 1 and not any(isinstance(part, ast.Subscript) for part in ast.walk(targets[0])):
            return [_at(one, ast.Assign(list(targets), value))]
        self.made += 1
        name = f"_bt_value_{self.made}"
        found: list[ast.stmt] = [_at(one, ast.Assign([ast.Name(name, ast.Store())], value))]
        for target in targets:
            found += self._store(one, target, _name(name))
        return found

    def _store(self, one: ast.stmt, target: ast.expr, value: ast.expr) -> list[ast.stmt]:
        match target:
            case ast.Tuple(elts=parts) | ast.List(elts=parts) if not any(isinstance(p, ast.Starred) for p in parts):
                self.made += 1
                name = f"_bt_value_{self.made}"
                found: list[ast.stmt] = [_at(one, ast.Assign([ast.Name(name, ast.Store())], _call("tuple", value)))]
                for place, part in enumerate(parts):
                    found += self._store(one, part, ast.Subscript(_name(name), ast.Constant(place), ast.Load()))
                return found
            case ast.Subscript(value=held, slice=place):
                if not _root(target):
                    raise refuse(
                        self.origin,
                        one.lineno,
                        "changes something outside of it",
                        "Assign to a name of the function's own, and return what comes of it.",
                    )
                loaded = copy.deepcopy(held)
                for part in ast.walk(loaded):
                    if hasattr(part, "ctx"):
                        part.ctx = ast.Load()  # type: ignore[attr-defined]
                new = _call("_bt_stored", self.visit(loaded), self.visit(_slice(place)), value)
                return self._store(one, held, new)
            case ast.Name(id=name):
                return [_at(one, ast.Assign([ast.Name(name, ast.Store())], value))]
        return [_at(one, ast.Assign([target], value))]

    # Expressions.

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if not isinstance(node.ctx, ast.Load) or node.id in self.locals or node.id.startswith("_bt_"):
            return node
        if node.id in self.whole.names:
            self.whole.around[node.id] = self.values.get(node.id)
            return _at(node, _call("_bt_given", ast.Constant(node.id)))
        return self._exchanged(node, self.values.get(node.id))

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        value = self._value(node)
        if value is None:
            return self.generic_visit(node)
        changed = self._exchanged(node, value)
        return self.generic_visit(node) if changed is node else changed

    def _value(self, node: ast.expr) -> Any:
        """What a name, or an attribute of one, stands for already now."""
        if isinstance(node, ast.Name):
            return self.known.get(node.id) if node.id in self.locals else self.values.get(node.id)
        if isinstance(node, ast.Attribute):
            home = self._value(node.value)
            return None if home is None else getattr(home, node.attr, None)
        return None

    def _exchanged(self, node: ast.expr, value: Any) -> ast.expr:
        new = _counterpart(value)
        if new is None:
            new = table_of(value)
        own = getattr(value, "py_func", value)
        if new is None and isinstance(own, types.FunctionType | types.MethodType | functools.partial):
            inner = own.func if isinstance(own, functools.partial) else own
            new = None if of_library(inner) else self.whole.translate(own)
        if new is None:
            return node
        name = f"_bt_taken_{len(self.taken)}"
        self.taken[name] = new
        return _at(node, _name(name))

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        word = "_bt_both" if isinstance(node.op, ast.And) else "_bt_either"
        *front, found = [self.visit(one) for one in node.values]
        for one in reversed(front):
            found = _call(word, one, _lambda(found))
        return _at(node, found)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        if isinstance(node.op, ast.Not):
            return _at(node, _call("_bt_negated", self.visit(node.operand)))
        return self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        names = sorted(self._read([node.body, node.orelse]))
        branches = [_lambda(self.visit(one), names) for one in (node.body, node.orelse)]
        return _at(node, self._choice(node.test, branches, names))

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        if len(node.ops) == 1:
            return self.generic_visit(node)
        parts = [node.left, *node.comparators]
        pairs: list[ast.expr] = [
            ast.Compare(copy.deepcopy(parts[i]), [sign], [copy.deepcopy(parts[i + 1])])
            for i, sign in enumerate(node.ops)
        ]
        return self.visit_BoolOp(_at(node, ast.BoolOp(ast.And(), pairs)))

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        if not isinstance(node.ctx, ast.Load):
            return node
        plain = isinstance(node.slice, ast.Constant | ast.Slice | ast.UnaryOp)
        held, place = self.visit(node.value), self.visit(node.slice)
        if plain:
            return _at(node, ast.Subscript(held, place, ast.Load()))
        return _at(node, _call("_bt_item", held, _slice(place)))

    def visit_Call(self, node: ast.Call) -> ast.AST:
        match node.func:
            case ast.Attribute(value=held, attr="item" | "tolist") if not node.args:
                return self.visit(held) if node.func.attr == "item" else _at(node, _call("list", self.visit(held)))
        # the name of a type says of which kind numbers are, unless it is called
        kinds = [one for one in node.args if isinstance(self._value(one), type)] if _makes(node.func) else []
        kinds += [one.value for one in node.keywords if one.arg == "dtype"]
        node.func = self.visit(node.func)
        node.args = [one if one in kinds else self.visit(one) for one in node.args]
        node.keywords = [one if one.value in kinds else self.visit(one) for one in node.keywords]
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        before = self.locals
        self.locals = before | {one.arg for one in node.args.args}
        node = self.generic_visit(node)  # type: ignore[assignment]
        self.locals = before
        return node


def _at[N: ast.AST](place: ast.AST, node: N) -> N:
    """A node where another one stands, and all that is in it and has no place of its own."""
    for one in ast.walk(node):
        if not hasattr(one, "lineno") and ("lineno" in one._attributes):
            ast.copy_location(one, place)
    return node


def _function(name: str, arguments: ast.arguments, body: Sequence[ast.stmt]) -> ast.FunctionDef:
    return ast.FunctionDef(name=name, args=arguments, body=list(body), decorator_list=[], type_params=[])


def _makes(function: ast.expr) -> bool:
    """Whether a function makes an array, and takes what kind of numbers it holds."""
    names = ("array", "asarray", "astype", "empty", "eye", "full", "ones", "zeros")
    return isinstance(function, ast.Attribute) and function.attr in names


def _name(name: str) -> ast.expr:
    return ast.Name(name, ast.Load())


def _call(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(_name(name), list(arguments), [])


def _lambda(body: ast.expr, names: Sequence[str] = ()) -> ast.expr:
    return ast.Lambda(ast.arguments([], [ast.arg(name) for name in names], None, [], [], None, []), body)


def _slice(place: ast.expr) -> ast.expr:
    """What stands in brackets, as an argument."""
    if isinstance(place, ast.Slice):
        return _call("slice", *(part or ast.Constant(None) for part in (place.lower, place.upper, place.step)))
    return ast.Tuple([_slice(one) for one in place.elts], ast.Load()) if isinstance(place, ast.Tuple) else place


def _root(node: ast.expr) -> str:
    """The name of what a part is taken from; empty where it has none of its own."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _names_in(node: ast.FunctionDef) -> set[str]:
    """Names that a function gives values to, its arguments included."""
    arguments = node.args
    every = [*arguments.args, *arguments.posonlyargs, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    stored = {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
    inner = {one.name for one in ast.walk(node) if isinstance(one, ast.FunctionDef) and one is not node}
    return stored | inner | {one.arg for one in every if one is not None}


def _ends(body: Sequence[ast.stmt]) -> bool:
    """Whether the function ends with these statements, whatever branch it takes."""
    if not body:
        return False
    end = body[-1]
    both_end = isinstance(end, ast.If) and _ends(end.body) and _ends(end.orelse)
    return isinstance(end, ast.Return | ast.Raise) or both_end


def _leaves(node: ast.If) -> bool:
    """Whether some branch within ends the function."""
    return any(isinstance(one, ast.Return | ast.Raise | ast.Assert) for one in _own(node))


def _jumps(node: ast.If, *, last: bool) -> bool:
    """Whether a branch leaves a loop, or the function from within something else: then its test has to be known."""
    return (
        any(isinstance(one, ast.Break | ast.Continue) for one in _own(node))
        or (_leaves(node) and not last)
        or any(
            isinstance(one, ast.Return)
            for held in _own(node)
            if isinstance(held, ast.For | ast.While | ast.With | ast.Try)
            for one in ast.walk(held)
        )
    )


def _without_continue(node: ast.If, rest: list[ast.stmt]) -> ast.If | None:
    """A branch that goes on with the next turn of a loop, as one beside which stands what else would follow."""
    for body, other in ((node.body, node.orelse), (node.orelse, node.body)):
        if body and isinstance(body[-1], ast.Continue):
            kept, beside = body[:-1] or [ast.copy_location(ast.Pass(), body[-1])], [*other, *rest]
            kept, beside = (kept, beside) if body is node.body else (beside, kept)
            return ast.copy_location(ast.If(node.test, kept or [ast.Pass()], beside), node)
    return None


def _own(node: ast.AST) -> list[ast.AST]:
    """Statements in a statement, without those of functions and loops in it, which are given themselves."""
    found: list[ast.AST] = []
    for one in ast.iter_child_nodes(node):
        if isinstance(one, ast.stmt):
            found.append(one)
            if not isinstance(one, ast.FunctionDef | ast.For | ast.While | ast.With | ast.Try):
                found += _own(one)
    return found
