"""The one shape of all methods: a problem in, draws with their record out. A new method is one file and one export."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from bayestwin._base.progress import Progress
from bayestwin.density.density import Density


class Draws(NamedTuple):
    """Draws of c chains, s each, in the unconstrained space.

    Attributes:
        z: Shape (c, s, d).
        stats: Statistics by name; shape (c, s) each.
        record: Plain values for the root attributes: what the method did, and what it found on its way.
        interrupted: Whether Ctrl-C ended it before all draws were made.
    """

    z: np.ndarray
    stats: dict[str, np.ndarray]
    record: Mapping[str, Any]
    interrupted: bool = False


class Settings(NamedTuple):
    """How much work a method is to do; each takes what concerns it.

    Attributes:
        num_warmup: Transitions of each chain that adapt and are thrown away.
        num_samples: Draws kept of each chain.
        num_chains: Number of chains, or of independent populations.
        target_acceptance: Mean acceptance that NUTS aims at first.
        sensitivities: `"auto"` for fixed steps and reverse mode where that is faster, `"forward"` for forward mode
            through the adaptive solver.
    """

    num_warmup: int = 200
    num_samples: int = 1000
    num_chains: int = 4
    target_acceptance: float = 0.8
    sensitivities: Literal["auto", "forward"] = "auto"


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


type Method = Callable[[Problem], Draws]


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
