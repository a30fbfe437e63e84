"""A twin and its telemetry as a PyMC model: the priors as PyMC's own variables, the density as one operator."""

import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numba
import numpy as np
import numpyro.distributions as dist
import pymc as pm
import pytensor.tensor as pt
from jax import Array
from jax.typing import ArrayLike
from numpyro.distributions import biject_to, constraints
from pymc.logprob.transforms import ScaleTransform
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.link.jax.dispatch.basic import jax_funcify
from pytensor.link.numba.dispatch.basic import numba_funcify, numba_njit
from pytensor.tensor.variable import TensorVariable

from bayestwin._base.compilation import keep_compiled
from bayestwin._base.process import require_float64
from bayestwin._base.progress import Progress
from bayestwin.density.bind import bind
from bayestwin.density.density import Density, build_density
from bayestwin.errors import InvalidSetting, InvalidTelemetry, InvalidTwin
from bayestwin.inference.solver import choose
from bayestwin.inference.starts import find_starts
from bayestwin.model.error import Discrepancy
from bayestwin.model.twin import Site, Twin
from bayestwin.telemetry import Telemetry

# NumPyro's priors as PyMC's: by name where both have the family, else by the log density that NumPyro gives.

type Family = tuple[Callable[..., Any], Mapping[str, Any]]
"""A distribution of PyMC's, and its parameters by PyMC's names."""

FAMILIES: Mapping[type, Callable[[Any], Family]] = {
    dist.Beta: lambda d: (pm.Beta, {"alpha": d.concentration1, "beta": d.concentration0}),
    dist.Cauchy: lambda d: (pm.Cauchy, {"alpha": d.loc, "beta": d.scale}),
    dist.Exponential: lambda d: (pm.Exponential, {"lam": d.rate}),
    dist.Gamma: lambda d: (pm.Gamma, {"alpha": d.concentration, "beta": d.rate}),
    dist.Gumbel: lambda d: (pm.Gumbel, {"mu": d.loc, "beta": d.scale}),
    dist.HalfCauchy: lambda d: (pm.HalfCauchy, {"beta": d.scale}),
    dist.HalfNormal: lambda d: (pm.HalfNormal, {"sigma": d.scale}),
    dist.InverseGamma: lambda d: (pm.InverseGamma, {"alpha": d.concentration, "beta": d.rate}),
    dist.Laplace: lambda d: (pm.Laplace, {"mu": d.loc, "b": d.scale}),
    dist.Logistic: lambda d: (pm.Logistic, {"mu": d.loc, "s": d.scale}),
    dist.LogNormal: lambda d: (pm.LogNormal, {"mu": d.loc, "sigma": d.scale}),
    dist.Normal: lambda d: (pm.Normal, {"mu": d.loc, "sigma": d.scale}),
    dist.StudentT: lambda d: (pm.StudentT, {"nu": d.df, "mu": d.loc, "sigma": d.scale}),
    dist.Uniform: lambda d: (pm.Uniform, {"lower": d.low, "upper": d.high}),
    dist.Weibull: lambda d: (pm.Weibull, {"alpha": d.concentration, "beta": d.scale}),
}

# What NumPyro makes of `TruncatedNormal(low=…)`, `(high=…)` and both.
TRUNCATED = {
    dist.LeftTruncatedDistribution: {"lower": "low"},
    dist.RightTruncatedDistribution: {"upper": "high"},
    dist.TwoSidedTruncatedDistribution: {"lower": "low", "upper": "high"},
}


class VariableStart(NamedTuple):
    """Where chains start in one variable.

    Attributes:
        value: Its value there.
        unit: How far around it, in the unconstrained coordinate.
    """

    value: float
    unit: float


def prior_variable(site: Site, start: VariableStart | None) -> TensorVariable:
    """The prior of a site as a free variable of the PyMC model around, under the site's name.

    PyMC starts at a variable's support point, which is set here: a model with `initval` is one that `pm.do` and
    `pm.compute_log_likelihood` refuse. From there PyMC and nutpie move each chain by up to 1 in each unconstrained
    coordinate. So that this is no farther than it should be, the coordinate is divided by the unit of the start.

    Args:
        site: The site.
        start: Where chains start; None leaves it to where the unconstrained coordinate is zero.

    Raises:
        InvalidTwin: If PyMC has no transform to where the prior lives.
    """
    settings: dict[str, Any] = {"default_transform": _transform(site)}
    at = float(biject_to(site.prior.support)(jnp.zeros(()))) if start is None else start.value
    if start is not None:
        settings["transform"] = ScaleTransform(lambda *_: np.float64(1.0 / start.unit))
    family = _family(site.prior)
    if family is None:
        return _by_log_density(site, at, settings)
    make, parameters = family

    def dist_of(*values: Any) -> Any:
        return make.dist(**dict(zip(parameters, values[:-1], strict=True)), size=values[-1])  # type: ignore[attr-defined]

    # arrays: PyTensor takes a Python float in single precision wherever that can hold it, and computes on in it
    return pm.CustomDist(
        site.name,
        *(np.asarray(value, float) for value in parameters.values()),
        dist=dist_of,
        support_point=lambda rv, *_: pt.full_like(rv, at),
        class_name=make.__name__,
        **settings,
    )


def _family(prior: Any) -> Family | None:
    """What PyMC calls a prior; None where it has no word for it."""
    if type(prior) in FAMILIES:
        return FAMILIES[type(prior)](prior)
    if type(prior) in TRUNCATED and type(prior.base_dist) is dist.Normal:
        bounds = {theirs: getattr(prior, ours) for theirs, ours in TRUNCATED[type(prior)].items()}
        return pm.TruncatedNormal, {"mu": prior.base_dist.loc, "sigma": prior.base_dist.scale} | bounds
    return None


def _by_log_density(site: Site, at: float, settings: Mapping[str, Any]) -> TensorVariable:
    prior = site.prior
    operator: Any = JaxTerms(lambda values: jnp.reshape(prior.log_prob(values[0]), (1,)))

    def draw(rng: np.random.Generator, size: tuple[int, ...] | None) -> np.ndarray:
        key = jax.random.key(int(rng.integers(2**63)))
        return np.asarray(prior.sample(key, size or ()), float)

    return pm.CustomDist(
        site.name,
        logp=lambda value: operator(pt.atleast_1d(value))[0][0],
        random=draw,
        support_point=lambda rv, *_: pt.full_like(rv, at),
        class_name=type(prior).__name__,
        **settings,
    )


def _transform(site: Site) -> Any:
    """The transform of PyMC's that maps all real numbers to where a prior lives; None for the whole line."""
    support: Any = site.prior.support
    if support is constraints.real:
        return None
    lower, upper = getattr(support, "lower_bound", None), getattr(support, "upper_bound", None)
    if lower is None and upper is None:
        known = ", ".join(sorted(family.__name__ for family in FAMILIES))
        raise InvalidTwin(
            f"The prior of `{site.name}` cannot be given to PyMC.",
            expected=f"{known}, TruncatedNormal, or any other on the real line or an interval",
            received=f"{type(site.prior).__name__}, which lives on {support}",
            advice=f"Give this one as a variable of PyMC's: `pymc_model(..., priors={{'{site.name}': …}})`.",
        )
    return _interval(lower, upper)


def _interval(lower: Any, upper: Any) -> Any:
    if lower is None and upper is None:
        return None
    return pm.distributions.transforms.Interval(
        *(None if bound is None else np.float64(bound) for bound in (lower, upper))
    )


SEED = 0
"""Of the search for a start, which is not part of any result."""

SPREAD = 2.0
"""How many standard deviations around the mode chains start, as those of `calibrate` do."""


def pymc_model(
    twin: Twin, telemetry: Telemetry, *, priors: Mapping[str, Any] | None = None, start: bool = True
) -> pm.Model:
    """The model of a twin given telemetry, ready for `pm.sample`.

    Within `with pm.Model():` the twin becomes part of that model; one twin for each of several assets goes into a
    model of its own name, `with pm.Model(name="asset1"):`. Variables are named as in the posterior. Each observation
    is an observed variable, without the times at which it is missing, so that `pm.compute_log_likelihood` and
    `pm.sample_posterior_predictive` work; its dimension is `time`, and `<observation>_time` where some are missing.

    Chains start around the heaviest mode that the ladder of `calibrate` finds. PyMC's own sampler forks on Linux, which
    JAX does not survive: tell it `cores=1` or `mp_ctx="forkserver"`. nutpie and NumPyro sample as they are.

    Args:
        twin: The twin.
        telemetry: Its observations and inputs.
        priors: By site, what stands in place of the twin's own prior: scalar variables of the model around, or numbers.
        start: Whether to look for a mode, which takes seconds; without it PyMC starts where it likes.

    Returns:
        The model around, or a new one where there is none.

    Raises:
        InvalidTelemetry: If the telemetry does not fit the twin.
        InvalidTwin: If there is nothing to infer, PyMC cannot express a prior, or the twin has a discrepancy.
        InvalidSetting: If float64 is off, or `priors` or the names in the model around do not fit the twin.
        NoValidStart: If no prior draw has a finite log density.
    """
    require_float64()
    _check_fits(twin, telemetry)
    around: Any = pm.Model.get_context(error_if_none=False)
    given = _checked(twin, dict(priors or {}), around)
    density = build_density(twin, bind(twin, telemetry))
    start_at: Mapping[str, VariableStart] = {}
    if start:
        keep_compiled()
        density, start_at = _find_start(density)
    with around or pm.Model() as model:
        values = {}
        for site in density.sites:
            if site.name in given:
                values[site.name] = _as_given(site.name, given[site.name], model)
            elif site.dependent:
                values[site.name] = _dependent_variable(density, site, values, start_at.get(site.name))
            else:
                values[site.name] = prior_variable(site, start_at.get(site.name))
        theta = pt.stack([values[site.name] for site in density.sites])
        _derive(density, theta)
        _observe(density, theta, model)
    return model


def _check_fits(twin: Twin, telemetry: object) -> None:
    """Refuse what a PyMC model cannot have: several experiments, and observations that are not a product of terms."""
    if isinstance(twin.model_error, Discrepancy):
        raise InvalidTwin(
            f"Twin `{twin.name}` has a discrepancy, which ties its observations together.",
            expected="a twin without model error, or with bt.ProcessNoise",
            received="bt.Discrepancy",
            advice="Take `bt.calibrate` or `bt.numpyro_model`; or leave it out here, and add a process of PyMC's own.",
        )
    if twin.correlated:
        raise InvalidTwin(
            f"Twin `{twin.name}` has correlated sensors, and each would be drawn here by itself.",
            expected="a twin without `correlated=`",
            received=", ".join(f"`{name}` with `{other}`" for name, other in twin.correlated),
            advice="Take `bt.calibrate` or `bt.numpyro_model`.",
        )
    if isinstance(telemetry, Telemetry):
        return
    raise InvalidTelemetry(
        "A PyMC model has one telemetry.",
        expected="a bt.Telemetry",
        received=type(telemetry).__name__,
        advice="Put each experiment into a model of its own name, and what they share into `priors=`; `bt.calibrate` "
        "and `bt.numpyro_model` take several experiments as they are.",
    )


def _dependent_variable(
    density: Density, site: Site, earlier: Mapping[str, Any], start: VariableStart | None
) -> TensorVariable:
    """A site whose prior depends on those before it, or on what the record brings along, as `prior_variable`."""
    known = density.twin.dependences[site.name]
    if known.bounds is None:
        raise InvalidTwin(
            f"The prior of `{site.name}` cannot be given to PyMC.",
            expected="a prior that lives at the same place whatever other parameters are",
            received="one that begins or ends where another parameter says",
            advice="Infer the share of that interval, `bt.Parameter(dist.Uniform(0.0, 1.0))`, and derive this one from "
            f"it; or give it as a variable of PyMC's: `pymc_model(..., priors={{'{site.name}': …}})`.",
        )
    settings: dict[str, Any] = {"default_transform": _interval(*known.bounds)}
    if start is not None:
        settings["transform"] = ScaleTransform(lambda *_: np.float64(1.0 / start.unit))
    at = _middle(*known.bounds) if start is None else start.value
    names = list(earlier)

    def prior(given: Any) -> dist.Distribution:
        return density.priors.prior(site, dict(zip(names, given, strict=True)))

    operator: Any = JaxTerms(lambda values: jnp.reshape(prior(values[1:]).log_prob(values[0]), (1,)))

    def draw(given: np.ndarray, rng: np.random.Generator, size: tuple[int, ...] | None) -> np.ndarray:
        key = jax.random.key(int(rng.integers(2**63)))
        shape = tuple(given.shape[:-1]) if size is None else tuple(size)
        rows = jnp.asarray(np.broadcast_to(given, (*shape, len(names)))).reshape(math.prod(shape), len(names))
        drawn = jax.vmap(lambda row, key: prior(row).sample(key))(rows, jax.random.split(key, len(rows)))
        return np.asarray(drawn, float).reshape(shape)

    return pm.CustomDist(
        site.name,
        pt.stack(list(earlier.values())) if names else pt.zeros(0),
        logp=lambda value, given: operator(pt.concatenate([pt.atleast_1d(value), given]))[0][0],
        random=draw,
        support_point=lambda rv, *_: pt.full_like(rv, at),
        signature="(k)->()",
        class_name="DependentPrior",
        **settings,
    )


def _middle(lower: float | None, upper: float | None) -> float:
    """Where the coordinate is zero of what lives between two ends, either of which may be absent."""
    if lower is None:
        return 0.0 if upper is None else upper - 1.0
    return lower + 1.0 if upper is None else (lower + upper) / 2.0


def _derive(density: Density, theta: Any) -> None:
    """Record what is derived from other parameters."""
    if not density.twin.derived:
        return

    def of_values(values: Array) -> Array:
        return jnp.stack(list(density.priors.derive(_by_name(density, values)).values()))

    operator: Any = JaxTerms(of_values)
    for number, name in enumerate(density.twin.derived):
        pm.Deterministic(name, operator(theta)[0][number])


def _find_start(density: Density) -> tuple[Density, dict[str, VariableStart]]:
    """The density with the solver that suits, and where chains start: around the heaviest of its modes."""
    silent = Progress(show=False)
    density, _ = choose(density, SEED, silent)
    mode = find_starts(density, 1, SEED, silent).modes[0]
    values = density.constrain(jnp.asarray(mode.z))
    # Of one coordinate given all others: shaken in each by itself, a chain stays near the mode however they correlate.
    deviations = np.diag(np.linalg.inv(mode.scale @ mode.scale.T)) ** -0.5
    return density, {
        n: VariableStart(float(values[n]), SPREAD * float(d)) for n, d in zip(values, deviations, strict=True)
    }


def _as_given(name: str, value: Any, model: pm.Model) -> Any:
    """A user's own variable; recorded under the site's name unless that is its name already."""
    variable = pt.as_tensor_variable(value, dtype="float64")
    if model.name_for(name) not in model.named_vars:
        pm.Deterministic(name, variable)
    return variable


def _observe(density: Density, theta: Any, model: pm.Model) -> None:
    """Add the observed variables: all take their log density from the same call of one operator."""
    present = {name: np.flatnonzero(np.isfinite(seen)) for name, seen in density.bound.observations.items()}
    present = {name: rows for name, rows in present.items() if rows.size}
    operator: Any = JaxTerms(_Terms(density, present))
    begin = 0
    for name, rows in present.items():
        some = slice(begin, begin + rows.size)
        begin += rows.size
        pm.CustomDist(
            name,
            theta,
            logp=lambda value, theta, some=some: operator(theta.reshape((-1,)))[0][some],  # noqa: ARG005
            random=_Draw(density, name, rows),
            signature="(k)->()",
            class_name=f"{type(density.twin.observations[name].noise).__name__}Observation",
            observed=density.bound.observations[name][rows],
            dims=(_dimension(density, name, rows, model),),
        )


def _dimension(density: Density, name: str, rows: np.ndarray, model: pm.Model) -> str:
    """The dimension of an observation, with the user's times as coordinates."""
    labels = density.bound.labels
    dimension = model.name_for("time" if rows.size == labels.size else f"{name}_time")
    model.add_coord(dimension, labels[rows])
    return dimension


@dataclasses.dataclass(frozen=True)
class _Terms:
    """Log likelihood of each observation that is there; −inf where the twin cannot be solved."""

    density: Density
    present: Mapping[str, np.ndarray]

    def __call__(self, theta: Array) -> Array:
        values = _by_name(self.density, theta)
        predicted = self.density.predict(values)
        terms = self.density.log_likelihood(values, predicted)
        stacked = jnp.concatenate([terms[name][rows] for name, rows in self.present.items()])
        return jnp.where(predicted.solved & ~jnp.isnan(stacked), stacked, -jnp.inf)


@dataclasses.dataclass(frozen=True)
class _Draw:
    """New values of an observation, in the form in which PyMC asks for them; NaN where the twin cannot be solved."""

    density: Density
    name: str
    rows: np.ndarray

    def __call__(self, theta: np.ndarray, rng: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
        values = _by_name(self.density, jnp.asarray(theta.reshape(-1)))
        predicted = self.density.predict(values)
        key = jax.random.key(int(rng.integers(2**63)))
        drawn = self.density.draw(key, values, predicted)[self.name][self.rows]
        return np.broadcast_to(np.where(predicted.solved, drawn, np.nan), size)


def _by_name(density: Density, theta: Array) -> dict[str, ArrayLike]:
    return {site.name: value for site, value in zip(density.sites, theta, strict=True)}


def _checked(twin: Twin, priors: dict[str, Any], around: pm.Model | None) -> dict[str, Any]:
    """The user's own priors, if they can be taken as they are."""
    names = [site.name for site in twin.sites()]
    if not names:
        raise InvalidTwin(
            f"Twin `{twin.name}` has nothing to infer.",
            expected="a prior on at least one parameter, initial state or noise parameter",
            received="known numbers only",
            advice="Use `simulate` to solve it.",
        )
    for name, value in priors.items():
        fault = _fault(name, value, names, around)
        if fault:
            raise InvalidSetting(
                f"`priors` cannot be used: {fault}.",
                expected=f"scalar PyMC variables or numbers, for any of {', '.join(f'`{n}`' for n in names)}",
                received=f"`{name}`: {value if isinstance(value, int | float | str) else type(value).__name__}",
                advice="Make the variables within `with pm.Model():`, and call `pymc_model` there as well.",
            )
    if around is not None:
        _check_names(twin, [*(n for n in names if n not in priors), *twin.derived, *twin.observations], around)
    return priors


def _fault(name: str, value: Any, names: list[str], around: pm.Model | None) -> str | None:
    """What is wrong with one of the user's priors."""
    if name not in names:
        return f"the twin infers no `{name}`"
    if isinstance(value, TensorVariable):
        if value.ndim != 0:
            return f"`{name}` has {value.ndim} dimensions, and a site is one number"
        return "there is no model around" if around is None else None
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool) and np.isfinite(value)
    return None if number else f"`{name}` is neither a variable of PyMC's nor a finite number"


def _check_names(twin: Twin, names: list[str], around: pm.Model) -> None:
    """Refuse to add what the model around has already: PyMC would stop half-way."""
    taken = [name for name in names if around.name_for(name) in around.named_vars]
    if not taken:
        return
    raise InvalidSetting(
        f"The model around has variables that twin `{twin.name}` adds itself.",
        expected=f"a model without {', '.join(f'`{name}`' for name in names)}",
        received=f"one that has {', '.join(f'`{name}`' for name in taken)}",
        advice=f"Pass a prior of your own as `priors={{'{taken[0]}': …}}`; for a second asset, go into a model of its "
        f'own name: `with pm.Model(name="asset2"):`.',
    )


# A JAX function as one operator of PyTensor's: its values and its Jacobian come out of a single call.
#
# PyTensor's own `wrap_jax` calls JAX twice for a value and its gradient, in reverse mode: for a solve that is most of
# the time. This one runs in each of PyTensor's backends, and in the processes in which PyMC samples.


class JaxTerms(Op):
    """Log densities of m terms, and their derivatives with respect to k values.

    Attributes:
        function: From the values, shape (k,), to the terms, shape (m,); differentiable in forward mode.
    """

    itypes = (pt.dvector,)
    otypes = (pt.dvector, pt.dmatrix)

    def __init__(self, function: Callable[[Array], Array]) -> None:
        """Wrap a function; two operators are the same only if they are one object."""
        self.function = function
        self._take_up()

    def _take_up(self) -> None:
        self._compiled = jax.jit(self.with_jacobian)
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs; it compiles for itself."""
        return {"function": self.function}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Compile in this process."""
        self.__init__(state["function"])

    def with_jacobian(self, values: Array) -> tuple[Array, Array]:
        """The terms, shape (m,), and their Jacobian, shape (m, k)."""

        def twice(values: Array) -> tuple[Array, Array]:
            terms = self.function(values)
            return terms, terms

        jacobian, terms = jax.jacfwd(twice, has_aux=True)(values)
        # what is impossible has no derivative; zero keeps NaN out of the gradient of everything else
        return terms, jnp.where(jnp.isfinite(jacobian) & jnp.isfinite(terms)[:, None], jacobian, 0.0)

    def call(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same from arrays to arrays.

        Raises:
            InvalidSetting: In a process forked from the one that made the operator, where JAX would hang.
        """
        if os.getpid() != self._process:
            raise InvalidSetting(
                "PyMC samples in processes forked from one in which JAX has started: there JAX hangs.",
                expected='`pm.sample(..., mp_ctx="forkserver")`, `cores=1`, or `nuts_sampler="nutpie"` or `"numpyro"`',
                received="chains in forked processes, which is PyMC's default on Linux",
                advice='Pass `mp_ctx="forkserver"`, from a script whose main part stands under `if __name__ == '
                '"__main__":`.',
            )
        terms, jacobian = self._compiled(values)
        return np.array(terms), np.array(jacobian)  # copies: PyTensor may write into what it gets

    def perform(self, node: Apply, inputs: Sequence[Any], output_storage: list[list[Any]]) -> None:  # noqa: ARG002
        """What PyTensor calls where nothing else is compiled."""
        output_storage[0][0], output_storage[1][0] = self.call(inputs[0])

    def pullback(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cotangents: Sequence[Variable]
    ) -> list[Variable]:
        """The gradient from the Jacobian that is there already.

        Raises:
            NotImplementedError: For second derivatives.
        """
        if not isinstance(cotangents[1].type, DisconnectedType):
            message = "The density of a twin has first derivatives in PyTensor, and no second."
            raise NotImplementedError(message)
        if isinstance(cotangents[0].type, DisconnectedType):
            return [inputs[0].zeros_like()]  # type: ignore[attr-defined]
        return [pt.dot(cotangents[0], outputs[1])]


@jax_funcify.register(JaxTerms)  # type: ignore[arg-type]
def _in_jax(op: JaxTerms, **_: Any) -> Callable[[Array], tuple[Array, Array]]:
    """Under JAX the terms are differentiated by JAX itself; the Jacobian is there for PyTensor's gradient."""

    @jax.custom_jvp
    def terms_and_jacobian(values: Array) -> tuple[Array, Array]:
        return op.with_jacobian(values)

    @terms_and_jacobian.defjvp
    def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        terms, jacobian = terms_and_jacobian(*primals)
        # of the Jacobian nobody asks the derivative: should someone, NaN says that there is none
        return (terms, jacobian), (jacobian @ tangents[0], jnp.full_like(jacobian, jnp.nan))

    return terms_and_jacobian


@numba_funcify.register(JaxTerms)
def _in_numba(op: JaxTerms, **_: Any) -> Callable[..., Any]:
    """Numba leaves its compiled code for this call, as it would by itself, but without a warning."""
    call = op.call

    @numba_njit
    def terms_and_jacobian(values: Any) -> Any:
        with numba.objmode(terms="float64[::1]", jacobian="float64[:, ::1]"):
            terms, jacobian = call(values)
        return terms, jacobian

    return terms_and_jacobian
