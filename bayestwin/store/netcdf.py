"""A tree as the bytes of a netCDF4 file, and back.

Written with HDF5 itself and not with the netCDF library, which in memory loses the order of groups and stores
the time of day, so that the same tree would give other bytes each time. Dimensions are as in the netCDF4
format: each is a dataset, and variables point to theirs.
"""

import io
import math
import unicodedata
from typing import Any

import h5py
import numpy as np
import xarray as xr

from bayestwin import errors
from bayestwin.store.attributes import read_attribute, read_attributes, write_attributes
from bayestwin.store.values import from_stored, read_hints, to_stored

# The words by which the netCDF4 format marks a dimension that has no coordinate, followed by its length.
_NO_COORDINATE = "This is a netCDF dimension but not a netCDF variable."
# Smaller ones cost more in compression than they save.
_COMPRESS_FROM = 16 << 10
_CHUNK = 1 << 20


def to_bytes(tree: xr.DataTree) -> bytes:
    """Write a tree in memory.

    Args:
        tree: Any tree.

    Returns:
        A whole netCDF4 file, the same for the same tree.

    Raises:
        InvalidInput: Something in it cannot be stored.
    """
    buffer = io.BytesIO()
    # The format of HDF5 1.8 is the oldest that keeps orders, and what the netCDF library writes.
    with h5py.File(buffer, "w", libver=("v108", "v108"), track_order=True) as file:
        _write_node(tree, file, {})
    return buffer.getvalue()


def opened(data: bytes) -> h5py.File:
    """Open the bytes of a file, in memory and for reading only."""
    return h5py.File(io.BytesIO(data), "r")


def from_file(file: h5py.File) -> xr.DataTree:
    """Read a tree, whole, into memory.

    Args:
        file: An open file that `to_bytes` wrote.

    Returns:
        The tree.
    """
    datasets: dict[str, xr.Dataset] = {}
    waiting: list[h5py.Group] = [file]
    while waiting:
        group = waiting.pop()
        datasets[str(group.name)] = _read_dataset(group)
        # The last is read first, so that each group comes before its next sibling, children in between.
        waiting += reversed([item for item in group.values() if isinstance(item, h5py.Group)])
    return xr.DataTree.from_dict(datasets)


def _write_node(node: xr.DataTree, group: h5py.Group, inherited: dict[str, h5py.Dataset]) -> None:
    """Write the variables of one node, then its children."""
    dataset = node.to_dataset(inherit=False)
    _check_names(node, dataset)
    coordinates = " ".join(str(name) for name in dataset.coords if name not in dataset.dims)
    hints = {"coordinates": coordinates} if coordinates else {}
    write_attributes(group, dataset.attrs, hints, f"group `{node.path}`")
    scales = dict(inherited)
    for name, length in dataset.sizes.items():
        if name not in dataset.variables and name not in scales:
            placeholder = group.create_dataset(name, shape=(length,), dtype=">f4", track_order=True)
            placeholder.make_scale(f"{_NO_COORDINATE}{length:10d}")
            scales[str(name)] = placeholder
    written = {str(name): _write_variable(group, str(name), var) for name, var in dataset.variables.items()}
    scales |= {name: written[name] for name in written if name in dataset.dims}
    for name, variable in dataset.variables.items():
        if name in dataset.dims:
            written[str(name)].make_scale(str(name))
            continue
        for axis, dim in enumerate(variable.dims):
            written[str(name)].dims[axis].attach_scale(scales[str(dim)])
    for name, child in node.children.items():
        _write_node(child, group.create_group(name, track_order=True), scales)


def _write_variable(group: h5py.Group, name: str, variable: xr.Variable) -> h5py.Dataset:
    """Write the values and attributes of one variable; large numbers compressed and with check sums."""
    where = f"variable `{name}` of the group `{group.name}`"
    stored = to_stored(variable, where)
    options: dict[str, Any] = {"track_order": True}
    if stored.values.dtype == object:
        options["dtype"] = h5py.string_dtype()
    elif stored.values.nbytes >= _COMPRESS_FROM:
        options |= {"compression": "gzip", "compression_opts": 1, "shuffle": True, "fletcher32": True}
        options["chunks"] = _chunks(stored.values)
    item = group.create_dataset(name, data=stored.values, **options)
    write_attributes(item, {**variable.attrs, **stored.notes}, stored.hints, where)
    return item


def _chunks(values: np.ndarray) -> tuple[int, ...]:
    """Cut the leading axes, so that whole series stay together, until a chunk is small."""
    shape = list(values.shape)
    for axis in range(values.ndim):
        rest = math.prod(shape[axis + 1 :]) * values.itemsize
        shape[axis] = min(shape[axis], max(1, _CHUNK // rest))
    return tuple(shape)


def _read_dataset(group: h5py.Group) -> xr.Dataset:
    """Read the variables and attributes of one group."""
    variables = {name: _read_variable(item) for name, item in group.items() if _is_variable(item)}
    dataset = xr.Dataset(variables, attrs=read_attributes(group))
    return dataset.set_coords(read_attribute(group, "coordinates").split())


def _is_variable(item: h5py.Group | h5py.Dataset) -> bool:
    """Tell a variable from a group and from a dimension without a coordinate."""
    return isinstance(item, h5py.Dataset) and not read_attribute(item, "NAME").startswith(_NO_COORDINATE)


def _read_variable(item: h5py.Dataset) -> xr.Variable:
    """Read one variable with the names of its dimensions."""
    hints = read_hints(item)
    scales = [item] if item.is_scale else [item.dims[axis][0] for axis in range(item.ndim)]
    dims = [str(scale.name).rpartition("/")[2] for scale in scales]
    return xr.Variable(dims, from_stored(item, hints), read_attributes(item, hints))


def _check_names(node: xr.DataTree, dataset: xr.Dataset) -> None:
    """Refuse names that netCDF cannot hold or would change, and dimensions that clash with other things."""
    for name in [*dataset.variables, *dataset.sizes, *node.children]:
        if not isinstance(name, str) or not _is_netcdf_name(name):
            raise errors.InvalidInput(_explain(node, name, f"the name {name!r}"))
    for name in dataset.sizes:
        if name in dataset.variables and dataset.variables[name].dims != (name,):
            raise errors.InvalidInput(_explain(node, name, "a variable of that name along other dimensions"))
        if name not in dataset.variables and name in node.children:
            raise errors.InvalidInput(_explain(node, name, "a dimension without coordinate, and a group"))
    for name in dataset.coords:
        if name not in dataset.dims and " " in str(name):
            raise errors.InvalidInput(_explain(node, name, "a coordinate whose name has a blank"))


def _is_netcdf_name(name: str) -> bool:
    """Tell whether netCDF takes a name and gives it back the same."""
    return (
        (name[:1].isalnum() or name.startswith("_") or name[:1] > "\x7f")
        and name.isprintable()
        and "/" not in name
        and not name.endswith(" ")
        and unicodedata.is_normalized("NFC", name)
        and len(name.encode()) <= 256
    )


def _explain(node: xr.DataTree, name: object, received: str) -> str:
    """Say that a name cannot be stored."""
    return errors.explain(
        f"`{name}` in the group `{node.path}` cannot be saved under that name.",
        expected="names of letters, digits and `_` (no `/`), one thing to a name",
        received=received,
        advice="Rename it, for example by `Dataset.rename`.",
    )
