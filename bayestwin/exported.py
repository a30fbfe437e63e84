"""A forecast as a file: what `predict` computes from the last states, as programs that need no `twin.py` and no trace.

The file holds draws, last states, what calibration saw, and StableHLO by `jax.export` for some numbers of times. What
is not in it: equations, and any code of Python.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
import xarray as xr
from jax import Array

from bayestwin._base.process import key_for
from bayestwin.calibrate import check_belongs, thinned
from bayestwin.density.ahead import (
    FINAL,
    Past,
    final_states,
    final_time,
    from_same_start,
    laid_out_from_end,
    past_of,
    resumed,
)
from bayestwin.density.bind import Bound, fill_bound, fill_grid, fill_kinds, room_for
from bayestwin.density.density import Density
from bayestwin.density.predictor import AT_ONCE, finer_for, predict_draws, scales_of
from bayestwin.dynamics.affine import has_held_matrix, sort_intervals
from bayestwin.dynamics.grid import Grid, is_timed
from bayestwin.errors import InvalidArtifact, InvalidSetting, InvalidTelemetry
from bayestwin.model.components import Input, Observation, Solver, State
from bayestwin.model.noise.families import Gaussian
from bayestwin.model.twin import Twin
from bayestwin.model.types import Event
from bayestwin.results.support import SeenBefore, knows_what_was_seen, look, support, support_words
from bayestwin.telemetry import Telemetry, read_telemetry
from bayestwin.telemetry.record import sealed

FORECAST = "forecast.nc"
"""Name of the file in the folder of a run."""

SIZES = (24, 96, 384)
"""Times, and stops between them, that programs have room for: a forecast takes the least one that is enough."""

FEW_KINDS = 8
"""Lengths of intervals between stops, for each of which an affine twin has a step: one, so many, or as many as fit."""

BATCH = 500
"""Draws that a program solves at once."""

OUTLINE, PROGRAMS = "outline", "programs"
"""The attribute that says what a forecast takes and gives, and the group that has the programs."""

OFFSET = re.compile(r"T.*(Z|[+-]\d\d:\d\d)$")
"""At the end of a date that leaves nothing open."""

DROPPED = ("sample_stats", "log_likelihood", "prior_predictive", "posterior_predictive")
"""Groups of a posterior that a forecast does not need, or not as they are."""


# Which twins.


def why_not(twin: Twin, posterior: xr.DataTree) -> str:
    """Why a forecast of a calibrated twin cannot be exported, in words; empty where it can."""
    told = {one.owner for one in twin.noise_columns().values()}
    reasons = {
        "it was calibrated on several experiments": "experiment" in posterior["posterior"].dims,
        "what comes after depends on more of its past than its states are now: a model error, delays, events that the "
        "state triggers or that change parameters, noise that remembers, or readings over the time between rows": (
            not twin.forgetful
        ),
        "its posterior does not know the last states": FINAL not in posterior.children
        or set(posterior[FINAL].data_vars) != set(twin.states),
        "it has states that are arrays": not twin.layout.scalar,
        f"the telemetry tells the noise of {', '.join(f'`{one}`' for one in sorted(told))} row by row": bool(told),
        "its equations depend on time itself, so that where to stop has to be looked for in them": (is_timed(twin)),
    }
    return next((words for words, holds in reasons.items() if holds), "")


# Writing it.


def export_forecast(
    twin: Twin,
    posterior: xr.DataTree,
    *,
    limits: Mapping[str, tuple[float, float]] | None = None,
    sizes: tuple[int, ...] = SIZES,
) -> xr.DataTree:
    """All that a forecast from the last states takes, as one tree that `save` can write.

    Args:
        twin: The twin that was calibrated.
        posterior: As `calibrate` returned it.
        limits: The operating range: by observation or input its lowest and highest value, in the twin's unit.
        sizes: For how many times there is to be a program.

    Raises:
        InvalidArtifact: If the posterior belongs to another twin.
        InvalidSetting: If such a twin cannot be exported; it says why.
    """
    check_belongs(twin, posterior)
    reason = why_not(twin, posterior)
    if reason:
        raise InvalidSetting(
            f"A forecast of twin `{twin.name}` cannot be exported: {reason}.",
            expected="a twin all of whose past is in its scalar states, calibrated on one record",
            received=f"`{twin.name}`",
            advice="Predict it by `bayestwin predict`, which has the twin itself. Time in an equation can be an input.",
        )
    last = _rows_ahead(twin, posterior)
    density = resumed(twin, posterior, last)[2]
    exact = density.twin.solver.method == "exact"
    programs = {}
    for size in sizes:
        for kinds in dict.fromkeys((1, min(FEW_KINDS, size), size)) if exact else (0,):
            programs[f"times_{size}_kinds_{kinds}"] = _program(density, size, kinds)
    tree = posterior.filter(lambda node: node.name not in DROPPED)
    own = posterior[FINAL]["draw"].to_numpy()
    groups = {node.path: node.to_dataset(inherit=False) for node in tree.subtree if node.path != "/"}
    groups["/posterior"] = groups["/posterior"].sel(draw=own)
    if knows_what_was_seen(posterior):
        seen = posterior["posterior_predictive"].to_dataset()
        paths = seen[[f"{name}_state" for name in twin.states]]
        groups["/posterior_predictive"] = paths.median(["chain", "draw"], keep_attrs=True).expand_dims(
            chain=[0], draw=[own[0]]
        )
    stored = {name: (f"byte_{name}", np.frombuffer(program, np.uint8)) for name, program in programs.items()}
    groups[f"/{PROGRAMS}"] = xr.Dataset(stored)
    found = xr.DataTree.from_dict(groups)
    told = _outline(twin, density.twin.solver, [site.name for site in density.sites], limits or {})
    # what vouches for the draws is the hash of all of them, whichever are kept
    found.attrs = {**posterior.attrs, OUTLINE: told, "jax_version": jax.__version__}
    return found


def _outline(twin: Twin, solver: Solver, sites: list[str], limits: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    """What a twin takes and gives, as plain values, and what its programs take of the posterior."""

    def told(members: Mapping[str, Any], *names: str) -> list[dict[str, Any]]:
        return [
            {"name": name, **{key: getattr(one, key) for key in ("unit", "doc", *names)}}
            for name, one in members.items()
        ]

    events = [
        {**row, "at": list(one.at) if one.kind == "scheduled" else None}  # type: ignore[arg-type]
        for row, one in zip(told(twin.events, "kind"), twin.events.values(), strict=True)
    ]
    observations = [
        {**row, "state": one.of is None}
        for row, one in zip(told(twin.observations), twin.observations.values(), strict=True)
    ]
    return {
        "name": twin.name,
        "doc": twin.doc,
        "time_unit": twin.time_unit,
        "solver": dataclasses.asdict(solver),
        "held_matrix": solver.method == "exact" and has_held_matrix(twin),
        "states": told(twin.states, "positive"),
        "inputs": told(twin.inputs, "hold", "beyond", "period", "before"),
        "events": events,
        "observations": observations,
        "sites": sites,
        "limits": {name: list(ends) for name, ends in limits.items()},
    }


def _rows_ahead(twin: Twin, posterior: xr.DataTree) -> Telemetry:
    """Two rows after the end of the record, for shapes alone."""
    known = posterior["observed_data"].to_dataset()["time"].to_numpy()
    end = max(known[-1], final_time(posterior))
    step = np.median(np.diff(known)) if len(known) > 1 else known.dtype.type(1)
    signals = posterior["constant_data"].to_dataset()
    rows = pd.DataFrame({"time": [end + step, end + 2 * step]})
    for name in twin.inputs:
        rows[name] = float(np.nan_to_num(signals[name].to_numpy()[-1]))
    told = {name: one.unit for name, one in twin.inputs.items() if one.unit}
    for name, event in twin.events.items():
        if event.kind == "telemetry":
            rows[name], told[name] = np.nan, event.unit
    return _telemetry(rows, told, posterior.attrs)


def _program(density: Density, size: int, kinds: int) -> bytes:
    """StableHLO for so many times, and kinds of intervals."""
    from jax import export  # takes a while to import

    with room_for(size):
        leaves, parts = density.filled.tree_flatten()
    values = {site.name: np.zeros(BATCH) for site in density.sites}
    given = _arrays(density.twin, density.bound, density.grid, size, kinds, held_matrix=False)
    arrays, structure = jax.tree.flatten((*given, values, np.zeros(2, np.uint32), np.zeros(BATCH, np.int64)))

    def forecast(*flat: Array) -> dict[str, Array]:
        times, grid, drawn, bits, numbers = jax.tree.unflatten(structure, flat)
        whole = (times, leaves[1], grid._replace(known=density.grid.known), *leaves[3:])
        own = Density.tree_unflatten(parts, whole)
        found = predict_draws(own, drawn, jax.random.wrap_key_data(bits), numbers, {})
        return {name: array for name, array in found.items() if name not in ("solved", "num_steps")}

    shapes = [jax.ShapeDtypeStruct(np.shape(one), np.asarray(one).dtype) for one in arrays]
    return bytes(export.export(jax.jit(forecast), platforms=["cpu"])(*shapes).serialize())


def _arrays(
    twin: Twin, bound: Bound, grid: Grid, size: int, kinds: int, *, held_matrix: bool
) -> tuple[np.ndarray, Grid]:
    """Times and stops as a program with room for so many takes them, and kinds of intervals at least; 0 for none."""
    with room_for(size):
        times, grid = fill_bound(bound).times, fill_grid(grid, alike=kinds > 0)
        if kinds:
            own = sort_intervals(twin, grid, varies=held_matrix)
            room = next(one for one in (1, min(FEW_KINDS, size), size) if one >= max(len(own.first), kinds))
            grid = grid._replace(kinds=fill_kinds(own, room))
    return times, grid._replace(known={})


# Reading it, and forecasting.


class ForecastDraws(NamedTuple):
    """A forecast as arrays.

    Attributes:
        times: The user's times; shape (n,).
        found: By observation, `<observation>_noise_free` and `<state>_state`, draws of all chains first; shape
            (draws, n) each, NaN from where a path fails on.
        bound: Times, inputs and events as they were understood.
        chains: Of how many chains the draws are.
        draws: Labels of the draws of each chain.
    """

    times: np.ndarray
    found: Mapping[str, np.ndarray]
    bound: Bound
    chains: int
    draws: np.ndarray


class LoadedProgram(NamedTuple):
    """A program that was read, compiled when it is first called.

    Attributes:
        call: What computes.
        takes: Shape and type of each array that it takes.
    """

    call: Callable[..., dict[str, Array]]
    takes: Sequence[Any]

    def __call__(self, *arrays: Any) -> dict[str, Array]:
        """Compute."""
        return self.call(*arrays)


class _Variables(NamedTuple):
    """Variables of a dataset without what makes one, which takes xarray longer than it takes to predict."""

    variables: Mapping[str, xr.Variable]
    sizes: Mapping[str, int]

    @property
    def dataset(self) -> "_Variables":
        return self

    @property
    def dims(self) -> Mapping[str, int]:
        return self.sizes

    @property
    def coords(self) -> Mapping[str, xr.Variable]:
        return self.variables


@dataclasses.dataclass(frozen=True)
class _Groups:
    """The same of a tree."""

    groups: Mapping[str, _Variables]
    attrs: Mapping[Any, Any]

    def __getitem__(self, name: str) -> _Variables:
        return self.groups[name]


@dataclasses.dataclass(frozen=True, eq=False)
class ExportedForecast:
    """A forecast that was read: it predicts what `bt.predict` would, from the last states on.

    Attributes:
        tree: As of `export_forecast`.
        twin: What the twin takes and gives, without its equations.
        programs: By times and kinds of intervals that they have room for.
    """

    tree: xr.DataTree
    twin: Twin
    programs: Mapping[tuple[int, int], "LoadedProgram"]

    @property
    def most_times(self) -> int:
        """How many times a forecast may have."""
        return max(size for size, _ in self.programs)

    @property
    def most_draws(self) -> int:
        """How many draws there are."""
        return self._labels.size * self._chains

    @property
    def told_events(self) -> tuple[str, ...]:
        """Events that a column of the telemetry tells."""
        return tuple(name for name, event in self.twin.events.items() if event.kind == "telemetry")

    @property
    def last_time(self) -> Any:
        """The user's time at which the states are known."""
        return self._past.last

    def read(self, columns: Mapping[str, Any], units: Mapping[str, str]) -> Telemetry:
        """Columns as telemetry, whose times are read as those of the calibration were.

        Args:
            columns: By name, those of `time` too; of equal lengths.
            units: Where they are others than the twin's.

        Raises:
            InvalidTelemetry: If they are none.
        """
        own = {**self.twin.inputs, **self.twin.events, **self.twin.observations}
        known = {name: one.unit for name, one in own.items() if name in columns and one.unit} | dict(units)
        return _plain(columns, known, self.tree.attrs) or _telemetry(
            pd.DataFrame(dict(columns)), known, self.tree.attrs
        )

    def prepare(self) -> None:
        """Let all be compiled and found out that the first forecasts would wait for."""
        for program in self.programs.values():
            program(*[np.zeros(one.shape, one.dtype) for one in program.takes])
        jax.random.key_data(key_for(0, "predictions"))
        if knows_what_was_seen(self.tree):
            _ = self._seen, self._sites

    def draw(self, future: Telemetry, *, seed: int, draws: int) -> ForecastDraws:
        """Draws of a forecast, the same as those of `predict` with this seed and so many draws.

        Args:
            future: Times and inputs.
            seed: Determines the noise of new observations.
            draws: About how many.

        Raises:
            InvalidTelemetry: If the future does not fit, begins too early, or has too many times.
            InvalidSetting: If there are not so many draws.
        """
        self._check(future, draws)
        _, bound, grid = laid_out_from_end(self.twin, self._past, future)
        outline, num_times = self.tree.attrs[OUTLINE], len(bound.times)
        stops = max(num_times, len(grid.edges) - 1)
        size = next((one for one in sorted({size for size, _ in self.programs}) if one >= stops), None)
        if size is None:
            raise InvalidTelemetry(
                "The forecast is too long for the programs that were exported.",
                expected=f"at most {self.most_times} times, events between them included",
                received=f"{stops}",
                advice="Ask for fewer times at once, or predict it by `bayestwin predict`.",
            )
        exact = outline["solver"]["method"] == "exact"
        held_matrix = outline["held_matrix"]
        times, grid = _arrays(self.twin, bound, grid, size, int(exact), held_matrix=held_matrix)
        program = self.programs[size, 0 if grid.kinds is None else len(grid.kinds.first)]
        labels, values = self._values(draws)
        bits = np.asarray(jax.random.key_data(key_for(seed, "predictions")))
        found = self._computed(program, times, grid, values, bits)
        if not exact:
            first = np.minimum(np.arange(AT_ONCE), len(next(iter(found.values()))) - 1)
            precision = finer_for(
                self.twin, grid.precision, scales_of({n: a[first] for n, a in found.items()}, self.twin)
            )
            if precision is not grid.precision:
                found = self._computed(program, times, grid._replace(precision=precision), values, bits)
        kept = {name: array[:, :num_times] for name, array in found.items()}
        return ForecastDraws(bound.labels, kept, bound, self._chains, labels)

    def beyond(self, drawn: ForecastDraws) -> list[str]:
        """What of a forecast lies beyond what was calibrated, in the words that `predict` has for it."""
        if not knows_what_was_seen(self.tree):
            return ["Whether this lies in what was calibrated is not known: the posterior does not say what it saw."]
        twin, chains = self.twin, drawn.chains
        shape, dims = (chains, len(drawn.draws), len(drawn.times)), ("chain", "draw", "time")
        paths = {name: xr.Variable(dims, array.reshape(shape)) for name, array in drawn.found.items()}
        time = xr.Variable("time", drawn.times)
        inputs = {name: xr.Variable("time", values) for name, values in drawn.bound.inputs.items()}
        sizes = dict(zip(dims, shape, strict=True))
        ahead = _Variables({**paths, "draw": xr.Variable("draw", drawn.draws), "time": time}, sizes)
        given = _Variables({**inputs, "time": time}, {"time": len(drawn.times)})
        tree = _Groups({"predictions": ahead, "predictions_constant_data": given}, self.tree.attrs)
        limits = {name: (low, high) for name, (low, high) in self.tree.attrs[OUTLINE]["limits"].items()}
        return support_words(support(twin, self.tree, tree, limits, self._seen))

    @functools.cached_property
    def _past(self) -> Past:
        return past_of(self.tree)

    @functools.cached_property
    def _seen(self) -> SeenBefore:
        return look(self.twin, self.tree)

    def _check(self, future: Telemetry, draws: int) -> None:
        if not 1 <= draws <= self.most_draws:
            raise InvalidSetting(
                "There are not so many draws.",
                expected=f"`draws` from 1 to {self.most_draws:,}",
                received=f"{draws:,}",
                advice="Leave it out for the usual number.",
            )
        from_same_start(self.twin, self._past, future)
        if future.table.index[0] <= self.last_time:
            raise InvalidTelemetry(
                "The forecast does not begin after what was calibrated.",
                expected=f"times after {future.shown(self.last_time)}, at which the states are known",
                received=f"{future.shown(future.table.index[0])} as the first one",
                advice="Leave out earlier rows, or predict them by `bayestwin predict`.",
            )

    @functools.cached_property
    def _sites(self) -> dict[str, np.ndarray]:
        """All draws, by site; shape (chain, draw)."""
        last = final_states(self.tree, self.tree[FINAL]["draw"].to_numpy())
        group = self.tree["posterior"].to_dataset().transpose("chain", "draw", ...)
        chains = group.sizes["chain"]
        names = self.tree.attrs[OUTLINE]["sites"]
        return {n: last[n].reshape(chains, -1) if n in last else group[n].to_numpy() for n in names}

    @functools.cached_property
    def _labels(self) -> np.ndarray:
        """Labels of the draws of each chain."""
        return self.tree[FINAL]["draw"].to_numpy()

    @functools.cached_property
    def _chains(self) -> int:
        return self.tree[FINAL].sizes["chain"]

    def _values(self, draws: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Labels of the draws of a forecast, and their values by site; draws of all chains first."""
        kept = thinned(self._chains, len(self._labels), draws)
        return self._labels[kept], {name: own[:, kept].reshape(-1) for name, own in self._sites.items()}

    def _computed(
        self, program: Callable, times: np.ndarray, grid: Grid, values: Mapping[str, np.ndarray], bits: np.ndarray
    ) -> dict[str, np.ndarray]:
        num = self.most_draws if not values else len(next(iter(values.values())))
        begun = []
        for first in range(0, num, BATCH):
            rows = np.minimum(np.arange(first, first + BATCH), num - 1)
            own = {name: value[rows] for name, value in values.items()}
            begun.append(program(*jax.tree.leaves((times, grid, own, bits, rows))))
        return {name: np.concatenate([np.asarray(part[name]) for part in begun])[:num] for name in begun[0]}


def read_forecast(tree: xr.DataTree, source: str = FORECAST) -> ExportedForecast:
    """A forecast from what `export_forecast` gave.

    Args:
        tree: As of `load`.
        source: What it was read from, for messages.

    Raises:
        InvalidArtifact: If it is no exported forecast, or its programs cannot be read by this version of JAX.
    """
    from jax import export

    if OUTLINE not in tree.attrs or PROGRAMS not in tree.children:
        raise InvalidArtifact(
            f"`{source}` is no exported forecast.",
            expected=f"a file `{FORECAST}` of a promoted run",
            received="another file of bayestwin",
            advice="`bayestwin serve --models FOLDER` exports what is missing.",
        )
    programs = {}
    try:
        for name, stored in tree[PROGRAMS].data_vars.items():
            _, size, _, kinds = str(name).split("_")
            exported = export.deserialize(bytearray(stored.to_numpy().tobytes()))
            programs[int(size), int(kinds)] = LoadedProgram(jax.jit(exported.call), exported.in_avals)
    except Exception as reason:  # of any kind: what reads programs meets bytes of any kind
        raise InvalidArtifact(
            f"The programs of `{source}` cannot be read.",
            expected=f"programs that JAX {jax.__version__} reads",
            received=f"{type(reason).__name__} (written by JAX {tree.attrs.get('jax_version')})",
            advice="Export it anew: remove the file, and call `bayestwin serve --models FOLDER`.",
        ) from reason
    return ExportedForecast(tree, _twin_of(tree.attrs[OUTLINE]), programs)


def _twin_of(outline: Mapping[str, Any]) -> Twin:
    """A twin that takes and gives what the outline says, and has no equations."""

    def members(kind: str) -> dict[str, dict[str, Any]]:
        return {row["name"]: {key: own for key, own in row.items() if key != "name"} for row in outline[kind]}

    names = list(members("states"))

    def at_rest(*_: Any) -> dict[str, float]:
        return dict.fromkeys(names, 0.0)

    def unchanged(*given: Any) -> dict[str, Any]:
        return {names[0]: getattr(given[1], names[0])}

    events = {}
    for name, row in members("events").items():
        at = {"scheduled": row["at"] and tuple(row["at"]), "inferred": lambda *_: 0.0}.get(row["kind"])
        events[name] = Event(unchanged, at=at, unit=row["unit"], doc=row["doc"])
    return Twin(
        name=outline["name"],
        vector_field=at_rest,
        states={name: State(0.0, **own) for name, own in members("states").items()},
        parameters={},
        observations={
            name: Observation(
                Gaussian(1.0),
                of=None if own["state"] else lambda *_: 0.0,
                unit=own["unit"],
                doc=own["doc"],
            )
            for name, own in members("observations").items()
        },
        inputs={name: Input(**own) for name, own in members("inputs").items()},
        events=events,
        time_unit=outline["time_unit"],
        solver=Solver(**outline["solver"]),
        doc=outline["doc"],
    )


def _telemetry(rows: pd.DataFrame, units: Mapping[str, str], attrs: Mapping[Any, Any]) -> Telemetry:
    """A table as telemetry whose times are of the kind, unit and zone of a calibration."""
    own = dict(units) | ({"time": attrs["telemetry_time_unit"]} if attrs["telemetry_time_unit"] else {})
    return read_telemetry(rows, units=own, timezone=attrs.get("telemetry_timezone") or None)


def _plain(columns: Mapping[str, Any], units: Mapping[str, str], attrs: Mapping[Any, Any]) -> Telemetry | None:
    """What `_telemetry` makes of columns in which nothing has to be mended, in a fifth of the time; else None."""
    times = columns["time"]
    ends = {found[1] if isinstance(time, str) and (found := OFFSET.search(time)) else None for time in times}
    dated = len(ends) == 1 and None not in ends
    if not dated and any(isinstance(time, str) for time in times):
        return None
    if dated == bool(attrs["telemetry_time_unit"]):
        return None
    try:
        index = pd.to_datetime(list(times), format="ISO8601", utc=True) if dated else pd.Index(np.array(times, float))
    except (ValueError, OverflowError):
        return None
    index = index.tz_convert(None).as_unit("ns") if isinstance(index, pd.DatetimeIndex) else index
    if len(index) == 0 or index.hasnans or not (index.is_unique and index.is_monotonic_increasing):
        return None
    if not dated and not np.isfinite(index.to_numpy()).all():
        return None
    table = pd.DataFrame({name: own for name, own in columns.items() if name != "time"}, index=index.rename("time"))
    own = dict(units) | ({"time": attrs["telemetry_time_unit"]} if attrs["telemetry_time_unit"] else {})
    zone = attrs.get("telemetry_timezone")
    settings = {"timezone": zone} if zone else {}
    return sealed(table, own, index[0], "columns", settings=settings)
