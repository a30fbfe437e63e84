"""A twin and its telemetry as a PyMC model: the priors as PyMC's own variables, the density as one operator."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pymc as pm
import pytensor.tensor as pt
from jax import Array
from jax.typing import ArrayLike
from pytensor.tensor.variable import TensorVariable

from bayestwin._base.compilation import keep_compiled
from bayestwin._base.process import require_float64
from bayestwin._base.progress import Progress
from bayestwin.density.bind import bind
from bayestwin.density.density import Density, build_density
from bayestwin.errors import InvalidSetting, InvalidTelemetry, InvalidTwin, explain
from bayestwin.inference.solver import choose
from bayestwin.inference.starts import find_starts
from bayestwin.model.discrepancy import Discrepancy
from bayestwin.model.twin import Twin
from bayestwin.ppl.families import Start, prior_variable
from bayestwin.ppl.operator import JaxTerms
from bayestwin.telemetry import Telemetry

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
    start_at: Mapping[str, Start] = {}
    if start:
        keep_compiled()
        density, start_at = _find_start(density)
    with around or pm.Model() as model:
        values = {}
        for site in density.sites:
            if site.name in given:
                values[site.name] = _as_given(site.name, given[site.name], model)
            else:
                values[site.name] = prior_variable(site, start_at.get(site.name))
        _observe(density, pt.stack([values[site.name] for site in density.sites]), model)
    return model


def _check_fits(twin: Twin, telemetry: object) -> None:
    """Refuse what a PyMC model cannot have: several experiments, and observations that are not a product of terms."""
    if isinstance(twin.model_error, Discrepancy):
        message = explain(
            f"Twin `{twin.name}` has a discrepancy, which ties its observations together.",
            expected="a twin without model error, or with bt.ProcessNoise",
            received="bt.Discrepancy",
            advice="Take `bt.calibrate` or `bt.numpyro_model`; or leave it out here, and add a process of PyMC's own.",
        )
        raise InvalidTwin(message)
    if isinstance(telemetry, Telemetry):
        return
    message = explain(
        "A PyMC model has one telemetry.",
        expected="a bt.Telemetry",
        received=type(telemetry).__name__,
        advice="Put each experiment into a model of its own name, and what they share into `priors=`; `bt.calibrate` "
        "and `bt.numpyro_model` take several experiments as they are.",
    )
    raise InvalidTelemetry(message)


def _find_start(density: Density) -> tuple[Density, dict[str, Start]]:
    """The density with the solver that suits, and where chains start: around the heaviest of its modes."""
    silent = Progress(show=False)
    density, _ = choose(density, SEED, silent)
    mode = find_starts(density, 1, SEED, silent).modes[0]
    values = density.constrain(jnp.asarray(mode.z))
    # Of one coordinate given all others: shaken in each by itself, a chain stays near the mode however they correlate.
    deviations = np.diag(np.linalg.inv(mode.scale @ mode.scale.T)) ** -0.5
    return density, {n: Start(float(values[n]), SPREAD * float(d)) for n, d in zip(values, deviations, strict=True)}


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
        message = explain(
            f"Twin `{twin.name}` has nothing to infer.",
            expected="a prior on at least one parameter, initial state or noise parameter",
            received="known numbers only",
            advice="Use `simulate` to solve it.",
        )
        raise InvalidTwin(message)
    for name, value in priors.items():
        fault = _fault(name, value, names, around)
        if fault:
            message = explain(
                f"`priors` cannot be used: {fault}.",
                expected=f"scalar PyMC variables or numbers, for any of {', '.join(f'`{n}`' for n in names)}",
                received=f"`{name}`: {value if isinstance(value, int | float | str) else type(value).__name__}",
                advice="Make the variables within `with pm.Model():`, and call `pymc_model` there as well.",
            )
            raise InvalidSetting(message)
    if around is not None:
        _check_names(twin, [*(n for n in names if n not in priors), *twin.observations], around)
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
    message = explain(
        f"The model around has variables that twin `{twin.name}` adds itself.",
        expected=f"a model without {', '.join(f'`{name}`' for name in names)}",
        received=f"one that has {', '.join(f'`{name}`' for name in taken)}",
        advice=f"Pass a prior of your own as `priors={{'{taken[0]}': …}}`; for a second asset, go into a model of its "
        f'own name: `with pm.Model(name="asset2"):`.',
    )
    raise InvalidSetting(message)
