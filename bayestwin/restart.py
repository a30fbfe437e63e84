"""A calibrated twin started anew: where a future begins, from states that are given instead of those it ended in."""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np
import numpyro.distributions as dist
import xarray as xr

from bayestwin._base.seeds import key_for
from bayestwin.density.bind import Bound, bind
from bayestwin.density.density import Density, build_density
from bayestwin.dynamics.choice import with_method
from bayestwin.errors import InvalidSetting, explain
from bayestwin.model.twin import Twin
from bayestwin.telemetry import Telemetry

type Start = Mapping[str, float | dist.Distribution]
"""By state, its value at the first time of a future, or what is known of it."""


def check_start(twin: Twin, posterior: xr.DataTree, initial: Start, future: object) -> None:
    """Refuse a start that leaves open where a state begins, or what it is a start of.

    Raises:
        InvalidSetting: If a state is unknown or left out, or the future is that of several experiments.
    """
    needed = [name for name, state in twin.states.items() if isinstance(state.initial, dist.Distribution)]
    wrong = [name for name in initial if name not in twin.states] + [name for name in needed if name not in initial]
    if wrong:
        message = explain(
            f"`initial` does not say where twin `{twin.name}` starts.",
            expected="a number or a distribution for each of " + ", ".join(f"`{name}`" for name in needed),
            received=", ".join(f"`{name}`" for name in initial) or "nothing",
            advice=f"Correct `{wrong[0]}`. States without a prior may be left out: they start as the twin says.",
        )
        raise InvalidSetting(message)
    several = "experiment" in posterior["posterior"].dims
    if several or not isinstance(future, Telemetry):
        message = explain(
            "A start from given states is that of one telemetry.",
            expected="a bt.Telemetry as `future`, and the posterior of one experiment",
            received=f"{type(future).__name__}{', and several experiments' if several else ''}",
            advice="Call `predict` for each experiment, with `posterior.sel(experiment=…)`.",
        )
        raise InvalidSetting(message)


def restarted(
    twin: Twin, posterior: xr.DataTree, initial: Start, future: Telemetry
) -> tuple[Telemetry, Bound, Density]:
    """What a future is predicted by that begins from given states.

    Args:
        twin: The twin that was calibrated.
        posterior: As `calibrate` returned it.
        initial: See `check_start`; in the units of the states.
        future: Times and inputs; the states hold at its first time.

    Returns:
        The future with times counted from there; its times, inputs and events; and the density.

    Raises:
        InvalidTelemetry: If the future does not fit the twin.
    """
    states = {
        name: dataclasses.replace(state, initial=initial[name]) if name in initial else state
        for name, state in twin.states.items()
    }
    anew = dataclasses.replace(twin, states=states)
    future = future.with_table(future.table, t0=future.table.index[0])
    bound = bind(anew, future, observed=False)._replace(observations={})
    chosen = with_method(anew, posterior.attrs.get("solver_choice", {}).get("method", "auto"))
    return future, bound, build_density(anew, bound).solved_as(chosen)


def start_values(twin: Twin, initial: Start, num: int, seed: int) -> dict[str, np.ndarray]:
    """Draws of the initial states that are given as distributions, by site.

    Args:
        twin: The twin.
        initial: See `check_start`.
        num: How many draws.
        seed: Determines them.
    """
    keys = jax.random.split(key_for(seed, "initial"), len(twin.states))
    return {
        f"{name}_initial": np.asarray(initial[name].sample(key, (num,)))  # type: ignore[union-attr]
        for name, key in zip(twin.states, keys, strict=True)
        if isinstance(initial.get(name), dist.Distribution)
    }
