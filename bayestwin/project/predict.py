"""What can be done with an earlier run of a model: predict with its posterior, judge and report it anew."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from bayestwin._base.units import convert
from bayestwin.assess import diagnose, intervals
from bayestwin.assess.recorded import paths_gate
from bayestwin.errors import InvalidInput, InvalidSetting
from bayestwin.predict import check_belongs, predict
from bayestwin.project.calibrate import (
    Results,
    judge,
    read_beside,
    read_calibrated,
    read_shares,
    sha256_of_telemetry,
    status_of,
    write_report,
)
from bayestwin.project.model import Model, Split, load_telemetry, read_model_telemetry
from bayestwin.project.record import read_record, renew_outputs
from bayestwin.project.run import POSTERIOR, PREDICTIONS
from bayestwin.project.sections import SplitSection
from bayestwin.report.reading import zone_of
from bayestwin.results.store import load, save

LATER = "predictions-*.nc"
"""Names of predictions for files of telemetry that a run had not seen."""


class LaterPredictions(NamedTuple):
    """Predictions with the posterior of an earlier run.

    Attributes:
        predictions: As of `predict`.
        path: The file that has them.
        status: What became of the run, as of `status_of`; "failed gates" also where too many of these paths fail.
    """

    predictions: xr.DataTree
    path: pathlib.Path
    status: str


def predict_again(
    model: Model,
    run: pathlib.Path,
    file: pathlib.Path | None,
    out: pathlib.Path | None,
    initial: Mapping[str, float] | None = None,
) -> LaterPredictions:
    """Predict with the posterior of an earlier run.

    Args:
        model: The model that was calibrated.
        run: The run.
        file: CSV file with times, inputs, and perhaps observations; by default what the run held out.
        out: File to write, `.nc` with all draws or `.csv` with medians and intervals; by default one in the run folder.
        initial: In which states the twin starts anew, as of `predict`.

    Returns:
        The predictions, the file that has them, and what became of the run.

    Raises:
        InvalidInput: If the run belongs to another twin or other telemetry, or there is nothing to predict.
        InvalidSetting: If `out` is neither.
    """
    if out is not None and out.suffix.lower() not in (".nc", ".csv"):
        raise InvalidSetting(
            f"Predictions cannot be written to `{out}`.",
            expected="a file that ends in `.nc` (all draws) or `.csv` (medians and intervals)",
            received=f"`{out.suffix}`" if out.suffix else "no ending",
            advice="Write CSV for a spreadsheet; `bt.load` reads the other one.",
        )
    posterior = load(run / POSTERIOR)
    check_belongs(model.twin, posterior)
    if file is not None:
        future = read_model_telemetry(model, file, partly=True, split=_split_made_with(posterior))
    else:
        future = _split_of(model, run, posterior).held_out
    if future is None:
        raise InvalidInput(
            f"Run `{run.name}` of `{model.folder}` held nothing out, so there is nothing to predict.",
            expected="`--telemetry FILE`, or a run with `hold_out_from` in the `[split]` of its job",
            received="neither",
            advice="Say for which times and inputs you want predictions.",
        )
    path = out or run / (PREDICTIONS if file is None else LATER.replace("*", file.stem))
    predictions = predict(model.twin, posterior, future, initial=initial, **model.job.predict.model_dump())
    if path.suffix.lower() == ".csv":
        path.parent.mkdir(parents=True, exist_ok=True)
        table_of(predictions).to_csv(path, index=False)
    else:
        save(predictions, path)
    renew_outputs(run)
    gate = paths_gate(predictions, model.job.gates.max_failed_paths)
    status = "failed gates" if gate and gate.severity == "fail" else _status(model, run, posterior)
    return LaterPredictions(predictions, path, status)


def table_of(predictions: xr.DataTree) -> pd.DataFrame:
    """Medians and intervals of predictions, a row for each time and observation (and experiment).

    Dates are in the zone that was declared for the telemetry, with their offset from UTC; without one they are in UTC.
    """
    found = intervals(predictions, prob=(0.5, 0.9))
    dims = [dim for dim in ("experiment", "time", "observation") if dim in found.dims]
    columns = {"median": found["median"]}
    for prob in found["prob"].to_numpy():
        columns |= {f"{end}_{100 * prob:g}": found[end].sel(prob=prob, drop=True) for end in ("lower", "upper")}
    table = xr.Dataset(columns).to_dataframe(dim_order=dims)
    wanted = [*(["units"] if "units" in table.columns else []), *columns]
    table = table.reindex(columns=wanted).dropna(subset=["median"]).reset_index()
    if "experiment" in table.columns:
        return _with_users_times(table, predictions).rename(columns={"experiment": "asset"})
    if (zone := zone_of(predictions)) and isinstance(table["time"].dtype, np.dtype) and table["time"].dtype.kind == "M":
        table["time"] = table["time"].dt.tz_localize("UTC").dt.tz_convert(zone)
    return table


def _with_users_times(table: pd.DataFrame, predictions: xr.DataTree) -> pd.DataFrame:
    """The table of several experiments with the times of each as its telemetry has them, in place of elapsed ones."""
    attrs, unit = predictions.attrs, predictions.attrs["time_unit"]
    times: dict[Any, Any] = {}
    for name, rows in table.groupby("experiment", sort=False):
        t0, own, zone = (attrs[key][str(name)] for key in ("t0", "telemetry_time_unit", "telemetry_timezone"))
        elapsed = convert(rows["time"].to_numpy(np.float64), unit, own or "s", "time", InvalidSetting)
        if own:
            times |= dict(zip(rows.index, float(t0) + elapsed, strict=True))
            continue
        dates = pd.DatetimeIndex(pd.Timestamp(t0) + pd.to_timedelta(elapsed, unit="s").round("ms"))
        times |= dict(zip(rows.index, dates.tz_localize("UTC").tz_convert(zone) if zone else dates, strict=True))
    return table.assign(time=pd.Series(times))


def _status(model: Model, run: pathlib.Path, posterior: xr.DataTree) -> str:
    """What became of an earlier run, by the gates of the job as it is now."""
    if model.job.gates.coverage != "report":  # which needs what the run held out
        return open_results(model, run).status
    predictions = read_calibrated(run)[1]
    return status_of(posterior, diagnose(posterior, **model.job.gates.model_dump(), predictions=predictions))


def open_results(model: Model, run: pathlib.Path) -> Results:
    """What is known of an earlier run of a model, from its files.

    Raises:
        InvalidInput: If the run belongs to another twin or other telemetry.
    """
    posterior, predictions = read_calibrated(run)
    check_belongs(model.twin, posterior)
    split = _split_of(model, run, posterior)
    return judge(model, run, posterior, predictions, split, read_record(run))


def judged_by(model: Model, found: Results, file: pathlib.Path, initial: Mapping[str, float] | None = None) -> Results:
    """An earlier run, judged by telemetry in place of what it held out.

    Args:
        model: The model that was calibrated.
        found: The run.
        file: CSV file: what follows the run's telemetry, or another recording.
        initial: In which states that begins, as of `predict`.

    Raises:
        InvalidTelemetry: If it does not fit the twin, or was calibrated.
    """
    held_out = read_model_telemetry(model, file, split=_split_made_with(found.posterior))
    predictions = predict(model.twin, found.posterior, held_out, initial=initial, **model.job.predict.model_dump())
    split = found.split._replace(held_out=held_out)
    return judge(model, found.run, found.posterior, predictions, split, found.record)


def renew_report(found: Results) -> pathlib.Path:
    """Write the report of an earlier run again, with all that was calibrated beside it, and record that."""
    path = write_report(found._replace(beside=read_beside(found.run), shares=read_shares(found.run)))
    renew_outputs(found.run)
    return path


def _split_made_with(posterior: xr.DataTree) -> SplitSection:
    return SplitSection.model_validate(json.loads(posterior.attrs["job"]).get("split", {}))


def _split_of(model: Model, run: pathlib.Path, posterior: xr.DataTree) -> Split:
    """The telemetry, split as it was in a run: what a posterior has seen must not pass for held out."""
    split = load_telemetry(model, _split_made_with(posterior))
    ours, theirs = sha256_of_telemetry(model, split.calibration), posterior.attrs["telemetry_sha256"]
    if ours == theirs:
        return split
    job = read_record(run).get("job_file", model.job_path.name)
    other = (
        f"That run was made with `--job {job}`." if job != model.job_path.name else "Its data or units have changed."
    )
    raise InvalidInput(
        f"Run `{run.name}` was not calibrated on the telemetry that `{model.job_path}` names.",
        expected=f"telemetry with the sha256 {theirs[:12]}",
        received=f"{ours[:12]}",
        advice=f"{other} Name another run by `--run`, or calibrate again.",
    )
