"""A tree as the bytes of a netCDF4 file, and back: xarray and h5netcdf, with little around them.

Attributes that netCDF does not have become JSON text and are named by the attribute `json_attributes`; times with
a zone become UTC. The netCDF4 library would not do: in memory it writes the time of day into a file, so that the
same tree would give other bytes each time.
"""

import contextlib
import datetime as dt
import io
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from bayestwin import errors

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
        raise errors.InvalidInput(_explain("the tree", f"{type(failure).__name__}: {failure}")) from failure
    if changed:
        raise errors.InvalidInput(_explain(changed, "a name, values or attributes that would come back changed"))
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
            raise errors.InvalidInput(_explain(f"the name {name!r}", "a name of more than letters, digits and `_`"))
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
        raise errors.InvalidInput(_explain(f"the values of {where}", f"dtype `{dtype}`"))
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
        raise errors.InvalidInput(_explain(f"the values of {where}", "times with and without a time zone"))
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
    raise errors.InvalidInput(_explain(where, f"a `{type(value).__name__}`, or a mapping with keys that are not text"))


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


def _explain(what: str, received: str) -> str:
    """Say that something cannot be stored."""
    return errors.explain(
        f"A file cannot hold {what}.",
        expected="numbers of up to 64 bits, booleans, text, times in s, ms, us or ns; attributes that JSON can hold",
        received=received,
        advice="Rename it, convert it, for example by `.astype('float64')`, or drop it.",
    )
