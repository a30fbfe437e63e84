"""What a record tells row by row: columns, values of replicates, noise and limits, and since when each value is read.

Each is looked at for itself, and refused by column and row; `bind` puts them together.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from bayestwin._base.units import difference_unit, has_offset
from bayestwin.errors import InvalidTelemetry
from bayestwin.model.components import Observation
from bayestwin.model.error import ProcessNoise
from bayestwin.model.noise.families import LogNormal
from bayestwin.model.noise.wrapped import Censored
from bayestwin.model.twin import Twin
from bayestwin.telemetry import Telemetry


def column_of(telemetry: Telemetry, name: str, kind: str, unit: str, *, difference: bool = False) -> np.ndarray:
    """A column in the unit that is wanted.

    Args:
        telemetry: The record.
        name: Of the column.
        kind: What it is, for the message.
        unit: That wanted.
        difference: Whether it is a difference of two values, as a standard deviation is: 1 K is then 1 °C.

    Raises:
        InvalidTelemetry: If there is no such column of numbers, or the unit has the wrong dimension.
    """
    if not telemetry.holds(name):
        columns = ", ".join(f"`{c}`" for c in telemetry.table.columns) or "no columns"
        alike = [c for c in telemetry.table.columns if c.casefold() == name.casefold()]
        raise InvalidTelemetry(
            f"Telemetry has no column for the {kind} `{name}`.",
            expected=f"one of its columns renamed to `{name}`",
            received=columns,
            advice=f"Pass `rename={{'{alike[0] if alike else '<column>'}': '{name}'}}` where it is read.",
        )
    return telemetry.in_unit(name, unit, difference=difference)


def observed_column(telemetry: Telemetry, name: str, spec: Observation) -> np.ndarray:
    """The column of an observation, in its unit.

    Raises:
        InvalidTelemetry: As `column_of`, or if a change or a total is in degrees that count from a zero.
    """
    unit = telemetry.units.get(name, "")
    if spec.reads in ("total", "change") and has_offset(unit):
        raise InvalidTelemetry(
            f"Observation {telemetry.label(name)} is a {spec.reads}, which has no zero of a scale of temperature.",
            expected=f"a column in `K` or `{difference_unit(unit)}`",
            received=f"`{unit}`",
            advice="Say so by `units={…}` where it is read.",
        )
    return column_of(telemetry, name, "observation", spec.unit)


def once(telemetry: Telemetry, name: str, kind: str, unit: str) -> np.ndarray:
    """A column that has one value at a time, also where replicates stand in several rows of it.

    Raises:
        InvalidTelemetry: If rows of one time differ.
    """
    values, index = column_of(telemetry, name, kind, unit), telemetry.table.index
    if index.is_unique:
        return values
    rows = pd.Series(values).groupby(np.asarray(index))
    most, least, count = (rows.transform(one).to_numpy() for one in ("max", "min", "count"))
    apart = np.flatnonzero(most > least)
    if kind == "event" and not apart.size:  # a dose that stands in two rows may be one or two
        apart = np.flatnonzero(count > 1)
    if apart.size:
        raise InvalidTelemetry(
            f"The {kind} {telemetry.label(name)} has several values at {telemetry.shown(index[apart[0]])}.",
            expected=f"one at each time: observations have replicates, and an {kind} stands in one of their rows",
            received=", ".join(f"{values[row]:g} in row {row + 1}" for row in apart[:5]),
            advice="Leave its other cells of that time empty.",
        )
    return rows.transform("first").to_numpy()


def check_replicates(twin: Twin, telemetry: Telemetry) -> None:
    """Refuse several observations at one time where only one can be understood.

    Raises:
        InvalidTelemetry: With process noise, or noise that remembers and has no white noise on top.
    """
    index = telemetry.table.index
    again = np.flatnonzero(index.duplicated())
    if not again.size:
        return
    only = [n for n, o in twin.observations.items() if not o.noise.independent and o.noise.parameters["nugget"] == 0.0]
    hindrance = "" if not only else f"the noise of observation `{only[0]}`, which is the same at one time"
    if isinstance(twin.model_error, ProcessNoise):
        hindrance = "process noise, which is followed from one observation to the next"
    if hindrance:
        raise InvalidTelemetry(
            f"Replicates do not go with {hindrance}.",
            expected="one row a time",
            received=f"{again.size} rows more, the first at {telemetry.shown(index[again[0]])}",
            advice="Take their mean when they are read, `duplicates='mean'`; noise that remembers may have a `nugget`.",
        )


def noise_column(twin: Twin, telemetry: Telemetry, name: str, observations: Mapping[str, np.ndarray]) -> np.ndarray:
    """What noise takes from a column of the telemetry, in the unit of the quantity.

    A quantity holds where nothing was observed: the last one before, or the next one; a limit is where it is told.
    """
    spec = twin.noise_columns()[name]
    noise, owner = twin.observations[spec.owner].noise, f"noise `{spec.quantity}` of observation `{spec.owner}`"
    layer = next(one for one in noise.layers() if spec.quantity in one.own_parameters)
    limit, label = isinstance(layer, Censored), telemetry.label(spec.column.name)
    told = column_of(telemetry, spec.column.name, f"{owner}, called", spec.unit, difference=not limit)
    observed = np.isfinite(observations.get(spec.owner, np.full(len(told), np.nan)))
    if limit:
        # what was written in another unit is at its limit still
        near = observed & np.isclose(observations.get(spec.owner, told), told, rtol=1e-9, atol=0.0)
        return np.where(near, observations.get(spec.owner, told), told)
    wrong = np.isfinite(told) & (told <= 0.0) if spec.quantity not in layer.signed else np.zeros(len(told), bool)
    lacking = observed & ~np.isfinite(told)
    if wrong.any() or lacking.any() or not np.isfinite(told).any():
        rows = np.flatnonzero(wrong if wrong.any() else lacking)
        shown = ", ".join(
            f"{told[row]:g} in row {row + 1} ({telemetry.shown(telemetry.table.index[row])})" for row in rows[:5]
        )
        raise InvalidTelemetry(
            f"Column {label} does not tell the {owner} in every row that needs it.",
            expected="a "
            + ("number" if spec.quantity in layer.signed else "positive number")
            + f" wherever `{spec.owner}` has a value, and at least one",
            received=(shown.replace("nan", "nothing") or "nothing at all")
            + (f", … ({rows.size} in all)" if rows.size > 5 else ""),
            advice=f"Correct the column, or leave `{spec.owner}` out of these rows.",
        )
    return pd.Series(told).ffill().bfill().to_numpy()


def check_support(
    twin: Twin, name: str, telemetry: Telemetry, values: np.ndarray, told: Mapping[str, np.ndarray]
) -> None:
    """Refuse observations that cannot occur under their noise.

    Args:
        twin: The twin.
        name: Of the observation.
        telemetry: For messages.
        values: In the twin's unit; shape (n,).
        told: What noise takes from columns, by quantity; shape (n,) each.
    """
    noise = twin.observations[name].noise
    present = np.isfinite(values)
    support = noise.supported(**told) if told else noise.support
    bad = np.flatnonzero(present & ~np.asarray(support(np.where(present, values, 1.0))))
    if bad.size:
        rows = ", ".join(f"{values[row]:g} in row {row + 1}" for row in bad[:5])
        limits = ", within the limits of its row" if {"lower", "upper"} & set(told) else ""
        zeros = (values[bad] == 0.0).all() and isinstance(next(noise.layers()), LogNormal)
        raise InvalidTelemetry(
            f"Observation {telemetry.label(name)} has values that cannot occur under {type(noise).__name__} noise.",
            expected=repr(noise.support) + limits,
            received=rows
            + (f", … ({bad.size} in all)" if bad.size > 5 else "")
            + f"; the first at {telemetry.shown(telemetry.table.index[bad[0]])}",
            advice="A reading of 0 may be one below the limit of detection: write the limit there and say "
            "`bt.Censored(noise, lower=…)`. Or leave the row out (an empty cell), or take noise with an additive part, "
            "`bt.Proportional(scale, relative)`."
            if zeros
            else "Correct the data, or choose a noise model that allows them.",
        )


def rows_before(
    twin: Twin, times: np.ndarray, observations: Mapping[str, np.ndarray], asked: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """By observation that is not a value at a time, the row from which on each is read; −1 where that is `t0`.

    Args:
        twin: The twin.
        times: In order, those of replicates more than once; shape (n,).
        observations: What was read, NaN where nothing was; shape (n,) each. What is NaN throughout is read in all rows.
        asked: Rows that count as read besides, shape (n,).
    """
    found, earlier = {}, np.searchsorted(times, times, side="left") - 1
    for name, spec in twin.observations.items():
        if spec.reads == "value":
            continue
        there = np.isfinite(observations.get(name, np.full(len(times), np.nan)))
        there = there | (not there.any() if asked is None else asked)
        rows = np.where(there | (spec.begins == "row"), np.arange(len(times)), -1)
        found[name] = np.where(earlier < 0, -1, np.maximum.accumulate(rows)[earlier])
    return found


def check_before(
    twin: Twin,
    telemetry: Telemetry,
    times: np.ndarray,
    observations: Mapping[str, np.ndarray],
    since: Mapping[str, np.ndarray],
) -> None:
    """Refuse a reading over no time."""
    for name, rows in since.items():
        nothing = (rows < 0) & ((times <= 0.0) | (twin.observations[name].reads == "change"))
        wrong = np.flatnonzero(nothing & np.isfinite(observations.get(name, np.full(len(times), np.nan))))
        if wrong.size:
            raise InvalidTelemetry(
                f"Observation {telemetry.label(name)} is a {twin.observations[name].reads}, and its first row has no "
                "time before it.",
                expected="an empty cell there, or an earlier `t0`",
                received=f"{observations[name][wrong[0]]:g} at {telemetry.shown(telemetry.table.index[wrong[0]])}",
                advice="Leave the first cell empty: only its time counts. Of a mean or a total an earlier `t0=` says "
                "from when on the first one is.",
            )


# Exponential forgetting: old readings count less, by a power of their likelihood. R. Kulhavý & M. B. Zarrop (1993),
# doi:10.1080/00207179308923034; power likelihoods of earlier data: J. G. Ibrahim & M.-H. Chen (2000),
# doi:10.1214/ss/1009212673.


def faded(times: np.ndarray, observations: Mapping[str, np.ndarray], half_life: float) -> np.ndarray:
    """How much each row counts: `w = 2^(−age / half_life)`, its age counted from the last row with a reading.

    Args:
        times: In the twin's unit; shape (n,).
        observations: NaN where nothing was read; shape (n,) each.
        half_life: After which a reading counts half, in the twin's unit of time.

    Returns:
        Shape (n,); 1 for rows after the last reading, which have none.
    """
    read = np.any([np.isfinite(values) for values in observations.values()], axis=0)
    return np.exp2(np.minimum(times - times[read].max(), 0.0) / half_life)
