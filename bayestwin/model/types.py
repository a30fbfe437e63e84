"""Names for types that several modules share, and what happens to an asset at a moment: events, a steady start."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpyro.distributions as dist
from numpy.typing import ArrayLike

type Prior = dist.Distribution | float
"""A scalar NumPyro distribution, or a number when the value is known."""

type NoiseParameter = Prior | str | Column | Observed
"""A prior, a number when known, the name of a parameter of the twin, which several observations can share, a column of
the telemetry, or a function `(t, x, p, u)`."""


@dataclasses.dataclass(frozen=True)
class Column:
    """A noise quantity that the telemetry tells row by row, such as the standard deviation of each reading.

    The column is converted to the unit of the quantity. Where an observation is there its row needs a value; elsewhere
    the last one before it holds (the next one where there is none before), also in predictions. A row without a limit
    has none.

    Attributes:
        name: Name of the telemetry's column.
        factor: What the column is multiplied by: a prior, a number, or the name of a parameter of the twin without
            unit. One that is inferred is called `<observation>_<quantity>_factor`.
    """

    name: str
    factor: Prior | str = 1.0


type VectorField = Callable[[Any, Any, Any, Any], Any]
"""`(t, x, p, u)` → the time derivative of each state: a dict by name, or a list, tuple or array in their order."""

type Observed = Callable[[Any, Any, Any, Any], Any]
"""`(t, x, p, u)` → the noise-free value of an observation."""

type Dependent = Callable[[Any], Any]
"""A function of the parameters, `(p)`: what it returns, a number or a distribution, says whether it is a derived value
or a prior."""

type ByRecord = Mapping[str, float] | ByExperiment | First
"""What each record brings along: a number by the name of its experiment, or one from a column of its telemetry."""

type Initial = Prior | SteadyState | Dependent | Callable[[Any, Any], Any] | ByRecord | ArrayLike
"""Where a state starts: a prior, a number, the equilibrium, a function of the parameters `(p)` or of these and the
inputs at the start `(p, u)`, or what each record brings along; of a state that is an array also an array."""


# What happens to an asset at a moment: doses, resets, services, switches; and a start in equilibrium.

type Effect = Callable[[Any, Any, Any, Any], dict[str, Any]]
"""`(t, x, p, u)` → new values of some states and parameters, by name."""

type Trigger = Callable[[Any, Any, Any, Any], Any]
"""`(t, x, p, u)` → a number that crosses zero from below when the event happens."""


@dataclasses.dataclass(frozen=True)
class Event:
    """A moment at which states jump or parameters change; the solver stops there exactly.

    Without `at` and `when` it happens wherever the telemetry's column of the same name has a value; the effect finds
    that value in `u`, under the event's name. What is observed at the time of an event is the asset just before it.

    Attributes:
        effect: `(t, x, p, u)` → the new values, by name, of the states and parameters that change. A parameter stays
            changed until the next event that changes it.
        at: Times since `t0` at which it happens, in the twin's `time_unit`, increasing; or a function of the parameters
            `(p)` that gives one time or several, in any order, which may be inferred. It happens at those that lie
            between `t0` and the end of what is solved for, and nothing else depends on the others.
        when: `(t, x, p, u)` → a number; the event happens whenever it crosses zero from below. The time of the
            crossing is found to the precision of the solver, and is differentiated with everything else.
        unit: Unit of the telemetry's column, `""` for none.
        doc: What happens, in words.
    """

    effect: Effect
    at: tuple[float, ...] | Callable[[Any], Any] | None = None
    when: Trigger | None = None
    unit: str = ""
    doc: str = ""

    @property
    def kind(self) -> Literal["telemetry", "scheduled", "inferred", "triggered"]:
        """Who says when it happens: a column of the telemetry, the twin, its parameters, or the state."""
        if self.when is not None:
            return "triggered"
        return "inferred" if callable(self.at) else "scheduled" if self.at is not None else "telemetry"


@dataclasses.dataclass(frozen=True)
class SteadyState:
    """An initial state that is the twin's own equilibrium at the first parameters and inputs.

    All states that start so are solved for together, the others held at their initial values. Where the equations
    conserve a sum of them, as in a closed system, the equilibrium is the one with the total that the guesses have.

    What was in equilibrium under other circumstances, as a culture before a stimulus, says so by `under`, and what is
    set anew when these end by `then`.

    Attributes:
        guess: Where the search begins, in the unit of the state: a number, by default 0, or a function of the
            parameters `(p)`. States of a sum that is conserved need one.
        under: `(p)` → by name, the values that some parameters had until `t0`; the same function for all states.
        then: `(p, x)` → where the state starts at `t0`, with the equilibrium `x`; by default there.
    """

    guess: float | Callable[[Any], Any] | None = None
    under: Callable[[Any], dict[str, Any]] | None = None
    then: Callable[[Any, Any], Any] | None = None

    def begin(self, p: Any) -> Any:
        """Where the search begins, for some parameters."""
        return self.guess(p) if callable(self.guess) else 0.0 if self.guess is None else self.guess


def varies(quantity: object) -> bool:
    """Whether a noise quantity is a function `(t, x, p, u)`; NumPyro's distributions can be called too."""
    return callable(quantity) and not isinstance(quantity, dist.Distribution)


def by_row(quantity: object) -> bool:
    """Whether a noise quantity has another value in each row: a column of the telemetry, or a function."""
    return isinstance(quantity, Column) or varies(quantity)


# What each record brings along: numbers that are arguments of compiled programs, so that another record compiles none.


@dataclasses.dataclass(frozen=True)
class ByExperiment:
    """A known number for each experiment; what `{"first": 1.0, "second": 2.0}` in a twin becomes.

    Attributes:
        numbers: By the name of the experiment.
    """

    numbers: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class First:
    """The first value that a column of the telemetry has, as the value of a state at `t0` or of a parameter.

    Of several experiments each has that of its own telemetry. Predictions go on from that of the calibration.

    Without `prior` it is taken as exact. Of an observation it is then compared with itself as well, and carries its
    noise into the whole trajectory: better say how far it may be off,
    `bt.First("level", lambda first: dist.Normal(first, 0.1))`.

    Attributes:
        column: Name of an input, of an observation, or of any other column of the telemetry; it is converted to the
            unit of the state or parameter.
        prior: From that number to the distribution around it.
    """

    column: str
    prior: Callable[[Any], Any] | None = None
