"""The free quantities of a posterior, one by one: draws, unit, words, and numbers of the parameter table."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import xarray as xr
from arviz_stats.sampling_diagnostics import ess, rhat

from bayestwin._base.wording import Scale, scale_for
from bayestwin.assess.chains import read_chains
from bayestwin.assess.recorded import record
from bayestwin.report.reading import group

PROB = 0.9
"""Nominal probability of a quantity's interval; it is equal-tailed."""


class Quantity(NamedTuple):
    """One scalar that was calibrated.

    Attributes:
        name: As in the posterior; element `i` of an array `theta` is `theta[i]`.
        doc: What it is, in words; may be empty.
        scale: Factor and unit in which it is written.
        draws: (chain, draw), times the scale's factor.
        prior: Draws of the prior, shape (n,), times the same factor; empty where there are none.
        mean: Of the draws.
        sd: Of the draws.
        lower: Lower end of the equal-tailed interval of probability `PROB`.
        upper: Its upper end.
        rhat: Rank-normalised split R̂; NaN for a single chain.
        ess_bulk: Effective sample size in the middle.
        ess_tail: Effective sample size of the 5 % and 95 % quantiles.
        contraction: 1 − width of the interval / width of the prior's; NaN without prior draws.
    """

    name: str
    doc: str
    scale: Scale
    draws: np.ndarray
    prior: np.ndarray
    mean: float
    sd: float
    lower: float
    upper: float
    rhat: float
    ess_bulk: float
    ess_tail: float
    contraction: float

    @property
    def label(self) -> str:
        """Name with unit, for an axis."""
        return f"{self.name} ({self.scale.unit})" if self.scale.unit else self.name

    @property
    def stacked(self) -> str:
        """Name over unit, for a narrow axis."""
        return f"{self.name}\n({self.scale.unit})" if self.scale.unit else self.name

    @property
    def drawable(self) -> bool:
        """Whether a density of it can be drawn: all draws finite, and not all the same."""
        return bool(np.isfinite(self.draws).all() and np.ptp(self.draws) > 0)


def read_quantities(posterior: xr.DataTree) -> tuple[Quantity, ...]:
    """All quantities of a posterior, in its order."""
    variables = group(posterior, "posterior").data_vars
    priors = read_chains(posterior, "prior").draws if group(posterior, "prior").data_vars else {}
    docs = {entry["name"]: entry.get("doc", "") for entry in record(posterior, "description").get("parameters", ())}
    found = []
    for name, draws in read_chains(posterior, "posterior").draws.items():
        attrs = variables[name.split("[")[0]].attrs
        prior = priors[name].ravel() if name in priors else np.empty(0)
        doc = docs.get(name) or str(attrs.get("long_name", ""))
        found.append(_quantity(name, "" if doc == name else doc, str(attrs.get("units", "")), draws, prior))
    return tuple(found)


def widest_rhat_first(quantities: tuple[Quantity, ...], most: int) -> tuple[Quantity, ...]:
    """Those `most` quantities whose chains agree least, in their own order."""
    worst = sorted(quantities, key=lambda quantity: -np.nan_to_num(quantity.rhat, nan=np.inf))[:most]
    return tuple(quantity for quantity in quantities if quantity in worst)


def _quantity(name: str, doc: str, unit: str, draws: np.ndarray, prior: np.ndarray) -> Quantity:
    finite = draws[np.isfinite(draws)]
    scale = scale_for(float(np.median(np.abs(finite))) if finite.size else 0.0, unit)
    draws = draws * scale.factor
    prior = prior[np.isfinite(prior)] * scale.factor
    lower, upper = _ends(draws)
    narrow = np.diff(_ends(prior))[0] if prior.size else np.nan
    with np.errstate(all="ignore"):
        return Quantity(
            name=name,
            doc=doc,
            scale=scale,
            draws=draws,
            prior=prior,
            mean=float(draws.mean()),
            sd=float(draws.std(ddof=1)) if draws.size > 1 else float("nan"),
            lower=lower,
            upper=upper,
            rhat=_statistic(draws, rhat),
            ess_bulk=_statistic(draws, ess),
            ess_tail=_statistic(draws, lambda values: ess(values, method="tail", prob=(0.05, 0.95))),
            contraction=float(1 - (upper - lower) / narrow) if narrow > 0 else float("nan"),
        )


def _ends(values: np.ndarray) -> tuple[float, float]:
    lower, upper = np.quantile(values, ((1 - PROB) / 2, (1 + PROB) / 2))
    return float(lower), float(upper)


def _statistic(draws: np.ndarray, statistic: Callable[[np.ndarray], float]) -> float:
    """A statistic of draws (chain, draw); NaN where draws are not finite, too few or all the same."""
    usable = np.isfinite(draws).all() and draws.shape[1] >= 4 and np.ptp(draws) > 0
    return float(statistic(draws)) if usable else float("nan")
