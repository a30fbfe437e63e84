"""Units that are taken for each other: what turns values in one into values in the other, in words."""

import functools
from collections.abc import Callable, Mapping

import numpy as np

TEMPERATURES = ("degC", "degF", "K")

_SIZES = {"3.6": 3.6, "60": 60.0, "100": 1e2, "1000": 1e3, "3600": 3.6e3, "60000": 6e4, "10⁶": 1e6}

FACTORS: Mapping[str, float] = {
    words: factor
    for size, value in _SIZES.items()
    for words, factor in ((f"divided by {size}", 1 / value), (f"times {size}", value))
}
"""By size: km/h and m/s, h and min, a share and a percentage, kW and W, h and s, L/min and m³/s, MW and W."""

OFFSETS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "taken as °F": lambda values: (values - 32.0) / 1.8,
    "taken as K": lambda values: values - 273.15,
    "taken as °C where °F is meant": lambda values: values * 1.8 + 32.0,
    "taken as °C where K is meant": lambda values: values + 273.15,
}
"""Only for temperatures."""


def changes_of(unit: str) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """What values in a unit may have to go through, by what it is called; the smallest changes first."""
    temperature = unit in TEMPERATURES
    changes = dict(OFFSETS) if temperature else {}
    for words, factor in FACTORS.items():
        if not temperature or np.log10(factor) % 1 == 0:
            changes[words] = functools.partial(np.multiply, factor)
    return changes
