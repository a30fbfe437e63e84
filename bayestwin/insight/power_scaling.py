"""What prior and likelihood each do to a posterior: raised to powers near one, how far do its parameters move?"""

from types import EllipsisType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from arviz_stats.psense import psense

from bayestwin.assess.chains import read_chains
from bayestwin.calibrate import with_model_error
from bayestwin.errors import InvalidArtifact, explain
from bayestwin.model.error import ModelError
from bayestwin.model.twin import Twin
from bayestwin.predict import check_belongs

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
    for site in twin.sites():
        values = group[site.name]
        density = np.asarray(jax.jit(site.prior.log_prob)(jnp.asarray(values.to_numpy())))
        own = [dim for dim in values.dims if dim not in total.dims]
        total = total + values.copy(data=density).sum(own, skipna=False)
    return total.transpose("chain", "draw").drop_attrs()


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
        InvalidArtifact: If there is none.
    """
    group = posterior["log_likelihood"].to_dataset() if "log_likelihood" in posterior.children else xr.Dataset()
    if group.data_vars:
        return group
    message = explain(
        "This posterior has no log likelihoods.",
        expected="the group `log_likelihood`, with a variable for each observation",
        received=", ".join(f"`{name}`" for name in posterior.children) or "no groups",
        advice="Pass what `calibrate` returned, whole.",
    )
    raise InvalidArtifact(message)


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
