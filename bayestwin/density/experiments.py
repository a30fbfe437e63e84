"""Several experiments of one asset: their telemetry bound one by one, then padded to arrays of one shape.

What is padded lies at the end of an experiment's own time: intervals of length zero, at whose stops nothing is saved.
Each experiment is solved from stop to stop as if it were alone.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from bayestwin.density.bind import Bound, bind
from bayestwin.dynamics.grid import Grid
from bayestwin.errors import InvalidTelemetry, explain
from bayestwin.model.twin import Twin
from bayestwin.telemetry import Telemetry

type Experiments = Mapping[str, Telemetry]
"""Telemetry of each experiment, by its name."""


def bind_all(twin: Twin, telemetry: Telemetry | Experiments) -> Bound | dict[str, Bound]:
    """Check telemetry against a twin and convert it: one record, or that of each experiment.

    Raises:
        InvalidTelemetry: If it does not fit the twin, naming the experiment, or if there is none.
    """
    if isinstance(telemetry, Telemetry):
        return bind(twin, telemetry)
    check_experiments(telemetry)
    return each(functools.partial(bind, twin), telemetry)


def each[A, B](function: Callable[[A], B], experiments: Mapping[str, A]) -> dict[str, B]:
    """Apply a function to each experiment; what it says about telemetry gets the experiment's name."""
    found = {}
    for name, one in experiments.items():
        try:
            found[name] = function(one)
        except InvalidTelemetry as reason:
            message = f"In experiment `{name}`: {reason}"
            raise InvalidTelemetry(message) from reason
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
    message = explain(
        "This is neither telemetry nor a set of experiments.",
        expected='a bt.Telemetry, or one for each experiment: `{"first": telemetry, "second": …}`',
        received=received,
        advice="Make them with `bt.read_telemetry`, or all at once from one table with `bt.read_experiments`.",
    )
    raise InvalidTelemetry(message)


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
    )


def stack_grids(grids: Sequence[Grid]) -> Grid:
    """Grids of E experiments, of as many intervals and saved times as the longest; all arrays get a leading axis."""
    stops, times = max(len(g.edges) for g in grids), max(len(g.save) for g in grids)
    powers = max(g.coefficients.shape[1] for g in grids)
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
            )
        )
    parts = zip(*[(g.edges, g.coefficients, g.save, g.inputs, g.amounts) for g in stacked], strict=True)
    edges, coefficients, save, inputs, amounts = (np.stack(part) for part in parts)
    return Grid(edges, coefficients, save, inputs, amounts)


def _padded(array: np.ndarray, num: int, value: Any) -> np.ndarray:
    """An array as long as `num`, with `value` in each row that it did not have."""
    missing = np.broadcast_to(value, (num - len(array), *array.shape[1:]))
    return np.concatenate([array, missing.astype(array.dtype)])


def times_of(twin: Twin, telemetry: Telemetry | Experiments) -> dict[str, Any]:
    """Fingerprint, unit of time and `t0` of telemetry, as a result records them; of experiments by name."""
    if isinstance(telemetry, Telemetry):
        return {
            "telemetry_sha256": telemetry.sha256,
            "telemetry_time_unit": "" if telemetry.dated else telemetry.units.get("time", twin.time_unit),
            "t0": str(telemetry.t0),
        }
    own = {name: times_of(twin, one) for name, one in telemetry.items()}
    # their order counts: it is that of what is inferred for each
    hashes = json.dumps([(name, one["telemetry_sha256"]) for name, one in own.items()])
    return {
        "telemetry_sha256": hashlib.sha256(hashes.encode()).hexdigest(),
        "telemetry_time_unit": {name: one["telemetry_time_unit"] for name, one in own.items()},
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
        return each(*jax.tree.map(jnp.asarray, (self.bound, self.grid)), dict(values), *stacked)

    return mapped  # type: ignore[return-value]
