"""Binding telemetry to a twin: columns to signals, units to the twin's, times to elapsed time, all checked.

What comes out is plain float64 arrays, so that nothing has to be checked again once the solver runs. Several
experiments are bound one by one and padded to one shape.
"""

import contextlib
import contextvars
import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr
from jax import Array
from jax.typing import ArrayLike

from bayestwin._base.units import convert
from bayestwin.density.rows import (
    check_before,
    check_replicates,
    check_support,
    column_of,
    noise_column,
    observed_column,
    once,
    rows_before,
)
from bayestwin.dynamics.grid import Grid, Kinds
from bayestwin.errors import InvalidTelemetry
from bayestwin.model.components import Input
from bayestwin.model.dependence import brought
from bayestwin.model.twin import Twin
from bayestwin.model.types import ByExperiment, First
from bayestwin.telemetry import Telemetry
from bayestwin.telemetry.leakage import refuse_lost_doses, refuse_same_time
from bayestwin.telemetry.times import counted, paired


class Bound(NamedTuple):
    """Telemetry in a twin's terms, for n times.

    Attributes:
        times: Elapsed time since `t0`, in the twin's `time_unit`, increasing; shape (n,).
        labels: The user's own times; shape (n,).
        observations: By name, in the twin's units, NaN = missing; shape (n,) each.
        inputs: By name, in the twin's units; NaN after their last sample, where the twin says how they go on; shape
            (n,) each.
        events: By name, the values of those that the telemetry tells; NaN where none happens; shape (n,) each.
        columns: By `<observation>_<quantity>`, what noise takes from the telemetry row by row, in the unit of the
            quantity; a limit is NaN where there is none; shape (n,) each.
        since: By observation that is not a value at a time, the row from which on each is read, −1 for `t0`; shape
            (n,) each.
        known: By name, numbers that the record brings along; shape () each.
        weights: How much the readings of each row count, see `faded`; None where all count in full; shape (n,).
    """

    times: np.ndarray
    labels: np.ndarray
    observations: Mapping[str, np.ndarray]
    inputs: Mapping[str, np.ndarray]
    events: Mapping[str, np.ndarray] = {}
    columns: Mapping[str, np.ndarray] = {}
    since: Mapping[str, np.ndarray] = {}
    known: Mapping[str, np.ndarray] = {}
    weights: np.ndarray | None = None


def bind(
    twin: Twin,
    telemetry: Telemetry,
    *,
    observed: bool = True,
    known: Mapping[str, Any] | None = None,
    experiment: str | None = None,
) -> Bound:
    """Check telemetry against a twin and convert it.

    Args:
        twin: The twin.
        telemetry: Has a column for each input, and for each observation if `observed`.
        observed: Whether observations must be there; with `False` those that are there are taken.
        known: What the record brings along, where that is known from elsewhere.
        experiment: Its name, where it is one of several.

    Raises:
        InvalidTelemetry: If a column is absent, a unit has the wrong dimension, an input has a gap or is made of an
            observation at the same time, an observation cannot occur under its noise model, there is nothing observed
            at all, a time lies before `t0`, the twin has no number for the experiment, or the telemetry no first value.
    """
    times = elapsed(telemetry.table.index, telemetry.t0, telemetry.units.get("time", twin.time_unit), twin.time_unit)
    if times[0] < 0:
        raise InvalidTelemetry(
            f"Telemetry has a sample at {telemetry.shown(telemetry.table.index[0])}, before the initial state holds.",
            expected=f"times from t0 = {telemetry.shown(telemetry.t0)} on",
            received=f"{int((times < 0).sum())} earlier samples",
            advice="Pass an earlier `t0=`, or drop these rows.",
        )
    if twin.inputs:
        refuse_same_time(telemetry, twin.inputs, twin.observations)
    wrong: list[InvalidTelemetry] = []
    inputs = _found(twin.inputs, lambda name, spec: _input(telemetry, name, spec, observed), wrong)
    told = {name: event for name, event in twin.events.items() if event.kind == "telemetry"}
    events = _found(told, lambda name, event: once(telemetry, name, "event", event.unit), wrong)
    check_replicates(twin, telemetry)
    wanted = {name: one for name, one in twin.observations.items() if observed or telemetry.holds(name)}
    observations = _found(wanted, lambda name, one: observed_column(telemetry, name, one), wrong)
    columns = _found(twin.noise_columns(), lambda name, _: noise_column(twin, telemetry, name, observations), wrong)
    given = {name: np.asarray(number, float) for name, number in (known or {}).items()}

    def bring(name: str, told: tuple[ByExperiment | First, str]) -> np.ndarray:
        return given[name] if name in given else _brought(telemetry, name, *told, experiment)

    own = _found(brought(twin), bring, wrong)
    if wrong:
        raise InvalidTelemetry.all_of(wrong)
    refuse_lost_doses(telemetry, told)
    for name, values in observations.items():
        by_quantity = {c.quantity: columns[own] for own, c in twin.noise_columns().items() if c.owner == name}
        check_support(twin, name, telemetry, values, by_quantity)
    if observed and not any(np.isfinite(values).any() for values in observations.values()):
        raise InvalidTelemetry(
            "Telemetry has no observation at all.",
            expected=f"values for {', '.join(f'`{n}`' for n in wanted)}",
            received="nothing but missing values",
            advice="Without data the posterior would be the prior; check the columns.",
        )
    since = rows_before(twin, times, observations)
    check_before(twin, telemetry, times, observations, since)
    return Bound(times, telemetry.table.index.to_numpy(), observations, inputs, events, columns, since, own)


def _brought(
    telemetry: Telemetry, name: str, spec: ByExperiment | First, unit: str, experiment: str | None
) -> np.ndarray:
    """A number that a record brings along."""
    if isinstance(spec, First):
        return first_value(telemetry, name.removesuffix("_first"), spec.column, unit)
    return _by_experiment(name, spec.numbers, experiment)


def _by_experiment(name: str, numbers: Mapping[str, float], experiment: str | None) -> np.ndarray:
    if experiment is not None and experiment in numbers:
        return np.asarray(numbers[experiment], float)
    raise InvalidTelemetry(
        f"The twin knows `{name}` of each experiment by name, and not of this one.",
        expected=f"experiments called {', '.join(f'`{one}`' for one in numbers)}",
        received="one telemetry, of no named experiment" if experiment is None else f"`{experiment}`",
        advice='Pass telemetry by the names of its experiments, `{"first": telemetry}`, and give the twin a number for '
        "each.",
    )


def first_value(telemetry: Telemetry, name: str, column: str, unit: str) -> np.ndarray:
    """The first value of a column, shape ().

    Args:
        telemetry: Has the column.
        name: What starts with it, for messages.
        column: Its name.
        unit: That it is wanted in.

    Raises:
        InvalidTelemetry: If there is none.
    """
    values = column_of(telemetry, column, "first value of", unit)
    present = values[np.isfinite(values)]
    if present.size:
        return np.asarray(present[0], float)
    raise InvalidTelemetry(
        f"Telemetry has no first value of {telemetry.label(column)}, which `{name}` is.",
        expected="a number in at least one row",
        received="nothing but missing values",
        advice="Correct the column, or give a prior in place of `bt.First`.",
    )


def _found[T](
    wanted: Mapping[str, T], column: Callable[[str, T], np.ndarray], wrong: list[InvalidTelemetry]
) -> dict[str, np.ndarray]:
    """The column of each; why there is none goes to `wrong`, so that all that is missing is told at once."""
    columns = {}
    for name, one in wanted.items():
        try:
            columns[name] = column(name, one)
        except InvalidTelemetry as reason:
            wrong.append(reason)
    return columns


def elapsed(labels: pd.Index, t0: Any, source_unit: str, time_unit: str) -> np.ndarray:
    """Times since `t0` in `time_unit`; epoch seconds and dates lose no digits, since the difference comes first.

    Args:
        labels: The user's times, dates or numbers; shape (n,).
        t0: The user's time at which elapsed time is zero.
        source_unit: Unit of the labels where they are numbers.
        time_unit: Unit wanted.

    Returns:
        float64, shape (n,).
    """
    if isinstance(labels, pd.DatetimeIndex):
        nanoseconds = (labels - pd.Timestamp(t0)).to_numpy().astype("timedelta64[ns]").astype(np.int64)
        return convert(nanoseconds * 1e-9, "s", time_unit, "the twin's time", InvalidTelemetry)
    return convert(labels.to_numpy(np.float64) - float(t0), source_unit, time_unit, "time", InvalidTelemetry)


def _input(telemetry: Telemetry, name: str, spec: Input, observed: bool) -> np.ndarray:
    """Samples of an input; there may be none after the last one where the twin says how it goes on."""
    goes_on = spec.beyond != "error"
    if goes_on and not observed and not telemetry.holds(name):
        return np.full(len(telemetry.table), np.nan)
    values = once(telemetry, name, "input", spec.unit)
    sampled = np.flatnonzero(np.isfinite(values))
    end = sampled.max(initial=-1) + 1 if goes_on and (sampled.size or not observed) else len(values)
    _check_no_gap(name, values[:end], telemetry)
    return values


def _check_no_gap(name: str, values: np.ndarray, telemetry: Telemetry) -> None:
    missing = np.flatnonzero(~np.isfinite(values))
    if missing.size == 0:
        return
    holes = np.split(missing, np.flatnonzero(np.diff(missing) > 1) + 1)
    inner = [hole for hole in holes if hole[0] > 0 and hole[-1] + 1 < values.size]
    said = f"{missing.size} missing, the first {_from_to(holes[0], telemetry)}"
    advice = "What is missing at the start or the end is never filled: begin later or end earlier."
    if inner:
        widest = max(inner, key=lambda hole: _reach(hole, telemetry))
        if widest is not holes[0]:
            said += f", the longest between known values {_from_to(widest, telemetry)}"
        advice = (
            f"Fill it knowingly when it is read: `fill={{'{name}': 'previous'}}` or `'linear'`; with "
            f"`fill={{'{name}': {{'how': 'linear', 'within': {_length(_reach(widest, telemetry), telemetry)}}}}}` only "
            f"where the known values on either side lie no further apart. {advice}"
        )
    raise InvalidTelemetry(
        f"Input {telemetry.label(name)} has a gap.",
        expected="a value at each time: the twin is driven by it, also where nothing is observed",
        received=said,
        advice=advice,
    )


def _from_to(hole: np.ndarray, telemetry: Telemetry) -> str:
    """From where to where values are missing, in words."""
    start, end = (telemetry.shown(telemetry.table.index[row]) for row in (hole[0], hole[-1]))
    return f"from {start} to {end}"


def _reach(hole: np.ndarray, telemetry: Telemetry) -> float:
    """How far apart the known values around missing ones are, counted as times are."""
    times = counted(telemetry.table.index)
    return float(times[hole[-1] + 1] - times[hole[0] - 1])


def _length(span: float, telemetry: Telemetry) -> str:
    """A length of time as an argument has it."""
    return f"'{span * 1e-9 / 60:g}min'" if telemetry.dated else f"{span:g}"


# Several experiments of one asset: their telemetry bound one by one, then padded to arrays of one shape.
#
# What is padded lies at the end of an experiment's own time: intervals of length zero, at whose stops nothing is
# saved. Each experiment is solved from stop to stop as if it were alone.

type Experiments = Mapping[str, Telemetry]
"""Telemetry of each experiment, by its name."""


def rows_in_both(known: xr.Dataset, telemetry: Telemetry, units: Mapping[str, str]) -> tuple[int, int]:
    """How many observations telemetry has at times at which a calibration had them too, and how many are the same.

    Args:
        known: What was calibrated, as `observed_data`.
        telemetry: Perhaps the same record, perhaps another one.
        units: Of each observation.
    """
    places = paired(telemetry.table.index, pd.Index(known["time"].to_numpy()))
    both = places >= 0
    shared = same = 0
    for name, unit in units.items():
        if name in known and name in telemetry.table.columns:
            ours = telemetry.in_unit(name, unit)[both]
            theirs = known[name].to_numpy().astype(float)[places[both]]
            there = np.isfinite(ours) & np.isfinite(theirs)
            shared += int(there.sum())
            same += int(np.isclose(ours[there], theirs[there], rtol=1e-9, atol=0.0).sum())
    return shared, same


def bind_all(twin: Twin, telemetry: Telemetry | Experiments) -> Bound | dict[str, Bound]:
    """Check telemetry against a twin and convert it: one record, or that of each experiment.

    Raises:
        InvalidTelemetry: If it does not fit the twin, naming the experiment, or if there is none.
    """
    if isinstance(telemetry, Telemetry):
        return bind(twin, telemetry)
    check_experiments(telemetry)
    return {
        name: each(functools.partial(bind, twin, experiment=name), {name: telemetry[name]})[name] for name in telemetry
    }


def each[A, B](function: Callable[[A], B], experiments: Mapping[str, A]) -> dict[str, B]:
    """Apply a function to each experiment; what it says about telemetry gets the experiment's name."""
    found = {}
    for name, one in experiments.items():
        try:
            found[name] = function(one)
        except InvalidTelemetry as reason:
            raise reason.within(f"In experiment `{name}`") from reason
    return found


def check_experiments(telemetry: object) -> None:
    """Refuse what is neither telemetry nor telemetry by the name of its experiment.

    Raises:
        InvalidTelemetry: If it is something else, empty, or a name is not text.
    """
    received = type(telemetry).__name__
    if isinstance(telemetry, Mapping):
        wrong = [f"{name!r}: {type(one).__name__}" for name, one in telemetry.items() if not _fine(name, one)]
        if telemetry and not wrong:
            return
        received = ", ".join(wrong) or "an empty mapping"
    raise InvalidTelemetry(
        "This is neither telemetry nor a set of experiments.",
        expected='a bt.Telemetry, or one for each experiment: `{"first": telemetry, "second": …}`',
        received=received,
        advice="Make them with `bt.read_telemetry`, or all at once from one table with `bt.read_experiments`.",
    )


def _fine(name: object, one: object) -> bool:
    return isinstance(name, str) and bool(name) and isinstance(one, Telemetry)


def stack_bounds(bounds: Sequence[Bound]) -> Bound:
    """Bound telemetry of E experiments, of as many times as the longest; shape (E, n) each.

    Times stand still after an experiment's end, everything else is NaN there. Labels are elapsed times: experiments
    have no other time in common.
    """
    num = max(len(bound.times) for bound in bounds)

    def rows(arrays: Sequence[np.ndarray], *, still: bool = False) -> np.ndarray:
        return np.stack([_padded(array, num, array[-1] if still else np.nan) for array in arrays])

    return Bound(
        times=rows([bound.times for bound in bounds], still=True),
        labels=rows([bound.times for bound in bounds]),
        observations={name: rows([b.observations[name] for b in bounds]) for name in bounds[0].observations},
        inputs={name: rows([b.inputs[name] for b in bounds]) for name in bounds[0].inputs},
        events={name: rows([b.events[name] for b in bounds]) for name in bounds[0].events},
        columns={name: rows([b.columns[name] for b in bounds], still=True) for name in bounds[0].columns},
        since={name: rows([b.since[name] for b in bounds], still=True) for name in bounds[0].since},
        known={name: np.stack([b.known[name] for b in bounds]) for name in bounds[0].known},
    )


def stack_grids(grids: Sequence[Grid]) -> Grid:
    """Grids of E experiments, of as many intervals and saved times as the longest; all arrays get a leading axis."""
    stops, times = max(len(g.edges) for g in grids), max(len(g.save) for g in grids)
    powers = max(g.coefficients.shape[1] for g in grids)
    samples = max(0 if g.signals is None else g.signals.times.shape[1] for g in grids)
    stacked = []
    for grid in grids:
        # inputs stay as they are, so that no event is triggered where an experiment has ended
        last = grid.right[-1] if len(grid.coefficients) else grid.at_start
        coefficients = np.zeros((stops - 1, powers, len(last)))
        coefficients[:, 0] = last
        own = grid.coefficients.shape
        coefficients[: own[0], : own[1]] = grid.coefficients
        stacked.append(
            Grid(
                edges=_padded(grid.edges, stops, grid.edges[-1]),
                coefficients=coefficients,
                save=_padded(grid.save, times, grid.save[-1]),
                inputs=_padded(grid.inputs, times, grid.inputs[-1]),
                amounts=_padded(grid.amounts, stops - 1, np.nan),
                precision=grid.precision,
                signals=None if grid.signals is None else grid.signals.with_room(samples),
                known=grid.known,
            )
        )
    return jax.tree.map(lambda *own: np.stack(own), *stacked)


def _padded(array: np.ndarray, num: int, value: Any, axis: int = 0) -> np.ndarray:
    """An array as long as `num` along an axis, with `value` where it had nothing."""
    shape = list(array.shape)
    shape[axis] = num - shape[axis]
    missing = np.broadcast_to(value, shape)
    return np.concatenate([array, missing.astype(array.dtype)], axis=axis)


# Programs are compiled for few sizes: times and stops are filled up to the next one, as experiments are to the longest.

FEW, MANY = 8, 120


def size_for(num: int) -> int:
    """The least size that programs are compiled for with room for so many: one eighth more at most, from 120 on."""
    if num <= FEW:
        return 1 << (num - 1).bit_length()
    if num <= MANY:
        return -(-num // 8) * 8
    unit = 15 << ((num - 1) // MANY).bit_length() - 1
    return -(-num // unit) * unit


_least: contextvars.ContextVar[int] = contextvars.ContextVar("least", default=0)


@contextlib.contextmanager
def room_for(num: int) -> Iterator[None]:
    """Leave room for so many times and stops in all densities that are filled meanwhile: they share their programs."""
    token = _least.set(num)
    try:
        yield
    finally:
        _least.reset(token)


def fill_bound(bound: Bound) -> Bound:
    """What a density is computed from, with room for more times: these stand still, and nothing is observed at them.

    Args:
        bound: Of one record, or with a leading axis of experiments; its labels, inputs and events are left out.
    """
    axis = bound.times.ndim - 1
    num = size_for(max(bound.times.shape[axis], _least.get()))
    observations = {name: _padded(values, num, np.nan, axis) for name, values in bound.observations.items()}
    columns = {name: _padded(values, num, values[..., -1:], axis) for name, values in bound.columns.items()}
    since = {name: _padded(rows, num, rows[..., -1:], axis) for name, rows in bound.since.items()}
    times = _padded(bound.times, num, bound.times[..., -1:], axis)
    weights = None if bound.weights is None else _padded(bound.weights, num, 0.0, axis)
    nothing: Any = None
    return Bound(times, nothing, observations, {}, {}, columns, since, weights=weights)


def fill_grid(grid: Grid, *, alike: bool) -> Grid:
    """A grid with room for more stops, after the last one, and more saved times, which are the last one again.

    Args:
        grid: Of one record, or with a leading axis of experiments.
        alike: Whether intervals that are added are as long as the last one, and not of length zero.
    """
    axis = grid.edges.ndim - 1
    stops, times = (size_for(max(n, _least.get())) for n in (grid.edges.shape[axis] - 1, grid.save.shape[axis]))
    length = grid.edges[..., -1:] - grid.edges[..., -2:-1]
    new = np.arange(1, stops - grid.edges.shape[axis] + 2) * (length if alike else 0.0 * length)
    powers = length[..., None] ** np.arange(grid.coefficients.shape[-2])[:, None]
    still = np.zeros_like(grid.coefficients[..., -1:, :, :])
    still[..., 0, 0, :] = (powers * grid.coefficients[..., -1, :, :]).sum(axis=-2)
    delayed = grid.signals
    room = 0 if delayed is None else size_for(max(delayed.times.shape[-1], _least.get()))
    return grid._replace(
        edges=np.concatenate([grid.edges, grid.edges[..., -1:] + new], axis=axis),
        coefficients=_padded(grid.coefficients, stops, still, axis),
        save=_padded(grid.save, times, grid.save[..., -1:], axis),
        inputs=_padded(grid.inputs, times, grid.inputs[..., -1:, :], axis),
        amounts=_padded(grid.amounts, stops, np.nan, axis),
        signals=None if delayed is None else delayed.with_room(room),
    )


def fill_kinds(kinds: Kinds, least: int = 0) -> Kinds:
    """Kinds of intervals with room for more, and for so many at least; where all are of one kind, for that alone."""
    if len(kinds.first) <= 1 and not least:
        return kinds
    return _with_room(kinds, size_for(max(len(kinds.first), least)))


def stack_kinds(kinds: Sequence[Kinds]) -> Kinds:
    """Kinds of the intervals of E experiments, as many of each as the one with the most; leading axis E."""
    most = max(len(own.first) for own in kinds)
    num = 1 if most == 1 else size_for(most)
    return jax.tree.map(lambda *own: np.stack(own), *[_with_room(own, num) for own in kinds])


def _with_room(kinds: Kinds, num: int) -> Kinds:
    last = kinds.lengths[-1] if len(kinds.lengths) else 0.0  # none of a single row, at the start
    return kinds._replace(first=_padded(kinds.first, num, 0), lengths=_padded(kinds.lengths, num, last))


def fill_steps(substeps: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Steps of each interval, shape (m,), with more of them where they are longest, so that their sum is such a size.

    Intervals of length zero get none.
    """
    lengths = np.diff(edges)
    filled = np.where(lengths > 0.0, substeps, 0)
    for _ in range(size_for(int(filled.sum())) - int(filled.sum())):
        filled[np.argmax(lengths / np.maximum(filled, 1))] += 1
    return filled


def sha256_of(telemetry: Telemetry | Experiments) -> str:
    """Fingerprint of telemetry; of experiments of their names and their order too: it is that of what is inferred."""
    if isinstance(telemetry, Telemetry):
        return telemetry.sha256
    hashes = json.dumps([(name, one.sha256) for name, one in telemetry.items()])
    return hashlib.sha256(hashes.encode()).hexdigest()


def times_of(twin: Twin, telemetry: Telemetry | Experiments) -> dict[str, Any]:
    """Fingerprint, unit and zone of time, and `t0` of telemetry, as a result records them; of experiments by name."""
    if isinstance(telemetry, Telemetry):
        return {
            "telemetry_sha256": telemetry.sha256,
            "telemetry_time_unit": "" if telemetry.dated else telemetry.units.get("time", twin.time_unit),
            "telemetry_timezone": zone if telemetry.dated and isinstance(zone := telemetry.timezone, str) else "",
            "t0": str(telemetry.t0),
        }
    own = {name: times_of(twin, one) for name, one in telemetry.items()}
    return {
        "telemetry_sha256": sha256_of(telemetry),
        "telemetry_time_unit": {name: one["telemetry_time_unit"] for name, one in own.items()},
        "telemetry_timezone": {name: one["telemetry_timezone"] for name, one in own.items()},
        "t0": {name: one["t0"] for name, one in own.items()},
    }


def each_experiment[**P, T](method: Callable[P, T]) -> Callable[P, T]:
    """A method that knows one experiment, done for each where there are several.

    Its arguments after the density are the values of the sites, and then what has a leading axis of experiments, as
    its result has.
    """

    @functools.wraps(method)
    def mapped(self: Any, values: Mapping[str, ArrayLike], *stacked: Any) -> Any:
        if not self.experiments:
            return method(self, values, *stacked)  # type: ignore[call-arg]

        def one(bound: Bound, grid: Grid, values: Mapping[str, Array], *own: Any) -> Any:
            alone = dataclasses.replace(self, bound=bound, grid=grid, experiments=())
            return method(alone, values, *own)  # type: ignore[call-arg]

        axes = {name: 0 if jnp.ndim(value) else None for name, value in values.items()}
        each = jax.vmap(one, in_axes=(0, 0, axes, *[0] * len(stacked)))
        return each(*jax.tree.map(jnp.asarray, (self.bound, self._compiled_grid)), dict(values), *stacked)

    return mapped  # type: ignore[return-value]
