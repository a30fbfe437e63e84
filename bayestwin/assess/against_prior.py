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

MAX_AT_EDGE = 0.1
"""Share of the posterior at one edge above which the gate warns; without any data it is `EDGE`."""

MAX_WIDTH = 0.8
"""Width of the posterior relative to the prior above which the data have said next to nothing."""

MAX_SHIFT = 0.25
"""A posterior that moved by more than this many prior widths has learnt something, however wide it is."""


def prior_gates(tree: xr.DataTree, posterior: Chains) -> tuple[Gate, Gate]:
    """The gates `prior_edge` and `prior_posterior`, of severity `"warn"`."""
    draws = {name: values.ravel() for name, values in posterior.draws.items()}
    prior = {name: values for name, values in _prior_draws(tree).items() if name in draws}
    reason = ""
    if not prior:
        reason = f"the result holds no prior draws ({MIN_PRIOR_DRAWS} at least) of its parameters"
    elif posterior.num_draws == 0 or not all(np.isfinite(draws[name]).all() for name in prior):
        reason = "the posterior has draws that are NaN or infinite, or none"
    if reason:
        sentence = f"Prior and posterior cannot be compared: {reason}."
        nan = float("nan")
        return (
            Gate("prior_edge", False, nan, MAX_AT_EDGE, sentence, "warn"),
            Gate("prior_posterior", False, nan, MAX_WIDTH, sentence, "warn"),
        )
    return _edge_gate(draws, prior), _width_gate(draws, prior)


def _edge_gate(draws: dict[str, np.ndarray], prior: dict[str, np.ndarray]) -> Gate:
    """The posterior lies where the prior expects it, not against its end."""
    shares = {}
    for name, values in prior.items():
        lower, upper = np.quantile(values, (EDGE, 1 - EDGE))
        shares[name] = max((np.mean(draws[name] < lower), "low"), (np.mean(draws[name] > upper), "high"))
    name = max(shares, key=lambda key: shares[key])
    value, side = float(shares[name][0]), shares[name][1]
    edge = [f"`{key}`" for key, (share, _) in shares.items() if share > MAX_AT_EDGE]
    if not edge:
        sentence = f"No posterior lies at its prior's edge (at most {100 * value:.2g} %, `{name}`)."
    else:
        sentence = (
            f"The posterior lies at its prior's edge: {', '.join(edge)}. Of the draws of `{name}`,"
            f" {100 * value:.2g} % lie in the outermost {100 * EDGE:g} % of the prior, at its {side} end:"
            " data and prior contradict each other. Check the units; widen the prior if it is too narrow."
        )
    return Gate("prior_edge", not edge, value, MAX_AT_EDGE, sentence, "warn")


def _width_gate(draws: dict[str, np.ndarray], prior: dict[str, np.ndarray]) -> Gate:
    """The data have narrowed every parameter."""
    widths = {}
    for name, values in prior.items():
        width = float(spread(values))
        shift = abs(np.median(draws[name]) - np.median(values))
        if width > 0 and shift <= MAX_SHIFT * width:
            widths[name] = float(spread(draws[name])) / width
    name = max(widths, key=lambda key: widths[key], default="")
    value = widths.get(name, 0.0)
    unmoved = [f"`{key}`" for key, width in widths.items() if width > MAX_WIDTH]
    if not unmoved:
        widest = f" (widest: `{name}`, {100 * value:.2g} % of its prior)" if name else ""
        sentence = f"The data say something about every parameter{widest}."
    else:
        sentence = (
            f"Prior ≈ posterior: the data say next to nothing about {', '.join(unmoved)}. The posterior of"
            f" `{name}` is {100 * value:.0f} % as wide as its prior: it shows what was assumed. Give it a"
            " known value, a prior that you stand by, or telemetry that depends on it."
        )
    return Gate("prior_posterior", not unmoved, value, MAX_WIDTH, sentence, "warn")


def _prior_draws(tree: xr.DataTree) -> dict[str, np.ndarray]:
    """Finite draws of the prior by parameter, of those that have enough of them."""
    if "prior" not in tree.children or not tree["prior"].data_vars:
        return {}
    found = {name: values[np.isfinite(values)] for name, values in read_chains(tree, "prior").draws.items()}
    return {name: values for name, values in found.items() if values.size >= MIN_PRIOR_DRAWS}
