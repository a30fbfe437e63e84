"""Signals to look at: a table in, findings out, those that speak of a prior left out."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import pytest

from bayestwin.readiness import Finding, Thresholds
from bayestwin.readiness.checking import signal_findings
from bayestwin.readiness.sampling import times_of
from bayestwin.readiness.signals import record_of

type Look = Callable[..., tuple[Finding, ...]]


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
