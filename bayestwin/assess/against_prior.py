"""Posterior held against prior: parameters at the prior's edge, and parameters the data say nothing about.

Both only warn: either can be right, and a person who knows the asset must say so.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from bayestwin.assess.chains import Chains, read_chains, spread
from bayestwin.assess.gates import Gate

MIN_PRIOR_DRAWS = 100
"""With fewer draws of the prior, its outermost 1 % is unknown."""

EDGE = 0.01
"""The prior's edge: what lies beyond this quantile, or beyond 1 minus it."""

MAX_SHIFT = 0.25
"""A posterior that moved by more than this many prior widths has learnt something, however wide it is."""


def prior_gates(tree: xr.DataTree, posterior: Chains, max_at_edge: float, max_width: float) -> tuple[Gate, Gate]:
    """The gates `prior_edge` and `prior_posterior`, of severity `"warn"`.

    Args:
        tree: The result, with the group `prior`.
        posterior: Its draws.
        max_at_edge: Largest share of the posterior beyond one edge of the prior; without any data it is `EDGE`.
        max_width: Width of the posterior relative to the prior above which the data have said next to nothing.
    """
    draws = {name: values.ravel() for name, values in posterior.draws.items()}
    prior = {name: values for name, values in _prior_draws(tree).items() if name in draws}
    unknown = [f"`{name}`" for name in draws if name not in prior]
    reason = ""
    if unknown:
        reason = (
            f"the result holds no prior draws ({MIN_PRIOR_DRAWS} finite ones at least) of {', '.join(unknown)}. Judge"
            " what `calibrate` returned, as it is"
        )
    elif posterior.num_draws == 0 or not all(np.isfinite(values).all() for values in draws.values()):
        reason = "the posterior has draws that are NaN or infinite, or none. Mend that first"
    if reason:
        sentence = f"Prior and posterior cannot be compared: {reason}."
        nan = float("nan")
        return (
            Gate("prior_edge", False, nan, float(max_at_edge), sentence, "warn"),
            Gate("prior_posterior", False, nan, float(max_width), sentence, "warn"),
        )
    return _edge_gate(draws, prior, max_at_edge), _width_gate(draws, prior, max_width)


def _edge_gate(draws: dict[str, np.ndarray], prior: dict[str, np.ndarray], limit: float) -> Gate:
    """The posterior lies where the prior expects it, not against its end."""
    shares = {}
    for name, values in prior.items():
        lower, upper = np.quantile(values, (EDGE, 1 - EDGE))
        shares[name] = max((np.mean(draws[name] < lower), "low"), (np.mean(draws[name] > upper), "high"))
    name = max(shares, key=lambda key: shares[key])
    value, side = float(shares[name][0]), shares[name][1]
    edge = [f"`{key}`" for key, (share, _) in shares.items() if not share <= limit]
    if not edge:
        sentence = f"No posterior lies at its prior's edge (at most {100 * value:.3g} %, `{name}`)."
    else:
        sentence = (
            f"The posterior lies at its prior's edge: {', '.join(edge)}. Of the draws of `{name}`,"
            f" {100 * value:.3g} % lie in the outermost {100 * EDGE:g} % of the prior, at its {side} end:"
            " data and prior contradict each other. Check the units; widen the prior if it is too narrow."
        )
    return Gate("prior_edge", not edge, value, float(limit), sentence, "warn")


def _width_gate(draws: dict[str, np.ndarray], prior: dict[str, np.ndarray], limit: float) -> Gate:
    """The data have narrowed every parameter."""
    widths = {}
    for name, values in prior.items():
        width = float(spread(values))
        shift = abs(np.median(draws[name]) - np.median(values))
        if width > 0 and shift <= MAX_SHIFT * width:
            widths[name] = float(spread(draws[name])) / width
    name = max(widths, key=lambda key: widths[key], default="")
    value = widths.get(name, 0.0)
    unmoved = [f"`{key}`" for key, width in widths.items() if not width <= limit]
    if not unmoved:
        widest = f" (widest: `{name}`, {100 * value:.3g} % of its prior)" if name else ""
        sentence = f"The data say something about every parameter{widest}."
    else:
        sentence = (
            f"Prior ≈ posterior: the data say next to nothing about {', '.join(unmoved)}. The posterior of"
            f" `{name}` is {100 * value:.0f} % as wide as its prior: it shows what was assumed. Give it a"
            " known value, a prior that you stand by, or telemetry that depends on it."
        )
    return Gate("prior_posterior", not unmoved, value, float(limit), sentence, "warn")


def _prior_draws(tree: xr.DataTree) -> dict[str, np.ndarray]:
    """Finite draws of the prior by parameter, of those that have enough of them."""
    if "prior" not in tree.children or not tree["prior"].data_vars:
        return {}
    found = {name: values[np.isfinite(values)] for name, values in read_chains(tree, "prior").draws.items()}
    return {name: values for name, values in found.items() if values.size >= MIN_PRIOR_DRAWS}
