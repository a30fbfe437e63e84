"""What the sampler does by itself: smaller steps while transitions diverge, one new start for a chain that sticks."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from bayestwin._base.progress import Progress
from bayestwin.inference.climb import Mode
from bayestwin.inference.method import Draws, Settings
from bayestwin.inference.nuts import HIGHER_TARGETS, more_would_help, sample_nuts, stuck_chains
from bayestwin.inference.starts import Starts


def drawn(log_density, starts: list[list[float]], mode: Mode, num_samples: int = 300, **asked) -> Draws:
    settings = Settings(num_warmup=100, num_samples=num_samples, num_chains=len(starts), **asked)
    return sample_nuts(
        log_density, Starts(np.array(starts), (mode,), {}), settings=settings, seed=1, progress=Progress(show=False)
    )


def unit_mode(dim: int) -> Mode:
    return Mode(np.zeros(dim), 0.0, np.eye(dim), 1.0)


def narrowing(z: Array) -> Array:
    """A funnel cut off before it gets too narrow: small steps follow it, and large ones diverge."""
    neck = jnp.clip(z[0], -3.5, 3.5)
    return -0.5 * z[0] ** 2 - 0.5 * (z[1] * jnp.exp(-1.2 * neck)) ** 2 - 1.2 * neck


@pytest.mark.thorough
def test_divergences_are_met_with_smaller_steps_and_both_are_recorded() -> None:
    found = drawn(narrowing, [[0.0, 0.0], [0.5, 0.1], [-0.5, 0.1], [0.2, 0.2]], unit_mode(2))
    record = found.record["sampling"]
    raised = [event for event in record["events"] if event["what"] == "raised target acceptance"]
    assert raised
    assert [event["to"] for event in raised] == list(HIGHER_TARGETS[: len(raised)])
    assert record["target_acceptance"] == raised[-1]["to"]
    assert found.stats["acceptance_rate"].mean() > 0.85
    assert all(0 <= event["after_draws"] < 300 for event in raised)
    # draws with divergences stay only where there is no higher target left
    assert not found.stats["diverging"].any() or record["target_acceptance"] == HIGHER_TARGETS[-1]


@pytest.mark.thorough
def test_without_divergences_nothing_is_raised() -> None:
    found = drawn(lambda z: -0.5 * z @ z, [[0.0, 0.0], [0.5, 0.1]], unit_mode(2))
    assert found.record["sampling"]["events"] == []
    assert found.record["sampling"]["target_acceptance"] == 0.8


def two_hills(z: Array) -> Array:
    """Chains go from one to the other now and then: neighbouring draws are alike for a long time."""
    return jnp.logaddexp(-0.5 * (z[0] - 2.4) ** 2, -0.5 * (z[0] + 2.4) ** 2) - 0.5 * z[1] ** 2


HILLS = [[2.4, 0.0], [2.0, 0.5], [-2.4, 0.1], [-2.0, -0.5]]


@pytest.mark.thorough
def test_chains_too_short_to_be_judged_go_on_until_they_can_be_or_as_long_as_is_said() -> None:
    found = drawn(two_hills, HILLS, unit_mode(2), num_samples=400)
    events = found.record["sampling"]["events"]
    assert [event["to"] for event in events] == [800, 1200, 1600][: len(events)]
    assert found.z.shape[1] == events[-1]["to"]
    assert not more_would_help(found.z.swapaxes(0, 1)) or len(events) == 3
    assert more_would_help(found.z[:, : events[-1]["to"] - 400].swapaxes(0, 1))


def test_chains_that_went_on_are_to_the_bit_those_that_were_to_be_as_long() -> None:
    short = drawn(two_hills, HILLS, unit_mode(2), num_samples=400, max_extensions=1)
    whole = drawn(two_hills, HILLS, unit_mode(2), num_samples=800, max_extensions=0)
    assert short.record["sampling"]["events"] == [{"what": "went on drawing", "to": 800}]
    assert whole.record["sampling"]["events"] == []
    np.testing.assert_array_equal(short.z, whole.z)


def test_a_trial_of_few_draws_and_chains_that_lie_apart_do_not_go_on() -> None:
    assert drawn(two_hills, HILLS, unit_mode(2), num_samples=100).z.shape[1] == 100
    rng = np.random.default_rng(0)
    apart = rng.normal(size=(400, 2, 3))
    assert not more_would_help(apart)
    slow = np.repeat(apart[:40], 10, axis=0)
    assert more_would_help(slow)
    slow[:, 1] += 5.0
    assert not more_would_help(slow)


def with_a_trap(z: Array) -> Array:
    """A unit normal, and far away a narrow hole of next to no mass from which no chain comes back."""
    return jnp.logaddexp(-0.5 * z @ z, -0.5 * jnp.sum(((z - 40.0) / 0.1) ** 2) - 60.0)


@pytest.mark.thorough
def test_a_stuck_chain_is_started_again_once_and_this_is_recorded() -> None:
    found = drawn(with_a_trap, [[0.0, 0.0], [40.0, 40.0], [0.5, 0.1]], unit_mode(2))
    events = found.record["sampling"]["events"]
    assert events == [{"what": "restarted stuck chains", "chains": [1], "found_in": "warm-up"}]
    assert np.abs(found.z).max() < 10.0


@pytest.mark.thorough
def test_a_chain_that_sticks_again_is_left_for_the_gates_to_find() -> None:
    # here the ladder itself knows of nothing but the trap
    trap = Mode(np.full(2, 40.0), 0.0, 0.1 * np.eye(2), 1.0)
    found = drawn(with_a_trap, [[0.0, 0.0], [40.0, 40.0]], trap)
    assert [event["chains"] for event in found.record["sampling"]["events"]] == [[1]]
    assert found.z[1].mean() > 35.0


def test_a_chain_in_another_mode_that_the_ladder_knows_is_not_stuck() -> None:
    lp = np.stack([np.full(50, -1.0), np.full(50, -31.0)], axis=1) + np.random.default_rng(0).normal(0, 1, (50, 2))
    high, low = unit_mode(2), unit_mode(2)._replace(log_density=-30.0)
    np.testing.assert_array_equal(stuck_chains(lp, (high,)), [False, True])
    np.testing.assert_array_equal(stuck_chains(lp, (high, low)), [False, False])


def test_a_chain_that_does_not_move_is_stuck_wherever_it_stands() -> None:
    lp = np.random.default_rng(0).normal(-1.0, 1.0, (50, 2))
    lp[:, 1] = -1.0
    np.testing.assert_array_equal(stuck_chains(lp, (unit_mode(2),)), [False, True])
