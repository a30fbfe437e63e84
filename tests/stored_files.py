"""What the tests of files share: results to save, files that only look saved, and equality of trees to the bit."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from bayestwin import errors
from bayestwin.results.store import SCHEMA_VERSION, load, save

# The length of the last line of a file.
TRAILER = 83


def small_result(**attributes: object) -> xr.DataTree:
    """A small result."""
    sampled = ("chain", "draw")
    posterior = xr.Dataset(
        {
            "alpha": (sampled, np.random.default_rng(0).normal(size=(2, 1500))),
            "beta": (sampled, np.ones((2, 1500))),
        },
        {"chain": [0, 1], "draw": np.arange(1500)},
    )
    tree = xr.DataTree.from_dict({"posterior": posterior})
    tree.attrs = {"bayestwin_version": "0.1.0", "schema_version": SCHEMA_VERSION, **attributes}
    return tree


def seal(body: bytes) -> bytes:
    """End a file as `save` does, for files that only look as if `save` had written them."""
    return body + b"\nbayestwin sha256 " + hashlib.sha256(body).hexdigest().encode() + b"\n"


def forge(path: Path, change: Callable[[h5py.File], object]) -> Path:
    """Save a result, change the file by HDF5, and seal it again."""
    buffer = io.BytesIO(save(small_result(), path).read_bytes()[:-TRAILER])
    with h5py.File(buffer, "r+") as file:
        change(file)
    path.write_bytes(seal(buffer.getvalue()))
    return path


def refusal(kind: type[errors.BayestwinError], path: object) -> str:
    """Load a file that is refused by exactly this error, and give the message, which has all its parts."""
    with pytest.raises(kind) as caught:
        load(path)  # pyright: ignore[reportArgumentType]
    assert type(caught.value) is kind
    message = str(caught.value)
    assert str(path) in message
    assert "Expected:" in message
    assert "Received:" in message
    return message


def assert_same(actual: xr.DataTree, expected: xr.DataTree) -> None:
    """Equal in all that can be told: orders, dtypes, bits, and attributes with their types."""
    assert [node.path for node in actual.subtree] == [node.path for node in expected.subtree]
    for new, old in zip(actual.subtree, expected.subtree, strict=True):
        assert_attributes(new.attrs, old.attrs)
        one, two = new.to_dataset(inherit=False), old.to_dataset(inherit=False)
        assert list(one.variables) == list(two.variables)
        assert set(one.coords) == set(two.coords)
        for name, variable in two.variables.items():
            assert one[name].dims == variable.dims
            assert one[name].dtype == variable.dtype
            assert one[name].values.tobytes() == variable.values.tobytes() or (
                variable.dtype == object and one[name].values.tolist() == variable.values.tolist()
            )
            assert_attributes(one[name].attrs, variable.attrs)


def assert_attributes(actual: dict[Any, Any], expected: dict[Any, Any]) -> None:
    """Equal with the types of Python, NaN and signed zeros among them."""
    assert {name: repr(value) for name, value in actual.items()} == {
        name: repr(value) for name, value in expected.items()
    }
