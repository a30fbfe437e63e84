"""Attributes in HDF5: text and numbers as they are, all else as JSON text.

The attribute `json_attributes` names those whose text is JSON. Attributes whose names netCDF keeps
for itself, or cannot hold, are kept together in `other_attributes`.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from bayestwin import errors

type Json = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None

_JSON, _OTHER = "json_attributes", "other_attributes"
_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
# HDF5's and netCDF's own, then those by which readers of netCDF change values.
_RESERVED = {"CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "DIMENSION_LABELS", _JSON, _OTHER}
_RESERVED |= {"missing_value", "scale_factor", "add_offset", "coordinates", "calendar", "dtype", "text_dtype"}


def write_attributes(
    item: h5py.Group | h5py.Dataset, attributes: Mapping[Any, Any], hints: Mapping[str, str], where: str
) -> None:
    """Write the attributes of a group or dataset in their order.

    Args:
        item: The group or dataset.
        attributes: The user's attributes.
        hints: Attributes of ours, which say how values are stored; these names are then not the user's.
        where: What has these attributes, for messages.

    Raises:
        InvalidInput: A name is not text, or a value is neither text, number nor JSON.
    """
    as_json: list[str] = []
    other: dict[str, Json] = {}
    for name, value in attributes.items():
        if not isinstance(name, str):
            raise errors.InvalidInput(_explain(where, f"the name {name!r}, a `{type(name).__name__}`"))
        plain = _to_json(value, f"{where}, attribute `{name}`")
        if not _PLAIN_NAME.fullmatch(name) or name in _RESERVED | hints.keys() or _is_since(name, plain):
            other[name] = plain
        elif _is_native(plain):
            _write(item, name, plain)
        else:
            _write(item, name, _dumps(plain))
            as_json.append(name)
    for name, text in hints.items():
        _write(item, name, text)
    if as_json:
        _write(item, _JSON, " ".join(as_json))
    if other:
        _write(item, _OTHER, _dumps(other))


def read_attributes(item: h5py.Group | h5py.Dataset, hints: Collection[str] = ()) -> dict[str, Any]:
    """Read what `write_attributes` wrote.

    Args:
        item: The group or dataset.
        hints: Names of ours to leave out.

    Returns:
        The user's attributes, those with reserved names last.
    """
    names = [name for name in item.attrs if name not in _RESERVED and name not in hints]
    stored = {name: read_attribute(item, name) for name in names}
    for name in read_attribute(item, _JSON).split():
        stored[name] = json.loads(stored[name])
    return stored | json.loads(read_attribute(item, _OTHER, "{}"))


def read_attribute(item: h5py.Group | h5py.Dataset, name: str, default: str = "") -> Any:
    """Read one attribute, as Python's own text or number, or give the default if it is missing."""
    if name not in item.attrs:
        return default
    value = item.attrs[name]
    if isinstance(value, bytes):
        return value.decode()
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def _write(item: h5py.Group | h5py.Dataset, name: str, value: Json) -> None:
    """Write one attribute; text, unless empty, in a fixed length, which `ncdump` shows most plainly."""
    if isinstance(value, str) and value:
        encoded = value.encode()
        item.attrs.create(name, encoded, dtype=h5py.string_dtype("utf-8", len(encoded)))
    else:
        item.attrs[name] = value


def _is_native(value: Json) -> bool:
    """Tell whether HDF5 holds the value as it is."""
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return isinstance(value, float) or (isinstance(value, str) and "\0" not in value and _encodes(value))


def _is_since(name: str, value: Json) -> bool:
    """Tell units such as "hours since start", by which xarray would turn numbers into dates, or fail to."""
    return name == "units" and isinstance(value, str) and " since " in value


def _encodes(text: str) -> bool:
    """Tell whether the text has a form in UTF-8; lone surrogates have none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _dumps(value: Json) -> str:
    """Write JSON, readable where it can be; NaN and infinities as Python writes and reads them."""
    text = json.dumps(value, ensure_ascii=False)
    return text if _encodes(text) else json.dumps(value)


def _to_json(value: Any, where: str) -> Json:
    """Take a value apart into what JSON knows."""
    if isinstance(value, np.generic | np.ndarray) and value.dtype.kind in "biufU":
        value = value.tolist()
    if value is None or isinstance(value, bool):
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, list | tuple):
        return [_to_json(element, where) for element in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {str(key): _to_json(element, where) for key, element in value.items()}
    kind = f"a value of type `{type(value).__name__}`"
    raise errors.InvalidInput(
        _explain(where, f"{kind} whose keys are not text" if isinstance(value, Mapping) else kind)
    )


def _explain(where: str, received: str) -> str:
    """Say that an attribute cannot be stored."""
    return errors.explain(
        f"An attribute cannot be saved: {where}.",
        expected="a name of text, and text, a number, a boolean, None, or lists and mappings of these",
        received=received,
        advice="Drop the attribute or turn it into text.",
    )
