"""Signals to look at: a table in, findings out, those that speak of a prior left out."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest

import bayestwin as bt
from bayestwin.check import Finding, Thresholds
from bayestwin.check.check import signal_findings
from bayestwin.check.signals import record_of
from bayestwin.check.times import times_of

type Look = Callable[..., tuple[Finding, ...]]


@pytest.fixture(scope="session")
def room() -> bt.Twin:
    """One room that leaks heat to the outdoors."""
    return bt.Twin(
        "room",
        lambda t, x, p, u: {"indoor": (u.outdoor - x.indoor) / p.tau},
        {"indoor": bt.State(dist.Normal(20.0, 1.0), unit="degC")},
        {"tau": bt.Parameter(dist.LogNormal(3.0, 0.5), unit="h")},
        {"indoor": bt.Observation(bt.Gaussian(0.1), unit="degC")},
        {"outdoor": bt.Input(unit="degC", hold="linear")},
        time_unit="h",
    )


@pytest.fixture(scope="session")
def weather() -> Callable[[int, int], pd.DataFrame]:
    """`weather(seed, num)`: hours of that room, rounded as a logger does."""

    def made(seed: int = 3, num: int = 150) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        hours = np.arange(float(num))
        outdoor = np.round(10 + 5 * np.sin(2 * np.pi * hours / 24) + np.cumsum(rng.normal(0, 0.3, num)), 2)
        indoor = np.full(num, 20.0)
        for row in range(1, num):
            indoor[row] = indoor[row - 1] + (outdoor[row - 1] - indoor[row - 1]) / 20.0
        noisy = np.round(indoor + rng.normal(0, 0.1, num), 2)
        return pd.DataFrame({"time": hours, "indoor": noisy, "outdoor": outdoor})

    return made


@pytest.fixture
def look() -> Look:
    """`look(columns, times, inputs=(…))`: everything that is said without a twin, notes included.

    That clocks cannot be told is left out, but where it is asked for: it holds for most made-up columns.
    """

    def found(
        columns: Mapping[str, np.ndarray],
        times: object = None,
        inputs: Sequence[str] = (),
        unit: str = "degC",
        untold: bool = False,
        **thresholds: float,
    ) -> tuple[Finding, ...]:
        num = len(next(iter(columns.values())))
        index = pd.Index(np.arange(float(num)) if times is None else times)
        table = pd.DataFrame(dict(columns), index=index)
        observed = [name for name in columns if name not in inputs]
        record = record_of(table, observed, list(inputs), dict.fromkeys(columns, unit), time_unit="h")
        found = (*times_of(table), *signal_findings(record, Thresholds(**thresholds)))
        return found if untold else tuple(one for one in found if one.kind != "clock_unknown")

    return found


@pytest.fixture
def sensor() -> Callable[..., np.ndarray]:
    """An AR(1) signal about 20 with innovations of 0.1, as a well-behaved sensor gives it, to three decimals."""

    def make(num: int = 400, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        values = np.zeros(num)
        for row in range(1, num):
            values[row] = 0.95 * values[row - 1] + 0.1 * rng.standard_normal()
        return np.round(20.0 + values, 3)

    return make
