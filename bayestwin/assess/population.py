"""A fleet as a whole: what all assets show together, what their population is, and who lies far from it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import scipy.special
import xarray as xr
from arviz_stats.sampling_diagnostics import ess, rhat

from bayestwin.assess import draws
from bayestwin.assess.coverage import WORTH, kept, with_bands, worth_in
from bayestwin.assess.gates import Gate
from bayestwin.assess.intervals import KINDS, checked_prob
from bayestwin.calibrate import check_belongs
from bayestwin.errors import InvalidInput
from bayestwin.model.pooling import Pooled
from bayestwin.model.twin import Site, Twin

# Coverage and scores of all assets together, from those of each.


def of_all(covered: xr.Dataset) -> xr.Dataset:
    """Coverage over all experiments, from that of each, as `coverage` returns it of several.

    What is known of all is taken for given, so that their errors are independent: what observations are worth adds up.
    """
    num = covered["num"]
    some = num > 0
    total = num.sum("experiment")
    counts = xr.Dataset(
        {
            "num": total,
            "num_inside": covered["num_inside"].sum("experiment"),
            WORTH: worth_in(covered).where(some, 0.0).sum("experiment").where(total > 0),
            "freedom": covered["freedom"].where(some, 0).sum("experiment").where(total > 0, 1).astype(int),
            "expected": (covered["expected"].where(some, 0.0) * num).sum("experiment") / total.where(total > 0, 1),
        },
        attrs=covered.attrs,
    )
    if draws.FAILED in covered:
        counts[draws.FAILED] = covered[draws.FAILED].mean("experiment")
    return with_bands(counts, covered.attrs["level"])


def scores_of_all(scored: xr.Dataset) -> xr.Dataset:
    """Scores over all experiments, from those of each, as `scores` returns them of several; each observation counts."""
    num = scored["num"]
    found = {"num": num.sum("experiment")}
    for name, values in scored.data_vars.items():
        if name != "num" and not str(name).endswith("skill"):
            power = 2 if str(name).endswith("rmse") else 1
            weight = num.where(values.notnull(), 0)
            mean = (values.fillna(0.0) ** power * weight).sum("experiment") / weight.sum("experiment")
            found[str(name)] = mean ** (1 / power)
    for name in scored.data_vars:
        if str(name).endswith("skill"):
            baseline = str(name).removesuffix("skill") or "persistence_"
            found[str(name)] = 1 - found["rmse"] / found[f"{baseline}rmse"]
    whole = xr.Dataset(found, attrs=scored.attrs)
    return whole.assign({name: values.assign_attrs(scored[name].attrs) for name, values in whole.data_vars.items()})


# Populations of pooled quantities, and what each asset's own data say.


class Member(NamedTuple):
    """One asset's value of a pooled quantity, in its unit.

    Attributes:
        name: Of the asset.
        mean: Of the posterior, like the next three.
        sd: Standard deviation.
        lower: Where its 90 % equal-tailed interval begins.
        upper: Where that ends.
        alone: What its own data say without the population, the median; NaN where they say next to nothing.
        alone_lower: Where the 90 % interval of that begins.
        alone_upper: Where it ends.
        surprise: Probability that the population of the others gives a value at least as far out; NaN as above.
        outlier: Whether it is so small that of all that were looked at none would be in 95 % of fleets.
    """

    name: str
    mean: float
    sd: float
    lower: float
    upper: float
    alone: float
    alone_lower: float
    alone_upper: float
    surprise: float
    outlier: bool = False


class PopulationFound(NamedTuple):
    """The population of a pooled quantity.

    Attributes:
        name: Of the quantity.
        unit: Its unit.
        typical: Mean and ends of the 90 % interval of the middle of the population.
        spread: Likewise of the standard deviation between assets, where values are not bounded.
        variation: Likewise of the coefficient of variation; None where values lie between two ends.
        shrinkage: How far assets are drawn to the population: see `shrinkage_of`.
        members: The assets.
    """

    name: str
    unit: str
    typical: tuple[float, float, float]
    spread: tuple[float, float, float]
    variation: tuple[float, float, float] | None
    shrinkage: float
    members: tuple[Member, ...]


TAILS = (0.05, 0.95)
QUANTILES = scipy.special.ndtri((TAILS[0], 0.5, TAILS[1]))
FALSE_ALARM = 0.05
"""Probability that in a fleet without outliers any asset is called one, over all that is looked at."""

TINY = 1e-4
"""Probabilities below that are not told: the normal that they rest on is not known so far out."""

LEAST_TOLD = 0.1
"""Where own data say less than that share of what is known of an asset, nothing is said of them alone."""

TRIED = np.geomspace(1e-3, 1e2, 241)
"""Spreads at which the population of the others is looked at, as multiples of the median of the posterior."""


def populations(twin: Twin, posterior: xr.DataTree) -> tuple[PopulationFound, ...]:
    """The population of each pooled quantity, with its assets.

    What an asset's own data say is not drawn: it is the normal likelihood, on the scale on which values are not
    bounded, that makes of the population what the posterior of the asset is, in mean and variance. How far out that is
    is asked of the population of the others, which it would widen.

    Args:
        twin: The twin that was calibrated.
        posterior: What `calibrate` returned, of several experiments.
    """
    group = posterior["posterior"].to_dataset()
    sites = [site for site in twin.sites() if site.pooled and group[site.name].ndim == 3]
    found = [_population(twin, group, site) for site in sites]
    known = [one.surprise for population in found for one in population.members if np.isfinite(one.surprise)]
    limit = -np.expm1(np.log1p(-FALSE_ALARM) / max(len(known), 1))
    return tuple(
        one._replace(members=tuple(each._replace(outlier=bool(each.surprise < limit)) for each in one.members))
        for one in found
    )


def _population(twin: Twin, group: xr.Dataset, site: Site) -> PopulationFound:
    pooled: Pooled = site.prior
    own, typical, spread = _drawn(twin, group, site)
    unbounded, middle = (np.asarray(pooled.transform.inv(one), float) for one in (own, typical))
    centres, variances = np.array([_alone(one, middle, spread) for one in unbounded]).T
    tried = np.median(spread) * TRIED
    likely = _log_prior(twin.parameters[pooled.spread].prior, tried)
    members = []
    for place, name in enumerate(group["experiment"].to_numpy()):
        told = bool(np.isfinite(variances[place]))
        ends = centres[place] + np.sqrt(variances[place]) * QUANTILES if told else np.full(3, np.nan)
        low, median, high = np.asarray(pooled.transform(ends), float)
        others = np.isfinite(variances) & (np.arange(len(own)) != place)
        far = np.nan
        if told and others.any():
            far = surprise(centres[place], variances[place], centres[others], variances[others], tried, likely)
        drawn = own[place]
        figures = (drawn.mean(), drawn.std(), *np.quantile(drawn, TAILS), median, low, high, far)
        members.append(Member(str(name), *map(float, figures), outlier=False))
    return PopulationFound(
        site.name,
        site.unit,
        _summary(typical),
        _summary(spread),
        _variation(pooled, typical, spread),
        shrinkage_of(unbounded - middle, spread),
        tuple(members),
    )


def shrinkage_of(apart: np.ndarray, spread: np.ndarray) -> float:
    """How far assets are drawn to their population: `1 - sd_e(mean η_e) / mean spread`.

    0 where the data of each asset decide its value, 1 where the population does; by chance a little below 0.

    Args:
        apart: η, how far each asset lies from what is typical, where values are not bounded; shape (E, n), n draws.
        spread: Draws of the standard deviation between assets.

    R. M. Savic & M. O. Karlsson (2009), doi:10.1208/s12248-009-9133-0.
    """
    return float(1.0 - apart.mean(axis=1).std(ddof=1) / spread.mean())


def _log_prior(prior: Any, tried: np.ndarray) -> np.ndarray:
    """Log density of the logarithm of a spread; a known one has all its weight at the nearest that is tried."""
    if isinstance(prior, dist.Distribution):
        support: Any = prior.support
        return np.where(support(tried), np.asarray(prior.log_prob(tried)), -np.inf) + np.log(tried)
    if isinstance(prior, int | float):
        return np.where(np.arange(len(tried)) == np.argmin(np.abs(np.log(tried / prior))), 0.0, -np.inf)
    return np.log(tried)


def surprise(
    own: float, variance: float, others: np.ndarray, variances: np.ndarray, tried: np.ndarray, prior: np.ndarray
) -> float:
    """Probability that the population of others gives a value at least as far out, on the side on which it lies, twice.

    The predictive distribution of what the data of one more asset say: an integral over the spread, for each of which
    all is normal, the middle of the population included (of which nothing is assumed).

    Args:
        own: What the data of the asset say.
        variance: Of that.
        others: What those of the others say, shape (m,).
        variances: Of these, shape (m,).
        tried: Spreads, shape (n,).
        prior: Log density of their logarithms, shape (n,).

    Returns:
        Uniform between 0 and 1 if all assets come from one population.
    """
    total = tried[:, None] ** 2 + variances
    known = (1.0 / total).sum(axis=1)
    middle = (others / total).sum(axis=1) / known
    terms = np.log(total) + (others - middle[:, None]) ** 2 / total
    height = prior - 0.5 * (terms.sum(axis=1) + np.log(known))
    weight = np.exp(height - height.max())
    z = (own - middle) / np.sqrt(1.0 / known + tried**2 + variance)
    below, above = (np.sum(weight * scipy.special.ndtr(sign * z)) / weight.sum() for sign in (1.0, -1.0))
    return float(2.0 * min(below, above))


def _summary(drawn: np.ndarray) -> tuple[float, float, float]:
    lower, upper = np.quantile(drawn, TAILS)
    return float(drawn.mean()), float(lower), float(upper)


def _variation(pooled: Pooled, typical: np.ndarray, spread: np.ndarray) -> tuple[float, float, float] | None:
    """Standard deviation between assets over their mean."""
    if pooled.positive:
        return _summary(_log_normal_variation(spread))
    return _summary(spread / np.abs(typical)) if pooled.unbounded and (np.abs(typical) > 0).all() else None


def _log_normal_variation(spread: np.ndarray) -> np.ndarray:
    """That of values whose logarithms have these standard deviations, as large as a number can be."""
    return np.sqrt(np.expm1(np.minimum(spread**2, 700.0)))


def _drawn(twin: Twin, group: xr.Dataset, site: Site) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws of each asset's value, shape (E, n), of what is typical and of the spread, shape (n,)."""
    values = group[site.name].transpose("experiment", "chain", "draw")
    own = values.to_numpy().reshape(values.sizes["experiment"], -1)
    return own, group[site.prior.typical].to_numpy().ravel(), _spread(twin, group, site.prior)


def _spread(twin: Twin, group: xr.Dataset, pooled: Pooled) -> np.ndarray:
    """Draws of the spread; of one that is known as many of this number."""
    if pooled.spread in group:
        return group[pooled.spread].to_numpy().ravel()
    return np.full(group[pooled.typical].size, float(twin.parameters[pooled.spread].prior))  # type: ignore[arg-type]


def _alone(drawn: np.ndarray, middle: np.ndarray, spread: np.ndarray) -> tuple[float, float]:
    """Mean and variance of the normal likelihood that makes of a population what was drawn of one asset.

    With it, an asset is `Normal(B own + (1 - B) middle, B variance)`, B = spread² / (spread² + variance), in each draw
    of the population: over all draws that has the mean and the variance of `drawn`.

    Args:
        drawn: Draws of the asset, where values are not bounded, shape (n,).
        middle: Of the population, likewise.
        spread: Likewise.

    Returns:
        Variance infinite where next to nothing is told: see `LEAST_TOLD`.
    """
    mean, wanted = drawn.mean(), drawn.var()

    def of(variance: float) -> tuple[float, float]:
        share = spread**2 / (spread**2 + variance)
        own = (mean - np.mean((1.0 - share) * middle)) / np.mean(share)
        centres = share * own + (1.0 - share) * middle
        return own, float(np.mean(share * variance) + np.var(centres))

    low, high = np.log(wanted) - 20.0, np.log(np.mean(spread**2)) + np.log(1.0 / LEAST_TOLD)
    if not (wanted > 0 and of(np.exp(high))[1] > wanted):
        return np.nan, np.inf
    for _ in range(60):
        at = (low + high) / 2.0
        low, high = (at, high) if of(np.exp(at))[1] < wanted else (low, at)
    return of(np.exp(high))[0], float(np.exp(high))


def population(twin: Twin, posterior: xr.DataTree, prob: float = 0.9) -> xr.Dataset:
    """What a posterior says of each population: what is typical, how far assets lie apart, how far they are held.

    Args:
        twin: The twin that was calibrated.
        posterior: As `calibrate` returned it for several experiments.
        prob: Nominal probability of the equal-tailed intervals.

    Returns:
        By `quantity` that is pooled, with the coordinate `units`: medians `typical`, `spread` and `cv`, each with
        `_lower` and `_upper`; `cv` is the coefficient of variation between assets, `√(exp(spread²) - 1)`, of what is
        positive, else NaN; `rse`, the relative standard error of `typical`, sd / mean; and `shrinkage`. All but
        `typical` and `spread` are shares of 1.

    Raises:
        InvalidArtifact: If the posterior belongs to another twin.
        InvalidInput: If nothing is pooled.
    """
    check_belongs(twin, posterior)
    (level,) = checked_prob(prob)
    pooled = [site for site in twin.sites() if site.pooled]
    if not pooled:
        raise InvalidInput(
            f"Twin `{twin.name}` has no population.",
            expected="parameters or initial values with `pooled=`",
            received=", ".join(f"`{site.name}`" for site in twin.sites()),
            advice="For example `bt.Parameter(dist.LogNormal(0.0, 1.0), pooled=dist.HalfNormal(0.4))`.",
        )
    group = posterior["posterior"].to_dataset()
    rows = [_table_row(twin, group, site, float(level)) for site in pooled]
    found = xr.concat(rows, pd.Index([site.name for site in pooled], name="quantity"))
    return found.assign_coords(units=("quantity", [site.unit for site in pooled])).assign_attrs(
        {"prob": float(level), "interval": KINDS["eti"]}
    )


def _table_row(twin: Twin, group: xr.Dataset, site: Site, prob: float) -> xr.Dataset:
    """What the posterior says of one population."""
    pooled: Pooled = site.prior
    own, typical, spread = _drawn(twin, group, site)
    unbounded, middle = (np.asarray(pooled.transform.inv(one), float) for one in (own, typical))
    cv = _log_normal_variation(spread) if pooled.positive else spread * np.nan
    found = {}
    for key, values in {"typical": typical, "spread": spread, "cv": cv}.items():
        found[key], found[f"{key}_lower"], found[f"{key}_upper"] = np.quantile(
            values, (0.5, (1 - prob) / 2, (1 + prob) / 2)
        )
    found["rse"] = float(typical.std(ddof=1) / abs(typical.mean()))
    found["shrinkage"] = shrinkage_of(unbounded - middle, spread)
    return xr.Dataset(found)


# The verdict on each asset: whether its chains agree, its intervals hold, and it is like the others.


class AssetVerdict(NamedTuple):
    """One asset of a fleet.

    Attributes:
        name: Of the asset.
        status: `"pass"`, `"warn"` or `"fail"`: failed are those whose own chains do not agree.
        reasons: What was found that did not pass, a sentence each.
    """

    name: str
    status: str
    reasons: tuple[str, ...]


def verdicts(
    posterior: xr.DataTree,
    found: Sequence[PopulationFound],
    covered: xr.Dataset | None,
    gates: Sequence[Gate],
    prob: float = 0.9,
) -> tuple[AssetVerdict, ...]:
    """The verdict on each asset.

    Args:
        posterior: What `calibrate` returned, of several experiments.
        found: Their populations.
        covered: As `coverage` returns it of what was held out of each; None where nothing was.
        gates: Of all, whose limits hold for each.
        prob: Of which interval coverage counts.
    """
    group = posterior["posterior"].to_dataset()
    limits = {gate.name: gate.limit for gate in gates}
    own = [values for values in group.data_vars.values() if "experiment" in values.dims]
    told = []
    for name in map(str, group["experiment"].to_numpy()):
        bad = [words for values in own for words in _disagreeing(values.sel(experiment=name), limits)]
        doubts = [] if covered is None else _missed(covered, name, prob)
        doubts += [
            f"`{one.name}` is far from the population of the others: as far out by chance with a probability of "
            f"{f'{member.surprise:.2g}' if member.surprise >= TINY else f'less than {TINY:g}'}."
            for one in found
            for member in one.members
            if member.name == name and member.outlier
        ]
        told.append(AssetVerdict(name, "fail" if bad else "warn" if doubts else "pass", (*bad, *doubts)))
    return tuple(told)


def _disagreeing(values: xr.DataArray, limits: Mapping[str, float]) -> list[str]:
    """What gates on R̂ and ESS say of one asset's own quantity."""
    drawn = values.transpose("chain", "draw", ...).to_numpy()
    drawn = drawn.reshape(*drawn.shape[:2], -1)
    words = []
    for part in range(drawn.shape[2]):
        one = drawn[..., part]
        if "rhat" in limits and not float(rhat(one)) <= limits["rhat"]:
            words.append(f"Chains do not agree on `{values.name}` (R̂ {float(rhat(one)):.3f}).")
        elif "ess_bulk" in limits and not float(ess(one)) >= limits["ess_bulk"]:
            words.append(f"Few independent draws of `{values.name}` (bulk ESS {float(ess(one)):.0f}).")
    return words[:1]


def _missed(covered: xr.Dataset, name: str, prob: float) -> list[str]:
    """Intervals of one asset that leave the band in which those of all lie together."""
    if name not in covered["experiment"]:
        return []
    words = []
    for observation in covered["observation"].to_numpy():
        own = covered.sel(experiment=name, observation=observation, prob=prob)
        if kept(own) is False:
            ends = f"{100 * float(own['joint_lower']):.0f} to {100 * float(own['joint_upper']):.0f} %"
            words.append(
                f"{100 * float(own['coverage']):.0f} % of {int(own['num'])} held-out values of `{observation}` lie "
                f"inside the {100 * prob:g} % interval, where {ends} would do."
            )
    return words
