"""One interval of the grid by an adaptive explicit Runge–Kutta method, Tsit5; the tableau is diffrax's.

C. Tsitouras (2011), Runge–Kutta pairs of order 5(4), doi:10.1016/j.camwa.2011.06.002.
"""

import functools

import diffrax
from jax import Array

from bayestwin.dynamics.adaptive import Slope, march, weighted

_TABLEAU = diffrax.Tsit5.tableau
_NODES = [float(c) for c in _TABLEAU.c]
_STAGES = [[float(a) for a in row] for row in _TABLEAU.a_lower]
_WEIGHTS = [float(b) for b in _TABLEAU.b_sol]
_ERRORS = [float(b) for b in _TABLEAU.b_error]


def take_step(slope: Slope, t: Array, state: Array, step: Array) -> tuple[Array, Array]:
    """One step: the proposed state and the estimate of its error."""
    slopes = [slope(t, state)]
    for node, stage in zip(_NODES, _STAGES, strict=True):
        slopes.append(slope(t + node * step, state + step * weighted(stage, slopes)))
    return state + step * weighted(_WEIGHTS, slopes), step * weighted(_ERRORS, slopes)


advance = functools.partial(march, take_step)
