"""What a validation found, as its page takes it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import xarray as xr

from bayestwin.assess.evidence import Evidence
from bayestwin.assess.gates import Gate
from bayestwin.assess.trial import Trial
from bayestwin.assess.trust import Trust
from bayestwin.telemetry import Telemetry

HELD_OUT, BACKTEST = "held out", "backtest"
"""The two kinds of forecasts that are judged, as they are called on the page."""


class Validated(NamedTuple):
    """One calibrated run, and all that was held against it.

    Attributes:
        posterior: What was calibrated.
        predictions: Of what was held out.
        telemetry: What was held out.
        gates: The verdict on the posterior.
        prob: Nominal probability of the interval that counts.
        held_out: What was held out, judged.
        trial: The backtest, judged.
        backtest: What `bt.backtest` returned; None where there is none.
        intervals: Of the held-out times, as `bt.intervals` gives them; with `kind` where there are conformal ones.
        both: Raw and conformal intervals, judged, by `HELD_OUT` and `BACKTEST`; empty without a backtest.
        correction: What conformal intervals are made from; None without a backtest.
        pit: Ranks of the observations, likewise.
        scores: Errors and skill, likewise.
        period: After which observations repeat themselves, for a simple method; None for none.
        settings: How the backtest was made, by name.
        trust: The verdict.
        run: Name of the run.
        job: File of its job, as far as it is known.
    """

    posterior: xr.DataTree
    predictions: xr.DataTree
    telemetry: Telemetry
    gates: Sequence[Gate]
    prob: float
    held_out: Evidence
    trial: Trial
    backtest: xr.DataTree | None
    intervals: xr.Dataset
    both: Mapping[str, Evidence]
    correction: xr.Dataset | None
    pit: Mapping[str, xr.Dataset]
    scores: Mapping[str, xr.Dataset]
    period: float | None
    settings: Mapping[str, Any]
    trust: Trust
    run: str = ""
    job: str = ""

    @property
    def time_unit(self) -> str:
        """The twin's unit of time."""
        return str(self.posterior.attrs.get("time_unit", ""))

    @property
    def evidence(self) -> Mapping[str, Evidence]:
        """Raw intervals, judged, by `HELD_OUT` and `BACKTEST`."""
        trial = self.trial.evidence
        return {HELD_OUT: self.held_out} | ({} if trial is None else {BACKTEST: trial})
