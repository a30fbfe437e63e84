"""What other verbs have left about a model's twin: the newest run of each that is finished."""

import pathlib
from collections.abc import Mapping
from typing import Any

import xarray as xr

from bayestwin.errors import BayestwinError
from bayestwin.project.model import Model
from bayestwin.project.record import read_record
from bayestwin.project.run import newest
from bayestwin.report.found import Found
from bayestwin.report.insight import SECTIONS
from bayestwin.results.store import load


def others_of(results: pathlib.Path, model: Model, posterior: xr.DataTree) -> dict[str, Found]:
    """By verb, its newest finished run of the twin that was calibrated; none where it has not been run."""
    found = {}
    for section in SECTIONS:
        run = newest(results, model, section.command, str(posterior.attrs["twin_sha256"]))
        if run is not None:
            found[section.command] = _read(run, section.command, str(posterior.attrs["telemetry_sha256"]))
    return found


def _read(run: pathlib.Path, command: str, telemetry: str) -> Found:
    record = read_record(run)
    same = _same_data(record, telemetry)
    try:
        return Found(run.name, record, load(run / f"{command}.nc"), same_data=same)
    except BayestwinError as reason:
        return Found(run.name, record, None, str(reason), same)


def _same_data(record: Mapping[str, Any], telemetry: str) -> bool | None:
    told = record.get("telemetry_sha256")
    if not isinstance(told, Mapping) or "calibration" not in told:
        return None
    return told["calibration"] == telemetry
