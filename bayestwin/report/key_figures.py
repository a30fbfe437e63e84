"""The numbers that a reader of a report looks for first."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from bayestwin._base.wording import count, fixed, percent
from bayestwin.assess import Gate
from bayestwin.report.quantities import PROB, Quantity
from bayestwin.report.reading import group


class Figure(NamedTuple):
    """One key figure: what it is, its value, and `pass`, `warn`, `fail` or nothing."""

    name: str
    value: str
    note: str = ""
    status: str = ""


def key_figures(
    posterior: xr.DataTree,
    quantities: Sequence[Quantity],
    gates: Sequence[Gate],
    covered: xr.Dataset | None,
    scored: xr.Dataset | None,
) -> list[Figure]:
    """The numbers that a reader looks for first."""
    bad = {gate.name: gate.severity for gate in gates if not gate.passed}
    chains, draws = quantities[0].draws.shape
    note = f"{count(chains, 'chain')} × {draws:,}"
    figures = [Figure("draws", f"{chains * draws:,}", note, bad.get("chains", ""))]
    # NaN wins on purpose: a number that cannot be computed must not hide behind the others.
    rhat = float(np.max([quantity.rhat for quantity in quantities]))
    ess = float(np.min([(quantity.ess_bulk, quantity.ess_tail) for quantity in quantities]))
    poor = bad.get("ess_bulk", "") or bad.get("ess_tail", "")
    figures.append(Figure("largest R̂", fixed(rhat, 3), "", bad.get("rhat", "")))
    figures.append(Figure("smallest ESS", fixed(ess, 0), "bulk and tail", poor))
    stats = group(posterior, "sample_stats")
    for name, words, gate in (
        ("diverging", "divergences", "divergences"),
        ("solver_failed", "failed solves", "solver_failures"),
    ):
        if name in stats:
            values = stats[name].to_numpy()
            figures.append(Figure(words, f"{int((values != 0).sum()):,}", f"of {values.size:,}", bad.get(gate, "")))
    if covered is None:
        figures.append(Figure(f"{percent(PROB)} interval covers", "not known", "nothing to compare with"))
    else:
        figures.append(_coverage_figure(covered))
    if scored is not None:
        skill = [float(value) for value in scored["skill"].to_numpy()]
        status = "" if min(skill) > 0 else "warn"
        note = "against persistence" if len(skill) == 1 else f"worst of {len(skill)}, against persistence"
        figures.append(Figure("RMSE lower by", percent(float(np.min(skill))), note, status))
    return figures


def _coverage_figure(covered: xr.Dataset) -> Figure:
    """Coverage of the interval nearest to `PROB`, of the observation that misses it by most."""
    one = covered.sel(prob=PROB, method="nearest")
    miss = np.nan_to_num(np.abs(one["coverage"].to_numpy() - float(one["prob"])), nan=np.inf)
    worst = one.isel(observation=int(np.argmax(miss)))
    note = "of what was held out" if miss.size == 1 else f"{worst['observation'].item()}, worst of {miss.size}"
    status = "" if bool(one["within_joint_band"].all()) else "warn"
    return Figure(f"{percent(float(one['prob']))} interval covers", percent(float(worst["coverage"])), note, status)
