"""Calibration: a twin and its telemetry in, the posterior out."""

import importlib.metadata
import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from bayestwin.bind import bind
from bayestwin.compilation import keep_compiled
from bayestwin.density import Density, build_density
from bayestwin.describe import describe, fingerprint
from bayestwin.errors import InvalidSetting, InvalidTwin, explain
from bayestwin.groups import (
    SCHEMA_VERSION,
    likelihood_dataset,
    series_dataset,
    signals_dataset,
    sites_dataset,
    stats_dataset,
)
from bayestwin.inference.nuts import Draws, sample_nuts
from bayestwin.inference.starts import find_starts
from bayestwin.predictive import Predictor
from bayestwin.progress import Phase, Progress
from bayestwin.seeds import check_seed, key_for
from bayestwin.setting import on_device, require_float64
from bayestwin.telemetry import Telemetry
from bayestwin.twin import Twin

PRIOR_DRAWS = 200


def calibrate(
    twin: Twin,
    telemetry: Telemetry,
    *,
    seed: int,
    num_warmup: int = 300,
    num_samples: int = 1000,
    num_chains: int = 4,
    target_acceptance: float = 0.9,
    predictive_draws: int = 1000,
    device: str | None = None,
    progress: Progress | None = None,
    job: Mapping[str, Any] | None = None,
) -> xr.DataTree:
    """Infer a twin's parameters from telemetry by NUTS.

    Ctrl-C while draws are made ends sampling and returns what there is, with the root attribute `interrupted`.

    Args:
        twin: The twin.
        telemetry: Its observations and inputs.
        seed: Determines everything random.
        num_warmup: Transitions of each chain that adapt and are thrown away.
        num_samples: Draws kept of each chain.
        num_chains: Number of chains; fewer than two cannot be checked against each other.
        target_acceptance: Mean acceptance that the step size aims at; raise it when transitions diverge.
        predictive_draws: About how many draws, over all chains, have their trajectories stored.
        device: `"cpu"`, `"gpu"`, or None for JAX's default.
        progress: Where progress is shown; by default on a terminal only.
        job: Recorded with the result; by default the settings of this call.

    Returns:
        Groups `posterior`, `sample_stats`, `prior`, `prior_predictive`, `posterior_predictive`, `log_likelihood`,
        `observed_data` and `constant_data`, in ArviZ's schema.

    Raises:
        InvalidTelemetry: If the telemetry does not fit the twin.
        InvalidSetting: If float64 is off, the device is absent, or a number makes no sense.
        NoValidStart: If no prior draw has a finite log density.
    """
    require_float64()
    check_seed(seed)
    settings = {
        "num_warmup": num_warmup,
        "num_samples": num_samples,
        "num_chains": num_chains,
        "target_acceptance": target_acceptance,
        "predictive_draws": predictive_draws,
    }
    check_settings(twin, settings)
    keep_compiled()
    with on_device(device), progress or Progress() as shown:
        density = build_density(twin, bind(twin, telemetry))
        starts = find_starts(density, num_chains, seed, shown)
        drawn = sample_nuts(
            density,
            starts,
            num_warmup=num_warmup,
            num_samples=num_samples,
            seed=seed,
            target_acceptance=target_acceptance,
            progress=shown,
        )
        groups = _groups(density, drawn, seed, predictive_draws, shown)
    tree = xr.DataTree.from_dict(groups)
    tree.attrs = root_attributes(twin, telemetry, seed, job if job is not None else settings) | {
        "starts": starts.record,
        "solver": describe(twin)["solver"],
        "num_warmup": num_warmup,
        "interrupted": drawn.interrupted,
    }
    return tree


def check_settings(twin: Twin, settings: Mapping[str, float]) -> None:
    """Refuse numbers that make no sense, and twins with nothing to infer."""
    for name, value in settings.items():
        whole = isinstance(value, int | np.integer) and value >= 1
        fine = 0.0 < value < 1.0 if name == "target_acceptance" else whole
        if not fine:
            message = explain(
                f"`{name}` makes no sense.",
                expected="between 0 and 1" if name == "target_acceptance" else "an integer, at least 1",
                received=f"{value}",
                advice="Leave it out for the default.",
            )
            raise InvalidSetting(message)
    if not twin.sites():
        message = explain(
            f"Twin `{twin.name}` has nothing to infer.",
            expected="a prior on at least one parameter, initial state or noise parameter",
            received="known numbers only",
            advice="Use `simulate` to solve it.",
        )
        raise InvalidTwin(message)


def root_attributes(twin: Twin, telemetry: Telemetry, seed: int, job: Mapping[str, Any]) -> dict[str, Any]:
    """What binds a result to its twin, telemetry, settings and version."""
    return {
        "bayestwin_version": importlib.metadata.version("bayestwin"),
        "schema_version": SCHEMA_VERSION,
        "twin": twin.name,
        "twin_sha256": fingerprint(twin),
        "telemetry_sha256": telemetry.sha256,
        "seed": seed,
        "job": json.dumps(job, sort_keys=True, default=str),
        "time_unit": twin.time_unit,
        "telemetry_time_unit": "" if telemetry.dated else telemetry.units.get("time", twin.time_unit),
        "t0": str(telemetry.t0),
        "description": describe(twin),
    }


def _groups(
    density: Density, drawn: Draws, seed: int, predictive_draws: int, progress: Progress
) -> dict[str, xr.Dataset]:
    twin, bound = density.twin, density.bound
    chains, num = drawn.z.shape[:2]
    predictor = Predictor(density)
    kept = thinned(chains, num, predictive_draws)
    rows = frozenset((np.arange(chains)[:, None] * num + kept).ravel().tolist())
    with progress.phase("predictive", "predicting", chains * num + PRIOR_DRAWS) as phase:
        values = jax.jit(jax.vmap(density.constrain))(jnp.asarray(drawn.z.reshape(chains * num, -1)))
        values = {name: np.asarray(v) for name, v in values.items()}
        found = predictor(values, key_for(seed, "posterior_predictive"), phase, rows)
        prior, prior_found = _prior(density, predictor, seed, phase)
    stats = drawn.stats | {"solver_steps": found["num_steps"].reshape(chains, num)}
    everyone = np.arange(PRIOR_DRAWS)
    return {
        "posterior": sites_dataset(twin, {name: v.reshape(chains, num) for name, v in values.items()}),
        "sample_stats": stats_dataset(stats),
        "prior": sites_dataset(twin, {name: v[None] for name, v in prior.items()}),
        "prior_predictive": series_dataset(twin, prior_found, bound.labels, 1, everyone),
        "posterior_predictive": series_dataset(twin, found, bound.labels, chains, kept),
        "log_likelihood": likelihood_dataset(found, bound.observations, bound.labels, chains),
        "observed_data": signals_dataset(twin.observations, bound.observations, bound.labels),
        "constant_data": signals_dataset(twin.inputs, bound.inputs, bound.labels),
    }


def _prior(
    density: Density, predictor: Predictor, seed: int, phase: Phase
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    keys = jax.random.split(key_for(seed, "prior"), PRIOR_DRAWS)
    values, _ = density.draw_prior(keys)
    return values, predictor(values, key_for(seed, "prior_predictive"), phase)


def thinned(chains: int, num: int, wanted: int) -> np.ndarray:
    """Numbers of the draws, the same in each chain and evenly spaced, that make about `wanted` draws in all."""
    each = min(num, max(1, round(wanted / chains)))
    return np.unique(np.linspace(0, num - 1, each).round().astype(int))
