"""The one shape of all methods: a problem in, draws with their record out; what there is, and its settings, told once.

Nothing heavy is imported here, so that the command line can say what there is before JAX is loaded.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import numbers
import types
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from bayestwin.errors import InvalidSetting

if TYPE_CHECKING:
    import numpy as np

    from bayestwin._base.progress import Progress
    from bayestwin.density.density import Density


# The settings of `calibrate`: its signature, the table `[calibrate]` of a job and the options of the command line.


class Setting(NamedTuple):
    """One setting of `calibrate`.

    Attributes:
        name: Its name, wherever it is set.
        kind: `int`, `float` or `str`.
        default: What holds where it is left out; None where that depends on the record.
        help: What it is, in a sentence.
        bounds: Of a number: `ge`, `gt` and `lt`, as pydantic names them.
        choices: Of a word: makes the words that there are, when they are asked for.
    """

    name: str
    kind: type[int | float | str]
    default: Any
    help: str
    bounds: Mapping[str, float] = {}
    choices: Callable[[], tuple[str, ...]] | None = None

    def fits(self, value: object) -> bool:
        """Whether a value makes sense."""
        if value is None:
            return self.default is None
        if self.choices is not None:
            return value in self.choices()
        number = numbers.Integral if self.kind is int else float
        if not isinstance(value, number) or isinstance(value, bool):
            return False
        least, above, below = (self.bounds.get(name, end) for name, end in ENDS.items())
        return least <= value and above < value < below  # type: ignore[operator]

    @property
    def expected(self) -> str:
        """What makes sense, in words."""
        if self.choices is not None:
            return ", ".join(f'"{word}"' for word in self.choices())
        if self.kind is int:
            return f"an integer, at least {self.bounds['ge']}"
        return f"between {self.bounds['gt']} and {self.bounds['lt']}"


ENDS = {"ge": -math.inf, "gt": -math.inf, "lt": math.inf}


def names() -> tuple[str, ...]:
    """Names of all methods."""
    return tuple(METHODS)


def names_with_draws() -> tuple[str, ...]:
    """Names of the methods that make more than a point."""
    return tuple(name for name, method in METHODS.items() if method.judged != "point")


def _losses() -> tuple[str, ...]:
    from bayestwin.density.robust import LOSSES

    return ("linear", *LOSSES)


SETTINGS = (
    Setting("method", str, None, "How to infer; by default by what suits the twin.", choices=names),
    Setting("loss", str, "linear", "How far outliers pull the most probable values.", choices=_losses),
    Setting("num_warmup", int, 200, "Transitions of each chain that adapt and are thrown away.", {"ge": 1}),
    Setting("num_samples", int, 1000, "Draws kept of each chain.", {"ge": 1}),
    Setting("num_chains", int, 4, "Number of chains, or of populations.", {"ge": 1}),
    Setting("target_acceptance", float, 0.8, "Mean acceptance that NUTS aims at first.", {"gt": 0, "lt": 1}),
    Setting(
        "max_extensions", int, 3, "How often NUTS goes on by as many draws while R̂ and ESS ask for more.", {"ge": 0}
    ),
    Setting("predictive_draws", int, None, "About how many draws have their trajectories stored.", {"ge": 1}),
)
"""All that a call, a job and the command line can set about how a posterior is inferred, in this order."""

USUAL: Mapping[str, Any] = {setting.name: setting.default for setting in SETTINGS}
"""The default of each."""


# What a method is asked, and what it returns.


class Draws(NamedTuple):
    """Draws of c chains, s each, in the unconstrained space.

    Attributes:
        z: Shape (c, s, d).
        stats: Statistics by name; shape (c, s) each.
        record: Plain values for the root attributes: what the method did, and what it found on its way.
        interrupted: Whether Ctrl-C ended it before all draws were made.
        centring: Of the coordinates in which z is, where a method chose others for what is pooled, by site.
    """

    z: np.ndarray
    stats: dict[str, np.ndarray]
    record: Mapping[str, Any]
    interrupted: bool = False
    centring: Mapping[str, np.ndarray] = types.MappingProxyType({})


class Settings(NamedTuple):
    """How much work a method is to do; each takes what concerns it.

    Attributes:
        num_warmup: Transitions of each chain that adapt and are thrown away.
        num_samples: Draws kept of each chain.
        num_chains: Number of chains, or of independent populations.
        target_acceptance: Mean acceptance that NUTS aims at first.
        max_extensions: How often NUTS goes on by as many draws again, from `LEAST_EXTENDED` draws a chain on, where R̂
            or ESS do not pass and more draws are what helps.
        sensitivities: `"auto"` for fixed steps and reverse mode where that is faster, `"forward"` for forward mode
            through the adaptive solver.
    """

    num_warmup: int = USUAL["num_warmup"]
    num_samples: int = USUAL["num_samples"]
    num_chains: int = USUAL["num_chains"]
    target_acceptance: float = USUAL["target_acceptance"]
    max_extensions: int = USUAL["max_extensions"]
    sensitivities: Literal["auto", "forward"] = "auto"

    @property
    def told(self) -> dict[str, Any]:
        """Those that a call sets; the last follows from the rest."""
        return {name: value for name, value in self._asdict().items() if name != "sensitivities"}


class Checkpoint(Protocol):
    """Where a method leaves what it needs to go on after its process has died."""

    def load(self) -> Mapping[str, np.ndarray] | None:
        """What was left last; None where there is nothing."""
        ...

    def due(self) -> bool:
        """Whether enough time has passed to leave something again."""
        ...

    def leave(self, state: Mapping[str, np.ndarray], draws: Draws | None) -> None:
        """Leave the state of the method, and the draws made so far."""
        ...


class Problem(NamedTuple):
    """What a method is asked to draw from.

    Attributes:
        density: The log density.
        settings: How much work to do.
        seed: Determines everything random.
        progress: Shows the phases.
        checkpoint: Where to leave what is needed to go on; None to leave nothing.
    """

    density: Density
    settings: Settings
    seed: int
    progress: Progress
    checkpoint: Checkpoint | None = None


type Draw = Callable[[Problem], Draws]

type JudgedBy = Literal["transitions", "chains", "approximation", "point"]


# What there is: each method once, with all that others must know of it.


@dataclasses.dataclass(frozen=True)
class Method:
    """A way from a log density to draws; all that any other file knows of it stands here.

    Attributes:
        name: What `calibrate(method=…)` calls it.
        help: What it is, in a sentence.
        draw: Makes the draws; or where that function is, as `"package.module:function"`, imported when it is used.
        judged: By which gates. `"transitions"`: chains, with divergences, energies and failed solves in `stats`;
            `"chains"`: chains that are compared; `"approximation"`: Pareto k, as `record["approximation"]["pareto_k"]`;
            `"point"`: one draw, no posterior.
        independent: Whether its draws are, so that each counts in full.
        weighted: Whether draws stand for the posterior only with the weights that `stats["log_ratio"]` holds.
        losses: Whether it takes another `loss` than that of the likelihood.
        derivatives: Whether it needs those of the log density, which a model that shows no equations does not have.
    """

    name: str
    help: str
    draw: Draw | str
    judged: JudgedBy = "chains"
    independent: bool = False
    weighted: bool = False
    losses: bool = False
    derivatives: bool = True

    def __call__(self, problem: Problem) -> Draws:
        """Draw."""
        if isinstance(self.draw, str):
            module, _, function = self.draw.partition(":")
            return getattr(importlib.import_module(module), function)(problem)
        return self.draw(problem)


BUILT_IN = (
    Method("nuts", "chains that follow the posterior", "bayestwin.inference.nuts:nuts", "transitions"),
    Method(
        "laplace",
        "a normal at each mode",
        "bayestwin.inference.laplace:laplace",
        "approximation",
        independent=True,
        weighted=True,
    ),
    Method(
        "pathfinder",
        "normals along the paths to the modes",
        "bayestwin.inference.pathfinder:pathfinder",
        "approximation",
        independent=True,
    ),
    Method("map", "the most probable values alone", "bayestwin.inference.laplace:point", "point", losses=True),
    Method("smc", "populations from the prior to the posterior", "bayestwin.inference.smc:smc", independent=True),
    Method(
        "ensemble",
        "walkers that need no derivatives",
        "bayestwin.inference.ensemble:ensemble",
        derivatives=False,
    ),
)
"""In the order in which messages list them."""

METHODS: dict[str, Method] = {method.name: method for method in BUILT_IN}
"""What `calibrate(method=…)` offers, by name: those above, and what `register` added."""


def register(method: Method) -> Method:
    """Offer a method wherever there is a choice of methods; one that was registered by this name gives way.

    Raises:
        InvalidSetting: If the name is that of a method which comes with the package.
    """
    if any(method.name == known.name for known in BUILT_IN):
        raise InvalidSetting(
            f"There is a method `{method.name}` already.",
            expected="a name of its own",
            received=f"`{method.name}`, which comes with the package",
            advice="Choose another name.",
        )
    METHODS[method.name] = method
    return method


def unregister(name: str) -> None:
    """Offer a method that was registered no longer."""
    if not any(name == known.name for known in BUILT_IN):
        METHODS.pop(name, None)


QUICK = "laplace"
"""What infers in seconds, where it is done again and again."""


def usual_method(*, derivatives: bool = True, quick: bool = False) -> str:
    """What infers where nobody says by what: the first that there is, of those for a twin with derivatives or not."""
    if quick and derivatives:
        return QUICK
    return next(method.name for method in BUILT_IN if derivatives or not method.derivatives)


def method_named(name: str) -> Method:
    """The method of this name; one that is not registered here counts as the most demanding kind there is."""
    return METHODS.get(name) or Method(name, "a method that is not registered here", "", "transitions")


# When chains agree and say enough: the one rule for the engine, which goes on drawing, and the gates.

MAX_RHAT, MIN_ESS_PER_CHAIN = 1.01, 100.0
"""R̂ up to this and ESS from this on are trusted (Vehtari et al. 2021, doi:10.1214/20-BA1221)."""

FALSE_ALARM = 0.05
"""Probability that chains which agree about everything exceed what R̂ may be of one of many quantities."""


def rhat_by_chance(num_quantities: int, num_chains: int, ess: float) -> float:
    """The R̂ that the largest of many exceeds, of chains that agree, with a probability of `FALSE_ALARM` at most.

    The halves of c chains are 2c samples of S / 2c independent draws each, so that R̂ is about `1 + c (F − 1) / S`, with
    F from a χ² distribution of 2c − 1 degrees of freedom, divided by these. R̂ is the larger of two, of ranks and of
    folded ranks.

    Args:
        num_quantities: At how many is looked.
        num_chains: c.
        ess: S, the bulk ESS of one quantity; taken to be what the gate on it asks for where it is less, as it is where
            chains disagree.
    """
    from scipy.special import chdtri  # takes a while to import

    degrees = 2 * num_chains - 1
    most = float(chdtri(degrees, FALSE_ALARM / (2 * num_quantities))) / degrees
    return 1.0 + num_chains * (most - 1.0) / max(ess, MIN_ESS_PER_CHAIN * num_chains)


def rhat_limit(num_quantities: int, num_chains: int, ess: float, limit: float = MAX_RHAT) -> float:
    """Largest R̂ of one of many quantities: the limit, or what chance makes of it, as strictly as the limit is."""
    chance = rhat_by_chance(num_quantities, num_chains, ess)
    return max(limit, 1.0 + (limit - 1.0) / (MAX_RHAT - 1.0) * (chance - 1.0))


FAR_APART = 1.1
"""Above this R̂, chains sit in different places, and more draws do not help."""

EXTENDED = "went on drawing"
"""What the record of a sampler calls it."""

LEAST_EXTENDED = 400
"""Draws a chain below which a calibration is a trial, and ends when it was told to: few could pass the gates."""

# When the error of the solver is small enough: the one rule for the engine, which mends it, and the gate.

MAX_PARETO_K = 0.7
"""Above this the largest importance ratios are too heavy-tailed to trust (Vehtari et al. 2024, arXiv:1507.02646)."""

NEGLIGIBLE = 0.1
"""Changes of a log density up to this do not move a posterior, however their tail is shaped."""


def exact_enough(
    audit: Mapping[str, Any], max_difference: float = NEGLIGIBLE, max_pareto_k: float = MAX_PARETO_K
) -> bool:
    """Whether a tolerance audit found that the error of the solver does not shape the posterior.

    Args:
        audit: With `largest_difference`, `pareto_k` and `failed`; what is NaN or None is not exact.
        max_difference: Largest difference that passes whatever the tail is.
        max_pareto_k: Largest Pareto k with which larger differences pass.
    """
    pareto_k = audit["pareto_k"]
    small = audit["largest_difference"] <= max_difference or (pareto_k is not None and pareto_k <= max_pareto_k)
    return bool(small) and audit["failed"] == 0
