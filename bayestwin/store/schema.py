"""What a file must say and hold to be a result of this version of `bayestwin`."""

from pathlib import Path

import h5py
import numpy as np
import xarray as xr

from bayestwin import errors
from bayestwin.store.attributes import read_attribute

#: The version of the layout of files, stored as the root attribute `schema_version`.
SCHEMA_VERSION = 1


def refuse_other_schema(file: h5py.File, path: Path) -> None:
    """Refuse a file that has no schema of ours, or a newer one.

    Args:
        file: The open file.
        path: Where it lies, for the message.

    Raises:
        InvalidArtifact: The root says nothing of `bayestwin`.
        NewerSchema: `schema_version` is above `SCHEMA_VERSION`.
    """
    found = read_attribute(file, "schema_version")
    if type(found) is not int:
        message = errors.explain(
            f"`{path}` is not a file of bayestwin.",
            expected="a netCDF4 file written by `bayestwin.save`, with the root attribute `schema_version`",
            received="a valid HDF5 file that something else wrote",
            advice="Open it with `xarray.open_datatree`, and save the tree with `bayestwin.save`.",
        )
        raise errors.InvalidArtifact(message)
    if found > SCHEMA_VERSION:
        message = errors.explain(
            f"`{path}` was written by a newer version of bayestwin.",
            expected=f"schema_version {SCHEMA_VERSION} or older",
            received=f"schema_version {found}",
            advice="Upgrade: `pip install --upgrade bayestwin`.",
        )
        raise errors.NewerSchema(message)


def with_schema(tree: xr.DataTree) -> xr.DataTree:
    """Give a tree that says its schema.

    Args:
        tree: A result, left as it is.

    Returns:
        The tree, with the root attribute `schema_version` if it had none.

    Raises:
        InvalidInput: It says a schema that this version cannot read.
    """
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


def nonfinite_variables(tree: xr.DataTree) -> str:
    """Name the variables of the group `posterior` that have NaN or infinite values.

    Args:
        tree: A result.

    Returns:
        For example "`alpha` (3 of 4000 values)"; empty if all is finite or there is no such group.
    """
    if "posterior" not in tree.children:
        return ""
    findings = []
    for name, variable in tree["posterior"].data_vars.items():
        if variable.dtype.kind != "f":
            continue
        count = int(np.size(variable.values) - np.isfinite(variable.values).sum())
        if count:
            findings.append(f"`{name}` ({count} of {variable.size} values)")
    return ", ".join(findings)
