"""Local sensitivities are the derivatives of the prediction: those of closed forms, and finite differences."""

import dataclasses

import numpy as np
import numpyro.distributions as dist
from twins import LYNX_HARE_VALUES, decay, decay_telemetry, lynx_hare, pelts

import bayestwin as bt
from bayestwin.density.bind import bind
from bayestwin.insight.sensitivity import derivatives, noise_free, sparse_density

PRECISE = bt.Solver("tsit5", rtol=1e-10, atol=1e-12)


def test_of_a_decay_they_are_exact_and_scaled_by_the_prior() -> None:
    local = bt.sensitivity(decay(solver=PRECISE), decay_telemetry(), seed=0, num_samples=2)["local"].to_dataset()
    rate, level = 1.0, 5.0  # medians of the priors
    times = local["time"].to_numpy()
    exact = np.stack([-times * level * np.exp(-rate * times), np.exp(-rate * times)])
    assert list(local["quantity"].to_numpy()) == ["rate", "level_initial"]
    np.testing.assert_allclose(local["centre"], [rate, level], rtol=1e-12)
    np.testing.assert_allclose(local["derivative"].sel(observation="level"), exact, rtol=1e-7, atol=1e-10)
    # half of what a log-normal with scale 0.5 has between its quantiles of 16 % and 84 %; a normal's own
    scale = np.array([(np.exp(0.5) - np.exp(-0.5)) / 2.0, 1.0])
    np.testing.assert_allclose(local["scale"], scale, rtol=1e-6)
    np.testing.assert_allclose(local["scaled"].sel(observation="level"), exact * scale[:, None], rtol=1e-6, atol=1e-10)
    rms = np.sqrt(((exact * scale[:, None]) ** 2).mean(axis=1))
    np.testing.assert_allclose(local["scaled_rms"].sel(observation="level"), rms, rtol=1e-6)
    assert list(local["quantity_units"].to_numpy()) == ["1/h", "m"]


def test_of_lynx_and_hare_they_are_finite_differences() -> None:
    twin = dataclasses.replace(lynx_hare(), solver=PRECISE)
    density = sparse_density(twin, bind(twin, pelts()), 200)
    centre = {n: np.asarray(v) for n, v in LYNX_HARE_VALUES.items() if not n.endswith("scale")}
    found, predict = derivatives(density, centre), noise_free(density)
    for number, (name, value) in enumerate(centre.items()):
        step = 1e-5 * value
        above, below = (predict({**centre, name: value + side * step}) for side in (1.0, -1.0))
        for observation in twin.observations:
            slope = (np.asarray(above[observation]) - np.asarray(below[observation])) / (2.0 * step)
            size = np.abs(slope).max()
            np.testing.assert_allclose(found[observation][number], slope, atol=2e-6 * size)


def test_what_cannot_be_solved_has_no_derivative() -> None:
    twin = decay(
        vector_field=lambda t, x, p, u: {"level": x.level**2},
        states={"level": bt.State(dist.Normal(5.0, 1.0))},
        observations={
            "level": bt.Observation(bt.Gaussian(0.1), unit="m"),
            "known": bt.Observation(bt.Gaussian(0.1), of=lambda t, x, p, u: 2.0 * p.rate),
        },
        solver=bt.Solver("tsit5", max_steps=50),
    )
    table = decay_telemetry().table.assign(known=1.0)
    density = sparse_density(twin, bind(twin, bt.read_telemetry(table.reset_index())), 200)
    found = derivatives(density, {"rate": np.asarray(1.0), "level_initial": np.asarray(5.0)})
    assert all(np.isnan(slopes).all() for slopes in found.values())
