"""Twins side by side on the same observations: differences in expected log predictive density, with their verdict.

Also the same twin with a term switched off, to be compared with it.
"""

import dataclasses
import importlib.metadata
import math
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
import xarray as xr
from arviz_stats.loo import compare as compare_elpd
from arviz_stats.loo import loo, loo_approximate_posterior
from arviz_stats.utils import ELPDDataLOOKFold

from bayestwin._base.wording import not_to_rely_on
from bayestwin.errors import InvalidInput, InvalidTwin
from bayestwin.inference.method import method_named
from bayestwin.insight.future import GROUP
from bayestwin.model.twin import Twin

# What comparison takes from a result: the expected log predictive density of each point, and how far to trust it.

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
    raise InvalidInput(
        f"`{name}` cannot be compared.",
        expected="what `calibrate` or `leave_future_out` returned",
        received=f"the groups {', '.join(f'`{group}`' for group in groups) or 'none'}",
        advice="Pass posteriors by name, or results of `bt.leave_future_out` by name.",
    )


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
    dataset = xr.concat(rows, "point", combine_attrs="drop", coords="minimal", compat="override", join="exact")
    return dataset.transpose("chain", "draw", "point").rename("log_likelihood")


def _of_posterior(name: str, result: xr.DataTree) -> Pointwise:
    _refuse_conditional(name, result)
    if "forget" in result.attrs:
        raise InvalidInput(
            f"`{name}` has forgotten a part of each reading, so that leaving one out says nothing.",
            expected="a posterior in which all readings count in full",
            received=f"an update with a half-life of {result.attrs['forget']['half_life']:g}",
            advice="Compare them on rows that neither has seen: `bayestwin shadow`, or `bt.scores` of forecasts.",
        )
    terms = log_likelihood(result)
    if terms.sizes["chain"] * terms.sizes["draw"] < 2:
        raise InvalidInput(
            f"`{name}` has no posterior to compare.",
            expected="draws",
            received=f"one point, by the method {result.attrs.get('method', '?')!r}",
            advice='Calibrate by `method="nuts"` or `"laplace"`.',
        )
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
        "posterior": result["posterior"].to_dataset().sel(draw=terms["draw"]),
        "log_likelihood": terms.to_dataset().reset_coords(drop=True),
    }
    tree = xr.DataTree.from_dict(groups)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Estimated shape parameter|The point-wise LOO is the same")
        if not method_named(result.attrs.get("method", "")).weighted:
            return loo(tree, pointwise=True)
        stats = result["sample_stats"].to_dataset().sel(draw=terms["draw"])
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
    raise InvalidInput(
        f"Leaving one observation out says nothing about `{name}`, and cannot be compared with other twins.",
        expected="observations that are independent given what is inferred",
        received=what,
        advice="Compare results of `bt.leave_future_out`, which hold for every twin.",
    )


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


SMALL = 4.0
"""A smaller difference of elpd says little, however small its standard error: arXiv:2008.10296."""

LEVEL = 0.95


def compare(results: Mapping[str, xr.DataTree], *, reference: str | None = None) -> xr.Dataset:
    """Compare how well twins predict what they have not seen, on the same observations.

    Of posteriors each observation is left out in turn, by Pareto smoothed importance sampling (doi:10.1007/
    s11222-016-9696-4, arXiv:1507.02646), and all observations of one telemetry count, whatever their names. Of results
    of `leave_future_out` each origin is a point. Numbers are those of `az.compare`.

    A twin predicts better or worse than the reference if the difference is above 4 and the 95 % interval of its mean
    over points, a t interval as if they were independent, leaves out 0. Where Pareto k is too high in leaving one out,
    the twin is flattered: that it is worse still holds, and anything else does not.

    Args:
        results: At least two posteriors, or results of `leave_future_out`, by name.
        reference: The name of the one that the others are compared with; by default the best.

    Returns:
        By `model`, the best first: `elpd`, `se`, `elpd_diff` (to the reference), `dse` (its standard error), `p`
        (effective number of parameters), `weight` (of stacking), `outcome` (`"reference"`, `"better"`, `"worse"`,
        `"alike"`, or `"unknown"` where something cannot be computed), `reliable`, and `verdict` in words; by `model`
        and `point`: `elpd_pointwise` and `pareto_k`. To store it: `bt.save(xr.DataTree(found), "comparison.nc")`.

    Raises:
        InvalidInput: If there are fewer than two, they are of different telemetry or observations, or leaving one
            observation out says nothing about one of them (process noise, discrepancies, autocorrelated noise).
    """
    names = [str(name) for name in results]
    if len(names) < 2 or (reference is not None and reference not in names):
        raise InvalidInput(
            "There is nothing to compare with." if len(names) < 2 else f"There is no result named `{reference}`.",
            expected='at least two results by name: `{"with sun": posterior, "without": …}`',
            received=", ".join(f"`{name}`" for name in names) or "none",
            advice="Name the results, and perhaps one of them as `reference`.",
        )
    found = {name: read_pointwise(name, result) for name, result in zip(names, results.values(), strict=True)}
    _check_same(found)
    table = _table(found, reference)
    attrs = {
        "bayestwin_version": importlib.metadata.version("bayestwin"),
        "kind": found[names[0]].kind,
        "telemetry_sha256": str(found[names[0]].target["telemetry"]),
        "reference": str(table["model"].to_numpy()[table["outcome"].to_numpy() == "reference"][0]),
    }
    bound = {
        key: ("model", [str(results[name].attrs.get(key, "")) for name in table["model"].to_numpy()])
        for key in ("twin", "twin_sha256", "seed")
    }
    return table.assign_coords(bound).assign_attrs(attrs)


def _check_same(found: Mapping[str, Pointwise]) -> None:
    """Refuse results whose differences would not be of the same observations."""
    first, *others = found
    ours = found[first]
    for name in others:
        theirs, what, expected, received = found[name], "", "", ""
        if theirs.kind != ours.kind:
            what, expected, received = "the same kind of result", ours.kind, theirs.kind
        elif different := [key for key, value in ours.target.items() if value != theirs.target[key] or value is None]:
            what = f"the same {different[0]}"
            expected, received = (str(one.target[different[0]]) for one in (ours, theirs))
        elif not theirs.points.equals(ours.points):
            what = "the same observations"
            expected, received = (f"{one.points.sizes['point']} points" for one in (ours, theirs))
        if received:
            raise InvalidInput(
                f"`{name}` and `{first}` are not about the same: their difference would mean nothing.",
                expected=f"{what}, {expected}",
                received=received,
                advice="Calibrate both on the same telemetry, with the same observations.",
            )


def _table(found: Mapping[str, Pointwise], reference: str | None) -> xr.Dataset:
    """All figures by model, the best first; those without a value come last."""
    names = list(found)
    each = np.stack([found[name].elpd for name in names])
    total, num = each.sum(axis=1), each.shape[1]
    order = np.argsort(np.where(np.isfinite(total), -total, np.inf), kind="stable")
    ranked = [names[i] for i in order]
    reference = reference or ranked[0]
    columns = {"elpd_diff": np.full(len(names), np.nan), "dse": np.full(len(names), np.nan)}
    columns["weight"] = np.full(len(names), np.nan)
    finite = [name for name in names if np.isfinite(found[name].elpd).all()]
    if reference in finite:
        # what all have in common at a point drops out of differences and weights, and keeps densities from underflow
        common = each[[names.index(name) for name in finite]].max(axis=0)
        numbers = compare_elpd(
            {name: _as_elpd(found[name].elpd - common) for name in finite}, reference=reference, round_to="none"
        )
        for column, values in columns.items():
            for row, name in enumerate(ranked):
                if name in finite:
                    values[row] = float(numbers.loc[name, column])
    verdicts = [
        judge(name, reference, diff, dse, num, (found[name], found[reference]))
        for name, diff, dse in zip(ranked, columns["elpd_diff"], columns["dse"], strict=True)
    ]
    by_model = {
        "elpd": total[order],
        "se": np.sqrt(num * each.var(axis=1, ddof=1))[order] if num > 1 else np.full(len(names), np.nan),
        **columns,
        "p": np.array([found[name].p for name in ranked]),
        "outcome": np.array([outcome for outcome, _, _ in verdicts]),
        "reliable": np.array([reliable for _, reliable, _ in verdicts]),
        "verdict": np.array([words for _, _, words in verdicts]),
    }
    k = np.stack([found[name].pareto_k for name in ranked])
    by_point = {"elpd_pointwise": each[order], "pareto_k": k}
    data = {name: ("model", values) for name, values in by_model.items()}
    data |= {name: (("model", "point"), values) for name, values in by_point.items()}
    return xr.Dataset(data, {"model": ranked, **found[names[0]].points.coords}, {"max_k": found[ranked[0]].max_k})


def _as_elpd(pointwise: np.ndarray) -> ELPDDataLOOKFold:
    """Points as ArviZ takes them, when they need no weights any more."""
    num = len(pointwise)
    return ELPDDataLOOKFold(
        elpd=float(pointwise.sum()),
        se=float(np.sqrt(num * pointwise.var())),
        p=np.nan,
        n_samples=1,
        n_data_points=num,
        scale="log",
        warning=False,
        good_k=None,  # type: ignore[arg-type]
        elpd_i=xr.DataArray(pointwise, dims="point"),
        n_folds=num,
    )


def judge(
    name: str, reference: str, diff: float, dse: float, num: int, both: tuple[Pointwise, Pointwise]
) -> tuple[str, bool, str]:
    """Outcome, whether to rely on it, and the sentence.

    Args:
        name: The model.
        reference: What it is compared with.
        diff: Its elpd less that of the reference.
        dse: Standard error of that, with the variance over points divided by their number.
        num: How many points there are.
        both: The two results.
    """
    what, them = ("observations" if both[0].kind == LOO else "origins"), dict(zip((name, reference), both, strict=True))
    high = {one: [f"{words} (`{one}`)" for words in result.flattered] for one, result in them.items()}
    doubts = [f"{words} (`{one}`)" for one, result in them.items() for words in result.doubts]
    if name == reference:
        words = f"`{name}` is what the others are compared with"
        doubts += high[name]
        return "reference", not doubts, words + (f"; but {'; '.join(doubts)}." if doubts else ".")
    if not (np.isfinite(diff) and np.isfinite(dse) and num > 1):
        why = "; ".join(doubts) or f"there are too few {what}"
        return "unknown", False, f"`{name}` cannot be compared with `{reference}`: {why}."
    wide = dse * np.sqrt(num / (num - 1)) * scipy.stats.t.ppf(0.5 + LEVEL / 2, num - 1)
    if abs(diff) > SMALL and abs(diff) > wide:
        outcome = "better" if diff > 0 else "worse"
        words = f"`{name}` predicts {outcome} than `{reference}`"
    else:
        outcome, words = "alike", f"`{name}` and `{reference}` cannot be told apart"
    worse = {"better": reference, "worse": name}.get(outcome, "")
    doubts += [words for one, found in high.items() if one != worse for words in found]
    digits = 1 if dse >= 0.95 else 2
    words += f": elpd difference {diff + 0.0:.{digits}f} ± {dse:.{digits}f}, over {num} {what}."
    if worse and high[worse] and not doubts:
        words += f" It is rather larger: {'; '.join(high[worse])}."
    return outcome, not doubts, words + (f" {not_to_rely_on('it', '; '.join(doubts))}" if doubts else "")


# A twin with a term switched off: the parameters that carry it are known, and are zero, say.


def ablate(twin: Twin, off: Mapping[str, float]) -> Twin:
    """The twin with some parameters known, so that a term is switched off, or held at a value from a data sheet.

    The values may lie outside the priors: a gain that is positive where the term is there is 0 where it is not.

    Args:
        twin: The twin.
        off: Parameters and their values, in the twin's units: `{"aperture": 0.0}`.

    Raises:
        InvalidTwin: If one is no parameter that is inferred, a value is no finite number, or the twin has nothing left
            to infer.
    """
    inferred = [site.name for site in twin.sites() if site.kind == "parameter"]
    unfit = [f"`{name}` is no parameter that is inferred" for name in off if name not in inferred]
    unfit += [f"{name} = {value!r} is no finite number" for name, value in off.items() if not _is_number(value)]
    if unfit or not off:
        raise InvalidTwin(
            f"This cannot be switched off in twin `{twin.name}`: {unfit[0] if unfit else 'nothing is named'}.",
            expected=f"any of {', '.join(f'`{name}`' for name in inferred) or 'no parameter'}, each with a number",
            received=", ".join(f"{name} = {value!r}" for name, value in off.items()) or "an empty mapping",
            advice="A term is switched off by the parameter that it is multiplied by: "
            "where there is none, give the equations one with the value 1.",
        )
    known = {name: dataclasses.replace(twin.parameters[name], prior=float(value)) for name, value in off.items()}
    found = dataclasses.replace(twin, parameters={**twin.parameters, **known})
    if not found.sites():
        raise InvalidTwin(
            f"Twin `{twin.name}` has nothing left to infer.",
            expected="a prior on at least one parameter, initial state or noise parameter",
            received=", ".join(f"{name} = {v!r}" for name, v in off.items()),
            advice="Switch off less.",
        )
    return found


def _is_number(value: object) -> bool:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return number and math.isfinite(float(value))  # type: ignore[arg-type]
