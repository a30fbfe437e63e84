"""A run of `sensitivity`: what the predictions of a model hang on, and what the posterior of an earlier run does."""

import pathlib
from typing import Any, NamedTuple

import xarray as xr

from bayestwin._base.progress import Progress
from bayestwin.errors import InvalidInput
from bayestwin.insight.influence import MIN_DRAWS, influence, power_scaling
from bayestwin.insight.sensitivity import sensitivity
from bayestwin.project.calibrate import inputs_of
from bayestwin.project.model import Model, Split, load_telemetry
from bayestwin.project.predict import open_results
from bayestwin.project.run import POSTERIOR, Carried, Given, VerbOutcome, carry_out, find_run
from bayestwin.results.store import save

SENSITIVITY = "sensitivity.nc"

MOST_POINTS = 10
"""Influential observations that are told of; the file has all."""


KEYS = ("overall", "overall_lower", "overall_upper")

POINT = ("observation", "experiment", "time", "value", "largest", "most_moved", "pareto_k", "reliable")
"""What is told of an observation."""


class Earlier(NamedTuple):
    """The run whose posterior is looked at: its name, what became of it, and the posterior."""

    run: str
    status: str
    posterior: xr.DataTree


def run_sensitivity(
    model: Model,
    results: pathlib.Path,
    *,
    run: str | None = None,
    prior_only: bool = False,
    device: str | None = None,
    progress: Progress | None = None,
) -> tuple[Carried[xr.DataTree], Earlier | None]:
    """Find what a model's predictions and posterior hang on, and file it as a run.

    Args:
        model: The model; its job's `[sensitivity]` has the settings.
        results: Where runs are filed.
        run: Name of the run whose posterior is looked at; by default the newest, or none where there is none.
        prior_only: Whether to look at no posterior.
        device: `"cpu"`, `"gpu"`, or None for JAX's default.
        progress: Where progress is shown.

    Returns:
        The run, whose tree has the groups `sobol` and `local`, and with a posterior `power_scaling` and `influence`;
        and what it looked at.

    Raises:
        InvalidInput: If there is no such run, or its posterior belongs to another twin or other telemetry.
    """
    earlier, split = _look_for(model, results, run, prior_only)
    name, folders = (None, []) if earlier is None else (earlier.run, [results / model.name / earlier.run])
    given = Given({"run": name, "prior_only": prior_only}, runs=folders)

    def work(folder: pathlib.Path, shown: Progress) -> VerbOutcome[xr.DataTree]:
        posterior = None if earlier is None else earlier.posterior
        groups = {} if posterior is None else _of_posterior(model, posterior, shown)
        if groups:
            save(xr.DataTree.from_dict(groups), folder / SENSITIVITY)  # whatever happens to the rest
        settings = model.job.sensitivity.model_dump()
        tree = sensitivity(
            model.twin, split.calibration, posterior=posterior, device=device, progress=shown, **settings
        )
        found = xr.DataTree.from_dict({name: node.to_dataset() for name, node in tree.children.items()} | groups)
        found.attrs = tree.attrs
        with shown.timed("save"):
            save(found, folder / SENSITIVITY)
        status = "interrupted" if found.attrs["interrupted"] else "finished"
        return VerbOutcome(found, status, {"summary": figures(found)})

    return carry_out(model, results, "sensitivity", inputs_of(model, split), work, progress, given), earlier


def figures(found: xr.DataTree) -> dict[str, Any]:
    """Key figures as plain values: indices over all times, diagnoses, the most influential observations."""
    sobol = found["sobol"].to_dataset()
    names = sobol["observation"].to_numpy()
    indices = {str(name): _indices(sobol.sel(observation=name)) for name in names}
    said: dict[str, Any] = {"num_failed": sobol.attrs["num_failed"], "sobol": indices}
    if "power_scaling" in found.children:
        scaling = found["power_scaling"].to_dataset()
        columns = {key: scaling[key].to_numpy().tolist() for key in ("prior", "likelihood", "diagnosis")}
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        said["power_scaling"] = dict(zip(scaling["quantity"].to_numpy().tolist(), rows, strict=True))
    if "influence" in found.children:
        points = found["influence"].to_dataset().isel(point=slice(MOST_POINTS))
        keys = [key for key in POINT if key in points.variables]
        said["influence"] = [{key: points[key].to_numpy()[i] for key in keys} for i in range(points.sizes["point"])]
    return said


def _indices(sobol: xr.Dataset) -> dict[str, dict[str, list[float]]]:
    """By quantity and order: the index over all times, and the ends of its interval."""
    return {
        str(name): {
            str(order): [float(sobol[key].sel(quantity=name, order=order)) for key in KEYS]
            for order in sobol["order"].to_numpy()
        }
        for name in sobol["quantity"].to_numpy()
    }


def _look_for(model: Model, results: pathlib.Path, run: str | None, prior_only: bool) -> tuple[Earlier | None, Split]:
    """The posterior to look at and the telemetry it was calibrated on; else that which the job says."""
    used = None if prior_only else _run_or_none(model, results, run)
    if used is None:
        return None, load_telemetry(model)
    found = open_results(model, used)
    return Earlier(used.name, found.status, found.posterior), found.split


def _run_or_none(model: Model, results: pathlib.Path, run: str | None) -> pathlib.Path | None:
    """The run that is meant; none where none was named and none has a posterior."""
    try:
        return find_run(results, model, run)
    except InvalidInput:
        if run is not None or any((results / model.name).glob(f"*/{POSTERIOR}")):
            raise
        return None


def _of_posterior(model: Model, posterior: xr.DataTree, shown: Progress) -> dict[str, xr.Dataset]:
    """The groups that belong to a posterior; none where it is a point, or has too few draws."""
    draws = posterior["posterior"]
    if draws.sizes["chain"] * draws.sizes["draw"] < MIN_DRAWS:
        return {}
    return {"power_scaling": power_scaling(model.twin, posterior), "influence": influence(posterior, progress=shown)}
