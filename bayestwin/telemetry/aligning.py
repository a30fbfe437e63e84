"""Several sources of telemetry as one: where their times are exactly the same, or resampled as the user declares."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np
import pandas as pd

from bayestwin.errors import InvalidTelemetry
from bayestwin.telemetry.mending import Fill, FillHow, filled
from bayestwin.telemetry.record import Telemetry, Zone, sealed, time_in
from bayestwin.telemetry.times import Clock, counted, length_of

type ResampleHow = Literal["mean", "last", "interpolate"]
type Side = Literal["left", "right"]

SLACK = 1e-9
"""Share of a step that counts as nothing, where times are numbers."""


class Resampling(NamedTuple):
    """Where resampled values lie.

    Attributes:
        every: Step of the grid: whole nanoseconds for dates, else a number; multiples of it are the grid.
        window: Length of the window of a mean or of a last value, and the widest gap that is interpolated; None for
            one step of the grid, and for one and a half usual steps of the source.
        side: At which end of its window a time lies.
    """

    every: int | float
    window: int | float | None
    side: Side | None


def align(
    sources: Mapping[str, Telemetry],
    *,
    every: str | float | None = None,
    how: Mapping[str, ResampleHow] | None = None,
    side: Side | None = None,
    window: str | float | None = None,
    t0: Any = None,
    fill: Mapping[str, FillHow | Fill] | None = None,
) -> Telemetry:
    """Join telemetry of several sources, exactly or by a resampling that is declared column by column.

    Without `every` all sources must have the very same times. With it, values are put on the multiples of `every`
    (dates: counted from midnight UTC of 1970-01-01) that lie in the record of every source; nothing is extrapolated.
    With `side="left"` a time t stands for the window [t, t + window), with `"right"` for (t - window, t], so that
    nothing later than t is in it.

    Args:
        sources: Telemetry by the name of its source, which messages use; their columns must have different names.
        every: Step of the grid, `"15min"` for dates or a number for times that are numbers.
        how: For each column, what stands in its place: `"mean"` of the values in the window, the `"last"` of them, or
            `"interpolate"`, linear between the values on either side of t. Where there is no value it is NaN.
        side: At which end of its window a time lies; to be said where a mean or a last value is taken.
        window: Length of windows, by default `every`; values further apart are not interpolated between, by default
            further than one and a half usual steps of their source.
        t0: When the initial state holds, in the zone that all sources declare if it has no offset; by default the
            first time.
        fill: How cells that are still missing are filled, by column, as `read_telemetry` takes it.

    Returns:
        One telemetry with all columns; `notices` says what was left out, `settings` how it was made and of what.

    Raises:
        InvalidTelemetry: If times differ and no resampling is declared, a column has none or is a feature, names are
            there twice, or dates and numbers are mixed.
    """
    _check_sources(sources)
    features = [feature for one in sources.values() for feature in one.settings.get("features", ())]
    if every is None:
        _check_exact(sources)
        if how or side or window is not None:
            _refuse("`how`, `side` or `window` is given without `every`.", "`every` with them", "none", "Pass `every`.")
        table = pd.concat([one.table for one in sources.values()], axis="columns")
        notices: list[str] = []
    else:
        if features:
            _refuse_features([name for name, *_ in features])
        how = dict(how or {})
        _check_how(sources, how, side)
        grid = _grid(sources, every, window, side)
        table, notices = _resampled(sources, grid, how)
    units = {name: unit for one in sources.values() for name, unit in one.units.items()}
    notices = [*(f"{name}: {said}" for name, one in sources.items() for said in one.notices), *notices]
    declared = {"every": every, "how": how and sorted(how.items()), "side": side, "window": window}
    settings = {name: value if name == "how" else str(value) for name, value in declared.items() if value is not None}
    settings["sources"] = [(name, one.sha256) for name, one in sources.items()]
    if features:
        settings["features"] = features
    if (zone := _zone(sources)) is not None:
        settings["timezone"] = zone
    renamed = {new: old for one in sources.values() for new, old in one.renamed.items()}
    if fill:
        clock = Clock(zone if isinstance(zone, str) else None)
        labels = {name: f"`{name}`" for name in map(str, table.columns)}
        table, told, settings["fill"] = filled(table, fill, clock, labels)
        notices += told
    start = table.index[0] if t0 is None else time_in(t0, table.index, zone, "t0")
    source = ", ".join(f"{name}: {one.source}" for name, one in sources.items())
    texts = {name: text for one in sources.values() for name, text in one.texts.items()}
    return sealed(table, units, start, source, tuple(notices), settings, renamed, texts)


def _zone(sources: Mapping[str, Telemetry]) -> Zone:
    """The zone that all sources declare; all of them where they differ, and None where none does."""
    if all(one.timezone is None for one in sources.values()):
        return None
    zones = {}
    for one in sources.values():
        own = one.timezone or "UTC"
        zones |= dict.fromkeys([own] if isinstance(own, str) else own)
    return next(iter(zones)) if len(zones) == 1 else sorted(zones)


def _resampled(
    sources: Mapping[str, Telemetry], grid: Resampling, how: Mapping[str, ResampleHow]
) -> tuple[pd.DataFrame, list[str]]:
    """All columns on the grid, and what that left out."""
    spans = {}
    for one in sources.values():
        times = counted(one.table.index)
        spans |= {column: _span(times, grid, how[column]) for column in one.table.columns}
    low, high = max(start for start, _ in spans.values()), min(end for _, end in spans.values())
    first, last = _multiples(low, high, grid.every)
    if last < first:
        shown = "; ".join(
            f"`{name}` from {t.shown(t.table.index[0])} to {t.shown(t.table.index[-1])}" for name, t in sources.items()
        )
        _refuse("The sources have no time in common.", "records that overlap by a window", shown, "Check their times.")
    at = np.arange(first, last + 1) * grid.every
    columns, notices = {}, []
    for name, one in sources.items():
        times = counted(one.table.index)
        reach = grid.every if grid.window is None else grid.window
        outside = int(np.sum((times < at[0] - reach) | (times > at[-1] + reach)))
        if outside:
            notices.append(f"{outside} of {times.size} rows of {name} lie outside the time that all sources share.")
        for column in one.table.columns:
            columns[column] = _one(times, one.table[column].to_numpy(np.float64), at, grid, how[column])
            if empty := int(np.isnan(columns[column]).sum()):
                notices.append(f"`{column}` has no value at {empty} of {at.size} times ({how[column]}).")
    dated = next(iter(sources.values())).dated
    index = pd.DatetimeIndex(at.astype("datetime64[ns]")) if dated else pd.Index(at)
    return pd.DataFrame(columns, index=index.rename("time")), notices


def _multiples(low: float, high: float, every: float) -> tuple[int, int]:
    """The first and the last multiple of a step between two times; whole numbers are counted exactly."""
    if isinstance(every, int):
        return -(-int(low) // every), int(high) // every
    return int(np.ceil(low / every - SLACK)), int(np.floor(high / every + SLACK))


def _usual(times: np.ndarray) -> int | float:
    """The usual step between times, of their own type."""
    return times.dtype.type(np.median(np.diff(times))).item() if times.size > 1 else 0


def _span(times: np.ndarray, grid: Resampling, how: ResampleHow) -> tuple[float, float]:
    """The first and the last time that a source can say something about: one whose whole window it covers."""
    first, last = times[0].item(), times[-1].item()
    if how == "interpolate":
        return first, last
    length = grid.every if grid.window is None else grid.window
    # a sample stands for one usual step, so that hourly ones from 0 to 23 fill a day
    if grid.side == "left":
        return first, last + _usual(times) - length
    return first - _usual(times) + length, last


def _one(times: np.ndarray, values: np.ndarray, at: np.ndarray, grid: Resampling, how: ResampleHow) -> np.ndarray:
    """One column on the grid; shape (g,)."""
    there = np.isfinite(values)
    times, values = times[there], values[there]
    if not values.size:
        return np.full(at.size, np.nan)
    # times that are no whole numbers are equal where they differ by rounding alone
    slack = 0 if isinstance(grid.every, int) else SLACK * grid.every
    if how == "interpolate":
        return _between(times, values, at, grid.window, slack)
    length = grid.every if grid.window is None else grid.window
    left = grid.side == "left"
    ends = (at - slack, at + length - slack) if left else (at - length + slack, at + slack)
    low, high = (np.searchsorted(times, end, "left" if left else "right") for end in ends)
    filled = high > low
    if how == "last":
        return np.where(filled, values[(high - 1).clip(0)], np.nan)
    # pairs of limits: every second sum is that of a window; a zero at the end lets a limit lie there
    sums = np.add.reduceat(np.append(values, 0.0), np.stack([low, high], axis=1).ravel())[::2]
    return np.where(filled, sums / np.maximum(high - low, 1), np.nan)


def _between(
    times: np.ndarray, values: np.ndarray, at: np.ndarray, window: int | float | None, slack: float
) -> np.ndarray:
    """Values between their neighbours, where these lie close enough; shape (g,)."""
    widest = 1.5 * _usual(times) if window is None else window
    after = np.searchsorted(times, at - slack, "left").clip(0, times.size - 1)
    before = (np.searchsorted(times, at + slack, "right") - 1).clip(0, times.size - 1)
    inside = (times[before] <= at + slack) & (at <= times[after] + slack)
    inside &= times[after] - times[before] <= widest + slack
    start = at[0]  # whole nanoseconds since 1970 have more digits than np.interp keeps
    return np.where(
        inside, np.interp((at - start).astype(np.float64), (times - start).astype(np.float64), values), np.nan
    )


def _grid(
    sources: Mapping[str, Telemetry], every: str | float, window: str | float | None, side: Side | None
) -> Resampling:
    dated = next(iter(sources.values())).dated

    def length(argument: str, value: Any) -> int | float:
        span = length_of(value, dated=dated)
        if span is not None and span > 0:
            return span
        expected = "a duration such as `'15min'`" if dated else "a positive number, in the unit of the times"
        return _refuse(f"`{argument}` is no length of time.", expected, repr(value), "Correct it.")

    return Resampling(length("every", every), None if window is None else length("window", window), side)


def _check_sources(sources: Mapping[str, Telemetry]) -> None:
    wrong = [name for name, one in sources.items() if not isinstance(one, Telemetry)]
    if not sources or wrong:
        received = f"no telemetry in {', '.join(f'`{name}`' for name in wrong)}" if wrong else "no source"
        _refuse("There is nothing to align.", "bt.Telemetry by the name of its source", received, "Read them first.")
    if len({one.dated for one in sources.values()}) > 1:
        shown = ", ".join(f"`{name}` has {'dates' if one.dated else 'numbers'}" for name, one in sources.items())
        _refuse("Sources with dates and with numbers cannot be aligned.", "one kind", shown, "Give all of them dates.")
    units = {name: one.units.get("time", "the twin's unit") for name, one in sources.items()}
    if len(set(units.values())) > 1:
        shown = ", ".join(f"`{name}` in {unit}" for name, unit in units.items())
        _refuse("The times of the sources count in different units.", "one unit of time", shown, "Convert them first.")
    home: dict[str, str] = {}
    for name, one in sources.items():
        for column in one.table.columns:
            if column in home:
                shown = f"`{column}` in `{home[column]}` and in `{name}`"
                _refuse("Two sources have a column of one name.", "each name once", shown, "Pass `rename=` to one.")
            home[column] = name


def _refuse_features(names: list[str]) -> None:
    # Telemetry knows how much older than t what a feature is made of is, so that no input tells a twin the observation
    # that it is to explain. Values that stand for windows do not keep that: the mean over the last hour of "five
    # minutes ago" holds most of the values that the mean of the observation over that hour is made of, and a statistic
    # up to a time holds a part of the window around it. Made after aligning, a lag is one between windows.
    _refuse(
        f"`{names[0]}` is a feature, and after resampling nobody would know from when on it is known.",
        "sources with columns as they were recorded, where `every` is given",
        ", ".join(f"`{name}`" for name in names),
        "Add features after aligning: `bt.add_features(bt.align(…), …)`. Those over shorter times than `every` need "
        "sources of the same times, aligned without it.",
    )


def _check_how(sources: Mapping[str, Telemetry], how: Mapping[str, ResampleHow], side: Side | None) -> None:
    columns = [column for one in sources.values() for column in one.table.columns]
    shown = ", ".join(f"`{column}`" for column in columns)
    for column in columns:
        if how.get(column) not in ("mean", "last", "interpolate"):
            _refuse(
                f"How `{column}` is to be resampled is not said.",
                "`how` with 'mean', 'last' or 'interpolate' for each column",
                f"{how.get(column)!r}" if column in how else "nothing for it",
                f"The columns are {shown}.",
            )
    if unknown := [name for name in how if name not in columns]:
        _refuse(f"`how` names `{unknown[0]}`, which no source has.", shown, f"`{unknown[0]}`", "Correct the name.")
    if side not in ("left", "right") and (side is not None or set(how.values()) != {"interpolate"}):
        _refuse(
            "At which end of its window a time lies is not said.",
            "`side='left'` for [t, t + window) or `side='right'` for (t - window, t]",
            repr(side),
            "A forecast at time t may only use what is known then: `side='right'`.",
        )


def _check_exact(sources: Mapping[str, Telemetry]) -> None:
    """Refuse sources whose times are not the same to the last bit: a join would drop or double rows."""
    first, *others = sources.items()
    for name, one in others:
        ours, theirs = first[1].table.index, one.table.index
        if ours.equals(theirs):
            continue
        alone, theirs_alone = ours.difference(theirs), theirs.difference(ours)
        near = ""
        if not one.dated and alone.size and theirs_alone.size:
            gap = np.abs(alone.to_numpy()[:, None][:1000] - theirs_alone.to_numpy()[None, :1000]).min()
            near = f"; the closest of these differ by {gap:.3g}"
        _refuse(
            f"`{first[0]}` and `{name}` have different times.",
            "the very same times in all sources, or a declared resampling",
            f"{alone.size} times only in `{first[0]}`, {theirs_alone.size} only in `{name}`{near}",
            "Pass `every=`, `how=` and `side=`, or round the times first where they differ by rounding alone.",
        )


def _refuse(problem: str, expected: str, received: str, advice: str) -> NoReturn:
    raise InvalidTelemetry(problem, expected=expected, received=received, advice=advice)
