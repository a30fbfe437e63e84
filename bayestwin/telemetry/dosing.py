"""Dosing tables with NONMEM's columns, written out as events: doses at once, infusions, and their repetitions."""

import math
import pathlib
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bayestwin.errors import InvalidTelemetry
from bayestwin.telemetry.sources import read_source

# Tables are `Any` within this file: stubs of pandas do not tell a column from a table.

COLUMNS = ("AMT", "RATE", "II", "ADDL", "SS", "EVID", "MDV", "CMT")
"""What a table says about doses; time and subject stand beside them."""

LEFT_OUT = 30
"""Half-lives before a dose at steady state from which on earlier ones are left out: 2⁻³⁰ of them is there still."""

MOST_BEFORE = 10_000
"""Earlier doses are no more than these."""


class Dose(NamedTuple):
    """One dose.

    Attributes:
        time: When it begins.
        amount: How much.
        rate: Of an infusion, per time; 0 for all at once.
        compartment: Where it goes, as the table has it.
    """

    time: float
    amount: float
    rate: float
    compartment: Hashable


def read_doses(
    data: str | pathlib.Path | pd.DataFrame,
    *,
    time: str = "TIME",
    by: str = "ID",
    observed: Sequence[str] = ("DV",),
    half_life: float | None = None,
) -> pd.DataFrame:
    """Read a table with NONMEM's columns, its doses written out as events for `read_telemetry`.

    With several subjects it is for `read_experiments(by=…)`.

    Rows with `EVID` 1 are doses, and so are those with an `AMT` and no `EVID`: at once where `RATE` is 0 or absent,
    else an infusion that takes `AMT / RATE`. They are repeated `ADDL` times, each `II` after the one before. With `SS`
    1 a dose is the latest of an endless series `II` apart; of that series those of the last 30 half-lives are written
    out, so that less than 1e-9 of what earlier ones left is missing, if `half_life` is at least the slowest half-life
    of the twin. All other rows are observations; those with `MDV` 1 or `EVID` 2 are times without one. What lies after
    the last row of a subject is left out.

    Args:
        data: Path of a CSV file (`.` is a missing value), or the table. Names of columns may differ in case.
        time: Column of the times, which are numbers.
        by: Column of the subjects, where there is one.
        observed: Columns of observations; what the others say, on a dose's row too, is known from then on.
        half_life: The longest half-life that is plausible, in the unit of the times, where a dose is at steady state.

    Returns:
        A row for each time: `dose`, what is given at once at that time; `infusion`, the rate from then on, all
        infusions together; both missing where nothing changes, and followed by `_<CMT>` where doses go to several
        compartments; and the columns that do not concern doses. An observation at the time of a dose is from before
        it.

    Raises:
        InvalidTelemetry: If it has no doses, or says something that is not known here: rates below 0 (durations that
            are inferred), resets (`EVID` 3 and 4, `SS` 2), a steady state after other doses, an amount where nothing
            is given. It names the row, counted from 1 below the names of the columns.
    """
    table: Any = read_source(data).table.replace(".", np.nan).reset_index(drop=True)
    known = {column.upper(): column for column in map(str, table.columns)}
    table = table.rename(columns={known[name]: name for name in COLUMNS if name in known})
    time, subject = known.get(time.upper(), time), known.get(by.upper(), by)
    for name, what in ((time, "times"), ("AMT", "amounts")):
        if name not in table.columns:
            raise _refused(f"The dosing table has no {what}.", f"a column `{name}`", ", ".join(known.values()))
    table = table.assign(
        **{name: _numbers(table, name) for name in (time, *COLUMNS) if name in table and name != "CMT"}
    )
    groups = [(None, table)] if subject not in table.columns else list(table.groupby(subject, sort=False))
    expanded = [(name, _doses_of(rows, time, subject, half_life), rows) for name, rows in groups]
    places = list(dict.fromkeys(dose.compartment for _, doses, _ in expanded for dose in doses))
    if not places:
        raise _refused("The dosing table has no doses.", "rows with an `AMT` above 0", f"{len(table)} rows without one")
    names = {place: f"_{place:g}" if isinstance(place, float) else f"_{place}" for place in places}
    names = names if len(places) > 1 else {places[0]: ""}
    observed = [known[name.upper()] for name in observed if name.upper() in known]
    parts = [_written_out(doses, rows, (time, *observed), names) for _, doses, rows in expanded]
    whole: Any = pd.concat(parts, ignore_index=True)
    given = [f"{kind}{ending}" for ending in names.values() for kind in ("dose", "infusion")]
    given = [column for column in given if column in whole.columns and whole[column].notna().any()]
    rest = [column for column in table.columns if column not in (*COLUMNS, time, subject)]
    leading = [subject] if subject in table.columns else []
    return whole[[*leading, time, *given, *rest]]


def _numbers(table: Any, name: str) -> np.ndarray:
    numbers: Any = pd.to_numeric(table[name], errors="coerce")
    text = table[name].notna() & numbers.isna() & (table[name].astype(str).str.strip() != ".")
    if text.any():
        place = int(np.flatnonzero(text)[0])
        words = f"Column `{name}` has text in row {place + 1} of the dosing table."
        raise _refused(words, "numbers", f"{table[name].iloc[place]!r}")
    return numbers.to_numpy(float)


def _column(rows: Any, name: str) -> np.ndarray:
    """A column, 0 where the table has none or nothing in it."""
    return np.nan_to_num(rows[name].to_numpy(float)) if name in rows else np.zeros(len(rows))


def _is_dose(rows: Any) -> np.ndarray:
    given = (_column(rows, "AMT") > 0.0) | (_column(rows, "RATE") != 0.0)
    if "EVID" not in rows:
        return given
    event = rows["EVID"].to_numpy(float)
    return np.where(np.isnan(event), given, event == 1.0)


def _doses_of(rows: Any, time: str, subject: str, half_life: float | None) -> list[Dose]:
    """All doses of one subject up to its last row."""
    given, found = rows[_is_dose(rows)], list[Dose]()
    whose = [f"{subject} {one}, " for one in rows[subject]] if subject in rows else [""] * len(rows)
    named = {
        number: f"Row {number + 1} of the dosing table ({one}{time} {at:g})"
        for number, one, at in zip(rows.index, whose, rows[time], strict=True)
    }
    for number in rows.index[np.isin(_column(rows, "EVID"), [3.0, 4.0])][:1]:
        advice = "Give what follows a reset as another subject, with `initial=` as it is then."
        told = f"EVID {rows['EVID'][number]:g}"
        raise _refused(f"{named[number]} resets its compartments.", "EVID 0, 1 or 2", told, advice)
    unknown = ~np.isin(_column(rows, "EVID"), [0.0, 1.0, 2.0])
    lost = ((_column(rows, "AMT") != 0.0) | (_column(rows, "RATE") != 0.0)) & ~_is_dose(rows)
    for place in np.flatnonzero(unknown | lost)[:1]:
        one = rows.iloc[place]
        words = "is of a kind that is not known" if unknown[place] else "has an amount, and is no dose"
        told = ", ".join(f"{name} {one[name]:g}" for name in ("AMT", "RATE", "EVID") if name in rows)
        expected = "EVID 1, or none, where something is given; EVID 0 or 2 where nothing is"
        raise _refused(f"{named[one.name]} {words}.", expected, told)
    columns = [_column(given, name) for name in ("AMT", "RATE", "II", "ADDL", "SS")]
    compartments = given["CMT"].tolist() if "CMT" in given else [1] * len(given)
    for number, at, compartment, *numbers in zip(given.index, given[time], compartments, *columns, strict=True):
        amount, rate, interval, more, steady = map(float, numbers)
        _check(named[number], float(at), amount, rate, interval, more, steady)
        first = 0
        if steady:
            if found:
                advice = "Give what follows as another subject, or write the doses before it out."
                raise _refused(f"{named[number]} is at steady state.", "SS 1 at the first", "others before", advice)
            first = -_num_before(named[number], interval, half_life)
        found += [Dose(at + k * interval, amount, rate, compartment) for k in range(first, int(more) + 1)]
    return [dose for dose in found if dose.time <= rows[time].max()]


def _check(row: str, at: float, amount: float, rate: float, interval: float, more: float, steady: float) -> None:
    """Refuse what is not known here, or makes no sense."""
    if not math.isfinite(at) or amount <= 0.0:
        raise _refused(f"{row} is a dose without amount or time.", "AMT above 0 and a time", f"AMT {amount:g}")
    if rate < 0.0:
        advice = (
            "Write the end of the infusion as an event at an inferred time: `bt.Event(…, at=lambda p: p.duration)`."
        )
        raise _refused(f"{row} has a rate or duration that is inferred.", "RATE 0 or above", f"RATE {rate:g}", advice)
    if steady not in (0.0, 1.0):
        raise _refused(f"{row} is at a steady state of another kind.", "SS 0 or 1", f"SS {steady:g}")
    if more < 0.0 or more != round(more):
        raise _refused(f"{row} has additional doses that cannot be counted.", "ADDL 0, 1, 2, …", f"ADDL {more:g}")
    if (more or steady) and interval <= 0.0:
        raise _refused(f"{row} is a dose that is repeated, and does not say when.", "II above 0", f"II {interval:g}")


def _num_before(row: str, interval: float, half_life: float | None) -> int:
    """How many earlier doses of a steady state are written out."""
    if half_life is None or not half_life > 0.0:
        raise _refused(
            f"{row} is at steady state.",
            "`half_life=`, the longest that is plausible: doses of the last 30 of them are written out",
            f"half_life={half_life!r}",
            "Take a long one; a tenfold one costs ten times as many doses, and no precision.",
        )
    num = math.ceil(LEFT_OUT * half_life / interval)
    if num > MOST_BEFORE:
        raise _refused(f"{row} is at steady state.", f"{MOST_BEFORE} doses before at most", f"{num}")
    return num


def _written_out(doses: list[Dose], rows: Any, columns: Sequence[str], names: dict[Hashable, str]) -> Any:
    """The rows of one subject: its observations, and what is given at their times or at times of its own.

    Args:
        doses: Its doses.
        rows: Its rows in the table.
        columns: The column of the times, and those of observations.
        names: How the columns of each compartment end.
    """
    time, *observed = columns
    rows = rows.sort_values(time, kind="stable")
    seen = rows[~_is_dose(rows)].copy()
    seen.loc[(_column(seen, "MDV") == 1.0) | (_column(seen, "EVID") == 2.0), observed] = np.nan
    given: Any = pd.DataFrame(dict(_given(doses, names)))
    given = given[given.index <= rows[time].max()]
    first = ~seen[time].duplicated()
    for column in given.columns:
        seen[column] = np.where(first, seen[time].map(given[column]), np.nan)
    alone = given[~given.index.isin(seen[time])].rename_axis(time).reset_index()
    told = rows.drop(columns=[column for column in (*COLUMNS, *observed) if column in rows]).drop_duplicates(
        time, keep="last"
    )
    alone: Any = pd.merge_asof(alone, told, on=time)
    early = alone[time] < rows[time].iloc[0]  # doses before the first row, of a steady state
    for column in told.columns.drop(time):
        alone.loc[early, column] = told[column].iloc[0]
    return pd.concat([seen, alone], ignore_index=True).sort_values(time, kind="stable", ignore_index=True)


def _given(doses: list[Dose], names: dict[Hashable, str]) -> Iterator[tuple[str, Any]]:
    """Columns of what is given, by time."""
    for place, ending in names.items():
        at_once = [dose for dose in doses if dose.compartment == place and dose.rate == 0.0]
        slowly = [dose for dose in doses if dose.compartment == place and dose.rate > 0.0]
        if at_once:
            amounts = pd.Series([dose.amount for dose in at_once], index=[dose.time for dose in at_once])
            yield f"dose{ending}", amounts.groupby(level=0).sum()
        if slowly:
            begins = np.array([dose.time for dose in slowly])
            ends, rates = (
                begins + [dose.amount / dose.rate for dose in slowly],
                np.array([dose.rate for dose in slowly]),
            )
            changes = np.unique([*begins, *ends])
            running = (begins <= changes[:, None]) & (changes[:, None] < ends)
            yield f"infusion{ending}", pd.Series((running * rates).sum(axis=1), index=changes)


def _refused(problem: str, expected: str, received: str, advice: str = "Correct the table.") -> InvalidTelemetry:
    return InvalidTelemetry(problem, expected=expected, received=received, advice=advice)
