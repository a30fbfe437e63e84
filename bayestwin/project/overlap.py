"""How far two posteriors agree, quantity by quantity."""

from typing import NamedTuple

import numpy as np
import xarray as xr

PROB = 0.9
"""Probability of the intervals; they are equal-tailed."""


class Agreement(NamedTuple):
    """One quantity in two posteriors.

    Attributes:
        name: The quantity.
        unit: Its unit; empty without one.
        first: Mean and standard deviation in the first.
        second: Likewise in the second.
        shift: Difference of the means, in standard deviations: root mean square of the two.
        overlap: Share of probability that they have in common, from 0 to 1.
        first_interval: Ends of the equal-tailed interval of probability `PROB` in the first.
        second_interval: Likewise in the second.
    """

    name: str
    unit: str
    first: tuple[float, float]
    second: tuple[float, float]
    shift: float
    overlap: float
    first_interval: tuple[float, float]
    second_interval: tuple[float, float]


def agreements(first: xr.Dataset, second: xr.Dataset) -> tuple[Agreement, ...]:
    """Every scalar quantity that two groups of draws (chain, draw) share, least overlap first."""
    found = []
    for name, values in first.data_vars.items():
        if name in second.data_vars and set(values.dims) == set(second[name].dims) == {"chain", "draw"}:
            unit = str(values.attrs.get("units", ""))
            found.append(_agreement(str(name), unit, values.to_numpy().ravel(), second[name].to_numpy().ravel()))
    return tuple(sorted(found, key=lambda one: one.overlap))


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """`1 − sup |F − G|`, the distributions being those of draws; shapes (n,) and (m,).

    Where the densities cross once, as those of two normals of equal width do, it is `∫ min(f, g)`; else somewhat more.
    Unlike an estimate of densities it needs no bandwidth.
    """
    both = np.sort(np.concatenate([first, second]))
    ours, theirs = (np.searchsorted(np.sort(draws), both, side="right") / draws.size for draws in (first, second))
    return float(1.0 - np.abs(ours - theirs).max())


def _agreement(name: str, unit: str, first: np.ndarray, second: np.ndarray) -> Agreement:
    means, spreads = (first.mean(), second.mean()), (first.std(), second.std())
    width = float(np.sqrt(np.mean(np.square(spreads))))
    shift = float(means[1] - means[0]) / width if width > 0 else float("nan")
    ours, theirs = ((float(mean), float(spread)) for mean, spread in zip(means, spreads, strict=True))
    return Agreement(name, unit, ours, theirs, shift, overlap(first, second), _ends(first), _ends(second))


def _ends(draws: np.ndarray) -> tuple[float, float]:
    lower, upper = np.quantile(draws, ((1 - PROB) / 2, (1 + PROB) / 2))
    return float(lower), float(upper)
