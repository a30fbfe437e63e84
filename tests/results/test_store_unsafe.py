"""`load` refuses what could run code, read other files or fill the memory, before it reads any value."""

import io
import pickle
import pickletools
from pathlib import Path

import h5py
import numpy as np
import pytest
from stored_files import TRAILER, forge, refusal, small_result

from bayestwin import errors
from bayestwin.results.store import load, save


class Explosive:
    """What runs code when it is unpickled."""

    def __init__(self, witness: Path):
        self.witness = witness

    def __reduce__(self):
        return (Path.touch, (self.witness,))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_refused_and_not_run(tmp_path, protocol):
    witness, path = tmp_path / "ran", tmp_path / "posterior.nc"
    path.write_bytes(pickle.dumps(Explosive(witness), protocol))
    pickletools.dis(path.read_bytes(), out=io.StringIO())
    assert "pickle" in refusal(errors.UnsafeArtifact, path)
    assert not witness.exists()


def test_a_pickle_is_told_by_its_first_bytes_however_long_or_damaged(tmp_path):
    path = tmp_path / "posterior.nc"
    path.write_bytes(pickle.dumps(bytes(3 << 20)))
    refusal(errors.UnsafeArtifact, path)
    path.write_bytes(path.read_bytes()[:1000])
    refusal(errors.UnsafeArtifact, path)


def test_names_of_pickles_are_refused_whatever_they_hold(tmp_path):
    path = tmp_path / "posterior.pkl"
    path.write_bytes(b"\x1f\x8b compressed")
    refusal(errors.UnsafeArtifact, path)


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:9/x.nc",
        "https://example.org/x.nc",
        "s3://bucket/x.nc",
        "file:///x.nc",
        "[dap4]http://h/x",
    ],
)
def test_addresses_are_refused_for_reading_and_writing(address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refusal(errors.UnsafeArtifact, address)
    with pytest.raises(errors.UnsafeArtifact, match="local folder"):
        load(Path(address))
    with pytest.raises(errors.UnsafeArtifact):
        save(small_result(), address)
    assert list(tmp_path.iterdir()) == []


def external_link(file: h5py.File, secret: Path) -> None:
    file["posterior/gamma"] = h5py.ExternalLink(str(secret), "/secret")


def external_link_at_the_root(file: h5py.File, secret: Path) -> None:
    file["elsewhere"] = h5py.ExternalLink(str(secret), "/")


def soft_link(file: h5py.File, secret: Path) -> None:
    file["posterior/gamma"] = h5py.SoftLink("/posterior/alpha")


def soft_link_to_nothing(file: h5py.File, secret: Path) -> None:
    file["posterior/gamma"] = h5py.SoftLink("/nowhere")


def virtual_dataset(file: h5py.File, secret: Path) -> None:
    layout = h5py.VirtualLayout(shape=(2, 1500), dtype="f8")
    layout[:] = h5py.VirtualSource(str(secret), "secret", shape=(2, 1500))
    file["posterior"].create_virtual_dataset("gamma", layout)


def external_storage(file: h5py.File, secret: Path) -> None:
    file["posterior"].create_dataset("gamma", shape=(10,), dtype="u1", external=[(str(secret), 0, 10)])


def hard_link_that_makes_a_circle(file: h5py.File, secret: Path) -> None:
    file["posterior/again"] = file["/"]


def two_names_of_one_variable(file: h5py.File, secret: Path) -> None:
    file["posterior/gamma"] = file["posterior/alpha"]


def filter_from_a_plugin(file: h5py.File, secret: Path) -> None:
    file["posterior"].create_dataset("gamma", data=np.zeros((2, 1500)), compression="lzf")


def committed_type(file: h5py.File, secret: Path) -> None:
    file["posterior/gamma"] = np.dtype("f8")


def shape_beyond_all_memory(file: h5py.File, secret: Path) -> None:
    file["posterior"].create_dataset("gamma", shape=(1 << 40, 1 << 10), dtype="f8", chunks=(1 << 10, 1 << 10))


WAYS_OUT = [
    external_link,
    external_link_at_the_root,
    soft_link,
    soft_link_to_nothing,
    virtual_dataset,
    external_storage,
    hard_link_that_makes_a_circle,
    two_names_of_one_variable,
    filter_from_a_plugin,
    committed_type,
    shape_beyond_all_memory,
]


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("way", WAYS_OUT)
def test_ways_out_of_the_file_are_refused(tmp_path, way, sealed):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["secret"] = np.zeros((2, 1500))
    path = forge(tmp_path / "posterior.nc", lambda file: way(file, secret))
    if not sealed:
        path.write_bytes(path.read_bytes()[:-TRAILER])
    assert "/" in refusal(errors.UnsafeArtifact, path)
