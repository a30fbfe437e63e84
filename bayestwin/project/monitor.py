"""`monitor`: hold new telemetry against a calibrated run; verdict and evidence go into the folder of the run."""

import datetime
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import xarray as xr

from bayestwin._base.progress import Progress
from bayestwin.check import read_limits
from bayestwin.errors import InvalidInput, InvalidTelemetry
from bayestwin.monitor.monitor import monitor, unreadable
from bayestwin.monitor.verdict import ALPHA, Monitored
from bayestwin.project.calibrate import read_calibrated
from bayestwin.project.model import Model, read_model_telemetry
from bayestwin.project.predict import open_results, split_made_with
from bayestwin.project.record import read_record, renew_outputs, to_json
from bayestwin.results.store import write_text_durably
from bayestwin.telemetry import Telemetry

MONITOR = "monitor"
"""Name of the files, without what follows the dot; each look writes them anew."""


class MonitoredRun(NamedTuple):
    """A calibrated run that new telemetry was held against.

    Attributes:
        run: Its folder.
        found: The verdict with its evidence.
        record: The content of `monitor.json`.
        page: The page about it.
    """

    run: pathlib.Path
    found: Monitored
    record: dict[str, Any]
    page: pathlib.Path


def monitor_run(
    model: Model,
    run: pathlib.Path,
    file: pathlib.Path | None = None,
    *,
    earlier: Sequence[pathlib.Path] = (),
    alpha: float = ALPHA,
    by: str | None = None,
    due: str | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> MonitoredRun:
    """Monitor a calibrated run, and write `monitor.json` and `monitor.html` into its folder.

    Telemetry that cannot be read is a verdict too: somebody must act, on the data.

    Args:
        model: The model.
        run: Folder of a calibrated run of it.
        file: All telemetry since the calibration; rows that were calibrated do no harm. By default what the run held
            out.
        earlier: Files of what came before that, where it is not in one file; what is later counts where rows differ.
        alpha: As of `bt.monitor`.
        by: Likewise.
        due: Likewise.
        device: `"cpu"`, `"gpu"`, or None for JAX's default.
        progress: Where progress is shown.

    Raises:
        InvalidInput: If there is no such file, nothing was held out, or it is of a fleet.
        InvalidArtifact: If the run belongs to another twin, or is of several experiments.
    """
    if file is not None and not file.is_file():
        raise InvalidInput(
            f"There is no file `{file}`.",
            expected="a file of telemetry, as the job reads it",
            received="nothing of that name",
            advice="Correct `--telemetry`.",
        )
    began = _now()
    posterior, record = read_calibrated(run)[0], read_record(run)
    versions = {name: str(version) for name, version in (record.get("versions") or {}).items()}
    settings: dict[str, Any] = {"seed": model.job.check.seed, "alpha": alpha, "versions": versions}
    try:
        telemetry = _held_out(model, run) if file is None else read_since(model, posterior, [*earlier, file])
    except InvalidTelemetry as reason:
        if file is None:
            raise
        found, zone = unreadable(model.twin, posterior, reason, file, **settings), ""
    else:
        if not isinstance(telemetry, Telemetry):
            raise InvalidInput(
                f"The telemetry of `{model.folder}` is of a fleet.",
                expected="a job of one asset",
                received=f"{len(telemetry)} assets",
                advice="Calibrate assets one by one, and monitor each.",
            )
        own: dict[str, Any] = {"thresholds": model.job.check.thresholds()}
        own |= {"limits": read_limits(model.folder / "card.md", model.twin), "by": by, "due": due}
        found = monitor(model.twin, posterior, telemetry, **settings, **own, device=device, progress=progress)
        zone = telemetry.timezone if isinstance(telemetry.timezone, str) else ""
    told = {
        "run": run.name,
        "telemetry": "" if file is None else str(file),
        "began": began,
        "ended": _now(),
        **figures_of(found),
    }
    write_text_durably(run / f"{MONITOR}.json", to_json(told))
    from bayestwin.report.monitor import render_monitor  # half a second, which only a page is worth

    page = run / f"{MONITOR}.html"
    provenance = {name: told[name] or "held out" for name in ("run", "telemetry", "began", "ended")}
    write_text_durably(page, render_monitor(found, model.twin, zone=zone, provenance=provenance))
    renew_outputs(run)
    return MonitoredRun(run, found, told, page)


def read_since(model: Model, posterior: xr.DataTree, files: Sequence[pathlib.Path]) -> Telemetry | dict[str, Telemetry]:
    """What was observed since a calibration, of one asset perhaps in several files.

    Raises:
        InvalidTelemetry: If one of them cannot be read.
    """
    *earlier, found = [read_model_telemetry(model, file, split=split_made_with(posterior)) for file in files]
    for one in reversed(earlier):
        if isinstance(found, Telemetry) and isinstance(one, Telemetry):
            table = found.table.combine_first(one.table).sort_index()
            found = found.with_table(table, t0=table.index[0])
    return found


def _held_out(model: Model, run: pathlib.Path) -> Any:
    """What a run held out."""
    held_out = open_results(model, run).split.held_out
    if held_out is None:
        raise InvalidInput(
            f"Run `{run.name}` of `{model.folder}` held nothing out, so there is nothing to monitor.",
            expected="`--telemetry FILE`, or a run with `hold_out_from` in the `[split]` of its job",
            received="neither",
            advice="Say which file has the telemetry since the calibration.",
        )
    return held_out


def figures_of(found: Monitored) -> dict[str, Any]:
    """A verdict with its evidence as plain values, without what is told of each reading."""
    return {
        "verdict": found.verdict,
        "cause": found.cause,
        "reason": found.reason,
        "parameter": found.parameter,
        "e_value": found.e_value,
        "alarm": found.alarm,
        "since": found.since,
        "num_readings": found.readings.sizes["reading"],
        "observations": found.observations,
        "regimes": found.regimes,
        "shifts": [one._asdict() for one in found.shifts],
        "findings": [one._asdict() for one in found.findings],
        "infrastructure": found.infrastructure,
        **found.attributes,
    }


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
