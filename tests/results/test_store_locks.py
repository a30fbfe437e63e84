"""On a file system that does not lock files, results are an error that says so and suggests a local folder (fault 10).

HDF5 itself never opens a file here: bytes are read and written whole, so that its own locks do not matter.
"""

import errno
import fcntl
import os
import pathlib

import numpy as np
import pytest
import xarray as xr
from tank_model import run_command, write_model

import bayestwin as bt
from bayestwin.errors import StorageFailure
from bayestwin.project.record import is_locked, locked

CODES = [524, errno.ENOLCK, errno.EOPNOTSUPP]  # 524 is Linux's own ENOTSUPP


def tree() -> xr.DataTree:
    return xr.DataTree.from_dict({"posterior": xr.Dataset({"a": (("chain", "draw"), np.ones((2, 3)))})})


def refusing(code: int):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return refuse


def says_so(text: str) -> bool:
    return "does not lock files" in text and "Choose a folder on a local disk" in text


@pytest.mark.parametrize("code", CODES)
def test_an_open_that_is_refused_for_want_of_locks_says_so(
    tmp_path: pathlib.Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.nc"
    bt.save(tree(), path)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refusing(code))
        with pytest.raises(StorageFailure) as caught:
            bt.save(tree(), path)
    assert says_so(str(caught.value))
    assert str(code) in str(caught.value)
    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "read_bytes", refusing(code))
        with pytest.raises(StorageFailure) as caught:
            bt.load(path)
    assert says_so(str(caught.value))
    assert path.read_bytes() == before


@pytest.mark.parametrize("code", CODES)
def test_a_file_by_itself_needs_no_lock(tmp_path: pathlib.Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", refusing(code))
    bt.save(tree(), tmp_path / "a.nc")
    assert bt.load(tmp_path / "a.nc").equals(tree())
    assert [path.name for path in tmp_path.iterdir()] == ["a.nc"]


def test_hdf5_locks_no_file(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HDF5 is handed is bytes: with a file name it would lock that file, and fail where it cannot."""
    import h5py

    opened: list[object] = []
    original = h5py.File.__init__

    def watched(self, name, *args, **kwargs) -> None:
        opened.append(name)
        original(self, name, *args, **kwargs)

    monkeypatch.setattr(h5py.File, "__init__", watched)
    bt.save(tree(), tmp_path / "a.nc")
    bt.load(tmp_path / "a.nc")
    assert opened
    assert not any(isinstance(one, str | bytes | pathlib.Path) for one in opened)


@pytest.mark.parametrize("code", CODES)
def test_a_run_needs_a_lock(tmp_path: pathlib.Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refusing(code))
        with pytest.raises(StorageFailure, match="does not lock files"), locked(tmp_path):
            pass
        assert not is_locked(tmp_path)
    with locked(tmp_path):
        assert is_locked(tmp_path)


def test_a_calibration_ends_before_it_begins(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_model(tmp_path / "models" / "tank")
    monkeypatch.setattr(fcntl, "flock", refusing(524))
    code, out, err = run_command("calibrate", model, "--results", tmp_path / "results")
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert says_so(" ".join(err.split()))
    assert "Traceback" not in err
