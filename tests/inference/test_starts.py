"""Chains start in every mode by its weight, and where nothing can start the error says which part is to blame."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from twins import bound_density, decay, decay_telemetry, known_decay_posterior, telemetry_of

import bayestwin as bt
from bayestwin._base.process import key_for
from bayestwin._base.progress import Progress
from bayestwin.assess import diagnose, failed
from bayestwin.density import survey
from bayestwin.density.bind import bind_all
from bayestwin.density.density import build_density
from bayestwin.dynamics.choice import with_method
from bayestwin.errors import NoValidStart
from bayestwin.inference import starts
from bayestwin.inference.climb import Climb, Mode, group_modes, shares_of
from bayestwin.inference.starts import Starts, find_starts


def starts_of(twin: bt.Twin, telemetry: bt.Telemetry, num_chains: int = 4, seed: int = 0) -> Starts:
    return find_starts(bound_density(twin, telemetry), num_chains, seed, Progress(show=False))


VAGUE = dist.Normal(0.0, 3.0)


def two_signed(size: dist.Distribution = VAGUE) -> bt.Twin:
    """Only the square of `size` is seen, so that its sign is anybody's guess."""
    return decay(
        states={"level": bt.State(1.0)},
        parameters={"rate": bt.Parameter(0.8), "size": bt.Parameter(size)},
        observations={"level": bt.Observation(bt.Gaussian(0.1), of=lambda t, x, p, u: p.size**2 * x.level)},
    )


def drifting(num: int) -> tuple[bt.Twin, bt.Telemetry]:
    """A level that process noise moves, seen with noise."""
    rng = np.random.default_rng(5)
    level = np.zeros(num)
    for step in range(1, num):
        level[step] = np.exp(-0.08) * level[step - 1] + 0.3 * rng.normal()
    twin = decay(
        states={"level": bt.State(0.0)},
        parameters={"rate": bt.Parameter(dist.LogNormal(0.0, 1.0))},
        model_error=bt.ProcessNoise({"level": dist.HalfNormal(3.0)}, initial_scale={"level": 1.0}),
    )
    return twin, telemetry_of({"time": np.arange(num) * 0.1, "level": level + 0.2 * rng.normal(size=num)})


@pytest.mark.thorough
def test_along_a_long_record_of_process_noise_gradients_lead_where_climbs_do(monkeypatch: pytest.MonkeyPatch) -> None:
    twin, telemetry = drifting(120)
    climbed = starts_of(twin, telemetry)
    asked: list[np.ndarray] = []
    polish = starts._polish
    monkeypatch.setattr(starts, "LONG", 100)
    monkeypatch.setattr(starts, "_polish", lambda density, z: asked.append(z) or polish(density, z))
    led = starts_of(twin, telemetry)
    assert len(asked) == starts.NUM_CLIMBED
    assert led.record["converged"] == led.record["highest"] == starts.NUM_CLIMBED
    np.testing.assert_allclose(led.modes[0].z, climbed.modes[0].z, atol=1e-3)


@pytest.mark.thorough
def test_the_highest_point_is_polished_though_others_have_arrived(monkeypatch: pytest.MonkeyPatch) -> None:
    """Climbs of one step, of which one begins where it ends: a point far below the others."""
    density = bound_density(decay(), decay_telemetry())
    best = starts_of(decay(), decay_telemetry()).modes[0]
    monkeypatch.setattr(starts, "MORE_CLIMBS", 0)
    once = starts._climb_once
    calls: list[int] = []

    def halfway(given: object, z: np.ndarray, steps: int = starts.MOST_STEPS) -> Climb:
        points = once(given, z, steps)
        calls.append(len(z))
        if len(calls) > 1:
            return points
        lower = np.arange(len(z)) > 0  # these have arrived, at something less high
        height = np.where(lower, points.log_density - 50.0, points.log_density - 20.0)
        return points._replace(log_density=height, decrement=np.where(lower, 0.0, 20.0))

    monkeypatch.setattr(starts, "_climb_once", halfway)
    points = starts._climb_from(density, best.z + 0.3 * np.eye(3)[[0, 1, 2, 0]])
    assert calls == [4, 1]
    assert points.decrement[0] < 1e-3
    np.testing.assert_allclose(points.log_density[0], best.log_density, atol=1e-6)


@pytest.mark.thorough
def test_points_that_are_much_work_climb_one_by_one_to_the_same_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    together = starts_of(two_signed(), decay_telemetry())
    monkeypatch.setattr(survey, "LARGE", 0)
    alone = starts_of(two_signed(), decay_telemetry())
    assert alone.record == together.record
    np.testing.assert_allclose([mode.z for mode in alone.modes], [mode.z for mode in together.modes], atol=1e-6)
    np.testing.assert_allclose(alone.z, together.z, atol=1e-5)


def test_batches_side_by_side_give_what_one_after_the_other_do(monkeypatch: pytest.MonkeyPatch) -> None:
    density = bound_density(decay(), decay_telemetry())
    z = np.random.default_rng(0).normal(size=(37, 3))
    expected = survey.evaluate(density, z)
    monkeypatch.setattr(survey, "LARGE", 0)
    np.testing.assert_allclose(survey.evaluate(density, z), expected, rtol=1e-12)
    assert survey.survey(density, z).num_steps.shape[0] == len(z)


@pytest.mark.thorough
def test_where_something_is_pooled_the_highest_climbs_alone_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    twin = decay(parameters={"rate": bt.Parameter(dist.LogNormal(-0.2, 0.5), pooled=dist.HalfNormal(0.3))})
    density = build_density(twin, bind_all(twin, {name: decay_telemetry() for name in "abc"}))
    sizes: list[tuple[int, int]] = []
    once = starts._climb_once

    def counted(density: object, z: np.ndarray, steps: int = starts.MOST_STEPS) -> Climb:
        sizes.append((len(z), steps))
        return once(density, z, steps)

    monkeypatch.setattr(starts, "_climb_once", counted)
    found = find_starts(density, 4, 0, Progress(show=False))
    assert sizes[0] == (starts.NUM_CLIMBED, starts.MOST_STEPS // 2)
    assert found.record["optimised"] == starts.NUM_CLIMBED // starts.FEW
    assert all(size == (starts.NUM_CLIMBED // starts.FEW, starts.MOST_STEPS) for size in sizes[1:])
    assert found.record["highest"] >= 1


@pytest.mark.thorough
def test_climbs_that_a_rough_solve_stops_go_on_at_a_finer_one() -> None:
    """Dry friction, of which what explains it best leaves residuals: at this tolerance bumps are .01 high."""
    times = np.linspace(0.0, 40.0, 41)
    twin = bt.Twin(
        name="slider",
        vector_field=lambda t, x, p, u: {
            "place": x.speed,
            "speed": jnp.sin(t) - p.drag * x.speed - p.dry * jnp.tanh(100.0 * x.speed),
        },
        states={"place": bt.State(0.0), "speed": bt.State(0.0)},
        parameters={"drag": bt.Parameter(dist.LogNormal(0.0, 0.5)), "dry": bt.Parameter(dist.LogNormal(-1.0, 0.5))},
        observations={"place": bt.Observation(bt.Gaussian(dist.HalfNormal(0.1)))},
    )
    moved = bt.simulate(twin, {"drag": 0.7, "dry": 0.4, "place_scale": 0.1}, telemetry_of({"time": times}), seed=0)[
        "place_noise_free"
    ]
    telemetry = telemetry_of({"time": times, "place": moved.to_numpy().ravel() + 0.05 * np.sin(0.3 * times)})
    found = {
        rtol: starts_of(dataclasses.replace(twin, solver=bt.Solver("tsit5", rtol=rtol, atol=rtol / 100.0)), telemetry)
        for rtol in (1e-3, 1e-7)
    }
    assert "finer" not in found[1e-7].record
    assert found[1e-3].record["finer"] == starts.FINER
    assert found[1e-3].record["converged"] >= 12
    assert found[1e-3].modes[0].log_density == pytest.approx(found[1e-7].modes[0].log_density, abs=1e-3)


def test_points_near_each_other_are_one_mode_and_others_are_not() -> None:
    hessian = np.tile(-np.diag([1.0, 100.0]), (5, 1, 1))
    z = np.array([[0.0, 0.0], [1.0, 0.1], [0.0, 9.0], [30.0, 0.0], [0.2, 0.0]])
    modes = group_modes(z, np.array([0.0, -0.5, -1.0, -2.0, -1e-9]), hessian)
    np.testing.assert_array_equal([mode.z for mode in modes], z[[0, 2, 3]])
    assert [mode.log_density for mode in modes] == [0.0, -1.0, -2.0]


def test_modes_weigh_by_their_laplace_evidence_and_not_by_their_height() -> None:
    # the lower one is nine times as wide in its one direction, so three times as heavy at a third of the density
    z, log_density = np.array([[0.0], [50.0], [-50.0]]), np.array([0.0, -np.log(3.0), -12.0])
    modes = group_modes(z, log_density, -np.array([[[4.0]], [[4.0 / 81.0]], [[4.0]]]))
    assert [mode.z[0] for mode in modes] == [50.0, 0.0]
    np.testing.assert_allclose([mode.weight for mode in modes], [0.75, 0.25], rtol=1e-4)
    np.testing.assert_allclose(modes[0].scale @ modes[0].scale.T, [[81.0 / 4.0]])


def test_draws_belong_to_the_mode_around_which_they_are_the_most_usual() -> None:
    wide, narrow = Mode(np.zeros(1), 0.0, 10.0 * np.eye(1), 0.5), Mode(np.full(1, 15.0), 0.0, 0.1 * np.eye(1), 0.5)
    draws = np.array([[0.0], [12.0], [15.1], [15.0], [18.0]])
    assert shares_of((wide, narrow), draws) == [0.6, 0.4]


@pytest.mark.thorough
def test_a_mode_with_a_part_of_the_posterior_and_no_draw_fails() -> None:
    # 24 to 1, by the prior alone: four chains start around the heavier one, agree, and know nothing of the other
    times = np.linspace(0.0, 3.0, 10)
    telemetry = telemetry_of({"time": times, "level": 4.0 * np.exp(-0.8 * times)})
    mean = 9.0 / 4.0 * np.log(24.0)
    posterior = bt.calibrate(two_signed(dist.Normal(mean, 3.0)), telemetry, seed=0, num_warmup=75, num_samples=100)
    starts = posterior.attrs["starts"]
    np.testing.assert_allclose(starts["weights"], [0.96, 0.04], atol=2e-3)
    assert starts["visited"] == [1.0, 0.0]
    gate = next(gate for gate in failed(diagnose(posterior)) if gate.name == "modes")
    assert "96 %, 4 % (Laplace)" in gate.sentence
    assert "No draw lies in the one of 4 %" in gate.sentence
    posterior.attrs["starts"] = starts | {"visited": [0.97, 0.03]}
    gate = next(gate for gate in diagnose(posterior) if gate.name == "modes")
    assert (gate.passed, gate.severity) == (False, "warn")


def test_a_direction_without_information_is_five_units_wide() -> None:
    (mode,) = group_modes(np.zeros((1, 2)), np.zeros(1), -np.diag([1e-9, 1.0])[None])
    np.testing.assert_allclose(np.linalg.eigvalsh(mode.scale @ mode.scale.T), [1.0, 25.0])


def test_two_signs_are_two_modes_and_the_chains_that_show_them_do_not_pass() -> None:
    times = np.linspace(0.0, 3.0, 10)
    telemetry = telemetry_of({"time": times, "level": 4.0 * np.exp(-0.8 * times)})
    posterior = bt.calibrate(two_signed(), telemetry, seed=0, num_warmup=75, num_samples=100)
    assert posterior.attrs["starts"]["modes"] == 2
    np.testing.assert_allclose(posterior.attrs["starts"]["weights"], [0.5, 0.5], atol=1e-3)
    means = np.sort(posterior["posterior/size"].mean("draw").values)
    np.testing.assert_allclose(means, [-2.0, -2.0, 2.0, 2.0], atol=0.1)
    assert "rhat" in [gate.name for gate in failed(diagnose(posterior))]


def test_starts_lie_around_the_mode_and_differ() -> None:
    starts = starts_of(decay(), decay_telemetry(), num_chains=70)
    (mode,) = starts.modes
    off = np.linalg.solve(mode.scale, (starts.z - mode.z).T).T
    assert starts.z.shape == (70, 3)
    assert len(np.unique(starts.z, axis=0)) == 70
    # over-dispersed: drawn at twice the Laplace scale, nearer only where the density is far below the mode's
    assert 1.0 < off.std() < 2.5
    assert starts.record["drawn"] == 64
    assert starts.record["optimised"] == starts.record["converged"] == 16
    assert starts.record["log_density"] == sorted(starts.record["log_density"], reverse=True)


def blowing_up(initial: dist.Distribution) -> bt.Twin:
    """Solved up to t = 1 where the initial level is below 1, and not otherwise."""
    return decay(
        vector_field=lambda t, x, p, u: {"level": x.level**2},
        states={"level": bt.State(initial)},
        parameters={},
        observations={"level": bt.Observation(bt.Gaussian(0.1))},
    )


HALF = {"time": [0.0, 0.5, 1.0], "level": [0.5, 0.67, 1.0]}


def test_prior_draws_that_cannot_be_solved_are_survived_and_counted() -> None:
    starts = starts_of(blowing_up(dist.Uniform(0.0, 10.0)), telemetry_of(HALF))
    record = starts.record
    assert record["drawn"] == 64
    assert 64 * 0.9 - 4 * np.sqrt(64 * 0.09) < record["failed"] < 64
    assert record["optimised"] == min(16, 64 - record["failed"])
    assert record["modes"] == 1
    level = bound_density(blowing_up(dist.Uniform(0.0, 10.0)), telemetry_of(HALF)).constrain(
        jnp.array(starts.modes[0].z)
    )
    assert abs(float(level["level_initial"]) - 0.5) < 0.05


def test_more_draws_are_made_while_none_can_be_solved_and_all_are_counted() -> None:
    twin = blowing_up(dist.Uniform(0.0, 150.0))
    # the first batches of this seed, drawn here as the ladder draws them: how many come before one that can be solved
    record = starts_of(twin, telemetry_of(HALF), seed=3).record
    density = bound_density(twin, telemetry_of(HALF))
    batches = []
    for number in range(8):
        keys = jax.random.split(key_for(3, f"ladder {number}"), 64)
        batches.append(int((jax.vmap(density.sample_prior)(keys)["level_initial"] < 0.999).sum()))
        if batches[-1]:
            break
    assert len(batches) > 1
    assert record["drawn"] == 64 * len(batches)
    assert record["failed"] == 64 * len(batches) - batches[-1]


def blamed(twin: bt.Twin, telemetry: bt.Telemetry) -> str:
    with pytest.raises(NoValidStart) as raised:
        starts_of(twin, telemetry)
    message = str(raised.value)
    for part in ("`decay` has no valid start", "Expected: a finite log density for some of 512 draws", "Received: "):
        assert part in message
    return message.split("Received: ")[1]


def test_no_start_for_a_likelihood_names_the_observation() -> None:
    twin = decay(
        observations={
            "level": bt.Observation(bt.Gaussian(0.1)),
            "debt": bt.Observation(bt.LogNormal(0.1), of=lambda t, x, p, u: -(x.level**2) - 1.0),
        }
    )
    table = decay_telemetry().table
    received = blamed(twin, telemetry_of({"time": table.index, "level": table["level"], "debt": 1.0}))
    assert "64 of 64 can be solved" in received
    assert "log likelihood of `debt` is never finite" in received
    assert "`level`" not in received


TIMES = telemetry_of({"time": [0.0, 0.2, 0.4, 2.0], "level": [1.0, 1.0, 1.0, 1.0]})


@pytest.mark.parametrize(
    ("field", "words"),
    [
        (lambda t, x, p, u: {"level": p.rate * jnp.log(0.5 - t)}, "state `level` is not finite at t=0.5"),
        (lambda t, x, p, u: {"level": -3.0 - 3.0 * jnp.sqrt(x.level)}, "state `level` is not finite at t=0.7"),
        (lambda t, x, p, u: {"level": x.level**2}, "state `level` grows without bound at t="),
        (lambda t, x, p, u: {"level": -1e6 * (x.level - jnp.cos(t))}, "the solver gives up at t="),
    ],
)
def test_no_start_for_a_solve_names_the_state_and_the_time(field: object, words: str) -> None:
    received = blamed(decay(vector_field=field, states={"level": bt.State(dist.Normal(5.0, 0.1))}), TIMES)
    assert words in received
    if "gives up" in words:
        assert "though no state blows up" in received


def swinging(noise: float, seed: int) -> tuple[bt.Twin, bt.Telemetry]:
    """A mass on a spring of unknown frequency, seen over 19 periods at 61 irregular times."""
    twin = bt.Twin(
        name="swing",
        vector_field=lambda t, x, p, u: {"place": x.speed, "speed": -(p.frequency**2) * x.place},
        states={"place": bt.State(dist.Normal(0.0, 2.0)), "speed": bt.State(dist.Normal(0.0, 2.0))},
        parameters={"frequency": bt.Parameter(dist.LogNormal(0.0, 1.0))},
        observations={"place": bt.Observation(bt.Gaussian(dist.HalfNormal(0.5)))},
    )
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0.0, 38.0 * np.pi, 61))
    return twin, telemetry_of({"time": times, "place": np.cos(times) + noise * rng.standard_normal(61)}, t0=0.0)


@pytest.mark.slow
def test_the_frequency_of_a_long_record_is_found() -> None:
    for seed in range(4):
        twin, telemetry = swinging(0.3, seed)
        exact = with_method(twin, "exact")
        starts = find_starts(bound_density(exact, telemetry).filled, 4, seed, Progress(show=False))
        frequency = bound_density(exact, telemetry).constrain(jnp.asarray(starts.modes[0].z))["frequency"]
        # its standard deviation is about 0.3 √(24 / 61) / 119
        assert float(frequency) == pytest.approx(1.0, abs=0.01), seed
        assert starts.record["drawn"] == 1024
        assert 1 <= starts.record["highest"] < starts.record["optimised"] <= 48


@pytest.mark.parametrize(("highest", "passes"), [(1, False), (4, False), (5, True), (48, True)])
def test_a_best_mode_that_few_climbs_found_is_not_trusted(highest: int, passes: bool) -> None:
    posterior = known_decay_posterior().copy()
    posterior.attrs["starts"] = dict(posterior.attrs["starts"], modes=1, optimised=48, highest=highest)
    gate = next(gate for gate in diagnose(posterior) if gate.name == "modes")
    assert gate.passed == passes
    assert gate.severity == "warn"
    assert passes or f"{highest} of 48 climbs found the best mode: there may be better ones" in gate.sentence
