"""NUTS killed at any call, and gone on with from what it left, gives the bits of a run that nobody disturbed."""

from collections.abc import Mapping

import numpy as np
import pytest

from bayestwin._base.progress import Progress
from bayestwin.inference.climb import Mode
from bayestwin.inference.method import Draws, Settings
from bayestwin.inference.nuts import sample_nuts
from bayestwin.inference.starts import Starts

SETTINGS = Settings(num_warmup=40, num_samples=60, num_chains=2)
STARTS = Starts(np.array([[0.5, 0.1], [-0.5, 0.2]]), (Mode(np.zeros(2), 0.0, np.eye(2), 1.0),), {})


class Killed(Exception):
    """Stands for the death of the process."""


class Leaving:
    """A checkpoint in memory that is always due, and dies after it was left a number of times."""

    def __init__(self, state: Mapping[str, np.ndarray] | None, deadly: int) -> None:
        self.state, self.deadly, self.left = state, deadly, 0

    def load(self) -> Mapping[str, np.ndarray] | None:
        return self.state

    def due(self) -> bool:
        return True

    def leave(self, state: Mapping[str, np.ndarray], draws: Draws | None) -> None:
        assert draws is None or draws.z.shape[1] <= SETTINGS.num_samples
        self.state = {name: np.array(array) for name, array in state.items()}
        self.left += 1
        if self.left == self.deadly:
            raise Killed


def bent(z):
    return -0.5 * z[0] ** 2 - 0.5 * ((z[1] - z[0] ** 2) / 0.5) ** 2


def cliff(z):
    """Diverges wherever a step takes it over the edge, whatever the step size."""
    return -0.5 * z @ z - (z[0] > 2.0) * 1e6


def sample(log_density, checkpoint: Leaving | None) -> Draws:
    return sample_nuts(
        log_density, STARTS, settings=SETTINGS, seed=3, progress=Progress(show=False), checkpoint=checkpoint
    )


def test_on_a_machine_with_other_cores_it_stays_in_the_teams_it_was_begun_with(monkeypatch) -> None:
    whole = sample(bent, None)
    dying = Leaving(None, 2)
    with pytest.raises(Killed):
        sample(bent, dying)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0} if whole.record["sampling"]["teams"] == 2 else {0, 1})
    resumed = sample(bent, Leaving(dying.state, 0))
    np.testing.assert_array_equal(resumed.z, whole.z)


@pytest.mark.parametrize("log_density", [bent, cliff])
def test_the_bits_are_those_of_an_undisturbed_run(log_density) -> None:
    whole = sample(log_density, None)
    counting = Leaving(None, 0)
    sample(log_density, counting)
    assert counting.left >= 6
    if log_density is cliff:
        assert whole.record["sampling"]["events"], "nothing happened that would have to be remembered"
    for deadly in range(1, counting.left + 1, 2):
        dying = Leaving(None, deadly)
        with pytest.raises(Killed):
            sample(log_density, dying)
        resumed = sample(log_density, Leaving(dying.state, 0))
        np.testing.assert_array_equal(resumed.z, whole.z)
        for name, values in whole.stats.items():
            np.testing.assert_array_equal(resumed.stats[name], values, err_msg=name)
        assert resumed.record == whole.record
