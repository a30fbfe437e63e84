"""Pictures of a validation: coverage by horizon and regime, ranks of the observations, skill against simple methods."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bayestwin._base.wording import fixed, percent
from bayestwin.assess.evidence import Evidence
from bayestwin.assess.places import group_names
from bayestwin.assess.validated import BACKTEST, HELD_OUT
from bayestwin.report import words as spoken
from bayestwin.report.doubts import SIMPLE
from bayestwin.report.style import LIGHT, WIDTH, Picture, figure, fitting, picture

COLOURS = {"raw": LIGHT["heldout"], "conformal": LIGHT["calibrated"]}
PARTS = {HELD_OUT: LIGHT["heldout"], BACKTEST: LIGHT["calibrated"]}
MARKERS = {HELD_OUT: "o", BACKTEST: "s"}
LOWEST_SKILL = -1.0


def coverage_by(tables: Mapping[str, xr.Dataset], dim: str, prob: float, time_unit: str) -> Picture | None:
    """Coverage of the interval of probability `prob` in groups: a row an observation, a column a kind of forecasts.

    Args:
        tables: Coverage (dim, observation, prob), perhaps with `kind`, by kind of forecasts.
        dim: What is told apart.
        prob: As above.
        time_unit: Unit of horizons.
    """
    if not tables:
        return None
    names = [str(name) for name in next(iter(tables.values()))["observation"].to_numpy()]
    drawn = figure(0.9 + 2.0 * len(names))
    grid = drawn.subplots(len(names), len(tables), squeeze=False)
    kinds = ["raw"]
    for column, (part, table) in enumerate(tables.items()):
        own = table.sel(prob=prob, method="nearest")
        kinds = [str(kind) for kind in own["kind"].to_numpy()] if "kind" in own.dims else kinds
        labels = group_names(table, dim, time_unit)
        for axes, name in zip(grid[:, column], names, strict=True):
            _groups(axes, own.sel(observation=name), labels, prob, 0.85 * 72 * WIDTH / len(tables))
            title = f"{name}, {part}"
            axes.set_title(title, fontsize=fitting(title, 300 / len(tables) * 2, 9))
    for axes in grid[:, 0]:
        axes.set_ylabel("observations inside")
    for axes in grid[-1]:
        axes.set_xlabel("how far ahead" if dim == "horizon" else dim)
    handles: list[Artist] = [
        Line2D([], [], linestyle="", marker="o", color=COLOURS[k], label=f"{k} interval{side}")
        for k, side in zip(kinds, (" (left)", " (right)") if len(kinds) > 1 else ("",), strict=True)
    ]
    handles.append(Patch(facecolor=LIGHT["prior"], alpha=0.45, label="where chance lets it lie"))
    drawn.legend(handles=handles, loc="outside upper left", ncols=3)
    caption = (
        f"Share of observations inside their {percent(prob)} interval; the dashed line is what was promised. Grey bars "
        "are bands in which all groups of a panel lie with 95 % probability if intervals hold and errors are "
        "independent. Crosses lie outside the wider bands of all that the verdict compares, dependence allowed for."
    )
    told = _grouped(tables, names, dim, prob, time_unit)
    alt = f"Coverage of the raw {percent(prob)} equal-tailed interval by {dim}. {told}."
    return picture(drawn, f"by-{names_safe(dim)}", alt, caption)


def _grouped(tables: Mapping[str, xr.Dataset], names: list[str], dim: str, prob: float, time_unit: str) -> str:
    """Coverage of each group in words, of raw intervals."""
    told = []
    for part, table in tables.items():
        own = table.sel(prob=prob, method="nearest")
        own = own.sel(kind="raw") if "kind" in own.dims else own
        for name in names:
            pairs = zip(group_names(table, dim, time_unit), own["coverage"].sel(observation=name).values, strict=True)
            known = [f"{label} {percent(float(share))}" for label, share in pairs if np.isfinite(share)]
            told.append(f"{name}, {part}: " + (", ".join(known) or "nothing observed"))
    return spoken.listed(told)


def names_safe(text: str) -> str:
    """Text as part of an id."""
    return "".join(letter if letter.isascii() and letter.isalnum() else f"-{ord(letter)}-" for letter in text)


def pit_plot(tables: Mapping[str, xr.Dataset]) -> Picture:
    """How far the distribution of PITs lies from a uniform one: a panel for each observation and kind of forecasts."""
    names = [str(name) for name in next(iter(tables.values()))["observation"].to_numpy()]
    drawn = figure(0.75 + 1.7 * len(names))
    grid = drawn.subplots(len(names), len(tables), squeeze=False, sharex=True)
    for column, (part, table) in enumerate(tables.items()):
        at = table["z"].to_numpy()
        for axes, name in zip(grid[:, column], names, strict=True):
            own = table.sel(observation=name)
            axes.fill_between(at, own["band_lower"] - at, own["band_upper"] - at, color=LIGHT["prior"], alpha=0.35)
            colour, dash = (LIGHT["pass"], "-") if bool(own["within_band"]) else (LIGHT["fail"], "--")
            axes.plot(at, own["ecdf"] - at, color=colour, linestyle=dash, linewidth=1.4)
            axes.axhline(0, color=LIGHT["muted"], linewidth=0.6)
            axes.set_title(f"{name}, {part} (n = {int(own['num']):,})")
            axes.grid(axis="y")
    for axes in grid[-1]:
        axes.set_xlabel("PIT")
    for axes in grid[:, 0]:
        axes.set_ylabel("share below − PIT")
    handles = [
        Line2D([], [], color=LIGHT["pass"], label="inside its band"),
        Line2D([], [], color=LIGHT["fail"], linestyle="--", label="outside"),
        Patch(facecolor=LIGHT["prior"], alpha=0.35, label="95 % simultaneous band"),
    ]
    drawn.legend(handles=handles, loc="outside upper left", ncols=3)
    caption = (
        "The PIT of an observation is the share of the predictive draws below it. If the forecast is right, all values "
        "are equally likely and the curve stays in the band. Above the line throughout: forecasts are too high; below: "
        "too low. Above at the left and below at the right: intervals are too narrow; the reverse: too wide."
    )
    told = []
    for part, table in tables.items():
        for name in names:
            own = table.sel(observation=name)
            far = float(np.abs(own["ecdf"] - own["z"]).max())
            where = "inside" if bool(own["within_band"]) else "outside"
            told.append(f"{name}, {part}: {where} its band, at most {fixed(far, 3)} away, n = {int(own['num']):,}")
    alt = f"PIT against a uniform distribution, with bands. {spoken.listed(told)}."
    return picture(drawn, "pit", alt, caption)


def skill_plot(tables: Mapping[str, xr.Dataset]) -> Picture | None:
    """Skill of each observation against each simple method; None where there is none to compare with."""
    rows = [
        (str(name), words, {part: float(table[skill].sel(observation=name)) for part, table in tables.items()})
        for name in next(iter(tables.values()))["observation"].to_numpy()
        for skill, words in SIMPLE.items()
        if all(skill in table for table in tables.values())
    ]
    rows = [row for row in rows if np.isfinite(list(row[2].values())).any()]
    if not rows:
        return None
    drawn = figure(0.85 + 0.3 * len(rows))
    axes = drawn.subplots()
    for place, (_, _, skills) in enumerate(rows):
        for part, skill in skills.items():
            if np.isfinite(skill):
                marker = "<" if skill < LOWEST_SKILL else MARKERS[part]
                axes.plot([max(skill, LOWEST_SKILL)], [place], marker=marker, color=PARTS[part], clip_on=False)
    axes.axvline(0, color=LIGHT["ink"], linewidth=0.8)
    axes.set_yticks(range(len(rows)), [f"{name}, against {words}" for name, words, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(LOWEST_SKILL, 1.0)
    axes.set_xlabel("skill (1 − RMSE / RMSE of the simple method)")
    axes.grid()
    handles = [Line2D([], [], linestyle="", marker=MARKERS[part], color=PARTS[part], label=part) for part in tables]
    drawn.legend(handles=handles, loc="outside upper left", ncols=2)
    caption = (
        "Right of the line the twin comes closer than the simple method: 1 is perfect, 0 no better. Arrows at the left "
        "edge are worse than −1."
    )
    told = spoken.listed(
        f"{name}, {part}, against {words}: {fixed(skill, 2)}"
        for name, words, skills in rows
        for part, skill in skills.items()
    )
    return picture(drawn, "skill", f"Skill of the twin against simple methods. {told}.", caption)


def by_tables(
    evidences: Mapping[str, Evidence], raw: Mapping[str, Evidence], dim: str, prob: float
) -> dict[str, xr.Dataset]:
    """Coverage in groups by kind of forecasts, of raw and conformal intervals where there are both at `prob`."""
    found = {}
    for part, evidence in raw.items():
        if dim not in evidence.by:
            continue
        both = evidences.get(part)
        compared = both is not None and dim in both.by and _seen(both.by[dim], prob)
        found[part] = both.by[dim] if both is not None and compared else evidence.by[dim]
    return found


def _seen(table: xr.Dataset, prob: float) -> bool:
    """Whether anything was observed that has an interval of probability `prob`."""
    return bool((table["num"].sel(prob=prob, method="nearest") > 0).any())


def _groups(axes: Axes, own: xr.Dataset, labels: list[str], prob: float, room: float) -> None:
    """One panel, `room` points wide: a band, and the shares of each kind, for each group."""
    kinds = [str(kind) for kind in own["kind"].to_numpy()] if "kind" in own.dims else [""]
    for shift, kind in zip(np.linspace(-0.15, 0.15, len(kinds)) if len(kinds) > 1 else [0.0], kinds, strict=True):
        one = own.sel(kind=kind) if kind else own
        lower, upper, inside = (one[name].to_numpy() for name in ("band_lower", "band_upper", "within_joint_band"))
        for place, share in enumerate(one["coverage"].to_numpy()):
            if not np.isfinite(share):
                continue
            at = place + shift
            axes.vlines(at, lower[place], upper[place], color=LIGHT["prior"], alpha=0.45, linewidth=7)
            good = bool(inside[place])
            colour = COLOURS[kind or "raw"]
            axes.plot([at], [share], marker="o" if good else "X", markersize=5.5, color=colour, clip_on=False, zorder=3)
    axes.axhline(prob, color=LIGHT["muted"], linewidth=0.7, dashes=(4, 3))
    texts = [label.replace(" to ", " to\n") for label in labels]
    longest = max((line for text in texts for line in text.split("\n")), key=len)
    axes.set_xticks(range(len(labels)), texts, fontsize=fitting(longest, 0.9 * room / len(labels), 8))
    axes.set_xlim(-0.6, len(labels) - 0.4)
    axes.set_ylim(min(0.5, axes.get_ylim()[0]), 1.02)
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
    shown = [tick for tick in ticks if tick >= axes.get_ylim()[0]]
    axes.set_yticks(shown, [percent(tick) for tick in shown])
    axes.grid(axis="y")
