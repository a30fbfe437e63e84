"""Experiments together are the experiments one by one: their log densities add up, each prior counted once."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from twins import bound_density, driven, telemetry_of

import bayestwin as bt
from bayestwin.density.bind import bind_all
from bayestwin.density.density import Density, build_density


def dosed(**changes: object) -> bt.Twin:
    """The driven twin with doses that the telemetry tells and a gain of its own in each experiment."""
    settings = {
        "parameters": {
            "rate": bt.Parameter(dist.LogNormal(0.0, 0.5)),
            "gain": bt.Parameter(dist.Normal(1.0, 0.5), shared=False),
        },
        "events": {"dose": bt.Event(lambda t, x, p, u: {"level": x.level + u.dose})},
    }
    return driven(**(settings | changes))


def recorded(seed: int, num: int, end: float, doses: tuple[int, ...]) -> bt.Telemetry:
    """Telemetry at irregular times, a quarter of it missing, with doses in some rows."""
    rng = np.random.default_rng(seed)
    times = np.concatenate([[0.0], np.sort(rng.uniform(0.0, end, num - 1))])
    level = rng.normal(1.0, 0.5, num)
    level[rng.uniform(size=num) < 0.25] = np.nan
    level[1] = 1.0
    dose = np.full(num, np.nan)
    dose[list(doses)] = rng.uniform(0.5, 1.5, len(doses))
    return telemetry_of(
        {"time": times, "level": level, "stepped": rng.normal(size=num), "sloped": rng.normal(size=num), "dose": dose}
    )


@functools.cache
def three() -> dict[str, bt.Telemetry]:
    """Of different lengths, times, inputs and doses; the longest in time is not the one with most rows."""
    return {"a": recorded(1, 12, 4.0, (3, 7)), "b": recorded(2, 5, 9.0, ()), "c": recorded(3, 8, 2.0, (0, 2, 7))}


def density_of(twin: bt.Twin, telemetry: dict[str, bt.Telemetry]) -> Density:
    return build_density(twin, bind_all(twin, telemetry))


TWINS = {
    "explicit": dosed(solver=bt.Solver("tsit5")),
    "stiff": dosed(solver=bt.Solver("rodas5p")),
    "exact": dosed(solver=bt.Solver("exact"), events={}),
    "shared start": dosed(states={"level": bt.State(dist.Normal(1.0, 1.0), shared=True)}),
    "own and positive": dosed(
        parameters={n: bt.Parameter(dist.LogNormal(0.0, 0.5), shared=False) for n in ("rate", "gain")}
    ),
    "autocorrelated": dosed(
        observations={"level": bt.Observation(bt.Autocorrelated(dist.HalfNormal(0.5), dist.LogNormal(0.0, 1.0), 0.2))}
    ),
    "noise of its own": dosed(
        parameters={n: bt.Parameter(dist.LogNormal(0.0, 0.5), shared=n == "rate") for n in ("rate", "gain")},
        observations={"level": bt.Observation(bt.Gaussian("gain"))},
    ),
    "smooth": dosed(inputs={"stepped": bt.Input(hold="previous"), "sloped": bt.Input(hold="cubic")}),
    "triggered": dosed(
        events={
            "dose": bt.Event(lambda t, x, p, u: {"level": x.level + u.dose}),
            "emptied": bt.Event(lambda t, x, p, u: {"level": x.level - 1.0}, when=lambda t, x, p, u: x.level - 1.5),
        }
    ),
    "steady": dosed(states={"level": bt.State(bt.SteadyState(1.0))}),
}


def one_by_one(joint: Density, telemetry: dict[str, bt.Telemetry], z: jax.Array) -> jax.Array:
    """The sum of likelihoods of single experiments, with each prior once; from what was there before experiments."""
    values = joint.constrain(z)
    total = jnp.zeros(())
    for number, one in enumerate(telemetry.values()):
        single = bound_density(joint.twin, one)
        own = {name: value[number] if value.ndim else value for name, value in values.items()}
        prior, likelihood = single.parts(single.unconstrain(own))
        total += likelihood
        shared = [site for site in single.sites if site.shared]
        if number == 0:
            total += prior
        else:
            rest = dataclasses.replace(single, sites=tuple(shared))
            z_shared = rest.unconstrain(own)
            total += prior - rest.priors.log_density(own) - rest.constrain_with_log_det(z_shared)[1]
    return total


SLOW = ("stiff", "steady", "smooth", "shared start", "triggered")


@pytest.mark.parametrize("kind", [pytest.param(k, marks=[pytest.mark.slow] * (k in SLOW)) for k in TWINS])
def test_log_densities_and_gradients_add_up(kind: str) -> None:
    twin = TWINS[kind]
    joint = density_of(twin, three())
    num = sum(1 if site.shared else 3 for site in joint.sites)
    z = jnp.asarray(np.random.default_rng(7).normal(size=num) * 0.4)
    found = jax.jit(jax.value_and_grad(joint))(z)
    expected = jax.jit(jax.value_and_grad(functools.partial(one_by_one, joint, three())))(z)
    assert np.isfinite(found[0])
    np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=1e-10)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-9, atol=1e-9)
    if kind in ("explicit", "exact"):
        np.testing.assert_allclose(float(joint.filled(z)), found[0], rtol=1e-12)


def test_nothing_is_solved_beyond_the_end_of_an_experiment() -> None:
    joint = density_of(TWINS["explicit"], three())
    values = joint.constrain(jnp.zeros(8))
    found = jax.jit(joint.predict)(values)
    assert found.solved.all()
    for number, one in enumerate(three().values()):
        own = {name: value[number] if value.ndim else value for name, value in values.items()}
        single = jax.jit(bound_density(joint.twin, one).predict)(own)
        assert int(found.num_steps[number]) == int(single.num_steps)
        np.testing.assert_allclose(found.states[number][: len(one.table)], single.states, rtol=1e-12)


def test_after_the_end_of_an_experiment_time_and_inputs_stand_still() -> None:
    joint = density_of(TWINS["explicit"], three())
    for number, one in enumerate(three().values()):
        own = bound_density(joint.twin, one).grid
        for name in ("edges", "save", "inputs"):
            stacked, alone = getattr(joint.grid, name)[number], getattr(own, name)
            np.testing.assert_array_equal(stacked[: len(alone)], alone)
            np.testing.assert_array_equal(
                stacked[len(alone) :], np.broadcast_to(alone[-1], stacked[len(alone) :].shape)
            )
