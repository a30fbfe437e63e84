"""The times at which the solver stops, the inputs between them, the events at them, and the states between stops.

The solver stops at each time that is saved, at each input sample and at each event whose time is known, so between two
stops every input is a polynomial and the right-hand side is smooth: an adaptive step never has to find a kink by trial
and error. Where there are neither inputs nor events nothing kinks between saved times, and where these are dense it
may stop on a coarser mesh and interpolate.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bayestwin._base.compilation import Program
from bayestwin._base.keys import Keyed, key_of
from bayestwin.dynamics.signals import SampledSignal, Signals, extended, gather
from bayestwin.dynamics.steppers import NODES, Precision, Slope
from bayestwin.dynamics.switching import take_apart
from bayestwin.model.dependence import parameters, prior_of, start_at
from bayestwin.model.error import ProcessNoise
from bayestwin.model.tracing import namespace
from bayestwin.model.twin import Twin

# States between two stops, from what the right-hand side says at each of them: quintic Hermite interpolation.
#
# Value, slope and curvature are matched at both stops, so the error is of order 6 in their distance, one more than
# that of an explicit step. J. C. Butcher (2016), doi:10.1002/9781119121534.


class Between(NamedTuple):
    """Where n saved times lie between stops: r rows of up to w times from the same interval.

    In rows, a batch of small matrix products gives all states, and few rows are looked up, which in reverse mode means
    few sums to be scattered.

    Attributes:
        interval: The interval of each row; shape (r,), not decreasing.
        within: The part of the interval that has passed, from 0 to 1, 0 beyond the end of a row; shape (r, w).
        place: Positions of the saved times in the rows, one after the other; shape (n,).
    """

    interval: np.ndarray
    within: np.ndarray
    place: np.ndarray


def locate(edges: np.ndarray, times: np.ndarray) -> Between:
    """Where times, increasing and shape (n,), lie between stops, shape (m + 1,); n and m are at least 1."""
    interval = np.clip(np.searchsorted(edges, times, side="right") - 1, 0, len(edges) - 2)
    width = -(-len(times) // (len(edges) - 1))
    column = (np.arange(len(times)) - np.searchsorted(interval, interval)) % width
    begins = column == 0
    place = (np.cumsum(begins) - 1) * width + column
    within = np.zeros(begins.sum() * width)
    within[place] = (times - edges[interval]) / np.diff(edges)[interval]
    return Between(interval[begins], within.reshape(-1, width), place)


def interpolate(slope: Slope, edges: np.ndarray, states: Array, at: Between) -> Array:
    """States between stops.

    Args:
        slope: The right-hand side, smooth between stops.
        edges: Times of the stops; shape (m + 1,).
        states: States there; shape (m + 1, s).
        at: Where the n saved times lie.

    Returns:
        States at the saved times; shape (n, s).
    """

    def derivatives(t: Array, state: Array) -> tuple[Array, Array]:
        first = slope(t, state)
        return first, jax.jvp(slope, (t, state), (jnp.ones_like(t), first))[1]

    first, second = jax.vmap(derivatives)(jnp.asarray(edges), states)
    length = jnp.diff(jnp.asarray(edges))[:, None]
    ends = [(x[:-1] * scale, x[1:] * scale) for x, scale in ((states, 1.0), (first, length), (second, length**2))]
    known = jnp.stack([side for both in ends for side in both], axis=1)
    known = known.at[at.interval].get(mode="promise_in_bounds", indices_are_sorted=True)
    rows = jnp.einsum("rwk,rks->rws", jnp.stack(hermite(jnp.asarray(at.within)), axis=-1), known)
    rows = rows.reshape(-1, states.shape[1])
    return rows.at[at.place].get(mode="promise_in_bounds", indices_are_sorted=True, unique_indices=True)


def hermite(x: Array) -> list[Array]:
    """Weights of value, slope and curvature, each at the start and at the end of an interval of length 1."""
    x3, x4, x5 = x**3, x**4, x**5
    return [
        1.0 - 10.0 * x3 + 15.0 * x4 - 6.0 * x5,
        10.0 * x3 - 15.0 * x4 + 6.0 * x5,
        x - 6.0 * x3 + 8.0 * x4 - 3.0 * x5,
        -4.0 * x3 + 7.0 * x4 - 3.0 * x5,
        0.5 * x**2 - 1.5 * x3 + 1.5 * x4 - 0.5 * x5,
        0.5 * x3 - x4 + 0.5 * x5,
    ]


class FixedSteps(NamedTuple):
    """Explicit steps of fixed length, one after the other; k in all.

    Attributes:
        interval: In which interval each is; shape (k,).
        number: The how manieth of its interval each is, from 0 on; shape (k,).
        length: Shape (k,).
        last: The last step of each interval, or of those before it where it has none; shape (m,).
    """

    interval: np.ndarray
    number: np.ndarray
    length: np.ndarray
    last: np.ndarray


class Kinds(NamedTuple):
    """Intervals of a grid that have an exact step in common.

    Attributes:
        first: One interval of each kind; shape (g,).
        which: The kind of each interval; shape (m,).
        lengths: Of each kind; shape (g,).
    """

    first: np.ndarray
    which: np.ndarray
    lengths: np.ndarray

    def each(self, leaf: Array) -> Array:
        """What each interval has of what its kind has, shape (…, g): (…, m), or (…, 1) where all are of one kind."""
        return leaf if len(self.first) == 1 else leaf[..., self.which]


class Grid(NamedTuple):
    """Stops of the solver: m intervals, n saved times, q inputs, e events whose times are known.

    All fields may be traced: what is compiled for a grid depends on its shapes alone.

    Attributes:
        edges: Elapsed times of the stops, increasing from 0; shape (m + 1,).
        coefficients: Inputs within each interval, as coefficients of the powers of the time since its start, from 0
            on; shape (m, k, q).
        save: Positions of the saved times among the edges; shape (n,).
        inputs: Inputs at the saved times; shape (n, q).
        amounts: The value with which each event (`twin.timed`) happens at the start of each interval, NaN where it
            does not; shape (m, e).
        precision: Of the steps of an adaptive solver.
        fixed: Explicit steps that are laid out beforehand; None where an adaptive solver chooses.
        between: Where the saved times lie between the stops; None where each of them is a stop, as `save` says.
        kinds: Of an affine twin, which intervals are alike.
        signals: Of a twin with delays, the samples of the inputs that it asks for at other times than now.
        known: Numbers that the record brings along, by name, as `model/dependence.py` names them in `brought`.
    """

    edges: np.ndarray
    coefficients: np.ndarray
    save: np.ndarray
    inputs: np.ndarray
    amounts: np.ndarray
    precision: Precision
    fixed: FixedSteps | None = None
    between: Between | None = None
    kinds: Kinds | None = None
    signals: Signals | None = None
    known: Mapping[str, Any] = {}

    @property
    def times(self) -> np.ndarray:
        """The saved times; shape (n,)."""
        return self.edges[self.save]

    @property
    def num_stops(self) -> int:
        """Stops after the first one, without those that only fill the grid up."""
        return int(np.max(self.save)) if np.size(self.save) else len(self.edges) - 1

    def on_mesh(self, mesh: np.ndarray) -> "Grid":
        """The same saved times, while the solver stops elsewhere.

        Args:
            mesh: Times to stop at instead, increasing from 0 to the last saved time; shape (k + 1,).
        """
        num = len(mesh) - 1
        none = {"coefficients": np.empty((num, 1, 0)), "save": np.empty(0, int), "amounts": np.empty((num, 0))}
        between = locate(mesh, self.times)
        rest = {"inputs": self.inputs, "precision": self.precision, "known": self.known}
        return Grid(edges=mesh, **none, **rest, between=between)

    def with_substeps(self, substeps: np.ndarray) -> "Grid":
        """The same grid with equal explicit steps laid out in each interval; how many of them, shape (m,)."""
        last = np.cumsum(substeps) - 1
        interval = np.repeat(np.arange(len(substeps)), substeps)
        number = np.arange(len(interval)) - (last - substeps + 1)[interval]
        length = np.diff(self.edges)[interval] / substeps[interval]
        return self._replace(fixed=FixedSteps(interval, number, length, last))

    @property
    def at_start(self) -> np.ndarray:
        """Inputs at the first edge; shape (q,)."""
        return self.coefficients[0, 0] if len(self.coefficients) else self.inputs[0]

    @property
    def left(self) -> Any:
        """Inputs at the start of each interval; shape (m, q)."""
        return self.coefficients[:, 0]

    @property
    def right(self) -> Any:
        """Inputs at the end of each interval; shape (m, q)."""
        length = (self.edges[1:] - self.edges[:-1])[:, None]
        value = self.coefficients[:, -1]
        for power in range(self.coefficients.shape[1] - 2, -1, -1):
            value = self.coefficients[:, power] + length * value
        return value


def inputs_from(start: Array, coefficients: Array) -> Callable[[Array], Array]:
    """Inputs as a function of time within one interval, from its start and its coefficients, shape (k, q)."""

    def inputs_at(t: Array) -> Array:
        value = coefficients[-1]
        for coefficient in coefficients[-2::-1]:
            value = coefficient + (t - start) * value
        return value

    return inputs_at


def build_grid(
    twin: Twin,
    times: np.ndarray,
    knots: np.ndarray,
    inputs: Mapping[str, np.ndarray],
    events: Mapping[str, np.ndarray] | None = None,
    known: Mapping[str, np.ndarray] | None = None,
    *,
    start: float = 0.0,
) -> Grid:
    """Lay out the stops for given times, input samples and events.

    Args:
        twin: Says how each input goes on between and beyond its samples, and when its events are.
        times: Elapsed times to save, increasing, from the start on, those of replicates more than once; shape (n,).
        knots: Elapsed times of the samples, likewise; shape (k,).
        inputs: Input samples by name, NaN where there is none; shape (k,) each.
        events: Values of the events that the telemetry tells, by name, NaN where there is none; shape (k,) each.
        known: Numbers that the record brings along, by name.
        start: Elapsed time at which the twin starts.

    Raises:
        InvalidTelemetry: If an input is asked for beyond its samples and its `beyond` is `"error"`.
    """
    end = times[-1]
    if (np.diff(knots) == 0.0).any():  # replicates: an input is the same in all of them
        knots, first = np.unique(knots, return_index=True)
        inputs, events = ({n: v[first] for n, v in (one or {}).items()} for one in (inputs, events))
    signals = [extended(n, s, SampledSignal(knots, inputs[n]), end) for n, s in twin.inputs.items()]
    happening = [_happening(twin.events[name].at, knots, (events or {}).get(name)) for name in twin.timed]
    samples = [signal.times for signal in (*signals, *happening)]
    stops = np.concatenate([[start], times, *samples])
    edges = np.unique(stops[(stops >= start) & (stops <= end)])
    edges = np.union1d(edges, stops_within(twin, edges, signals, known))
    delayed = gather(twin, dict(zip(twin.inputs, signals, strict=True)))
    polynomials = [
        signal.polynomials(spec.hold, edges) for signal, spec in zip(signals, twin.inputs.values(), strict=True)
    ]
    degree = max((len(p) for p in polynomials), default=1)
    coefficients = np.zeros((len(edges), degree, len(polynomials)))
    for number, polynomial in enumerate(polynomials):
        coefficients[:, : len(polynomial), number] = polynomial.T
    amounts = np.full((len(edges), len(happening)), np.nan)
    for number, event in enumerate(happening):
        inside = (event.times >= start) & (event.times <= end)
        amounts[np.searchsorted(edges, event.times[inside]), number] = event.values[inside]
    save = np.searchsorted(edges, times)
    precision = precision_of(twin)
    at_saved = coefficients[save, 0]
    return Grid(edges, coefficients[:-1], save, at_saved, amounts[:-1], precision, signals=delayed, known=known or {})


def precision_of(twin: Twin) -> Precision:
    """How exactly a twin asks to be solved."""
    solver = twin.solver
    atol = np.full(twin.layout.size + len(twin.switched), solver.atol)
    return Precision(np.asarray(solver.rtol, float), atol, np.asarray(solver.max_steps))


def _happening(at: Any, knots: np.ndarray, values: np.ndarray | None) -> SampledSignal:
    """When an event happens that does not depend on what is solved for, and its values then."""
    if callable(at):
        return SampledSignal(np.empty(0), np.empty(0))
    if at is not None:
        return SampledSignal(np.asarray(at, float), np.ones(len(at)))
    assert values is not None
    present = np.isfinite(values)
    return SampledSignal(knots[present], values[present])


# Stopping less often than at each saved time: a mesh of the steps that solutions take by themselves.
#
# With 10,000 observations and no inputs nearly all of the time goes into stopping; between the stops of the mesh the
# states are interpolated. The mesh is as fine, everywhere, as the finest of the solves that it was learnt from.

LEAST_STOPS, LEAST_SAVING, MOST_NODES = 1_000, 4, 20_000
"""Fewer stops are not worth the solves that find a mesh, nor is a mesh that saves less than this many times; and a
limit for memory."""


def most_nodes(twin: Twin, grid: Grid) -> int:
    """The largest mesh that would pay; 0 where none does, or the twin forbids one: by kinks, jumps or stiffness."""
    stops = len(grid.edges) - 1
    kinked = twin.inputs or twin.events or isinstance(twin.model_error, ProcessNoise)
    if kinked or twin.solver.method in ("exact", "rodas5p") or stops < LEAST_STOPS or take_apart(twin).count:
        return 0
    return min(stops // LEAST_SAVING, MOST_NODES)


def plan_mesh(traced: np.ndarray) -> np.ndarray:
    """A mesh on which no solve would need finer steps.

    Args:
        traced: Time after each step of n solves, repeating the end where there was none any more; shape (n, k).

    Returns:
        Increasing times from 0 to the end.
    """
    end = traced[0, -1]
    marks = np.unique(np.append(traced, 0.0))
    middle = (marks[1:] + marks[:-1]) / 2
    rate = np.zeros_like(middle)  # of steps, per time
    for times in traced:
        edges = np.concatenate([[0.0], times[times < end], [end]])
        length = np.diff(edges)
        length[-1] = max(length[-2:])  # the last step was cut short by the end
        rate = np.maximum(rate, 1.0 / length[np.searchsorted(edges, middle) - 1])
    passed = np.concatenate([[0.0], np.cumsum(rate * np.diff(marks))])
    return np.interp(np.linspace(0.0, passed[-1], int(np.ceil(passed[-1])) + 1), passed, marks)


# What the equations do in time between two stops, looked at before anything is solved: a step that sees nothing at its
# few times of a pulse between them goes across it, and so does one that is a hundred times more precise.

NUM_LOOKED, NUM_DRAWS, MOST_SIGNALS = 65_536, 16, 400
"""At how many times the field is looked at, and for how many draws of what is inferred; for fewer where there are so
many states that these were more signals than there is memory for."""

LEAST_BETWEEN, MOST_STOPS = 8, 512
"""Of these times at least so many lie in an interval; and how many stops are set at most."""

NOTICED, NARROW, FADED = 0.01, 0.05, 0.1
"""What happens counts from this share of the field's largest value on, and is hidden where it takes no more than this
share of an interval; it is over where so much of it is left."""

STEP_TIMES = np.array([0.0, *NODES[:3], 1.0])


def stops_within(
    twin: Twin, edges: np.ndarray, signals: Sequence[SampledSignal], known: Mapping[str, np.ndarray] | None = None
) -> np.ndarray:
    """Times at which the solver has to stop so that it goes across nothing that the equations do in time.

    A pulse that is shorter than the record's 65,536th part is not found.

    Args:
        twin: The twin.
        edges: Where the solver stops anyway; shape (m + 1,).
        signals: Inputs.
        known: Numbers that the record brings along, by name.
    """
    num = len(edges) - 1
    if num < 1 or num * LEAST_BETWEEN > NUM_LOOKED or isinstance(twin.model_error, ProcessNoise):
        return edges[:0]
    if not is_shaped(twin):
        return edges[:0]
    times, interval = _looked_at(edges)
    specs = zip(signals, twin.inputs.values(), strict=True)
    values = [_values_at(signal, spec.hold, edges, times, interval) for signal, spec in specs]
    inputs = np.reshape(values, (len(signals), len(times))).T
    begins = np.searchsorted(interval, interval)  # the first time of each one's interval
    with jax.ensure_compile_time_eval():  # a grid is known when what is solved on it is traced
        field, gaps = map(np.asarray, _look(Keyed(twin, key_of(twin)), times, inputs, begins, known or {}))
    usable = np.isfinite(field).all(axis=(1, 2)) & np.isfinite(gaps).all(axis=(1, 2))
    rates = field[usable].transpose(0, 2, 1).reshape(-1, len(times))
    least = NOTICED * np.abs(rates).max(axis=1, initial=0.0)
    bounds = np.searchsorted(interval, np.arange(num + 1))
    found: list[float] = []
    for low, high in itertools.pairwise(bounds):
        for signal, limit in zip(rates, least, strict=True):
            found += [float(times[place]) for place in _hidden(times, signal, low, high - 1, limit)]
        found += _between_crossings(times, gaps[usable], low, high - 1)
        if len(found) > MOST_STOPS:
            break
    return np.unique(found)[:MOST_STOPS]


def is_timed(twin: Twin) -> bool:
    """Whether a derivative depends on time but through inputs."""
    return _kept(twin).timed


def is_shaped(twin: Twin) -> bool:
    """Whether something may happen in time that nothing tells beforehand: as of `Equations.shaped`."""
    return _kept(twin).shaped


class _InTime(NamedTuple):
    timed: bool
    shaped: bool


def _kept(twin: Twin) -> _InTime:
    """How equations depend on time; the trace that tells it is made once for each twin."""
    known = vars(twin)
    if "_in_time" not in known:
        equations = take_apart(twin)
        known["_in_time"] = _InTime(equations.timed, equations.shaped)
    return known["_in_time"]


def _looked_at(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times at which the field is looked at, and the interval of each; both ends of each interval are among them."""
    lengths = np.diff(edges)
    num = LEAST_BETWEEN + ((NUM_LOOKED - LEAST_BETWEEN * len(lengths)) * lengths / lengths.sum()).astype(int)
    num[np.argmax(lengths)] += NUM_LOOKED - num.sum()
    rows = [np.linspace(begin, end, n) for begin, end, n in zip(edges[:-1], edges[1:], num, strict=True)]
    return np.concatenate(rows), np.repeat(np.arange(len(num)), num)


def _values_at(signal: SampledSignal, hold: Any, edges: np.ndarray, times: np.ndarray, interval: np.ndarray) -> Any:
    """An input at times within intervals."""
    powers = signal.polynomials(hold, edges)[:, interval]
    passed = times - edges[:-1][interval]
    return sum(coefficient * passed**power for power, coefficient in enumerate(powers))


@Program
def _look(
    twin: Keyed[Twin], times: Array, inputs: Array, begins: Array, known: Mapping[str, Array]
) -> tuple[Array, Array]:
    """The field at the states' initial values, shape (d, n, s), and its gaps that depend on time, shape (d, n, k).

    Switches are held as they are at the beginning of each interval, whose place among the times is given.
    """
    specs = twin.value

    def one(key: Array) -> tuple[Array, Array]:
        names = [*specs.parameters, *(f"{name}_initial" for name in specs.states)]
        keys = dict(zip(names, jax.random.split(key, len(names)), strict=True))
        values: dict[str, Any] = dict(known)
        for site in specs.sites():
            if site.name in keys:
                values[site.name] = jnp.asarray(prior_of(specs, site, values).sample(keys[site.name]), float)
        p = parameters(specs, values)
        started = specs.layout.join([start_at(specs, name, values, p, inputs[0]) for name in specs.states])
        x = namespace("states", tuple(specs.states))(*specs.layout.split(started))
        equations = take_apart(specs)

        def u_of(*now: Array) -> list[Array]:
            return equations.as_ever(dict(zip(specs.inputs, now, strict=True)))

        def at(t: Array, u: Array, begun: Array, first: Array) -> tuple[Array, Array]:
            unknown = jnp.full(equations.count, jnp.nan)
            modes = equations.follow(begun, x, p, u_of(*first), unknown, unknown)
            derivative, gaps = equations.hold(t, x, p, u_of(*u), modes)
            return specs.layout.join([derivative[name] for name in specs.states]), gaps[equations.by_time]

        return jax.vmap(at)(times, inputs, times[begins], inputs[begins])

    num = max(1, min(NUM_DRAWS, MOST_SIGNALS // specs.layout.size))
    return jax.vmap(one)(jax.random.split(jax.random.key(0), num))


def _hidden(times: np.ndarray, signal: np.ndarray, low: int, high: int, least: float) -> list[int]:
    """Places where something begins, is at its height and ends that is short within what a step may go across.

    Args:
        times: Shape (n,).
        signal: Shape (n,).
        low: Place of the beginning of the interval.
        high: Place of its end.
        least: From which deviation on anything is looked for.
    """
    if high - low < 2 * LEAST_BETWEEN:
        return []
    part, span = signal[low : high + 1], times[low : high + 1]
    marks = span[0] + STEP_TIMES * (span[-1] - span[0])
    missed = np.abs(part - np.interp(span, marks, np.interp(marks, span, part)))
    most = missed.max()
    if most <= least:
        return []
    if np.mean(missed > most / 2.0) > NARROW:  # a step that goes across this sees it, and becomes shorter
        middle = (low + high) // 2
        return [*_hidden(times, signal, low, middle, least), *_hidden(times, signal, middle, high, least)]
    height = int(np.argmax(missed))
    faded = np.flatnonzero(missed <= FADED * most)
    begin, end = low + faded[faded < height][-1], low + faded[faded > height][0]
    around = _hidden(times, signal, low, begin, least), _hidden(times, signal, end, high, least)
    return [*around[0], begin, low + height, end, *around[1]]


def _between_crossings(times: np.ndarray, gaps: np.ndarray, low: int, high: int) -> list[float]:
    """Times between two changes of one comparison, of which a step that sees only its ends would see neither."""
    found = []
    for draw in gaps:
        for gap in draw[low : high + 1].T:
            crossed = np.flatnonzero(np.diff(gap >= 0.0))
            found += [float((times[low + a + 1] + times[low + b]) / 2.0) for a, b in itertools.pairwise(crossed)]
    return found
