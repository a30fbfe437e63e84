"""What records bring along, numbers by experiment and first values, is where each starts, and no part of a program."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from scipy import stats
from twins import bound_density, decay, decay_field, decay_telemetry, telemetry_of

import bayestwin as bt
from bayestwin._base.keys import key_of
from bayestwin.density.ahead import own_start, start_values
from bayestwin.density.bind import bind_all
from bayestwin.density.density import build_density
from bayestwin.insight.influence import log_prior
from bayestwin.model.describe import fingerprint

TIMES = np.array([0.0, 0.5, 1.0, 2.0])
STARTS, RATES = {"low": 2.0, "high": 6.0}, {"low": 0.5, "high": 0.9}


def records(**columns: float) -> dict[str, bt.Telemetry]:
    """Noise-free decays of two experiments, with columns that have one value, in the first row."""
    found = {}
    for name, start in STARTS.items():
        first = {column: [factor * start, *[np.nan] * 3] for column, factor in columns.items()}
        found[name] = telemetry_of({"time": TIMES, "level": start * np.exp(-RATES[name] * TIMES)} | first)
    return found


def known(starts: object = STARTS, rates: object = RATES) -> bt.Twin:
    """A decay of which only the noise is inferred: starts and rates are known by experiment."""
    return decay(
        states={"level": bt.State(starts, unit="m")},
        parameters={"rate": bt.Parameter(rates, unit="1/h"), "slow": bt.Parameter(lambda p: p.rate / 2.0)},
    )


def test_each_experiment_has_its_own_known_numbers() -> None:
    density = build_density(known(), bind_all(known(), records()))
    # the records are those of the twin without noise: what is left is the density of zero residuals
    z = density.unconstrain({"level_scale": 0.1})
    expected = 8 * stats.norm.logpdf(0.0, 0.0, 0.1) + stats.halfnorm.logpdf(0.1, scale=0.5) + np.log(0.1)
    np.testing.assert_allclose(density(z), expected, rtol=1e-6)
    np.testing.assert_allclose(density.priors.derive({"level_scale": 0.1})["slow"], [0.25, 0.45])


def test_other_numbers_and_records_are_the_same_program() -> None:
    twin, other = known(), known({"low": 2.5, "high": 5.0}, {"low": 0.1, "high": 0.2})
    assert fingerprint(twin) != fingerprint(other)
    assert key_of(twin) == key_of(other)
    densities = [build_density(one, bind_all(one, records())) for one in (twin, other)]
    structures = [jax.tree.structure(one) for one in densities]
    assert structures[0] == structures[1]
    traced = []

    @jax.jit
    def evaluate(density: object, z: jax.Array) -> jax.Array:
        traced.append(1)
        return density(z)

    found = [float(evaluate(one, jnp.array([-2.0]))) for one in densities]
    assert len(traced) == 1
    assert found[0] > found[1] + 10.0


def test_a_first_value_is_where_a_record_starts_in_the_unit_of_the_state() -> None:
    twin = known(bt.First("filled"))
    telemetry = {
        name: dataclasses.replace(one, units={**one.units, "filled": "cm"})
        for name, one in records(filled=100.0).items()
    }
    density = build_density(twin, bind_all(twin, telemetry))
    np.testing.assert_allclose(density.grid.known["level_initial"], [2.0, 6.0])
    expected = 8 * stats.norm.logpdf(0.0, 0.0, 0.1) + stats.halfnorm.logpdf(0.1, scale=0.5) + np.log(0.1)
    np.testing.assert_allclose(density(density.unconstrain({"level_scale": 0.1})), expected, rtol=1e-6)


def test_a_start_may_be_made_of_inputs_and_parameters() -> None:
    twin = bt.Twin(
        name="filled",
        vector_field=decay_field,
        states={"level": bt.State(lambda p, u: p.share * u.filled)},
        parameters={"rate": bt.Parameter(0.5), "share": bt.Parameter(dist.Normal(1.0, 0.5))},
        inputs={"filled": bt.Input()},
        observations={"level": bt.Observation(bt.Gaussian(0.1))},
    )
    telemetry = telemetry_of({"time": TIMES, "level": 2.0 * np.exp(-0.5 * TIMES), "filled": [4.0, 9.0, 1.0, 1.0]})
    density = bound_density(twin, telemetry)
    z = jnp.array([0.5])
    expected = 4 * stats.norm.logpdf(0.0, 0.0, 0.1) + stats.norm.logpdf(0.5, 1.0, 0.5)
    np.testing.assert_allclose(density(z), expected, rtol=1e-6)
    slope = (density(z + 1e-4) - density(z - 1e-4)) / 2e-4
    np.testing.assert_allclose(jax.grad(density)(z)[0], slope, rtol=1e-3, atol=1e-3)


def plant() -> tuple[bt.Twin, dict[str, bt.Telemetry]]:
    """Arrays that start from an input, delays and times of events that are derived, totals known by experiment."""
    twin = bt.Twin(
        name="plant",
        vector_field=lambda t, x, p, u: {
            "rod": -0.5 * x.rod,
            "even": jnp.zeros(2),
            "flow": u.valve(t - p.dead),
            "left": 3.0 * x.right - 2.0 * x.left,
            "right": 2.0 * x.left - 3.0 * x.right,
        },
        states={
            "rod": bt.State(lambda p, u: u.valve * p.total * jnp.array([1.0, 2.0, 3.0]), size=3),
            "even": bt.State(STARTS, size=2),
            "flow": bt.State(lambda p: -p.dead),
            "left": bt.State(bt.SteadyState(lambda p: p.total)),
            "right": bt.State(bt.SteadyState(0.0)),
        },
        parameters={
            "half": bt.Parameter(dist.LogNormal(0.0, 0.5)),
            "dead": bt.Parameter(lambda p: 2.0 * p.half),
            "total": bt.Parameter({"low": 10.0, "high": 20.0}),
        },
        inputs={"valve": bt.Input(hold="previous")},
        events={"halved": bt.Event(lambda t, x, p, u: {"rod": x.rod / 2.0}, at=lambda p: p.dead)},
        observations={"flow": bt.Observation(bt.Gaussian(0.1))},
    )
    columns = {"time": TIMES, "flow": 0.0, "valve": [1.0, 3.0, 3.0, 3.0]}
    return twin, {name: telemetry_of(columns) for name in STARTS}


@pytest.mark.thorough
def test_they_go_with_arrays_delays_steady_states_and_events() -> None:
    twin, telemetry = plant()
    density = build_density(twin, bind_all(twin, telemetry))
    # the valve opens at 0.5, which arrives 0.6 later; its first value holds before
    states = np.asarray(density.predict({"half": 0.3}).states)
    flow = TIMES - 0.6 + 2.0 * np.maximum(TIMES - 1.1, 0.0)
    rod = np.exp(-0.5 * TIMES) * np.where(TIMES > 0.6, 0.5, 1.0)
    for number, (name, start) in enumerate(STARTS.items()):
        total = twin.parameters["total"].prior.numbers[name]
        expected = [*(total * rod * share for share in (1.0, 2.0, 3.0)), *[np.full(4, start)] * 2, flow]
        expected += [np.full(4, 0.6 * total), np.full(4, 0.4 * total)]
        np.testing.assert_allclose(states[number], np.transpose(expected), rtol=1e-5, atol=1e-6)
    z = density.unconstrain({"half": 0.3})
    # by hand: flow falls by 2 with each unit of `half`, and by 6 once the open valve has arrived
    slope = -2.0 - 4.0 * (TIMES > 1.1)
    expected = 0.3 * 2 * (-flow * slope).sum() / 0.1**2 - np.log(0.3) / 0.25
    np.testing.assert_allclose(jax.grad(density)(z)[0], expected, rtol=1e-4)


def test_they_stay_where_the_solver_stops_elsewhere() -> None:
    grid = build_density(known(), bind_all(known(), records())).alone(0).grid
    assert grid.on_mesh(np.linspace(0.0, TIMES[-1], 5)).known == grid.known != {}


def test_a_start_of_the_wrong_shape_is_refused() -> None:
    rod = {"vector_field": lambda t, x, p, u: {"level": -x.level}}
    rod |= {"observations": {"seen": bt.Observation(bt.Gaussian(0.1), of=lambda t, x, p, u: x.level[0])}}
    for start in (lambda p: jnp.ones(2), lambda p, u: jnp.ones(2)):
        with pytest.raises(bt.errors.InvalidTwin, match=r"shape \(2,\)"):
            decay(states={"level": bt.State(start, size=3)}, **rod)
    assert decay(states={"level": bt.State(lambda p: jnp.ones(3), size=3)}, **rod).states["level"].shape == (3,)


def around_first() -> bt.Twin:
    """A decay that starts near what was observed first."""
    return decay(
        states={"level": bt.State(bt.First("level", lambda first: dist.Normal(first, 0.2)), unit="m")},
        parameters={"rate": bt.Parameter(0.8, unit="1/h"), "slow": bt.Parameter(lambda p: p.rate / 2.0, unit="1/h")},
        observations={"level": bt.Observation(bt.Gaussian(0.1), unit="m")},
    )


@pytest.mark.thorough
def test_the_posterior_of_a_start_around_the_first_value_is_the_normal_one() -> None:
    twin, telemetry = around_first(), decay_telemetry()
    posterior = bt.calibrate(twin, telemetry, seed=0, method="laplace", num_samples=200, num_chains=2)
    level = telemetry.table["level"].to_numpy()
    faded = np.exp(-0.8 * telemetry.table.index.to_numpy())
    precision = 1.0 / 0.2**2 + (faded**2).sum() / 0.1**2
    mean = (level[0] / 0.2**2 + (faded * level).sum() / 0.1**2) / precision
    draws = posterior["posterior"]["level_initial"]
    assert abs(float(draws.mean()) - mean) < 4.0 * precision**-0.5 / np.sqrt(400)
    assert abs(float(draws.std()) / precision**-0.5 - 1.0) < 4.0 / np.sqrt(800)
    assert posterior.attrs["known"] == {"level_initial_first": level[0]}
    np.testing.assert_allclose(posterior["posterior"]["slow"], 0.4)
    assert posterior["posterior"]["slow"].attrs == {"units": "1/h", "long_name": "slow", "kind": "derived"}
    prior = posterior["prior"]["level_initial"]
    assert abs(float(prior.mean()) - level[0]) < 4.0 * 0.2 / np.sqrt(prior.size)
    terms = stats.norm.logpdf(draws, level[0], 0.2)
    np.testing.assert_allclose(log_prior(twin, posterior), terms, rtol=1e-10)


@pytest.mark.thorough
def test_a_prediction_goes_on_from_the_first_value_of_the_calibration(tmp_path) -> None:
    twin = decay(states={"level": bt.State(bt.First("level"), unit="m")}, parameters={"rate": bt.Parameter(0.8)})
    telemetry = decay_telemetry()
    posterior = bt.calibrate(twin, telemetry, seed=0, method="laplace", num_samples=20, num_chains=2)
    bt.save(posterior, tmp_path / "decay.nc")
    posterior = bt.load(tmp_path / "decay.nc")
    start = telemetry.table["level"].iloc[0]
    later = telemetry_of({"time": [4.5, 5.0], "level": [99.0, 99.0]})
    found = bt.predict(twin, posterior, later, seed=1)["predictions"]["level_noise_free"]
    np.testing.assert_allclose(found.isel(chain=0, draw=0), start * np.exp(-0.8 * np.array([4.5, 5.0])), rtol=1e-5)
    anew = bt.predict(twin, posterior, later, seed=1, initial={"level": 3.0})["predictions"]["level_noise_free"]
    np.testing.assert_allclose(anew.isel(chain=0, draw=0), 3.0 * np.exp(-0.8 * np.array([0.0, 0.5])), rtol=1e-5)


@pytest.mark.thorough
def test_another_recording_begins_where_its_own_first_value_says() -> None:
    twin = decay(
        states={"level": bt.State(bt.First("level", lambda first: dist.Normal(first, 0.2)), unit="m")},
        parameters={"rate": bt.Parameter(bt.First("rated"))},
        observations={"level": bt.Observation(bt.Gaussian(0.1), unit="m")},
    )
    telemetry = decay_telemetry()
    telemetry = telemetry.with_table(telemetry.table.assign(rated=0.8))
    posterior = bt.calibrate(twin, telemetry, seed=0, method="laplace", num_samples=100, num_chains=2)
    times = telemetry.table.index.to_numpy()
    other = telemetry_of({"time": times, "level": 80.0 * np.exp(-0.3 * times), "rated": 0.3})
    found = bt.predict(twin, posterior, other, seed=1)
    assert found.attrs["starts_anew"] == {"level": "Normal(80, 0.2)"}
    ratio = found["predictions"]["level_noise_free"].to_numpy() / (80.0 * np.exp(-0.3 * times))
    assert abs(ratio.mean() - 1.0) < 4 * 0.2 / 80.0 / np.sqrt(200)
    with pytest.raises(bt.errors.InvalidTelemetry, match="first value of `rated`"):
        bt.predict(twin, posterior, other.with_table(other.table[["level"]]), seed=1)


def test_another_recording_begins_where_its_parameters_say() -> None:
    twin = decay(states={"level": bt.State(lambda p: dist.Normal(10.0 * p.rate, 0.1))})
    rates = np.linspace(0.1, 0.9, 500)
    begun = start_values(twin, own_start(twin, decay_telemetry()), 500, 0, {"rate": rates}, {})["level_initial"]
    apart = begun - 10.0 * rates
    assert abs(apart.mean()) < 4 * 0.1 / np.sqrt(500)
    assert abs(apart.std() / 0.1 - 1.0) < 4 / np.sqrt(1000)


@pytest.mark.thorough
def test_a_prediction_of_an_experiment_has_its_known_numbers() -> None:
    posterior = bt.calibrate(known(), records(), seed=0, method="laplace", num_samples=20, num_chains=2)
    assert posterior.attrs["known"] == {"rate": RATES, "level_initial": STARTS}
    ahead = bt.predict(known(), posterior, {"high": telemetry_of({"time": [3.0], "level": [0.0]})}, seed=1)
    found = ahead["predictions"]["level_noise_free"].sel(experiment="high").isel(time=0)
    np.testing.assert_allclose(found, 6.0 * np.exp(-0.9 * 3.0), rtol=1e-5)
    one = posterior.sel(experiment="low")
    anew = bt.predict(known(), one, telemetry_of({"time": [7.0, 8.0], "level": [0.0, 0.0]}), seed=1, initial={})
    np.testing.assert_allclose(
        anew["predictions"]["level_noise_free"].isel(chain=0, draw=0), 2.0 * np.exp(-0.5 * np.arange(2)), rtol=1e-5
    )


def test_a_simulation_is_given_what_is_known_by_experiment() -> None:
    values = {"level_scale": 0.1, "level_initial": 4.0, "rate": 0.5}
    found = bt.simulate(known(), values, telemetry_of({"time": TIMES}), seed=0)
    np.testing.assert_allclose(found["level_state"], 4.0 * np.exp(-0.5 * TIMES), rtol=1e-5)
    with pytest.raises(bt.errors.InvalidSetting, match="known by experiment"):
        bt.simulate(known(), {"level_scale": 0.1, "rate": 0.5}, telemetry_of({"time": TIMES}), seed=0)
    around = bt.simulate(around_first(), {"level_initial": 4.0}, telemetry_of({"time": TIMES}), seed=0)
    np.testing.assert_allclose(around["level_state"], 4.0 * np.exp(-0.8 * TIMES), rtol=1e-5)


def test_what_a_record_does_not_bring_along_is_said() -> None:
    later = records() | {"later": records()["low"]}
    with pytest.raises(bt.errors.InvalidTelemetry, match=r"(?s)`later`.*called `low`, `high`"):
        bind_all(known(), later)
    with pytest.raises(bt.errors.InvalidTelemetry, match="of no named experiment"):
        bind_all(known(), records()["low"])
    with pytest.raises(bt.errors.InvalidTelemetry, match="no column for the first value of `filled`"):
        bind_all(known(bt.First("filled")), records())
    empty = {name: one.with_table(one.table.assign(filled=np.nan)) for name, one in records().items()}
    with pytest.raises(bt.errors.InvalidTelemetry, match="no first value of `filled`"):
        bind_all(known(bt.First("filled")), empty)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (bt.State({"low": "two"}), r"(?s)finite number.*'low': 'two'"),
        (bt.State({}), "an empty mapping"),
        (bt.State({"low": dist.Normal(0.0, 1.0)}), "A prior holds for all experiments"),
        (bt.State(lambda t, x, p, u: 1.0), r"(?s)a function of `\(p\)` or `\(p, u\)`.*one of `\(t, x, p, u\)`"),
        (bt.State(lambda p, u: dist.Normal(p.rate, 1.0)), "makes a prior of inputs"),
        (bt.State(bt.First("level", lambda first: 2.0 * first)), "returns no distribution"),
        (
            bt.State(dist.ImproperUniform(dist.constraints.positive, (), ())),
            r"(?s)ImproperUniform, an improper one.*Say",
        ),
        (bt.State(dist.Delta(2.0)), "Delta, which is one value"),
    ],
)
def test_a_start_that_cannot_be_is_refused(state: bt.State, said: str) -> None:
    with pytest.raises(bt.errors.InvalidTwin, match=said):
        decay(states={"level": state})


@pytest.mark.slow
def test_reactions_run_from_known_starts_give_their_rates() -> None:
    starts = {"run1": (0.373, 0.355), "run2": (0.361, 0.688), "run3": (0.72, 0.18)}
    twin = bt.Twin(
        name="runs",
        vector_field=lambda t, x, p, u: {
            "A": -p.k1 * x.A * x.B,
            "B": -p.k1 * x.A * x.B,
            "C": p.k1 * x.A * x.B - p.k2 * x.C,
        },
        states={
            "A": bt.State({name: pair[0] for name, pair in starts.items()}),
            "B": bt.State(bt.First("B0")),
            "C": bt.State(0.0),
        },
        parameters={"k1": bt.Parameter(dist.LogUniform(1e-3, 1e3)), "k2": bt.Parameter(dist.LogUniform(1e-3, 1e3))},
        observations={"C": bt.Observation(bt.LogNormal(dist.HalfNormal(0.2)))},
        time_unit="min",
    )
    times = telemetry_of({"time": [0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0]}, t0=0.0)
    runs = {}
    for seed, (name, (a, b)) in enumerate(starts.items()):
        truth = {"k1": 3.0, "k2": 0.4, "C_scale": 0.05, "A_initial": a, "B_initial": b}
        made = bt.simulate(twin, truth, times, seed=seed)["C"]
        first = pd.DataFrame({"time": [0.0], "B0": [b]})
        runs[name] = bt.read_telemetry(pd.concat([first, pd.DataFrame({"time": made["time"], "C": made})]))
    posterior = bt.calibrate(twin, runs, seed=0, num_samples=500)
    for name, value in {"k1": 3.0, "k2": 0.4}.items():
        draws = posterior["posterior"][name]
        assert abs(float(draws.mean()) - value) < 4.0 * float(draws.std())
        assert float(draws.std()) < 0.1 * value
    assert all(gate.passed for gate in bt.diagnose(posterior) if gate.severity == "fail")
