"""Telemetry simulated without this project's solver: SciPy at tight tolerances, noise from NumPy at a fixed seed."""

from collections.abc import Mapping
from types import SimpleNamespace

import numpy as np
import pandas as pd
from scipy.integrate import solve_ivp

import bayestwin as bt


def simulated(
    twin: bt.Twin, truth: Mapping[str, float], times: np.ndarray, noise: Mapping[str, float], seed: int
) -> bt.Telemetry:
    """Observations of a twin without inputs, with additive normal noise.

    Args:
        twin: The twin.
        truth: True parameters by name, and initial states as `<state>_initial`.
        times: After 0, where the initial state holds; shape (n,).
        noise: Standard deviation of the noise by observation.
        seed: Determines the noise.
    """
    p = SimpleNamespace(**{name: truth[name] for name in twin.parameters})
    initial = [truth.get(f"{name}_initial", spec.initial) for name, spec in twin.states.items()]

    def slope(t: float, state: np.ndarray) -> list[float]:
        found = twin.vector_field(t, SimpleNamespace(**dict(zip(twin.states, state, strict=True))), p, None)
        return [float(found[name]) for name in twin.states]

    solved = solve_ivp(slope, (0.0, times[-1]), initial, "LSODA", t_eval=times, rtol=1e-9, atol=1e-12)
    states = SimpleNamespace(**dict(zip(twin.states, solved.y, strict=True)))
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(index=pd.Index(times, name="time"))
    for name, spec in twin.observations.items():
        value = getattr(states, name) if spec.of is None else spec.of(times, states, p, None)
        table[name] = value + noise[name] * rng.standard_normal(times.size)
    return bt.read_telemetry(table, t0=0.0)
