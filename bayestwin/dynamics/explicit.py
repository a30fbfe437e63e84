"""One step of an adaptive explicit Runge–Kutta method, Tsit5.

C. Tsitouras (2011), Runge–Kutta pairs of order 5(4), doi:10.1016/j.camwa.2011.06.002.
"""

import functools

from jax import Array

from bayestwin.dynamics.adaptive import Slope, march, weighted

# As diffrax has them to the bit; diffrax itself takes a second to import.
NODES = (0.161, 0.327, 0.9, 0.9800255409045097, 1.0, 1.0)
STAGES = (
    (0.161,),
    (-0.008480655492356989, 0.335480655492357),
    (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
    (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
    (5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383),
    (0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774),
)
WEIGHTS = (*STAGES[-1], 0.0)
ERRORS = (
    0.0017800110522257773,
    0.0008164344596567463,
    -0.007880878010261994,
    0.1447110071732629,
    -0.5823571654525552,
    0.45808210592918686,
    -0.015151515151515152,
)


def take_step(slope: Slope, t: Array, state: Array, step: Array) -> tuple[Array, Array]:
    """One step: the proposed state and the estimate of its error."""
    slopes = [slope(t, state)]
    for node, stage in zip(NODES, STAGES, strict=True):
        slopes.append(slope(t + node * step, state + step * weighted(stage, slopes)))
    return state + step * weighted(WEIGHTS, slopes), step * weighted(ERRORS, slopes)


advance = functools.partial(march, take_step)
