"""Residuals as scores that are standard normal and independent if the twin is right, and the gate on their correlation.

With a correlation ρ from one to the next, which fades as that of an autoregressive process, n observations say as
much as n (1 - ρ) / (1 + ρ) independent ones (Bayley & Hammersley 1946, doi:10.2307/2983560).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.special
import scipy.stats
import xarray as xr

from bayestwin.assess.gates import Gate, record
from bayestwin.telemetry.times import paired

MAX_CORRELATION = 0.38
"""Above it, intervals that take observations as independent are too narrow by more than 1.5: (1 + ρ) / (1 - ρ) is the
square of that factor."""

LEVEL = 0.95
"""Probability that no residuals of a right twin are found to be correlated, of all observations together."""

LEAST = 20
"""With fewer pairs, a correlation of `MAX_CORRELATION` cannot be told from chance: it is 1.7 of its standard errors."""

FEW_DRAWS = 20
"""With fewer predictive draws, ranks among them are too coarse."""

DEPENDENT = ("Autocorrelated",)
"""Noise models under which observations depend on each other."""


class Correlation(NamedTuple):
    """How residuals go on from one to the next.

    Attributes:
        name: The observation, with its experiment where one of several is meant.
        value: Correlation of successive ones.
        pairs: Number of pairs that it was found from.
        chance: What independent residuals stay below, all observations together with `LEVEL`.
    """

    name: str
    value: float
    pairs: int
    chance: float


def normal_scores(values: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Standard normal and independent if the twin is right; ranks among predictive draws know any noise.

    Args:
        values: Observed, shape (n,); NaN is missing.
        draws: Predictive draws, shape (m, n).

    Returns:
        Shape (n,), of the draws that are there; NaN where none is, or nothing was observed.
    """
    num = np.isfinite(draws).sum(axis=0)
    usable = (num > 0) & np.isfinite(values)
    found = np.full(values.shape, np.nan)
    some = draws[:, usable]
    below = (some < values[usable]).sum(axis=0) + 0.5 * (some == values[usable]).sum(axis=0)
    found[usable] = scipy.special.ndtri((below + 0.5) / (num[usable] + 1))
    return found


def autocorrelation(scores: np.ndarray, most: int) -> np.ndarray:
    """Autocorrelation at lags 1 … `most`, over pairs that are both observed; NaN with fewer than 4."""
    centred = scores - np.nanmean(scores) if np.isfinite(scores).any() else scores
    variance = np.nanmean(centred**2) if np.isfinite(centred).any() else np.nan
    found = np.full(most, np.nan)
    for lag in range(1, most + 1):
        products = centred[lag:] * centred[:-lag]
        products = products[np.isfinite(products)]
        if len(products) >= 4 and variance > 0:
            found[lag - 1] = products.mean() / variance
    return found


def successive(rows: Sequence[np.ndarray]) -> tuple[float, int]:
    """Correlation of each score with the next one that was observed, however long after, and the number of pairs.

    Args:
        rows: Scores in the order of time, NaN where missing: a row for each experiment, which share mean and variance.

    Returns:
        NaN with fewer than 4 pairs, or where all scores are the same.
    """
    observed = [row[np.isfinite(row)] for row in rows]
    together = np.concatenate([*observed, np.empty(0)])
    pairs = sum(max(row.size - 1, 0) for row in observed)
    if pairs < 4 or not np.var(together) > 0:
        return float("nan"), pairs
    mean = together.mean()
    products = sum(float(np.sum((row[1:] - mean) * (row[:-1] - mean))) for row in observed)
    return float(np.clip(products / pairs / np.var(together), -1.0, 1.0)), pairs


def worth(correlation: float, num: int) -> float:
    """Share of `num` correlated observations that would say as much if they were independent; at least one of them."""
    return float(np.clip((1 - correlation) / (1 + correlation), 1 / num, 1.0)) if correlation > 0 else 1.0


def dependent(tree: xr.DataTree) -> frozenset[str]:
    """Observations whose noise or process noise has successive residuals correlated although the twin is right."""
    description = record(tree, "description")
    told = description.get("observations", ())
    if (description.get("model_error") or {}).get("kind") == "ProcessNoise":
        return frozenset(str(one["name"]) for one in told)
    words = rf"\b(?:{'|'.join(DEPENDENT)})\("
    return frozenset(str(one["name"]) for one in told if re.search(words, str(one.get("noise", ""))))


def correlations(tree: xr.DataTree) -> list[Correlation]:
    """How residuals of a calibration go on, by observation, as far as there are enough to tell.

    Of several experiments all together, and each that has enough by itself. Left out are observations that are
    expected to depend on each other, see `dependent`, and results without what is needed.
    """
    kept = [(name, *successive(rows)) for name, rows in _rows(tree)]
    kept = [one for one in kept if np.isfinite(one[1]) and one[2] >= LEAST]
    # one side each, since only what is correlated positively is worth less; Šidák's level of all together
    far = scipy.stats.norm.ppf(LEVEL ** (1 / max(len(kept), 1)))
    return [Correlation(name, value, pairs, float(far / np.sqrt(pairs))) for name, value, pairs in kept]


def residuals_gate(tree: xr.DataTree, limit: float = MAX_CORRELATION) -> Gate | None:
    """Successive residuals are not so correlated that intervals of parameters are too narrow; None if none can tell."""
    found = sorted(correlations(tree), key=lambda one: -one.value)
    if not found:
        return None
    bad = [one for one in found if one.value > max(limit, one.chance)]
    worst = bad[0] if bad else found[0]
    if not bad:
        by_chance = " and chance makes as much of so few" if worst.value > limit else ""
        largest = f"at most {worst.value:.2f}, `{worst.name}`{by_chance}" if worst.value > 0 else "none positively"
        sentence = f"Successive residuals are hardly correlated ({largest}; limit {limit:g})."
        return Gate("residuals", True, worst.value, float(limit), sentence, "warn")
    others = ", ".join(f"`{one.name}` {one.value:.2f}" for one in bad[1:4])
    more = f" and {len(bad) - 4} more" if len(bad) > 4 else ""
    share = worth(worst.value, worst.pairs + 1)
    sentence = (
        f"Successive residuals of `{worst.name}` are correlated ({worst.value:.2f}"
        f"{'; also ' + others + more if others else ''}): observations are worth about 1 in {_tidy(1 / share)}, so"
        f" intervals of parameters are too narrow by up to a factor of {_tidy(share**-0.5)} and not to be believed."
        f" Look for a gap in the inputs, a missing input or state, or give the twin {_remedy(tree)}."
    )
    return Gate("residuals", False, worst.value, float(limit), sentence, "warn")


def width_words(gates: Iterable[Gate]) -> str:
    """What is to be said beside intervals of parameters, by the gates on the result; empty where they are believed."""
    for gate in gates:
        if gate.name == "residuals" and not gate.passed and 0.0 < gate.value < 1.0:
            factor = _tidy(((1.0 + gate.value) / (1.0 - gate.value)) ** 0.5)
            return (
                "Successive residuals are correlated: take these intervals and standard deviations to be too narrow, by"
                f" up to a factor of {factor}."
            )
    return ""


NOISELESS, FEWEST = 10.0, 2
"""Residuals within so many relative tolerances of the solver have no noise in them, where there are at least so many
observations for each quantity that is inferred: fewer could be met exactly whatever their noise."""


def noise_gate(tree: xr.DataTree) -> Gate | None:
    """The record has noise, as its noise model says; None where that is so, or cannot be told."""
    tolerance = re.search(r"rtol ([\d.e+-]+)", str(tree.attrs.get("solver", "")))
    needed = {"posterior", "posterior_predictive", "prior", "observed_data"}
    if tolerance is None or not needed <= set(tree.children) or record(tree, "description").get("model_error"):
        return None
    rtol = float(tolerance[1])
    observed, posterior, prior = (tree[group].to_dataset() for group in ("observed_data", "posterior", "prior"))
    num = sum(int(np.isfinite(values.to_numpy().astype(float)).sum()) for values in observed.data_vars.values())
    inferred = sum(values.sizes["chain"] and values[0, 0].size for values in posterior.data_vars.values())
    if num < FEWEST * inferred:
        return None
    for name in map(str, observed.data_vars):
        share = _share_left(tree, name)
        scale = next((s for s in (f"{name}_scale", f"{name}_scale_factor") if s in posterior), "")
        if not scale or not share <= NOISELESS * rtol:
            continue
        least = float(posterior[scale].min())
        below = float((prior[scale] < least).mean())
        if below > 0.01:
            continue
        sentence = (
            f"`{name}` has no noise: what is left of it is {share:.1g} of its values, as little as the solver's own"
            f" error (`rtol` {rtol:g}), and `{scale}` sinks to {least:.2g}, below all that its prior holds plausible."
            " Where noise vanishes a posterior has no width that could be followed, and whatever other gates say comes"
            " from that. If the record was simulated, add noise as `bt.simulate` does; if readings are that exact, say"
            " how exact by a known `scale`, and solve more precisely (`bt.Solver(rtol=…)`)."
        )
        return Gate("noise", False, share, NOISELESS * rtol, sentence)
    return None


def _share_left(tree: xr.DataTree, name: str) -> float:
    """The smallest residuals of any draw, as a share of what was observed (root mean squares); NaN if unknown."""
    predicted, values = tree["posterior_predictive"].to_dataset(), tree["observed_data"][name]
    free = predicted.get(f"{name}_noise_free")
    if free is None or free.sizes.get("time") != values.sizes.get("time"):
        return float("nan")
    seen = values.to_numpy().astype(float)
    there = np.isfinite(seen)
    draws = free.transpose("chain", "draw", *values.dims).to_numpy().reshape(-1, *seen.shape)[:, there]
    left = np.sqrt(np.mean((draws - seen[there]) ** 2, axis=1))
    size = float(np.sqrt(np.mean(seen[there] ** 2))) if there.any() else 0.0
    return float(np.nanmin(left)) / size if size > 0 and np.isfinite(left).any() else float("nan")


def _remedy(tree: xr.DataTree) -> str:
    if record(tree, "description").get("model_error"):
        return "a model error that varies faster (its length is too long)"
    return "a model error (`bt.Discrepancy`, `bt.ProcessNoise`) or `bt.Autocorrelated` noise"


def _tidy(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0") if value < 10 else f"{value:,.0f}"


def _rows(tree: xr.DataTree) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Scores in the order of time, by what they are of."""
    if not {"posterior_predictive", "observed_data"} <= set(tree.children):
        return
    predicted, observed = tree["posterior_predictive"].to_dataset(), tree["observed_data"].to_dataset()
    left_out, forgotten = dependent(tree), tree.attrs.get("forget")
    if forgotten is not None:  # an asset that drifts was another one then
        observed = observed.isel(time=slice(forgotten["faded"], None))
    for name in map(str, observed.data_vars):
        if name in left_out or name not in predicted or not {"chain", "draw", "time"} <= set(predicted[name].dims):
            continue
        if "experiment" not in observed[name].dims:
            yield name, [_scores(predicted, observed[name], name)]
            continue
        labels = [str(label) for label in observed["experiment"].to_numpy()]
        rows = [
            _scores(predicted.isel(experiment=i), observed[name].isel(experiment=i), name) for i in range(len(labels))
        ]
        yield name, rows
        if len(labels) > 1:
            yield from ((f"{name}, {label}", [row]) for label, row in zip(labels, rows, strict=True))


def _scores(predicted: xr.Dataset, observed: xr.DataArray, name: str) -> np.ndarray:
    places = paired(pd.Index(observed["time"].to_numpy()), pd.Index(predicted["time"].to_numpy()))
    values = observed.to_numpy().astype(float)[places >= 0]
    own = predicted.isel(time=places[places >= 0])
    draws = _flat(own[name])
    if len(draws) >= FEW_DRAWS:
        return normal_scores(values, draws)
    if f"{name}_noise_free" not in own:
        return np.full(values.shape, np.nan)
    # of a point there is one draw, and residuals are ranked among themselves
    off = values - np.median(_flat(own[f"{name}_noise_free"]), axis=0)
    ranks = scipy.stats.rankdata(off, nan_policy="omit")
    return scipy.special.ndtri(ranks / (np.isfinite(off).sum() + 1))


def _flat(draws: xr.DataArray) -> np.ndarray:
    """Draws of all chains, shape (m, time)."""
    table = draws.transpose("chain", "draw", "time").to_numpy()
    return table.reshape(-1, table.shape[-1])
