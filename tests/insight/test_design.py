"""What measuring more would do is what closed forms, quadrature, and the published numbers of another tool say."""

import functools
import itertools

import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from exact import normal
from growth import HOURS, NOMINAL, grown, growth, level
from twins import decay, decay_telemetry, driven, known_decay, known_decay_posterior, lag, telemetry_of

import bayestwin as bt
from bayestwin._base.progress import Progress
from bayestwin.errors import InvalidArtifact, InvalidInput, InvalidSetting
from bayestwin.insight.promise import promises, sentences
from bayestwin.insight.selection import choose_within

FLAT = {"asymptote": dist.Normal(15.0, 1e3), "rate": dist.Normal(0.5, 1e2)}

# Pyomo.DoE's test of its Rooney–Biegler example, pyomo/contrib/doe/tests: nominal values (15, 0.5), standard deviation
# 0.1, what is known the Fisher information at hours 1, 2, 3, 4, 5, 7. Optimum at hour 10, and hours 0, 5, 10.
OPTIMUM = {"D": 6.8647947, "A": -2.2364242}
FACTORIAL = {
    "D": [6.583798747893548, 6.691228337572129, 6.864794726228617],
    "A": [-1.9574859220185146, -2.0268526846104975, -2.236424954559946],
    "E": [1.9584199467177335, 2.0278567624056967, 2.2381970919918426],
}


@functools.cache
def locally_optimal(criterion: str) -> xr.DataTree:
    """The design at the nominal values: a point posterior of telemetry that has no noise, with flat priors."""
    twin, told = growth(0.1, **FLAT), {"known": grown(level(HOURS, **NOMINAL))}
    posterior = bt.calibrate(twin, told, seed=0, method="map")
    hours = np.linspace(0.0, 10.0, 41)
    planned = telemetry_of({"time": hours, "y": np.full(41, np.nan)}, t0=0.0)
    again = bt.Candidate(planned=planned, each="time")
    return bt.design(twin, told, {"again": again}, posterior=posterior, seed=0, criterion=criterion, relative=False)


@pytest.mark.thorough
@pytest.mark.parametrize("criterion", ["D", "A"])
def test_pyomo_doe_finds_the_same_optimum(criterion: str) -> None:
    found = locally_optimal(criterion)
    best = found["options"].to_dataset().isel(option=0)
    assert best["option"].item() == found["chosen"]["option"].item() == "again at 10 h"
    assert float(best["value"].sel(criterion=criterion)) == pytest.approx(OPTIMUM[criterion], abs=1e-4)
    assert "simulated" not in found
    assert "Nothing was simulated" in sentences(found)[-1]


def test_pyomo_doe_finds_the_same_criteria_away_from_the_optimum() -> None:
    values = locally_optimal("D")["options"].to_dataset()["value"]
    at = values.sel(option=[f"again at {hour} h" for hour in (0, 5, 10)])
    for name, expected in FACTORIAL.items():
        np.testing.assert_allclose(at.sel(criterion=name), expected, atol=1e-4)


# Quadrature as the judge of what is promised: it knows nothing of solvers, Fisher information or weights.

SCALE, LATER, FOLLOW_UPS = 1.5, 10.0, 100
PRIORS = {"asymptote": dist.Normal(18.0, 6.0), "rate": dist.LogNormal(-0.7, 0.5)}
READ = np.array([8.3, 10.3, 19.0, 16.0, 15.6, 19.8])


@functools.cache
def follow_up() -> tuple[xr.DataTree, xr.DataTree]:
    """A posterior, and the design that asks for one more reading at hour 10."""
    twin, told = growth(SCALE, **PRIORS), grown(READ)
    posterior = bt.calibrate(twin, told, seed=0)
    candidates = {"late": bt.Candidate(times={"y": [8.0, LATER]}, each="time")}
    return posterior, bt.design(twin, told, candidates, posterior=posterior, seed=1)


def follow_up_readings(num: int, rng: np.random.Generator) -> np.ndarray:
    """Readings at hour 10, each of another draw of the posterior."""
    drawn = follow_up()[0]["posterior"]
    rows = rng.choice(drawn["rate"].size, num, replace=False)
    truths = level(LATER, *(drawn[name].values.ravel()[rows] for name in PRIORS))
    return truths + SCALE * rng.standard_normal(num)


def exact_spreads(readings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations, and widths of 90 % intervals, of asymptote and rate given one reading at hour 10 more.

    Both have the shape (n, 2).
    """
    axes = np.linspace(5.0, 60.0, 400), np.linspace(0.02, 3.0, 400)
    asymptote, rate = np.meshgrid(*axes, indexing="ij")
    density = sum(
        np.asarray(PRIORS[name].log_prob(value)) for name, value in (("asymptote", asymptote), ("rate", rate))
    )
    for hour, value in zip(HOURS, READ, strict=True):
        density = density - 0.5 * ((value - level(hour, asymptote, rate)) / SCALE) ** 2
    expected, spreads, widths = level(LATER, asymptote, rate), [], []
    for reading in readings:
        mass = np.exp(density - density.max() - 0.5 * ((reading - expected) / SCALE) ** 2)
        mass /= mass.sum()
        for axis, values in enumerate(axes):
            own = mass.sum(axis=1 - axis)
            spreads.append(np.sqrt((own * (values - own @ values) ** 2).sum()))
            widths.append(np.diff(np.interp([0.05, 0.95], np.cumsum(own) - own / 2, values)).item())
    return np.reshape(spreads, (-1, 2)), np.reshape(widths, (-1, 2))


@pytest.mark.thorough
def test_the_promised_spread_is_the_mean_over_follow_ups() -> None:
    _, found = follow_up()
    assert found["chosen"]["option"].item() == "late at 10 h"
    realised = exact_spreads(follow_up_readings(FOLLOW_UPS, np.random.default_rng(11)))[0].mean(axis=0)
    simulated = found["simulated"].to_dataset().sel(set="late at 10 h", target=list(PRIORS))
    ratio = simulated["sd"].mean("simulation").values / realised
    assert (ratio > 0.9).all()
    assert (ratio < 1.1).all()
    # the reading tells so much that a promise of no change at all would be off by more than that
    assert found["targets"].to_dataset()["sd"].sel(target="asymptote") / realised[0] > 1.15


@pytest.mark.thorough
def test_widths_of_nine_of_ten_follow_ups_are_as_was_promised() -> None:
    _, found = follow_up()
    num = 600
    widths = exact_spreads(follow_up_readings(num, np.random.default_rng(5)))[1]
    told = {one.target: one for one in promises(found)}
    lower, upper = ([getattr(told[name], side) for name in PRIORS] for side in ("lower", "upper"))
    kept = ((widths >= lower) & (widths <= upper)).mean(axis=0)
    # by chance of these follow-ups, and of both ends of the band, which are told by so many simulations
    error = np.sqrt(0.9 * 0.1 / num + 2.0 * 0.05 * 0.95 / found["simulated"].sizes["simulation"])
    assert (np.abs(kept - 0.9) < 3.0 * error).all(), kept


@pytest.mark.slow
def test_follow_ups_that_are_calibrated_come_out_as_wide_as_was_promised() -> None:
    """What was promised, held against 100 simulated follow-ups that NUTS calibrates, telemetry by telemetry."""
    _, found = follow_up()
    promised = found["simulated"].to_dataset()["sd"].sel(set="late at 10 h", target=list(PRIORS)).mean("simulation")
    twin, realised, came_out = growth(SCALE, **PRIORS), [], []
    for number, reading in enumerate(follow_up_readings(FOLLOW_UPS, np.random.default_rng(17))):
        told = grown(np.append(READ, reading), np.append(HOURS, LATER))
        again = bt.calibrate(twin, told, seed=number, progress=Progress(show=False))
        realised.append([float(again["posterior"][name].std()) for name in PRIORS])
        judged = bt.judge_design(found, twin, told, again).sel(target=list(PRIORS))
        came_out.append(judged["realised"].values)
    ratio = promised.values / np.mean(realised, axis=0)
    assert (ratio > 0.9).all(), ratio
    assert (ratio < 1.1).all(), ratio
    widths = judged["promised"].values / np.mean(came_out, axis=0)
    assert (widths > 0.9).all(), widths
    assert (widths < 1.1).all(), widths


@pytest.mark.slow
def test_what_is_simulated_is_what_a_linear_twin_of_normal_noise_says() -> None:
    twin, told, posterior = known_decay(), decay_telemetry(), known_decay_posterior()
    later = np.linspace(4.05, 4.5, 1500)  # late, when each reading tells little
    plan = telemetry_of({"time": later, "level": np.full(1500, np.nan)}, t0=told.t0)
    found = bt.design(twin, told, {"go on": plan}, posterior=posterior, seed=0, of=["level_initial"])
    variance = normal()[1] ** 2
    added = (np.exp(-0.8 * later) ** 2 / 0.3**2).sum()
    exact = (1.0 / variance + added) ** -0.5
    options, simulated = found["options"].to_dataset(), found["simulated"].to_dataset()
    assert options["narrowing"].item() == pytest.approx(1.0 - exact / np.sqrt(variance), rel=1e-6)
    sd = simulated["sd"].values.ravel()
    assert exact < 0.9 * np.sqrt(variance)
    now = found["targets"].to_dataset()["sd"].item()  # of draws, which chance makes more or less spread than they are
    assert sd.mean() == pytest.approx(exact / np.sqrt(variance) * now, rel=0.01)
    assert simulated["gain"].mean().item() == pytest.approx(0.5 * np.log1p(variance * added), abs=0.05)


@pytest.mark.slow
def test_what_tells_very_much_is_calibrated_anew_around_each_mode() -> None:
    twin = decay(
        parameters={"rate": bt.Parameter(1e-3)}, observations={"level": bt.Observation(bt.Gaussian(0.3), unit="m")}
    )
    told = telemetry_of({"time": [0.0, 0.05], "level": [5.1, 4.9]})
    posterior = bt.calibrate(twin, told, seed=0, method="laplace")
    later = np.linspace(0.1, 1.0, 3000)
    plan = telemetry_of({"time": later, "level": np.full(3000, np.nan)}, t0=0.0)
    found = bt.design(twin, told, {"go on": plan}, posterior=posterior, seed=0, of=["level_initial"])
    simulated = found["simulated"].to_dataset()
    exact = (1.0 + np.exp(-2e-3 * np.array([0.0, 0.05, *later])).sum() / 0.3**2) ** -0.5
    assert simulated["method"].item() == "draws around modes"
    # 64 simulations of some hundred draws each
    assert simulated["sd"].mean().item() == pytest.approx(exact, rel=0.02)
    assert simulated["width"].mean().item() == pytest.approx(2.0 * 1.6449 * exact, rel=0.02)


@pytest.mark.slow
def test_noise_that_remembers_makes_neighbours_worth_less_than_their_sum() -> None:
    noise = bt.Autocorrelated(0.3, correlation_time=1.0)
    twin = decay(parameters={"rate": bt.Parameter(0.8)}, observations={"level": bt.Observation(noise, unit="m")})
    told = decay_telemetry()
    posterior = bt.calibrate(twin, told, seed=0, method="laplace")
    later = np.array([4.05, 4.1, 6.0])
    candidate = bt.Candidate(times={"level": later}, each="time")
    found = bt.design(
        twin, told, {"go on": candidate}, posterior=posterior, seed=0, of=["level_initial"], budget=2.0, best=0
    )
    times = np.concatenate([told.table.index.to_numpy(float), later])

    def information(rows: list[int]) -> float:
        at, slope = times[rows], np.exp(-0.8 * times[rows])
        return float(slope @ np.linalg.solve(0.09 * np.exp(-np.abs(at[:, None] - at)), slope))

    past = list(range(len(told.table)))
    now = 1.0 + information(past)  # the prior is a normal one of standard deviation 1
    scale = posterior["posterior"]["level_initial"].values.std(ddof=1) * np.sqrt(now)
    gains = {pair: information([*past, *pair]) - information(past) for pair in itertools.combinations((12, 13, 14), 2)}
    exact = {pair: scale * (now + gain) ** -0.5 for pair, gain in gains.items()}
    names = {"go on at 4.05 h": 12, "go on at 4.1 h": 13, "go on at 6 h": 14}
    chosen = found["chosen"].to_dataset()
    pair = tuple(sorted(names[name] for name in chosen["option"].values))
    # the information of imagined records is right within chance: so is what is left of the spread
    assert chosen["sd"].values[-1, 0] == pytest.approx(exact[pair], rel=0.02)


def test_choice_within_a_budget_is_about_the_best_there_is() -> None:
    rng, best = np.random.default_rng(4), 0
    for _ in range(30):
        slopes, costs = rng.standard_normal((8, 3)), rng.uniform(0.5, 2.0, 8)
        each = slopes[:, :, None] * slopes[:, None]

        def loss(sets: np.ndarray, each: np.ndarray = each) -> np.ndarray:
            return -np.linalg.slogdet(0.1 * np.eye(3) + np.tensordot(sets.astype(float), each, 1))[1]

        plans = np.array([0, 0, 0, 0, 1, 1, 1, 1])
        found = choose_within(loss, costs, plans, 3.0)
        assert len(set(plans[found])) == 1
        assert costs[found].sum() <= 3.0
        subsets = [own for k in range(1, 9) for own in itertools.combinations(range(8), k)]
        fine = [own for own in subsets if costs[list(own)].sum() <= 3.0 and len(set(plans[list(own)])) == 1]
        rows = np.zeros((len(fine), 8), bool)
        for row, own in enumerate(fine):
            rows[row, list(own)] = True
        reached = float(loss(np.isin(np.arange(8), found)[None])[0])
        best += reached <= loss(rows).min() + 1e-9
    assert best >= 27


@pytest.mark.slow
def test_inputs_exclude_each_other_and_gaps_of_a_plan_do_not_count() -> None:
    times, twin = np.linspace(0.0, 3.0, 13), driven()
    waves = {"stepped": np.sin(times), "sloped": np.cos(times)}
    level = lag(times, **waves, start=1.0, rate=0.8, gain=1.5) + 0.1 * np.cos(9.0 * times)
    told = telemetry_of({"time": times, **waves, "level": level})
    posterior = bt.calibrate(twin, told, seed=0, method="laplace")
    last, step = told.table.index[-1], 0.5

    def plan(stepped: float, read: list[float]) -> bt.Telemetry:
        times = last + step * np.arange(1, 5)
        signals = {"stepped": np.full(4, stepped), "sloped": np.zeros(4)}
        return telemetry_of({"time": times, **signals, "level": read}, t0=told.t0)

    nothing = [np.nan] * 4
    candidates = {
        "still": bt.Candidate(planned=plan(0.0, nothing), each="time"),
        "step": bt.Candidate(planned=plan(5.0, nothing), each="time"),
        "step, seldom": plan(5.0, [np.nan, 0.0, np.nan, 0.0]),
    }
    found = bt.design(twin, told, candidates, posterior=posterior, seed=0, of=["gain"], budget=8.0, best=0)
    options = found["options"].to_dataset()
    assert int(options["num_observed"].sel(option="step, seldom")) == 2
    assert options.sizes["option"] == 9
    names = [str(name) for name in found["chosen"]["option"].values]
    assert len(names) == 4
    assert all(name.startswith("step at") for name in names)


@pytest.mark.slow
def test_one_more_asset_tells_of_the_population_and_going_on_tells_of_its_asset() -> None:
    twin = decay(
        parameters={"rate": bt.Parameter(dist.LogNormal(0.0, 0.5), unit="1/h", pooled=dist.HalfNormal(0.5))},
        states={"level": bt.State(5.0, unit="m")},
        observations={"level": bt.Observation(bt.Gaussian(0.1), unit="m")},
    )
    early, times, rng = np.array([0.1, 0.3]), np.linspace(0.5, 2.5, 8), np.random.default_rng(6)
    rates = {"first": 0.5, "second": 0.8, "third": 1.2}
    told = {
        name: telemetry_of({"time": early, "level": 5.0 * np.exp(-rate * early) + 0.1 * rng.standard_normal(2)}, t0=0.0)
        for name, rate in rates.items()
    }
    posterior = bt.calibrate(twin, told, seed=0)
    new = telemetry_of({"time": times, "level": np.full(8, np.nan)}, t0=0.0)
    candidates = {"another": new, "go on": bt.Candidate(planned=new, experiment="first")}
    found = bt.design(twin, told, candidates, posterior=posterior, seed=0, of=["rate_spread", "rate[first]"])
    narrowing = found["options"].to_dataset()["narrowing"]
    assert float(narrowing.sel(option="another", target="rate_spread")) > 0.02
    assert float(narrowing.sel(option="go on", target="rate[first]")) > float(
        narrowing.sel(option="another", target="rate[first]")
    )
    simulated = found["simulated"].to_dataset()["sd"].mean("simulation")
    left = simulated / found["targets"].to_dataset()["sd"]
    assert float(left.sel(set="another", target="rate_spread")) < float(left.sel(set="go on", target="rate_spread"))
    # what is simulated and what is linearised agree where the posterior is about normal
    for name in ("another", "go on"):
        linear = 1.0 - float(narrowing.sel(option=name, target="rate[first]"))
        assert float(left.sel(set=name, target="rate[first]")) == pytest.approx(linear, abs=0.04)


@pytest.mark.slow
def test_whether_a_promise_was_kept_is_told_of_the_new_posterior() -> None:
    (posterior, found), twin = follow_up(), growth(SCALE, **PRIORS)
    with pytest.raises(InvalidArtifact, match="nothing added"):
        bt.judge_design(found, twin, grown(READ), posterior)
    outcomes = {}
    for word, times in (("kept", [LATER]), ("narrower", [8.0, 9.0, LATER, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0])):
        hours = np.concatenate([HOURS, times])
        told = grown(np.concatenate([READ, level(np.array(times), 18.0, 0.5)]), hours)
        judged = bt.judge_design(found, twin, told, bt.calibrate(twin, told, seed=2))
        outcomes[word] = judged["outcome"].sel(target="asymptote").item()
        assert judged["ratio"].sel(target="asymptote").item() == pytest.approx(
            promises(found)[0].width / judged["realised"].sel(target="asymptote").item()
        )
    assert outcomes == {"kept": "kept", "narrower": "narrower"}


@pytest.mark.parametrize(
    ("candidates", "settings", "words"),
    [
        ({}, {}, "nothing to choose from"),
        ({"late": bt.Candidate()}, {}, "`late` makes no sense"),
        ({"late": bt.Candidate(times={"z": [9.0]})}, {}, "`z`"),
        ({"late": bt.Candidate(times={"y": [9.0]}, cost=0.0)}, {}, "cost above zero"),
        ({"late": bt.Candidate(times={"y": [9.0]}, experiment="other")}, {}, "one telemetry was calibrated"),
        ({"late": bt.Candidate(times={"y": [6.0]})}, {}, "does not go on"),
        ({"late": bt.Candidate(times={"y": [9.0]})}, {"of": ["raet"]}, "no `raet` to narrow"),
        ({"late": bt.Candidate(times={"y": [9.0]})}, {"of": {"twice": 2.0}}, "what `twice` is"),
        ({"late": bt.Candidate(times={"y": [9.0]})}, {"of": {"bad": lambda p: p.raet}}, "cannot compute `bad`"),
        ({"late": bt.Candidate(times={"y": [9.0]})}, {"budget": 0.5}, "not enough for any candidate"),
        ({"late": bt.Candidate(times={"y": [9.0]})}, {"criterion": "F"}, "`criterion` makes no sense"),
        (
            {"late": bt.Candidate(times={"y": [9.0]})},
            {"criterion": "D", "of": {"once": lambda p: p.rate, "twice": lambda p: 2.0 * p.rate}},
            "follows from the others",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(candidates, settings, words) -> None:
    posterior, _ = follow_up()
    with pytest.raises((InvalidInput, InvalidSetting), match=words):
        bt.design(growth(SCALE, **PRIORS), grown(READ), candidates, posterior=posterior, seed=0, **settings)


@pytest.mark.thorough
def test_model_errors_and_other_telemetry_are_refused() -> None:
    posterior, _ = follow_up()
    candidates = {"late": bt.Candidate(times={"y": [9.0]})}
    with pytest.raises(InvalidArtifact, match="other telemetry"):
        bt.design(growth(SCALE, **PRIORS), grown(READ + 1.0), candidates, posterior=posterior, seed=0)
    error = bt.Discrepancy(scale={"level": 0.5}, length={"level": 1.0})
    told = decay_telemetry()
    disturbed = bt.calibrate(known_decay(), told, seed=0, method="laplace", model_error=error)
    with pytest.raises(InvalidSetting, match="model error"):
        bt.design(
            known_decay(),
            told,
            {"a": bt.Candidate(times={"level": [9.0]})},
            posterior=disturbed,
            seed=0,
            model_error=error,
        )
