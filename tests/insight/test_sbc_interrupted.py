"""Ctrl-C while posteriors are drawn keeps those that are finished, without a gap."""

import os
import signal

import jax
import numpy as np
from planted import right

from bayestwin._base.progress import Progress
from bayestwin.inference.many import Lengths, draw_many
from bayestwin.insight.sbc import simulate_many

LENGTHS = Lengths(num_warmup=20, num_draws=15, thin=1)


class Interrupting:
    """A phase in which somebody presses Ctrl-C once some data sets are done."""

    def __init__(self, after: int) -> None:
        self.left = after

    def advance(self, steps: int, note: str = "") -> None:  # noqa: ARG002
        """Count down, and press."""
        before, self.left = self.left, self.left - steps
        if before > 0 >= self.left:
            os.kill(os.getpid(), signal.SIGINT)


def test_what_is_finished_stays_and_is_what_it_would_have_been() -> None:
    with Progress(show=False).phase("sbc", "", 40) as phase:
        simulated = simulate_many(right(), 40, 0, phase)
        density, key, few = right(), jax.random.key(1), simulated.first(5)
        whole = draw_many(density, few.observations, few.z, key=key, lengths=LENGTHS, phase=phase)
    told = {"key": key, "lengths": LENGTHS, "phase": Interrupting(8)}
    cut = draw_many(density, simulated.observations, simulated.z, **told)
    assert (whole.interrupted, cut.interrupted) == (False, True)
    assert 5 <= len(cut.z) < 40
    np.testing.assert_array_equal(cut.z[:5], whole.z)
