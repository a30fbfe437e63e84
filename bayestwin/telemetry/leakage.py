"""From when on the columns of telemetry are known: where those come from that were made of others, and what follows.

A twin's inputs are taken as known ahead, its observations are not; so what is made of observations may be an input only
as far ahead as it is known.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bayestwin._base.units import convert
from bayestwin.errors import InvalidTelemetry, explain
from bayestwin.telemetry.moments import time_in
from bayestwin.telemetry.record import Telemetry

FEATURES = "features"
"""Key of `Telemetry.settings` under which features are listed."""


class Made(NamedTuple):
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


def made_of(telemetry: Telemetry) -> dict[str, Made]:
    """The features of telemetry, by name."""
    index = telemetry.table.index
    return {
        name: Made(recipe, dict(of), None if until is None else time_in(until, index))
        for name, recipe, of, until in telemetry.settings.get(FEATURES, ())
    }


def listed(made: Mapping[str, Made]) -> list[Any]:
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
            message = explain(
                f"The input `{name}` is made of the observation `{column}` at the same time.",
                expected="an input that is known before the observation that it helps to explain",
                received=made_of(telemetry)[name].recipe,
                advice=f"Take `{column}` from an earlier time, by a lag.",
            )
            raise InvalidTelemetry(message)


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
            message = explain(
                f"The input `{name}` is made of the observation `{column}`, which is not known ahead.",
                expected=f"an input that is known as far ahead as is predicted, {times[-1] - last:g} {time_unit}",
                received=f"at {when} it needs `{column}` of {wait:g} {time_unit} before, "
                "which is after the last time that is known",
                advice=f"Take `{column}` from longer ago, predict less far ahead, or make it a state of the twin.",
            )
            raise InvalidTelemetry(message)
    made = made_of(telemetry)
    start = telemetry.table.index[0]
    for name in inputs:
        until = made[name].until if name in made else None
        # `last` lies before the first time ahead, so that a part which ends there or before is known
        if until is not None and until > start:
            message = explain(
                f"Statistics in the input `{name}` are of what is not known where the forecast begins.",
                expected=f"a part that ends at or before {telemetry.shown(start)}",
                received=f"{made[name].recipe}, until {telemetry.shown(until)}",
                advice=f"Let `until` of `{name}` be earlier; for a backtest, not after its first origin.",
            )
            raise InvalidTelemetry(message)


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
