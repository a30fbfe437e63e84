"""Tables of SciPy between whose points is interpolated, as functions that JAX can trace."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from bayestwin.errors import InvalidTwin


@dataclasses.dataclass(frozen=True, eq=False)
class Pieces:
    """A polynomial between each two points, or a step where it has one coefficient.

    Attributes:
        points: Ascending; shape (m + 1,).
        coefficients: The highest power of the distance from the point to the left first; shape (k, m).
        below: Value before the first point; None to go on with the first polynomial.
        above: Value after the last point; None to go on with the last one.
        closed: Whether a point belongs to the piece before it.
    """

    points: np.ndarray
    coefficients: np.ndarray
    below: float | None
    above: float | None
    closed: bool = False

    def __call__(self, at: ArrayLike) -> Array:
        """Values at some places, of the same shape."""
        at = jnp.asarray(at, float)
        side = "left" if self.closed else "right"
        piece = jnp.clip(jnp.searchsorted(self.points, at, side) - 1, 0, self.coefficients.shape[1] - 1)
        distance, found = at - jnp.asarray(self.points)[piece], jnp.zeros_like(at)
        for coefficients in self.coefficients:
            found = found * distance + jnp.asarray(coefficients)[piece]
        if self.below is not None:
            found = jnp.where(at < self.points[0], self.below, found)
        return found if self.above is None else jnp.where(at > self.points[-1], self.above, found)


def table_of(value: Any) -> Pieces | None:
    """What evaluates a table of `scipy.interpolate` in JAX; None of anything else.

    Raises:
        InvalidTwin: If it is a table of a kind that cannot be evaluated there.
    """
    kind = type(value)
    if isinstance(value, type) or not kind.__module__.startswith("scipy.interpolate"):
        return None
    from scipy import interpolate

    if isinstance(value, interpolate.interp1d) and np.ndim(value.y) == 1:
        return _of_interp1d(value)
    if isinstance(value, interpolate.BSpline) and np.ndim(value.c) == 1 and value.extrapolate != "periodic":
        inside = value.t[[value.k, -value.k - 1]]
        return _of_polynomials(interpolate.PPoly.from_spline(value), inside, *[_outside(value.extrapolate)] * 2)
    if isinstance(value, interpolate.UnivariateSpline) and value.ext in (0, 1, "extrapolate", "zeros"):
        own = interpolate.PPoly.from_spline(interpolate.BSpline(*value._eval_args))
        return _of_polynomials(own, value.get_knots(), *[None if value.ext in (0, "extrapolate") else 0.0] * 2)
    if isinstance(value, interpolate.PPoly) and np.ndim(value.c) == 2 and value.extrapolate != "periodic":
        return _of_polynomials(value, value.x, *[_outside(value.extrapolate)] * 2)
    raise InvalidTwin(
        "A table of SciPy cannot be evaluated in JAX.",
        expected="one of `interp1d`, `CubicSpline`, `PchipInterpolator`, `Akima1DInterpolator`, `UnivariateSpline` and "
        "`BSpline`, of one number at each point, not periodic",
        received=f"`{kind.__name__}`",
        advice="Use one of these, or write it with `jax.numpy`.",
    )


def _outside(extrapolate: Any) -> float | None:
    return None if extrapolate else np.nan


def _of_polynomials(found: Any, inside: np.ndarray, below: float | None, above: float | None) -> Pieces:
    """Those of SciPy between the first and the last point, where knots are repeated beyond them."""
    keep = np.flatnonzero((np.diff(found.x) > 0.0) & (found.x[:-1] >= inside[0]) & (found.x[1:] <= inside[-1]))
    points = np.append(found.x[keep], found.x[keep[-1] + 1])
    return Pieces(points, np.asarray(found.c[:, keep], float), below, above)


def _of_interp1d(value: Any) -> Pieces:
    from scipy import interpolate

    x, y, fill = np.asarray(value.x, float), np.asarray(value.y, float), value.fill_value
    below, above = None, None
    if not isinstance(fill, str):
        both = fill if isinstance(fill, tuple) else (fill, fill)
        below, above = (np.nan if value.bounds_error else float(np.ravel(one)[0]) for one in both)
    kind = value._kind
    if kind in ("linear", "slinear"):
        return Pieces(x, np.stack([np.diff(y) / np.diff(x), y[:-1]]), below, above)
    starts = {"previous": x, "zero": x, "next": np.append(x[0], x[:-1])}
    if kind in (*starts, "nearest", "nearest-up"):
        begins = starts.get(kind, np.append(x[0], (x[1:] + x[:-1]) / 2.0))
        return Pieces(np.append(begins, x[-1]), y[None], below, above, closed=kind in ("next", "nearest"))
    own = value._spline  # of several columns, of which there is one
    return _of_polynomials(interpolate.PPoly.from_spline((own.t, np.ravel(own.c), own.k)), x, below, above)
