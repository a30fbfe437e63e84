"""Values of variables in HDF5: numbers as they are, booleans, times and text in netCDF's own ways."""

import datetime as dt
import re
from collections.abc import Mapping
from typing import NamedTuple

import h5py
import numpy as np
import pandas as pd
import xarray as xr

from bayestwin import errors
from bayestwin.store.attributes import read_attribute

_UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_SYMBOLS = {word: symbol for symbol, word in _UNITS.items()}
_NUMBERS = {np.dtype(code) for code in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8")}


class Stored(NamedTuple):
    """Values as a file holds them.

    Attributes:
        values: Numbers of a kind that netCDF has, or text as Python objects; any shape.
        hints: Attributes that say how to turn them back, in words that xarray knows too. Only `text_dtype`
            is ours: text in netCDF has no width.
        notes: Attributes for the user, which stay when the values are turned back.
    """

    values: np.ndarray
    hints: dict[str, str]
    notes: dict[str, str]


def to_stored(variable: xr.Variable, where: str) -> Stored:
    """Turn the values of a variable into those of a file.

    Args:
        variable: Of any shape.
        where: What it is, for messages.

    Returns:
        What to store. Times with a time zone are in UTC.

    Raises:
        InvalidInput: netCDF has no such values.
    """
    values, notes = _without_time_zone(variable, where)
    dtype = values.dtype
    if dtype.kind == "b":
        return Stored(values.astype("i1"), {"dtype": "bool"}, notes)
    if dtype.kind in "mM":
        unit = np.datetime_data(dtype)[0]
        if unit in _UNITS and np.datetime_data(dtype)[1] == 1:
            counts = np.asarray(values, dtype=dtype.newbyteorder("=")).view("i8")
            if dtype.kind == "m":
                return Stored(counts, {"units": _UNITS[unit], "dtype": f"timedelta64[{unit}]"}, notes)
            hints = {"units": f"{_UNITS[unit]} since 1970-01-01", "calendar": "proleptic_gregorian"}
            return Stored(counts, hints, notes)
    elif dtype.kind == "U" or (dtype.kind in "OT" and all(isinstance(text, str) for text in values.flat)):
        text_dtype = dtype.newbyteorder("=").str if dtype.kind == "U" else "object"
        return Stored(_checked_text(values.astype(object), where), {"text_dtype": text_dtype}, notes)
    elif dtype.newbyteorder("=") in _NUMBERS:
        return Stored(values.astype(dtype.newbyteorder("="), copy=False), {}, notes)
    raise errors.InvalidInput(_explain(where, f"dtype `{dtype}`"))


def from_stored(dataset: h5py.Dataset, hints: Mapping[str, str]) -> np.ndarray:
    """Read the values of a variable and turn them back.

    Args:
        dataset: The open dataset.
        hints: What `read_hints` found.

    Returns:
        The values with the dtype and the bits that they had.

    Raises:
        ValueError: The dataset is of a kind that is never written.
    """
    if h5py.check_string_dtype(dataset.dtype) is not None:
        return np.asarray(dataset.asstr()[...], dtype=object).astype(hints.get("text_dtype", "object"))
    values = np.asarray(dataset[...])
    if values.dtype not in _NUMBERS:
        message = f"{dataset.name} has the dtype {values.dtype}"
        raise ValueError(message)
    if hints.get("dtype") == "bool":
        return values.astype(bool)
    if hints.get("dtype", "").startswith("timedelta64"):
        return values.view(hints["dtype"])
    if "calendar" in hints and (words := re.fullmatch(r"(\w+) since 1970-01-01", hints["units"])):
        return values.view(f"datetime64[{_SYMBOLS[words[1]]}]")
    return values


def read_hints(item: h5py.Dataset) -> dict[str, str]:
    """Read the attributes that say how the values are stored; `units` does so for times alone."""
    found = {name: read_attribute(item, name) for name in ("calendar", "dtype", "text_dtype")}
    if found["calendar"] or found["dtype"].startswith("timedelta64"):
        found["units"] = read_attribute(item, "units")
    return {name: text for name, text in found.items() if text}


def _without_time_zone(variable: xr.Variable, where: str) -> tuple[np.ndarray, dict[str, str]]:
    """Turn times with a time zone, or Python's own times, into NumPy's."""
    if isinstance(variable.dtype, pd.DatetimeTZDtype):
        # Of extension arrays xarray has only flat ones.
        times = pd.DatetimeIndex(variable.to_index() if variable.ndim else pd.Index([variable.data]))
        return times.tz_convert(None).to_numpy().reshape(variable.shape), {"time_zone": "UTC"}
    values = np.asarray(variable.values)
    if values.dtype != object or not any(isinstance(value, dt.datetime) for value in values.flat):
        return values, {}
    aware = {getattr(value, "tzinfo", None) is not None for value in values.flat if not pd.isna(value)}
    if len(aware) > 1:
        raise errors.InvalidInput(_explain(where, "times with and without a time zone"))
    try:
        times = pd.DatetimeIndex(pd.to_datetime(values.ravel(), utc=True)).tz_convert(None)
    except (TypeError, ValueError) as failure:
        raise errors.InvalidInput(_explain(where, f"times among other things ({failure})")) from failure
    return times.to_numpy().reshape(values.shape), {"time_zone": "UTC"} if aware == {True} else {}


def _checked_text(values: np.ndarray, where: str) -> np.ndarray:
    """Refuse text that netCDF would change."""
    for text in values.flat:
        if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
            raise errors.InvalidInput(_explain(where, f"the text {text!r}, which netCDF cannot hold"))
    return values


def _explain(where: str, received: str) -> str:
    """Say that values cannot be stored."""
    return errors.explain(
        f"The values of {where} cannot be saved.",
        expected="float32, float64, integers of up to 64 bits, booleans, text, or times in s, ms, us or ns",
        received=received,
        advice="Convert them, for example by `.astype('float64')`, or drop the variable.",
    )
