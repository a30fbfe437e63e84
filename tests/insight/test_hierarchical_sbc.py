"""Calibration of a fleet is right, by ranks of populations and assets; bugs of pooling are caught, by name."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from planted import as_a
from twins import telemetry_of

import bayestwin as bt
from bayestwin._base.progress import Progress
from bayestwin.assess import failed
from bayestwin.density.bind import bind_all
from bayestwin.density.density import Density, build_density
from bayestwin.inference.many import Lengths
from bayestwin.insight.sbc import rank, simulate_many
from bayestwin.report.insight import render_ranks


def cooling() -> bt.Twin:
    """Decay at rates that come from a population, from levels that are each asset's own."""
    return bt.Twin(
        name="cooling",
        vector_field=lambda t, x, p, u: {"level": -p.rate * x.level},
        states={"level": bt.State(dist.Normal(5.0, 0.5))},
        parameters={"rate": bt.Parameter(dist.LogNormal(-0.5, 0.4), pooled=dist.HalfNormal(0.4))},
        observations={"level": bt.Observation(bt.Gaussian(dist.HalfNormal(0.5)))},
    )


def fleet(num: int) -> dict[str, bt.Telemetry]:
    """Times of assets of which some are seen often and some hardly, so that they are centred differently."""
    rng = np.random.default_rng(0)
    found = {}
    for number in range(num):
        times = np.concatenate([[0.0], np.sort(rng.uniform(0.2, 4.0, (2, 4, 8)[number % 3]))])
        found[f"asset_{number:02d}"] = telemetry_of({"time": times, "level": np.ones_like(times)})
    return found


@jax.tree_util.register_pytree_node_class
class Forgetting(Density):
    """The Jacobian of the map from the scale on which rates are pooled to the rates is forgotten."""

    def constrain_with_log_det(self, z):
        """Values are positive, so that it is that of an exponential."""
        values, log_det = super().constrain_with_log_det(z)
        return values, log_det - jnp.log(values["rate"]).sum()


@jax.tree_util.register_pytree_node_class
class Swapping(Density):
    """Widths of coordinates that are centred are taken for those of others, and the other way round."""

    def constrain_with_log_det(self, z):
        """A width is `s^(1 − c)`, and `s^c` stands in its place."""
        values, log_det = super().constrain_with_log_det(z)
        centring = jnp.asarray(self.centring.get("rate", 0.0))
        return values, log_det + ((2.0 * centring - 1.0) * jnp.log(values["rate_spread"])).sum()


def checked(kind: type[Density], num_assets: int, num: int) -> set[str]:
    """Names of the gates that fail for a density of a kind, while the right one simulates."""
    right = build_density(cooling(), bind_all(cooling(), fleet(num_assets)))
    with Progress() as shown, shown.phase("posteriors", "", num) as phase:
        simulated = simulate_many(right, num, 0, phase)
        found = rank(as_a(kind, right), simulated, seed=0, lengths=Lengths(), level=0.95, phase=phase)
    return {gate.name for gate in failed(bt.judge_sbc(found))}


@pytest.mark.thorough
def test_quantities_are_those_of_the_population_and_of_each_asset() -> None:
    found = bt.sbc(cooling(), fleet(2), seed=0, num_simulations=20, num_draws=15)
    assert {str(name) for name in found["quantity"].values} == {
        "rate_typical",
        "rate_spread",
        "rate[asset_00]",
        "rate[asset_01]",
        "level_initial[asset_00]",
        "level_initial[asset_01]",
        "level_scale",
        "log_likelihood",
        "level_squared_error",
    }
    assert failed(bt.judge_sbc(found)) == ()
    assert "rate[asset_01]" in render_ranks(found)


@pytest.mark.slow
def test_200_simulations_of_20_assets_are_calibrated() -> None:
    found = bt.sbc(cooling(), fleet(20), seed=0, num_simulations=200)
    assert failed(bt.judge_sbc(found)) == ()
    assert float(found["diverging"].mean()) < 0.01
    assert float(found["ess"].min()) > 63 / 2


@pytest.mark.slow
@pytest.mark.parametrize(("bug", "seen_in"), [(Forgetting, "sbc rate["), (Swapping, "sbc rate_spread")])
def test_a_bug_of_pooling_is_caught(bug: type[Density], seen_in: str) -> None:
    assert any(name.startswith(seen_in) for name in checked(bug, num_assets=12, num=200))
