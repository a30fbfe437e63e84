"""What can be done with an earlier run of a model: predict with its posterior, judge and report it anew.

Also the page, the table and the figures about the fleet that it calibrated.
"""

import importlib.util
import io
import json
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from bayestwin._base.progress import Progress
from bayestwin._base.units import convert
from bayestwin.assess import diagnose, intervals
from bayestwin.assess.population import populations, verdicts
from bayestwin.assess.recorded import paths_gate
from bayestwin.calibrate import check_belongs
from bayestwin.density.bind import sha256_of
from bayestwin.errors import InvalidArtifact, InvalidInput, InvalidSetting
from bayestwin.predict import predict
from bayestwin.project.calibrate import (
    Results,
    by_asset,
    calibrate_model,
    inputs_of,
    judge,
    mark_by_card,
    read_beside,
    read_calibrated,
    read_shares,
    status_of,
    write_report,
)
from bayestwin.project.model import Model, Split, load_telemetry, read_model_telemetry
from bayestwin.project.record import RECORD, read_record, renew_outputs, to_json
from bayestwin.project.run import ASSETS, ENDED, INPUTS, POSTERIOR, PREDICTIONS, REPORT, find_run
from bayestwin.project.sections import SplitSection
from bayestwin.project.telemetry import Attributes, known_attributes
from bayestwin.report.reading import zone_of
from bayestwin.results.store import load, save, write_bytes_durably, write_text_durably
from bayestwin.results.support import MARKS, OF, WORDS, code_words
from bayestwin.update import UPDATES, known_record

if TYPE_CHECKING:
    from bayestwin.report.experiments import FleetOnPage

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

    @property
    def beyond(self) -> tuple[str, ...]:
        """What lies beyond what was calibrated, or beyond the card's operating range, in words."""
        return tuple(self.predictions.attrs.get(WORDS, ()))


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
    check_own(model, run, posterior)
    if file is not None:
        future = read_model_telemetry(model, file, partly=True, split=split_made_with(posterior))
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
    mark_by_card(model, posterior, predictions)
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
    The column `extrapolation` says what lies beyond what was calibrated at that time, nothing where all was seen.
    """
    found = intervals(predictions, prob=(0.5, 0.9))
    dims = [dim for dim in ("experiment", "time", "observation") if dim in found.dims]
    columns = {"median": found["median"]}
    for prob in found["prob"].to_numpy():
        columns |= {f"{end}_{100 * prob:g}": found[end].sel(prob=prob, drop=True) for end in ("lower", "upper")}
    drawn = predictions["predictions"].to_dataset()
    if MARKS in drawn.coords:
        codes = drawn[MARKS].reduce(np.bitwise_or.reduce, OF)
        columns[MARKS] = xr.apply_ufunc(np.vectorize(code_words, otypes=[object]), codes).broadcast_like(
            found["median"]
        )
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


def check_own(model: Model, run: pathlib.Path, posterior: xr.DataTree) -> None:
    """As `check_belongs`, and says where the run keeps the twin that it was calibrated with."""
    try:
        check_belongs(model.twin, posterior)
    except InvalidArtifact as reason:
        kept = run / INPUTS / "twin.py"
        where = f" Run `{run.name}` keeps the twin that it was made with, `{kept}`." if kept.is_file() else ""
        raise reason.replace(advice=f"{reason.advice}{where}") from reason


def open_results(model: Model, run: pathlib.Path) -> Results:
    """What is known of an earlier run of a model, from its files.

    Raises:
        InvalidInput: If the run belongs to another twin or other telemetry.
    """
    posterior, predictions = read_calibrated(run)
    check_own(model, run, posterior)
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
    held_out = read_model_telemetry(model, file, split=split_made_with(found.posterior))
    predictions = predict(model.twin, found.posterior, held_out, initial=initial, **model.job.predict.model_dump())
    split = found.split._replace(held_out=held_out)
    return judge(model, found.run, found.posterior, predictions, split, found.record)


def renew_report(found: Results) -> pathlib.Path:
    """Write the report of an earlier run again, with all that was calibrated beside it, and record that."""
    path = write_report(found._replace(beside=read_beside(found.run), shares=read_shares(found.run)))
    renew_outputs(found.run)
    return path


def split_made_with(posterior: xr.DataTree) -> SplitSection:
    """How the telemetry was split when a posterior was calibrated."""
    return SplitSection.model_validate(json.loads(posterior.attrs["job"]).get("split", {}))


def _split_of(model: Model, run: pathlib.Path, posterior: xr.DataTree) -> Split:
    """The telemetry, split as it was in a run: what a posterior has seen must not pass for held out."""
    split = load_telemetry(model, split_made_with(posterior))
    if UPDATES in posterior.attrs:
        return _since_updated(model, split, posterior)
    ours, theirs = sha256_of(split.calibration), posterior.attrs["telemetry_sha256"]
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


def _since_updated(model: Model, split: Split, posterior: xr.DataTree) -> Split:
    """The telemetry of an updated posterior, which has it, and what the job holds out beyond the end of that."""
    calibration, held_out = split.of_one("update")
    record = known_record(model.twin, posterior, calibration)
    if held_out is not None:
        later = held_out.table.loc[held_out.table.index > record.table.index[-1]]
        held_out = held_out.with_table(later) if len(later) else None
    return split._replace(calibration=record, held_out=held_out)


# A fleet: the verdict on each asset, and their population, as a page, as JSON and as a table.

FLEET = "fleet"
"""Names of the files, without what follows the dot."""

OWN = ("chain", "draw", "experiment")
"""Dimensions of a number that each asset has of its own."""

SETTINGS = ("calibrate", "predict", "split")
"""Tables of a job that draws and predictions depend on, beside twin and telemetry."""


class FleetFound(NamedTuple):
    """What is known of a fleet.

    Attributes:
        run: Folder of the calibration.
        status: What became of that, as of `status_of`.
        record: The content of `fleet.json`.
        page: The page about it.
        table: The table, a row an asset.
    """

    run: pathlib.Path
    status: str
    record: dict[str, Any]
    page: pathlib.Path
    table: pathlib.Path


def fleet_model(
    model: Model,
    results: pathlib.Path,
    run: str | None = None,
    *,
    parquet: bool = False,
    device: str | None = None,
    progress: Progress | None = None,
) -> FleetFound:
    """Write the page, the figures and the table about a fleet into the folder of its calibration.

    Args:
        model: The model.
        results: Where runs are filed.
        run: Name of the calibration; by default the newest of the job, twin and telemetry as they are now. Without one
            they are calibrated first.
        parquet: Whether the table is a Parquet file, and not CSV.
        device: `"cpu"`, `"gpu"`, or None for JAX's default.
        progress: Where progress is shown.

    Raises:
        InvalidInput: If the job is not of a fleet, or there is no such run.
        InvalidSetting: If nothing is installed that writes Parquet files.
    """
    if model.job.fleet is None:
        raise InvalidInput(
            f"Job file `{model.job_path}` is of one asset.",
            expected="a table `[fleet]`, with `by`",
            received="no such table",
            advice="Write one where telemetry is of several assets; `bayestwin report` has the page about one.",
        )
    if parquet and importlib.util.find_spec("pyarrow") is None:
        raise InvalidSetting(
            "Nothing that is installed writes Parquet files.",
            expected="pyarrow, an optional extra",
            received="no pyarrow",
            advice='Install it: `pip install "bayestwin[parquet]"`. Or leave `--parquet` out for CSV.',
        )
    folder = find_run(results, model, run) if run is not None else _same_state(model, results)
    if folder is None:
        found = calibrate_model(model, results, device=device, progress=progress)
    else:
        found = open_results(model, folder)
    return _write_fleet(model, found, parquet=parquet)


def _same_state(model: Model, results: pathlib.Path) -> pathlib.Path | None:
    """The newest calibration of job, twin and telemetry as they are, that came to its end; None where there is none."""
    now = inputs_of(model, load_telemetry(model))
    for path in sorted((results / model.name).glob(f"*/{RECORD}"), reverse=True):
        record = read_record(path.parent)
        same = all(record.get(name) == now[name] for name in ("twin_sha256", "telemetry_sha256"))
        same = same and all((record.get("job") or {}).get(name) == now["job"][name] for name in SETTINGS)
        if same and record.get("command") == "calibrate" and record.get("status") in ENDED:
            return path.parent
    return None


def _write_fleet(model: Model, found: Results, *, parquet: bool) -> FleetFound:
    from bayestwin.report.experiments import FleetOnPage, render_fleet  # half a second, which only a page is worth

    assert found.assets is not None
    held_out = found.scores is not None
    known = known_attributes(model.job, model.folder, model.job_path)
    attributes = attributes_of(known)
    shown = FleetOnPage(
        found.posterior,
        found.gates,
        population := populations(model.twin, found.posterior),
        verdicts(found.posterior, population, found.assets.coverage if held_out else None, found.gates),
        found.assets.coverage if held_out else None,
        found.assets.scores,
        attributes,
        {} if known is None else known.table.units,
        tuple(found.split.set_aside.values()),
    )
    record = {"run": found.run.name, "status": found.status, **_fleet_figures(found, shown)}
    told = ("run", "began", "job_file", "twin_sha256")
    provenance = {name: str(found.record.get(name)) for name in told}
    joined = {name: {**one, "reasons": " ".join(one["reasons"])} for name, one in record["assets"].items()}
    table = fleet_table(joined, attributes)
    path = found.run / f"{FLEET}.{'parquet' if parquet else 'csv'}"
    for suffix in ("csv", "parquet"):
        (found.run / f"{FLEET}.{suffix}").unlink(missing_ok=True)
    data = io.BytesIO()
    table.to_parquet(data) if parquet else table.to_csv(data)
    write_bytes_durably(path, data.getvalue())
    write_text_durably(found.run / f"{FLEET}.json", to_json(record))
    page = render_fleet(shown, report=REPORT, assets=ASSETS, provenance=provenance)
    written = write_text_durably(found.run / f"{FLEET}.html", page)
    renew_outputs(found.run)
    return FleetFound(found.run, found.status, record, written, path)


def _fleet_figures(found: Results, shown: "FleetOnPage") -> dict[str, Any]:
    """Verdicts, populations and figures of each asset, as plain values."""
    assert found.assets is not None
    figures = by_asset(found.assets)
    own = {str(n): v for n, v in found.posterior["posterior"].data_vars.items() if {*v.dims} == {*OWN}}
    members = {one.name: {member.name: member for member in one.members} for one in shown.populations}
    assets = {}
    for verdict in shown.verdicts:
        quantities = {}
        for name, values in own.items():
            drawn = values.sel(experiment=verdict.name).to_numpy()
            lower, upper = np.quantile(drawn, (0.05, 0.95))
            told = {"mean": drawn.mean(), "sd": drawn.std(), "lower": lower, "upper": upper}
            told |= {"unit": str(values.attrs.get("units", ""))}
            if name in members:
                member = members[name][verdict.name]._asdict()
                told |= {key: member[key] for key in ("alone", "alone_lower", "alone_upper", "surprise", "outlier")}
            quantities[name] = told
        judged = {"verdict": verdict.status, "reasons": list(verdict.reasons)}
        assets[verdict.name] = judged | {"quantities": quantities} | figures.get(verdict.name, {})
    populations = [{k: v for k, v in one._asdict().items() if k != "members"} for one in shown.populations]
    return {"assets": assets, "populations": populations, "set_aside": dict(found.split.set_aside)}


def attributes_of(known: Attributes | None) -> pd.DataFrame:
    """What is known of assets, a row each by its name; without columns where nothing is."""
    return pd.DataFrame() if known is None else known.table.table.set_axis(pd.Index(known.names, name="asset"))


def fleet_table(assets: Mapping[str, Mapping[str, Any]], attributes: pd.DataFrame) -> pd.DataFrame:
    """A row an asset: its attributes and verdict, coverage and RMSE, and the figures of its own quantities.

    Args:
        assets: What is told of each by its name: `verdict`, `reasons` in words, and figures where there are some.
        attributes: As of `attributes_of`.
    """
    rows = {}
    for name, one in assets.items():
        row: dict[str, Any] = dict(attributes.loc[name]) if name in attributes.index else {}
        row |= {"verdict": one["verdict"], "reasons": one["reasons"]}
        for observation, shares in (one.get("coverage") or {}).items() if one.get("held_out") else ():
            row[f"{observation}_coverage_90"] = shares.get("0.9")
        for observation, scored in (one.get("scores") or {}).items():
            row[f"{observation}_rmse"] = scored["rmse"]
        for quantity, told in (one.get("quantities") or {}).items():
            row |= {f"{quantity}_{key}": value for key, value in told.items() if key != "unit"}
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("asset")
