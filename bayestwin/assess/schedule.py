"""What each origin of a backtest may know and is to predict: telemetry cut in time, and nothing computed yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bayestwin import errors
from bayestwin.density.bind import elapsed
from bayestwin.model.twin import Twin
from bayestwin.telemetry import Telemetry
from bayestwin.telemetry.leakage import refuse_ahead

WINDOWS = ("expanding", "sliding")

ROUNDING = 1e-9
"""Times nearer than this share of the horizon are the same."""


class Stage(NamedTuple):
    """One origin.

    Attributes:
        origin: The last time that is known, in the user's terms.
        known: What may be calibrated.
        ahead: Times and inputs from there on, without any observation.
        times: The times to be predicted, part of those ahead; shape (n,).
        horizons: Time since the origin, in the twin's unit; shape (n,).
    """

    origin: Any
    known: Telemetry
    ahead: Telemetry
    times: np.ndarray
    horizons: np.ndarray


def stages(
    twin: Twin, telemetry: Telemetry, origins: int | Sequence[Any], horizon: float, gap: float, window: str
) -> list[Stage]:
    """Cut telemetry for each origin, in the order of time; arguments and errors are those of `backtest`."""
    _check(horizon, gap, window)
    if window == "sliding":
        _check_slides(twin)
    index = telemetry.table.index
    unit = telemetry.units.get("time", twin.time_unit)
    at = elapsed(index, telemetry.t0, unit, twin.time_unit)
    if isinstance(origins, int | np.integer):
        labels = _evenly(index, at, int(origins), horizon)
    else:
        labels = pd.Index([telemetry.moment(origin, "origins") for origin in origins]).unique().sort_values()
    starts = elapsed(labels, telemetry.t0, unit, twin.time_unit)
    span = starts[0] - gap - at[0] if len(starts) else 0.0
    slack = ROUNDING * horizon
    found = []
    for label, start in zip(labels, starts, strict=True):
        known = at <= start - gap + slack
        if window == "sliding":
            known &= at >= start - gap - span - slack
        wanted = (at > start + slack) & (at <= start + horizon + slack)
        if not known.any() or not wanted.any():
            raise _nowhere(label, telemetry, "before it" if not known.any() else "ahead of it")
        ahead = (at > at[known][-1]) & (at <= at[wanted][-1])
        t0 = index[known][0] if window == "sliding" else telemetry.t0
        horizons = np.round((at[wanted] - start) / horizon, 9) * horizon
        driven = _cut(telemetry, ahead, t0, tuple(twin.observations))
        last = float(at[known][-1])
        refuse_ahead(driven, twin.inputs, twin.observations, last=last, times=at[ahead], time_unit=twin.time_unit)
        found.append(Stage(label, _cut(telemetry, known, t0, ()), driven, index[wanted].to_numpy(), horizons))
    return found


def _cut(telemetry: Telemetry, rows: np.ndarray, t0: Any, without: Sequence[str]) -> Telemetry:
    """Some rows of telemetry, without some columns."""
    table = telemetry.table.loc[rows].drop(columns=[name for name in without if name in telemetry.table])
    return telemetry.with_table(table, t0=t0)


def _evenly(index: pd.Index, at: np.ndarray, count: int, horizon: float) -> pd.Index:
    """Samples at which `count` evenly spaced origins lie, from the middle of the record on."""
    middle, last = at[0] + 0.5 * (at[-1] - at[0]), at[-1] - horizon
    if count < 1 or last < middle:
        raise errors.InvalidSetting(
            errors.explain(
                "`origins` cannot be placed.",
                expected="at least one, with the horizon in the second half of the telemetry",
                received=f"{count} origins, a horizon of {horizon:g} and telemetry over {at[-1] - at[0]:g}",
                advice="Shorten the horizon, or say at which times the origins lie.",
            )
        )
    # the last sample that is not later
    places = np.searchsorted(at, np.linspace(middle, last, count) + ROUNDING * horizon, side="right") - 1
    return index[np.unique(places)]


def _check(horizon: float, gap: float, window: str) -> None:
    expected = {
        "horizon": ("a positive number, in the twin's unit of time", horizon, horizon > 0),
        "gap": ("a number that is not negative, in the twin's unit of time", gap, gap >= 0),
        "window": (" or ".join(f'"{word}"' for word in WINDOWS), window, window in WINDOWS),
    }
    for name, (words, received, fine) in expected.items():
        if not fine:
            raise errors.InvalidSetting(
                errors.explain(
                    f"`{name}` makes no sense.",
                    expected=words,
                    received=f"{received!r}",
                    advice="`bt.backtest` says what it means.",
                )
            )


def _check_slides(twin: Twin) -> None:
    """Refuse a window that slides away from where an initial state is known or an event scheduled."""
    fixed = [
        f"the initial state of `{name}`" for name, one in twin.states.items() if isinstance(one.initial, int | float)
    ]
    fixed += [f"the time of `{name}`" for name, one in twin.events.items() if one.kind == "scheduled"]
    if fixed:
        raise errors.InvalidSetting(
            errors.explain(
                f"The window cannot slide: twin `{twin.name}` knows what holds at the start of its telemetry alone.",
                expected="priors for initial states, which hold wherever a window starts, and no scheduled event",
                received=", ".join(fixed),
                advice='Use `window="expanding"`, or give a prior.',
            )
        )


def _nowhere(label: Any, telemetry: Telemetry, where: str) -> errors.InvalidSetting:
    origin, first, last = (telemetry.shown(moment) for moment in (label, *telemetry.table.index[[0, -1]]))
    return errors.InvalidSetting(
        errors.explain(
            f"There is no telemetry {where} at origin {origin}.",
            expected=f"origins within {first} to {last}, with `gap` before and `horizon` after them",
            received=origin,
            advice="Choose other origins, or a shorter gap.",
        )
    )
