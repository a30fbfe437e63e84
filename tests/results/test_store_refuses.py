"""`load` refuses what is damaged, foreign or newer, and says why."""

import hashlib
import zipfile
from pathlib import Path

import h5py
import netCDF4
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from stored_files import TRAILER, forge, refusal, seal, small_result

from bayestwin import errors
from bayestwin.results.store import SCHEMA_VERSION, load, save


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    return save(small_result(), tmp_path_factory.mktemp("whole") / "posterior.nc").read_bytes()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@example(place=0.0, bit=0)
@example(place=0.5, bit=3)
@example(place=1 - 1e-9, bit=0)
def test_one_flipped_bit_is_found_anywhere(tmp_path_factory, whole, place, bit):
    damaged = bytearray(whole)
    damaged[int(place * len(whole))] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / "flipped.nc"
    path.write_bytes(damaged)
    refusal(errors.CorruptArtifact, path)


def test_one_flipped_bit_of_the_last_line_is_found_anywhere(tmp_path, whole):
    path = tmp_path / "flipped.nc"
    for place in range(len(whole) - TRAILER, len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        refusal(errors.CorruptArtifact, path)


def test_the_message_names_both_sums(tmp_path, whole):
    path = tmp_path / "flipped.nc"
    damaged = whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:]
    path.write_bytes(damaged)
    message = refusal(errors.CorruptArtifact, path)
    assert whole[-65:-1].decode() in message
    assert hashlib.sha256(damaged[:-TRAILER]).hexdigest() in message
    assert "Likely causes" in message


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(share=st.floats(0, 1, exclude_max=True))
@example(share=0.0)
@example(share=1 - 1e-9)
def test_a_truncated_file_is_found_at_any_length(tmp_path_factory, whole, share):
    path = tmp_path_factory.getbasetemp() / "short.nc"
    path.write_bytes(whole[: int(share * len(whole))])
    refusal(errors.CorruptArtifact, path)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 100])
def test_a_file_cut_at_its_start_is_found(tmp_path, whole, length):
    path = tmp_path / "short.nc"
    path.write_bytes(whole[:length])
    message = refusal(errors.CorruptArtifact, path)
    assert "cut off" in message
    assert ("empty" in message) == (length == 0)


def test_a_file_that_lost_its_last_line_is_found(tmp_path, whole):
    path = tmp_path / "bare.nc"
    path.write_bytes(whole[:-TRAILER])
    assert "changed by another program" in refusal(errors.CorruptArtifact, path)


def test_text_after_the_last_line_is_found(tmp_path, whole):
    path = tmp_path / "longer.nc"
    path.write_bytes(whole + b"x")
    refusal(errors.CorruptArtifact, path)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("everywhere", [True, False])
def test_a_posterior_that_is_not_finite_is_refused(tmp_path, bad, everywhere):
    def spoil(file: h5py.File) -> None:
        file["posterior/alpha"][slice(None) if everywhere else (0, 3)] = bad

    message = refusal(errors.CorruptArtifact, forge(tmp_path / "posterior.nc", spoil))
    assert f"`alpha` ({3000 if everywhere else 1} of 3000 values)" in message
    assert "beta" not in message


def test_a_sealed_file_that_makes_no_sense_is_refused(tmp_path):
    def not_json(file: h5py.File) -> None:
        file.attrs["json_attributes"] = "bayestwin_version"

    def no_such_time(file: h5py.File) -> None:
        file["posterior/alpha"].attrs["units"] = "hours since start"

    for index, change in enumerate([not_json, no_such_time]):
        refusal(errors.CorruptArtifact, forge(tmp_path / f"{index}.nc", change))
    path = tmp_path / "noise.nc"
    path.write_bytes(seal(b"\x89HDF\r\n\x1a\n" + bytes(1000)))
    refusal(errors.CorruptArtifact, path)


def test_a_newer_schema_is_refused_with_a_hint(tmp_path):
    def newer(file: h5py.File) -> None:
        file.attrs["schema_version"] = np.int64(SCHEMA_VERSION + 1)

    path = forge(tmp_path / "newer.nc", newer)
    assert "pip install --upgrade bayestwin" in refusal(errors.NewerSchema, path)
    path.write_bytes(path.read_bytes()[:-TRAILER])  # a newer version may seal in another way
    refusal(errors.NewerSchema, path)


def test_netcdf_of_others_is_foreign(tmp_path):
    path = tmp_path / "foreign.nc"
    small_result()["posterior"].to_dataset().to_netcdf(path)
    assert "not a file of bayestwin" in refusal(errors.InvalidArtifact, path)
    for attribute in ("1", 1.0, [1, 2]):
        with netCDF4.Dataset(path, "w") as file:
            file.setncattr("schema_version", attribute)
        assert "not a file of bayestwin" in refusal(errors.InvalidArtifact, path)


def test_other_formats_are_foreign(tmp_path):
    with netCDF4.Dataset(tmp_path / "classic.nc", "w", format="NETCDF3_CLASSIC") as file:
        file.title = "classic"
    (tmp_path / "table.csv").write_text("time,indoor\n0,20.5\n")
    (tmp_path / "sentence.txt").write_text("This ends as a pickle does.")
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("posterior.nc", b"x")
    for name in ("classic.nc", "table.csv", "sentence.txt", "archive.zip"):
        assert "not a file of bayestwin" in refusal(errors.InvalidArtifact, tmp_path / name)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    assert "nothing of that name" in refusal(errors.InvalidArtifact, tmp_path / "nowhere.nc")
    assert "not a regular file" in refusal(errors.InvalidArtifact, tmp_path)
    refusal(errors.InvalidArtifact, Path("/dev/zero"))


def test_a_refused_file_leaves_no_handle_and_can_be_replaced(tmp_path, whole):
    path = tmp_path / "posterior.nc"
    handles = Path("/proc/self/fd")
    before = len(list(handles.iterdir())) if handles.exists() else None
    for content in (
        b"",
        whole[:5000],
        whole[:-TRAILER],
        b"CDF\x01 and more",
        seal(b"\x89HDF\r\n\x1a\n" + bytes(99)),
    ):
        path.write_bytes(content)
        with pytest.raises(errors.InvalidArtifact):
            load(path)
        save(small_result(), path)
        xr.testing.assert_identical(load(path), small_result())
    assert before is None or len(list(handles.iterdir())) == before
