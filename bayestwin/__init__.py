"""Bayesian calibration of digital twins: from an ODE model and telemetry to intervals that hold what they promise.

Everything public is listed here and imported when it is first used, so that `import bayestwin` costs next to nothing.
"""

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayestwin import datasets, errors
    from bayestwin.assess import backtest, conformalize, coverage, diagnose, intervals, pit, scores
    from bayestwin.attribution import uncertainty_shares
    from bayestwin.calibration import calibrate
    from bayestwin.comparison import ablate, compare, leave_future_out
    from bayestwin.events import Event, SteadyState
    from bayestwin.features import add_features
    from bayestwin.gaps import cut_at_gaps
    from bayestwin.identifiability import identify
    from bayestwin.long_table import read_experiments
    from bayestwin.members import Input, Observation, Parameter, Solver, State
    from bayestwin.model_error import Discrepancy, ProcessNoise
    from bayestwin.noise import (
        Autocorrelated,
        Biased,
        Binomial,
        Censored,
        Gaussian,
        LogNormal,
        NegativeBinomial,
        NoiseFrom,
        Poisson,
        Proportional,
        Rounded,
        StudentT,
    )
    from bayestwin.ppl.numpyro import numpyro_model
    from bayestwin.ppl.pymc import pymc_model
    from bayestwin.prediction import predict
    from bayestwin.readiness import check
    from bayestwin.report import render_report, write_reports
    from bayestwin.sensitivities import influence, power_scaling, sensitivity
    from bayestwin.simulation import simulate
    from bayestwin.simulation_based import judge_sbc, sbc
    from bayestwin.store import load, save
    from bayestwin.telemetry import Telemetry, align, read_telemetry
    from bayestwin.twin import Twin

_HOME = {
    "Autocorrelated": "noise",
    "Biased": "noise",
    "Binomial": "noise",
    "Censored": "noise",
    "Discrepancy": "model_error",
    "Event": "events",
    "Gaussian": "noise",
    "Input": "members",
    "LogNormal": "noise",
    "NegativeBinomial": "noise",
    "NoiseFrom": "noise",
    "Observation": "members",
    "Parameter": "members",
    "Poisson": "noise",
    "ProcessNoise": "model_error",
    "Proportional": "noise",
    "Rounded": "noise",
    "Solver": "members",
    "State": "members",
    "SteadyState": "events",
    "StudentT": "noise",
    "Telemetry": "telemetry",
    "Twin": "twin",
    "ablate": "comparison",
    "add_features": "features",
    "align": "telemetry",
    "backtest": "assess",
    "calibrate": "calibration",
    "check": "readiness",
    "compare": "comparison",
    "conformalize": "assess",
    "coverage": "assess",
    "cut_at_gaps": "gaps",
    "datasets": "datasets",
    "diagnose": "assess",
    "errors": "errors",
    "identify": "identifiability",
    "influence": "sensitivities",
    "intervals": "assess",
    "judge_sbc": "simulation_based",
    "leave_future_out": "comparison",
    "load": "store",
    "numpyro_model": "ppl.numpyro",
    "pit": "assess",
    "power_scaling": "sensitivities",
    "predict": "prediction",
    "pymc_model": "ppl.pymc",
    "read_experiments": "long_table",
    "read_telemetry": "telemetry",
    "render_report": "report",
    "save": "store",
    "sbc": "simulation_based",
    "scores": "assess",
    "sensitivity": "sensitivities",
    "simulate": "simulation",
    "uncertainty_shares": "attribution",
    "write_reports": "report",
}

__all__ = [
    "Autocorrelated",
    "Biased",
    "Binomial",
    "Censored",
    "Discrepancy",
    "Event",
    "Gaussian",
    "Input",
    "LogNormal",
    "NegativeBinomial",
    "NoiseFrom",
    "Observation",
    "Parameter",
    "Poisson",
    "ProcessNoise",
    "Proportional",
    "Rounded",
    "Solver",
    "State",
    "SteadyState",
    "StudentT",
    "Telemetry",
    "Twin",
    "ablate",
    "add_features",
    "align",
    "backtest",
    "calibrate",
    "check",
    "compare",
    "conformalize",
    "coverage",
    "cut_at_gaps",
    "datasets",
    "diagnose",
    "errors",
    "identify",
    "influence",
    "intervals",
    "judge_sbc",
    "leave_future_out",
    "load",
    "numpyro_model",
    "pit",
    "power_scaling",
    "predict",
    "pymc_model",
    "read_experiments",
    "read_telemetry",
    "render_report",
    "save",
    "sbc",
    "scores",
    "sensitivity",
    "simulate",
    "uncertainty_shares",
    "write_reports",
]


def _prefer_float64() -> None:
    """Switch float64 on, unless the user has switched it off: then every verb stops and says so."""
    if "JAX_ENABLE_X64" in os.environ:
        return
    os.environ["JAX_ENABLE_X64"] = "1"
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_enable_x64", True)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        message = f"module 'bayestwin' has no attribute '{name}'"
        raise AttributeError(message)
    module = importlib.import_module(f"bayestwin.{_HOME[name]}")
    value = module if name in ("datasets", "errors") else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


_prefer_float64()
