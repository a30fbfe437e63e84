"""Twins side by side on the same observations: differences in expected log predictive density, with their verdict."""

import importlib.metadata
from collections.abc import Mapping

import numpy as np
import scipy.stats
import xarray as xr
from arviz_stats.loo import compare as compare_elpd
from arviz_stats.utils import ELPDDataLOOKFold

from bayestwin.errors import InvalidInput, explain
from bayestwin.insight.pointwise import LOO, Pointwise, read_pointwise

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
        message = explain(
            "There is nothing to compare with." if len(names) < 2 else f"There is no result named `{reference}`.",
            expected='at least two results by name: `{"with sun": posterior, "without": …}`',
            received=", ".join(f"`{name}`" for name in names) or "none",
            advice="Name the results, and perhaps one of them as `reference`.",
        )
        raise InvalidInput(message)
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
        theirs, received = found[name], ""
        if theirs.kind != ours.kind:
            what, expected, received = "the same kind of result", ours.kind, theirs.kind
        elif different := [key for key, value in ours.target.items() if value != theirs.target[key] or value is None]:
            what = f"the same {different[0]}"
            expected, received = (str(one.target[different[0]]) for one in (ours, theirs))
        elif not theirs.points.equals(ours.points):
            what = "the same observations"
            expected, received = (f"{one.points.sizes['point']} points" for one in (ours, theirs))
        if received:
            message = explain(
                f"`{name}` and `{first}` are not about the same: their difference would mean nothing.",
                expected=f"{what}, {expected}",
                received=received,
                advice="Calibrate both on the same telemetry, with the same observations.",
            )
            raise InvalidInput(message)


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
    return outcome, not doubts, words + (f" Do not rely on it: {'; '.join(doubts)}." if doubts else "")
