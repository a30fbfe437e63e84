"""What a twin is made of: states, parameters, inputs, observations, and how it is solved."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpyro.distributions as dist

from bayestwin.model.noise.families import Noise
from bayestwin.model.types import ByExperiment, ByRecord, Dependent, Initial, Observed, Prior


@dataclasses.dataclass(frozen=True)
class State:
    """One component of the state: a scalar, or an array of many that obey one equation.

    Of an array the functions of the twin take and return arrays, `x.temperature` with shape `(50,)`, and results have
    its dimensions after the others. `size=50` gives the state `temperature` the dimension `temperature_dim_0`,
    `coords={"cell": positions}` one that is named, or several, with these labels.

    Attributes:
        initial: Its value when the telemetry starts: a scalar prior, a number when known, or `bt.SteadyState(guess)`
            for the equilibrium. A function of the parameters `(p)`, or of these and the inputs at the start `(p, u)`,
            derives it, or, where it returns a distribution of `(p)`, is its prior. `{"first": 1.0, "second": 2.0}`
            are known numbers by experiment, and `bt.First("column")` takes it from the telemetry. Of an array what is
            a scalar is the same in all entries; an array, known or from a function, gives each its own.
        unit: Unit as text, `""` for none.
        doc: What it is, in words.
        positive: Solve for its logarithm, so that it stays above zero whatever the solver does; `rtol` is then the
            error of that, and `atol` is not used.
        shared: Of several experiments: whether all of them start alike; by default each starts in its own way, with
            this prior.
        size: How many entries an array has.
        coords: By dimension, the label of each place along it; in place of `size`.
        pooled: As that of a `Parameter`: how far initial values lie apart, around a typical one with this prior.
    """

    initial: Initial
    unit: str = ""
    doc: str = ""
    positive: bool = False
    shared: bool = False
    size: int | None = None
    coords: Mapping[str, Sequence[Any] | np.ndarray] | None = None
    pooled: Prior | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """`()` of a scalar."""
        if self.coords is not None:
            return tuple(len(labels) for labels in self.coords.values())
        return () if self.size is None else (self.size,)

    def axes(self, name: str) -> dict[str, np.ndarray]:
        """The labels along each of its dimensions, as results have them; `name` is that of the state."""
        if self.coords is not None:
            return {dim: np.asarray(labels) for dim, labels in self.coords.items()}
        return {} if self.size is None else {f"{name}_dim_0": np.arange(self.size)}

    def __post_init__(self) -> None:
        """Keep numbers by experiment apart: they are no part of compiled programs."""
        object.__setattr__(self, "initial", apart(self.initial))

    @property
    def derived(self) -> bool:
        """Whether `initial` is a function of the parameters; NumPyro's distributions can be called too."""
        return callable(self.initial) and not isinstance(self.initial, dist.Distribution)


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One constant of the twin.

    A function of the parameters `(p)` that stand before it is told apart by what it returns. A number is a **derived**
    parameter, `bt.Parameter(lambda p: jnp.log(2) / p.half_life)`: it is used as any other, and its value at each draw
    is in the posterior. A distribution is a **prior that depends on others**,
    `bt.Parameter(lambda p: dist.LogNormal(jnp.log(p.typical), 0.3))`.

    With `pooled` each of several experiments has its own value, and all come from one population, so that those of
    which little is known are held near the others: `bt.Parameter(dist.LogNormal(0, 1), pooled=dist.HalfNormal(0.4))` of
    the name `k` infers `k_typical`, with the first prior, `k_spread`, with the second, and `k` of each experiment.

    Attributes:
        prior: A scalar prior, or a number when known; `{"first": 1.0, "second": 2.0}` are known numbers by experiment,
            `bt.First("column")` is one from the telemetry; or a function of parameters.
        unit: Unit as text, `""` for none.
        doc: What it is, in words.
        shared: Of several experiments: whether it is the same in all of them, or another value in each, with this
            prior.
        pooled: Prior of the spread between experiments, the standard deviation on the scale on which the parameter
            can have any value: of the logarithm where it is positive, about 0.3 for 30 %.
    """

    prior: Prior | Dependent | ByRecord
    unit: str = ""
    doc: str = ""
    shared: bool = True
    pooled: Prior | None = None

    def __post_init__(self) -> None:
        """Keep numbers by experiment apart: they are no part of compiled programs."""
        object.__setattr__(self, "prior", apart(self.prior))

    @property
    def dependent(self) -> bool:
        """Whether it is a function of other parameters; NumPyro's distributions can be called too."""
        return callable(self.prior) and not isinstance(self.prior, dist.Distribution)


def apart(value: Any) -> Any:
    """The same, with numbers by experiment as `ByExperiment`."""
    return ByExperiment(dict(value)) if isinstance(value, Mapping) else value


@dataclasses.dataclass(frozen=True)
class Input:
    """One exogenous signal, read from the telemetry.

    Attributes:
        unit: Unit as text, `""` for none; telemetry in another unit is converted.
        hold: Between two samples, `"linear"` interpolates, `"previous"` keeps the earlier one, and `"cubic"` follows a
            smooth spline, which may overshoot.
        beyond: Outside the samples, `"error"` refuses, `"hold"` keeps the nearest sample, and `"periodic"` repeats the
            last `period` after the end.
        doc: What it is, in words.
        period: How long it takes to repeat itself, in the twin's `time_unit`.
        before: What it was before its first sample, where the vector field asks for it at an earlier time, as
            `u.valve(t - p.dead)` does; by default what it is at its first sample.
    """

    unit: str = ""
    hold: Literal["linear", "previous", "cubic"] = "linear"
    beyond: Literal["error", "hold", "periodic"] = "error"
    doc: str = ""
    period: float | None = None
    before: float | None = None


@dataclasses.dataclass(frozen=True)
class Observation:
    """One signal that the telemetry holds and the twin predicts.

    Attributes:
        noise: How observations scatter around the predicted value.
        of: `(t, x, p, u)` → predicted value; by default the state of the same name.
        unit: Unit as text, `""` for none; telemetry in another unit is converted.
        doc: What it is, in words.
        reads: What of that is read: its `"value"` at the time of the row, or, over the time since an earlier row, its
            `"mean"` (a logger that averages), its `"total"` (a meter that counts: its integral, so that `of` is in
            `unit` per `time_unit`), or its `"change"`. Means and totals are solved for along with the states, as the
            state `<observation>_integral`; nothing is sampled.
        since: From which earlier row on: the one before (`"row"`), or the last one in which it was read (`"reading"`);
            by default the row for a mean, and the reading for a total or a change. The first counts from `t0`.
        correlated: By another observation, how its noise is correlated with this one's in the same row: a number
            between −1 and 1, or the name of a parameter of the twin. Pairs that neither of the two names are not.
    """

    noise: Noise
    of: Observed | None = None
    unit: str = ""
    doc: str = ""
    reads: Literal["value", "mean", "total", "change"] = "value"
    since: Literal["row", "reading"] | None = None
    correlated: Mapping[str, float | str] = dataclasses.field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """Whether it is an integral, which a state of its own has to follow."""
        return self.reads in ("mean", "total")

    @property
    def begins(self) -> str:
        """From which earlier row on it is read."""
        return self.since or ("row" if self.reads == "mean" else "reading")


type SolverMethod = Literal["auto", "exact", "tsit5", "rodas5p"]
"""How a twin is solved."""


ATOL = 1e-8
"""Absolute tolerance where none is asked for."""


@dataclasses.dataclass(frozen=True)
class Solver:
    """How the twin is solved.

    Attributes:
        method: `"tsit5"` (explicit), `"rodas5p"` (for stiff twins), `"exact"` (no solver but matrix exponentials, for
            vector fields that are affine in states, inputs and time), or `"auto"`: exact where that can be, else
            whichever solver needs less work.
        rtol: Relative tolerance of a step.
        atol: Absolute tolerance of a step, in the units of the states; at its default less for states that are so
            small that it would hide them.
        max_steps: Most steps between two times at which the solver has to stop (observations, input samples).
    """

    method: SolverMethod = "auto"
    rtol: float = 1e-6
    atol: float = ATOL
    max_steps: int = 1000
