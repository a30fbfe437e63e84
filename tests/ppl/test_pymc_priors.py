"""Each prior means the same in PyMC as in NumPyro: its density, its gradient, its draws, and where it may lie."""

import jax
import numpy as np
import numpyro.distributions as dist
import pymc as pm
import pytest
from numpyro.distributions import biject_to, constraints, transforms
from pytensor.compile.mode import Mode
from scipy.stats import kstest

from bayestwin.errors import InvalidTwin
from bayestwin.model.twin import Site
from bayestwin.ppl.pymc import FAMILIES, VariableStart, prior_variable

AFFINE = transforms.AffineTransform(2.0, 0.3)
TRANSLATED = {
    "beta": dist.Beta(2.0, 3.0),
    "cauchy": dist.Cauchy(1.0, 2.0),
    "exponential": dist.Exponential(2.0),
    "gamma": dist.Gamma(3.0, 2.0),
    "gumbel": dist.Gumbel(1.0, 2.0),
    "half_cauchy": dist.HalfCauchy(2.0),
    "half_normal": dist.HalfNormal(0.3),
    "inverse_gamma": dist.InverseGamma(3.0, 2.0),
    "laplace": dist.Laplace(1.0, 2.0),
    "logistic": dist.Logistic(1.0, 2.0),
    "log_normal": dist.LogNormal(-2.0, 0.3),
    "normal": dist.Normal(1.0, 0.3),
    "student": dist.StudentT(4.0, 1.0, 0.3),
    "uniform": dist.Uniform(1.0, 3.0),
    "weibull": dist.Weibull(2.0, 3.0),
    "truncated_below": dist.TruncatedNormal(1.0, 0.5, low=0.2),
    "truncated_above": dist.TruncatedNormal(1.0, 0.5, high=1.2),
    "truncated_twice": dist.TruncatedNormal(1.0, 0.5, low=0.2, high=1.5),
}
GENERIC = {
    "truncated_cauchy": dist.TruncatedCauchy(1.0, 0.5, low=0.2),
    "log_uniform": dist.LogUniform(0.1, 10.0),
    "chi2": dist.Chi2(3.0),
    "pareto": dist.Pareto(1.0, 3.0),
    "affine": dist.TransformedDistribution(dist.Normal(0.0, 1.0), AFFINE),
    "exp_affine": dist.TransformedDistribution(dist.Normal(0.0, 1.0), [AFFINE, transforms.ExpTransform()]),
    "soft_laplace": dist.SoftLaplace(1.0, 2.0),
    "kumaraswamy": dist.Kumaraswamy(2.0, 3.0),
}
PRIORS = TRANSLATED | GENERIC
AT = (-1.3, 0.2, 0.9)


def site(name: str) -> Site:
    return Site(name, PRIORS[name], "parameter", name, "", "")


@pytest.fixture(scope="module")
def density() -> tuple[pm.Model, np.ndarray, np.ndarray]:
    """A model of all priors; their log densities in unconstrained space at `AT`, and the derivatives: shape (3, d)."""
    with pm.Model() as model:
        for name in PRIORS:
            prior_variable(site(name), None)
    terms = model.logp(sum=False)
    function = model.compile_fn(
        [*terms, model.dlogp()], inputs=model.value_vars, mode=Mode("py", "fast_compile"), on_unused_input="ignore"
    )
    found = [function({v.name: np.asarray(x) for v in model.value_vars}) for x in AT]
    return model, np.array([np.array(row[:-1]) for row in found]), np.array([row[-1] for row in found])


@pytest.mark.parametrize("name", PRIORS)
def test_its_density_and_gradient_are_numpyros(name: str, density: tuple[pm.Model, np.ndarray, np.ndarray]) -> None:
    model, values, gradients = density
    at = [v.name for v in model.free_RVs].index(name)
    prior = PRIORS[name]

    def exact(z: jax.Array) -> jax.Array:
        transform = biject_to(prior.support)
        value = transform(z)
        return prior.log_prob(value) + transform.log_abs_det_jacobian(z, value)

    # of these PyMC computes a constant factor in single precision
    tolerance = 1e-7 if name.startswith(("truncated", "half_cauchy")) else 1e-11
    for row, x in enumerate(AT):
        ours, slope = jax.value_and_grad(exact)(x)
        assert values[row, at] == pytest.approx(float(ours), rel=tolerance, abs=tolerance)
        assert gradients[row, at] == pytest.approx(float(slope), rel=tolerance, abs=tolerance)


def test_all_of_the_table_is_tried() -> None:
    assert set(FAMILIES) <= {type(prior) for prior in TRANSLATED.values()}


@pytest.mark.parametrize("name", ["exp_affine", "log_uniform", "truncated_cauchy"])
def test_what_pymc_has_no_word_for_is_drawn_by_numpyro(name: str) -> None:
    with pm.Model():
        variable = prior_variable(site(name), None)
    draws = pm.draw(variable, draws=300, random_seed=1, mode=Mode("py", None))
    assert kstest(draws, lambda x: np.asarray(PRIORS[name].cdf(x))).pvalue > 1e-3


def test_chains_start_where_they_are_told_in_coordinates_of_the_unit_they_are_told() -> None:
    starts = {name: VariableStart(float(prior.sample(jax.random.key(5))), 0.25) for name, prior in PRIORS.items()}
    with pm.Model() as model:
        for name, start in starts.items():
            prior_variable(site(name), start)
    found = model.initial_point()
    for variable, (name, start) in zip(model.value_vars, starts.items(), strict=True):
        z = float(biject_to(PRIORS[name].support).inv(start.value))
        # below an upper bound PyMC and NumPyro may count in opposite directions
        assert abs(found[variable.name]) == pytest.approx(abs(z) / start.unit, rel=1e-6), name


def test_a_prior_on_an_unknown_set_is_an_error_that_says_what_works() -> None:
    improper = dist.ImproperUniform(constraints.circular, (), ())
    with pm.Model(), pytest.raises(InvalidTwin, match="prior of `x` cannot be given to PyMC") as caught:
        prior_variable(Site("x", improper, "parameter", "x", "", ""), None)
    assert "TruncatedNormal" in str(caught.value)
