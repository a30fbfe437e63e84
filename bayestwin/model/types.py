"""Names for types that several modules share."""

from collections.abc import Callable
from typing import Any

import numpyro.distributions as dist

from bayestwin.model.events import SteadyState

type Prior = dist.Distribution | float
"""A scalar NumPyro distribution, or a number when the value is known."""

type NoiseParameter = Prior | str
"""A prior, a number when known, or the name of a parameter of the twin, which several observations can share."""

type VectorField = Callable[[Any, Any, Any, Any], dict[str, Any]]
"""`(t, x, p, u)` → the time derivative of each state, by name."""

type Observed = Callable[[Any, Any, Any, Any], Any]
"""`(t, x, p, u)` → the noise-free value of an observation."""

type Initial = Prior | SteadyState | Callable[[Any], Any]
"""Where a state starts: a prior, a number, the equilibrium, or a function of the parameters `(p)`."""
