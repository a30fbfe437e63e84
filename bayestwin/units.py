"""Units as text: parsing, comparing and converting them, by pint. No arrays are kept with units attached."""

import functools
import math

import numpy as np
import pint

from bayestwin.errors import BayestwinError, explain


@functools.cache
def registry() -> pint.UnitRegistry:
    """The one unit registry: pint's own units, and `thousand` for counts; degC and the like convert by offset."""
    units = pint.UnitRegistry(autoconvert_offset_to_baseunit=True)
    units.define("thousand = 1000 * count")
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
        message = explain(
            f"The unit of {owner} does not parse.",
            expected="a unit that pint knows, such as `degC`, `W/m^2`, `1/h`, or `` for none",
            received=f"`{unit}`",
            advice=f"pint says: {reason}",
        )
        raise error(message) from reason


def same_unit(one: str, other: str) -> bool:
    """Whether a difference of 1 in one unit is a difference of 1 in the other: `K` and `degC` are the same so."""
    (factor, base), (other_factor, other_base) = (registry().get_base_units(unit) for unit in (one, other))
    return base == other_base and math.isclose(float(factor), float(other_factor), rel_tol=1e-12)  # type: ignore[arg-type]


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
        message = explain(
            f"The unit of {owner} has the wrong dimension.",
            expected=f"something that converts to `{target}` ({reason.dim2})",
            received=f"`{source}` ({reason.dim1})",
            advice="Correct the unit in `units={…}` or in the twin.",
        )
        raise error(message) from reason
