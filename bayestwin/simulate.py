"""Simulation: a twin at given values, to look at it before calibrating and to make data whose truth is known."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from bayestwin._base.compilation import Program, keep_compiled
from bayestwin._base.process import check_seed, key_for, require_float64
from bayestwin.density.bind import bind
from bayestwin.density.density import Density
from bayestwin.density.predictor import exacter, scales_of, solved_for
from bayestwin.density.quantities import quantities_of
from bayestwin.dynamics.choice import choose_solver, with_method
from bayestwin.dynamics.grid import build_grid
from bayestwin.errors import InvalidSetting, InvalidTelemetry, SolverFailure
from bayestwin.inference.starts import blame_state
from bayestwin.model.dependence import brought
from bayestwin.model.quantities import unit_of
from bayestwin.model.twin import Twin
from bayestwin.model.types import ByExperiment
from bayestwin.telemetry import Telemetry


def simulate(twin: Twin, values: Mapping[str, float], telemetry: Telemetry, *, seed: int) -> xr.Dataset:
    """Solve a twin at given values, a thousand times more precisely than a calibration does, and add noise.

    Args:
        twin: The twin.
        values: Every quantity with a prior, under its name in the posterior (`alpha`, `hare_initial`, `hare_scale`),
            and every one that the twin knows by experiment. What is a first value of the telemetry may be given.
        telemetry: Gives times and inputs; observations in it are not looked at.
        seed: Determines the noise.

    Returns:
        For each observation `<name>` (with noise and model error), `<name>_noise_free` and perhaps
        `<name>_discrepancy`, for each state `<name>_state`, over `time` and the dimensions of a state that is an array;
        and for each quantity `<name>`, one number.

    Raises:
        InvalidSetting: If a value is missing or unknown.
        InvalidTelemetry: If it does not fit the twin.
        SolverFailure: If the twin cannot be solved there.
    """
    require_float64()
    check_seed(seed)
    if not isinstance(telemetry, Telemetry):
        raise InvalidTelemetry(
            "A simulation is of one experiment.",
            expected="a bt.Telemetry",
            received=type(telemetry).__name__,
            advice="Call `simulate` for each experiment, with values of its own.",
        )
    known = brought(twin)
    names = {site.name for site in twin.sites()}
    names |= {name for name, (spec, _) in known.items() if isinstance(spec, ByExperiment)}
    optional = {name for name in known if not name.endswith("_first")}
    if not names <= set(values) <= names | optional:
        raise InvalidSetting(
            f"`values` does not fit twin `{twin.name}`.",
            expected=", ".join(f"`{n}`" for n in sorted(names)),
            received=", ".join(f"`{n}`" for n in sorted(values)) or "nothing",
            advice="Give a number to each quantity that has a prior, or is known by experiment, and to nothing else.",
        )
    given = {name: values[name] for name in known if name in values}
    # nothing is drawn from a prior around a first value, but what the equations do is looked at there
    given |= {f"{name}_first": value for name, value in values.items() if f"{name}_first" in known}
    bound = bind(twin, telemetry, observed=False, known=given)._replace(observations={})
    grid = build_grid(twin, bound.times, bound.times, bound.inputs, bound.events, bound.known)
    values = {name: value for name, value in values.items() if name not in known}
    chosen, choice = choose_solver(twin, grid, {name: np.array([value]) for name, value in values.items()})
    density = exacter(Density(chosen, bound, grid, twin.sites()))
    keep_compiled()
    given = {name: np.asarray(value, float) for name, value in values.items()}
    predicted = _drawn(density.filled, given, key_for(seed, "simulate"))
    scales = scales_of({name: values[None] for name, values in predicted.items()}, twin)
    if (scaled := solved_for(density, scales)) is not density:
        predicted = _drawn(scaled.filled, given, key_for(seed, "simulate"))
    if not bool(predicted.pop("solved")):
        raise SolverFailure(
            f"Twin `{twin.name}` cannot be solved at these values.",
            expected="a finite solution at all times",
            received=blame_state(density, dict(values)),
            advice=f"Check the values, or choose another solver (this was {choice.reason}).",
        )

    def density_of(counting: Twin) -> Density:
        """The twin with its integrals, at these times."""
        own = build_grid(counting, bound.times, bound.times, bound.inputs, bound.events, bound.known)
        return Density(with_method(counting, chosen.solver.method), bound, own, counting.sites())

    whole = {name: np.asarray(values)[None, : len(bound.times)] for name, values in predicted.items()}
    asked = quantities_of(density, {n: v[None] for n, v in given.items()}, whole, density_of)
    units = {n: o.unit for n, o in twin.observations.items()} | {f"{n}_state": s.unit for n, s in twin.states.items()}
    units |= {f"{n}{part}": o.unit for n, o in twin.observations.items() for part in ("_noise_free", "_discrepancy")}
    along = {f"{name}_state": state.axes(name) for name, state in twin.states.items()}
    data = {
        name: (("time", *along.get(name, ())), np.asarray(array)[: len(bound.times)], {"units": units[name]})
        for name, array in predicted.items()
    }
    coords = {"time": bound.labels} | {dim: labels for axes in along.values() for dim, labels in axes.items()}
    data |= {name: ((), own[0], {"units": unit_of(twin, twin.quantities[name])}) for name, own in asked.items()}
    return xr.Dataset(data, coords=coords, attrs={"twin": twin.name, "seed": seed})


@Program
def _drawn(density: Density, values: Mapping[str, jax.Array], key: jax.Array) -> dict[str, jax.Array]:
    predicted = density.predict(values)
    found = density.draw(key, values, predicted)
    finite = [jnp.isfinite(found[f"{name}_state"]).all() for name in density.twin.states]
    return found | {"solved": predicted.solved & jnp.stack(finite).all()}
