"""The form of what observations determine: rational exponents and coefficients, and how they are written."""

from collections.abc import Sequence
from fractions import Fraction
from math import gcd, lcm

import numpy as np

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
