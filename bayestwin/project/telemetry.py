"""The telemetry that a job names: its files, several of them as one or as assets, and the features made of it."""

import dataclasses
import pathlib
import re
import unicodedata
import urllib.parse
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bayestwin.density.bind import elapsed
from bayestwin.errors import InvalidJob, InvalidTelemetry
from bayestwin.model.twin import Twin
from bayestwin.project.job import about_job, as_toml
from bayestwin.project.sections import Job, SplitSection
from bayestwin.project.selected import selected_file
from bayestwin.project.telemetry_sections import KINDS, WHOLE_FILE, FeatureSection, ReadingSection, TelemetrySection
from bayestwin.telemetry import (
    Rows,
    Telemetry,
    align,
    datasets,
    read_rows,
    read_source,
    read_telemetry,
    rows_by,
    signals_of,
    time_in,
)
from bayestwin.telemetry.columns import find
from bayestwin.telemetry.derived import Feature
from bayestwin.telemetry.features import Expression, Standardized
from bayestwin.telemetry.leakage import add_features, made_of, refuse_ahead
from bayestwin.telemetry.record import sealed
from bayestwin.telemetry.selecting import refuse_open_order
from bayestwin.telemetry.sources import usual_suffixes

ELSEWHERE = {"file", "sources", "align", *WHOLE_FILE}
"""Keys of `[telemetry]` that are no arguments of `read_telemetry`, or have done their work once there is a file."""


TELEMETRY, ATTRIBUTES, POPULATION = "telemetry", "attributes", "population"
"""Folders of the copies that a run keeps of them."""


def files_of(job: Job, folder: pathlib.Path, job_path: pathlib.Path) -> dict[str, pathlib.Path]:
    """Every file that telemetry is made of, by the path that a copy of it has: what `kept_at` reads again.

    Args:
        job: The job.
        folder: The model's.
        job_path: The job file, for messages.

    Raises:
        InvalidJob: If a file that the job names is not there; for a dataset the errors of `datasets.find`.
    """
    kept = {}
    for source, path in _sources_at(job, folder, job_path).items():
        place = "/".join(filter(None, (TELEMETRY, source, path.name)))
        listed = [path]
        if job.fleet is not None and path.is_dir():
            listed = [file for files in files_in(path, job.fleet.by).values() for file in files]
        kept |= {place if one == path else f"{place}/{one.relative_to(path).as_posix()}": one for one in listed}
    if job.fleet is not None and job.fleet.attributes is not None:
        path = _there(job.fleet.attributes, folder, job_path, "`attributes` in `[fleet]`")
        kept[f"{ATTRIBUTES}/{path.name}"] = path
    if (path := population_at(job, folder, job_path)) is not None:
        kept[f"{POPULATION}/{path.name}"] = path
    return kept


def population_at(job: Job, folder: pathlib.Path, job_path: pathlib.Path) -> pathlib.Path | None:
    """The posterior of other assets that a job starts from, if it names one; arguments and errors as of `files_of`."""
    if job.population is None:
        return None
    path = folder / job.population.posterior
    if path.is_file():
        return path
    raise InvalidJob(
        f"Job file `{job_path}` names the posterior `{job.population.posterior}`, which is not there.",
        expected=f"a file `posterior.nc` that `bayestwin calibrate` left, its path counted from `{folder}`",
        received="no such file",
        advice="Correct `posterior` in `[population]`, or calibrate the other assets first.",
    )


def _sources_at(job: Job, folder: pathlib.Path, job_path: pathlib.Path) -> dict[str, pathlib.Path]:
    """The file of each source by its name; of the only one, which has none, by an empty name; a fleet's may be one."""
    known = _sources(job.telemetry)
    return {name: _file(one, name, folder, job_path, fleet=job.fleet is not None) for name, one in known.items()}


def read_sources(job: Job, folder: pathlib.Path, job_path: pathlib.Path) -> Telemetry:
    """All telemetry that a job names; arguments and errors as of `files_of`, `read_telemetry` and `align`."""
    section, files = job.telemetry, _sources_at(job, folder, job_path)
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
    if partly and path.is_file():
        settings = _told_of(settings, signals_of(path, **settings))
    telemetry = read_telemetry(path, **settings)
    return dataclasses.replace(telemetry, notices=tuple(map(as_toml, telemetry.notices)))


def _told_of(settings: Mapping[str, Any], columns: Iterable[str]) -> dict[str, Any]:
    """Settings of reading without what they say of other columns than these."""
    there, found = set(columns), dict(settings)
    found["rename"] = {name: new for name, new in settings["rename"].items() if find(name, there) in there}
    there |= set(found["rename"].values())
    for key in {"units", "fill"} & settings.keys():
        found[key] = {name: one for name, one in settings[key].items() if find(name, there) in there}
    if "drop" in settings:
        unnamed = [one for one in settings["drop"] if one["column"] is None or find(one["column"], there) in there]
        found["drop"] = unnamed
    return found


def in_place(section: TelemetrySection, path: pathlib.Path) -> TelemetrySection:
    """The table that reads another file in place of the job's own.

    One file in place of several holds what they become when aligned: their columns by their names in the twin, in the
    units of the sources, and times in UTC, or numbers, in a column `time`.
    """
    if not section.sources:
        return section.model_copy(update={"file": str(path), **WHOLE_FILE})
    units = {one.rename.get(name, name): unit for one in section.sources.values() for name, unit in one.units.items()}
    times = {one.time: "time" for one in section.sources.values()}
    units = {times.get(name, name): unit for name, unit in units.items()}
    t0, zones = section.t0, {one.timezone for one in section.sources.values()}
    if t0 is not None and not isinstance(t0, int | float) and len(zones) == 1:
        t0 = f"{time_in(t0, pd.DatetimeIndex([]), zones.pop(), 't0')}Z"  # the file declares no zone
    return TelemetrySection(file=str(path), units=units, t0=t0)


def kept_at(job: Job, kept: Sequence[str]) -> Job:
    """The job that reads files which were copied to a place of their own.

    Args:
        job: As it was carried out.
        kept: Paths of the copies, as `files_of` has them.
    """
    section, copies = job.telemetry, [name.split("/") for name in kept if name.startswith(f"{TELEMETRY}/")]
    if section.sources:
        at = {name: "/".join((TELEMETRY, name, file)) for _, name, file in copies}
        moved = {n: one.model_copy(update={"file": at[n], **WHOLE_FILE}) for n, one in section.sources.items()}
        changes: dict[str, Any] = {"telemetry": section.model_copy(update={"sources": moved})}
    else:  # of a fleet this may be a folder
        changes = {"telemetry": section.model_copy(update={"file": "/".join(copies[0][:2]), **WHOLE_FILE})}
    if job.fleet is not None:
        attributes = next((name for name in kept if name.startswith(f"{ATTRIBUTES}/")), None)
        changes["fleet"] = job.fleet.model_copy(update={"attributes": attributes})
    if job.population is not None:
        posterior = next(name for name in kept if name.startswith(f"{POPULATION}/"))
        changes["population"] = job.population.model_copy(update={"posterior": posterior})
    return job.model_copy(update=changes)


def _sources(section: TelemetrySection) -> Mapping[str, ReadingSection]:
    return section.sources or {"": section}


def _file(section: ReadingSection, name: str, folder: pathlib.Path, job_path: pathlib.Path, *, fleet: bool) -> Any:
    if section.dataset is not None:
        return datasets.find(section.dataset)
    table = f"`[{f'telemetry.sources.{name}' if name else 'telemetry'}]`"
    path = folder
    if section.file is not None:
        path = _there(section.file, folder, job_path, f"`file` in {table}", folders=True)
    narrowed = bool(section.filters) or section.columns is not None
    if section.database is None and not narrowed and (fleet or not path.is_dir()):
        return path
    with about_job(f"{table} of `{job_path}`"):
        refuse_open_order(section, section.duplicates, section.ambiguous)
        return selected_file(section, path)


def _there(name: str, folder: pathlib.Path, job_path: pathlib.Path, key: str, *, folders: bool = False) -> pathlib.Path:
    """A file that a job names, or a folder of them."""
    path = folder / name
    if path.is_file() or (folders and path.is_dir()):
        return path
    there = sorted(found.relative_to(folder) for found in folder.glob("**/*") if found.suffix in usual_suffixes())
    raise InvalidJob(
        f"Job file `{job_path}` names the telemetry file `{name}`, which is not there.",
        expected=f"a CSV, Parquet or netCDF file{', or a folder of them' * folders}, its path counted from `{folder}`",
        received="in that folder: " + (", ".join(f"`{found}`" for found in there) or "no such file"),
        advice=f"Correct {key}.",
    )


# The assets of a fleet: a long table, a folder of files or a partitioned dataset, and what is known of each by name.


class FleetTelemetry(NamedTuple):
    """What was recorded of a fleet.

    Attributes:
        assets: Telemetry of each, in the order of their names.
        set_aside: Why an asset that was named is left out, by its name.
    """

    assets: dict[str, Telemetry]
    set_aside: dict[str, str]


class Attributes(NamedTuple):
    """What is known of assets beside their telemetry: the name in each row, and the rows."""

    names: list[str]
    table: Telemetry


def read_fleet(job: Job, folder: pathlib.Path, job_path: pathlib.Path) -> FleetTelemetry:
    """The telemetry of each asset that a job names, with its attributes as constant columns.

    Raises:
        InvalidJob: As of `files_of`.
        InvalidTelemetry: If names of assets collide or cannot be used, an asset lacks attributes or has a unit of its
            own, or `read_telemetry` refuses what was recorded of one: all that is wrong, by name.
    """
    assert job.fleet is not None
    (path,) = _sources_at(job, folder, job_path).values()
    with about_job(f"`[telemetry]` of `{job_path}`"):
        return read_assets(job, path, known_attributes(job, folder, job_path))


def read_assets(job: Job, path: pathlib.Path, known: Attributes | None, *, partly: bool = False) -> FleetTelemetry:
    """As `read_fleet`, from any file or folder that is laid out as the job's own.

    Args:
        job: Says how.
        path: The file or folder.
        known: What `known_attributes` gave.
        partly: Whether columns, and attributes, may be absent.
    """
    assert job.fleet is not None
    section, by = job.telemetry, job.fleet.by
    rows, of_each = _rows_of(section, path, by)
    empty = {name: f"Asset `{name}` has no rows." for name, own in rows.items() if own.table.empty}
    names = [] if known is None else known.names
    wrong = _misnamed({*rows, *names})
    if repeated := [name for name, num in Counter(names).items() if num > 1]:
        wrong.append(
            InvalidTelemetry(
                "`attributes` in `[fleet]` has several rows of one asset.",
                expected="one row an asset",
                received=", ".join(f"`{name}`" for name in repeated),
                advice="Leave one row of each.",
            )
        )
    without = [] if known is None else list(rows.keys() - empty.keys() - set(names))
    if without and not partly:
        wrong.append(_without_attributes(without, names))
    found: dict[str, Telemetry] = {}
    for name in sorted(rows.keys() - empty.keys(), key=in_order):
        try:
            found[name] = _with_attributes(_asset(section, rows[name], known, partly=partly), name, known)
        except InvalidTelemetry as reason:
            of_each.append((name, reason))
    wrong += [*of_assets(of_each), *_units_of_their_own(found)]
    if wrong:
        raise InvalidTelemetry.all_of(wrong)
    if not found:
        raise InvalidTelemetry(
            f"No asset is left in `{path}`.",
            expected="rows of at least one asset",
            received=" ".join(empty.values()) or "an empty folder",
            advice="Check `file` in `[telemetry]`.",
        )
    if not partly:
        stray = [name for name in names if name not in rows]
        empty |= {name: f"Asset `{name}` has attributes, and no telemetry." for name in stray}
    return FleetTelemetry(found, dict(sorted(empty.items(), key=lambda one: in_order(one[0]))))


def files_in(folder: pathlib.Path, by: str) -> dict[str, list[pathlib.Path]]:
    """The files of each asset in a folder: one of its name, or all within `by=…`, as partitioned datasets have them.

    Raises:
        InvalidTelemetry: If one asset has several files.
    """
    found: dict[str, list[pathlib.Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name.startswith(f"{by}="):
            name = urllib.parse.unquote(path.name.removeprefix(f"{by}="))
            inside = [one for one in sorted(path.rglob("*")) if one.is_file() and one.name[0] not in "._"]
            found[name] = [one for one in inside if one.suffix.lower() in usual_suffixes()]
        elif path.is_file() and path.name[0] not in "._" and path.suffix.lower() in usual_suffixes():
            found.setdefault(path.stem, []).append(path)
    twice = {name: own for name, own in found.items() if len(own) > 1 and own[0].parent == folder}
    if twice:
        raise InvalidTelemetry(
            f"Folder `{folder}` has several files of one asset.",
            expected="one file an asset, named as it is",
            received="; ".join(", ".join(f"`{one.name}`" for one in own) for own in twice.values()),
            advice="Leave one of each there.",
        )
    return found


def in_order(name: str) -> list[Any]:
    """By what assets are sorted: `cell 2` comes before `cell 10`."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"([0-9]+)", name))] + [name]


def _rows_of(
    section: TelemetrySection, path: pathlib.Path, by: str
) -> tuple[dict[str, Rows], list[tuple[str, InvalidTelemetry]]]:
    """The rows of each asset, as they stand; and what is wrong with those that cannot be read."""
    reading = (section.separator, section.decimal, section.skip_rows)
    if path.is_file():
        return rows_by(read_source(path, *reading, by), by), []
    found, wrong = {}, []
    for name, files in files_in(path, by).items():
        try:
            found[name] = _one_table([read_source(one, *reading) for one in files if one.stat().st_size])
        except InvalidTelemetry as reason:
            wrong.append((name, reason))
    return found, wrong


def of_assets(wrong: Iterable[tuple[str, InvalidTelemetry]]) -> list[InvalidTelemetry]:
    """What is wrong with assets, each error with their names: once where it is the same of several."""
    alike: dict[str, list[tuple[str, InvalidTelemetry]]] = {}
    for name, reason in wrong:
        alike.setdefault(str(reason), []).append((name, reason))
    told = []
    for pairs in alike.values():
        names = ", ".join(f"`{name}`" for name, _ in pairs)
        told.append(pairs[0][1].within(f"Of asset {names}" if len(pairs) == 1 else f"Of {len(pairs)} assets ({names})"))
    return told


def _one_table(parts: Sequence[Rows]) -> Rows:
    """Rows of the files of one partition, which are parts of one table."""
    if not parts:
        return Rows(pd.DataFrame(), "no file", {})
    return parts[0] if len(parts) == 1 else parts[0]._replace(table=pd.concat([one.table for one in parts]))


def _asset(section: TelemetrySection, rows: Rows, known: Attributes | None, *, partly: bool) -> Telemetry:
    """What was recorded of one asset; units and names of attributes are not looked for in it."""
    settings: dict[str, Any] = section.model_dump(exclude=ELSEWHERE)
    there = {str(column) for column in rows.table.columns} if section.layout == "wide" else set()
    if known is not None:
        columns = {*known.table.table.columns, *known.table.texts}
        told = {*columns, *(find(name, known.table.renamed.values()) for name in section.rename)}
        settings["rename"] = {name: new for name, new in section.rename.items() if new not in columns}
        settings["units"] = {name: unit for name, unit in section.units.items() if find(name, told) not in told}
    if partly and there:
        settings = _told_of(settings, there)
    telemetry = read_rows(rows, **settings)
    return dataclasses.replace(telemetry, notices=tuple(map(as_toml, telemetry.notices)))


def known_attributes(job: Job, folder: pathlib.Path, job_path: pathlib.Path) -> Attributes | None:
    """The attributes of assets; None where the job names none.

    Raises:
        InvalidJob: If there is no such file.
        InvalidTelemetry: If it names no assets, or a value cannot be read.
    """
    assert job.fleet is not None
    section, by = job.telemetry, job.fleet.by
    if job.fleet.attributes is None:
        return None
    path = _there(job.fleet.attributes, folder, job_path, "`attributes` in `[fleet]`")
    with about_job(f"`attributes` in `[fleet]` of `{job_path}`"):
        rows = read_source(path, section.separator, section.decimal, text=by)
        rows_by(rows, by)  # refuses what names no assets
        listed = rows.table[find(by, map(str, rows.table.columns))].astype(str)
        table = rows.table.drop(columns=listed.name).set_axis(pd.Index(np.arange(float(len(listed))), name=" row"))
        there = {str(column) for column in table.columns}
        own = {"time": " row", "sentinels": section.sentinels, "decimal": section.decimal}
        own |= _told_of({"rename": section.rename, "units": section.units}, there)
        read = read_rows(rows._replace(table=table), **own)
    return Attributes(listed.tolist(), read)


def _with_attributes(one: Telemetry, name: str, known: Attributes | None) -> Telemetry:
    """Telemetry with the attributes of its asset as constant columns; those that are not known are left out."""
    if known is None or name not in known.names:
        return one
    table = known.table.table
    if taken := [column for column in table if column in one.table]:
        raise InvalidTelemetry(
            "Attributes and telemetry have columns of one name.",
            expected="a name of its own for each",
            received=", ".join(f"`{column}`" for column in taken),
            advice="Rename the column of one of them, or leave it out there.",
        )
    values = table.iloc[known.names.index(name)]
    told = {str(column): float(value) for column, value in values.items() if np.isfinite(value)}
    units = {**one.units, **{column: unit for column, unit in known.table.units.items() if column in told}}
    renamed, texts = {**one.renamed, **known.table.renamed}, {**one.texts, **known.table.texts}
    return sealed(one.table.assign(**told), units, one.t0, one.source, one.notices, one.settings, renamed, texts)


DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that are no files on some systems."""


def _misnamed(names: Iterable[str]) -> list[InvalidTelemetry]:
    """What is wrong with names of assets: they become names of files, and stand for one asset each."""
    wrong, alike = [], {}
    strange = [name for name in names if not name.strip() or re.search(r"[/\\\x00-\x1f]|^\.+$", name)]
    strange += [name for name in names if DEVICES.fullmatch(name)]
    for name in names:
        alike.setdefault(unicodedata.normalize("NFKC", name).strip().casefold(), []).append(name)
    if strange:
        wrong.append(
            InvalidTelemetry(
                "Assets have names that cannot be used.",
                expected="names that files may have everywhere: without `/` and `\\`, and not `CON` and its like",
                received=", ".join(f"`{name}`" for name in sorted(strange)),
                advice="Rename them.",
            )
        )
    if twins := sorted(", ".join(f"`{name}`" for name in sorted(own)) for own in alike.values() if len(own) > 1):
        wrong.append(
            InvalidTelemetry(
                "Assets have names that differ by case, blanks or the form of letters alone.",
                expected="one name an asset, written alike everywhere",
                received="; ".join(twins),
                advice="Write them alike where they are one asset; else rename one.",
            )
        )
    return wrong


def _without_attributes(without: Sequence[str], names: Sequence[str]) -> InvalidTelemetry:
    return InvalidTelemetry(
        f"{'An asset has' if len(without) == 1 else 'Assets have'} telemetry, and no attributes.",
        expected="a row of each asset in the file that `attributes` in `[fleet]` names",
        received=", ".join(f"`{name}`" for name in sorted(without, key=in_order))
        + f"; it has {len(set(names))} others",
        advice="Add them there, or leave out their telemetry.",
    )


def _units_of_their_own(assets: Mapping[str, Telemetry]) -> list[InvalidTelemetry]:
    """Refuse units that some assets state and others do not: which is right cannot be told."""
    wrong = []
    for column in dict.fromkeys(name for one in assets.values() for name in (*one.table.columns, "time")):
        by_unit: dict[str, list[str]] = {}
        for name, one in assets.items():
            if column in one.table.columns or (column == "time" and not one.dated):
                by_unit.setdefault(one.units.get(column, "none"), []).append(name)
        usual = max(by_unit, key=lambda unit: len(by_unit[unit]), default="none")
        told = [f"{', '.join(f'`{name}`' for name in own)}: {unit}" for unit, own in by_unit.items() if unit != usual]
        if told:
            wrong.append(
                InvalidTelemetry(
                    f"Column `{column}` states a unit of its own for some assets.",
                    expected=f"one unit for all; most have {usual}",
                    received="; ".join(told),
                    advice="Write what was recorded of them in the unit of the others.",
                )
            )
    return wrong


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
