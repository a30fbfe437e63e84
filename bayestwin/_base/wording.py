"""Numbers and units as an engineer writes them: sensible digits, powers of ten as 10⁶, °C for degC.

And the one sentence that says what must not be relied on.
"""

import math
import re
from typing import NamedTuple

NARROW = "\u202f"
"""A narrow space at which lines do not break."""

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Written(str):
    """A number as text, which still knows the number: a table shows the one and copies the other.

    Attributes:
        value: In the unit that the text is in; a share is in percent.
    """

    __slots__ = ("value",)
    value: float

    def __new__(cls, text: str, value: float = math.nan) -> "Written":
        """Text of a number."""
        made = super().__new__(cls, text)
        made.value = value
        return made


class Scale(NamedTuple):
    """How one quantity is written: multiply by `factor`, then the unit is `unit`."""

    factor: float
    unit: str


def unit_text(unit: str) -> str:
    """A unit for reading: `"degC"` → °C, `"W/m**2"` → W/m², `"J*s"` → J·s; nothing else is touched."""
    text = str(unit or "").replace("delta_deg", "deg").replace("degC", "°C").replace("degF", "°F")
    text = re.sub(r"\b(\w+)\*\*0\.5\b", r"√\1", text)
    text = re.sub(r"(?:\*\*|\^)\s*(-?\d+)", lambda power: power[1].translate(SUPERSCRIPTS), text)
    return re.sub(r"\s*\*\s*", "·", text)


def scale_for(size: float, unit: str) -> Scale:
    """The power of ten, a multiple of three, that makes a quantity of about `size` readable.

    Args:
        size: Its largest magnitude, in `unit`.
        unit: Its unit as text.

    Returns:
        `Scale(1e-6, "10⁶ J/K")` for 14,690,000 J/K; no scaling between 0.001 and 100,000.
    """
    if not math.isfinite(size) or size == 0 or 1e-3 <= abs(size) < 1e5:
        return Scale(1.0, unit_text(unit))
    power = 3 * math.floor(math.log10(abs(size)) / 3)
    return Scale(10.0**-power, f"10{str(power).translate(SUPERSCRIPTS)} {unit_text(unit)}".strip())


def labelled(name: str, unit: str) -> str:
    """A name with its unit, for an axis: `indoor (°C)`."""
    text = unit_text(unit)
    return f"{name} ({text})" if text else name


def decimals_for(spread: float) -> int:
    """Decimals that show two significant digits of `spread`."""
    if not math.isfinite(spread) or spread <= 0:
        return 3
    return min(max(1 - math.floor(math.log10(float(f"{spread:.1e}"))), 0), 9)


IMMENSE = 1e15
"""From here on a number has more digits than a computer knows of it."""


def fixed(value: float, decimals: int) -> Written:
    """`value` with so many decimals, thousands parted, a true minus; NaN says so, and powers of ten what is immense."""
    value = float(value)
    if not math.isfinite(value):
        return Written("NaN" if math.isnan(value) else ("∞" if value > 0 else "−∞"), value)
    if abs(value) >= IMMENSE:
        return number(value)
    text = f"{value:,.{decimals}f}"
    return Written(text.replace("-", "−" if float(text.replace(",", "")) else ""), value)


def number(value: float, digits: int = 3) -> Written:
    """`value` to so many significant digits: 0.0123, 14.7, 2,880, 1.47 × 10⁷."""
    value = float(value)
    if not math.isfinite(value) or value == 0:
        return fixed(value, 0)
    power = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    if -4 <= power < 6:
        return fixed(value, max(digits - 1 - power, 0))
    return Written(f"{fixed(value / 10.0**power, digits - 1)} × 10{str(power).translate(SUPERSCRIPTS)}", value)


def percent(share: float, decimals: int = 0) -> Written:
    """A share as text: 90 %; 0.9996 is not rounded up to 100 %."""
    share = float(share)
    if not math.isfinite(share):
        return fixed(share, 0)
    if abs(share) >= IMMENSE:
        return Written(f"{number(100 * share)}{NARROW}%", 100 * share)
    text = f"{100 * share:,.{decimals}f}"
    # 12 digits: 100 × 0.29 is 28.999999999999996
    value = float(f"{100 * share:.12g}")
    if 0 < share < 1 and float(text) in (0.0, 100.0):
        least = 10.0**-decimals
        text = f"< {least:.{decimals}f}" if share < 0.5 else f"> {100 - least:.{decimals}f}"
        return Written(f"{text}{NARROW}%", value)
    return Written(f"{text}{NARROW}%".replace("-", "−"), value)


def count(quantity: int, noun: str, plural: str = "") -> str:
    """`1 chain`, `4 chains`, `2,880 times`."""
    return f"{quantity:,} {noun if quantity == 1 else plural or noun + 's'}"


class Span(NamedTuple):
    """The unit in which spans of time are written: multiply by `factor`, then the unit is `unit`."""

    factor: float
    unit: str


def span_for(size: float, unit: str) -> Span:
    """The unit that suits spans of time of about `size`: hours for 108,000 s; years and the like stay what they are."""
    seconds = {"s": 1.0, "min": 60.0, "h": 3600.0, "days": 86400.0}
    names = {"second": "s", "minute": "min", "hour": "h", "day": "days", "d": "days"}
    own = names.get(unit, unit)
    if own not in seconds:
        return Span(1.0, {"year": "years", "month": "months", "week": "weeks"}.get(unit, unit_text(unit)))
    total = abs(size) * seconds[own]
    best = "s"
    for name, length in seconds.items():
        if total >= (2 * length if name == "days" else length):
            best = name
    return Span(seconds[own] / seconds[best], best)


def duration(value: float, unit: str) -> str:
    """A span of time in a unit that suits it, to two digits or three: 108,000 s → 30 h."""
    span = span_for(value, unit)
    return f"{short(value * span.factor)} {span.unit}".strip()


def short(value: float) -> str:
    """A number without digits that say nothing: 30, 2.5, 0.25, 1,920."""
    text = number(value, 2 if abs(value) < 100 else 4)
    return text.rstrip("0").rstrip(".") if "." in text and "×" not in text else text


# What is said of a result that has failed: in one form, so that whoever looks for it finds it everywhere.

DO_NOT_RELY_ON = "Do not rely on"


def not_to_rely_on(what: str, why: str) -> str:
    """The sentence on a result that must not be relied on.

    Args:
        what: The result, such as `this result`.
        why: Ends the sentence, without its full stop.
    """
    return f"{DO_NOT_RELY_ON} {what}: {why}."


def status_words(run: str, status: object) -> str:
    """Why what rests on a run is not to be relied on, where it did not finish with all gates passed."""
    return f"the status of run {run} is “{status}”"
