"""Which solver suits a log density: tried on draws from its prior before anything else is done with it."""

import jax

from bayestwin._base.progress import Progress
from bayestwin._base.seeds import key_for
from bayestwin.density.density import Density
from bayestwin.dynamics.choice import Choice, choose_solver

NUM_TRIED = 64


def choose(density: Density, seed: int, progress: Progress) -> tuple[Density, Choice]:
    """The density with the solver that suits, and why that one.

    Args:
        density: The log density; a solver that its twin names stays.
        seed: Determines the prior draws.
        progress: Shows the phase "ladder".
    """
    with progress.phase("ladder", "choosing the solver", 1) as phase:
        tried, _ = density.draw_prior(jax.random.split(key_for(seed, "solver"), NUM_TRIED))
        chosen, choice = choose_solver(density.twin, density.grid, tried)
        phase.advance(1, choice.method)
    return density.solved_as(chosen), choice
