"""Predictive intervals from draws: equal-tailed or of highest density, always with their `prob` and kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import xarray as xr
from arviz_stats.visualization import hdi

from bayestwin import errors
from bayestwin.assess import draws
from bayestwin.assess.correction import corrected
from bayestwin.assess.origins import by_origin

Kind = Literal["eti", "hdi"]

KINDS = {"eti": "equal-tailed interval", "hdi": "highest-density interval"}
TARGETS = {
    "observation": "a new observation (parameter and observation uncertainty)",
    "noise_free": "the noise-free value (parameter uncertainty only)",
}


def intervals(
    tree: xr.DataTree,
    prob: float | Sequence[float] = (0.5, 0.8, 0.9, 0.95),
    *,
    kind: Kind = "eti",
    of: Literal["observation", "noise_free"] = "observation",
    conformal: xr.DataTree | None = None,
) -> xr.Dataset:
    """Median and intervals of every observation at every time.

    Where any draw is not finite (its solve failed, say) the median and the ends are NaN: to leave such draws
    out would show an interval narrower than what is known.

    Args:
        tree: A forecast (group `predictions`) or a posterior (group `posterior_predictive`).
        prob: Nominal probability of each interval, between 0 and 1.
        kind: `"eti"` leaves (1 - prob) / 2 of the draws outside at each end; `"hdi"` is the narrowest
            interval that holds `prob` of the draws. One interval each, also where draws have several modes.
        of: `"observation"` for a new noisy observation, `"noise_free"` for the observed value without noise.
        conformal: What `conformalize` returned: the ends get the dimension `kind`, `"raw"` for what the posterior
            predictive says and `"conformal"` for what it says corrected by the errors of that backtest.

    Returns:
        `median` (observation, time), `lower` and `upper` (observation, prob, time), in the unit that the
        coordinate `units` (observation) names; attributes say kind, what they are intervals of, and group. Several
        experiments are a first dimension, NaN where one has no such time. Those of a backtest have `origin` and
        `horizon` instead of `time`.

    Raises:
        InvalidSetting: `prob`, `kind` or `of` is not one of those above, or not what was conformalized.
        InvalidInput: The tree holds no predictive draws.
    """
    levels = checked_prob(prob)
    check_choice("kind", kind, KINDS)
    check_choice("of", of, TARGETS)
    names = draws.experiments(tree)
    if names:
        parts = [intervals(tree.sel(experiment=name), prob, kind=kind, of=of, conformal=conformal) for name in names]
        return draws.side_by_side(parts, names)
    found = along_points(tree, levels, kind, of)
    if conformal is not None:
        check_choice("kind", kind, {"eti": "conformal intervals have two tails"})
        check_choice("of", of, {"observation": "conformal intervals are those of observations"})
        found = corrected(tree, found, conformal)
    return by_origin(found)


def along_points(tree: xr.DataTree, levels: np.ndarray, kind: Kind, of: str = "observation") -> xr.Dataset:
    """As `intervals`, of one experiment, with all settings checked; those of a backtest along one row of points."""
    group, dataset = draws.predictive(tree)
    names = draws.observations(dataset)
    suffix = draws.NOISE_FREE if of == "noise_free" else ""
    ends = _equal_tailed if kind == "eti" else _highest_density
    found = [ends(draws.samples(dataset, name + suffix), levels) for name in names]
    median, lower, upper = (np.stack(part) for part in zip(*found, strict=True))
    words = f"the {KINDS[kind]} of {TARGETS[of]}"
    return xr.Dataset(
        {
            "median": (("observation", "time"), median, {"long_name": f"median of {TARGETS[of]}"}),
            "lower": (("observation", "prob", "time"), lower, {"long_name": f"lower end of {words}"}),
            "upper": (("observation", "prob", "time"), upper, {"long_name": f"upper end of {words}"}),
        },
        coords={
            "observation": list(names),
            "prob": ("prob", levels, {"long_name": "nominal probability of the interval"}),
            **dataset["time"].coords,
            "units": draws.units(dataset, names),
        },
        attrs={"kind": KINDS[kind], "of": of, "group": group},
    )


def checked_prob(prob: float | Sequence[float]) -> np.ndarray:
    """Nominal probabilities as an array, shape (prob,), in the given order.

    Raises:
        InvalidSetting: Not between 0 and 1, given twice, or none at all.
    """
    levels = np.atleast_1d(np.asarray(prob, dtype=float))
    inside = (levels > 0) & (levels < 1)
    if levels.ndim != 1 or levels.size == 0 or not inside.all() or np.unique(levels).size != levels.size:
        raise errors.InvalidSetting(
            errors.explain(
                "`prob` does not say which intervals are wanted.",
                expected="different numbers between 0 and 1, such as `prob=(0.5, 0.9)`",
                received=f"{prob}",
                advice="Write 90 % as 0.9.",
            )
        )
    return levels


def check_choice(setting: str, value: str, choices: dict[str, str]) -> None:
    """Raise where a setting is none of its choices.

    Raises:
        InvalidSetting: `value` is not in `choices` (value → meaning).
    """
    if value not in choices:
        raise errors.InvalidSetting(
            errors.explain(
                f"`{setting}` has no meaning here.",
                expected="; ".join(f'"{choice}": {meaning}' for choice, meaning in choices.items()),
                received=f"{value!r}",
                advice=f"Pass one of these as `{setting}=`.",
            )
        )


def _equal_tailed(table: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Median (time,), lower and upper ends (prob, time) of draws (time, samples)."""
    wanted = np.concatenate([[0.5], (1 - levels) / 2, (1 + levels) / 2])
    found = np.quantile(table, wanted, axis=-1, overwrite_input=True)
    return found[0], found[1 : 1 + levels.size], found[1 + levels.size :]


def _highest_density(table: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Median (time,), lower and upper ends (prob, time) of draws (time, samples)."""
    ends = np.full((levels.size, len(table), 2), np.nan)
    # Among sorted draws that end in NaN the narrowest interval is found at a NaN width: whole rows only.
    whole = ~np.isnan(table).any(axis=-1)
    if whole.any():
        for place, level in enumerate(levels):
            ends[place, whole] = hdi(table[whole], prob=level, dim=-1)
    return np.median(table, axis=-1), ends[..., 0], ends[..., 1]
