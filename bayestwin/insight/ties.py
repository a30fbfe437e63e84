"""Directions along which observations do not change at all: which quantities they tie together, and in which form.

A direction that is null at every point is one of the equations and the telemetry, not of a value. In logarithms of the
quantities a constant null direction leaves products and ratios, in the quantities themselves sums and differences.
"""

from collections.abc import Sequence
from fractions import Fraction
from math import gcd, lcm
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import biject_to
from numpyro.distributions.transforms import ExpTransform, IdentityTransform
from scipy.sparse.csgraph import connected_components

from bayestwin._base.process import key_for
from bayestwin.density.density import Density
from bayestwin.model.twin import Site, Twin

# The form of what observations determine: rational exponents and coefficients, and how they are written.

type Combination = tuple[float, ...]
"""Exponents of a product of powers, or coefficients of a sum, one for each member of a tie."""

CONSTANT = 1e-3
"""How far an exponent or a coefficient may be from point to point, and from a fraction, relative to 1."""

LARGEST_DENOMINATOR = 6

SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")

FEWEST_POINTS = 3
"""With fewer points one cannot say that a form holds everywhere."""


def combinations_of(rows: np.ndarray) -> tuple[Combination, ...]:
    """Combinations whose gradients span the same space at each of n points; none where they do not.

    Args:
        rows: A basis of the directions that are determined, in the coordinates of the form; shape (n, r, m).
    """
    if len(rows) < FEWEST_POINTS or not np.isfinite(rows).all():
        return ()
    pivots = _pivots(rows[0])
    if len(pivots) < rows.shape[1]:
        return ()
    try:
        reduced = np.stack([np.linalg.solve(one[:, pivots], one) for one in rows])
    except np.linalg.LinAlgError:
        return ()
    typical = np.median(reduced, axis=0)
    # a quarter of the points may lie where derivatives are poor
    off = np.abs(reduced - typical) / np.maximum(np.abs(typical), 1.0)
    if not (np.quantile(off, 0.75, axis=0) < CONSTANT).all():
        return ()
    return tuple(_rational(row) for row in typical)


def _pivots(rows: np.ndarray) -> list[int]:
    """The first columns that are independent of each other."""
    columns = rows / np.maximum(np.linalg.norm(rows, axis=0), 1e-300)
    found: list[int] = []
    for column in range(rows.shape[1]):
        if np.linalg.svd(columns[:, [*found, column]], compute_uv=False)[-1] > 1e-3:
            found.append(column)
        if len(found) == rows.shape[0]:
            break
    return found


def _rational(row: np.ndarray) -> Combination:
    """The row with whole numbers where it has fractions, its first entry positive."""
    fractions = [Fraction(float(x)).limit_denominator(LARGEST_DENOMINATOR) for x in row]
    if any(abs(float(f) - x) > CONSTANT * max(1.0, abs(x)) for f, x in zip(fractions, row, strict=True)):
        return tuple(float(x) for x in np.where(np.abs(row) > CONSTANT, row, 0.0))
    common = lcm(*[f.denominator for f in fractions])
    whole = [int(f * common) for f in fractions]
    shared = gcd(*whole) or 1
    return tuple(float(x // shared) for x in whole)


def written(combination: Combination, names: Sequence[str], form: str) -> str:
    """A combination in words of mathematics: `a² · b`, `a / b`, `a + 2 b`.

    Args:
        combination: Exponents or coefficients.
        names: Of the quantities.
        form: `"log"` for powers, `"plain"` for sums.
    """
    present = [(name, x) for name, x in zip(names, combination, strict=True) if x]
    if form == "plain":
        words = "".join(f" {'−' if x < 0 else '+'} {_factor(abs(x))}{name}" for name, x in present)
        return words.removeprefix(" + ")
    above = " · ".join(f"{name}{_power(x)}" for name, x in present if x > 0)
    below = [f"{name}{_power(-x)}" for name, x in present if x < 0]
    if not below:
        return above
    return f"{above or '1'} / {below[0] if len(below) == 1 else '(' + ' · '.join(below) + ')'}"


def _factor(x: float) -> str:
    return "" if x == 1.0 else f"{x:.3g} "


def _power(x: float) -> str:
    if x == 1.0:
        return ""
    return str(int(x)).translate(SUPERSCRIPTS) if x == int(x) else f"^{x:.3g}"


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
        combinations = combinations_of(determined * factors[:, None, :])
        if combinations:
            return Tie(tuple(members), num_null, form, combinations, direction)
    return Tie(tuple(members), num_null, "unknown", (), direction)


# The coordinates z of what is inferred: their names, how wide the prior is along each, and their scale.

PRIOR_DRAWS = 4000
"""Draws from which the spread of a prior is taken that has no closed form."""


class Coordinates(NamedTuple):
    """The d coordinates of z.

    Attributes:
        names: Of the quantities, `level_initial[first]` where an experiment has its own.
        sites: Name of the site that each is of.
        scales: `"log"`, `"plain"`, or `"bounded"` for what is stretched in another way.
        centre: Mean of z under the prior; shape (d,).
        spread: Standard deviation of z under the prior; shape (d,).
        units: Units of the quantities.
    """

    names: tuple[str, ...]
    sites: tuple[str, ...]
    scales: tuple[str, ...]
    centre: np.ndarray
    spread: np.ndarray
    units: tuple[str, ...]


def coordinates_of(density: Density, seed: int) -> Coordinates:
    """Names, scales and prior of the coordinates of a density."""
    own = [(site, name) for site in density.sites for name in _named(density, site.name, site.shared)]
    keys = jax.random.split(key_for(seed, "identify prior"), PRIOR_DRAWS)
    drawn = density.draw_prior(keys)[1]
    drawn = np.where(np.isfinite(drawn), drawn, np.nan)
    centre, spread = np.nanmean(drawn, axis=0), np.nanstd(drawn, axis=0)
    for number, (site, _) in enumerate(own):
        if type(site.prior) in (dist.Normal, dist.LogNormal):
            centre[number], spread[number] = float(site.prior.loc), float(site.prior.scale)  # type: ignore[attr-defined]
    return Coordinates(
        names=tuple(name for _, name in own),
        sites=tuple(site.name for site, _ in own),
        scales=tuple(_scale(density.twin, site) for site, _ in own),
        centre=centre,
        spread=spread,
        units=tuple(site.unit for site, _ in own),
    )


def _named(density: Density, name: str, shared: bool) -> list[str]:
    if shared or not density.experiments:
        return [name]
    return [f"{name}[{experiment}]" for experiment in density.experiments]


def _scale(twin: Twin, site: Site) -> str:
    kind = twin.dependences[site.name].scale if site.dependent else type(biject_to(site.prior.support))
    return {ExpTransform: "log", IdentityTransform: "plain"}.get(kind, "bounded")  # type: ignore[arg-type]


def values_and_slopes(density: Density, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values θ of all coordinates at n points, and dθ/dz; shape (n, d) each."""

    def flat(z: Array) -> Array:
        values = density.constrain(z)
        return jnp.concatenate([jnp.ravel(values[site.name]) for site in density.sites])

    both = jax.jit(jax.vmap(lambda z: jax.jvp(flat, (z,), (jnp.ones_like(z),))))
    theta, slopes = both(jnp.asarray(z))
    return np.asarray(theta), np.asarray(slopes)
