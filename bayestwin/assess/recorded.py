"""The gates on what the engine recorded: an approximation, a point, several modes, solver tolerance, failed paths."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.special
import xarray as xr

from bayestwin.assess import draws
from bayestwin.assess.gates import Chains, Gate, read_chains, record, spread
from bayestwin.inference.method import MAX_PARETO_K, NEGLIGIBLE, JudgedBy, exact_enough, method_named
from bayestwin.results.schema import bond_of, derived

HEAVY = 0.01
"""Share of the posterior, as the Laplace approximation has it, from which on a mode must have draws."""

RARELY = 0.1
"""Share of climbs that found the best mode, below which there may be a better one."""

MAX_FAILED_PATHS = 0.05
"""Intervals of the other paths that hold 95 % of them hold 90 % of all: they miss twice as often as promised."""


def approximation_gate(tree: xr.DataTree, limit: float = MAX_PARETO_K) -> Gate:
    """The approximation covers the posterior."""
    value = float(record(tree, "approximation").get("pareto_k", float("nan")))
    passed = value <= limit
    sentence = f"The {method_of(tree)} approximation was held against the posterior "
    if passed:
        sentence += f"and covers it (Pareto k {value:.2f}, limit {limit:g})."
    elif math.isnan(value):
        sentence += 'and cannot be judged: Pareto k was not recorded, or is NaN. Calibrate with `method="nuts"`.'
    else:
        sentence += (
            f"and misses parts of it (Pareto k {value:.2f}, limit {limit:g}; the larger, the fewer draws would have to"
            ' stand for what is missed): its intervals are too narrow. Calibrate with `method="nuts"`.'
        )
    return Gate("approximation", passed, value, float(limit), sentence)


MOST_MISFIT = 0.05
"""Largest difference of probability between a population and the prior that was made of it."""

CHANCE = 1.63
"""Kolmogorov's distance, times the root of the number of draws, that chance makes in one of a hundred."""


def population_gate(tree: xr.DataTree) -> Gate | None:
    """What a population says was carried over whole; None where there was none."""
    told = record(tree, "population")
    if not told:
        return None
    distances = told["misfit"]
    worst = max(distances, key=distances.get)
    limit = MOST_MISFIT + CHANCE / math.sqrt(told["ess"])
    passed = distances[worst] <= limit
    sentence = (
        f"The population of {told['assets']:,} assets, as a prior, gives probabilities that are off by"
        f" {distances[worst]:.1%} at most ({worst}; limit {limit:.1%})"
    )
    if not passed:
        sentence += (
            ": what the others say of it has a shape that a prior made of their draws does not have, two modes or a"
            " bend for one. Calibrate this asset together with the others"
        )
    return Gate("population", passed, float(distances[worst]), limit, sentence + ".")


def point_gate() -> Gate:
    """The most probable values are no posterior."""
    sentence = (
        "These are the most probable values, not a posterior: intervals hold the noise of observations and nothing of"
        ' what is uncertain about the parameters. Calibrate with `method="nuts"` for that.'
    )
    return Gate("point", False, 1.0, float("inf"), sentence, severity="warn")


MOST_TO_GAIN = 0.01
"""Log density by which most probable values may miss the maximum: a seventh of a standard error along one direction."""


def maximum_gate(tree: xr.DataTree) -> Gate | None:
    """The most probable values are a maximum; None where that was not recorded."""
    starts = record(tree, "starts")
    if "still_to_gain" not in starts:
        return None
    gain = float(starts["still_to_gain"])
    passed = gain <= MOST_TO_GAIN
    sentence = f"About {gain:.2g} of log density are still to gain at these values (limit {MOST_TO_GAIN:g})"
    if not passed:
        sentence += (
            ": they are not the most probable ones, and standard errors are not those of the maximum. Calibrate with"
            ' another seed, with narrower priors, or with `method="nuts"`'
        )
    return Gate("maximum", passed, gain, MOST_TO_GAIN, sentence + ".")


def derived_gate(tree: xr.DataTree) -> Gate | None:
    """The draws are those that were calibrated; None where they are, or where that was not recorded.

    Draws that were changed fail. A part of them, such as every tenth or one experiment, warns: it may be right, but
    nothing vouches for it.
    """
    words = derived(tree)
    if not words:
        return None
    told = bond_of(tree)
    num = sum(int(values.size) for values in tree["posterior"].data_vars.values())
    part = told is not None and num < told.values
    sentence = (
        f"Derived, not calibrated: {words}. Twin, telemetry, seed and diagnostics of this result are those of the "
        f"calibration. {'Judge the whole posterior' if part else 'Keep what is computed from draws beside them'}."
    )
    return Gate("derived", False, 1.0, 0.0, sentence, "warn" if part else "fail")


def modes_gate(tree: xr.DataTree, limit: int = 1) -> Gate | None:
    """The ladder that led to the starts found one mode; None where it was not climbed.

    Several modes only warn, but one that holds a part of the posterior and none of the draws makes these wrong.
    """
    starts = record(tree, "starts")
    if "modes" not in starts:
        return None
    ends, groups = int(starts["modes"]), ridges_of(starts)
    modes = len(groups)
    climbs, highest = int(starts.get("optimised", 0)), int(starts.get("highest", starts.get("optimised", 0)))
    rare = highest < RARELY * climbs
    lost = climbs > 0 and int(starts.get("converged", climbs)) == 0
    weights = [float(weight) for weight in starts.get("weights", ())]
    visited = starts.get("visited", [1.0] * len(weights))
    if weights:
        weights, visited = (
            [float(sum(one[number] for number in group)) for group in groups] for one in (weights, visited)
        )
    missed = [weight for weight, share in zip(weights, visited, strict=True) if share == 0.0 and weight >= HEAVY]
    passed = 1 <= modes <= limit and not rare and not lost and not missed
    if lost:
        gain = float(starts.get("still_to_gain", float("nan")))
        sentence = (
            f"None of {climbs} climbs arrived at a mode (where the highest ended, about {gain:.2g} of log density are"
            " still to gain): chains start somewhere on the way, with a poor metric. See whether the vector field jumps"
            " or bends sharply, and whether the data tell all parameters apart (`bayestwin identify`)."
        )
    elif rare:
        sentence = (
            f"{highest} of {climbs} climbs found the best mode: there may be better ones that none found. Narrow "
            "priors to what is plausible, compare several seeds, and look whether residuals stay in phase."
        )
    elif modes == 1 and ends > 1:
        sentence = (
            f"Climbing from many starts ended at {ends} points of one ridge, along which the log density hardly falls:"
            " one mode, and a direction in which the data leave values open, often up to a bound of a prior. Chains"
            " move along it; `bayestwin identify` says which parameters are concerned."
        )
    elif modes == 1:
        sentence = "Climbing from many starts found one mode: one set of values explains the data best."
    else:
        shares = ", ".join(f"{100 * weight:.3g} %" for weight in weights)
        held = f", which share the posterior by {shares} (Laplace)" if shares else ""
        sentence = f"Climbing from many starts found {modes} modes{held}: sets of values that lie apart."
        if missed:
            none = " and ".join(f"{100 * weight:.3g} %" for weight in missed)
            sentence += (
                f" No draw lies in the one of {none}, so the draws are not those of the posterior. Exclude it by a"
                ' prior if it makes no sense, or use `method="smc"`, which weighs modes that lie apart.'
            )
        else:
            sentence += (
                " Chains that stay in one do not say how much it weighs. See in the report whether each makes sense;"
                ' exclude by a prior those that do not, or use `method="smc"`.'
            )
    return Gate("modes", passed, float(modes), float(limit), sentence, severity="fail" if missed else "warn")


def num_modes(tree: xr.DataTree) -> int | None:
    """How many modes climbs from many starts found; None where nothing was climbed."""
    starts = record(tree, "starts")
    return len(ridges_of(starts)) if "modes" in starts else None


def ridges_of(starts: Mapping[str, Any]) -> list[list[int]]:
    """Numbers of the modes that climbs found, those of one ridge together."""
    return [list(map(int, group)) for group in starts.get("ridges") or [[n] for n in range(int(starts["modes"]))]]


def tolerance_gate(tree: xr.DataTree, max_error: float = NEGLIGIBLE, max_pareto_k: float = MAX_PARETO_K) -> Gate | None:
    """The solver's tolerance does not shape the posterior; None where it was not audited."""
    audit = record(tree, "tolerance_audit")
    if not audit and record(tree, "solver_choice").get("method") == "exact" and judged_as(tree) != "point":
        sentence = "The twin needs no solver, whose error could shape the posterior: steps of an affine one are exact."
        return Gate("tolerance", True, 0.0, float(max_error), sentence)
    if not audit:
        return None
    pareto_k = float("nan") if audit["pareto_k"] is None else float(audit["pareto_k"])
    worst = float(audit["largest_difference"])
    passed = exact_enough(audit, max_error, max_pareto_k)
    sentence = (
        f"{int(audit['draws']):,} draws were solved again {float(audit['tighter']):g} times more precisely: their log"
        f" densities, which say how well they fit, change by at most {worst:.2g}"
    )
    k = "" if math.isnan(pareto_k) else f"Pareto k {round(pareto_k, 2) + 0.0:.2f}, limit {max_pareto_k:g}"
    if passed and worst <= max_error:
        sentence += f" (limit {max_error:g}): the error of the solver does not matter."
    elif passed:
        sentence += (
            f". That is more than {max_error:g}, but the draws, weighted by the change, still stand for the same"
            f" posterior ({k}): the error of the solver does not matter."
        )
    else:
        unsolved = f", {int(audit['failed'])} could not be solved" if audit["failed"] else ""
        sentence += (
            f" (limit {max_error:g}{'; ' + k if k else ''}){unsolved}: the error of the solver shapes the posterior."
            " Lower `rtol` and `atol` of `bt.Solver`, say to a hundredth."
        )
    value, limit = (worst, max_error) if worst <= max_error else (pareto_k, max_pareto_k)
    return Gate("tolerance", passed, value, float(limit), sentence)


def method_of(tree: xr.DataTree) -> str:
    """How a posterior was inferred; files from before there was a choice do not say."""
    return str(tree.attrs.get("method", "nuts"))


def judged_as(tree: xr.DataTree) -> JudgedBy:
    """By which gates a posterior is judged, as its method says."""
    return method_named(method_of(tree)).judged


# Posterior held against prior: parameters at the prior's edge, and parameters the data say nothing about.
#
# Both only warn: either can be right, and a person who knows the asset must say so.

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
    others = set(record(tree, "population").get("names", ()))  # what other assets say of these is no mere assumption
    own = {name: values for name, values in prior.items() if name not in others}
    return _edge_gate(draws, prior, max_at_edge), _width_gate(draws, own, max_width)


def _edge_gate(draws: dict[str, np.ndarray], prior: dict[str, np.ndarray], limit: float) -> Gate:
    """The posterior lies where the prior expects it, not against its end.

    Where each experiment has a value of its own with the same prior, some of many reach its outermost 1 % by chance:
    with n of them the edge is 1 / n as wide.
    """
    shares, numbers = {}, {}
    for names in _of_one_prior(prior):
        edge = EDGE / len(names)
        lower, upper = np.quantile(np.concatenate([prior[name] for name in names]), (edge, 1 - edge))
        for name in names:
            shares[name] = max((np.mean(draws[name] < lower), "low"), (np.mean(draws[name] > upper), "high"))
            numbers[name] = len(names)
    name = max(shares, key=lambda key: shares[key])
    value, side = float(shares[name][0]), shares[name][1]
    at_edge = [f"`{key}`" for key, (share, _) in shares.items() if not share <= limit]
    if not at_edge:
        sentence = f"No posterior lies at its prior's edge (at most {100 * value:.3g} %, `{name}`)."
    else:
        num = numbers[name]
        own = "" if num == 1 else f" ({100 * EDGE:g} % over {num} with the same prior)"
        sentence = (
            f"The posterior lies at its prior's edge: {', '.join(at_edge)}. Of the draws of `{name}`,"
            f" {100 * value:.3g} % lie in the outermost {100 * EDGE / num:.2g} % of the prior{own}, at its {side} end:"
            f" data and prior contradict each other. Check the units; {_answer(name, num, draws)}."
        )
    return Gate("prior_edge", not at_edge, value, float(limit), sentence, "warn")


def _answer(name: str, num: int, draws: Mapping[str, np.ndarray]) -> str:
    """What to do about a parameter at its prior's edge: of one value among several the others say how wide it is."""
    if num == 1:
        return "widen the prior if it is too narrow"
    one = name.partition("[")[0]
    if f"{one}_spread" in draws:
        return f"see what is different about `{name}`, or widen the prior of `{one}_spread`"
    return f"if they are right, let `{one}` come from one population, `pooled=dist.HalfNormal(0.4)`"


def _of_one_prior(prior: dict[str, np.ndarray]) -> list[list[str]]:
    """Names of what has the same prior: the values that experiments have of one parameter."""
    groups: dict[str, list[str]] = {}
    for name in prior:
        groups.setdefault(name.partition("[")[0], []).append(name)
    return list(groups.values())


def _width_gate(draws: dict[str, np.ndarray], prior: dict[str, np.ndarray], limit: float) -> Gate:
    """The data have narrowed every parameter, on the scale on which its prior is normal."""
    widths = {}
    for name, values in prior.items():
        known, expected = _normal_scores(draws[name], values), _normal_scores(values, values)
        width = float(spread(expected))
        if width > 0 and abs(np.median(known) - np.median(expected)) <= MAX_SHIFT * width:
            widths[name] = float(spread(known)) / width
    name = max(widths, key=lambda key: widths[key], default="")
    value = widths.get(name, 0.0)
    unmoved = [f"`{key}`" for key, width in widths.items() if not width <= limit]
    if not unmoved:
        share = "less than 1" if value < 0.01 else f"{100 * value:.3g}"
        widest = f" (widest: `{name}`, {share} % of its prior)" if name else ""
        sentence = f"The data say something about every parameter{widest}."
    else:
        sentence = (
            f"Prior ≈ posterior: the data say next to nothing about {', '.join(unmoved)}. The posterior of"
            f" `{name}` is {100 * value:.0f} % as wide as its prior: it shows what was assumed. Give it a"
            " known value, a prior that you stand by, or telemetry that depends on it."
        )
    return Gate("prior_posterior", not unmoved, value, float(limit), sentence, "warn")


def _normal_scores(values: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Values as normal quantiles of their ranks among draws of the prior: one over decades counts in decades."""
    ordered = np.sort(prior)
    ranks = (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / 2.0
    return scipy.special.ndtri((ranks + 0.5) / (len(ordered) + 1.0))


def _prior_draws(tree: xr.DataTree) -> dict[str, np.ndarray]:
    """Finite draws of the prior by parameter, of those that have enough of them."""
    if "prior" not in tree.children or not tree["prior"].data_vars:
        return {}
    found = {name: values[np.isfinite(values)] for name, values in read_chains(tree, "prior").draws.items()}
    return {name: values for name, values in found.items() if values.size >= MIN_PRIOR_DRAWS}


def paths_gate(predictions: xr.DataTree, limit: float = MAX_FAILED_PATHS) -> Gate | None:
    """Predicted paths are there to the end; None where all are.

    Args:
        predictions: A forecast, or a posterior with its predictive draws.
        limit: Largest share of paths that may be missing without failing.
    """
    lost = draws.lost(predictions, limit)
    if lost is None:
        return None
    value = lost.num / lost.of
    sentence = f"{lost.words} They are narrower than what is known"
    if lost.beyond:
        sentence += (
            f", and from {lost.beyond} on, where more than {100 * limit:g} % of the paths are missing, not to be relied"
            " on. See where the states of these paths go before they end: a tighter prior, or a process noise that"
            " fades where a state must not go, keeps them within what the equations describe"
        )
    return Gate("failed_paths", False, value, float(limit), f"{sentence}.", "fail" if lost.beyond else "warn")
