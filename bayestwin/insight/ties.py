"""Directions along which observations do not change at all: which quantities they tie together, and in which form.

A direction that is null at every point is one of the equations and the telemetry, not of a value. In logarithms of the
quantities a constant null direction leaves products and ratios, in the quantities themselves sums and differences.
"""

from typing import NamedTuple

import numpy as np
from scipy.sparse.csgraph import connected_components

from bayestwin.insight.forms import Combination, combinations_of

UNSEEN = 1e-8
"""Information on one quantity, per variance of its prior, below which it leaves no trace."""

DEPENDENT = 1e-9
"""Eigenvalue of the information matrix, scaled to a unit diagonal, below which columns depend on each other."""

SILENT = 1e-2
"""Information along a direction, per variance of the prior, above which it is not null whatever the solver's errors."""

TIED = 1e-3
"""Entry of the projector on null directions above which two quantities belong together."""


class Tie(NamedTuple):
    """Quantities that observations cannot tell apart, or one that they do not see.

    Attributes:
        members: Numbers of the quantities.
        num_null: In how many directions they can move unseen.
        form: `"unused"` for one that leaves no trace, `"log"` or `"plain"` where only the combinations appear, else
            `"unknown"`.
        combinations: What observations determine.
        direction: One null direction at the first point, in standard deviations of the prior, its largest entry 1;
            shape (d,).
    """

    members: tuple[int, ...]
    num_null: int
    form: str
    combinations: tuple[Combination, ...]
    direction: np.ndarray


def find_ties(information: np.ndarray, values: np.ndarray, slopes: np.ndarray, spread: np.ndarray) -> tuple[Tie, ...]:
    """What observations cannot tell apart at any of n points.

    Args:
        information: Fisher information in z; shape (n, d, d).
        values: θ; shape (n, d).
        slopes: dθ/dz; shape (n, d).
        spread: Standard deviation of z under the prior; shape (d,).
    """
    scaled = information * spread[:, None] * spread[None]
    bases = [null_space(one) for one in scaled]
    nullity = np.array([basis.shape[1] for basis in bases])
    # at some points more is null than elsewhere: a state that has died out, a sensor at its limit
    least = int(np.sort(nullity)[len(nullity) // 4])
    chosen = np.flatnonzero(nullity == least)
    if least == 0:
        return ()
    projectors = np.stack([bases[n] @ bases[n].T for n in chosen])
    tied = np.abs(projectors).mean(axis=0) > TIED
    found = []
    _, owners = connected_components(tied)
    for owner in range(owners.max() + 1):
        members = np.flatnonzero(owners == owner)
        if tied[members, members].any():
            found.append(_tie(members, projectors, values[chosen], slopes[chosen], spread))
    return tuple(found)


def null_space(scaled: np.ndarray) -> np.ndarray:
    """An orthonormal basis of the directions along which there is no information; shape (d, k).

    Args:
        scaled: Information per variance of the prior; shape (d, d).
    """
    own = np.diagonal(scaled)
    unseen = ~(own > UNSEEN)
    seen = np.flatnonzero(~unseen)
    basis = [np.eye(len(own))[:, unseen]]
    if seen.size:
        root = np.sqrt(own[seen])
        eigenvalues, vectors = np.linalg.eigh(scaled[np.ix_(seen, seen)] / root[:, None] / root[None])
        moved = vectors / root[:, None]
        along = eigenvalues / (moved**2).sum(axis=0)
        null = (eigenvalues < DEPENDENT) & (along < SILENT)
        wide = np.zeros((len(own), int(null.sum())))
        wide[seen] = moved[:, null]
        basis.append(wide)
    return np.linalg.qr(np.concatenate(basis, axis=1))[0]


def _tie(
    members: np.ndarray, projectors: np.ndarray, values: np.ndarray, slopes: np.ndarray, spread: np.ndarray
) -> Tie:
    """The tie between quantities whose null directions concern them alone."""
    own = projectors[:, members[:, None], members[None]]
    num_null = max(1, round(float(np.trace(own, axis1=1, axis2=2).mean())))
    direction = np.zeros(len(spread))
    # the column of the projector on the quantity that moves most is a null direction itself
    column = own[0][:, int(np.argmax(np.diagonal(own[0])))]
    direction[members] = column / column[int(np.argmax(np.abs(column)))]
    if len(members) == 1:
        return Tie(tuple(members), 1, "unused", (), direction)
    determined = np.stack([np.linalg.eigh(one)[1][:, : len(members) - num_null].T for one in own])
    theta, step = values[:, members], slopes[:, members] * spread[members]
    with np.errstate(divide="ignore"):
        candidates = {"log": np.abs(theta) / step * np.sign(theta), "plain": 1.0 / step}
    for form, factors in candidates.items():
        found = combinations_of(determined * factors[:, None, :])
        if found:
            return Tie(tuple(members), num_null, form, found, direction)
    return Tie(tuple(members), num_null, "unknown", (), direction)
