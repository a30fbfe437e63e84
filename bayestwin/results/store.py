"""Results on disk: `save` and `load`, durable and verified, plus durable text files.

A file is a netCDF4 file followed by one line with its SHA-256, and at every moment the old one or the new,
whole. Nothing in it is ever run: `load` reads numbers, text and JSON, and refuses links to other files.
"""

import io
import os
from pathlib import Path

import h5py
import numpy as np
import xarray as xr

from bayestwin import errors
from bayestwin._base.files import local_path, refuse_reaching_out
from bayestwin.results import checks, encode
from bayestwin.results.checks import SCHEMA_VERSION
from bayestwin.results.durable import check_writable, sweep_orphans, write_bytes_durably, write_text_durably

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
        message = errors.explain(
            f"Only a tree can be saved to `{location}`.",
            expected="an xarray.DataTree",
            received=f"an object of type `{type(tree).__name__}`",
            advice="Make one by `xarray.DataTree.from_dict({'posterior': dataset})`.",
        )
        raise errors.InvalidInput(message)
    if bad := _nonfinite_variables(tree):
        message = errors.explain(
            f"The posterior has draws that are not finite, so it is not saved to `{location}`.",
            expected="finite numbers in every variable of the group `posterior`",
            received=f"NaN or infinity in {bad}",
            advice="Drop these draws, or calibrate again; `load` would refuse the file.",
        )
        raise errors.InvalidInput(message)
    body = encode.to_bytes(_with_schema(tree))
    return write_bytes_durably(location, body, checks.trailer(body))


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
    data = checks.read_whole(location)
    # The sum first: damage to the first bytes of a file of ours does not make it foreign.
    sealed = checks.is_sealed(data, location)
    checks.refuse_other_formats(data, location)
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            refuse_reaching_out(file, location, size=len(data))
            checks.refuse_other_schema(file, location)
        if not sealed:
            checks.refuse_damaged(
                f"`{location}` was cut off, or changed by another program, since it was written.",
                received="a file of bayestwin without a last line with the sha256 of all before it",
            )
        tree = encode.from_bytes(data)
    except encode.FAILURES as failure:
        checks.refuse_damaged(
            f"`{location}` is damaged or cut off: it cannot be read to its end.",
            received=f"{type(failure).__name__}: {failure}",
        )
    if bad := _nonfinite_variables(tree):
        message = errors.explain(
            f"`{location}` holds a posterior that is not finite.",
            expected="finite numbers in every variable of the group `posterior`",
            received=f"NaN or infinity in {bad}",
            advice="Calibrate again: a posterior with such draws must not be used.",
        )
        raise errors.CorruptArtifact(message)
    return tree


def _with_schema(tree: xr.DataTree) -> xr.DataTree:
    """Give a tree whose root says its schema, or raise `InvalidInput` if it says one of another version."""
    found = tree.attrs.get("schema_version", SCHEMA_VERSION)
    if not isinstance(found, int | np.integer) or not 1 <= found <= SCHEMA_VERSION:
        message = errors.explain(
            "The tree cannot be saved: this version of bayestwin does not know its `schema_version`.",
            expected=f"a whole number from 1 to {SCHEMA_VERSION}, or none",
            received=repr(found),
            advice="Drop the attribute, or upgrade: `pip install --upgrade bayestwin`.",
        )
        raise errors.InvalidInput(message)
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
