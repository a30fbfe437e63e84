"""From a log density to draws: where chains start, and the methods that draw. One method a module, one shape."""

from collections.abc import Mapping

from bayestwin.inference.laplace import laplace
from bayestwin.inference.map import point
from bayestwin.inference.method import Method
from bayestwin.inference.nuts import nuts
from bayestwin.inference.pathfinder import pathfinder
from bayestwin.inference.smc import smc

METHODS: Mapping[str, Method] = {"nuts": nuts, "laplace": laplace, "pathfinder": pathfinder, "map": point, "smc": smc}
"""What `calibrate(method=…)` offers, by name."""
