"""What drives a posterior: observations, each left out in turn by weights; and prior and likelihood, made stronger."""

from types import EllipsisType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from arviz_stats.base.array import array_stats
from arviz_stats.psense import psense
from arviz_stats.sampling_diagnostics import ess
from scipy.special import logsumexp

from bayestwin._base.progress import Phase, Progress
from bayestwin.assess.gates import Chains, read_chains, record
from bayestwin.calibrate import check_belongs, with_model_error
from bayestwin.density.priors import Priors
from bayestwin.density.shared_prior import read_shared_prior
from bayestwin.errors import InvalidArtifact
from bayestwin.model.error import ModelError
from bayestwin.model.twin import Twin

MAX_PARETO_K = 0.5
"""Beyond it weights have no variance. ArviZ's limit for densities is 0.7. Parameters are not bounded, and below that
their means can be told far too little moved: 0.8 standard deviations at a k of 0.64, where a calibration without the
observation gave 2.1."""

NOT_A_FORECAST = (
    "Leaving out one observation of a time series says what that one adds between its neighbours, which stay known. It"
    " says nothing of how well the twin forecasts: `bt.backtest` does."
)

IN_ORDER = (
    "These observations are tied together in time (autocorrelated noise or process noise): their log likelihoods are"
    " those of each given the ones before it. What is left out here is what an observation adds to those before it, not"
    " the observation itself, which also stands behind the ones after it."
)


class _Standard(NamedTuple):
    """Draws of all quantities with mean 0 and standard deviation 1; shape (S, P). `r_eff`: ESS over S."""

    names: tuple[str, ...]
    draws: np.ndarray
    r_eff: float


def influence(posterior: xr.DataTree, *, progress: Progress | None = None) -> xr.Dataset:
    """Say what each observation does to each parameter: how far its mean moves when that observation is left out.

    Draws are weighted by `1 / p(yᵢ | θ)`, smoothed (PSIS, doi:10.48550/arXiv.1507.02646), in place of a calibration
    without observation i. Where the Pareto k is above 0.5 that does not do, and the effect may be far larger than it
    says: calibrate without such an observation. Of a time series this is no forecast: the neighbours of what is left
    out are still known, see the attributes.

    Args:
        posterior: As `calibrate` returned it: groups `posterior`, `log_likelihood`, `observed_data`.
        progress: Where progress is shown; by default on a terminal only.

    Returns:
        One row a `point`, the one with the largest effect first and before it those of which it cannot be told; its
        coordinates say `observation`, `time` in the user's terms and, of several, `experiment`. `value` is what was
        observed, `elpd` its log predictive density by the others, `pareto_k` and `reliable` whether the weights will
        do; `mean_shift` (point, quantity) the mean without it minus that with it, in posterior standard deviations,
        `mean_shift_mcse` its Monte Carlo error, `sd_ratio` the standard deviation without it over that with it,
        `largest` the largest shift of any quantity and `most_moved` which one that is.

    Raises:
        InvalidArtifact: If the posterior has no log likelihoods, or too few draws.
        InvalidInput: If it has no draws at all.
    """
    terms = likelihoods_of(posterior)
    posterior = _at_draws_of(terms, posterior)
    chains = read_chains(posterior, "posterior")
    standard = _standardised(chains)
    num = sum(term.size for term in terms.values()) // len(standard.draws)
    with progress or Progress() as shown, shown.phase("influence", "leaving observations out", num) as phase:
        parts = [_of_signal(posterior, str(name), term, standard, phase) for name, term in terms.items()]
    dataset = xr.concat(parts, "point", coords="minimal", compat="override", join="override")
    shift = np.abs(dataset["mean_shift"].to_numpy())
    dataset["largest"] = ("point", shift.max(axis=1), {"long_name": "largest shift of a mean, in posterior sds"})
    known = np.where(np.isfinite(shift), shift, np.inf)
    dataset["most_moved"] = ("point", np.asarray(standard.names)[known.argmax(axis=1)])
    # few draws cannot tell even this
    limit = min(1.0 - 1.0 / np.log10(len(standard.draws)), MAX_PARETO_K)
    dataset["reliable"] = ("point", dataset["pareto_k"].to_numpy() <= limit)
    order = np.argsort(-np.where(np.isfinite(dataset["largest"]), dataset["largest"], np.inf), kind="stable")
    words = {"max_pareto_k": limit, "meaning": NOT_A_FORECAST}
    if _in_order(posterior):
        words["warning"] = IN_ORDER
    return dataset.isel(point=order).assign_attrs({**origin_of(posterior), **words})


def _in_order(posterior: xr.DataTree) -> bool:
    """Whether log likelihoods are those of each observation given the ones before it."""
    description = record(posterior, "description")
    tied = any("Autocorrelated(" in entry["noise"] for entry in description.get("observations", ()))
    return tied or description.get("model_error", {}).get("kind") == "ProcessNoise"


def _standardised(chains: Chains) -> _Standard:
    """All draws in one row, and what share of them independent ones would be worth (as `arviz.loo` has it).

    Raises:
        InvalidArtifact: If they are too few.
    """
    if chains.num_draws < MIN_DRAWS:
        raise InvalidArtifact(
            "This posterior has too few draws to leave observations out by weights.",
            expected=f"at least {MIN_DRAWS} draws",
            received=f"{chains.num_draws}",
            advice='Calibrate with `method="nuts"`, and more `num_samples`.',
        )
    draws = np.stack([values.ravel() for values in chains.draws.values()], axis=1)
    r_eff = 1.0
    if len(chains.labels) > 1:
        worth = [float(np.asarray(ess(values, method="mean"))) for values in chains.draws.values()]
        r_eff = float(np.mean(worth)) / chains.num_draws
    with np.errstate(invalid="ignore", divide="ignore"):
        return _Standard(tuple(chains.draws), (draws - draws.mean(axis=0)) / draws.std(axis=0, ddof=1), r_eff)


def _of_signal(posterior: xr.DataTree, name: str, term: xr.DataArray, standard: _Standard, phase: Phase) -> xr.Dataset:
    """Every observation of one signal, in the order of its times."""
    (dim,) = (dim for dim in term.dims if dim not in ("chain", "draw"))
    values = term.transpose(dim, "chain", "draw").to_numpy().reshape(term.sizes[dim], len(standard.draws))
    elpd, pareto_k, shift, error, ratio = _left_out(values, standard, phase)
    both = ("point", "quantity")
    variable = posterior["observed_data"].to_dataset().get(name)
    unit = "" if variable is None else str(variable.attrs.get("units", ""))
    dataset = xr.Dataset(
        {
            "value": ("point", _observed(variable, len(values))),
            "elpd": ("point", elpd, {"long_name": "log predictive density by the others"}),
            "pareto_k": ("point", pareto_k, {"long_name": "Pareto k of the weights"}),
            "mean_shift": (both, shift, {"long_name": "mean without it minus mean with it, in posterior sds"}),
            "mean_shift_mcse": (both, error, {"long_name": "Monte Carlo error of the shift"}),
            "sd_ratio": (both, ratio, {"long_name": "standard deviation without it over that with it"}),
        },
        coords={
            "quantity": list(standard.names),
            "observation": ("point", np.full(len(values), name)),
            "units": ("point", np.full(len(values), unit)),
        },
    )
    for kind in ("time", "experiment"):
        own = [key for key in term.coords if str(key) in (kind, f"{kind}_{name}") and dim in term[key].dims]
        if own:
            dataset = dataset.assign_coords({kind: ("point", term[own[0]].to_numpy())})
    return dataset


def _left_out(values: np.ndarray, standard: _Standard, phase: Phase) -> tuple[np.ndarray, ...]:
    """Of n observations: elpd and k, shape (n,); shift, its error and ratio of standard deviations, shape (n, P).

    Args:
        values: Log likelihoods, shape (n, S).
        standard: The draws, S of them.
        phase: Told of each observation.
    """
    elpd, pareto_k = np.full((2, len(values)), np.nan)
    shift, error, ratio = np.full((3, len(values), len(standard.names)), np.nan)
    draws = standard.draws
    for place, terms in enumerate(values):
        log_weights, pareto_k[place] = _weigh(terms, standard.r_eff)
        weights = np.exp(log_weights)
        elpd[place] = logsumexp(log_weights + terms)
        shift[place] = weights @ draws
        ratio[place] = np.sqrt(np.maximum(weights @ draws**2 - shift[place] ** 2, 0.0))
        # the error of the difference of two means of the same draws, one of them 0
        apart = weights[:, None] * (draws - shift[place]) - draws / len(draws)
        error[place] = np.sqrt((apart**2).sum(axis=0) / min(standard.r_eff, 1.0))
        phase.advance(1)
    return elpd, pareto_k, shift, error, ratio


def _weigh(terms: np.ndarray, r_eff: Any) -> tuple[np.ndarray, float]:
    """Smoothed log weights, shape (S,), and their Pareto k; NaN where a log likelihood is not finite."""
    if not np.isfinite(terms).all():
        return np.full_like(terms, np.nan), float("nan")
    try:
        log_weights, pareto_k = array_stats.psislw(terms, r_eff=r_eff)
    except ValueError:  # the largest weights are all the same, so there is no tail
        return -terms - logsumexp(-terms), float("-inf")
    return log_weights, float(pareto_k)


def _observed(variable: xr.DataArray | None, num: int) -> np.ndarray:
    """What was observed, in the order of the log likelihoods; NaN where the two do not belong together."""
    values = np.empty(0) if variable is None else variable.to_numpy().ravel()
    values = values[np.isfinite(values)]
    return values if len(values) == num else np.full(num, np.nan)


# What prior and likelihood each do to a posterior: raised to powers near one, how far do its parameters move?

THRESHOLD = 0.05
"""Sensitivity from which on something counts as having a say (the paper's)."""

MIN_DRAWS = 100
"""With fewer draws the weights have no tail to be smoothed."""

FINE = "data decide"
CONFLICT = "prior-data conflict"
STRONG_PRIOR = "strong prior or weak likelihood"
NEITHER = "hardly moved by either"
UNKNOWN = "cannot be told"

SENTENCES = {
    FINE: "`{name}` hangs on the data, and hardly on its prior.",
    CONFLICT: (
        "`{name}`: prior and data both move it, as where they pull apart. Check the unit and the data; if the prior is"
        " not what you would stand by, widen it."
    ),
    STRONG_PRIOR: (
        "`{name}` follows the prior and hardly the data: the prior is strong, or the data say little. Stand by the"
        " prior, or find telemetry that depends on it."
    ),
    NEITHER: "`{name}` hardly moves with prior or data: others decide it, or it does not vary.",
    UNKNOWN: "`{name}`: cannot be told, its draws or their densities are too few, constant, NaN or infinite.",
}


def power_scaling(
    twin: Twin, posterior: xr.DataTree, *, model_error: ModelError | EllipsisType | None = ...
) -> xr.Dataset:
    """Say whether prior or data decide each parameter, by raising the density of either to powers of 0.99 and 1.01.

    Nothing is calibrated again: draws are weighted (Kallioinen et al. 2024, doi:10.1007/s11222-023-10366-5), and a
    sensitivity is how fast the marginal of a parameter moves then, as a cumulative Jensen–Shannon distance; ArviZ's
    `psense`. All priors are scaled together, so a parameter can move with the prior of another that it is tied to. A
    prior that is meant to say much gives the same picture as one in conflict: the diagnosis is a reason to look.

    Args:
        twin: The twin that was calibrated; its priors are evaluated at the draws.
        posterior: As `calibrate` returned it: groups `posterior` and `log_likelihood`.
        model_error: As in `calibrate`.

    Returns:
        By `quantity`: `prior` and `likelihood` sensitivity, `diagnosis` in a few words and `sentence` in full. What
        belongs to experiment `a` is the quantity `theta[a]`.

    Raises:
        InvalidArtifact: If the posterior belongs to another twin, or has no log likelihoods.
    """
    twin = with_model_error(twin, model_error)
    check_belongs(twin, posterior)
    posterior = _at_draws_of(likelihoods_of(posterior), posterior)
    draws = read_chains(posterior, "posterior").draws
    values = np.stack(list(draws.values()), axis=-1)
    coords = {"quantity": list(draws)}
    terms = {"prior": log_prior(twin, posterior), "likelihood": _log_likelihood(posterior)}
    found = {name: _sensitivity(name, term.to_numpy(), values) for name, term in terms.items()}
    said = [diagnosis(*pair) for pair in zip(found["prior"], found["likelihood"], strict=True)]
    sentences = [SENTENCES[word].format(name=name) for name, word in zip(draws, said, strict=True)]
    words = "how fast the marginal moves with a power of the "
    data: dict[str, Any] = {n: ("quantity", v, {"long_name": words + n}) for n, v in found.items()}
    data |= {"diagnosis": ("quantity", said), "sentence": ("quantity", sentences)}
    return xr.Dataset(data, coords=coords, attrs={**origin_of(posterior), "threshold": THRESHOLD})


def log_prior(twin: Twin, posterior: xr.DataTree) -> xr.DataArray:
    """Log prior density at each draw, of all sites together and in their own units; shape (chain, draw)."""
    group = posterior["posterior"].to_dataset()
    total = xr.zeros_like(group["chain"] * group["draw"], dtype=float)
    learnt = record(posterior, "population")
    if learnt or any(site.dependent for site in twin.sites()):
        names = [str(name) for name in group["experiment"].values] if "experiment" in group.dims else []
        known = {name: np.array([one[n] for n in names]) if names else one for name, one in _known(posterior).items()}
        priors = Priors(twin, twin.sites(), len(names), known, learnt=read_shared_prior(learnt) if learnt else None)
        stacked = {s.name: group[s.name].transpose("chain", "draw", ...).values for s in twin.sites()}
        density = jax.jit(jax.vmap(jax.vmap(priors.log_density)))(stacked)
        return total.transpose("chain", "draw").copy(data=np.asarray(density)).drop_attrs()
    for site in twin.sites():
        values = group[site.name]
        density = np.asarray(jax.jit(site.prior.log_prob)(jnp.asarray(values.to_numpy())))
        own = [dim for dim in values.dims if dim not in total.dims]
        total = total + values.copy(data=density).sum(own, skipna=False)
    return total.transpose("chain", "draw").drop_attrs()


def _known(posterior: xr.DataTree) -> dict[str, Any]:
    """Numbers that the calibrated records brought along, by name, and by experiment where there were several."""
    return posterior.attrs.get("known", {})


def diagnosis(prior: float, likelihood: float) -> str:
    """What two sensitivities mean, in a few words; NaN is told apart, never passed."""
    if not (np.isfinite(prior) and np.isfinite(likelihood)):
        return UNKNOWN
    if prior >= THRESHOLD:
        return CONFLICT if likelihood >= THRESHOLD else STRONG_PRIOR
    return FINE if likelihood >= THRESHOLD else NEITHER


def origin_of(posterior: xr.DataTree) -> dict[str, Any]:
    """What binds a finding to the posterior that it is about."""
    names = ("bayestwin_version", "twin", "twin_sha256", "telemetry_sha256", "seed")
    return {name: posterior.attrs[name] for name in names if name in posterior.attrs}


def likelihoods_of(posterior: xr.DataTree) -> xr.Dataset:
    """The group `log_likelihood`.

    Raises:
        InvalidArtifact: If there is none, or readings do not count in full.
    """
    if "forget" in posterior.attrs:
        raise InvalidArtifact(
            "This posterior has forgotten a part of each reading.",
            expected="one in which all readings count in full",
            received=f"an update with a half-life of {posterior.attrs['forget']['half_life']:g}",
            advice="Ask the calibration that it came from.",
        )
    group = posterior["log_likelihood"].to_dataset() if "log_likelihood" in posterior.children else xr.Dataset()
    if group.data_vars:
        return group
    raise InvalidArtifact(
        "This posterior has no log likelihoods.",
        expected="the group `log_likelihood`, with a variable for each observation",
        received=", ".join(f"`{name}`" for name in posterior.children) or "no groups",
        advice="Pass what `calibrate` returned, whole.",
    )


def _at_draws_of(terms: xr.Dataset, posterior: xr.DataTree) -> xr.DataTree:
    """The posterior at the draws that have log likelihoods, which of long records are not all."""
    whole = posterior["posterior"].to_dataset()
    if terms.sizes["draw"] == whole.sizes["draw"]:
        return posterior
    groups = {name: group.to_dataset() for name, group in posterior.children.items()}
    tree = xr.DataTree.from_dict({**groups, "posterior": whole.sel(draw=terms["draw"])})
    tree.attrs = posterior.attrs
    return tree


def _log_likelihood(posterior: xr.DataTree) -> xr.DataArray:
    """Log likelihood of all that was observed, at each draw; shape (chain, draw)."""
    group = likelihoods_of(posterior)
    own = {name: [dim for dim in term.dims if dim not in ("chain", "draw")] for name, term in group.items()}
    parts = [term.sum(own[name], skipna=False) for name, term in group.items()]
    return sum(parts[1:], start=parts[0]).transpose("chain", "draw").drop_attrs()


def _sensitivity(part: str, term: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sensitivity of each quantity to powers of a part of the density, shape (quantity,).

    Args:
        part: `"prior"` or `"likelihood"`.
        term: Its logarithm at each draw, shape (chain, draw).
        values: Draws, shape (chain, draw, quantity).
    """
    unknown = np.full(values.shape[-1], np.nan)
    if term.size < MIN_DRAWS or not (np.isfinite(term).all() and np.isfinite(values).all()):
        return unknown
    if np.ptp(term) == 0.0:  # a flat density to any power is flat
        return np.zeros_like(unknown)
    tree = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset({"theta": (("chain", "draw", "quantity"), values)}),
            f"log_{part}": xr.Dataset({"total": (("chain", "draw", "part"), term[..., None])}),
        }
    )
    try:
        with np.errstate(invalid="ignore", divide="ignore"):  # constant draws have no distance to normalise
            return psense(tree, group=part)["theta"].to_numpy()
    except ValueError:  # the largest weights are all the same, so they have no tail to be smoothed
        return unknown
