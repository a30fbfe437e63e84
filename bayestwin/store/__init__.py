"""Results on disk: `save` and `load`, durable and verified, plus durable text files.

A file is a netCDF4 file followed by one line with its SHA-256, and at every moment the old one or the new,
whole. Nothing in it is ever run: `load` reads numbers, text and JSON, and refuses links to other files.
"""

import os
from pathlib import Path

import xarray as xr

from bayestwin import errors
from bayestwin.store import links, netcdf, origin, seal
from bayestwin.store.durable import check_writable, sweep_orphans, write_durably, write_text_durably
from bayestwin.store.schema import SCHEMA_VERSION, nonfinite_variables, refuse_other_schema, with_schema

__all__ = [
    "SCHEMA_VERSION",
    "check_writable",
    "load",
    "save",
    "sweep_orphans",
    "write_text_durably",
]


def save(tree: xr.DataTree, path: str | os.PathLike[str]) -> Path:
    """Write a result to a netCDF4 file: afterwards the file is the new one, whole, or still the old one.

    The same tree gives the same bytes. `load` gives back dimensions, dtypes, bits, names, orders and
    attributes (booleans, None, lists and mappings among these are JSON text in the file). What changes: times
    with a time zone become UTC (naive, with the attribute `time_zone="UTC"`); tuples and arrays among
    attributes become lists, and NumPy's numbers there Python's; a root without `schema_version` gets it.
    A missing folder is made.

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
    location = origin.local_path(path)
    if not isinstance(tree, xr.DataTree):
        message = errors.explain(
            f"Only a tree can be saved to `{location}`.",
            expected="an xarray.DataTree",
            received=f"an object of type `{type(tree).__name__}`",
            advice="Make one by `xarray.DataTree.from_dict({'posterior': dataset})`.",
        )
        raise errors.InvalidInput(message)
    if bad := nonfinite_variables(tree):
        message = errors.explain(
            f"The posterior has draws that are not finite, so it is not saved to `{location}`.",
            expected="finite numbers in every variable of the group `posterior`",
            received=f"NaN or infinity in {bad}",
            advice="Drop these draws, or calibrate again; `load` would refuse the file.",
        )
        raise errors.InvalidInput(message)
    body = netcdf.to_bytes(with_schema(tree))
    write_durably(location, body, seal.trailer(body))
    return location


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
    location = origin.local_path(path)
    data = origin.read_whole(location)
    # The sum first: damage to the first bytes of a file of ours does not make it foreign.
    sealed = seal.is_sealed(data, location)
    origin.refuse_other_formats(data, location)
    try:
        with netcdf.opened(data) as file:
            links.refuse_reaching_out(file, location, size=len(data))
            refuse_other_schema(file, location)
            if not sealed:
                raise errors.CorruptArtifact(seal.explain_missing(location))
            tree = netcdf.from_file(file)
    except (OSError, RuntimeError, ValueError, LookupError, TypeError, RecursionError) as failure:
        raise errors.CorruptArtifact(seal.explain_unreadable(location, failure)) from failure
    if bad := nonfinite_variables(tree):
        message = errors.explain(
            f"`{location}` holds a posterior that is not finite.",
            expected="finite numbers in every variable of the group `posterior`",
            received=f"NaN or infinity in {bad}",
            advice="Calibrate again: a posterior with such draws must not be used.",
        )
        raise errors.CorruptArtifact(message)
    return tree
