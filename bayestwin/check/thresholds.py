"""From which size on something is a finding."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from bayestwin.errors import InvalidSetting, explain


class Thresholds(NamedTuple):
    """Limits of `check`, by name the keys of `[check]` in a job file.

    Attributes:
        gap: A gap of more than so many usual steps is a warning.
        few: Fewer values in a column are reported.
        missing: A larger share of missing values is a warning.
        stuck: Fewer equal values in a row are never “stuck”.
        spike: How far a value jumps out and back, in robust standard deviations of what jumps usually are.
        level_shift: Likewise of a jump that stays.
        drift: By how many standard errors a residual wanders off.
        saturation: Share of values that lie exactly at the highest or lowest one.
        levels: Fewer different values than this over the whole range are coarse.
        lag: A clock that is wrong by fewer usual steps is not reported.
        prior: A smaller share of data inside the prior's 99 % interval is a warning.
        coverage: A smaller share of the operating range that is visited is noted.
        outside: A larger share of held-out values outside what was calibrated is a warning.
    """

    gap: float = 10.0
    few: int = 10
    missing: float = 0.2
    stuck: int = 8
    spike: float = 10.0
    level_shift: float = 10.0
    drift: float = 8.0
    saturation: float = 0.03
    levels: int = 16
    lag: float = 2.0
    prior: float = 0.9
    coverage: float = 0.5
    outside: float = 0.1


def thresholds_from(given: Mapping[str, Any] | None) -> Thresholds:
    """The defaults with what was given instead.

    Raises:
        InvalidSetting: If a name is unknown or a value is not a positive number.
    """
    for name, value in (given or {}).items():
        known = name in Thresholds._fields
        if not known or isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            message = explain(
                f"`thresholds` has {'a wrong value for' if known else 'the unknown name'} `{name}`.",
                expected="a positive number" if known else ", ".join(f"`{field}`" for field in Thresholds._fields),
                received=f"{value!r}" if known else f"`{name}`",
                advice="Correct it, or leave it out for the default.",
            )
            raise InvalidSetting(message)
    return Thresholds(**(given or {}))
