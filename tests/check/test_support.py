"""Forecasts that leave what calibration has seen are told apart from those that stay in it, by codes and in words."""

import functools
import itertools

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from twins import decay_telemetry, known_decay, known_decay_posterior, telemetry_of

import bayestwin as bt
from bayestwin.results.leaning import LEANING
from bayestwin.results.support import CODES, COMBINATION, LEVEL, PRIOR, RATE

CALIBRATED, AHEAD = 480, 48
FORECASTS = {"inside": 200, "level": 40, "rate": 40, "combination": 40, "state": 40}


def room_field(t, x, p, u):
    """One mass between a heater and the air outdoors."""
    return {"indoor": (u.outdoor - x.indoor) / p.tau + p.gain * u.heating}


@functools.cache
def room() -> bt.Twin:
    return bt.Twin(
        name="one_mass",
        vector_field=room_field,
        states={"indoor": bt.State(dist.Normal(20.0, 3.0), unit="degC")},
        parameters={
            "tau": bt.Parameter(dist.LogNormal(np.log(10.0), 0.3), unit="h"),
            "gain": bt.Parameter(dist.LogNormal(0.0, 0.3), unit="K/h/kW"),
        },
        inputs={"outdoor": bt.Input(unit="degC"), "heating": bt.Input(unit="kW", hold="previous")},
        observations={"indoor": bt.Observation(bt.Gaussian(0.2), unit="degC")},
        time_unit="h",
    )


def day(times: np.ndarray) -> np.ndarray:
    """The temperature outdoors on a mean day."""
    return 10.0 + 5.0 * np.sin(2.0 * np.pi * times / 24.0)


def weather(rng: np.random.Generator, first: int, num: int, before: float = 0.0) -> dict[str, np.ndarray]:
    """Days that differ, and a heater that does more the colder it is; `before` is how the hour before differed."""
    times, noise = first + np.arange(num, dtype=float), np.empty(num)
    for k in range(num):
        noise[k] = before = 0.9 * before + 0.4 * rng.standard_normal()
    outdoor = day(times) + noise
    heating = np.clip(1.0 - 0.1 * (outdoor - 10.0) + 0.1 * rng.standard_normal(num), 0.0, 2.0)
    return {"time": times, "outdoor": outdoor, "heating": heating}


@functools.cache
def past() -> dict[str, np.ndarray]:
    return weather(np.random.default_rng(0), 0, CALIBRATED)


@functools.cache
def calibrated() -> xr.DataTree:
    signals = past()
    truth = {"tau": 10.0, "gain": 1.0, "indoor_initial": 20.0}
    seen = bt.simulate(room(), truth, telemetry_of(signals), seed=0)["indoor"].values
    return bt.calibrate(room(), telemetry_of({**signals, "indoor": seen}), seed=0, method="laplace", num_samples=50)


def planned(kind: str, number: int) -> dict[str, np.ndarray]:
    """Two days ahead as all were, or with an excursion of half a day."""
    before = past()["outdoor"][-1] - day(past()["time"][-1])
    found = weather(np.random.default_rng([19, number]), CALIBRATED, AHEAD, before)
    rows = slice(12, 24)
    if kind == "level":
        found["outdoor"][rows] -= 12.0
    elif kind == "rate":
        found["outdoor"][rows] = 10.0 + 4.0 * (-1.0) ** np.arange(12)
    elif kind == "combination":  # more and more the heater is on when it is warm, and off when it is cold
        share, against = np.linspace(0.0, 1.0, AHEAD), np.clip(1.0 + 0.1 * (found["outdoor"] - 10.0), 0.0, 2.0)
        found["heating"] = (1.0 - share) * found["heating"] + share * against
    return found


def stays(signals: dict[str, np.ndarray]) -> bool:
    """Whether no input is higher, lower or faster than it ever was: then a forecast is one inside."""
    for name in ("outdoor", "heating"):
        seen, new = past()[name], np.append(past()[name][-1], signals[name])
        if new.min() < seen.min() or new.max() > seen.max() or abs(np.diff(new)).max() > abs(np.diff(seen)).max():
            return False
    return True


def seen_as(kind: str, found: xr.Dataset) -> bool:
    """Whether an excursion is told, and as what it is; of a forecast inside whether anything is told."""
    codes = found["extrapolation"]
    outdoor = codes.sel(signal="outdoor").values
    if kind == "level":
        settled = outdoor[14:20]  # after the fall, when nothing is fast any more
        return bool(((settled & LEVEL) > 0).all() and not (settled & RATE).any())
    if kind == "rate":
        return bool(((outdoor[14:20] & RATE) > 0).all() and not (outdoor[14:20] & LEVEL).any())
    if kind == "state":
        return bool(codes.sel(signal="indoor").values[0] & LEVEL)
    if kind == "combination":
        apart = (codes & COMBINATION).any("signal") & ~(codes & LEVEL).any("signal")
        return bool(apart.any() and found["new"].values[apart.values].all())
    return bool(found["new"].any())


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORECASTS)
def test_excursions_are_told_and_forecasts_inside_are_not(kind: str) -> None:
    told = 0
    plans = (planned(kind, number) for number in itertools.count())
    fitting = (plan for plan in plans if kind not in ("inside", "state") or stays(plan))
    for number, plan in enumerate(itertools.islice(fitting, FORECASTS[kind])):
        future = telemetry_of(plan)
        initial = {"indoor": 32.0} if kind == "state" else None
        forecast = bt.predict(room(), calibrated(), future, seed=number, initial=initial, draws=20)
        told += seen_as(kind, bt.extrapolation(room(), calibrated(), forecast))
    if kind == "inside":
        assert told <= 0.05 * FORECASTS[kind]
    else:
        assert told >= 0.95 * FORECASTS[kind]


@pytest.mark.thorough
def test_what_is_new_is_said_of_each_quantity_and_time() -> None:
    signals = planned("level", 3)
    forecast = bt.predict(room(), calibrated(), telemetry_of(signals), seed=1, draws=20)
    found = bt.extrapolation(room(), calibrated(), forecast, limits={"heating": {"high": 0.1}})
    assert found["signal"].values.tolist() == ["outdoor", "heating", "indoor"]
    beyond = found["extrapolation"].sel(signal="outdoor").values > 0
    assert beyond[12:24].any()
    assert (found["outside"].sel(signal="outdoor").values[14:20] > 0.1).all()
    assert not beyond[:12].any()
    assert found["new"].values.sum() >= beyond.sum()
    first, *_, last = found.attrs["sentences"]
    assert first.startswith("`outdoor` is ")
    assert "calibrated was" in first
    assert last.startswith("`heating` is outside the operating range")


@pytest.mark.thorough
def test_an_input_that_never_changed_is_not_said_to_have_jumped_by_up_to_nothing() -> None:
    steady = past() | {"heating": np.full(CALIBRATED, 1.0)}
    truth = {"tau": 10.0, "gain": 1.0, "indoor_initial": 20.0}
    seen = bt.simulate(room(), truth, telemetry_of(steady), seed=0)["indoor"].values
    known = bt.calibrate(room(), telemetry_of({**steady, "indoor": seen}), seed=0, method="laplace", num_samples=50)
    ahead = planned("inside", 3)
    ahead["heating"] = np.where(np.arange(AHEAD) < 12, 1.0, 0.5)
    forecast = bt.predict(room(), known, telemetry_of(ahead), seed=1, draws=20)
    told = [one for one in bt.extrapolation(room(), known, forecast).attrs["sentences"] if "jumps" in one]
    assert len(told) == 1
    assert told[0].startswith("`heating` jumps by up to 0.500 kW ")
    assert told[0].endswith("; in what was calibrated it never did.")


def test_a_twin_without_inputs_goes_on_within_what_its_state_was() -> None:
    twin, posterior = known_decay(), known_decay_posterior()
    later = telemetry_of({"time": decay_telemetry().table.index[-1] + np.linspace(0.2, 1.0, 5)}, t0=0.0)
    found = bt.extrapolation(twin, posterior, bt.predict(twin, posterior, later, seed=0))
    assert found.attrs["sentences"] == []


def test_codes_are_in_what_is_predicted_and_survive_a_file(tmp_path) -> None:
    forecast = bt.predict(room(), calibrated(), telemetry_of(planned("level", 3)), seed=1, draws=20)
    found = bt.extrapolation(room(), calibrated(), forecast)
    bt.save(forecast, tmp_path / "forecast.nc")
    for one in (forecast, bt.load(tmp_path / "forecast.nc")):
        codes = one["predictions"].to_dataset()["extrapolation"]
        np.testing.assert_array_equal(codes, found["extrapolation"])
        assert codes["extrapolation_of"].values.tolist() == ["outdoor", "heating", "indoor"]
        assert dict(zip(codes.attrs["flag_meanings"].split(), codes.attrs["flag_masks"], strict=True)) == CODES
        assert one.attrs["beyond"] == found.attrs["sentences"]
    inside = bt.predict(room(), calibrated(), telemetry_of(planned("inside", 3)), seed=1, draws=20)
    assert not inside["predictions"]["extrapolation"].any()
    assert "beyond" not in inside.attrs


# Several experiments: what any of them has seen is seen, and it is said which one leaves it.


@functools.cache
def two_houses() -> xr.DataTree:
    signals = {"old": past(), "new": weather(np.random.default_rng(1), 0, CALIBRATED // 2)}
    told = {}
    for name, one in signals.items():
        truth = {"tau": 10.0, "gain": 1.0, "indoor_initial": 20.0}
        told[name] = telemetry_of(
            {**one, "indoor": bt.simulate(room(), truth, telemetry_of(one), seed=0)["indoor"].values}
        )
    return bt.calibrate(room(), told, seed=0, method="laplace", num_samples=50)


def plans_of_houses(kind: str, number: int, leaving: str = "old") -> dict[str, dict[str, np.ndarray]]:
    """One house's is one as of a single house, the other stays inside; the record of the newer one is shorter."""
    found = {name: planned(kind if name == leaving else "inside", number) for name in ("old", "new")}
    found["new"]["time"] = found["new"]["time"] - CALIBRATED + CALIBRATED // 2
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["inside", "level", "rate", "combination"])
def test_excursions_of_one_experiment_among_several_are_told(kind: str) -> None:
    told, num = 0, 60 if kind == "inside" else 40
    numbers = (number for number in itertools.count(500) if stays(planned("inside", number)))
    for number in itertools.islice(numbers, num):
        plans = {name: telemetry_of(one) for name, one in plans_of_houses(kind, number).items()}
        forecast = bt.predict(room(), two_houses(), plans, seed=number, draws=20)
        found = bt.extrapolation(room(), two_houses(), forecast)
        own = found.sel(experiment="old")
        own = own.isel(time=np.flatnonzero(np.isin(own["time"], planned(kind, number)["time"])))
        told += seen_as(kind, own)
    assert told <= 0.05 * num if kind == "inside" else told >= 0.95 * num


@pytest.mark.thorough
@pytest.mark.parametrize(("leaving", "staying"), [("old", "new"), ("new", "old")])
def test_words_name_the_experiment_and_codes_have_its_dimension(leaving: str, staying: str) -> None:
    plans = {name: telemetry_of(one) for name, one in plans_of_houses("level", 3, leaving).items()}
    forecast = bt.predict(room(), two_houses(), plans, seed=1, draws=20)
    found = bt.extrapolation(room(), two_houses(), forecast, limits={"heating": {"high": 1e3}})
    assert found["extrapolation"].dims == ("experiment", "time", "signal")
    assert found.attrs["sentences"][0].split(";")[0].endswith(f"of the times of `{leaving}`")
    assert not found["new"].sel(experiment=staying).any()
    np.testing.assert_array_equal(forecast["predictions"]["extrapolation"], found["extrapolation"])
    alone = forecast.sel(experiment=leaving)
    assert alone["predictions"]["extrapolation"].any()


# States that are arrays: by the entry that is furthest out, and in combinations by their mean and extremes.


def rod_field(t, x, p, u):
    """A rod that is heated at both ends and loses heat along its length."""
    inner = jnp.diff(jnp.pad(x.rod, 1, mode="edge"), 2)
    ends = jnp.zeros(len(x.rod)).at[0].set(u.left).at[-1].set(u.right)
    return {"rod": p.spread * inner + ends - p.loss * x.rod}


@functools.cache
def rod() -> bt.Twin:
    return bt.Twin(
        name="rod",
        vector_field=rod_field,
        states={"rod": bt.State(0.0, size=8, unit="kg")},
        parameters={
            "spread": bt.Parameter(dist.LogNormal(0.0, 0.3), unit="1/h"),
            "loss": bt.Parameter(dist.LogNormal(np.log(0.5), 0.3), unit="1/h"),
        },
        inputs={"left": bt.Input(unit="kg/h"), "right": bt.Input(unit="kg/h")},
        observations={"middle": bt.Observation(bt.Gaussian(0.1), of=lambda t, x, p, u: x.rod[4], unit="kg")},
        time_unit="h",
    )


def heated(seed: list[int], first: int, num: int, kind: str = "inside") -> dict[str, np.ndarray]:
    """Both ends are heated alike, a little apart; or one of them more than ever, or one alone."""
    rng, times = np.random.default_rng(seed), first + np.arange(num, dtype=float)
    left = 3.0 + 2.0 * np.sin(2.0 * np.pi * times / 24.0) + 0.1 * rng.standard_normal(num)
    right = left + 0.1 * rng.standard_normal(num)
    if kind == "level":
        left[num // 2 :] += 4.0
    elif kind == "combination":
        right[num // 2 :] = 6.0 - right[num // 2 :]
    return {"time": times, "left": left, "right": right}


@functools.cache
def calibrated_rod() -> xr.DataTree:
    signals = heated([0], 0, 240)
    seen = bt.simulate(rod(), {"spread": 1.0, "loss": 0.5}, telemetry_of(signals), seed=0)["middle"].values
    return bt.calibrate(rod(), telemetry_of({**signals, "middle": seen}), seed=0, method="laplace", num_samples=50)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["inside", "level", "combination"])
def test_excursions_of_states_that_are_arrays_are_told(kind: str) -> None:
    told, num = 0, 60 if kind == "inside" else 40
    for number in range(num):
        future = telemetry_of(heated([23, number], 240, 48, kind))
        forecast = bt.predict(rod(), calibrated_rod(), future, seed=number, draws=20)
        codes = bt.extrapolation(rod(), calibrated_rod(), forecast)["extrapolation"]
        if kind == "level":  # the hot end is one of eight entries
            told += bool((codes.sel(signal="rod").values[30:] & LEVEL).any())
        elif kind == "combination":
            apart = (codes & COMBINATION).any("signal") & ~(codes & LEVEL).any("signal")
            told += bool(apart.any())
        else:
            told += bool((codes > 0).any())
    assert told <= 0.05 * num if kind == "inside" else told >= 0.95 * num


@pytest.mark.thorough
def test_an_array_is_one_signal_whose_words_have_its_extremes() -> None:
    forecast = bt.predict(rod(), calibrated_rod(), telemetry_of(heated([4], 240, 48, "level")), seed=0, draws=20)
    found = bt.extrapolation(rod(), calibrated_rod(), forecast)
    assert found["signal"].values.tolist() == ["left", "right", "rod", "middle"]
    paths = forecast["predictions"]["rod_state"].median(("chain", "draw"))
    seen = calibrated_rod()["posterior_predictive"]["rod_state"].median(("chain", "draw"))
    span = seen.max("time") - seen.min("time")
    outside = (np.maximum(seen.min("time") - paths, paths - seen.max("time")) / span).max("rod_dim_0").clip(0.0)
    np.testing.assert_allclose(found["outside"].sel(signal="rod"), outside.values, rtol=1e-12)


# Directions that calibration did not narrow. A twin that is linear with normal noise has the answer in closed form.

KNOWN_RATE, NOISE = 0.8, 0.3


def creeping(size: float, noise: float = NOISE) -> bt.Twin:
    """A decay that is read by a sensor which creeps with the fourth power of time, about as much as the prior says."""
    return bt.Twin(
        name="creeping",
        vector_field=lambda t, x, p, u: {"level": -KNOWN_RATE * x.level},
        states={"level": bt.State(dist.Normal(5.0, 1.0), unit="m")},
        parameters={"creep": bt.Parameter(dist.Normal(0.0, size), unit="m")},
        observations={
            "level": bt.Observation(
                bt.Gaussian(noise), of=lambda t, x, p, u: x.level + p.creep * (t / 4.0) ** 4, unit="m"
            )
        },
        time_unit="h",
    )


def in_closed_form(times: np.ndarray, later: np.ndarray, size: float, noise: float) -> np.ndarray:
    """Share of the variance of a new reading that comes from directions which are not narrowed to half; shape (n,)."""

    def sensitivity(at: np.ndarray) -> np.ndarray:
        return np.stack([np.exp(-KNOWN_RATE * at), size * (at / 4.0) ** 4], axis=1)

    jacobian, ahead = sensitivity(times), sensitivity(later)
    covariance = np.linalg.inv(np.eye(2) + jacobian.T @ jacobian / noise**2)
    kept, directions = np.linalg.eigh(covariance)
    parts = (ahead @ directions) ** 2 * kept
    return parts[:, kept > 0.5].sum(axis=1) / (parts.sum(axis=1) + noise**2)


def leaning_of(size: float, times: np.ndarray, later: np.ndarray, seed: int) -> xr.Dataset:
    twin = creeping(size)
    truth = {"level_initial": 5.0, "creep": 0.5 * size}
    seen = bt.simulate(twin, truth, telemetry_of({"time": times}, t0=0.0), seed=seed)["level"].values
    told = telemetry_of({"time": times, "level": seen}, t0=0.0)
    posterior = bt.calibrate(twin, told, seed=seed, method="laplace")
    return bt.extrapolation(twin, posterior, bt.predict(twin, posterior, telemetry_of({"time": later}, t0=0.0), seed=1))


@pytest.mark.thorough
def test_leaning_is_what_the_closed_form_says_and_names_the_parameter() -> None:
    times, later = np.linspace(0.0, 4.0, 12), np.array([4.2, 6.0, 7.0, 8.0, 10.0])
    found, exact = leaning_of(0.1, times, later, 0), in_closed_form(times, later, 0.1, NOISE)
    # the variance that 1,000 draws have is exact to 4.5 %, and so is that of the prior's scale by 200 of them to 10 %
    np.testing.assert_allclose(found["leaning"].sel(signal="level"), exact, rtol=0.25, atol=0.01)
    assert (exact > 1.0 / 3.0).tolist() == [False, True, True, True, True]
    codes = found["extrapolation"].sel(signal="level").values
    assert ((codes & PRIOR) > 0).tolist() == (exact > 1.0 / 3.0).tolist()
    (sentence,) = [one for one in found.attrs["sentences"] if "leans" in one]
    assert sentence.startswith("`level` leans on `creep`, of which calibration says little more than the prior")


@pytest.mark.slow
def test_planted_leaning_is_told_and_none_is_where_calibration_has_narrowed() -> None:
    told, quiet = 0, 0
    for number in range(40):
        rng = np.random.default_rng([29, number])
        times = np.concatenate([[0.0], np.sort(rng.uniform(0.1, 4.0, 11))])
        size = rng.uniform(0.03, 0.1)
        ends = (size / NOISE) ** -0.25 * 4.0  # where the creep is as large as the noise
        far = leaning_of(size, times, np.linspace(1.2, 1.6, 4) * ends, number)
        told += bool((far["extrapolation"].sel(signal="level") & PRIOR).all())
        # the prior is as wide, or so much wider that calibration narrows it
        near = leaning_of(size if number % 2 else 20.0 * size, times, np.linspace(4.05, 4.5, 4), number)
        quiet += bool((near["extrapolation"].sel(signal="level") & PRIOR).any())
    assert told >= 38
    assert quiet <= 2


def test_no_observation_that_was_calibrated_leans() -> None:
    rng = np.random.default_rng(31)
    for _ in range(200):
        times = np.sort(rng.uniform(0.0, 4.0, rng.integers(1, 12)))
        share = in_closed_form(times, times, 10.0 ** rng.uniform(-2.0, 2.0), 10.0 ** rng.uniform(-2.0, 1.0))
        assert (share <= LEANING).all()
