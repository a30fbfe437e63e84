"""The forecast of a run in production, as a file beside its posterior that serving needs nothing else for."""

import pathlib

import xarray as xr

from bayestwin.check.finding import read_limits
from bayestwin.errors import BayestwinError
from bayestwin.exported import FORECAST, export_forecast
from bayestwin.model.describe import fingerprint
from bayestwin.project.model import load_model
from bayestwin.project.record import read_record, renew_outputs
from bayestwin.project.run import INPUTS, POSTERIOR, recorded_model
from bayestwin.registry.log import LOG, read_log, stages_after
from bayestwin.registry.production import check_unchanged
from bayestwin.results.store import load, save


def write_forecast(model: pathlib.Path, run: pathlib.Path, posterior: xr.DataTree, job: str = "job.toml") -> str:
    """Export the forecast of a run into its folder, and record that.

    Args:
        model: The model folder, whose twin is taken where it is that of the run; else the one that the run kept.
        run: Folder of the run.
        posterior: Its posterior.
        job: Name of the job file.

    Returns:
        Why there is none, in words; empty where there is one.
    """
    try:
        twin = load_model(model, job).twin
        if fingerprint(twin) != posterior.attrs.get("twin_sha256"):
            twin = recorded_model(run, read_record(run)).twin
        limits = {name: (one.low, one.high) for name, one in read_limits(run / INPUTS / "card.md", twin).items()}
        save(export_forecast(twin, posterior, limits=limits), run / FORECAST)
    except BayestwinError as reason:
        return reason.summary
    renew_outputs(run)
    return ""


def write_missing_forecasts(models: pathlib.Path, results: pathlib.Path) -> dict[str, str]:
    """Export the forecasts of all runs in production that have none, as those promoted by earlier versions.

    Args:
        models: The folder with the model folders.
        results: Where runs are filed.

    Returns:
        By model, why there is none, empty where it was written; nothing of models that need none.
    """
    found = {}
    for path in sorted(results.glob(f"*/{LOG}")):
        runs = path.parent
        try:
            production = stages_after(read_log(runs).events).production
            if production is None or (runs / production.run / FORECAST).is_file():
                continue
            check_unchanged(runs, production)
            posterior = load(runs / production.run / POSTERIOR)
            found[runs.name] = write_forecast(models / runs.name, runs / production.run, posterior)
        except BayestwinError as reason:
            found[runs.name] = reason.summary
    return found
