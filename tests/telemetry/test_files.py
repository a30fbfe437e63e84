"""A file gives the telemetry that the table in it gives, however it is written; what is not such a file is refused."""

import gzip
import importlib.util
import pickle
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayestwin as bt
from bayestwin.errors import InvalidSetting, InvalidTelemetry, UnsafeArtifact

TABLE = pd.DataFrame({"time": [0.0, 0.5, 2.0], "level": [3.0, np.nan, -1.25]})
EXPECTED = bt.read_telemetry(TABLE)
HAS_PYARROW = importlib.util.find_spec("pyarrow") is not None


def same(path: Path, **settings: object) -> bt.Telemetry:
    found = bt.read_telemetry(path, **settings)
    pd.testing.assert_frame_equal(found.table, EXPECTED.table)
    return found


def refused(path: Path, match: str, error: type[Exception] = InvalidTelemetry, **settings: object) -> None:
    with pytest.raises(error, match=rf"(?s){match}") as raised:
        bt.read_telemetry(path, **settings)
    assert "Expected: " in str(raised.value)
    assert "Received: " in str(raised.value)


# A byte order mark before the first name.


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_marks_of_the_byte_order_are_no_part_of_a_name(tmp_path: Path, encoding: str) -> None:
    text = ("\ufeff" if encoding == "utf-16-le" else "") + "# a comment\n" + TABLE.to_csv(index=False)
    (tmp_path / "level.csv").write_bytes(text.encode(encoding))
    assert same(tmp_path / "level.csv").sha256 == EXPECTED.sha256


def test_a_file_that_is_not_utf8_is_read_with_a_notice(tmp_path: Path) -> None:
    (tmp_path / "level.csv").write_bytes("time,level,Außen\n0,1,2\n1,2,3\n".encode("cp1252"))
    found = bt.read_telemetry(tmp_path / "level.csv")
    assert list(found.table) == ["level", "Außen"]
    assert "not UTF-8 and was read as Windows-1252" in found.notices[0]


@pytest.mark.parametrize("header", ["Time,LEVEL", " TIME , Level", '"time ","level "'])
def test_case_and_blanks_of_a_header_do_not_matter(tmp_path: Path, header: str) -> None:
    (tmp_path / "level.csv").write_text(TABLE.to_csv(index=False).replace("time,level", header))
    found = same(tmp_path / "level.csv", rename={"Level": "level"}, units={"level": "m", "time": "h"})
    assert found.units == {"level": "m", "time": "h"}


def test_names_that_differ_in_case_alone_are_not_mixed_up() -> None:
    table = pd.DataFrame({"time": [0.0], "T": [1.0], "t": [2.0]})
    found = bt.read_telemetry(table, rename={"T": "warm", "t": "cold"})
    assert found.table.to_dict("list") == {"warm": [1.0], "cold": [2.0]}
    with pytest.raises(InvalidTelemetry, match=r"no time column `Zeit`"):
        bt.read_telemetry(table, time="Zeit")


def test_compressed_files_read_as_plain_ones(tmp_path: Path) -> None:
    (tmp_path / "level.csv.gz").write_bytes(gzip.compress(TABLE.to_csv(index=False).encode()))
    same(tmp_path / "level.csv.gz")


# Semicolons, tabs and decimal commas.


def test_other_separators_get_a_hint(tmp_path: Path) -> None:
    for separator, hint in ((";", "';'"), ("\t", r"'\\t'")):
        path = tmp_path / "level.csv"
        path.write_text(TABLE.to_csv(index=False, sep=separator))
        refused(path, rf"does not read as a CSV.*the header `time.level`.*separator={hint}")
        same(path, separator=separator)


def test_decimal_commas_get_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "level.csv"
    path.write_text(TABLE.to_csv(index=False, sep=";", decimal=","))
    refused(path, "header `time;level`.*separator=';'.*decimal=','")
    refused(path, r"The times in `time` do not read.*'0,0'.*decimal=','", separator=";")
    same(path, separator=";", decimal=",")
    path.write_text("time;level\n0;1,5\n1;OVERFLOW\n")
    refused(path, "'OVERFLOW' in row 2, and 1 such", separator=";", decimal=",")
    found = bt.read_telemetry(path, separator=";", decimal=",", sentinels=("OVERFLOW",))
    assert found.table["level"].tolist()[0] == 1.5


def test_decimal_commas_between_commas_are_not_read_as_columns(tmp_path: Path) -> None:
    path = tmp_path / "level.csv"
    path.write_text("time,level\n0,1,5\n1,2,5\n")
    refused(path, "does not read as a CSV.*decimal comma.*separator=';'")
    path.write_text("time,level\n0,1\n1,2,5\n")
    refused(path, "does not read as a CSV.*decimal comma")


def test_text_with_decimal_commas_is_no_column_without_numbers() -> None:
    table = pd.DataFrame({"time": [0, 1], "level": ["1,5", "2,5"]})
    with pytest.raises(InvalidTelemetry, match=r"(?s)`level`.*'1,5' in row 1.*decimal=','"):
        bt.read_telemetry(table)
    assert bt.read_telemetry(table, decimal=",").table["level"].tolist() == [1.5, 2.5]


# netCDF


def netcdf(path: Path, engine: str = "h5netcdf", **format_: str) -> Path:
    dataset = xr.Dataset.from_dataframe(TABLE.set_index("time"))
    dataset["level"].attrs["units"] = "cm"
    dataset.to_netcdf(path, engine=engine, **format_)
    return path


def test_netcdf_reads_with_its_units(tmp_path: Path) -> None:
    for path in (netcdf(tmp_path / "level.nc"), netcdf(tmp_path / "old.dat", "scipy", format="NETCDF3_64BIT")):
        assert same(path).units == {"level": "cm"}


def test_dates_of_netcdf_are_dates(tmp_path: Path) -> None:
    times = pd.DatetimeIndex(["2026-01-01", "2026-01-02T00:00:30"], name="time")
    xr.Dataset({"level": ("time", [1.0, 2.0])}, {"time": times}).to_netcdf(tmp_path / "level.nc", engine="h5netcdf")
    found = bt.read_telemetry(tmp_path / "level.nc")
    assert found.table.index.tolist() == times.tolist()
    assert found.units == {}


def test_a_result_of_ours_reads_as_telemetry(tmp_path: Path) -> None:
    dataset = xr.Dataset.from_dataframe(TABLE.set_index("time"))
    bt.save(xr.DataTree(dataset), tmp_path / "level.nc")
    same(tmp_path / "level.nc")


def test_netcdf_that_reaches_out_of_itself_is_refused(tmp_path: Path) -> None:
    secret, path = netcdf(tmp_path / "secret.nc"), netcdf(tmp_path / "level.nc")
    with h5py.File(path, "a") as file:
        file["top"] = h5py.ExternalLink(str(secret), "/level")
    refused(path, "`/top`.*ExternalLink", UnsafeArtifact)


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9/level.nc", "https://example.org/level.csv", "s3://b/level.csv"]
)
def test_addresses_are_refused(address: str) -> None:
    refused(address, "address of something remote", UnsafeArtifact)


def test_a_damaged_netcdf_file_is_an_error(tmp_path: Path) -> None:
    path = netcdf(tmp_path / "level.nc")
    path.write_bytes(path.read_bytes()[:700])
    refused(path, "does not read as a netCDF file")


@pytest.mark.parametrize("content", [pickle.dumps([1, 2]), b"PK\x03\x04\x14\x00\x06\x00 a workbook", b""])
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "level.csv").write_bytes(content)
    refused(tmp_path / "level.csv", "does not read as a CSV file")


# Parquet


@pytest.mark.skipif(not HAS_PYARROW, reason="pyarrow is an optional extra")
def test_parquet_reads_as_the_table_does(tmp_path: Path) -> None:
    TABLE.to_parquet(tmp_path / "level.parquet")
    assert same(tmp_path / "level.parquet").sha256 == EXPECTED.sha256
    zoned = TABLE.assign(time=pd.date_range("2026-03-29", periods=3, freq="h", tz="Europe/Berlin"))
    zoned.to_parquet(tmp_path / "level.parquet")
    assert bt.read_telemetry(tmp_path / "level.parquet").table.index[0] == pd.Timestamp("2026-03-28T23:00")


@pytest.mark.skipif(HAS_PYARROW, reason="pyarrow is there")
def test_without_pyarrow_parquet_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "level.parquet").write_bytes(b"PAR1 and so on PAR1")
    refused(tmp_path / "level.parquet", r"Parquet.*pip install .bayestwin\[parquet\]", InvalidSetting)


def test_a_damaged_parquet_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "level.parquet").write_bytes(b"PAR1 and so on PAR1")
    refused(tmp_path / "level.parquet", "Parquet", InvalidTelemetry if HAS_PYARROW else InvalidSetting)


LOGGED = "Station 4\nexported 2026-03-01\ntime,level\n[h],[m]\n0,1.5\n1,2.5\n"


@pytest.mark.parametrize(("text", "skip"), [(LOGGED, [1, 2, 4]), (LOGGED.replace("[h],[m]\n", ""), 2)])
def test_lines_that_are_no_rows_are_left_out(tmp_path, text, skip):
    path = tmp_path / "logged.csv"
    path.write_text(text, encoding="utf-8")
    found = bt.read_telemetry(path, skip_rows=skip)
    assert found.table["level"].tolist() == [1.5, 2.5]
    assert found.table.index.tolist() == [0.0, 1.0]
    with pytest.raises(InvalidTelemetry, match="skip_rows=3"):
        bt.read_telemetry(path)


@pytest.mark.parametrize("skip", [-1, [0], [1.5], True])
def test_lines_that_there_cannot_be_are_refused(tmp_path, skip):
    path = tmp_path / "logged.csv"
    path.write_text("time,level\n0,1.5\n", encoding="utf-8")
    with pytest.raises(InvalidTelemetry, match="`skip_rows` names no lines"):
        bt.read_telemetry(path, skip_rows=skip)
