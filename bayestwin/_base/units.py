"""Units as text: parsing, comparing and converting them, by pint. No arrays are kept with units attached."""

import functools
import math
import re

import numpy as np
import pint

from bayestwin.errors import BayestwinError

SPELT = {
    "Celsius": "degC",
    "ºC": "degC",
    "oC": "degC",
    "℃": "degC",
    "C": "degC",
    "Fahrenheit": "degF",
    "ºF": "degF",
    "oF": "degF",
    "℉": "degF",
    "F": "degF",
    "Kelvin": "K",
    "lpm": "L/min",
    "lps": "L/s",
    "gpm": "gal/min",
    "cfm": "ft^3/min",
    "scfm": "ft^3/min",
    "cmh": "m^3/h",
    "kw": "kW",
    "kwh": "kWh",
    "mwh": "MWh",
    "W/m2K": "W/(m^2 K)",
    "W/m²K": "W/(m^2 K)",
    "kva": "kVA",
    "var": "V*A",
    "kvar": "kV*A",
    "std": "h",
    "pct": "percent",
    "%RH": "percent",
    "RH": "percent",
    "amp": "A",
    "amps": "A",
    "-": "",
    "none": "",
    "unitless": "",
}
"""What loggers write, and what pint calls it, or takes for something else; the case of letters is looked at last."""

_WORD = re.compile(r"[^\W\d_]+|%")
_POWER = re.compile(r"(?<![^\W\d_^*])([^\W\d_]+)(-?[1-4])(?![\d.]|[^\W\d_])")
_NORMAL = re.compile(r"\b[NS](?=m(?:\^|\*\*)?[3³])")
"""Of normal or standard cubic metres, which units do not tell from others."""


@functools.cache
def registry() -> pint.UnitRegistry:
    """The one unit registry: pint's own units, and `thousand` for counts; degC and the like convert by offset.

    Gauge and absolute pressures (`barg`, `bara`, `kPag`, `psia`, …) have dimensions of their own: they convert among
    themselves, and neither into the other nor into a plain `bar`, which does not say what it counts from.
    """
    units = pint.UnitRegistry(autoconvert_offset_to_baseunit=True)
    units.define("thousand = 1000 * count")
    for kind, sign in (("gauge", "g"), ("absolute", "a")):
        units.define(f"pascal_{kind} = [{kind}_pressure] = Pa{sign}")
        units.define(f"bar_{kind} = 1e5 * pascal_{kind} = bar{sign}")
        units.define(f"psi_{kind} = 6894.757293168361 * pascal_{kind} = psi{sign}")
    return units


def check_unit(unit: str, owner: str, error: type[BayestwinError]) -> None:
    """Raise `error` if `unit` does not parse.

    Args:
        unit: Text such as `"K/W"`; `""` is dimensionless.
        owner: What carries the unit, for the message, e.g. "state `indoor`".
        error: The type to raise.
    """
    try:
        registry().parse_units(unit)
    except Exception as reason:  # pint raises errors of many unrelated kinds for malformed text
        raise error(
            f"The unit of {owner} does not parse.",
            expected="a unit that pint knows, such as `degC`, `W/m^2`, `1/h`, or `` for none",
            received=f"`{unit}`",
            advice=_meant(unit) or f"pint says: {reason}",
        ) from reason


def has_offset(unit: str) -> bool:
    """Whether zero of a unit is not zero of its quantity, as of degC."""
    return bool(registry().Quantity(0.0, unit or "1").to_base_units().magnitude != 0.0)


def difference_unit(unit: str | None) -> str | None:
    """The unit of a difference of two values: of temperatures in °C it is not °C."""
    if unit is None:
        return None
    quantity = registry().Quantity
    return str((quantity(1.0, unit) - quantity(0.0, unit)).units)


def suggested(unit: str) -> str | None:
    """What is meant by text that pint does not know, or takes for another, as `m^3/s` by `m3/s`; None if open."""
    text = unit.strip()
    bare = re.sub(r"^(?:deg(?:rees?)?|grad|°|º)[ .]*(?=[CFK]|$)", "", text, flags=re.IGNORECASE)
    spelt = {name.casefold(): meant for name, meant in SPELT.items()}
    tries = [SPELT.get(text), SPELT.get(bare), spelt.get(text.casefold()), spelt.get(bare.casefold())]
    powers = _POWER.sub(r"\1^\2", _WORD.sub(lambda word: _one(word[0]), _NORMAL.sub("", text)))
    tries += [powers, re.sub(r"\s*\b(?:RH|rel|abs)\b\.?", "", text).strip()]
    return next((one for one in tries if one is not None and one != text and _parses(one)), None)


def _one(word: str) -> str:
    """One unit in the way that pint spells it."""
    if _parses(word):
        return word
    lower = {name.casefold(): meant for name, meant in SPELT.items()}
    others = [SPELT.get(word), lower.get(word.casefold()), word.lower(), word.capitalize()]
    return next((one for one in others if one is not None and _parses(one)), word)


def _parses(unit: str) -> bool:
    try:
        registry().parse_units(unit)
    except Exception:  # as in `check_unit`
        return False
    return True


def _meant(unit: str) -> str:
    """Advice about text that pint does not know; empty where there is none."""
    meant = suggested(unit)
    if meant is None:
        return ""
    note = ", of the gas at standard conditions, which units do not tell" if _NORMAL.search(unit) else ""
    return f"Did you mean `{meant}`{note}?" if meant else 'Did you mean none? That is `""`.'


def same_unit(one: str, other: str) -> bool:
    """Whether a difference of 1 in one unit is a difference of 1 in the other: `K` and `degC` are the same so."""
    (factor, base), (other_factor, other_base) = (registry().get_base_units(unit) for unit in (one, other))
    return base == other_base and math.isclose(float(factor), float(other_factor), rel_tol=1e-12)  # type: ignore[arg-type]


def named_alike(one: str, other: str) -> bool:
    """Whether two texts name the same unit: `W/m^2` and `watt / meter ** 2` do, `K` and `degC` do not."""
    first, second = (registry().parse_units(unit) for unit in (one, other))
    return str(first) == str(second)


def check_undeclared(values: np.ndarray, unit: str, owner: str, error: type[BayestwinError]) -> None:
    """Refuse values without a stated unit where it is open whether they are in `unit`.

    Gauge or absolute is always open. A temperature is where its values would be usual ones in another unit: all
    between 220 and 380 taken as °C may be K, all between -60 and 150 taken as K may be °C. So it is with one below
    absolute zero.

    Args:
        values: Any shape; NaN is not looked at.
        unit: The unit that they would be taken to be in.
        owner: Whose values they are, for the message.
        error: The type to raise.
    """
    there = values[np.isfinite(values)]
    kind = registry().parse_units(unit)
    dimensions = dict(kind.dimensionality)
    doubt = ""
    if dimensions in ({"[gauge_pressure]": 1}, {"[absolute_pressure]": 1}):
        doubt = "gauge and absolute pressures look alike"
    elif dimensions == {"[temperature]": 1} and there.size and "delta" not in str(kind):
        low, high = float(there.min()), float(there.max())
        if float(registry().Quantity(low, unit).to("K").magnitude) < 0:
            doubt = f"{low:g} {unit} is below absolute zero"
        elif str(kind) == "degree_Celsius" and low >= 220 and high <= 380:
            doubt = f"values from {low:g} to {high:g} may be in K"
        elif str(kind) == "kelvin" and low >= -60 and high <= 150:
            doubt = f"values from {low:g} to {high:g} may be in degC"
    if doubt:
        raise error(
            f"The unit of {owner} is not stated, and must be.",
            expected=f"`units={{…}}` with the unit of this column, since the twin has it in `{unit}`",
            received=f"none, and {doubt}",
            advice="State it even if it is the twin's.",
        )


def convert(values: np.ndarray, source: str, target: str, owner: str, error: type[BayestwinError]) -> np.ndarray:
    """Convert `values` from one unit to another.

    Args:
        values: Any shape, in `source`.
        source: Unit of `values`.
        target: Unit wanted.
        owner: Whose values they are, for the message.
        error: The type to raise when the dimensions differ.

    Returns:
        Values in `target`, same shape; the same object when the units are the same text.
    """
    if source == target:
        return values
    try:
        return registry().Quantity(values, source).to(target).magnitude
    except pint.DimensionalityError as reason:
        raise error(
            f"The unit of {owner} has the wrong dimension.",
            expected=f"something that converts to `{target}` ({reason.dim2})",
            received=f"`{source}` ({reason.dim1})",
            advice=_advice(source, target),
        ) from reason


def _advice(source: str, target: str) -> str:
    """What may be meant by a unit of the wrong dimension."""
    dimensions = {str(registry().parse_units(unit).dimensionality) for unit in (source, target)}
    if dimensions & {"[gauge_pressure]", "[absolute_pressure]"}:
        return (
            "Gauge pressures (`barg`) count from the air's, absolute ones (`bara`) from vacuum: say on both sides "
            "which it is, and add the air's pressure at the asset yourself where they differ."
        )
    meant = "degC" if source in ("deg", "degrees", "°") else suggested(source)
    if meant is not None and registry().get_dimensionality(meant) == registry().get_dimensionality(target):
        kind = "a temperature is in" if "[temperature]" in dimensions else "did you mean"
        end = "." if "[temperature]" in dimensions else "?"
        return f"pint reads `{source}` as {registry().parse_units(source)}: {kind} `{meant}`{end}"
    return "Correct the unit in `units={…}` or in the twin."
