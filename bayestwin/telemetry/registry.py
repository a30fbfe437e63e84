"""What is known of each dataset: where it comes from, its files with their hashes, how they read as telemetry."""

import pathlib
import tomllib
from collections.abc import Mapping
from typing import Any, NamedTuple


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
    records = tuple(_record(dict(record)) for record in entry["records"])
    return Dataset(entry["words"], entry["source"], entry["licence"], files, records, made)


def _record(entry: dict[str, Any]) -> Record:
    file, by, skip = entry.pop("file"), tuple(entry.pop("by", ())), tuple(entry.pop("skip", ()))
    shape = entry.pop("shape", None)
    return Record(file, entry, by, skip, shape)
