"""Labels of what an asset was doing, as numbers: bins of a signal, the hour or weekday, the state of a switch."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from bayestwin.telemetry.derived import Column, Feature, Record

PARTS = {"hour": "hour", "weekday": "day_of_week", "month": "month"}
"""Names that pandas has for them."""


@dataclasses.dataclass(frozen=True)
class Bins(Feature):
    """In which bin a column lies: 0 below the first edge, k from the k-th edge on, NaN where the column is.

    Attributes:
        of: The column.
        edges: Increasing, in the unit of the column. Quantiles of the record would know its future: say numbers.
    """

    of: str
    edges: Sequence[float]

    @property
    def made_of(self) -> tuple[str, ...]:
        """The columns that it is made of."""
        return (self.of,)

    def compute(self, record: Record) -> Column:
        """As declared."""
        edges = np.asarray(self.edges, dtype=np.float64)
        if edges.ndim != 1 or not edges.size or not np.isfinite(edges).all() or not (np.diff(edges) > 0).all():
            record.refuse("has no edges of bins.", "increasing numbers", repr(self.edges), "Correct `edges`.")
        values = record.values(self.of)
        return Column(np.where(np.isfinite(values), np.searchsorted(edges, values, "right"), np.nan), "")


@dataclasses.dataclass(frozen=True)
class Calendar(Feature):
    """The hour (0 to 23), weekday (0 is Monday) or month (1 to 12) on the clock of a zone; known at any time ahead.

    Attributes:
        part: Which.
        timezone: The zone, such as `"Europe/Berlin"`.
    """

    part: Literal["hour", "weekday", "month"]
    timezone: str = "UTC"

    @property
    def made_of(self) -> tuple[str, ...]:
        """Of nothing but the time."""
        return ()

    def compute(self, record: Record) -> Column:
        """As declared."""
        index = record.index
        if not isinstance(index, pd.DatetimeIndex) or self.part not in PARTS:
            expected = f"dates, and one of {', '.join(PARTS)}"
            record.refuse("is no part of a date.", expected, f"{index[0]!r} and `{self.part}`", "Correct it.")
        try:
            local = index.tz_localize("UTC").tz_convert(self.timezone)
        except Exception as reason:  # pandas, zoneinfo and dateutil each raise their own
            record.refuse("has no such time zone.", "`Europe/Berlin` or the like", f"{reason}", "Correct `timezone`.")
        return Column(getattr(local, PARTS[self.part]).to_numpy().astype(np.float64), "")


@dataclasses.dataclass(frozen=True)
class Switch(Feature):
    """Whether something is on: 1 from where the column is above a limit until it is not, else 0.

    NaN where the column is missing, and before it was first clear which.

    Attributes:
        of: The column.
        above: The limit, in the unit of the column.
        below: Where that is lower, what is on stays on down to it (hysteresis).
    """

    of: str
    above: float
    below: float | None = None

    @property
    def made_of(self) -> tuple[str, ...]:
        """The columns that it is made of."""
        return (self.of,)

    def compute(self, record: Record) -> Column:
        """As declared."""
        below = self.above if self.below is None else self.below
        if not below <= self.above:
            received = f"above={self.above!r}, below={self.below!r}"
            record.refuse("goes off above where it goes on.", "`below` at most `above`", received, "Correct them.")
        values = record.values(self.of)
        on = values > self.above
        off = values <= below
        last = np.maximum.accumulate(np.where(on | off, np.arange(values.size), -1))
        told = (last >= 0) & np.isfinite(values)
        return Column(np.where(told, on[last], np.nan), "")
