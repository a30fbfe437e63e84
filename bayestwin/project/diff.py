"""What is different between two runs: what they were made from, how, and what came out."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import xarray as xr

from bayestwin.project.overlap import Agreement, agreements
from bayestwin.project.record import read_record
from bayestwin.project.run import POSTERIOR
from bayestwin.results.store import load

ABOUT = {
    "inputs": ("model", "twin", "twin_sha256", "telemetry_sha256", "job_file", "job_sha256", "inputs", "code_sha256"),
    "settings": ("command", "job", "resumed", "options"),
    "environment": ("versions", "environment", "host"),
    "outcome": ("status", "error", "summary"),
}
"""Which parts of a record belong together; what only tells runs apart, such as times, is in none."""


class Change(NamedTuple):
    """One thing that differs.

    Attributes:
        about: `inputs`, `twin`, `settings`, `environment`, `outcome` or `gates`.
        name: What it is: keys of the record, joined by dots.
        first: What the first run says; None where it says nothing.
        second: Likewise the second.
    """

    about: str
    name: str
    first: Any
    second: Any


class Difference(NamedTuple):
    """Two runs held against each other.

    Attributes:
        changes: What differs.
        agreements: The quantities that both have inferred.
        only_first: Quantities of the first alone.
        only_second: Quantities of the second alone.
        units: Unit of each observation of either.
    """

    changes: tuple[Change, ...]
    agreements: tuple[Agreement, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    units: Mapping[str, str]


def difference(first: pathlib.Path, second: pathlib.Path) -> Difference:
    """Hold two runs against each other.

    Args:
        first: Folder of a run.
        second: Folder of another.

    Raises:
        InvalidArtifact: If a record or a posterior is damaged.
    """
    records = [read_record(run) for run in (first, second)]
    changes = [
        change
        for about, names in ABOUT.items()
        for change in changed(about, *({name: record.get(name) for name in names} for record in records))
    ]
    changes += changed("gates", *(_gates(record) for record in records))
    paths = [run / POSTERIOR for run in (first, second)]
    if not all(path.is_file() for path in paths):
        return Difference(tuple(changes), (), (), (), {})
    trees = [load(path) for path in paths]
    told = [_described(tree.attrs.get("description")) for tree in trees]
    changes += changed("twin", *told)
    units = {str(n): str(o.get("unit") or "") for one in told for n, o in (one.get("observations") or {}).items()}
    ours, theirs = (tree["posterior"].to_dataset() for tree in trees)
    return Difference(tuple(changes), agreements(ours, theirs), _only(ours, theirs), _only(theirs, ours), units)


def changed(about: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Change]:
    """Leaves of two nested mappings that are not the same."""
    ours, theirs = _flat(first), _flat(second)
    names = [*ours, *(name for name in theirs if name not in ours)]
    pairs = ((name, ours.get(name), theirs.get(name)) for name in names)
    return [Change(about, name, a, b) for name, a, b in pairs if a != b]


def _only(one: xr.Dataset, other: xr.Dataset) -> tuple[str, ...]:
    """Names in one group of draws and not in another."""
    return tuple(str(name) for name in one.data_vars if name not in other.data_vars)


def _flat(value: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, one in value.items():
        if isinstance(one, Mapping):
            found |= _flat(one, f"{before}{key}.")
        elif one is not None:
            found[f"{before}{key}"] = one
    return found


def _gates(record: Mapping[str, Any]) -> dict[str, Any]:
    return {gate["name"]: "pass" if gate["passed"] else gate["severity"] for gate in record.get("gates") or ()}


def _described(description: Any) -> dict[str, Any]:
    """A description by names instead of places in lists, so that one more parameter is one change."""
    found = json.loads(description) if isinstance(description, str) else description or {}

    def named(value: Any) -> Any:
        if isinstance(value, list) and all(isinstance(one, Mapping) and "name" in one for one in value):
            return {str(one["name"]): {k: named(v) for k, v in one.items() if k != "name"} for one in value}
        if isinstance(value, Mapping):
            return {str(k): named(v) for k, v in value.items()}
        return value

    return named(found)
