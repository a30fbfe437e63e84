"""Public telemetry by name: from a local folder, else the user's cache, else its public source; hash-checked.

Nothing here ships with the package; each entry says where it comes from and under which licence, and how it is read.
"""

import functools
import hashlib
import http.client
import json
import os
import pathlib
import secrets
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bayestwin._base.process import cache_folder
from bayestwin.errors import InvalidTelemetry, StorageFailure
from bayestwin.telemetry.reading import read_experiments, read_telemetry
from bayestwin.telemetry.record import Telemetry

# What is known of each dataset: where it comes from, its files with their hashes, how they read as telemetry.


class File(NamedTuple):
    """One file of a dataset.

    Attributes:
        name: Path under `<folder>/<dataset>/`.
        sha256: Its hash.
        url: Public address of the very same bytes, at one commit; None where there is none.
    """

    name: str
    sha256: str
    url: str | None = None


class Record(NamedTuple):
    """How a file reads as telemetry.

    Attributes:
        file: Its name.
        settings: Arguments of `read_telemetry`.
        by: Columns that together name the experiment of each row; none where it is one record.
        skip: Lines of the file that hold neither names nor values, counted from 0.
        shape: Name of a function in `shapes`, for what is no table of rows by time.
    """

    file: str
    settings: Mapping[str, Any] = {}
    by: tuple[str, ...] = ()
    skip: tuple[int, ...] = ()
    shape: str | None = None


class Dataset(NamedTuple):
    """A dataset.

    Attributes:
        words: What it is.
        source: Public repository, commit and path.
        licence: Licence of the data.
        files: All files, what is read by default first, then reference results.
        records: How they read as telemetry; the first is the default.
        made: What stands between the public files and those without an address.
    """

    words: str
    source: str
    licence: str
    files: tuple[File, ...]
    records: tuple[Record, ...]
    made: str = ""


def read_registry() -> dict[str, Dataset]:
    """All datasets by name, from the table beside this module."""
    found = tomllib.loads(pathlib.Path(__file__).with_name("datasets.toml").read_text(encoding="utf-8"))
    return {name: _dataset(entry) for name, entry in found.items()}


def _dataset(entry: dict[str, Any]) -> Dataset:
    files = tuple(File(**file) for file in entry["files"])
    made = entry.get("made", "")
    records = tuple(_read_entry(dict(record)) for record in entry["records"])
    return Dataset(entry["words"], entry["source"], entry["licence"], files, records, made)


def _read_entry(entry: dict[str, Any]) -> Record:
    file, by, skip = entry.pop("file"), tuple(entry.pop("by", ())), tuple(entry.pop("skip", ()))
    shape = entry.pop("shape", None)
    return Record(file, entry, by, skip, shape)


__all__ = ["REGISTRY", "Dataset", "File", "Record", "describe", "find", "load", "names"]

REGISTRY: Mapping[str, Dataset] = read_registry()
"""All datasets, by name."""


def names() -> tuple[str, ...]:
    """Names of the datasets."""
    return tuple(REGISTRY)


def describe(name: str) -> str:
    """What a dataset is, where it comes from, its licence and files, as text of several lines.

    Raises:
        InvalidTelemetry: If the name is unknown.
    """
    dataset = _entry(name)
    read = {record.file: "telemetry" for record in dataset.records}
    lines = [f"{name}: {dataset.words}", f"  source: {dataset.source}", f"  licence: {dataset.licence}"]
    for file in dataset.files:
        where = "" if file.url else f"; cannot be downloaded ({dataset.made or 'no public address'})"
        lines.append(f"  {file.name}: {read.get(file.name, 'to go with it')}{where}")
    return "\n".join(lines)


def load(
    name: str, file: str | None = None, *, rename: Mapping[str, str] | None = None
) -> Telemetry | dict[str, Telemetry]:
    """Load a dataset as telemetry; its source and licence are printed to standard error, once.

    Args:
        name: One of `datasets.names()`.
        file: Which of its records, where it has several (`datasets.describe` lists them); by default the first.
        rename: Columns → names in a twin.

    Returns:
        The telemetry, or that of each experiment by its name, where the dataset is about several.

    Raises:
        InvalidTelemetry: If the name is unknown, the file is no record over time, or not the one that was published.
        StorageFailure: If the file is nowhere and cannot be downloaded.
    """
    record = _record(name, file)
    path = find(name, record.file)
    _say_source(f"{name}: {REGISTRY[name].source}. Licence: {REGISTRY[name].licence}.")
    settings = {**record.settings, "rename": rename}
    if record.shape is not None:
        data = SHAPES[record.shape](path)
    elif record.skip or record.by:
        data = pd.read_csv(path, skiprows=list(record.skip), comment="#", skipinitialspace=True)
    else:
        return read_telemetry(path, **settings)
    if not record.by:
        return read_telemetry(data, **settings)
    labels = data[list(record.by)].astype(str).agg(" ".join, axis=1)
    named = data.drop(columns=list(record.by)).assign(experiment=labels)
    return read_experiments(named, by="experiment", **settings)


def read_as(name: object) -> Mapping[str, Any]:
    """Arguments of `read_telemetry` for the first file of a dataset; none where that is no table of rows by time.

    Args:
        name: One of `datasets.names()`; of anything else nothing is known.
    """
    if not isinstance(name, str) or name not in REGISTRY:
        return {}
    record = REGISTRY[name].records[0]
    if record.shape is not None or record.file != REGISTRY[name].files[0].name:
        return {}
    skipped = {"skip_rows": [line + 1 for line in record.skip]} if record.skip else {}
    return {**record.settings, **skipped}


def find(name: str, file: str | None = None) -> pathlib.Path:
    """Path of a dataset's file, downloaded first where it has to be: telemetry or a reference result.

    Looks under `BAYESTWIN_DATA_DIR`, then in the user's cache (`BAYESTWIN_CACHE_DIR`, by default the system's place
    for caches).

    Args:
        name: One of `datasets.names()`.
        file: One of its files; by default the first.

    Raises:
        InvalidTelemetry: If a name is unknown, or the file is not the one that was published.
        StorageFailure: If the file is nowhere and cannot be downloaded, or has no public address.
    """
    found = _file(name, file)
    own = os.environ.get("BAYESTWIN_DATA_DIR")
    folders = [pathlib.Path(own)] if own else []
    folders.append(cache_folder())
    for folder in folders:
        path = folder / name / found.name
        if path.is_file():
            _check_hash(path.read_bytes(), found, str(path))
            return path
    data = _download(name, found)
    _check_hash(data, found, str(found.url))
    path = folders[-1] / name / found.name
    _keep(data, path)
    return path


def _entry(name: str) -> Dataset:
    if name not in REGISTRY:
        advice = "Read your own files with `bt.read_telemetry`."
        raise _unknown(f"There is no dataset `{name}`.", REGISTRY, name, advice)
    return REGISTRY[name]


def _file(name: str, file: str | None) -> File:
    files = {one.name: one for one in _entry(name).files}
    if file is None:
        return next(iter(files.values()))
    if file not in files:
        advice = "`bt.datasets.describe` says what they are."
        raise _unknown(f"Dataset `{name}` has no file `{file}`.", files, file, advice)
    return files[file]


def _record(name: str, file: str | None) -> Record:
    records = {record.file: record for record in _entry(name).records}
    if file is None:
        return next(iter(records.values()))
    if file not in records:
        _file(name, file)
        advice = f"Open it as what it is: `bt.datasets.find({name!r}, {file!r})` gives its path."
        words = f"`{file}` of dataset `{name}` is no record over time."
        raise _unknown(words, records, file, advice)
    return records[file]


def _unknown(words: str, known: Iterable[str], received: str, advice: str) -> InvalidTelemetry:
    listed = ", ".join(f"`{name}`" for name in known)
    return InvalidTelemetry(words, expected=listed, received=f"`{received}`", advice=advice)


@functools.cache
def _say_source(words: str) -> None:
    """Say something on standard error, the first time only."""
    sys.stderr.write(f"{words}\n")


def _check_hash(data: bytes, file: File, where: str) -> None:
    received = hashlib.sha256(data).hexdigest()
    if received != file.sha256:
        raise InvalidTelemetry(
            f"`{where}` is not the file that was published.",
            expected=f"sha256 {file.sha256}",
            received=f"sha256 {received}",
            advice="It was changed or damaged on the way: remove it to have it downloaded again.",
        )


def _download(name: str, file: File) -> bytes:
    if file.url is None:
        raise StorageFailure(
            f"`{file.name}` of dataset `{name}` is not on this machine.",
            expected=f"`{name}/{file.name}` under BAYESTWIN_DATA_DIR or in `{cache_folder()}`",
            received="no such file, and no public address of these very bytes",
            advice=f"It comes from {REGISTRY[name].source} ({REGISTRY[name].made or 'not published as it is'}).",
        )
    try:
        with urllib.request.urlopen(file.url, timeout=30) as response:
            return response.read()
    except (OSError, http.client.HTTPException) as reason:
        if isinstance(reason, urllib.error.HTTPError):
            reason.close()
        raise StorageFailure(
            f"Dataset `{name}` is not on this machine and cannot be downloaded.",
            expected=f"`{name}/{file.name}` under BAYESTWIN_DATA_DIR or in `{cache_folder()}`",
            received=f"{getattr(reason, 'reason', None) or reason or type(reason).__name__}",
            advice=f"Download {file.url} yourself and put it there.",
        ) from reason


def _keep(data: bytes, path: pathlib.Path) -> None:
    """Put a download into the cache, under its name only once it is whole."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as reason:
        raise StorageFailure(
            f"The download cannot be kept as `{path}`.",
            expected="a folder that can be written to",
            received=reason.strerror or str(reason),
            advice="Name another by BAYESTWIN_CACHE_DIR.",
        ) from reason


# Public files that are no tables of rows by time, laid out as such.


def sbibm_lotka_volterra(path: pathlib.Path) -> pd.DataFrame:
    """Ten values of prey, then ten of predators, from 0 to 18.9; one experiment an observation."""
    return _sbibm(path, np.arange(10) * 2.1, ("prey", "predators"))


def sbibm_sir(path: pathlib.Path) -> pd.DataFrame:
    """Ten counts of infected people out of 1,000, from 0 to 153; one experiment an observation."""
    return _sbibm(path, np.arange(10) * 17.0, ("infected",))


def sir(path: pathlib.Path) -> pd.DataFrame:
    """New infections since the time before, and bacteria, over time."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return pd.DataFrame({name: found[name] for name in ("t", "stoi_hat", "B_hat")})


def soil_carbon(path: pathlib.Path) -> pd.DataFrame:
    """Mean of the evolved CO2 and its standard deviation, over time."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return pd.DataFrame({name: found[name] for name in ("ts", "eCO2mean", "eCO2sd")})


def petab_measurements(path: pathlib.Path) -> pd.DataFrame:
    """The columns of a PEtab table of measurements that say what was observed when."""
    columns = ["observableId", "simulationConditionId", "measurement", "time"]
    return pd.read_csv(path, sep="\t", usecols=columns).loc[:, columns]


def _sbibm(path: pathlib.Path, times: np.ndarray, signals: tuple[str, ...]) -> pd.DataFrame:
    rows = pd.read_csv(path).set_index("num_observation").filter(like="data_")
    blocks = []
    for number, row in rows.iterrows():
        values = row.to_numpy(np.float64).reshape(len(signals), times.size)
        blocks.append(
            pd.DataFrame({"experiment": f"obs{number}", "time": times} | dict(zip(signals, values, strict=True)))
        )
    return pd.concat(blocks, ignore_index=True)


SHAPES = {
    "sbibm_lotka_volterra": sbibm_lotka_volterra,
    "sbibm_sir": sbibm_sir,
    "sir": sir,
    "soil_carbon": soil_carbon,
    "petab_measurements": petab_measurements,
}
"""How files that are no plain tables are read, by the name that the registry gives."""
