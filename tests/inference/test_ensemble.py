"""Walkers without derivatives draw from the posterior that is known exactly, and from wherever a prior begins."""

import contextlib
import functools
import signal
import types
from collections.abc import Iterator

import arviz as az
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from scipy.stats import kstest
from test_methods import EXACT, NAMES, TIMES, ramp_by
from test_starts import two_signed
from twins import decay, decay_telemetry, telemetry_of

import bayestwin as bt
from bayestwin._base.progress import Phase, Progress
from bayestwin.inference.ensemble import _Ensemble, _next_step, _resampled


@pytest.mark.thorough
def test_moments_are_exact_where_the_posterior_is_normal() -> None:
    found = ramp_by("ensemble")
    draws = np.stack([found["posterior"][name].values for name in NAMES])
    off = draws - EXACT.mean[:, None, None]
    for i, name in enumerate(NAMES):
        squares = off[i] ** 2
        assert abs(off[i].mean()) < 4 * float(az.mcse(draws[i], method="mean")), name
        assert abs(squares.mean() - EXACT.covariance[i, i]) < 4 * float(az.mcse(squares, method="mean")), name


@functools.cache
def one_rate(seed: int, num_samples: int = 400, num_warmup: int = 200) -> xr.DataTree:
    """A rate whose logarithm has a normal posterior, and a prior twenty-six decades wide (5th to 95th percentile)."""
    twin = bt.Twin(
        name="line",
        vector_field=lambda t, x, p, u: {"y": 0.0 * x.y},
        states={"y": bt.State(0.0)},
        parameters={"rate": bt.Parameter(dist.LogNormal(0.0, 18.0))},
        observations={"y": bt.Observation(bt.Gaussian(0.05), of=lambda t, x, p, u: jnp_log(p.rate))},
    )
    observed = 7.0 + 0.05 * np.random.default_rng(1).standard_normal(TIMES.size)
    telemetry = telemetry_of({"time": TIMES, "y": observed})
    settings = {"num_samples": num_samples, "num_warmup": num_warmup, "predictive_draws": 20, "max_extensions": 0}
    return bt.calibrate(twin, telemetry, seed=seed, method="ensemble", **settings)


def jnp_log(value: object) -> object:
    import jax.numpy as jnp

    return jnp.log(value)


def exact_rate() -> tuple[float, float]:
    observed = 7.0 + 0.05 * np.random.default_rng(1).standard_normal(TIMES.size)
    precision = TIMES.size / 0.05**2 + 1 / 18.0**2
    return float(observed.sum() / 0.05**2 / precision), precision**-0.5


def test_a_prior_decades_wide_is_survived() -> None:
    found = one_rate(0)
    gates = {gate.name: gate.passed for gate in bt.diagnose(found)}
    assert all(gates[name] for name in ("rhat", "ess_bulk", "ess_tail", "stuck_chain"))
    centre, scale = exact_rate()
    off = (np.log(found["posterior/rate"].values) - centre) / scale
    assert abs(off.mean()) < 4 * float(az.mcse(off, method="mean"))
    assert abs((off**2).mean() - 1.0) < 4 * float(az.mcse(off**2, method="mean"))


@pytest.mark.thorough
def test_the_effective_number_of_draws_is_what_repeating_says() -> None:
    """Means of runs by other seeds scatter by the Monte Carlo error that each run states."""
    centre, scale = exact_rate()
    runs = [(np.log(one_rate(seed)["posterior/rate"].values) - centre) / scale for seed in range(1, 21)]
    stated = [float(az.mcse(run, method="mean")) for run in runs]
    ratios = np.array([run.mean() / error for run, error in zip(runs, stated, strict=True)])
    assert kstest(ratios, "norm").pvalue > 1e-3
    # a χ² of 20 degrees of freedom, divided by these, lies within these bounds 999 times in 1,000
    assert 0.27 < (ratios**2).mean() < 2.3


@pytest.mark.thorough
def test_both_signs_are_found_by_every_ensemble() -> None:
    times = np.linspace(0.0, 3.0, 10)
    telemetry = telemetry_of({"time": times, "level": 4.0 * np.exp(-0.8 * times)})
    found = bt.calibrate(two_signed(), telemetry, seed=0, method="ensemble", num_samples=400, predictive_draws=20)
    shares = (found["posterior/size"].values > 0).mean(axis=1)
    assert ((shares > 0.0) & (shares < 1.0)).all()


@pytest.mark.thorough
def test_it_goes_on_until_the_gates_pass_and_says_so() -> None:
    found = ramp_by("ensemble")
    told = found.attrs["sampling"]
    assert told["walkers"] % 2 == 0
    assert found["posterior"].sizes["draw"] == 500 * (1 + len(told["events"]))


def walked(seed: int, rounds: int, walkers: int, correlation: float, drift: float = 0.0) -> np.ndarray:
    """Where walkers are that remember where they were, as draws of one chain; shape (n,)."""
    rng, made = np.random.default_rng(seed), object.__new__(_Ensemble)
    at, made.kept = rng.standard_normal((walkers, 1)), []
    for number in range(rounds):
        at = correlation * at + np.sqrt(1.0 - correlation**2) * rng.standard_normal((walkers, 1))
        made.kept.append(at + drift * number / rounds)
    return made.in_order(rounds * walkers, rounds)[:, 0]


def test_draws_of_a_walker_count_for_as_much_as_they_are_worth() -> None:
    num, correlation = 400 * 40, 0.9
    worth = num * (1.0 - correlation) / (1.0 + correlation)
    found = float(az.ess(walked(0, 400, 40, correlation)[None], method="mean"))
    assert 0.7 * worth < found < 1.4 * worth  # 842; read in the order of rounds they would look like 16,000
    for drift in (0.0, 1.0):
        chains = np.stack([walked(seed, 50, 40, 0.0, drift) for seed in range(4)])
        assert (float(az.rhat(chains)) > 1.01) == (drift > 0.0)


@pytest.mark.parametrize("spread", [1e-8, 1.0, 1e9])
def test_the_next_temperature_keeps_half_the_walkers(spread: float) -> None:
    likelihood = -spread * np.random.default_rng(0).exponential(size=400)
    step = _next_step(likelihood, 1.0, 20.0)
    weights = np.exp(step * (likelihood - likelihood.max()))
    worth = weights.sum() ** 2 / (weights**2).sum()
    assert 0.0 < step <= 1.0
    assert worth >= 20.0
    assert step == 1.0 or worth == pytest.approx(20.0, rel=1e-3)


def test_resampling_gives_each_draw_its_share() -> None:
    rng = np.random.default_rng(0)
    log_weights = np.log(np.array([0.5, 0.25, 0.25]))
    counts = np.bincount(_resampled(log_weights, 40, rng), minlength=3)
    assert counts.tolist() == [20, 10, 10]
    assert _resampled(np.array([-1e10, 0.0]), 4, rng).tolist() == [1, 1, 1, 1]


class Interrupted(Progress):
    """Ctrl-C while draws are made, after so many rounds."""

    def __init__(self, rounds: int) -> None:
        super().__init__(show=False)
        self.rounds = rounds

    @contextlib.contextmanager
    def phase(self, name: str, words: str, total: int) -> Iterator[Phase]:
        with super().phase(name, words, total) as phase:
            if name == "draws":
                advance, seen = phase.advance, iter(range(10**6))

                def told(*args: object) -> None:
                    advance(*args)
                    if next(seen) + 1 == self.rounds:
                        signal.raise_signal(signal.SIGINT)

                phase = types.SimpleNamespace(advance=told)
            yield phase


@pytest.mark.thorough
def test_ctrl_c_keeps_the_draws_that_there_are() -> None:
    problem = decay(), decay_telemetry()
    settings = {"seed": 0, "method": "ensemble", "num_samples": 400, "num_chains": 2, "predictive_draws": 20}
    whole = bt.calibrate(*problem, **settings)
    found = bt.calibrate(*problem, **settings, progress=Interrupted(3))
    walkers = found.attrs["sampling"]["walkers"]
    assert found.attrs["interrupted"]
    assert found["posterior"].sizes["draw"] == 3 * walkers
    begun = set(whole["posterior/rate"].values[0].tolist())
    assert set(found["posterior/rate"].values[0].tolist()) <= begun, "those of a run that nobody ended"
