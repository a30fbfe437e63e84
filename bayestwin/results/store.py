"""Results on disk: `save` and `load`, durable and verified, plus durable text files.

A file is a netCDF4 file followed by one line with its SHA-256, and at every moment the old one or the new,
whole. Nothing in it is ever run: `load` reads numbers, text and JSON, and refuses links to other files.
"""

import contextlib
import datetime as dt
import hashlib
import io
import json
import os
import pickletools
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import h5py
import numpy as np
import pandas as pd
import xarray as xr

from bayestwin import errors
from bayestwin._base.files import local_path, refuse_reaching_out
from bayestwin.results.durable import (
    LOCKLESS,
    check_writable,
    sweep_orphans,
    without_locks,
    write_bytes_durably,
    write_text_durably,
)

__all__ = [
    "SCHEMA_VERSION",
    "check_writable",
    "load",
    "save",
    "sweep_orphans",
    "write_bytes_durably",
    "write_text_durably",
]


def save(tree: xr.DataTree, path: str | os.PathLike[str]) -> Path:
    """Write a result to a netCDF4 file: afterwards the file is the new one, whole, or still the old one.

    The same tree gives the same bytes. `load` gives back dimensions, dtypes, bits, names, orders and attributes
    (booleans, None, lists and mappings among these are JSON text in the file). What would not come back is refused.
    What changes: times with a time zone become UTC (naive, with the attribute `time_zone="UTC"`); text gets NumPy's
    own dtype of the least width; tuples and arrays among attributes become lists, and NumPy's numbers there
    Python's; a root without `schema_version` gets it. A missing folder is made.

    Args:
        tree: What `calibrate` or `predict` returned, or any tree with numbers, booleans, times and text.
        path: Where to write, usually `<name>.nc`; an existing file is replaced.

    Returns:
        The path that was written.

    Raises:
        InvalidInput: Something in the tree cannot be stored, or its posterior has draws that are not finite.
        UnsafeArtifact: `path` is the address of something remote.
        StorageFailure: No space, no permission, no such folder. The old file is then as it was.
    """
    location = local_path(path)
    if not isinstance(tree, xr.DataTree):
        raise errors.InvalidInput(
            f"Only a tree can be saved to `{location}`.",
            expected="an xarray.DataTree",
            received=f"an object of type `{type(tree).__name__}`",
            advice="Make one by `xarray.DataTree.from_dict({'posterior': dataset})`.",
        )
    if bad := _nonfinite_variables(tree):
        raise errors.InvalidInput(
            f"The posterior has draws that are not finite, so it is not saved to `{location}`.",
            expected="finite numbers in every variable of the group `posterior`",
            received=f"NaN or infinity in {bad}",
            advice="Drop these draws, or calibrate again; `load` would refuse the file.",
        )
    body = to_bytes(_with_schema(tree))
    return write_bytes_durably(location, body, trailer(body))


def load(path: str | os.PathLike[str]) -> xr.DataTree:
    """Read a result that `save` wrote, after checking that it is whole, safe and of a known schema.

    Everything is read into memory and the file is closed, so that it may be overwritten at any time.

    Args:
        path: The file.

    Returns:
        The tree as it was saved.

    Raises:
        CorruptArtifact: The file is damaged, cut off, changed since it was written, or full of NaN.
        UnsafeArtifact: The file could run code or reach other files, or `path` is a remote address.
        NewerSchema: A newer version of `bayestwin` wrote it.
        InvalidArtifact: There is no such file, or something else wrote it.
        StorageFailure: The file system cannot read it.
    """
    location = local_path(path)
    data = read_whole(location)
    # The sum first: damage to the first bytes of a file of ours does not make it foreign.
    sealed = is_sealed(data, location)
    refuse_other_formats(data, location)
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            refuse_reaching_out(file, location, size=len(data))
            refuse_other_schema(file, location)
        if not sealed:
            refuse_damaged(
                f"`{location}` was cut off, or changed by another program, since it was written.",
                received="a file of bayestwin without a last line with the sha256 of all before it",
            )
        tree = from_bytes(data)
    except FAILURES as failure:
        refuse_damaged(
            f"`{location}` is damaged or cut off: it cannot be read to its end.",
            received=f"{type(failure).__name__}: {failure}",
        )
    if bad := _nonfinite_variables(tree):
        raise errors.CorruptArtifact(
            f"`{location}` holds a posterior that is not finite.",
            expected="finite numbers in every variable of the group `posterior`",
            received=f"NaN or infinity in {bad}",
            advice="Calibrate again: a posterior with such draws must not be used.",
        )
    return tree


def _with_schema(tree: xr.DataTree) -> xr.DataTree:
    """Give a tree whose root says its schema, or raise `InvalidInput` if it says one of another version."""
    found = tree.attrs.get("schema_version", SCHEMA_VERSION)
    if not isinstance(found, int | np.integer) or not 1 <= found <= SCHEMA_VERSION:
        raise errors.InvalidInput(
            "The tree cannot be saved: this version of bayestwin does not know its `schema_version`.",
            expected=f"a whole number from 1 to {SCHEMA_VERSION}, or none",
            received=repr(found),
            advice="Drop the attribute, or upgrade: `pip install --upgrade bayestwin`.",
        )
    complete = tree.copy()
    complete.attrs = {**tree.attrs, "schema_version": int(found)}
    return complete


def _nonfinite_variables(tree: xr.DataTree) -> str:
    """Name the variables of the group `posterior` with NaN or infinities, as "`alpha` (3 of 4000 values)"."""
    if "posterior" not in tree.children:
        return ""
    found = []
    for name, variable in tree["posterior"].data_vars.items():
        count = int((~np.isfinite(variable.values)).sum()) if variable.dtype.kind == "f" else 0
        found += [f"`{name}` ({count} of {variable.size} values)"] if count else []
    return ", ".join(found)


# A tree as the bytes of a netCDF4 file, and back: xarray and h5netcdf, with little around them.
#
# Attributes that netCDF does not have become JSON text and are named by the attribute `json_attributes`; times with
# a zone become UTC. The netCDF4 library would not do: in memory it writes the time of day into a file, so that the
# same tree would give other bytes each time.

_JSON = "json_attributes"
_NUMBERS = {np.dtype(code) for code in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8")}
_UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_TIMES = {np.dtype(f"{kind}8[{unit}]"): word for unit, word in _UNITS.items() for kind in "mM"}
_COMPRESSED = {"zlib": True, "complevel": 1, "shuffle": True, "fletcher32": True}
#: What the libraries raise at what they cannot write or read.
FAILURES = (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError)


def to_bytes(tree: xr.DataTree) -> bytes:
    """Write a tree in memory, and make sure that it would come back.

    Args:
        tree: Any tree.

    Returns:
        A whole netCDF4 file, the same for the same tree.

    Raises:
        InvalidInput: Something in it cannot be stored, or would not come back the same.
    """
    try:
        plain = _each(tree, _plain_dataset)
        stored = _each(plain, lambda dataset: _with_attributes(dataset, _stored_attributes))
        data = bytes(stored.to_netcdf(engine="h5netcdf"))
        with _opened(data) as back:
            changed = _first_change(back, plain)
    except FAILURES as failure:
        raise _unstorable("the tree", f"{type(failure).__name__}: {failure}") from failure
    if changed:
        raise _unstorable(changed, "a name, values or attributes that would come back changed")
    return data


def from_bytes(data: bytes) -> xr.DataTree:
    """Read what `to_bytes` wrote, whole, into memory."""
    with _opened(data) as tree:
        # Not `tree.load()`, which leaves out variables that are named as a group is.
        return _each(tree, lambda dataset: dataset.load().drop_encoding())


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[xr.DataTree]:
    """Open a file in memory; its values are read when they are asked for."""
    # Times come back as fine as they were, and numbers with units such as "s" or "days" stay numbers.
    times = xr.coders.CFDatetimeCoder(use_cftime=False, time_unit="s")
    spans = xr.coders.CFTimedeltaCoder(decode_via_units=False)
    with xr.open_datatree(io.BytesIO(data), engine="h5netcdf", decode_times=times, decode_timedelta=spans) as tree:
        yield _each(tree, lambda dataset: _with_attributes(dataset, _read_attributes))


def _each(tree: xr.DataTree, change: Callable[[xr.Dataset], xr.Dataset]) -> xr.DataTree:
    """Change the dataset of each node, without what it inherits."""
    return xr.DataTree.from_dict({node.path: change(node.to_dataset(inherit=False)) for node in tree.subtree})


def _with_attributes(dataset: xr.Dataset, change: Callable[[Mapping[Any, Any]], dict[str, Any]]) -> xr.Dataset:
    """Change all attributes of a dataset, and nothing else."""
    new = dataset.copy()
    for holder in (new, *new.variables.values()):
        holder.attrs = change(holder.attrs)
    return new


def _plain_dataset(dataset: xr.Dataset) -> xr.Dataset:
    """Give a dataset as it will come back, with what xarray is to know about writing it."""
    for name in [*dataset.variables, *dataset.sizes]:
        if not isinstance(name, str) or not name.isidentifier():
            raise _unstorable(f"the name {name!r}", "a name of more than letters, digits and `_`")
    variables = {name: _plain_variable(variable, f"`{name}`") for name, variable in dataset.variables.items()}
    return xr.Dataset(variables, attrs=_plain_attributes(dataset.attrs)).set_coords(list(dataset.coords))


def _plain_variable(variable: xr.Variable, where: str) -> xr.Variable:
    """Give a variable of numbers, booleans, naive times or text; numbers compressed and with check sums."""
    values, notes = _without_time_zone(variable, where)
    dtype = values.dtype.newbyteorder("=")
    encoding: dict[str, Any] = dict(_COMPRESSED) if variable.ndim else {}
    if dtype.kind in "UOT" and all(isinstance(text, str) and "\0" not in text for text in values.flat):
        dtype, encoding = values.astype(object).astype(str).dtype, {}
    elif dtype in _TIMES:
        since = " since 1970-01-01" if dtype.kind == "M" else ""
        encoding |= {"dtype": "int64", "units": _TIMES[dtype] + since}
    elif dtype not in _NUMBERS:
        raise _unstorable(f"the values of {where}", f"dtype `{dtype}`")
    elif dtype.kind == "f":
        encoding["_FillValue"] = None
    attributes = _plain_attributes({**variable.attrs, **notes})
    return xr.Variable(variable.dims, values.astype(dtype, copy=False), attributes, encoding)


def _without_time_zone(variable: xr.Variable, where: str) -> tuple[np.ndarray, dict[str, str]]:
    """Turn times with a time zone, or Python's own times, into NumPy's; a note says which had a zone."""
    zoned = isinstance(variable.dtype, pd.DatetimeTZDtype) and variable.ndim
    values = np.asarray(variable.to_index().astype(object) if zoned else variable.values)
    if values.dtype != object or not any(isinstance(value, dt.datetime) for value in values.flat):
        return values, {}
    aware = {getattr(value, "tzinfo", None) is not None for value in values.flat if not pd.isna(value)}
    if len(aware) > 1:
        raise _unstorable(f"the values of {where}", "times with and without a time zone")
    times = pd.DatetimeIndex(pd.to_datetime(values.ravel(), utc=True)).tz_convert(None)
    return times.to_numpy().reshape(values.shape), {"time_zone": "UTC"} if aware == {True} else {}


def _plain_attributes(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """Give attributes in Python's own types, as they will come back."""
    return {name: _plain(value, f"the attribute `{name}`") for name, value in attributes.items()}


def _plain(value: Any, where: str) -> Any:
    """Take the value of an attribute apart into what JSON knows."""
    if isinstance(value, np.generic | np.ndarray) and value.dtype.kind in "biufU":
        value = value.tolist()
    if value is None or isinstance(value, bool):
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, list | tuple):
        return [_plain(element, where) for element in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {str(key): _plain(element, where) for key, element in value.items()}
    raise _unstorable(where, f"a `{type(value).__name__}`, or a mapping with keys that are not text")


def _stored_attributes(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """Keep text and numbers; turn all else into JSON text, and name what was turned."""
    stored = dict(attributes)
    as_json = []
    for name, value in attributes.items():
        whole = type(value) is int and -(2**63) <= value < 2**63
        if not whole and not isinstance(value, str | float):
            stored[name] = json.dumps(value, ensure_ascii=False)
            as_json.append(name)
    return {**stored, _JSON: " ".join(as_json)} if as_json else stored


def _read_attributes(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """Turn attributes back into Python's own types."""
    read = {name: value.tolist() if isinstance(value, np.generic) else value for name, value in attributes.items()}
    as_json = read.pop(_JSON, "").split()
    return read | {name: json.loads(read[name]) for name in as_json}


def _first_change(new: xr.DataTree, old: xr.DataTree) -> str:
    """Name what a file changes; numbers are not read for this, since they are stored as they are."""
    for one, two in zip(new.subtree, old.subtree, strict=True):
        back, kept = one.to_dataset(inherit=False), two.to_dataset(inherit=False)
        if (one.path, list(back.variables), set(back.coords)) != (two.path, list(kept.variables), set(kept.coords)):
            return f"the group `{two.path}`"
        if repr(back.attrs) != repr(kept.attrs):
            return f"the attributes of the group `{two.path}`"
        for name, variable in kept.variables.items():
            read = back.variables[name]
            same = (read.dims, read.dtype, repr(read.attrs)) == (variable.dims, variable.dtype, repr(variable.attrs))
            if not same or (variable.dtype.kind in "mMU" and not read.equals(variable)):
                return f"`{name}` of the group `{two.path}`"
    return ""


def _unstorable(what: str, received: str) -> errors.InvalidInput:
    """The error that something cannot be stored."""
    return errors.InvalidInput(
        f"A file cannot hold {what}.",
        expected="numbers of up to 64 bits, booleans, text, times in s, ms, us or ns; attributes that JSON can hold",
        received=received,
        advice="Rename it, convert it, for example by `.astype('float64')`, or drop it.",
    )


# What a file must be before any of its values is read: local, whole, of ours, of a known schema, closed in itself.
#
# A file is netCDF4 followed by one line with the SHA-256 of all before it. HDF5 ignores what follows its own end, so
# that the file opens everywhere as if the line were not there.

#: The version of the layout of files, stored as the root attribute `schema_version`.
SCHEMA_VERSION = 1
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_TRAILER = re.compile(rb"\nbayestwin sha256 ([0-9a-f]{64})\n\Z")
_LENGTH = len(b"\nbayestwin sha256 \n") + 64
_CAUSES = "Likely causes: an interrupted copy, a full or failing disk, or another program that changed the file."
_WRITTEN = "a netCDF4 file written by `bayestwin.save`"
_PICKLE_SUFFIXES = {".pkl", ".pickle", ".joblib", ".dill"}
_PICKLE_LIMIT = 1 << 20


def read_whole(path: Path) -> bytes:
    """Read a regular file, or raise `InvalidArtifact` if there is none, `StorageFailure` if it cannot be read."""
    try:
        if path.is_file():
            return path.read_bytes()
        received = "something that is not a regular file" if path.exists() else "nothing of that name"
    except OSError as failure:
        error = errors.StorageFailure(
            f"Cannot read `{path}`.",
            expected="a file that this user may read",
            received=f"{failure.strerror} (errno {failure.errno})",
            advice="Check its permissions and the file system, or copy it to a local folder.",
        )
        if failure.errno in LOCKLESS:
            error = without_locks(path, failure)
        raise error from failure
    raise errors.InvalidArtifact(
        f"There is no file `{path}`.",
        expected="a file written by `bayestwin.save`",
        received=received,
        advice=f"Check the path; it is taken relative to `{Path.cwd()}`.",
    )


def trailer(body: bytes) -> bytes:
    """Give the line that seals these bytes."""
    return b"\nbayestwin sha256 " + hashlib.sha256(body).hexdigest().encode() + b"\n"


def is_sealed(data: bytes, path: Path) -> bool:
    """Tell whether a file ends with its sum; raise `CorruptArtifact` if that is there and wrong."""
    end = _TRAILER.search(data, max(0, len(data) - _LENGTH))
    if end is None:
        return False
    written = end[1].decode()
    actual = hashlib.sha256(memoryview(data)[: end.start()]).hexdigest()
    if actual != written:
        refuse_damaged(
            f"`{path}` was damaged or changed since it was written.",
            expected=f"sha256 {written}, as its last line says",
            received=f"sha256 {actual} of the {end.start()} bytes before that line",
        )
    return True


def refuse_damaged(problem: str, *, received: str, expected: str = f"{_WRITTEN}, with its last line") -> NoReturn:
    """Raise `CorruptArtifact`."""
    advice = f"{_CAUSES} Restore it from a copy, or run the job again."
    raise errors.CorruptArtifact(problem, expected=expected, received=received, advice=advice)


def refuse_other_formats(data: bytes, path: Path) -> None:
    """Refuse what does not start as HDF5 does.

    Args:
        data: The whole file.
        path: Where it lies.

    Raises:
        CorruptArtifact: It is empty, or shorter than HDF5's signature.
        UnsafeArtifact: It is a pickle.
        InvalidArtifact: It is of any other format.
    """
    if data.startswith(_SIGNATURE):
        return
    received = f"{len(data)} bytes" if data else "an empty file (0 bytes)"
    if _SIGNATURE.startswith(data):
        refuse_damaged(f"`{path}` is cut off at its very start.", received=received)
    received = f"a file that starts with {data[:8]!r}"
    if _looks_pickled(data) or path.suffix.lower() in _PICKLE_SUFFIXES:
        raise errors.UnsafeArtifact(
            f"`{path}` is a pickle, which can run any code when it is opened.",
            expected=_WRITTEN,
            received=received,
            advice="Where it was made, load it, if you trust it, and write it with `bayestwin.save`.",
        )
    _refuse_foreign(path, received)


def refuse_other_schema(file: h5py.File, path: Path) -> None:
    """Refuse a file that says no schema of ours (`InvalidArtifact`), or a newer one (`NewerSchema`)."""
    found = np.asarray(file.attrs.get("schema_version"))
    if found.size != 1 or found.dtype.kind not in "iu":
        _refuse_foreign(path, "a valid HDF5 file without a `schema_version`, which something else wrote")
    if found.item() > SCHEMA_VERSION:
        raise errors.NewerSchema(
            f"`{path}` was written by a newer version of bayestwin.",
            expected=f"schema_version {SCHEMA_VERSION} or older",
            received=f"schema_version {found.item()}",
            advice="Upgrade: `pip install --upgrade bayestwin`.",
        )


def _refuse_foreign(path: Path, received: str) -> NoReturn:
    """Raise for a file that something else wrote."""
    raise errors.InvalidArtifact(
        f"`{path}` is not a file of bayestwin.",
        expected=_WRITTEN,
        received=received,
        advice="Check the path. If xarray opens it, save the tree with `bayestwin.save`.",
    )


def _looks_pickled(data: bytes) -> bool:
    """Tell a pickle by its first bytes or, for the oldest protocols, by parsing without running it."""
    if data[:1] == b"\x80" and data[1:2] <= b"\x05":
        return True
    if len(data) > _PICKLE_LIMIT or not data.endswith(b"."):
        return False
    try:
        for _ in pickletools.genops(io.BytesIO(data)):
            pass
    except Exception:  # of any kind: the parser meets bytes of any kind
        return False
    return True
