"""Whether something looks ahead, found out by construction: the future is altered, and the past must stay."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bayestwin.errors import BayestwinError

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
