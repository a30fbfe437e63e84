"""Which quantities predictions hang on: Sobol indices over a whole distribution, derivatives at one point.

What is computed here by solving many times becomes datasets with the user's times, units and words.
"""

import math
from collections.abc import Callable, Mapping
from types import EllipsisType
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array

from bayestwin._base.process import seed_for
from bayestwin._base.progress import Phase, Progress, computing
from bayestwin.assess.intervals import check_choice, checked_prob
from bayestwin.calibrate import check_belongs, experiment_attributes, root_attributes, with_model_error
from bayestwin.density.bind import Bound, Experiments, bind_all
from bayestwin.density.density import Density, join
from bayestwin.dynamics.choice import with_method
from bayestwin.dynamics.grid import build_grid
from bayestwin.errors import InvalidSetting, InvalidTwin
from bayestwin.inference.solver import choose
from bayestwin.insight.influence import MIN_DRAWS
from bayestwin.insight.sobol import (
    Indices,
    Marginal,
    posterior_marginal,
    prior_marginal,
    saltelli,
    sobol_indices,
    varied,
)
from bayestwin.model.error import ModelError
from bayestwin.model.twin import Twin
from bayestwin.results.schema import Axes, axes_of
from bayestwin.telemetry import Telemetry

# Noise-free predictions at many values of the quantities, and their derivatives at one.

BATCH = 128
"""About so many values are solved in one call."""


class Solved(NamedTuple):
    """Noise-free predictions at n rows of m values.

    Attributes:
        noise_free: By observation, shape (n, m, T), or (n, m, E, T) for E experiments; NaN where a solve failed.
        interrupted: Whether Ctrl-C came before all rows were solved; those that were are there.
    """

    noise_free: Mapping[str, np.ndarray]
    interrupted: bool


def sparse_density(twin: Twin, bound: Bound | Mapping[str, Bound], max_times: int) -> Density:
    """The density of a twin that predicts at no more than `max_times` of its telemetry's times, evenly picked.

    Inputs and events are those of all of them.
    """
    if not isinstance(bound, Bound):
        parts = {name: sparse_density(twin, one, max_times) for name, one in bound.items()}
        return join(twin, {name: d.bound for name, d in parts.items()}, {name: d.grid for name, d in parts.items()})
    num = len(bound.times)
    max_times = num if bound.since else max_times  # each is read from an earlier row on
    rows = np.unique(np.linspace(0, num - 1, min(num, max_times)).round().astype(int))
    grid = build_grid(twin, bound.times[rows], bound.times, bound.inputs, bound.events, bound.known)
    by_row: dict[str, Any] = {
        part: {name: values[rows] for name, values in getattr(bound, part).items()}
        for part in ("observations", "inputs", "events", "columns", "since")
    }
    picked = bound._replace(times=bound.times[rows], labels=bound.labels[rows], **by_row)
    return Density(twin, picked, grid, twin.sites())


def solve_rows(density: Density, values: Mapping[str, np.ndarray], phase: Phase) -> Solved:
    """Solve row after row, some at a time; Ctrl-C ends it after the last that were finished.

    Args:
        density: Gives the twin and its times.
        values: By site; shape (n, m) each, or (n, m, E).
        phase: Told of each solve.
    """
    num, width = next(iter(values.values())).shape[:2]
    rows = min(num, max(1, BATCH // width))
    batch = jax.jit(jax.vmap(noise_free(density)))
    found: dict[str, list[np.ndarray]] = {name: [] for name in density.twin.observations}
    interrupted = False
    try:
        for first in range(0, num, rows):
            some = np.minimum(np.arange(first, first + rows), num - 1)
            flat = {n: jnp.asarray(v[some].reshape(rows * width, *v.shape[2:])) for n, v in values.items()}
            predicted = {name: np.asarray(array) for name, array in batch(flat).items()}
            size = min(rows, num - first)
            for name, array in predicted.items():
                found[name].append(array.reshape(rows, width, *array.shape[1:])[:size])
            phase.advance(size * width)
    except KeyboardInterrupt:
        if not all(found.values()):
            raise
        interrupted = True
    least = min(map(len, found.values()))
    return Solved({name: np.concatenate(parts[:least]) for name, parts in found.items()}, interrupted)


def noise_free(density: Density) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    """The function from values by site to what each observation would be without noise; NaN where a solve fails."""

    def predict(values: Mapping[str, Array]) -> dict[str, Array]:
        predicted = density.predict(values)
        solved = predicted.solved[:, None] if density.experiments else predicted.solved[None]
        return {name: jnp.where(solved, array, jnp.nan) for name, array in predicted.noise_free.items()}

    return predict


def derivatives(density: Density, centre: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Derivatives of each noise-free observation with respect to each quantity, by forward mode.

    A quantity of which each experiment has its own moves in all of them at once: each feels its own alone.

    Args:
        density: Gives the twin and its times.
        centre: Where, by site; shape () or (E,) each.

    Returns:
        By observation, shape (d, T) or (d, E, T); NaN where the solve fails.
    """
    predict = noise_free(density)

    def moved(step: Array) -> dict[str, Array]:
        return predict({name: jnp.asarray(v, float) + step[i] for i, (name, v) in enumerate(centre.items())})

    found = jax.jit(lambda step: (jax.jacfwd(moved)(step), moved(step)))(jnp.zeros(len(centre)))
    slopes, values = jax.tree.map(np.asarray, found)
    # what does not depend on the values of a failed solve would have the derivative zero
    known = {name: np.isfinite(array)[..., None] for name, array in values.items()}
    return {name: np.moveaxis(np.where(known[name], array, np.nan), -1, 0) for name, array in slopes.items()}


# Arrays of sensitivities → xarray datasets with named dimensions, the user's times, units and words.

ORDERS = ("first", "total")

MAX_WIDTH = 0.3
"""An interval of an index over all times that is wider than this says little: of a prior with long tails, a few points
make most of the variance, and even the intervals miss it."""


class Predictand(NamedTuple):
    """What predictions are of: the twin with its times, and how these become dimensions."""

    density: Density
    axes: Axes

    @property
    def present(self) -> np.ndarray:
        """Which of the times of the density are real; shape (T,), or (E, T), where short experiments are padded."""
        labels = self.density.bound.labels
        return np.isfinite(labels) if self.density.experiments else np.ones(len(labels), dtype=bool)

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Values at the times that are present, shape (…, M), as an array whose last axes are those of the result."""
        whole = np.full((*values.shape[:-1], *self.present.shape), np.nan)
        whole[..., self.present] = values
        return self.axes.spread(whole)


def sobol_dataset(
    setting: Predictand,
    quantities: tuple[str, ...],
    estimates: Mapping[str, tuple[Indices, Indices, Indices]],
    joint_sd: Mapping[str, np.ndarray],
) -> xr.Dataset:
    """The group `sobol`.

    Args:
        setting: The twin and its times.
        quantities: Names, in the order of the indices.
        estimates: By observation: the indices, and the ends of their intervals.
        joint_sd: By observation, standard deviations in the posterior itself; without any where there is none.
    """
    dims = ("order", "observation", "quantity")
    found: dict[str, tuple[tuple[str, ...], np.ndarray, dict[str, str]]] = {}
    for part, (end, words) in enumerate((("", ""), ("_lower", "lower end of "), ("_upper", "upper end of "))):
        each = np.stack([setting.spread(estimate[part].each) for estimate in estimates.values()], axis=1)
        overall = np.stack([estimate[part].overall for estimate in estimates.values()], axis=1)
        found[f"sobol{end}"] = ((*dims, *setting.axes.dims), each, {"long_name": f"{words}Sobol index"})
        found[f"overall{end}"] = (dims, overall, {"long_name": f"{words}Sobol index over all times"})
    wide = (found["overall_upper"][1] - found["overall_lower"][1]).max(axis=(0, 2))
    words = f"whether no interval over all times is wider than {MAX_WIDTH:g}"
    found["reliable"] = (("observation",), wide <= MAX_WIDTH, {"long_name": words})
    varying = ("observation", *setting.axes.dims)
    sd = np.stack([setting.spread(estimate[0].sd) for estimate in estimates.values()])
    found["sd"] = (varying, sd, {"long_name": "standard deviation of the prediction, quantities independent"})
    if joint_sd:
        whole = np.stack([setting.axes.spread(joint_sd[name]) for name in estimates])
        found["joint_sd"] = (varying, whole, {"long_name": "standard deviation of the prediction in the posterior"})
    return xr.Dataset(found, coords={"order": list(ORDERS)} | _coords(setting, quantities, tuple(estimates)))


def local_dataset(
    setting: Predictand,
    slopes: Mapping[str, np.ndarray],
    centre: Mapping[str, np.ndarray],
    marginals: Mapping[str, Marginal],
) -> xr.Dataset:
    """The group `local`.

    Args:
        setting: The twin and its times.
        slopes: By observation, derivatives with respect to the quantities; shape (d, T) or (d, E, T).
        centre: By quantity, where they were taken.
        marginals: By quantity, how far it varies.
    """
    shape = setting.present.shape[:-1]
    own = ("quantity", *setting.axes.dims[:-1])
    at = np.stack([np.broadcast_to(value, shape) for value in centre.values()])
    scale = np.stack([np.broadcast_to(marginal.spread, shape) for marginal in marginals.values()])
    dims = ("observation", "quantity", *setting.axes.dims)
    derivative = np.stack([setting.axes.spread(array) for array in slopes.values()])
    dataset = xr.Dataset(
        {
            "derivative": (dims, derivative, {"long_name": "derivative of the prediction by the quantity"}),
            "centre": (own, at, {"long_name": "value at which the derivative is taken"}),
            "scale": (own, scale, {"long_name": "standard deviation of the quantity"}),
        },
        coords=_coords(setting, tuple(centre), tuple(slopes)),
    )
    words = "change of the prediction for one standard deviation of the quantity"
    scaled = (dataset["derivative"] * dataset["scale"]).transpose(*dims)
    dataset["scaled"] = scaled.assign_attrs(long_name=words)
    dataset["scaled_rms"] = _rms(scaled, setting).assign_attrs(long_name=f"{words}, root mean square over time")
    return dataset


def _rms(scaled: xr.DataArray, setting: Predictand) -> xr.DataArray:
    """Over all times that there are; NaN where one of these is NaN."""
    there = xr.DataArray(setting.spread(np.ones(int(setting.present.sum()))), dims=setting.axes.dims).notnull()
    squares = (scaled**2).where(there, 0.0)
    return (squares.sum(setting.axes.dims, skipna=False) / int(there.sum())) ** 0.5


def _coords(setting: Predictand, quantities: tuple[str, ...], observations: tuple[str, ...]) -> dict[str, object]:
    twin = setting.density.twin
    unit = {site.name: site.unit for site in setting.density.sites}
    return {
        "observation": list(observations),
        "quantity": list(quantities),
        "units": ("observation", [twin.observations[name].unit for name in observations]),
        "quantity_units": ("quantity", [unit[name] for name in quantities]),
        **setting.axes.coords,
    }


DISTRIBUTIONS = {
    "prior": "what was known before the data",
    "posterior": "what is known after them, each quantity by itself",
}


def sensitivity(
    twin: Twin,
    telemetry: Telemetry | Experiments,
    *,
    seed: int,
    posterior: xr.DataTree | None = None,
    distribution: Literal["prior", "posterior"] = "prior",
    model_error: ModelError | EllipsisType | None = ...,
    num_samples: int = 1024,
    max_times: int = 200,
    prob: float = 0.9,
    device: str | None = None,
    progress: Progress | None = None,
) -> xr.DataTree:
    """Say how much each parameter and initial state decides of what the twin predicts, without noise, at each time.

    **Sobol indices**: quantities are drawn from `distribution`, independently of each other. The first-order index is
    the share of a prediction's variance that would go if the quantity were known; the total index the share that would
    stay if all others were known. Their difference is interaction. A posterior's quantities hardly ever are
    independent: what one gains the other loses, and predictions vary less than their marginals make them.
    `distribution="posterior"` answers what each would matter if it varied as far as it does, by itself; `joint_sd`
    beside `sd` says how far that is from the posterior.

    **Local sensitivities**: the derivative of each prediction, at the mean of the posterior if there is one and
    else at the prior's median, and the same times one standard deviation of the quantity in `distribution`.

    Model error and noise are left out: these are the equations alone. A point of the design of which one solve fails is
    dropped whole, and counted. Ctrl-C ends the design and returns what there is, with the root attribute `interrupted`.

    Args:
        twin: The twin.
        telemetry: Gives times, inputs and events; or that of each experiment, by its name.
        seed: Determines everything random.
        posterior: As `calibrate` returned it.
        distribution: What quantities are drawn from, and how far they vary.
        model_error: As in `calibrate`: it tells whether the posterior belongs to the twin.
        num_samples: Points of the design, a power of two; there are as many times (quantities + 2) solves.
        max_times: Most times at which anything is said: that many of the telemetry's, evenly picked.
        prob: Of the bootstrap intervals.
        device: `"cpu"`, `"gpu"`, or None for JAX's default.
        progress: Where progress is shown; by default on a terminal only.

    Returns:
        Groups `sobol` (`sobol`, `sobol_lower`, `sobol_upper` (order, observation, quantity, time), and `overall`,
        `overall_lower`, `overall_upper` over all times, weighted by the variances there; `sd`; `reliable` is False
        where intervals are so wide that indices say little) and `local`
        (`derivative`, `scaled`, `centre`, `scale`, `scaled_rms`). The indices of a prediction that does not vary are
        NaN. Several experiments have a dimension. Methods: doi:10.1016/j.cpc.2009.09.018.

    Raises:
        InvalidArtifact: If the posterior belongs to another twin.
        InvalidTelemetry: If the telemetry does not fit the twin.
        InvalidSetting: If a setting makes no sense, or the posterior has too few draws.
        InvalidTwin: If there is nothing to vary.
        OutOfMemory: If the predictions do not fit into memory.
    """
    computation = computing("Lower `num_samples` or `max_times`.", seed=seed, device=device, progress=progress)
    twin = with_model_error(twin, model_error)
    _check(distribution, posterior, num_samples, max_times)
    prob = float(checked_prob(prob)[0])
    if posterior is not None:
        check_belongs(twin, posterior)
    equations = with_model_error(twin, None)
    with computation as shown:
        density = sparse_density(equations, bind_all(equations, telemetry), max_times)
        _check_something_varies(density)
        density = _solved_suitably(density, twin, posterior, seed, shown)
        known = None if posterior is None else posterior["posterior"].to_dataset()
        spreads, centres = _marginals(density, known, distribution, seed)
        settings = {"distribution": distribution, "num_samples": num_samples, "max_times": max_times, "prob": prob}
        attributes = root_attributes(twin, telemetry, seed, settings)
        setting = Predictand(density, axes_of(density.bound, density.experiments, experiment_attributes(attributes)))
        with shown.phase("local", "local sensitivities", 1) as phase:
            local = local_dataset(setting, derivatives(density, centres), centres, spreads)
            phase.advance(1)
        joint = None if known is None or distribution == "prior" else known
        sobol, interrupted = _sobol(setting, spreads, joint, num_samples, prob, seed, shown)
    tree = xr.DataTree.from_dict({"sobol": sobol, "local": local})
    tree.attrs = attributes | settings | {"interrupted": interrupted} | _origin(posterior)
    return tree


def _check(distribution: str, posterior: xr.DataTree | None, num_samples: int, max_times: int) -> None:
    check_choice("distribution", distribution, DISTRIBUTIONS)
    if not (isinstance(num_samples, int) and num_samples >= 2 and num_samples & (num_samples - 1) == 0):
        raise InvalidSetting(
            "`num_samples` is no size of a Sobol sequence.",
            expected="a power of two, such as 256, 1024 or 4096",
            received=f"{num_samples!r}",
            advice="Twice as many points make intervals about 0.7 times as wide.",
        )
    if not (isinstance(max_times, int) and max_times >= 1):
        raise InvalidSetting(
            "`max_times` makes no sense.",
            expected="a whole number, at least 1",
            received=f"{max_times!r}",
            advice="Leave it out for the default.",
        )
    if distribution == "prior":
        return
    draws = 0 if posterior is None else posterior["posterior"].sizes["chain"] * posterior["posterior"].sizes["draw"]
    if draws < MIN_DRAWS:
        raise InvalidSetting(
            '`distribution="posterior"` has too little to draw quantities from.',
            expected=f"`posterior=` with at least {MIN_DRAWS} draws",
            received="no posterior" if posterior is None else f"{draws} draws",
            advice='Pass what `calibrate` returned (by `method="nuts"`), or leave out `distribution`.',
        )


def _check_something_varies(density: Density) -> None:
    if not varied(density):
        raise InvalidTwin(
            f"Twin `{density.twin.name}` has nothing that its equations hang on and that is not known.",
            expected="a prior on at least one parameter or initial state",
            received="known numbers, and priors of noise and model error alone",
            advice="Give what you are not sure of a prior.",
        )


def _solved_suitably(
    density: Density, twin: Twin, posterior: xr.DataTree | None, seed: int, progress: Progress
) -> Density:
    """With the solver that the calibration found, if it solved these equations; else with the one that suits."""
    if posterior is None or twin.model_error is not None:
        return choose(density, seed, progress)[0]
    return density.solved_as(with_method(density.twin, posterior.attrs.get("solver_choice", {}).get("method", "auto")))


def _marginals(
    density: Density, known: xr.Dataset | None, distribution: str, seed: int
) -> tuple[dict[str, Marginal], dict[str, np.ndarray]]:
    """How each quantity varies, and the point at which derivatives are taken."""
    if known is not None and density.experiments and "experiment" in known.dims:
        known = known.sel(experiment=list(density.experiments))
    sites = varied(density)
    prior = {site.name: prior_marginal(density, site, seed) for site in sites}
    after = prior if known is None else {site.name: posterior_marginal(known, site) for site in sites}
    return prior if distribution == "prior" else after, {name: marginal.centre for name, marginal in after.items()}


def _sobol(
    setting: Predictand,
    marginals: Mapping[str, Marginal],
    joint: xr.Dataset | None,
    num_samples: int,
    prob: float,
    seed: int,
    shown: Progress,
) -> tuple[xr.Dataset, bool]:
    density, dim = setting.density, len(marginals)
    points = saltelli(num_samples, dim, seed_for(seed, "design"))
    values = {}
    for number, (name, marginal) in enumerate(marginals.items()):
        found = marginal.quantile(points[..., number].ravel())
        values[name] = found.reshape(*points.shape[:2], *found.shape[1:])
    with shown.phase("sobol", "varying quantities", num_samples * (dim + 2)) as phase:
        solved = solve_rows(density, values, phase)
    joint_sd: Mapping[str, np.ndarray] = {}
    if joint is not None and not solved.interrupted:
        drawn = _joint_values(density, joint, num_samples)
        with shown.phase("sobol", "solving posterior draws", len(next(iter(drawn.values())))) as phase:
            found = solve_rows(density, drawn, phase)
        joint_sd = {name: array[:, 0].std(axis=0, ddof=1) for name, array in found.noise_free.items()}
    outputs, failed = _whole_rows(setting, solved)
    with shown.timed("indices"):
        again = seed_for(seed, "bootstrap")
        estimates = {name: sobol_indices(array, again, prob) for name, array in outputs.items()}
    dataset = sobol_dataset(setting, tuple(marginals), estimates, joint_sd)
    return dataset.assign_attrs(
        prob=prob, num_failed=failed, num_rows=len(next(iter(outputs.values())))
    ), solved.interrupted


def _whole_rows(setting: Predictand, solved: Solved) -> tuple[dict[str, np.ndarray], int]:
    """Predictions at the rows of which every solve worked, shape (n, d + 2, M), and the number of the others."""
    found = {name: array[:, :, setting.present] for name, array in solved.noise_free.items()}
    keep = np.logical_and.reduce([np.isfinite(array).all(axis=(1, 2)) for array in found.values()])
    return {name: array[keep] for name, array in found.items()}, int((~keep).sum())


def _joint_values(density: Density, known: xr.Dataset, most: int) -> dict[str, np.ndarray]:
    """Draws of the posterior as it is, at most so many and evenly picked; shape (n, 1), or (n, 1, E)."""
    if density.experiments and "experiment" in known.dims:
        known = known.sel(experiment=list(density.experiments))
    values = {}
    for site in varied(density):
        drawn = known[site.name].transpose("chain", "draw", ...).to_numpy()
        drawn = drawn.reshape(math.prod(drawn.shape[:2]), 1, *drawn.shape[2:])
        values[site.name] = drawn[np.unique(np.linspace(0, len(drawn) - 1, min(most, len(drawn))).round().astype(int))]
    return values


def _origin(posterior: xr.DataTree | None) -> dict[str, Any]:
    if posterior is None:
        return {}
    names = ("telemetry_sha256", "seed")
    return {f"posterior_{name}": posterior.attrs[name] for name in names if name in posterior.attrs}
