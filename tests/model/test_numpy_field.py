"""Right-hand sides that were written for SciPy: they become vector fields that compute the same, or are refused."""

# What users write is written here as they write it.
# ruff: noqa: SIM108, ARG002

import functools
import importlib
import math
import pathlib
import random
import re
from collections.abc import Callable
from math import sqrt

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import interpolate

import bayestwin as bt
from bayestwin._base.compilation import _spelled
from bayestwin._base.keys import key_of
from bayestwin.dynamics.affine import is_affine
from bayestwin.errors import InvalidTwin
from bayestwin.model.tables import table_of
from bayestwin.model.traceable import _BUILTINS

GAIN, SPEED = 0.3, 2.0
POINTS, VALUES = np.array([0.0, 1.0, 2.0, 5.0]), np.array([0.0, 1.0, 4.0, 2.0])
CURVE = interpolate.interp1d(POINTS, VALUES, fill_value="extrapolate")
SPLINE = interpolate.CubicSpline(POINTS, VALUES)


def states(names: str) -> dict[str, bt.State]:
    return {name: bt.State(dist.LogNormal(0.0, 0.3)) for name in names}


def parameters(*names: str) -> dict[str, bt.Parameter]:
    return {name: bt.Parameter(dist.LogNormal(0.0, 0.3)) for name in names}


# Styles in which people write right-hand sides, one idea each.


def unpacked(y, t, beta, gamma):
    s, i, r = y
    new = -beta * s * i / (s + i + r)
    return [new, -new - gamma * i, gamma * i]


def item_by_item(t, y, k):
    dy = np.zeros(2)
    dy[0] = y[1]
    dy[1] = -k * np.sin(y[0])
    dy[1] -= 0.1 * y[1]
    return dy


def branches(t, y, k, cap):
    if y[0] > cap:
        rate = k * (cap - y[0])
    else:
        rate = k
    return [rate]


def early_returns(t, y, k):
    if y[0] < 0.5:
        return [k]
    if y[0] < 1.5:
        return [0.0]
    return [-k]


def with_math(t, y, k, u):
    return [max(u, 0.0) - min(k * sqrt(max(y[0], 1e-3)), 5.0)]


def with_time(t, y, k):
    return np.array([-k * y[0] if t < 5 else 0.0])


def packed(t, y, params):
    a, b = params
    return [a - b * y[0]]


def named(t, y, params):
    return [params["a"] - params.b * y[0]]


def rate_at(temperature):
    """An Arrhenius law between two temperatures."""
    if temperature > 300.0 and temperature < 500.0:
        return GAIN * math.exp(-100.0 / temperature)
    return 0.0


def calls_others(t, y, scale):
    return [-scale * rate_at(250.0 + 100.0 * abs(y[0])) * y[0]]


def calls_its_input(t, y, k, u):
    return [u(t) - k * y[0]]


def looks_up(t, y, k):
    return [-k * float(CURVE(y[0])) + SPLINE(y[0])]


def loops(t, y, k):
    dydt = [0.0] * 3
    for i in range(3):
        inflow = k if i == 0 else y[i - 1]
        if y[i] > 2.0:
            continue
        dydt[i] += inflow - y[i]
    return dydt


class Tank:
    def __init__(self) -> None:
        self.area = 2.0

    def outflow(self, level):
        return 0.5 * math.sqrt(level) if level > 0.01 else 5.0 * level

    def rhs(self, t, y, k):
        return [k - self.outflow(y[0]) / self.area]


def takes_from_around(t, y):
    return [-SPEED * y[0]]


def slices(t, y, k):
    out = np.empty_like(y)
    out[1:-1] = k * (y[2:] - 2 * y[1:-1] + y[:-2])
    out[0] = out[-1] = 0.0
    return out


def guards(t, y, k):
    if y[0] < -1e6:
        raise ValueError("impossible")
    on = 0 < y[0] < 2 and not (y[1] > 1 or t > 50)
    q = 0.0
    if on:
        q = k
        q *= 2
    return q - y[0], int(y[1]) - y[1]


def matrices(t, y, k):
    x = np.clip(y, 0, None)
    return np.dot(np.array([[-k, 1.0], [0.0, -1.0]]), x) + np.where(t > 2, 1.0, 0.0)


def inner_functions(t, y, *args):
    (k,) = args

    def most(value, top=2.0):
        if value > top:
            return top
        return value

    gains = []
    if y[0] > 1:
        gains.append(k)
    else:
        gains.append(-k)
    levels = [1.0, 2.0, 5.0]
    return [most(gains[0]) + sum(most(v) for v in y) + levels[min(int(abs(y[0])), 2)]]


class Both(dict):
    """Parameters in order, by item and by attribute."""

    def __iter__(self):
        return iter(self.values())

    def __getattr__(self, name):
        return self[name]


STYLES = [
    (unpacked, "sir", ("beta", "gamma"), ()),
    (item_by_item, "ab", ("k",), ()),
    (branches, "h", ("k", "cap"), ()),
    (early_returns, "h", ("k",), ()),
    (with_math, "h", ("k",), ("u",)),
    (with_time, "h", ("k",), ()),
    (packed, "h", ("a", "b"), ()),
    (named, "h", ("a", "b"), ()),
    (calls_others, "h", ("scale",), ()),
    (calls_its_input, "h", ("k",), ("u",)),
    (looks_up, "h", ("k",), ()),
    (loops, "abc", ("k",), ()),
    (Tank().rhs, "h", ("k",), ()),
    (takes_from_around, "h", ("SPEED",), ()),
    (lambda t, y, k: [y[1], -k * y[0]], "ab", ("k",), ()),
    (slices, "abcd", ("k",), ()),
    (guards, "ab", ("k",), ()),
    (matrices, "ab", ("k",), ()),
    (inner_functions, "h", ("k",), ()),
    (functools.partial(branches, cap=0.7), "h", ("k",), ()),
]


@pytest.mark.parametrize(("function", "names", "given", "driven"), STYLES, ids=[str(n) for n in range(len(STYLES))])
def test_it_computes_what_was_written(function: Callable, names: str, given: tuple, driven: tuple) -> None:
    """At draws that `from_numpy` has not seen, also where values are not known before it is computed."""
    inputs = {name: bt.Input() for name in driven}
    field = bt.from_numpy(function, states(names), parameters(*given), inputs)
    rng = np.random.default_rng(1)
    at = {name: rng.lognormal(0.0, 0.5, 50) for name in (*names, *given, *driven)}
    at |= {"SPEED": np.full(50, SPEED)} if "SPEED" in given else {}
    times = rng.uniform(0.0, 10.0, 50)

    def computed(t, one):
        x, p, u = ({name: one[name] for name in own} for own in (names, given, driven))
        return field(t, x, p, u)

    ours = jax.jit(jax.vmap(computed))(times, at)
    for k in range(50):
        own = {name: float(values[k]) for name, values in at.items()}
        y = np.array([own[name] for name in names])
        arguments = [own[name] for name in given if name != "SPEED"]
        arguments = [Both(zip(given, arguments, strict=True))] if function in (packed, named) else arguments
        for name in driven:
            value = own[name]
            arguments.append((lambda t, value=value: value) if function is calls_its_input else value)
        first = (y, times[k]) if function is unpacked else (times[k], y)
        theirs = np.ravel(np.asarray(function(*first, *arguments), float))
        np.testing.assert_allclose([ours[name][k] for name in names], theirs, rtol=1e-9, atol=1e-12)


# What would come out otherwise is refused, and the line is named.

count = 0


def remembers_outside(t, y, k):
    global count
    count += 1
    return [k - y[0]]


def remembers_in_a_default(t, y, k, seen=[]):  # noqa: B006
    seen.append(t)
    return [len(seen) - y[0]]


def is_random(t, y, k):
    return [k * random.random() - y[0]]


def shares_an_array(t, y, k):
    a = np.zeros(2)
    b = a
    b[0] = k
    return [a[0] - y[0]]


def goes_on_until(t, y, k):
    n = 0
    while y[0] > n:
        n += 1
    return [n - y[0]]


def breaks(t, y, k):
    s = 0.0
    for i in range(10):
        s += y[0] / 2**i
        if s > 3 * k:
            break
    return [s]


def catches(t, y, k):
    try:
        r = math.log(y[0])
    except ValueError:
        r = 0.0
    return [r]


def chooses_words(t, y, k):
    mode = "heat" if y[0] < 1 else "cool"
    return [k if mode == "heat" else -k]


def returns_too_much(t, y, k):
    return [k, k]


def is_misspelt(t, y, k, gama):
    return [k * gama]


def has_no_slope(t, y, k):
    return [np.sqrt(abs(np.clip(y[0], 1.0, None) - 1.0))]


def never_has_a_value(t, y, k):
    return [math.sqrt(-1.0 - y[0] ** 2)]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (remembers_outside, "`global count`"),
        (remembers_in_a_default, "returns something else when it is called again"),
        (is_random, "returns something else when it is called again"),
        (shares_an_array, "`b = a`"),
        (goes_on_until, "while y[0] > n"),
        (breaks, "if s > 3 * k"),
        (catches, "`r = 0.0`"),
        (chooses_words, "has to be numbers"),
        (returns_too_much, "2 numbers for 1 states"),
        (is_misspelt, "`gama`"),
        (has_no_slope, "no derivative where it has a value"),
        (never_has_a_value, "no value at any of 200 draws"),
        (eval("lambda t, y, k: [k]"), "source"),
        (lambda a, y, k: [k], "which argument"),
        (lambda t: [1.0], "no place"),
    ],
    ids=lambda one: getattr(one, "__name__", None),
)
def test_what_comes_out_otherwise_is_refused(function: Callable, words: str) -> None:
    with pytest.raises(InvalidTwin) as raised:
        bt.from_numpy(function, states("h"), parameters("k"))
    assert words in str(raised.value)


def test_a_wrong_exchange_is_told_by_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_BUILTINS, math.isclose, lambda a, b: a != b)

    def compares(t, y, k):
        same = math.isclose(k, k)
        return [1.0 if same else 0.0]

    with pytest.raises(InvalidTwin, match="comes out otherwise in JAX at 200 of 200 draws") as raised:
        bt.from_numpy(compares, states("h"), parameters("k"))
    assert "`same = math.isclose(k, k)`" in str(raised.value)


def test_a_line_that_no_draw_reaches_is_told() -> None:
    def rarely(t, y, k):
        if y[0] > 1e9:
            return [-1.0]
        return [k]

    with pytest.warns(UserWarning, match="was not reached at 800 draws"):
        bt.from_numpy(rarely, states("h"), parameters("k"))


def test_what_it_raises_is_a_solve_that_fails() -> None:
    def checked(t, y, k):
        assert y[0] > 0.0, "empty"
        return [-k]

    field = bt.from_numpy(checked, states("h"), parameters("k"))
    found = jax.jit(jax.vmap(lambda h: field(0.0, {"h": h}, {"k": 1.0}, {})["h"]))(jnp.array([1.0, -1.0]))
    np.testing.assert_array_equal(found, [-1.0, np.nan])


def test_a_branch_that_is_not_taken_has_no_say_in_derivatives() -> None:
    """In reverse, where the derivative of a root below zero would make all of it NaN."""
    field = bt.from_numpy(Tank().rhs, states("h"), parameters("k"))
    slope = jax.grad(lambda h: field(0.0, {"h": h}, {"k": 1.0}, {})["h"])
    np.testing.assert_allclose(jax.vmap(slope)(jnp.array([0.25, -1.0])), [-0.25, -2.5])


def test_the_page_about_it_runs(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (pathlib.Path(__file__).parents[2] / "docs/models-that-exist.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "page.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    twin = importlib.import_module("page").twin
    found = twin.derivative(0.0, {"upper": 1.0, "lower": 2.0}, {"k": 1.0, "leak": 0.5}, {"u": 3.0})
    np.testing.assert_allclose([found["upper"], found["lower"]], [1.0, (1.0 - math.sqrt(2.0)) / 2.0 - 0.25])


def test_arrays_follow_one_another() -> None:
    def heated(t, y, k):
        return np.append(k * np.diff(np.pad(y[:3], 1, mode="edge"), 2), -y[3])

    own = {"rod": bt.State(1.0, size=3), "sum": bt.State(2.0)}
    field = bt.from_numpy(heated, own, parameters("k"))
    found = field(0.0, {"rod": jnp.array([1.0, 2.0, 4.0]), "sum": 2.0}, {"k": 1.0}, {})
    np.testing.assert_allclose(found["rod"], [1.0, 1.0, -2.0])
    np.testing.assert_allclose(found["sum"], -2.0)


def test_a_twin_takes_it_and_finds_it_again() -> None:
    """An affine one is solved without a solver; another process finds by the same key what was compiled."""

    def lag(y, t, k, u):
        dy = np.empty(2)
        dy[0] = u - k * y[0]
        dy[1] = k * y[0] - y[1]
        return dy

    given, driven = parameters("k"), {"u": bt.Input()}
    field = bt.from_numpy(lag, states("ab"), given, driven)
    seen = {"b": bt.Observation(bt.Gaussian(0.1))}
    twin = bt.Twin("lag", field, states("ab"), given, seen, inputs=driven)
    assert is_affine(twin)
    again = bt.from_numpy(lag, states("ab"), given, driven)
    assert list(_spelled(key_of(field))) == list(_spelled(key_of(again)))


@pytest.mark.parametrize(
    "table",
    [
        *[
            interpolate.interp1d(POINTS, VALUES, kind=kind, fill_value=fill, bounds_error=False)
            for kind in ("linear", "previous", "next", "nearest", "nearest-up", "zero", "quadratic", "cubic")
            for fill in ("extrapolate", (-1.0, 9.0))
            if kind != "zero"
        ],
        SPLINE,
        interpolate.PchipInterpolator(POINTS, VALUES),
        interpolate.Akima1DInterpolator(POINTS, VALUES),
        interpolate.make_interp_spline(POINTS, VALUES, k=3),
        interpolate.UnivariateSpline(POINTS, VALUES, s=0.0),
        interpolate.UnivariateSpline(POINTS, VALUES, s=0.0, ext=1),
    ],
    ids=lambda one: f"{type(one).__name__}-{getattr(one, '_kind', '')}-{getattr(one, 'fill_value', '')}",
)
def test_tables_are_those_of_scipy(table: Callable) -> None:
    at = np.concatenate([np.linspace(-2.0, 7.0, 91), POINTS, [0.5, 1.5, 3.5]])
    found = table_of(table)
    assert found is not None
    np.testing.assert_allclose(found(at), table(at), rtol=1e-12, atol=1e-12)


def test_tables_of_other_kinds_are_refused() -> None:
    with pytest.raises(InvalidTwin, match="cannot be evaluated"):
        table_of(interpolate.CubicSpline(POINTS, [0.0, 1.0, 4.0, 0.0], bc_type="periodic"))
    assert table_of(np.sin) is None
