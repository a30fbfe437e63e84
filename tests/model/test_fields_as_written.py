"""Fields are taken as people write them; what JAX cannot trace is shown, and shown as it should be written."""

# ruff: noqa: SIM108 - this is how people write them
import inspect
import math
import re
import textwrap
import traceback
import types
from collections.abc import Callable
from math import exp

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import scipy.special

import bayestwin as bt
from bayestwin.dynamics.affine import is_affine
from bayestwin.errors import InvalidTwin
from bayestwin.model.tracing import namespace


def pair(vector_field: Callable = lambda t, x, p, u: [x.b, -p.k * x.a], **members: object) -> bt.Twin:
    """Two states and a parameter; `a` is seen."""
    usual = {
        "states": {"a": bt.State(2.0), "b": bt.State(-0.5)},
        "observations": {"a": bt.Observation(bt.Gaussian(0.1))},
    }
    parameters = {"k": bt.Parameter(dist.LogNormal(0.0, 1.0))}
    return bt.Twin(name="pair", vector_field=vector_field, parameters=parameters, **usual | members)


SAME = {
    "items": lambda t, x, p, u: {"a": x["b"], "b": -p["k"] * x["a"]},
    "places": lambda t, x, p, u: {"a": x[1], "b": -p[0] * x[0]},
    "list": lambda t, x, p, u: [x["b"], -p.k * x.a],
    "tuple": lambda t, x, p, u: (x.b, -p.k * x["a"]),
    "array": lambda t, x, p, u: jnp.array([x.b, -p.k * x.a]),
    "matrix": lambda t, x, p, u: jnp.array([[0.0, 1.0], [-p.k, 0.0]]) @ jnp.array(x),
    "parts of an array": lambda t, x, p, u: jnp.zeros(2).at[0].set(x.b).at[1].set(-p.k * x.a),
    "unpacked": lambda t, x, p, u: (lambda a, b: [b, -p.k * a])(*x),
}


@pytest.fixture(scope="module")
def asked() -> bt.Telemetry:
    return bt.read_telemetry(pd.DataFrame({"time": np.linspace(0.0, 3.0, 7)}))


@pytest.mark.parametrize("case", SAME)
def test_it_is_the_oscillator_that_it_says(case: str, asked: bt.Telemetry) -> None:
    """a = 2 cos ωt − (0.5 / ω) sin ωt with ω² = k."""
    solved = bt.simulate(pair(SAME[case]), {"k": 1.3}, asked, seed=0)
    t, pace = np.linspace(0.0, 3.0, 7), math.sqrt(1.3)
    exact = 2.0 * np.cos(pace * t) - 0.5 / pace * np.sin(pace * t)
    np.testing.assert_allclose(solved["a_noise_free"], exact, rtol=1e-4, atol=1e-5)
    slope = -2.0 * pace * np.sin(pace * t) - 0.5 * np.cos(pace * t)
    np.testing.assert_allclose(solved["b_state"], slope, rtol=1e-4, atol=1e-5)


def test_affine_fields_are_solved_exactly_however_they_are_returned() -> None:
    assert all(is_affine(pair(SAME[case])) for case in ("items", "list", "tuple", "array"))


def test_inputs_and_steady_states_are_items_too() -> None:
    settled = bt.Twin(
        name="settled",
        vector_field=lambda t, x, p, u: [p["k"] * (u["drive"] - x["a"])],
        states={"a": bt.State(bt.SteadyState())},
        parameters={"k": bt.Parameter(2.0)},
        inputs={"drive": bt.Input()},
        observations={"seen": bt.Observation(bt.Gaussian(0.1), of=lambda t, x, p, u: x["a"] + u["drive"])},
    )
    rows = bt.read_telemetry(pd.DataFrame({"time": [0.0, 1.0, 2.0], "drive": 3.0}))
    np.testing.assert_allclose(bt.simulate(settled, {}, rows, seed=0)["seen_noise_free"], 6.0, rtol=1e-6)


def test_the_order_of_a_list_is_that_of_the_states() -> None:
    with pytest.raises(InvalidTwin, match=r"(?s)keys `a`, `b`, or 2 values in this order.*a list of 3"):
        pair(lambda t, x, p, u: [x.b, x.a, 0.0])
    with pytest.raises(InvalidTwin, match=r"(?s)2 values in this order.*an array of 1"):
        pair(lambda t, x, p, u: jnp.array([x.b]))
    with pytest.raises(InvalidTwin, match=r"(?s)derivative of `b`.*\(3,\)"):
        pair(lambda t, x, p, u: [x.b, jnp.ones(3)])


# What JAX cannot trace: functions, each with the line that is to be shown in its place.

TABLE = [1.0, 2.0, 3.0]


def numpy_ufunc(t, x, p, u):
    return {"a": -np.exp(x.a), "b": 0.0}


def math_function(t, x, p, u):
    rate = -math.exp(-p.k) * x["a"]  # a rate
    return [rate, 0.0]


def imported_alone(t, x, p, u):
    return [exp(x.a) + math.erf(x.b), scipy.special.expit(x.a) + math.log(p.k, 2)]


def branch(t, x, p, u):
    if x.a > 0:
        flow = p.k * x.a
    else:
        flow = 0.0
    return [flow, 0.0]


def branch_without_else(t, x, p, u):
    flow = 0.5
    if x.a > 0 and not x.b > 1:
        flow += p.k * x.a
    return [flow, 0.0]


def branches(t, x, p, u):
    if x.a > 2:
        flow = 1.0
    elif 0 < x.a < 1 or x.b > 3:
        flow = 2.0
    else:
        flow = max(x.a, 0)
    return [flow, 0.0]


def branch_that_returns(t, x, p, u):
    if x.a > 0:
        return {"a": 1.0, "b": x.b}
    return {"a": math.sin(x.a), "b": x.b}


def several_lines(t, x, p, u):
    return {
        "a": max(x.a, 0),
        "b": -min(x.b, p.k, 3.0),
    }


def conditional(t, x, p, u):
    return {"a": x.a if x.a > 0 else 0.0, "b": x.b if x.b else 1.0}


def loop(t, x, p, u):
    a = x.a
    while a > 1.0:
        a = a / 2
    return [a, 0.0]


def in_place(t, x, p, u):
    d = np.zeros(2)
    d[0] = x.b
    return [d[0], d[1]]


def in_place_of_jax(t, x, p, u):
    d = jnp.ones(2)
    d[0] -= x.b
    return [d[0], d[1]]


def array_of_numpy(t, x, p, u):
    return np.array([x.b, -np.clip(x.a, 0.0, 1.0)])


def converted(t, x, p, u):
    return [float(x.a) + int(x.b), x.b.item()]


def looked_up(t, x, p, u):
    place = jnp.int32(jnp.abs(x.a))
    return [TABLE[place], 0.0]


def any_of_several(t, x, p, u):
    return [1.0 if any(v > 0 for v in (x.a, x.b)) else 0.0, 0.0]


def helper(level):
    return np.sqrt(abs(level))


def through_a_helper(t, x, p, u):
    return [helper(x.a), 0.0]


WRITTEN = {
    numpy_ufunc: 'return {"a": -jnp.exp(x.a), "b": 0.0}',
    math_function: 'rate = -jnp.exp(-p.k) * x["a"]  # a rate',
    imported_alone: "return [jnp.exp(x.a) + jax.scipy.special.erf(x.b), jax.scipy.special.expit(x.a) + jnp.log(p.k) / "
    "jnp.log(2)]",
    branch: "flow = jnp.where(x.a > 0, p.k * x.a, 0.0)",
    branch_without_else: "flow = jnp.where((x.a > 0) & ~(x.b > 1), flow + (p.k * x.a), flow)",
    branches: "flow = jnp.where(x.a > 2, 1.0, jnp.where(((0 < x.a) & (x.a < 1)) | (x.b > 3), 2.0, "
    "jnp.maximum(x.a, 0)))",
    branch_that_returns: 'return {"a": jnp.where(x.a > 0, 1.0, jnp.sin(x.a)), "b": x.b}',
    several_lines: '"a": jnp.maximum(x.a, 0),\n"b": -jnp.minimum(jnp.minimum(x.b, p.k), 3.0),',
    conditional: 'return {"a": jnp.where(x.a > 0, x.a, 0.0), "b": jnp.where(x.b != 0, x.b, 1.0)}',
    loop: "for _ in range(…):  # the most turns there can be\n    a = jnp.where(a > 1.0, a / 2, a)",
    in_place: "d = jnp.zeros(2)\nd = d.at[0].set(x.b)",
    in_place_of_jax: "d = d.at[0].add(-x.b)",
    array_of_numpy: "return jnp.array([x.b, -jnp.clip(x.a, 0.0, 1.0)])",
    converted: "return [x.a + jnp.trunc(x.b), x.b]",
    looked_up: "return [jnp.array(TABLE)[place], 0.0]",
    any_of_several: "return [jnp.where(jnp.any(jnp.array([v > 0 for v in (x.a, x.b)])), 1.0, 0.0), 0.0]",
    through_a_helper: "return jnp.sqrt(abs(level))",
}


def shown(part: str | None) -> str:
    """The source text in a part of an error."""
    assert part is not None
    one = re.search(r"`([^`]*)`$", part)
    return one[1] if one and "\n" not in part else textwrap.dedent(part.partition("\n")[2])


def refused(function: Callable, **members: object) -> InvalidTwin:
    with pytest.raises(InvalidTwin) as raised:
        pair(function, **members)
    return raised.value


@pytest.mark.parametrize("function", WRITTEN, ids=lambda one: one.__name__)
def test_the_line_is_shown_as_it_should_be_written(function: Callable) -> None:
    error = refused(function)
    own = helper if function is through_a_helper else function
    assert shown(error.expected) == WRITTEN[function]
    assert "".join(shown(error.received).split()) in "".join(inspect.getsource(own).split())
    number, file = re.search(r"line (\d+) of `(.*)`", error.problem).groups()
    source, begin = inspect.getsourcelines(own)
    assert file == __file__
    assert begin <= int(number) < begin + len(source)


@pytest.mark.parametrize("function", WRITTEN, ids=lambda one: one.__name__)
def test_what_is_shown_traces_and_computes_the_same(function: Callable) -> None:
    error = refused(function)
    own = helper if function is through_a_helper else function
    text = inspect.getsource(own)
    received, written = shown(error.received), shown(error.expected).replace("…", "99")
    indent = re.search(rf"(?m)^( +){re.escape(received.splitlines()[0])}$", text)[1]
    before, after = textwrap.indent(received, indent), textwrap.indent(written, indent)
    assert before in text
    names = {**globals()}
    exec(compile(text.replace(before, after), "<written>", "exec"), names)
    new = names[function.__name__]
    if own is helper:
        new = types.FunctionType(function.__code__, names)
    pair(new)
    for a, b in ((2.6, -0.7), (-1.2, 0.4), (0.4, 1.5)):
        x, p = namespace("states", ("a", "b"))(np.float64(a), np.float64(b)), namespace("parameters", ("k",))(0.8)
        expected = [1.0 - b, 1.0] if function is in_place_of_jax else function(0.0, x, p, ())
        found = new(0.0, x._make(map(jnp.asarray, x)), p, ())
        expected, found = ([*one.values()] if isinstance(one, dict) else one for one in (expected, found))
        np.testing.assert_allclose(np.asarray(found, float), np.asarray(expected, float), rtol=1e-12)


def no_other_way(t, x, p, u):
    turns = 0.0
    for _ in range(int(x.a)):
        turns = turns + 1.0
    return [turns, 0.0]


def asserted(t, x, p, u):
    assert x.a > 0
    return [x.a, x.b]


def new_value(t, x, p, u):
    x["a"] -= p.k
    return [x.a, 0.0]


def does_more(t, x, p, u):
    flow = 0.0
    if x.a > 0:
        flow, side = 1.0, 2.0
        flow = flow * side
    return [flow, 0.0]


def swapped(t, x, p, u):
    a, b = x.a, x.b
    if a > b:
        a = x.b
        b = a
    return [a, b]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (no_other_way, r"(?s)jnp.where.*range\(int\(x.a\)\):.*How often a loop turns has to be known"),
        (asserted, r"(?s)assert x.a > 0.*leave the line out"),
        (new_value, r"(?s)`a = x\[\"a\"\] - p.k`.*`x\[\"a\"\] -= p.k`.*name of its own"),
        (does_more, r"(?s)`jnp.where\(x.a > 0, …, …\)`.*`if x.a > 0:`"),
        (swapped, r"(?s)`jnp.where\(a > b, …, …\)`"),  # one line after the other would compute something else
    ],
)
def test_where_there_is_no_line_to_write_it_says_what_to_do(function: Callable, words: str) -> None:
    assert re.search(words, str(refused(function)))


@pytest.mark.parametrize(
    ("members", "owner", "written"),
    [
        (
            {"observations": {"y": bt.Observation(bt.Gaussian(0.1), of=lambda t, x, p, u: np.log(x.a))}},
            "`of=` of observation `y`",
            "jnp.log(x.a)",
        ),
        (
            {"events": {"e": bt.Event(lambda t, x, p, u: {"a": max(x.a, 1.0)}, at=(1.0,))}},
            "`effect=` of event `e`",
            "jnp.maximum(x.a, 1.0)",
        ),
        (
            {"events": {"e": bt.Event(lambda t, x, p, u: {"a": 1.0}, when=lambda t, x, p, u: math.sin(t) - x["a"])}},
            "`when=` of event `e`",
            'jnp.sin(t) - x["a"]',
        ),
        (
            {"states": {"a": bt.State(lambda p: math.sqrt(p["k"])), "b": bt.State(0.0)}},
            "`initial=` of state `a`",
            'jnp.sqrt(p["k"])',
        ),
        (
            {
                "observations": {
                    "a": bt.Observation(bt.NoiseFrom(lambda v, p: dist.Normal(v, np.abs(v) * p.s), {"s": 0.1}))
                }
            },
            "noise of observation `a`",
            "jnp.abs(v) * p.s",
        ),
        (
            {
                "observations": {
                    "a": bt.Observation(bt.NoiseFrom(lambda v, p: dist.Normal(v, max(p["s"], v)), {"s": 0.1}))
                }
            },
            "noise of observation `a`",
            'jnp.maximum(p["s"], v)',
        ),
    ],
)
def test_it_is_the_same_for_all_functions_of_a_twin(members: dict, owner: str, written: str) -> None:
    with pytest.raises(InvalidTwin) as raised:
        pair(**members)
    assert owner in raised.value.problem
    assert f"of `{__file__}`" in raised.value.problem
    assert written in raised.value.expected


def test_names_and_arguments_are_told_as_such() -> None:
    misspelt = bt.NoiseFrom(lambda v, p: dist.Normal(v, p["scal"]), {"scale": 0.1})
    with pytest.raises(InvalidTwin, match=r"(?s)asks for `scal`.*parameters.*Did you mean `scale`"):
        pair(observations={"a": bt.Observation(misspelt)})
    with pytest.raises(InvalidTwin, match=r"(?s)asks for `aa`.*states.*Did you mean `a`"):
        pair(lambda t, x, p, u: [x["aa"], 0.0])
    with pytest.raises(
        InvalidTwin, match=r"(?s)`initial=`.*a function of `\(p\)` or `\(p, u\)`.*one of `\(t, x, p, u\)`"
    ):
        pair(states={"a": bt.State(lambda t, x, p, u: p.k), "b": bt.State(0.0)})
    with pytest.raises(InvalidTwin, match=r"(?s)fails in line \d+.*ZeroDivisionError"):
        pair(lambda t, x, p, u: [x.a * (1 / 0), 0.0])


def test_no_traceback_of_jax_is_shown() -> None:
    text = "".join(traceback.format_exception(refused(branch)))
    assert "Traced<" not in text
    assert "TracerBoolConversionError: " not in text
    assert "jax/_src" not in text


def test_it_works_without_the_source() -> None:
    names: dict = {"np": np}
    exec("def field(t, x, p, u):\n    return [np.exp(x.a), 0.0]", names)
    error = refused(names["field"])
    assert "line 2 of `<string>`" in error.problem
    assert "jax.numpy" in error.expected


def test_what_has_to_be_imported_is_said(tmp_path) -> None:
    file = tmp_path / "model.py"
    file.write_text("import math\n\ndef field(t, x, p, u):\n    return [math.erf(x.a), math.exp(x.b)]\n", "utf-8")
    names: dict = {}
    exec(compile(file.read_text("utf-8"), str(file), "exec"), names)
    error = refused(names["field"])
    assert error.expected.endswith("`return [jax.scipy.special.erf(x.a), jnp.exp(x.b)]`")
    assert error.advice.endswith("It takes `import jax.numpy as jnp; import jax`.")
    assert jax.numpy is jnp
