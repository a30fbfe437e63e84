"""The page about scenarios: the question of each, what is expected, and the differences from the baseline."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from bayestwin._base.wording import Written, decimals_for, fixed, number, percent, unit_text
from bayestwin.insight.expectations import BASELINE
from bayestwin.report.page import fill
from bayestwin.report.style import LIGHT, Picture, drawing, figure, picture
from bayestwin.report.tables import LATER

EARLIER = "earlier"
"""A difference where a first time comes, and never does in the baseline."""

MARKS = {"met": "pass", "missed": "fail", "undecided": "warn"}
"""How a verdict is marked."""


class DifferenceRow(NamedTuple):
    """One scenario in the table of a quantity; without differences for the baseline itself."""

    scenario: str
    median: str
    lower: str
    upper: str
    difference: str
    difference_lower: str
    difference_upper: str
    less: str


def render_scenarios(found: xr.DataTree, record: Mapping[str, Any], twin: str) -> str:
    """Write the page.

    Args:
        found: As `bt.scenario` returned it.
        record: The same as plain values, with what each scenario changes, and what flipped.
        twin: Name of the twin.

    Returns:
        The page as text, to be written as UTF-8.
    """
    comparison = found["comparison"].to_dataset()
    verdicts = [one["verdict"] for one in record["expectations"]]
    worst = next((kind for kind in ("missed", "undecided", "met") if kind in verdicts), None)
    with drawing():
        drawn = difference_plot(comparison)
    return fill(
        "scenario.html",
        {
            "name": twin,
            "prob": percent(float(comparison.attrs["prob"])),
            "status": "plain" if worst is None else MARKS[worst],
            "headline": _headline(verdicts),
            "expectations": [one | {"mark": MARKS[one["verdict"]]} for one in record["expectations"]],
            "flipped": record["flipped"],
            "scenarios": record["scenarios"],
            "quantities": [
                (name, str(comparison["units"].sel(quantity=name).item()), _rows(comparison.sel(quantity=name)))
                for name in map(str, comparison["quantity"].to_numpy())
            ],
            "loss": found.attrs["loss"],
            "losses": _losses(comparison),
            "picture": drawn,
            "run": record["run"],
        },
    )


def _headline(verdicts: list[str]) -> str:
    missed, open_ = verdicts.count("missed"), verdicts.count("undecided")
    if not verdicts:
        return "Nothing is expected of these scenarios."
    if missed:
        return f"{missed} of {len(verdicts)} expectations are missed."
    return f"{open_} of {len(verdicts)} expectations cannot be decided." if open_ else "All expectations are met."


def _rows(own: xr.Dataset) -> list[DifferenceRow]:
    """The table of one quantity."""
    rows = []
    for name in map(str, own["scenario"].to_numpy()):
        one = {str(key): float(value) for key, value in own.sel(scenario=name).data_vars.items()}
        values = _written([one[key] for key in ("median", "lower", "upper")])
        keys = ("difference", "difference_lower", "difference_upper")
        apart = [""] * 3 if name == BASELINE else _written([one[key] for key in keys])
        same = one["difference_lower"] == one["difference_upper"] == 0.0
        less = "" if name == BASELINE or same else percent(one["less"])
        rows.append(DifferenceRow(name, values[0], values[1], values[2], apart[0], apart[1], apart[2], less))
    return rows


def _written(ends: list[float]) -> list[str]:
    """Median, lower and upper end with as many decimals as they are worth."""
    spread = ends[2] - ends[1]
    if not math.isfinite(spread) or spread <= 1e-6 * abs(ends[0]):
        return [number(end, 4) if math.isfinite(end) else Written(LATER if end > 0 else EARLIER, end) for end in ends]
    return [fixed(end, decimals_for(spread)) for end in ends]


def _losses(comparison: xr.Dataset) -> list[tuple[str, str, str, str]]:
    """Expected loss, probability of being the best and expected regret, by scenario."""
    if "best" not in comparison:
        return []
    rows = []
    for name in map(str, comparison["scenario"].to_numpy()):
        own = comparison.sel(scenario=name)
        loss, best, regret = (float(own[key]) for key in ("expected_loss", "best", "regret"))
        rows.append((name, number(loss, 4), percent(best), number(regret, 3)))
    return rows


def difference_plot(comparison: xr.Dataset) -> Picture | None:
    """Differences from the baseline with their intervals, one panel a quantity; None where there is nothing to see."""
    names = [str(name) for name in comparison["scenario"].to_numpy() if name != BASELINE]
    keys = ("difference_lower", "difference", "difference_upper")
    table = np.stack([comparison[key].sel(scenario=names).transpose("quantity", "scenario").to_numpy() for key in keys])
    shown = [place for place in range(table.shape[1]) if np.isfinite(table[:, place]).any() and np.any(table[:, place])]
    if not names or not shown:
        return None
    across = min(len(shown), 3)
    down = -(-len(shown) // across)
    drawn = figure(down * (0.75 + 0.26 * len(names)))
    grid = drawn.subplots(down, across, squeeze=False, sharey=True).ravel()
    places = np.arange(len(names))[::-1]
    for axes, place in zip(grid, shown, strict=False):
        lower, middle, upper = table[:, place]
        axes.axvline(0.0, color=LIGHT["muted"], linewidth=0.8)
        axes.hlines(places, lower, upper, color=LIGHT["calibrated"], linewidth=3.0)
        axes.plot(middle, places, "o", color=LIGHT["calibrated"], markersize=5.0)
        axes.set_yticks(places, names)
        axes.set_ylim(-0.6, len(names) - 0.4)
        unit = unit_text(str(comparison["units"].to_numpy()[place]))
        axes.set_title(str(comparison["quantity"].to_numpy()[place]))
        axes.set_xlabel(f"difference from the baseline ({unit})" if unit else "difference from the baseline")
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    prob = percent(float(comparison.attrs["prob"]))
    return picture(
        drawn,
        "differences",
        f"Differences of {', '.join(names)} from the baseline.",
        f"What each scenario changes against the baseline: dots are medians, lines {prob} intervals of the difference, "
        "draw by draw.",
    )
