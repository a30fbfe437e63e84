"""The telemetry that a job names: its files, several of them as one, and the features made of it."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bayestwin.density.bind import elapsed
from bayestwin.errors import InvalidJob, InvalidTelemetry
from bayestwin.model.twin import Twin
from bayestwin.project.job import about_job, as_toml
from bayestwin.project.sections import KINDS, FeatureSection, Job, ReadingSection, SplitSection, TelemetrySection
from bayestwin.telemetry import Telemetry, align, datasets, read_telemetry, signals_of, time_in
from bayestwin.telemetry.columns import find
from bayestwin.telemetry.derived import Feature
from bayestwin.telemetry.features import Expression, Standardized
from bayestwin.telemetry.leakage import add_features, made_of, refuse_ahead
from bayestwin.telemetry.record import sealed
from bayestwin.telemetry.sources import usual_suffixes

ELSEWHERE = {"file", "dataset", "sources", "align"}
"""Keys of `[telemetry]` that are no arguments of `read_telemetry`."""


def files_of(section: TelemetrySection, folder: pathlib.Path, job_path: pathlib.Path) -> dict[str, pathlib.Path]:
    """The file of each source by its name; of the only one, which has none, by an empty name.

    Args:
        section: The table `[telemetry]`.
        folder: The model's.
        job_path: The job file, for messages.

    Raises:
        InvalidJob: If a file that the job names is not there; for a dataset the errors of `datasets.find`.
    """
    return {name: _file(one, name, folder, job_path) for name, one in _sources(section).items()}


def read_sources(section: TelemetrySection, folder: pathlib.Path, job_path: pathlib.Path) -> Telemetry:
    """All telemetry that a job names; arguments and errors as of `files_of`, `read_telemetry` and `align`."""
    files = files_of(section, folder, job_path)
    if not section.sources:
        with about_job(f"`[telemetry]` of `{job_path}`"):
            return read_file(section, files[""])
    found = {}
    for name, one in section.sources.items():
        with about_job(f"`[telemetry.sources.{name}]` of `{job_path}`"):
            found[name] = read_file(one, files[name])
    how = {} if section.align is None else section.align.model_dump()
    try:
        with about_job(f"`[telemetry.{'sources' if section.align is None else 'align'}]` of `{job_path}`"):
            return align(found, t0=section.t0, **how)
    except InvalidTelemetry as reason:
        if section.align is None:
            advice = f"{reason.advice} In a job file they stand beneath `[telemetry.align]`."
            raise reason.replace(advice=advice) from reason
        raise


def read_file(section: ReadingSection, path: pathlib.Path, *, partly: bool = False) -> Telemetry:
    """Read one file as a table of the job says.

    Args:
        section: The table.
        path: The file.
        partly: Whether columns may be absent.
    """
    settings: dict[str, Any] = section.model_dump(exclude=ELSEWHERE)
    units, rename = settings["units"], settings["rename"]
    if partly and path.is_file():
        there = signals_of(path, **settings)
        rename = {column: name for column, name in rename.items() if find(column, there) in there}
        there |= set(rename.values())
        units = {column: unit for column, unit in units.items() if find(column, there) in there}
        settings["fill"] = {name: how for name, how in settings["fill"].items() if find(name, there) in there}
        settings["drop"] = [
            one for one in settings["drop"] if one["column"] is None or find(one["column"], there) in there
        ]
    settings |= {"units": units, "rename": rename}
    telemetry = read_telemetry(path, **settings)
    return dataclasses.replace(telemetry, notices=tuple(map(as_toml, telemetry.notices)))


def in_place(section: TelemetrySection, path: pathlib.Path) -> TelemetrySection:
    """The table that reads another file in place of the job's own.

    One file in place of several holds what they become when aligned: their columns by their names in the twin, in the
    units of the sources, and times in UTC, or numbers, in a column `time`.
    """
    if not section.sources:
        return section.model_copy(update={"file": str(path), "dataset": None})
    units = {one.rename.get(name, name): unit for one in section.sources.values() for name, unit in one.units.items()}
    times = {one.time: "time" for one in section.sources.values()}
    units = {times.get(name, name): unit for name, unit in units.items()}
    t0, zones = section.t0, {one.timezone for one in section.sources.values()}
    if t0 is not None and not isinstance(t0, int | float) and len(zones) == 1:
        t0 = f"{time_in(t0, pd.DatetimeIndex([]), zones.pop(), 't0')}Z"  # the file declares no zone
    return TelemetrySection(file=str(path), units=units, t0=t0)


def kept_at(section: TelemetrySection, names: Mapping[str, str]) -> TelemetrySection:
    """The table that reads files which were copied to a place of their own: paths by source, see `files_of`."""
    if not section.sources:
        return section.model_copy(update={"file": names[""], "dataset": None})
    moved = {
        name: one.model_copy(update={"file": names[name], "dataset": None}) for name, one in section.sources.items()
    }
    return section.model_copy(update={"sources": moved})


def _sources(section: TelemetrySection) -> Mapping[str, ReadingSection]:
    return section.sources or {"": section}


def _file(section: ReadingSection, name: str, folder: pathlib.Path, job_path: pathlib.Path) -> pathlib.Path:
    if section.file is None:
        return datasets.find(section.dataset or "")
    path = folder / section.file
    if not path.is_file():
        there = sorted(found.relative_to(folder) for found in folder.glob("**/*") if found.suffix in usual_suffixes())
        table = f"telemetry.sources.{name}" if name else "telemetry"
        raise InvalidJob(
            f"Job file `{job_path}` names the telemetry file `{section.file}`, which is not there.",
            expected=f"a CSV, Parquet or netCDF file, its path counted from `{folder}`",
            received="in that folder: " + (", ".join(f"`{found}`" for found in there) or "no such file"),
            advice=f"Correct `file` in `[{table}]`.",
        )
    return path


# The features that a job declares, made of its telemetry before that is split, and looked at where it is.


def with_features(
    telemetry: Telemetry, job: Job, job_path: pathlib.Path, split: SplitSection, *, partly: bool = False
) -> Telemetry:
    """Telemetry with the features of a job.

    Args:
        telemetry: What was recorded.
        job: Has them in the tables `[features.NAME]`.
        job_path: Where it is, for messages.
        split: Says where the held-out part begins, of which statistics know nothing.
        partly: Whether those may be left out that are made of columns which are not there.

    Raises:
        InvalidTelemetry: As of `add_features`, naming the table.
    """
    if not job.features:
        return telemetry
    until = split.hold_out_from
    features = {name: _declared(section, telemetry, until) for name, section in job.features.items()}
    if partly:
        features = _possible(features, telemetry)
    with about_job(f"`[features]` of `{job_path}`"):
        return add_features(telemetry, features)


def continued(earlier: Telemetry, later: Telemetry) -> Telemetry:
    """Telemetry that goes on from what was recorded before it, so that features know what that was."""
    if earlier.dated != later.dated:
        return later
    before = earlier.table.loc[earlier.table.index < later.table.index[0]]
    table = pd.concat([before, later.table]).reindex(columns=list(dict.fromkeys([*earlier.table, *later.table])))
    units = {**earlier.units, **later.units}
    # moments in the declarations of features are on the clock of what was recorded
    settings = {} if earlier.timezone is None else {"timezone": earlier.timezone}
    return sealed(
        table.rename_axis("time"), units, later.t0, later.source, later.notices, settings, later.renamed, later.texts
    )


def check_driven(twin: Twin, calibration: Telemetry, held_out: Telemetry | None, job_path: pathlib.Path) -> None:
    """Refuse features that drive a twin where they are not known.

    Args:
        twin: The twin.
        calibration: What is calibrated.
        held_out: What is to be predicted; None for nothing.
        job_path: The job file, for messages.

    Raises:
        InvalidTelemetry: At first, where windows are not full yet, or in the held-out part.
    """
    driving = [name for name in made_of(calibration) if name in twin.inputs]
    table = calibration.table
    known = np.isfinite(table[driving].to_numpy(np.float64)).all(axis=1)
    if driving and known.any() and not known[0]:
        first = table.index[int(known.argmax())]
        moment = f'"{calibration.shown(first)}"' if calibration.dated else f"{float(first)!r}"
        late = driving[int(np.isnan(table[driving].to_numpy(np.float64)[0]).argmax())]
        raise InvalidTelemetry(
            f"The input `{late}` is a feature that is not known at first.",
            expected="a value from the start on: the twin is driven by it",
            received=f"none before {calibration.shown(first)}",
            advice=f"Begin there: `start = {moment}` in `[split]` of `{job_path}`. What was recorded before is used "
            "for features alone.",
        )
    if held_out is None:
        return
    unit = calibration.units.get("time", twin.time_unit)
    both = [elapsed(part.table.index, calibration.t0, unit, twin.time_unit) for part in (calibration, held_out)]
    last = float(both[0][-1])
    try:
        refuse_ahead(held_out, twin.inputs, twin.observations, last=last, times=both[1], time_unit=twin.time_unit)
    except InvalidTelemetry as reason:
        raise reason.within("In the part that is held out") from reason


def _declared(section: FeatureSection, telemetry: Telemetry, calibrated_until: Any) -> Feature:
    feature = KINDS[section.kind](**section.model_dump(exclude={"kind"}))
    if isinstance(feature, Standardized) and feature.until is None:
        until = calibrated_until
        if until is None:  # all is calibrated, the last row too
            last = telemetry.table.index[-1]
            until = last + pd.Timedelta(1, "ns") if telemetry.dated else float(np.nextafter(last, np.inf))
        return Standardized(feature.of, until)
    return feature


def _possible(features: Mapping[str, Feature], telemetry: Telemetry) -> dict[str, Feature]:
    """Those features whose columns are there."""
    there = {str(name) for name, values in telemetry.table.items() if np.isfinite(values.to_numpy(np.float64)).any()}
    found = {}
    for name, feature in features.items():
        readable = feature.made_of or not isinstance(feature, Expression)
        if readable and there.issuperset(feature.made_of):
            found[name] = feature
            there.add(name)
    return found
