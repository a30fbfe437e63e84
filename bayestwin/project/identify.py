"""What `identify` does with a model folder: a run that holds what telemetry can tell, and the verdict on it."""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import xarray as xr

from bayestwin._base.progress import Progress
from bayestwin.assess import Gate, failed
from bayestwin.insight.identify import check_names, identify
from bayestwin.insight.identify_verdict import verdict
from bayestwin.project.calibrate import inputs_of
from bayestwin.project.model import Model, check_ready, load_telemetry, read_model_telemetry
from bayestwin.project.run import POSTERIOR, Carried, Given, VerbOutcome, carry_out, find_run
from bayestwin.results.store import load, save

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
        return VerbOutcome(Identified(tree, gates), status, figures_of(tree, gates))

    given = Given(
        {"profile": list(asked.profile), "profile_prior": asked.profile_prior, "run": asked.run},
        {} if asked.planned is None else {"planned": asked.planned},
        [] if earlier is None else [earlier],
    )
    return carry_out(model, results, "identify", inputs_of(model, split), work, progress, given)


def figures_of(tree: xr.DataTree, gates: Sequence[Gate]) -> dict[str, Any]:
    """The verdict and the figures by quantity, as plain values for JSON."""
    groups = [tree[name].to_dataset() for name in ("quantities", "planned") if name in tree]
    figures: dict[str, dict[str, float]] = {}
    for group in groups:
        for name, values in group.data_vars.items():
            if values.dims == ("quantity",):
                for quantity, value in zip(group["quantity"].values, values.values, strict=True):
                    figures.setdefault(str(quantity), {})[str(name)] = float(value)
    return {"gates": [gate._asdict() for gate in gates], "quantities": figures}
