"""A twin that is written as a PEtab problem is read back as one of the same likelihood."""

import pathlib

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest

import bayestwin as bt
from bayestwin.errors import InvalidTwin
from bayestwin.petab.problem import log_likelihood


def vector_field(t, x, p, u):
    loss = jnp.where(t < 1.5, p.slow, p.fast) * jnp.sqrt(x.level) * jnp.exp(-p.half * t)
    return {"level": p.inflow - loss, "warm": -p.half * x.warm + jnp.maximum(x.level, 0.2) ** 2}


def spread(t, x, p, u):
    return 0.1 + 0.05 * x.warm


def twin_with(**changed: object) -> bt.Twin:
    members = {
        "states": {"level": bt.State(dist.LogNormal(0.0, 0.5), shared=True), "warm": bt.State(lambda p: 2.0 * p.half)},
        "parameters": {
            "slow": bt.Parameter(dist.LogUniform(0.01, 10.0)),
            "fast": bt.Parameter(dist.Uniform(0.1, 2.0)),
            "half": bt.Parameter(lambda p: jnp.log(2.0) / (3.0 * p.fast)),
            "inflow": bt.Parameter({"dry": 0.1, "wet": 0.6}),
        },
        "observations": {
            "level": bt.Observation(bt.LogNormal(dist.LogNormal(-2.0, 0.5))),
            "heat": bt.Observation(
                bt.Gaussian(lambda t, x, p, u: 0.1 + 0.05 * x.warm), of=lambda t, x, p, u: 3 * x.warm
            ),
        },
    }
    return bt.Twin("basin", vector_field, **(members | changed))


def telemetry() -> dict[str, bt.Telemetry]:
    rng, times = np.random.default_rng(1), np.array([0.0, 0.5, 1.0, 2.0, 4.0])
    columns = {name: np.exp(0.2 * rng.standard_normal(5)) for name in ("level", "heat")}
    table = pd.DataFrame(columns, index=pd.Index(times, name="time"))
    return {name: bt.read_telemetry(table) for name in ("dry", "wet")}


def test_it_is_read_back_with_the_same_likelihood(tmp_path: pathlib.Path) -> None:
    twin, experiments = twin_with(), telemetry()
    values = {"slow": 0.3, "fast": 0.7, "level_initial": 1.2, "level_scale": 0.2}
    read = bt.read_petab(bt.write_petab(twin, experiments, tmp_path / "problem", values))
    assert read.nominal == values
    ours = log_likelihood(twin, experiments, values)
    assert log_likelihood(read.twin, read.experiments, values) == pytest.approx(ours, abs=1e-8)
    other = values | {"slow": 2.0, "level_initial": 0.7}
    ours = log_likelihood(twin, experiments, other)
    assert log_likelihood(read.twin, read.experiments, other) == pytest.approx(ours, abs=1e-8)
    at = np.array([0.3, 0.8])
    theirs = {site.name: site.prior for site in read.twin.sites()}
    for site in twin.sites():
        np.testing.assert_allclose(theirs[site.name].log_prob(at), site.prior.log_prob(at), rtol=1e-9)


def test_what_has_no_words_there_is_named(tmp_path: pathlib.Path) -> None:
    noisy = {
        "level": bt.Observation(bt.StudentT(0.1)),
        "heat": bt.Observation(bt.Proportional(0.1, 0.2), of=lambda t, x, p, u: x.warm),
    }
    with pytest.raises(InvalidTwin, match=r"(?s)noise of `level`, StudentT; the noise of `heat`, Proportional"):
        bt.write_petab(twin_with(observations=noisy), telemetry(), tmp_path)
    event = {"rain": bt.Event(lambda t, x, p, u: {"level": x.level + 1.0}, at=(1.0,))}
    with pytest.raises(InvalidTwin, match="event `rain`"):
        bt.write_petab(twin_with(events=event), telemetry(), tmp_path)
