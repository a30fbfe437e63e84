"""Features added to telemetry, with where each comes from, and so from when on it is known; and the search for leaks.

A twin's inputs are taken as known ahead, its observations are not; so what is made of observations may be an input only
as far ahead as it is known.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bayestwin._base.units import convert
from bayestwin.errors import BayestwinError, InvalidTelemetry
from bayestwin.telemetry.derived import Feature, FeatureColumn, RecordedColumns
from bayestwin.telemetry.record import Telemetry, said, sealed, time_in
from bayestwin.telemetry.times import counted

FEATURES = "features"
"""Key of `Telemetry.settings` under which features are listed."""


class FeatureOrigin(NamedTuple):
    """Where a feature comes from.

    Attributes:
        recipe: How it was made, as text.
        of: For each recorded column in it, how much older than t its newest value is that counts at t: in seconds for
            dates, else in the unit of the times.
        until: Where statistics over a part of the record are in it, the end of that part, in the terms of the times.
    """

    recipe: str
    of: Mapping[str, float]
    until: Any = None


def made_of(telemetry: Telemetry) -> dict[str, FeatureOrigin]:
    """The features of telemetry, by name."""
    index = telemetry.table.index
    return {
        name: FeatureOrigin(recipe, dict(of), None if until is None else time_in(until, index))
        for name, recipe, of, until in telemetry.settings.get(FEATURES, ())
    }


def listed(made: Mapping[str, FeatureOrigin]) -> list[Any]:
    """Features as plain values, for `Telemetry.settings`."""
    return [
        (name, one.recipe, sorted(one.of.items()), None if one.until is None else _plain(one.until))
        for name, one in made.items()
    ]


def refuse_same_time(telemetry: Telemetry, inputs: Iterable[str], observations: Iterable[str]) -> None:
    """Refuse an input that is made of an observation at the same time: a twin would be told what it is to explain.

    Raises:
        InvalidTelemetry: Naming the input.
    """
    for name, column, delay in _fed_back(telemetry, inputs, observations):
        if not delay > 0:
            raise InvalidTelemetry(
                f"The input `{name}` is made of the observation `{column}` at the same time.",
                expected="an input that is known before the observation that it helps to explain",
                received=made_of(telemetry)[name].recipe,
                advice=f"Take `{column}` from an earlier time, by a lag.",
            )


def refuse_lost_doses(telemetry: Telemetry, events: Iterable[str]) -> None:
    """Refuse events that are a lag of a column, and happen more or less often than what they are made of.

    A lag has values at times that are there alone: a dose later than it was recorded needs a row of its own.

    Raises:
        InvalidTelemetry: Naming the event.
    """
    times = counted(telemetry.table.index)
    for name, origin in made_of(telemetry).items():
        if name not in set(events) or not origin.recipe.startswith("Lag("):
            continue
        for column, delay in origin.of.items():
            if column not in telemetry.table:
                continue
            span = delay * (1e9 if telemetry.dated else 1.0)
            slack = 1e-9 * max(abs(span), abs(float(times[-1] - times[0])))
            recorded, later = (times[np.isfinite(telemetry.table[one].to_numpy(np.float64))] for one in (column, name))
            # of a part of a record, what was recorded before it may happen in it
            due = int((recorded + span <= times[-1] + slack).sum())
            happens = int((later - span >= times[0] - slack).sum())
            if happens != due:
                raise InvalidTelemetry(
                    f"The event `{name}` is a lag of `{column}`, and would not happen as often.",
                    expected=f"{due} values, each at the time of one in `{column}` and the lag",
                    received=f"{happens} values: a lag has values at times that are there, and `max_age` repeats them",
                    advice=f"Shift the times of `{column}` before its table is joined, so that each has a row: "
                    "`doses.assign(time=doses['time'] + lag)`.",
                )


def refuse_ahead(
    telemetry: Telemetry,
    inputs: Iterable[str],
    observations: Iterable[str],
    *,
    last: float,
    times: np.ndarray,
    time_unit: str,
) -> None:
    """Refuse inputs that are not known yet where a forecast needs them.

    Args:
        telemetry: What is ahead.
        inputs: Names of the twin's inputs.
        observations: Names of its observations.
        last: Last time that is known, counted as `times`.
        times: Times that are predicted, elapsed; shape (n,), those of the telemetry.
        time_unit: Unit of both.

    Raises:
        InvalidTelemetry: Naming the input and the first time at which it is not known.
    """
    inputs = list(inputs)
    own = "s" if telemetry.dated else telemetry.units.get("time", time_unit)
    slack = 1e-9 * max(1.0, abs(float(times[-1])))
    for name, column, delay in _fed_back(telemetry, inputs, observations):
        wait = float(convert(np.array(delay), own, time_unit, "time", InvalidTelemetry))
        late = np.flatnonzero(times - wait > last + slack)
        if late.size:
            when = telemetry.shown(telemetry.table.index[late[0]])
            raise InvalidTelemetry(
                f"The input `{name}` is made of the observation `{column}`, which is not known ahead.",
                expected=f"an input that is known as far ahead as is predicted, {times[-1] - last:g} {time_unit}",
                received=f"at {when} it needs `{column}` of {wait:g} {time_unit} before, "
                "which is after the last time that is known",
                advice=f"Take `{column}` from longer ago, predict less far ahead, or make it a state of the twin.",
            )
    made = made_of(telemetry)
    start = telemetry.table.index[0]
    for name in inputs:
        until = made[name].until if name in made else None
        # `last` lies before the first time ahead, so that a part which ends there or before is known
        if until is not None and until > start:
            raise InvalidTelemetry(
                f"Statistics in the input `{name}` are of what is not known where the forecast begins.",
                expected=f"a part that ends at or before {telemetry.shown(start)}",
                received=f"{made[name].recipe}, until {telemetry.shown(until)}",
                advice=f"Let `until` of `{name}` be earlier; for a backtest, not after its first origin.",
            )


def _fed_back(telemetry: Telemetry, inputs: Iterable[str], observations: Iterable[str]) -> list[tuple[str, str, float]]:
    """Inputs that are made of observations: which, of what, and how much later they are used."""
    made, observed = made_of(telemetry), set(observations)
    return [
        (name, column, delay)
        for name in inputs
        if name in made
        for column, delay in made[name].of.items()
        if column in observed
    ]


def _plain(moment: Any) -> Any:
    return str(moment) if isinstance(moment, pd.Timestamp) else float(moment)


# Whether something looks ahead, found out by construction: the future is altered, and the past must stay.

CUTS = 24
"""At most so many times are tried."""


class Leak(NamedTuple):
    """Where something was seen to look ahead.

    Attributes:
        at: The time whose value changed.
        cut: What came after it was altered.
        how: In what way.
        was: The value on the whole record.
        became: The value then.
        column: Which of several columns.
    """

    at: Any
    cut: Any
    how: str
    was: float
    became: float
    column: int


def find_leak(
    compute: Callable[[pd.DataFrame], np.ndarray], table: pd.DataFrame, delay: int | float = 0
) -> Leak | None:
    """The first sign that values up to a time depend on what was recorded after it; None where there is none.

    Args:
        compute: Values (rows, columns) of a table, which may be shorter than the whole.
        table: The record, indexed by time.
        delay: How much older the newest value is that may count: whole nanoseconds for dates.

    Raises:
        BayestwinError: What `compute` raises for a shorter record, or one with other usual values, if nothing else is
            wrong.
    """
    whole = compute(table)
    times = table.index.to_numpy()
    reach = np.timedelta64(int(delay), "ns") if isinstance(table.index, pd.DatetimeIndex) else delay
    failure: BayestwinError | None = None
    for cut in _cuts(len(table)):
        for how, altered in _altered(table, cut):
            try:
                again = compute(altered)
            except BayestwinError as reason:
                if how in ("cut off", "other usual values"):  # a function may refuse values that cannot be
                    failure = failure or reason
                continue
            known = np.flatnonzero(times[: len(altered)] <= times[cut] + reach)
            different = ~_same(whole[known], again[known])
            if different.any():
                first, column = np.argwhere(different)[0]
                row = int(known[first])
                values = float(whole[row, column]), float(again[row, column])
                return Leak(table.index[row], table.index[cut], how, *values, int(column))
    if failure is not None:
        raise failure
    return None


def _cuts(num: int) -> np.ndarray:
    """Rows after which the record is altered, evenly spread; none where there is nothing after them."""
    return np.unique(np.linspace(0, num - 2, min(CUTS, num - 1)).astype(int)) if num > 1 else np.zeros(0, dtype=int)


def _altered(table: pd.DataFrame, cut: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """The record with all after a row cut off, or altered in ways that change any mean, extreme, median or count."""
    yield "cut off", table.iloc[: cut + 1]
    low, high = (getattr(table, end)().fillna(0.0) for end in ("min", "max"))
    ahead = table.iloc[cut + 1 :]
    width = (high - low).where(high > low, 1.0)
    for how, values in (
        ("other usual values", low + high - ahead),
        ("far higher", 0.0 * ahead + high + 10.0 * width),
        ("far lower", 0.0 * ahead + low - 10.0 * width),
        ("missing", ahead * np.nan),
    ):
        yield how, pd.concat([table.iloc[: cut + 1], values])


def _same(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Whether values are the same, but for the last digits, which the order of additions may change."""
    return np.isclose(ours, theirs, rtol=1e-9, atol=1e-12, equal_nan=True)


# Adding features to telemetry: each from what was recorded, with its unit, and with what it comes from.


def add_features(telemetry: Telemetry, features: Mapping[str, Feature]) -> Telemetry:
    """Add columns that are made of others, each known at time t from what was recorded at or before t.

    What is not known is NaN: where the record does not reach back far enough, and where values are missing; `notices`
    say how often. Statistics never look ahead, so a part of the record (`between`) has the same features as the whole.

    Args:
        telemetry: What was recorded.
        features: Declarations from `bayestwin.telemetry.features` by the names of the new columns; one may be made of
            those before it.

    Returns:
        Telemetry with the new columns. It knows what they are made of: calibration and forecasts refuse those that are
        not known when they would be needed.

    Raises:
        InvalidTelemetry: If a feature looks ahead, has a name that is taken, is made of what is not there, has units
            that do not fit together, or has no value at all.
    """
    return _added(telemetry, features, strict=True)


def check_causal(telemetry: Telemetry, features: Mapping[str, Feature]) -> None:
    """Find out by construction whether features look ahead: all after some times is altered or cut off.

    `add_features` does this for functions; other features cannot look ahead, which this can confirm.

    Raises:
        InvalidTelemetry: Naming the feature and the first time whose value changed with what came after it.
    """
    whole = _added(telemetry, features, strict=False)
    names = list(features)

    def compute(table: pd.DataFrame) -> np.ndarray:
        return _added(telemetry.with_table(table), features, strict=False).table[names].to_numpy()

    leak = find_leak(compute, telemetry.table)
    if leak is not None:
        name = names[leak.column]
        at, cut = telemetry.shown(leak.at), telemetry.shown(leak.cut)
        raise InvalidTelemetry(
            f"Feature `{name}` looks ahead.",
            expected=f"at {at} the same value whatever is recorded after {cut}",
            received=f"{leak.was:g}, and {leak.became:g} where all after {cut} is {leak.how}",
            advice=f"It is {made_of(whole)[name].recipe}.",
        )


def _added(telemetry: Telemetry, features: Mapping[str, Feature], *, strict: bool) -> Telemetry:
    table, units = telemetry.table.copy(), dict(telemetry.units)
    made, notices = made_of(telemetry), list(telemetry.notices)
    for name, feature in features.items():
        columns = {str(column): table[column].to_numpy(np.float64) for column in table.columns}
        record = RecordedColumns(name, table.index, columns, units, strict, telemetry.timezone)
        _check_new(record, feature)
        for column in feature.made_of:
            telemetry.holds(column)  # text is refused as such
        column = feature.compute(record)
        notices += _notices(record, column)
        table[name] = column.values
        if column.unit is not None:
            units[name] = column.unit
        made[name] = _origin(record, feature, column, made)
    settings = {**telemetry.settings, FEATURES: listed(made)}
    return sealed(
        table, units, telemetry.t0, telemetry.source, tuple(notices), settings, telemetry.renamed, telemetry.texts
    )


def _check_new(record: RecordedColumns, feature: Feature) -> None:
    if not isinstance(feature, Feature):
        record.refuse(
            "is not declared.", "a declaration from `bayestwin.telemetry.features`", repr(feature), "Write one."
        )
    if record.name in (*record.columns, "time"):
        record.refuse("has the name of a column that is there.", "a new name", f"`{record.name}`", "Choose another.")


def _origin(
    record: RecordedColumns, feature: Feature, column: FeatureColumn, made: Mapping[str, FeatureOrigin]
) -> FeatureOrigin:
    """What a feature comes from in the end: delays add up along the way, the shortest of several ways counts."""
    own = feature.waits(record) / (1e9 if record.dated else 1.0)
    of: dict[str, float] = {}
    until = column.until
    for source in feature.made_of:
        earlier = made.get(source, FeatureOrigin("", {source: 0.0}))
        for base, delay in earlier.of.items():
            of[base] = min(of.get(base, np.inf), own + delay)
        if earlier.until is not None:
            until = earlier.until if until is None else max(until, earlier.until)
    return FeatureOrigin(repr(feature), of, until)


def _notices(record: RecordedColumns, column: FeatureColumn) -> list[str]:
    """How often a feature has no value, at first and later."""
    missing = ~np.isfinite(column.values)
    if missing.all() and record.strict:
        record.refuse(
            "has no value at all.",
            expected="a value at some time at least",
            received=f"NaN in all {missing.size} rows",
            advice="Does the record reach back far enough? Where nothing was recorded at the very time, say `max_age`; "
            "where values are missing in windows, `missing='skip'`.",
        )
    first = int(missing.argmin()) if not missing.all() else missing.size
    found = []
    if first:
        until = f", before {said(record.index[first], record.zone)}" if first < missing.size else ""
        found.append(f"Feature `{record.name}` is not known in the first {first} of {missing.size} rows{until}.")
    if later := int(missing[first:].sum()):
        found.append(f"Feature `{record.name}` has no value in {later} of the {missing.size - first} rows after that.")
    return found
