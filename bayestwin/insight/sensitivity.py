"""Which quantities predictions hang on: Sobol indices over a whole distribution, derivatives at one point."""

import math
from collections.abc import Mapping
from types import EllipsisType
from typing import Any, Literal

import numpy as np
import xarray as xr

from bayestwin._base.compilation import keep_compiled
from bayestwin._base.process import enough_memory, on_device, require_float64
from bayestwin._base.progress import Progress
from bayestwin._base.seeds import check_seed, seed_for
from bayestwin.assess.intervals import check_choice, checked_prob
from bayestwin.calibrate import experiment_attributes, root_attributes, with_model_error
from bayestwin.density.density import Density
from bayestwin.density.experiments import Experiments, bind_all
from bayestwin.dynamics.choice import with_method
from bayestwin.errors import InvalidSetting, InvalidTwin, explain
from bayestwin.inference.solver import choose
from bayestwin.insight.marginals import Marginal, posterior_marginal, prior_marginal, varied
from bayestwin.insight.power_scaling import MIN_DRAWS
from bayestwin.insight.sensitivities_tables import Setting, local_dataset, sobol_dataset
from bayestwin.insight.sobol import saltelli, sobol_indices
from bayestwin.insight.solving import Solved, derivatives, solve_rows, sparse_density
from bayestwin.model.error import ModelError
from bayestwin.model.twin import Twin
from bayestwin.predict import check_belongs
from bayestwin.results.schema import axes_of
from bayestwin.telemetry import Telemetry

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
    require_float64()
    check_seed(seed)
    twin = with_model_error(twin, model_error)
    _check(distribution, posterior, num_samples, max_times)
    prob = float(checked_prob(prob)[0])
    if posterior is not None:
        check_belongs(twin, posterior)
    equations = with_model_error(twin, None)
    keep_compiled()
    lower = enough_memory("Lower `num_samples` or `max_times`.")
    with lower, on_device(device), progress or Progress() as shown:
        density = sparse_density(equations, bind_all(equations, telemetry), max_times)
        _check_something_varies(density)
        density = _solved_suitably(density, twin, posterior, seed, shown)
        known = None if posterior is None else posterior["posterior"].to_dataset()
        spreads, centres = _marginals(density, known, distribution, seed)
        settings = {"distribution": distribution, "num_samples": num_samples, "max_times": max_times, "prob": prob}
        attributes = root_attributes(twin, telemetry, seed, settings)
        setting = Setting(density, axes_of(density.bound, density.experiments, experiment_attributes(attributes)))
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
        message = explain(
            "`num_samples` is no size of a Sobol sequence.",
            expected="a power of two, such as 256, 1024 or 4096",
            received=f"{num_samples!r}",
            advice="Twice as many points make intervals about 0.7 times as wide.",
        )
        raise InvalidSetting(message)
    if not (isinstance(max_times, int) and max_times >= 1):
        message = explain(
            "`max_times` makes no sense.",
            expected="a whole number, at least 1",
            received=f"{max_times!r}",
            advice="Leave it out for the default.",
        )
        raise InvalidSetting(message)
    if distribution == "prior":
        return
    draws = 0 if posterior is None else posterior["posterior"].sizes["chain"] * posterior["posterior"].sizes["draw"]
    if draws < MIN_DRAWS:
        message = explain(
            '`distribution="posterior"` has too little to draw quantities from.',
            expected=f"`posterior=` with at least {MIN_DRAWS} draws",
            received="no posterior" if posterior is None else f"{draws} draws",
            advice='Pass what `calibrate` returned (by `method="nuts"`), or leave out `distribution`.',
        )
        raise InvalidSetting(message)


def _check_something_varies(density: Density) -> None:
    if not varied(density):
        message = explain(
            f"Twin `{density.twin.name}` has nothing that its equations hang on and that is not known.",
            expected="a prior on at least one parameter or initial state",
            received="known numbers, and priors of noise and model error alone",
            advice="Give what you are not sure of a prior.",
        )
        raise InvalidTwin(message)


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
    setting: Setting,
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


def _whole_rows(setting: Setting, solved: Solved) -> tuple[dict[str, np.ndarray], int]:
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
