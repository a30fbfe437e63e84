"""The gates on what the engine itself recorded: an approximation, a point, several modes, the solver's tolerance."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import xarray as xr

from bayestwin.assess.gates import Gate
from bayestwin.inference.exactness import MAX_PARETO_K, NEGLIGIBLE, exact_enough


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


def point_gate() -> Gate:
    """The most probable values are no posterior."""
    sentence = (
        "These are the most probable values, not a posterior: intervals hold the noise of observations and nothing of"
        ' what is uncertain about the parameters. Calibrate with `method="nuts"` for that.'
    )
    return Gate("point", False, 1.0, float("inf"), sentence, severity="warn")


def modes_gate(tree: xr.DataTree, limit: int = 1) -> Gate | None:
    """The ladder that led to the starts found one mode; None where it was not climbed."""
    starts = record(tree, "starts")
    if "modes" not in starts:
        return None
    modes = int(starts["modes"])
    passed = 1 <= modes <= limit
    if modes == 1:
        sentence = "Climbing from many starts found one mode: one set of values explains the data best."
    else:
        shares = ", ".join(f"{100 * float(weight):.3g} %" for weight in starts.get("weights", ()))
        held = f", which share the posterior by {shares} (Laplace)" if shares else ""
        sentence = (
            f"Climbing from many starts found {modes} modes{held}: sets of values that lie apart and explain the data"
            " about equally well. Chains that stay in one do not say how much it weighs. See in the report whether each"
            ' makes sense; exclude by a prior those that do not, or use `method="smc"`.'
        )
    return Gate("modes", passed, float(modes), float(limit), sentence, severity="warn")


def tolerance_gate(tree: xr.DataTree, max_error: float = NEGLIGIBLE, max_pareto_k: float = MAX_PARETO_K) -> Gate | None:
    """The solver's tolerance does not shape the posterior; None where it was not audited."""
    audit = record(tree, "tolerance_audit")
    if not audit and record(tree, "solver_choice").get("method") == "exact" and method_of(tree) != "map":
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


def record(tree: xr.DataTree, name: str) -> dict[str, Any]:
    """A root attribute that holds a mapping, in memory or as JSON text; empty where it is missing or something else."""
    held = tree.attrs.get(name) or {}
    held = json.loads(held) if isinstance(held, str) else held
    return dict(held) if isinstance(held, Mapping) else {}
