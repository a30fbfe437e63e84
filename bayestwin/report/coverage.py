"""Pictures that hold predictions against what was observed: coverage and residuals, and the residuals themselves."""

from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import scipy.special
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from bayestwin._base.wording import fixed, labelled, percent, scale_for
from bayestwin.assess.coverage import kept
from bayestwin.assess.residuals import MAX_CORRELATION, autocorrelation, normal_scores, successive, worth
from bayestwin.report import prose
from bayestwin.report.page import LIGHT, Picture, dots, figure, fitting, marker, picture
from bayestwin.report.reading import Period, TimeAxis, as_numbers
from bayestwin.report.series import dress_time
from bayestwin.telemetry.times import paired

# Residuals of a result: raw, and as scores that are standard normal and independent if the twin is right.


class Residuals(NamedTuple):
    """How one observation differs from its prediction in one part.

    Attributes:
        part: Which part of time.
        name: The observation.
        time: As numbers, shape (n,).
        raw: Observed − predictive median, shape (n,); NaN where not observed.
        scores: Normal scores, shape (n,): standard normal and independent if the twin is right. NaN as `raw`.
        unit: Of `raw`.
    """

    part: Period
    name: str
    time: np.ndarray
    raw: np.ndarray
    scores: np.ndarray
    unit: str


def residuals_of(parts: tuple[Period, ...]) -> tuple[Residuals, ...]:
    """Residuals of every observation in every part that has both observations and predictions."""
    found = []
    for name in parts[0].names:
        for part in parts:
            if part.bands is None or name not in part.observed or name not in part.draws:
                continue
            seen, told = (pd.Index(one["time"].to_numpy()) for one in (part.observed, part.draws))
            places = paired(seen, told)
            common = seen[places >= 0].to_numpy()
            values = part.observed[name].to_numpy().astype(float)[places >= 0]
            if not np.isfinite(values).any():
                continue
            draws = part.draws[name].isel(time=places[places >= 0]).transpose("chain", "draw", "time").to_numpy()
            unit = str(part.draws[name].attrs.get("units", ""))
            one = _residuals(part, name, as_numbers(xr.DataArray(common)), values, draws, unit)
            found += [one] if np.isfinite(one.raw).any() else []
    return tuple(found)


def residual_words(residuals: tuple[Residuals, ...], dependent: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """What the residuals say, one sentence for each observation and part; those in `dependent` may be correlated."""
    words = []
    for residual in residuals:
        raw = residual.raw[np.isfinite(residual.raw)]
        scale = scale_for(float(np.abs(raw).max()), residual.unit)
        rms = scale.factor * float(np.sqrt(np.mean(raw**2)))
        bias = scale.factor * float(raw.mean())
        digits = 1 if rms >= 10 else 2 if rms >= 1 else 3
        unit = f" {scale.unit}" if scale.unit else ""
        text = (
            f"`{residual.name}`, {residual.part.label}: residuals have mean {fixed(bias, digits)}{unit} and "
            f"root mean square {fixed(rms, digits)}{unit}."
        )
        first, pairs = successive([residual.scores])
        limit = band(residual.scores)
        if residual.name in dependent:
            text += " That successive ones are correlated is part of the twin: its noise or its states remember."
        elif not np.isfinite(first):
            text += " They are too few, or not finite, to tell whether successive ones are correlated."
        elif first > max(limit, MAX_CORRELATION):
            factor = worth(first, pairs + 1) ** -0.5
            text += (
                f" Successive ones are correlated ({fixed(first, 2)}): the twin leaves something out, and intervals of "
                f"what these tell together are too narrow by a factor of up to {fixed(factor, 1)}. Look for a missing "
                "input or state, or a gap in the inputs."
            )
        elif abs(first) > max(limit, 0.1):
            text += f" Successive ones are correlated beyond chance, but too little to matter ({fixed(first, 2)})."
        else:
            text += f" Successive ones are not correlated beyond chance ({fixed(first, 2)})."
        words.append(text)
    return tuple(words)


def _residuals(
    part: Period, name: str, time: np.ndarray, values: np.ndarray, draws: np.ndarray, unit: str
) -> Residuals:
    """Residuals from observations (n,) and predictive draws (chain, draw, n)."""
    flat = draws.reshape(-1, draws.shape[-1])
    scores = normal_scores(values, flat)
    usable = np.isfinite(scores)
    raw = np.full(values.shape, np.nan)
    raw[usable] = values[usable] - np.nanmedian(flat[:, usable], axis=0)
    return Residuals(part, name, time, raw, scores, unit)


def band(scores: np.ndarray) -> float:
    """Where 95 % of the autocorrelations of independent scores lie."""
    return 1.96 / np.sqrt(max(np.isfinite(scores).sum(), 1))


ACROSS = 4
MOST_LAGS = 24


def coverage_plot(found: xr.Dataset) -> Picture:
    """Empirical against nominal coverage, one panel an observation (see `bayestwin.assess.coverage`)."""
    names = [str(name) for name in found["observation"].to_numpy()]
    across = min(len(names), ACROSS)
    rows = -(-len(names) // across)
    drawn = figure((0.9 if across > 1 else 1.3) + 2.25 * rows, width=max(2.4 * across, 4.0))
    grid = drawn.subplots(rows, across, squeeze=False).ravel()
    for axes, name in zip(grid, names, strict=False):
        _cover(axes, found.sel(observation=name), name)
    for axes in grid[len(names) :]:
        axes.set_axis_off()
    level = percent(float(found.attrs["level"]))
    handles = [*legend(), Patch(facecolor=LIGHT["prior"], alpha=0.45, label=f"{level} band of all that is compared")]
    drawn.legend(handles=handles, loc="outside upper left", ncols=2, columnspacing=1.2)
    caption = (
        f"Share of held-out observations inside their {found.attrs['kind']}s against what was promised. Bars are the "
        f"bands of the table: all that is compared lies in its own with probability {level} if promises hold, errors "
        "that follow each other allowed for."
    )
    told = prose.listed(f"{name}: {prose.covered(found.sel(observation=name))}" for name in names)
    return picture(drawn, "coverage", f"Nominal against empirical coverage of {found.attrs['kind']}s. {told}.", caption)


def residual_plot(residuals: tuple[Residuals, ...], axis: TimeAxis) -> Picture:
    """Residuals over time, their normal scores against a normal, and the autocorrelation of the scores."""
    names = list(dict.fromkeys(residual.name for residual in residuals))
    drawn = figure(0.75 + 1.75 * len(names))
    grid = drawn.subplots(len(names), 3, squeeze=False, width_ratios=(2.6, 1, 1.15), sharex="col")
    for (over_time, against, lags), name in zip(grid, names, strict=True):
        own = [residual for residual in residuals if residual.name == name]
        _over_time(over_time, own)
        _against_normal(against, own)
        _autocorrelation(lags, own)
    dress_time(grid[-1, 0], axis, most=6)
    grid[-1, 1].set_xlabel("normal quantile")
    grid[-1, 2].set_xlabel("lag (samples)")
    parts = list(dict.fromkeys((residual.part.label, residual.part.colour) for residual in residuals))
    handles = [
        Line2D([], [], linestyle="", marker="o" if n == "calibration" else "s", markersize=4, color=c, label=n)
        for n, c in parts
    ]
    drawn.legend(handles=handles, loc="outside upper left", ncols=len(handles))
    caption = (
        "Left: observed − predictive median. Middle: normal scores of the observations within their "
        "predictive distribution; on the line if the noise model is right. Right: autocorrelation of the "
        "scores; inside the grey band if what is left is only noise. Calibration has seen its own part, which "
        "looks slightly better for it."
    )
    told = prose.listed(f"{r.name}, {r.part.label}: {prose.reach(r.raw, r.unit)}" for r in residuals)
    alt = f"Residuals over time, Q-Q plot of their normal scores, and autocorrelation. {told}."
    return picture(drawn, "residuals", alt, caption)


MARKS: dict[bool | None, tuple[str, str, Literal["full", "none"]]] = {
    True: ("o", LIGHT["pass"], "full"),
    False: ("X", LIGHT["fail"], "full"),
    None: ("o", LIGHT["muted"], "none"),
}
"""How a share is drawn whose interval kept its promise, did not, or of which that cannot be told."""


def legend(colour: str | None = None) -> list[Line2D]:
    """What the three marks mean; in one colour where colours mean something else."""
    words = {True: "as promised", False: "not as promised", None: "cannot be told"}
    return [
        Line2D([], [], linestyle="", marker=shape, markersize=5, color=colour or own, fillstyle=fill, label=words[good])
        for good, (shape, own, fill) in MARKS.items()
    ]


def mark_share(axes: Axes, at: float, one: xr.Dataset, colour: str | None = None) -> None:
    """Draw one share with its mark, over the band that decides on it."""
    shape, own, fill = MARKS[kept(one)]
    axes.vlines(at, one["joint_lower"], one["joint_upper"], color=LIGHT["prior"], alpha=0.45, linewidth=7, zorder=2)
    (dot,) = axes.plot([at], [float(one["coverage"])], shape, color=colour or own, markersize=5.5, zorder=3)
    dot.set(clip_on=False, fillstyle=fill)


def _cover(axes: Axes, found: xr.Dataset, name: str) -> None:
    """One panel: the diagonal, and at each nominal probability a band and the share found."""
    num = int(found["num"].max())
    title = f"{name}, n = {num:,}"
    axes.set_title(title, fontsize=fitting(title, 135, 9))
    axes.plot([0, 1], [0, 1], color=LIGHT["muted"], linewidth=0.7, dashes=(4, 3), zorder=1)
    for place, prob in enumerate(found["prob"].to_numpy()):
        mark_share(axes, prob, found.isel(prob=place))
    ticks = [0.0, 0.5, 1.0]
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_aspect("equal")
    axes.set_xticks(ticks, [percent(tick) for tick in ticks])
    axes.set_yticks(ticks, [percent(tick) for tick in ticks])
    axes.grid()
    subplot = axes.get_subplotspec()
    if subplot is None or subplot.is_first_col():
        axes.set_ylabel("observations inside")
    axes.set_xlabel("promised (prob)")


def _over_time(axes: Axes, own: list[Residuals]) -> None:
    scale = scale_for(max(float(np.nanmax(np.abs(r.raw))) for r in own if np.isfinite(r.raw).any()), own[0].unit)
    axes.set_title(labelled(own[0].name, scale.unit))
    many = sum(len(residual.raw) for residual in own)
    for residual in own:
        square = residual.part.label != "calibration"
        size, opacity = marker(many)
        dots(axes, residual.time, residual.raw * scale.factor, size, opacity, residual.part.colour, square=square)
    axes.axhline(0, color=LIGHT["muted"], linewidth=0.6)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="y")


def _against_normal(axes: Axes, own: list[Residuals]) -> None:
    """Q-Q plot of the normal scores; long series are thinned to 300 quantiles."""
    axes.axline((0, 0), slope=1, color=LIGHT["muted"], linewidth=0.7, dashes=(4, 3))
    for residual in own:
        scores = np.sort(residual.scores[np.isfinite(residual.scores)])
        count = min(len(scores), 300)
        shares = (np.arange(count) + 0.5) / max(count, 1)
        found = np.quantile(scores, shares) if len(scores) > 300 else scores
        size = 2.6 if count < 100 else 1.8
        square = residual.part.label != "calibration"
        dots(axes, scipy.special.ndtri(shares), found, size, 0.9, residual.part.colour, square=square)
    axes.set_title("normal scores")
    axes.set_ylim(-3.6, 3.6)
    axes.set_xlim(-3.4, 3.4)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid()


def _autocorrelation(axes: Axes, own: list[Residuals]) -> None:
    axes.set_title("autocorrelation")
    shortest = min(int(np.isfinite(residual.scores).sum()) for residual in own)
    most = max(1, min(MOST_LAGS, max(int(np.isfinite(r.scores).sum()) for r in own) // 2))
    wide = max(band(residual.scores) for residual in own)
    axes.axhspan(-wide, wide, color=LIGHT["rule"], alpha=0.7)
    axes.axhline(0, color=LIGHT["muted"], linewidth=0.6)
    for place, residual in enumerate(own):
        found = autocorrelation(residual.scores, most)
        lags = np.arange(1, most + 1) + 0.25 * place
        axes.vlines(lags, 0, found, color=residual.part.colour, linewidth=1.4)
    axes.set_ylim(-1 if shortest < 40 else -0.5, 1)
    axes.set_xlim(0, most + 1)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
