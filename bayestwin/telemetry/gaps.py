"""A record cut where nothing was recorded: what nobody knows is bridged nowhere."""

from itertools import pairwise

import numpy as np

from bayestwin.errors import InvalidTelemetry, explain
from bayestwin.telemetry.record import Telemetry
from bayestwin.telemetry.times import counted, length_of


def cut_at_gaps(telemetry: Telemetry, longest: str | float) -> dict[str, Telemetry]:
    """Cut telemetry at its gaps into experiments, for `calibrate`: each begins anew, in a state of its own.

    Inputs are interpolated between rows, also across a gap, where they may have been anything. Parameters are the same
    in all parts, so that nothing is lost but what the gap would have made wrong.

    Args:
        telemetry: What was recorded.
        longest: Time between two rows that is no gap yet: text such as `"1h"` where times are dates, else a number.

    Returns:
        Telemetry by name, `part_1` and so on, in order of time. Initial states hold at the first time of each.

    Raises:
        InvalidTelemetry: If `longest` is no length of time, or leaves a part with a single row.
    """
    times = telemetry.table.index
    length = length_of(longest, dated=telemetry.dated)
    if length is None or length <= 0:
        message = explain(
            "`longest` is no length of time.",
            expected='text such as `"1h"`' if telemetry.dated else "a positive number, in the unit of the times",
            received=repr(longest),
            advice="Say how far apart two rows may be before something may have happened between them.",
        )
        raise InvalidTelemetry(message)
    edges = [0, *(np.flatnonzero(np.diff(counted(times)) > length) + 1).tolist(), len(times)]
    short = [first for first, last in pairwise(edges) if last - first < 2]
    if short:
        message = explain(
            "A part of the telemetry between two gaps has a single row.",
            expected=f"at least two rows that are at most {longest} apart",
            received=f"one at {times[short[0]]}",
            advice="Choose a larger `longest`, or drop that row.",
        )
        raise InvalidTelemetry(message)
    parts = [telemetry.table.iloc[first:last] for first, last in pairwise(edges)]
    return {
        f"part_{number}": telemetry.with_table(part, t0=part.index[0]) for number, part in enumerate(parts, start=1)
    }
