"""The verbs `identify`, `sensitivity` and `sbc`, each as a run: what telemetry tells, what results hang on, ranks."""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import xarray as xr

from bayestwin._base.progress import Progress
from bayestwin.assess import Gate, failed
from bayestwin.errors import InvalidInput
from bayestwin.insight.identify import check_names, identify
from bayestwin.insight.identify_verdict import verdict
from bayestwin.insight.influence import MIN_DRAWS, influence, power_scaling
from bayestwin.insight.sbc import judge_sbc, sbc
from bayestwin.insight.sensitivity import sensitivity
from bayestwin.project.calibrate import inputs_of
from bayestwin.project.model import Model, Split, check_ready, load_telemetry, read_model_telemetry
from bayestwin.project.predict import open_results
from bayestwin.project.run import POSTERIOR, Carried, Given, VerbOutcome, carry_out, find_run
from bayestwin.results.store import load, save, write_text_durably

# What telemetry can tell.

IDENTIFIED = "identify.nc"


class Identified(NamedTuple):
    """What telemetry can tell of a model's quantities.

    Attributes:
        tree: As of `identify`.
        gates: The verdict.
    """

    tree: xr.DataTree
    gates: tuple[Gate, ...]


class Asked(NamedTuple):
    """What is wanted beside the verdict.

    Attributes:
        profile: Quantities whose profile likelihood is wanted.
        profile_prior: Whether the prior counts in profiles.
        planned: CSV file with the times and inputs of planned telemetry.
        run: Run whose posterior is held against what is expected.
    """

    profile: Sequence[str] = ()
    profile_prior: bool = False
    planned: pathlib.Path | None = None
    run: str | None = None


def identify_model(
    model: Model,
    results: pathlib.Path,
    asked: Asked | None = None,
    *,
    device: str | None = None,
    progress: Progress | None = None,
) -> Carried[Identified]:
    """Say which quantities of a model its telemetry can tell, the held-out part left out.

    Args:
        model: The model.
        results: Where runs are filed.
        asked: What is wanted beside the verdict.
        device: `"cpu"`, `"gpu"`, or None for JAX's default.
        progress: Where progress is shown.
    """
    asked = asked or Asked()
    split = load_telemetry(model)
    check_ready(model, split, device)
    check_names([site.name for site in model.twin.sites()], asked.profile)
    planned = None if asked.planned is None else read_model_telemetry(model, asked.planned, partly=True)
    earlier = None if asked.run is None else find_run(results, model, asked.run)
    posterior = None if earlier is None else load(earlier / POSTERIOR)

    def work(run: pathlib.Path, shown: Progress) -> VerbOutcome[Identified]:
        tree = identify(
            model.twin,
            split.calibration,
            seed=model.job.calibrate.seed,
            posterior=posterior,
            planned=planned,
            profile=asked.profile,
            profile_prior=asked.profile_prior,
            device=device,
            progress=shown,
        )
        save(tree, run / IDENTIFIED)
        gates = verdict(tree)
        status = "failed gates" if failed(gates) else "finished"
        return VerbOutcome(Identified(tree, gates), status, figures_of_identified(tree, gates))

    given = Given(
        {"profile": list(asked.profile), "profile_prior": asked.profile_prior, "run": asked.run},
        {} if asked.planned is None else {"planned": asked.planned},
        [] if earlier is None else [earlier],
    )
    return carry_out(model, results, "identify", inputs_of(model, split), work, progress, given)


def figures_of_identified(tree: xr.DataTree, gates: Sequence[Gate]) -> dict[str, Any]:
    """The verdict and the figures by quantity, as plain values for JSON."""
    groups = [tree[name].to_dataset() for name in ("quantities", "planned") if name in tree]
    figures: dict[str, dict[str, float]] = {}
    for group in groups:
        for name, values in group.data_vars.items():
            if values.dims == ("quantity",):
                for quantity, value in zip(group["quantity"].values, values.values, strict=True):
                    figures.setdefault(str(quantity), {})[str(name)] = float(value)
    return {"gates": [gate._asdict() for gate in gates], "quantities": figures}


# What predictions and posteriors hang on.

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
        return VerbOutcome(found, status, {"summary": figures_of_sensitivity(found)})

    return carry_out(model, results, "sensitivity", inputs_of(model, split), work, progress, given), earlier


def figures_of_sensitivity(found: xr.DataTree) -> dict[str, Any]:
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


# Whether calibration itself is right.

RANKS, PAGE = "sbc.nc", "sbc.html"


class Ranked(NamedTuple):
    """Ranks, and the verdict on them."""

    ranks: xr.Dataset
    gates: tuple[Gate, ...]


def check_calibration(
    model: Model,
    results: pathlib.Path,
    *,
    device: str | None = None,
    progress: Progress | None = None,
) -> Carried[Ranked]:
    """Run a model's simulation-based calibration: simulate, draw, rank, judge, and write it all down.

    Args:
        model: The model folder; what its job calibrates on gives times and inputs.
        results: Where runs are filed.
        device: `"cpu"`, `"gpu"`, or None for JAX's default.
        progress: Where progress is shown.
    """
    split, asked = load_telemetry(model), model.job.sbc

    def work(run: pathlib.Path, shown: Progress) -> VerbOutcome[Ranked]:
        found = sbc(model.twin, split.calibration, **asked.model_dump(), device=device, progress=shown)
        with shown.timed("report"):
            from bayestwin.report.insight import render_ranks  # half a second, which only a page is worth

            gates = judge_sbc(found)
            save(xr.DataTree(found), run / RANKS)
            write_text_durably(run / PAGE, render_ranks(found, gates))
        status = "interrupted" if found.attrs["interrupted"] else "failed gates" if failed(gates) else "finished"
        figures = {"gates": [gate._asdict() for gate in gates]}
        return VerbOutcome(Ranked(found, gates), status, figures)

    return carry_out(model, results, "sbc", inputs_of(model, split), work, progress)
