"""What comparison takes from a result: the expected log predictive density of each point, and how far to trust it."""

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from arviz_stats.loo import loo, loo_approximate_posterior

from bayestwin.errors import InvalidInput, explain
from bayestwin.insight.future import GROUP

LOO, LFO = "leave-one-out", "leave-future-out"

MAX_K_AHEAD = 0.7


class Pointwise(NamedTuple):
    """One result.

    Attributes:
        kind: `"leave-one-out"` or `"leave-future-out"`.
        elpd: Of each point; shape (n,).
        pareto_k: Likewise; NaN where no weights were needed.
        max_k: Above it weights fail.
        p: Effective number of parameters; NaN where it is not known.
        points: What each point is, as coordinates over `point`.
        target: What must be the same in results that are compared: name and value.
        doubts: Why the numbers should not be relied on, in words.
        flattered: Why it is rather worse than the numbers say, in words: weights that fail miss what is improbable.
    """

    kind: str
    elpd: np.ndarray
    pareto_k: np.ndarray
    max_k: float
    p: float
    points: xr.Dataset
    target: Mapping[str, Any]
    doubts: tuple[str, ...]
    flattered: tuple[str, ...] = ()


def read_pointwise(name: str, result: xr.DataTree) -> Pointwise:
    """Take a posterior, or what `leave_future_out` returned.

    Raises:
        InvalidInput: If it is neither, or leaving one out says nothing about it.
    """
    groups = result.children if isinstance(result, xr.DataTree) else {}
    if GROUP in groups:
        return _of_future(result)
    if {"posterior", "log_likelihood"} <= set(groups):
        return _of_posterior(name, result)
    message = explain(
        f"`{name}` cannot be compared.",
        expected="what `calibrate` or `leave_future_out` returned",
        received=f"the groups {', '.join(f'`{group}`' for group in groups) or 'none'}",
        advice="Pass posteriors by name, or results of `bt.leave_future_out` by name.",
    )
    raise InvalidInput(message)


def log_likelihood(result: xr.DataTree) -> xr.DataArray:
    """The log likelihood of all observations in one row (chain, draw, point), which say what and when they are of."""
    rows = []
    for name, values in result["log_likelihood"].data_vars.items():
        (dim,) = [d for d in values.dims if d not in ("chain", "draw")]
        own = values.reset_coords(drop=True).drop_vars(str(dim), errors="ignore").rename({dim: "point"})
        if not own.sizes["point"]:
            continue
        told = {"observation": ("point", [str(name)] * own.sizes["point"])}
        for coordinate in ("experiment", "time"):
            for label in (coordinate, f"{coordinate}_{name}"):
                if label in values.coords and values.coords[label].dims == (dim,):
                    told[coordinate] = ("point", values.coords[label].to_numpy())
        rows.append(own.assign_coords(told))
    found = xr.concat(rows, "point", combine_attrs="drop", coords="minimal", compat="override", join="exact")
    return found.transpose("chain", "draw", "point").rename("log_likelihood")


def _of_posterior(name: str, result: xr.DataTree) -> Pointwise:
    _refuse_conditional(name, result)
    terms = log_likelihood(result)
    if terms.sizes["chain"] * terms.sizes["draw"] < 2:
        message = explain(
            f"`{name}` has no posterior to compare.",
            expected="draws",
            received=f"one point, by the method {result.attrs.get('method', '?')!r}",
            advice='Calibrate by `method="nuts"` or `"laplace"`.',
        )
        raise InvalidInput(message)
    sound = np.isfinite(terms.to_numpy()).all(axis=(0, 1))
    elpd, pareto_k, p, max_k = np.full(sound.size, np.nan), np.full(sound.size, np.nan), np.nan, np.nan
    if sound.any():
        found = _left_out(result, terms.isel(point=np.flatnonzero(sound)))
        elpd[sound], pareto_k[sound], max_k = found.elpd_i.to_numpy(), found.pareto_k.to_numpy(), float(found.good_k)
        p = float(found.p) if sound.all() else np.nan
    points = terms.isel(chain=0, draw=0, drop=True).coords.to_dataset()
    doubts = _missing(elpd, "observations") + _interrupted(result)
    high = _high(elpd, pareto_k, max_k, "observations")
    return Pointwise(LOO, elpd, pareto_k, max_k, p, points, _target(result), doubts, high)


def _left_out(result: xr.DataTree, terms: xr.DataArray) -> Any:
    """ArviZ's leave-one-out, with its warnings left to be said in our own words."""
    groups = {
        "posterior": result["posterior"].to_dataset(),
        "log_likelihood": terms.to_dataset().reset_coords(drop=True),
    }
    tree = xr.DataTree.from_dict(groups)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Estimated shape parameter|The point-wise LOO is the same")
        if result.attrs.get("method") != "laplace":
            return loo(tree, pointwise=True)
        stats = result["sample_stats"].to_dataset()
        return loo_approximate_posterior(tree, stats["lp"], stats["lp"] - stats["log_ratio"], pointwise=True)


def _of_future(result: xr.DataTree) -> Pointwise:
    found = result[GROUP].to_dataset()
    elpd, pareto_k = found["elpd"].to_numpy(), found["pareto_k"].to_numpy()
    weighted = ~found["recalibrated"].to_numpy()
    doubts = _missing(elpd, "origins") + _high(elpd, np.where(weighted, pareto_k, 0.0), MAX_K_AHEAD, "origins")
    few = int((~(found["pareto_k_ahead"].to_numpy() <= MAX_K_AHEAD) & np.isfinite(elpd)).sum())
    if few:
        doubts += (f"a few draws make up all of the density at {few} of {len(elpd)} origins",)
    gates = sorted({gate for one in found["failed_gates"].to_numpy() for gate in str(one).split(", ") if gate})
    if gates:
        doubts += (f"calibrations failed the gates {', '.join(gates)}",)
    coords = {"origin": ("point", found["origin"].to_numpy())}
    coords |= {name: ("point", found[name].to_numpy()) for name in ("until", "num")}
    target = {"telemetry": result.attrs.get("telemetry_sha256"), "horizon": result.attrs.get("horizon")}
    target["units of the observations"] = _units(result)
    return Pointwise(
        LFO, elpd, pareto_k, MAX_K_AHEAD, np.nan, xr.Dataset(coords=coords), target, doubts + _interrupted(result)
    )


def _refuse_conditional(name: str, result: xr.DataTree) -> None:
    """Leaving one out needs observations that are independent given what is inferred."""
    described = result.attrs.get("description", {})
    error = described.get("model_error", {}).get("kind", "")
    noisy = [one["name"] for one in described.get("observations", ()) if "Autocorrelated(" in one.get("noise", "")]
    if not error and not noisy:
        return
    what = {
        "ProcessNoise": "process noise: each has the density given all observations before it",
        "Discrepancy": "a discrepancy: each has the density given the one that was drawn, from this observation too",
    }.get(error, f"autocorrelated noise of `{noisy[0]}`: each has the density given the one before" if noisy else error)
    message = explain(
        f"Leaving one observation out says nothing about `{name}`, and cannot be compared with other twins.",
        expected="observations that are independent given what is inferred",
        received=what,
        advice="Compare results of `bt.leave_future_out`, which hold for every twin.",
    )
    raise InvalidInput(message)


def _target(result: xr.DataTree) -> dict[str, Any]:
    observed = result["observed_data"].to_dataset() if "observed_data" in result.children else xr.Dataset()
    return {
        "telemetry": result.attrs.get("telemetry_sha256"),
        "units of the observations": {str(n): v.attrs.get("units", "") for n, v in observed.data_vars.items()},
    }


def _units(result: xr.DataTree) -> dict[str, str]:
    observations = result.attrs.get("description", {}).get("observations", ())
    return {one["name"]: one["unit"] for one in observations}


def _missing(elpd: np.ndarray, what: str) -> tuple[str, ...]:
    missing = int((~np.isfinite(elpd)).sum())
    return (f"there is no log density at {missing} of {len(elpd)} {what}",) if missing else ()


def _high(elpd: np.ndarray, pareto_k: np.ndarray, max_k: float, what: str) -> tuple[str, ...]:
    bad = int((~(pareto_k <= max_k) & np.isfinite(elpd)).sum())
    return (f"Pareto k is above {max_k:.2f} at {bad} of {len(elpd)} {what}",) if bad else ()


def _interrupted(result: xr.DataTree) -> tuple[str, ...]:
    return ("it was interrupted",) if result.attrs.get("interrupted") else ()
