"""Telemetry as rich as it could be: what is unseen even then is so by the equations, not by this telemetry."""

import dataclasses

import numpy as np

from bayestwin._base.seeds import seed_for
from bayestwin.density.density import Density, build_density
from bayestwin.model.process_noise import ProcessNoise


def richer(density: Density, seed: int) -> Density | None:
    """The density with every input moving at random and everything observed at all times.

    Args:
        density: The log density.
        seed: Determines the inputs.

    Returns:
        None where nothing could be richer, or, with several experiments or process noise, cannot be told.
    """
    twin, bound = density.twin, density.bound
    if density.experiments or isinstance(twin.model_error, ProcessNoise):
        return None
    complete = all(np.isfinite(values).all() for values in bound.observations.values())
    if not bound.inputs and complete:
        return None
    rng = np.random.default_rng(seed_for(seed, "identify inputs"))
    inputs = {name: _moved(values, rng) for name, values in bound.inputs.items()}
    observed = {
        name: np.full(len(bound.times), values[np.isfinite(values)][0] if np.isfinite(values).any() else 1.0)
        for name, values in bound.observations.items()
    }
    found = build_density(twin, bound._replace(inputs=inputs, observations=observed))
    return dataclasses.replace(found, sites=density.sites)


def _moved(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An input with a random part as large as its own range, of one sign where it has one."""
    known = values[np.isfinite(values)]
    size = float(np.ptp(known)) or float(np.abs(known).max(initial=0.0)) or 1.0
    moved = values + size * rng.uniform(-0.5, 0.5, len(values))
    return np.abs(moved) if known.size and known.min() >= 0 else moved
