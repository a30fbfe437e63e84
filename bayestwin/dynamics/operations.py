"""The operations of a trace, and long equations as few operations on arrays, so that they compile in seconds.

Hundreds of rate laws of two or three forms, written out one by one, are thousands of scalar operations, for which a
compiler takes minutes. Here each form is computed once, for all formulas that have it, and long sums by rows.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

LONG = 1000
"""Operations from which on equations are worth it: below, what is written out compiles quickly and runs faster."""

ENTRYWISE = frozenset(
    {"add", "sub", "mul", "div", "neg", "pow", "integer_pow", "square", "sqrt", "rsqrt", "cbrt", "exp", "exp2", "expm1"}
    | {"log", "log1p", "logistic", "tanh", "sinh", "cosh", "sin", "cos", "tan", "asin", "acos", "atan", "atan2"}
    | {"abs", "max", "min", "sign", "floor", "ceil", "lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not"}
    | {"select_n", "convert_element_type", "copy", "erf", "lgamma", "is_finite"}
)
"""Primitives that do to each entry of arrays what they do to scalars."""

TRUTHS = frozenset({"lt", "le", "gt", "ge", "eq", "ne", "is_finite", "and", "or", "not"})

SUMMED = frozenset({"add", "sub", "neg"})

LEAST_TERMS = 3
"""Terms from which on a sum is a row; shorter ones are part of a form."""


class Operation(NamedTuple):
    """One operation of a trace.

    Attributes:
        primitive: What is done.
        params: Its settings.
        given: Numbers of its operands.
        out: Numbers of its results.
    """

    primitive: Any
    params: Mapping[str, Any]
    given: tuple[int, ...]
    out: tuple[int, ...]


@jax.custom_jvp
def _square_root(value: Array) -> Array:
    """A square root, whose derivative at zero is taken as zero: infinity times nothing is not a number."""
    return lax.sqrt(value)


@_square_root.defjvp
def _square_root_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    root = _square_root(*primals)
    away = root != 0.0
    return root, jnp.where(away, 0.5 / jnp.where(away, root, 1.0), 0.0) * tangents[0]


def _cube_root(primitive: Any, params: Any, value: Array) -> Array:
    away = value != 0.0
    return jnp.where(away, primitive.bind(jnp.where(away, value, 1.0), **params), 0.0)


def _power(primitive: Any, params: Any, base: Array, exponent: Array) -> Array:
    """A power, which is a root where its exponent is below one."""
    if not jnp.issubdtype(jnp.result_type(exponent), jnp.floating):
        return primitive.bind(base, exponent, **params)
    at_root = (base == 0.0) & (exponent < 1.0)
    found = primitive.bind(jnp.where(at_root, 1.0, base), exponent, **params)
    return jnp.where(at_root, primitive.bind(lax.stop_gradient(base), lax.stop_gradient(exponent), **params), found)


ROOTS: Mapping[str, Callable[..., Array]] = {
    "sqrt": lambda primitive, params, value: _square_root(value),  # noqa: ARG005
    "cbrt": _cube_root,
    "pow": _power,
}
"""Primitives whose derivative is infinite at zero."""


# Formulas that are alike.


class Form(NamedTuple):
    """An operation with formulas as its operands; without a primitive the next number, or one that is written in it.

    Attributes:
        primitive: What is done; None for a number.
        params: Its settings, or what is written.
        operands: In order.
    """

    primitive: Any = None
    params: Mapping[str, Any] = {}
    operands: tuple["Form", ...] = ()

    @property
    def words(self) -> str:
        """What formulas that are alike have in common."""
        inner = ", ".join(one.words for one in self.operands)
        return f"{self.primitive}{sorted(self.params.items(), key=str)}({inner})"

    def compute(self, numbers: Iterator[Array], size: int) -> Array:
        """The values of `size` formulas at once, whose numbers come one after the other; shape (size,) each."""
        if self.primitive is None:
            return jnp.full(size, self.params["value"]) if self.params else next(numbers)
        values = [one.compute(numbers, size) for one in self.operands]
        if self.primitive.name in ROOTS:
            return ROOTS[self.primitive.name](self.primitive, self.params, *values)
        return self.primitive.bind(*values, **self.primitive.get_bind_params(self.params))


class Alike(NamedTuple):
    """Formulas of one form.

    Attributes:
        form: What is done.
        places: Where each formula finds each of its numbers; shape (numbers, formulas).
    """

    form: Form
    places: np.ndarray

    def compute(self, known: Array) -> Array:
        """The value of each formula; shape (formulas,)."""
        return self.form.compute(iter(known[self.places]), self.places.shape[1])


class SumRows(NamedTuple):
    """Sums of about as many terms.

    Attributes:
        places: Where each finds its terms, any place where it has fewer; shape (sums, terms).
        signs: 1, −1, or 0 where there is no term; shape (sums, terms).
    """

    places: np.ndarray
    signs: np.ndarray

    def compute(self, known: Array) -> Array:
        """The value of each sum; shape (sums,)."""
        return (known[self.places] * self.signs).sum(axis=-1)


class AlikeOperations(NamedTuple):
    """Operations as stages, each of which needs what those before it found.

    Attributes:
        given: Numbers of what has to be known, in this order.
        constants: Numbers that stand in them; shape (c,).
        stages: What is computed together; what they find is kept after what is given and constants, in this order.
        results: Where the results are; shape (r,).
    """

    given: tuple[int, ...]
    constants: np.ndarray
    stages: tuple[tuple[Alike | SumRows, ...], ...]
    results: np.ndarray

    def compute(self, given: Array) -> Array:
        """The results, shape (r,), of what is given; shape (g,)."""
        known = jnp.concatenate([given, self.constants])
        for stage in self.stages:
            known = jnp.concatenate([known, *(part.compute(known) for part in stage)])
        return known[self.results]


def are_many_formulas(operations: Sequence[Operation], constants: Mapping[int, Any]) -> bool:
    """Whether operations are so many that it pays to put them together, and do to arrays what they do to scalars."""
    plain = all(one.primitive.name in ENTRYWISE for one in operations)
    return len(operations) >= LONG and plain and not any(map(np.ndim, constants.values()))


def put_together(
    operations: Sequence[Operation], constants: Mapping[int, Any], given: Sequence[int], results: Sequence[int]
) -> AlikeOperations:
    """Operations with formulas that are alike put together.

    Args:
        operations: Entrywise ones of scalars, in an order in which they can be done.
        constants: What is known by number.
        given: Numbers of what will be given: real numbers.
        results: Numbers of what is asked for.
    """
    used = {number for one in operations for number in one.given} | set(results)
    known = {number: value for number, value in constants.items() if number in used}
    return _Cut(operations, known, given, results).stages()


class _Cut:
    """Operations cut into formulas, at what is used more than once and at the terms of long sums."""

    def __init__(
        self,
        operations: Sequence[Operation],
        constants: Mapping[int, Any],
        given: Sequence[int],
        results: Sequence[int],
    ) -> None:
        self.constants, self.given, self.results = constants, given, results
        self.made = {operation.out[0]: operation for operation in operations}
        self.real = real_numbers(operations, constants, given) | (set(results) & constants.keys())
        used = Counter(one for operation in operations for one in operation.given)
        shared = {number for number, times in used.items() if times > 1} | set(results)
        self.ends = {number for number in shared if number in self.made and number in self.real}
        self.terms: dict[int, list[tuple[int, float]]] = {}
        waiting = list(self.ends)
        while waiting:
            new = {one for one, _ in self._find_terms(waiting.pop()) if one in self.made} - self.ends
            self.ends |= new
            waiting += new

    def _find_terms(self, number: int) -> list[tuple[int, float]]:
        """The terms of a sum and their signs, noted where there are so many that it is a row."""
        waiting, terms = [(number, 1.0)], []
        while waiting:
            own, sign = waiting.pop()
            operation = self.made.get(own)
            if operation is None or operation.primitive.name not in SUMMED or (own in self.ends and own != number):
                terms.append((own, sign))
                continue
            signs = {"add": (sign, sign), "sub": (sign, -sign), "neg": (-sign,)}[operation.primitive.name]
            waiting += zip(operation.given, signs, strict=True)
        if len(terms) < LEAST_TERMS:
            return []
        self.terms[number] = terms
        return terms

    def _form(self, number: int, found: list[int], *, first: bool = False) -> Form:
        """What leads to a number from the ends before it, which are noted in `found` as they come."""
        if number in self.made and (first or number not in self.ends):
            operation = self.made[number]
            inner = tuple(self._form(one, found) for one in operation.given)
            return Form(operation.primitive, operation.params, inner)
        if number in self.real:
            found.append(number)
            return Form()
        return Form(params={"value": self.constants[number]})

    def stages(self) -> AlikeOperations:
        """All of it, in an order in which everything is known when it is needed."""
        written = [number for number in self.constants if number in self.real]
        place = {number: at for at, number in enumerate((*self.given, *written))}
        level = dict.fromkeys(place, 0)
        rows: dict[tuple[int, str], list[tuple[int, list[int]]]] = {}
        forms: dict[str, Form] = {}
        for number in [one for one in self.made if one in self.ends]:
            if number in self.terms:
                found = [one for one, _ in self.terms[number]]
                words = f"a sum of {1 << (len(found) - 1).bit_length()}"
            else:
                found = []
                form = self._form(number, found, first=True)
                words = form.words
                forms.setdefault(words, form)
            level[number] = 1 + max((level[one] for one in found), default=0)
            rows.setdefault((level[number], words), []).append((number, found))
        stages: list[list[Alike | SumRows]] = [[] for _ in range(max(level.values(), default=0))]
        for (depth, words), members in sorted(rows.items(), key=lambda one: one[0]):
            places = [[place[one] for one in found] for _, found in members]
            if words in forms:
                part = Alike(forms[words], np.array(places, int).reshape(len(members), -1).T)
            else:
                part = _sums(places, [[sign for _, sign in self.terms[number]] for number, _ in members])
            stages[depth - 1].append(part)
            place |= {number: len(place) + n for n, (number, _) in enumerate(members)}
        constants = np.array([self.constants[number] for number in written], float)
        results = np.array([place[one] for one in self.results])
        return AlikeOperations(tuple(self.given), constants, tuple(map(tuple, stages)), results)


def _sums(places: Sequence[Sequence[int]], signs: Sequence[Sequence[float]]) -> SumRows:
    """Rows of terms; those that are shorter than the longest are filled up with their first one, times nothing."""
    most = max(map(len, places))
    filled = [[*own, *[own[0]] * (most - len(own))] for own in places]
    return SumRows(np.array(filled), np.array([[*own, *[0.0] * (most - len(own))] for own in signs]))


def real_numbers(operations: Sequence[Operation], constants: Mapping[int, Any], given: Sequence[int]) -> set[int]:
    """Which numbers are real ones, and neither truths nor whole."""
    real = {number for number, value in constants.items() if np.asarray(value).dtype.kind == "f"} | set(given)
    for operation in operations:
        name = operation.primitive.name
        if name == "convert_element_type":
            is_real = jnp.issubdtype(operation.params["new_dtype"], jnp.floating)
        else:
            is_real = name not in TRUTHS and operation.given[-1] in real
        real |= set(operation.out) if is_real else set()
    return real
