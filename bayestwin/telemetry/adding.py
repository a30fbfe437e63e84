"""Adding features to telemetry: each from what was recorded, with its unit, and with what it comes from."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from bayestwin.errors import InvalidTelemetry, explain
from bayestwin.telemetry.derived import Column, Feature, Record
from bayestwin.telemetry.leakage import FEATURES, Made, listed, made_of
from bayestwin.telemetry.leaks import find_leak
from bayestwin.telemetry.moments import said
from bayestwin.telemetry.record import Telemetry, sealed


def add_features(telemetry: Telemetry, features: Mapping[str, Feature]) -> Telemetry:
    """Add columns that are made of others, each known at time t from what was recorded at or before t.

    What is not known is NaN: where the record does not reach back far enough, and where values are missing; `notices`
    say how often. Statistics never look ahead, so a part of the record (`between`) has the same features as the whole.

    Args:
        telemetry: What was recorded.
        features: Declarations from `bayestwin.features` by the names of the new columns; one may be made of those
            before it.

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
        message = explain(
            f"Feature `{name}` looks ahead.",
            expected=f"at {at} the same value whatever is recorded after {cut}",
            received=f"{leak.was:g}, and {leak.became:g} where all after {cut} is {leak.how}",
            advice=f"It is {made_of(whole)[name].recipe}.",
        )
        raise InvalidTelemetry(message)


def _added(telemetry: Telemetry, features: Mapping[str, Feature], *, strict: bool) -> Telemetry:
    table, units = telemetry.table.copy(), dict(telemetry.units)
    made, notices = made_of(telemetry), list(telemetry.notices)
    for name, feature in features.items():
        columns = {str(column): table[column].to_numpy(np.float64) for column in table.columns}
        record = Record(name, table.index, columns, units, strict, telemetry.timezone)
        _check_new(record, feature)
        column = feature.compute(record)
        notices += _notices(record, column)
        table[name] = column.values
        if column.unit is not None:
            units[name] = column.unit
        made[name] = _origin(record, feature, column, made)
    settings = {**telemetry.settings, FEATURES: listed(made)}
    return sealed(table, units, telemetry.t0, telemetry.source, tuple(notices), settings, telemetry.renamed)


def _check_new(record: Record, feature: Feature) -> None:
    if not isinstance(feature, Feature):
        record.refuse("is not declared.", "a declaration from `bayestwin.features`", repr(feature), "Write one.")
    if record.name in (*record.columns, "time"):
        record.refuse("has the name of a column that is there.", "a new name", f"`{record.name}`", "Choose another.")


def _origin(record: Record, feature: Feature, column: Column, made: Mapping[str, Made]) -> Made:
    """What a feature comes from in the end: delays add up along the way, the shortest of several ways counts."""
    own = feature.waits(record) / (1e9 if record.dated else 1.0)
    of: dict[str, float] = {}
    until = column.until
    for source in feature.made_of:
        earlier = made.get(source, Made("", {source: 0.0}))
        for base, delay in earlier.of.items():
            of[base] = min(of.get(base, np.inf), own + delay)
        if earlier.until is not None:
            until = earlier.until if until is None else max(until, earlier.until)
    return Made(repr(feature), of, until)


def _notices(record: Record, column: Column) -> list[str]:
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
