"""Can a result be trusted: gates on a posterior, backtests, coverage and scores of forecasts."""

from bayestwin.assess.backtest import backtest
from bayestwin.assess.conformal import conformalize
from bayestwin.assess.coverage import coverage
from bayestwin.assess.diagnose import diagnose
from bayestwin.assess.each import calibrate_each
from bayestwin.assess.gates import Gate, failed
from bayestwin.assess.intervals import intervals
from bayestwin.assess.pit import pit
from bayestwin.assess.population import population
from bayestwin.assess.quantities import quantities
from bayestwin.assess.scores import crps, scores

__all__ = [
    "Gate",
    "backtest",
    "calibrate_each",
    "conformalize",
    "coverage",
    "crps",
    "diagnose",
    "failed",
    "intervals",
    "pit",
    "population",
    "quantities",
    "scores",
]
