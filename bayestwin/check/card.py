"""The operating range of a twin, as its card states it: a block of TOML beneath the heading "Operating range".

By observation or input a table such as `[indoor]` with `low`, `high` in `unit`, and `max_rate` by the twin's time unit.
"""

import difflib
import math
import pathlib
import re
import tomllib
from collections.abc import Mapping
from typing import Any, NamedTuple

from bayestwin._base.units import check_unit, convert
from bayestwin.errors import InvalidInput, explain
from bayestwin.model.twin import Twin

HEADING = re.compile(r"(?m)^#{2,}\s*operating range\b.*$", re.IGNORECASE)

BLOCK = re.compile(r"^```toml[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)


class Limit(NamedTuple):
    """What one observation or input may be, in the twin's unit.

    Attributes:
        low: The lowest value; −∞ where the card says nothing.
        high: The highest one.
        max_rate: The largest change in one unit of the twin's time.
    """

    low: float = -math.inf
    high: float = math.inf
    max_rate: float = math.inf

    def words(self, unit: str) -> str:
        """The range in words, open at an end that is not stated."""
        parts = [f"{end:.4g}" for end in (self.low, self.high) if math.isfinite(end)]
        word = "" if len(parts) != 1 else "at least " if math.isfinite(self.low) else "at most "
        return f"{word}{' to '.join(parts)} {unit}".strip()


def read_limits(path: pathlib.Path, twin: Twin) -> dict[str, Limit]:
    """Limits by observation and input, in the twin's units; none where there is no card, or no block in it.

    Raises:
        InvalidInput: If the block is not TOML, names what the twin does not have, or a limit makes no sense.
    """
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8-sig")
    heading = HEADING.search(text)
    if heading is None:
        return {}
    section = re.split(r"(?m)^#{1,2}\s", text[heading.end() :], maxsplit=1)[0]
    block = BLOCK.search(section)
    if block is None:
        return {}
    try:
        found = tomllib.loads(block[1])
    except tomllib.TOMLDecodeError as reason:
        message = explain(
            f"The operating range of `{path}` is not valid TOML.",
            expected='tables such as `[indoor]` with `low = 15.0`, `high = 30.0`, `unit = "degC"`',
            received=str(reason),
            advice="Correct the block beneath “Operating range”; lines count from its first one.",
        )
        raise InvalidInput(message) from reason
    return limits_from(found, twin, str(path))


def limits_from(given: Mapping[str, Any], twin: Twin, owner: str = "limits") -> dict[str, Limit]:
    """Limits as a card or a caller states them, checked, in the twin's units.

    Args:
        given: By name, `low`, `high`, `unit` and `max_rate`, each of which may be left out.
        twin: Its observations and inputs may be named.
        owner: What states them, for messages.

    Raises:
        InvalidInput: If a name or key is unknown, or a limit makes no sense.
    """
    members = {**twin.inputs, **twin.observations}
    found = {}
    for name, stated in given.items():
        if name not in members:
            _refuse(owner, f"names `{name}`", members, f"`{name}`", _meant(name, members))
        if not isinstance(stated, Mapping):
            _refuse(owner, f"has no table for `{name}`", ["[" + name + "]"], f"{stated!r}", "Make it a table.")
        found[name] = _limit(name, stated, members[name].unit, owner)
    return found


def _limit(name: str, stated: Mapping[str, Any], unit: str, owner: str) -> Limit:
    keys = ("low", "high", "unit", "max_rate")
    for key, value in stated.items():
        if key not in keys:
            _refuse(owner, f"has the unknown key `{name}.{key}`", keys, f"`{key}`", _meant(key, keys))
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if key != "unit" and not number:
            _refuse(owner, f"has no number for `{name}.{key}`", ["a finite number"], f"{value!r}", "Correct it.")
    own = str(stated.get("unit", unit))
    check_unit(own, f"`{name}` in the operating range of `{owner}`", InvalidInput)
    what = f"`{name}` in the operating range of `{owner}`"
    low, high = (
        float(convert(float(stated.get(key, nothing)), own, unit, what, InvalidInput))  # type: ignore[arg-type]
        for key, nothing in (("low", -math.inf), ("high", math.inf))
    )
    if not low < high:
        _refuse(owner, f"leaves nothing between `low` and `high` of `{name}`", ["low < high"], f"{low:g}, {high:g}", "")
    rate = float(stated.get("max_rate", math.inf))
    if not rate > 0:
        _refuse(owner, f"has a `max_rate` of `{name}` that forbids all", ["a positive number"], f"{rate:g}", "")
    one = [float(convert(value, own, unit, what, InvalidInput)) for value in (0.0, 1.0)]  # type: ignore[arg-type]
    return Limit(low, high, rate * (one[1] - one[0]))


def _meant(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean `{close[0]}`?" if close else "Remove it, or correct its name."


def _refuse(owner: str, what: str, expected: Any, received: str, advice: str) -> None:
    message = explain(
        f"The operating range of `{owner}` {what}.",
        expected=", ".join(f"`{one}`" for one in expected),
        received=received,
        advice=advice or "Correct it.",
    )
    raise InvalidInput(message)
