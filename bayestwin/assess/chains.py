"""Draws of a result by chain and scalar parameter, and how widely they spread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import xarray as xr

from bayestwin import errors

MIN_DRAWS = 4
"""With fewer draws a chain, R̂, ESS and E-BFMI mean nothing (and ArviZ does not compute them)."""

NORMAL_DECILES = 2.5631
"""Distance of the outer deciles of a normal distribution, in standard deviations."""


class Chains(NamedTuple):
    """Draws as plain arrays.

    Attributes:
        labels: Name of each chain.
        draws: Draws (chain, draw) of each scalar parameter; element 2 of an array `theta` is `theta[2]`, and what
            belongs to experiment `a` is `theta[a]`.
    """

    labels: tuple[str, ...]
    draws: Mapping[str, np.ndarray]

    @property
    def num_draws(self) -> int:
        """Draws of all chains together."""
        return next(iter(self.draws.values())).size

    def means(self, parameter: str) -> str:
        """Mean of a parameter in each chain, in words."""
        means = zip(self.labels, self.draws[parameter].mean(axis=1), strict=True)
        return "means by chain: " + ", ".join(f"{label}: {mean:.4g}" for label, mean in means)

    def why_not(self, parameter: str, min_chains: int = 1) -> str:
        """Why the draws of a parameter cannot be judged, in words; empty where they can."""
        values = self.draws[parameter]
        if values.shape[1] < MIN_DRAWS:
            return f"{values.shape[1]} draws a chain are too few"
        if not np.isfinite(values).all():
            return "some draws are NaN or infinite"
        if np.ptp(values) == 0:
            return "all draws are the same"
        if len(values) < min_chains:
            return "there is only one chain"
        return ""


def read_chains(tree: xr.DataTree, group: str) -> Chains:
    """All parameters of a group with dimensions chain and draw, one array for each scalar.

    Raises:
        InvalidInput: No such group, no variable or chain in it, or a variable without chains and draws.
    """
    dataset = tree[group].to_dataset() if group in tree.children else xr.Dataset()
    foreign = [str(name) for name, value in dataset.items() if not {"chain", "draw"} <= set(value.dims)]
    if not dataset.data_vars or foreign or dataset.sizes["chain"] == 0:
        received = f"variables without them: {', '.join(foreign)}" if foreign else "no variable or chain"
        raise errors.InvalidInput(
            errors.explain(
                f"The group `{group}` is not a set of draws.",
                expected="variables with the dimensions `chain` and `draw`",
                received=received,
                advice="Pass what `calibrate` returned, or a file that `save` wrote.",
            )
        )
    found: dict[str, np.ndarray] = {}
    for name, variable in dataset.items():
        variable = variable.transpose("chain", "draw", ...)
        values = variable.to_numpy().astype(float)
        words = [variable[dim].to_numpy() for dim in variable.dims[2:]]
        for index in np.ndindex(values.shape[2:]):
            places = ", ".join(str(labels[place]) for labels, place in zip(words, index, strict=True))
            label = f"{name}[{places}]" if index else str(name)
            found[label] = values[(slice(None), slice(None), *index)]
    return Chains(chain_labels(dataset), found)


def chain_labels(draws: xr.Dataset | xr.DataArray) -> tuple[str, ...]:
    """Names of the chains: their coordinate, or 0, 1, … without one."""
    return tuple(str(label) for label in draws["chain"].to_numpy())


def spread(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Standard deviation of a normal distribution with the same outer deciles: far draws do not move it."""
    lower, upper = np.quantile(values, (0.1, 0.9), axis=axis)
    return (upper - lower) / NORMAL_DECILES
