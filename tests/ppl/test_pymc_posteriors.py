"""PyMC's posteriors of the models that ship are those of `calibrate`, within Monte Carlo error; forks are refused."""

import importlib.util

import arviz as az
import numpy as np
import pymc as pm
import pytest
from pymc.sampling.parallel import ParallelSamplingError
from twins import MODELS, lynx_hare, lynx_hare_posterior, pelts

import bayestwin as bt
from bayestwin.project.model import load_model, load_telemetry

# PyMC's own: energies that overflow in the first steps, and draws that it calls few
PYMC_SAYS = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")


def check_agreement(ours: object, theirs: object, names: list[str]) -> None:
    """Means and standard deviations agree within 4 Monte Carlo errors of the difference."""
    off = {}
    for name in names:
        pair = [tree["posterior"][name].values for tree in (ours, theirs)]
        for method, statistic in (("mean", np.mean), ("sd", np.std)):
            error = np.hypot(*(az.mcse(draws, method=method) for draws in pair))
            off[f"{method} of {name}"] = (statistic(pair[0]) - statistic(pair[1])) / error
    assert {name: z for name, z in off.items() if not abs(z) <= 4.0} == {}
    rhat = az.rhat(theirs["posterior"].to_dataset()[names])
    assert {name: float(rhat[name]) for name in names if not rhat[name] <= 1.01} == {}


@PYMC_SAYS
@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"cores": 1}, {"cores": 2, "mp_ctx": "forkserver"}], ids=["one", "forkserver"])
def test_lynx_and_hares_agree(settings: dict) -> None:
    with bt.pymc_model(lynx_hare(), pelts()):
        trace = pm.sample(1000, tune=1000, chains=4, random_seed=1, progressbar=False, **settings)
    check_agreement(lynx_hare_posterior(), trace, [site.name for site in lynx_hare().sites()])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:There are not enough devices:UserWarning")
def test_lynx_and_hares_agree_by_numpyros_sampler() -> None:
    with bt.pymc_model(lynx_hare(), pelts()):
        trace = pm.sample(1000, tune=1000, chains=4, random_seed=1, progressbar=False, nuts_sampler="numpyro")
    check_agreement(lynx_hare_posterior(), trace, [site.name for site in lynx_hare().sites()])


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("nutpie") is None, reason="nutpie is an optional extra")
def test_lynx_and_hares_agree_by_nutpie() -> None:
    with bt.pymc_model(lynx_hare(), pelts()):
        trace = pm.sample(1000, tune=1000, chains=4, random_seed=1, progressbar=False, nuts_sampler="nutpie")
    check_agreement(lynx_hare_posterior(), trace, [site.name for site in lynx_hare().sites()])


@PYMC_SAYS
@pytest.mark.slow
def test_the_room_agrees() -> None:
    twin = load_model(MODELS / "room").twin
    units = {"outdoor": "degC", "heating": "W", "indoor": "degC"}
    telemetry = bt.read_telemetry(MODELS / "room" / "data" / "room.csv", units=units).between(end="2026-03-21")
    with bt.pymc_model(twin, telemetry):
        trace = pm.sample(1000, tune=500, chains=4, cores=1, random_seed=1, progressbar=False)
    check_agreement(bt.calibrate(twin, telemetry, seed=0), trace, [site.name for site in twin.sites()])


@PYMC_SAYS
@pytest.mark.slow
def test_repeated_doses_agree() -> None:
    model = load_model(MODELS / "dosing")
    telemetry = load_telemetry(model).calibration
    with bt.pymc_model(model.twin, telemetry):
        trace = pm.sample(1000, tune=1000, chains=4, cores=1, random_seed=1, progressbar=False)
    check_agreement(bt.calibrate(model.twin, telemetry, seed=0), trace, [site.name for site in model.twin.sites()])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:os.fork")
def test_forked_chains_are_an_error_and_do_not_hang() -> None:
    with bt.pymc_model(lynx_hare(), pelts()), pytest.raises(ParallelSamplingError, match='mp_ctx="forkserver"'):
        pm.sample(10, tune=10, chains=2, cores=2, mp_ctx="fork", random_seed=1, progressbar=False)
