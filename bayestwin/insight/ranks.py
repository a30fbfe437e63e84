"""Ranks of the truth among the draws of its posterior, and the distribution they have, with simultaneous bands."""

import numpy as np
import xarray as xr

from bayestwin._base.progress import Phase
from bayestwin._base.seeds import key_for, seed_for
from bayestwin.assess.pit import simultaneous_band, transform
from bayestwin.density.density import Density
from bayestwin.inference.many import Lengths, autocorrelation, draw_many
from bayestwin.inference.sensitivities import choose_at
from bayestwin.insight.simulated import Simulated, quantities_of

STEPS = 50
"""The distribution of ranks is looked at in as many steps from 0 to 1."""

TRIED = 32
"""Truths from which it is learnt how to differentiate."""


def rank(
    density: Density, simulated: Simulated, *, seed: int, lengths: Lengths, level: float, phase: Phase
) -> xr.Dataset:
    """Draw the posteriors of simulated data sets, and rank the truth in each.

    Args:
        density: The log density as calibration has it; the one that simulated may have been another.
        simulated: Data sets and their truth.
        seed: Determines the draws, ties and bands.
        lengths: Of the chains.
        level: Probability of all bands together.
        phase: Told of each data set.

    Returns:
        As `sbc`.
    """
    density, sensitivities = choose_at(density, simulated.z[:TRIED])
    found = draw_many(
        density, simulated.observations, simulated.z, key=key_for(seed, "sbc"), lengths=lengths, phase=phase
    )
    quantities = quantities_of(simulated.first(len(found.z)), found.z)
    rng = np.random.default_rng(seed_for(seed, "ties"))
    ranks = np.stack([transform(draws, truth, rng) for draws, truth in quantities.values()])
    rho = np.stack([autocorrelation(draws.T).mean() for draws, _ in quantities.values()])
    worth = lengths.num_draws * (1.0 - rho) / (1.0 + rho)
    single = ("simulation",)
    chains = xr.Dataset(
        {
            "autocorrelation": (
                single,
                found.autocorrelation,
                {"long_name": "largest lag-one autocorrelation of the draws of a posterior"},
            ),
            "ess": ("quantity", worth, {"long_name": "effective number of draws, typical of a posterior"}),
            "diverging": (single, found.diverging, {"long_name": "share of the transitions that diverged"}),
            "rounds": (single, found.rounds, {"long_name": "how often the chain was made, each time longer"}),
        },
        attrs={
            "num_draws": lengths.num_draws,
            "not_solved": simulated.num_failed,
            "interrupted": found.interrupted,
            "sensitivities": dict(sensitivities),
        },
    )
    return chains.merge(curves(ranks, list(quantities), level, seed), combine_attrs="no_conflicts")


def curves(ranks: np.ndarray, names: list[str], level: float, seed: int) -> xr.Dataset:
    """The distribution of ranks, shape (k, n) of k quantities, and the bands that hold all of them at a level.

    Bands are as wide as if quantities were independent (Šidák 1967, doi:10.1080/01621459.1967.10482935), which holds
    the level where they depend on each other too, nearly always with room to spare.
    """
    num = ranks.shape[1]
    at = np.arange(1, STEPS) / STEPS
    lower, upper = simultaneous_band(num, at, level ** (1.0 / len(names)), seed_for(seed, "bands"))
    # a rank that cannot be computed is nowhere, and its curve stays below 1
    ecdf = (ranks[:, :, None] <= at).mean(axis=1)
    known = np.isfinite(ranks).all(axis=1)
    curve = ("quantity", "z")
    rows = (len(names), 1)
    return xr.Dataset(
        {
            "rank": (("quantity", "simulation"), ranks, {"long_name": "rank of the truth among draws, from 0 to 1"}),
            "ecdf": (curve, ecdf, {"long_name": "share of the simulations whose rank is at most z"}),
            "band_lower": (curve, np.tile(lower, rows), {"long_name": "lower end of the band of all quantities"}),
            "band_upper": (curve, np.tile(upper, rows), {"long_name": "upper end of the band of all quantities"}),
            "within_band": ("quantity", known & ((lower <= ecdf) & (ecdf <= upper)).all(axis=1)),
        },
        coords={"quantity": names, "z": at, "simulation": np.arange(num)},
        attrs={"level": level},
    )
