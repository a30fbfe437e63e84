"""The gates on what the engine itself recorded: an approximation, a point, several modes, the solver's tolerance."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import xarray as xr

from bayestwin.assess.gates import Gate
from bayestwin.exactness import MAX_PARETO_K, exact_enough


def approximation_gate(tree: xr.DataTree) -> Gate:
    """The approximation covers the posterior."""
    value = float(record(tree, "approximation").get("pareto_k", float("nan")))
    passed = value <= MAX_PARETO_K
    sentence = f"The {method_of(tree)} approximation is held against the posterior: Pareto k {value:.2f}"
    if passed:
        sentence += f" (limit {MAX_PARETO_K:g}): it covers it."
    else:
        sentence += (
            f", limit {MAX_PARETO_K:g}: it misses parts of the posterior, and its intervals are too narrow."
            ' Calibrate with `method="nuts"`.'
        )
    return Gate("approximation", passed, value, MAX_PARETO_K, sentence)


def point_gate() -> Gate:
    """The most probable values are no posterior."""
    sentence = (
        "These are the most probable values, not a posterior: intervals hold the noise of observations and nothing of"
        ' what is uncertain about the parameters. Calibrate with `method="nuts"` for that.'
    )
    return Gate("point", False, 1.0, float("inf"), sentence, severity="warn")


def modes_gate(tree: xr.DataTree) -> Gate | None:
    """The ladder that led to the starts found one mode; None where it was not climbed."""
    starts = record(tree, "starts")
    if "modes" not in starts:
        return None
    modes = int(starts["modes"])
    if modes == 1:
        return Gate("modes", True, 1.0, 1.0, "Climbing from many starts found one mode.", severity="warn")
    shares = ", ".join(f"{100 * float(weight):.2g} %" for weight in starts.get("weights", ()))
    sentence = (
        f"Climbing from many starts found {modes} modes, which share the posterior by {shares} (Laplace): chains that"
        ' stay in one do not say how much it weighs. Exclude by a prior what makes no sense, or use `method="smc"`.'
    )
    return Gate("modes", False, float(modes), 1.0, sentence, severity="warn")


def tolerance_gate(tree: xr.DataTree) -> Gate | None:
    """The solver's tolerance does not shape the posterior; None where it was not audited."""
    audit = record(tree, "tolerance_audit")
    if not audit:
        return None
    value = float("nan") if audit["pareto_k"] is None else float(audit["pareto_k"])
    worst = float(audit["largest_difference"])
    passed = exact_enough(audit)
    sentence = (
        f"{int(audit['draws']):,} draws were solved again {float(audit['tighter']):g} times more precisely: their log"
        f" densities change by at most {worst:.2g}"
    )
    if not math.isnan(value):
        sentence += f" (Pareto k {value:.2f}, limit {MAX_PARETO_K:g})"
    if not passed:
        sentence += (
            f", {int(audit['failed'])} could not be solved: the error of the solver shapes the posterior. Lower `rtol`"
            " and `atol` of `bt.Solver`"
        )
    return Gate("tolerance", passed, value, MAX_PARETO_K, sentence + ".")


def method_of(tree: xr.DataTree) -> str:
    """How a posterior was inferred; files from before there was a choice do not say."""
    return str(tree.attrs.get("method", "nuts"))


def record(tree: xr.DataTree, name: str) -> dict[str, Any]:
    """A root attribute that holds a mapping, in memory or as JSON text; empty where it is missing or something else."""
    held = tree.attrs.get(name) or {}
    held = json.loads(held) if isinstance(held, str) else held
    return dict(held) if isinstance(held, Mapping) else {}
