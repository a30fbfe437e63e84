"""A dataset is the file that was published or an error: found locally, else in the cache, else downloaded."""

import functools
import hashlib
import http.server
import os
import pathlib
import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from shared_data import SHARED

from bayestwin.errors import InvalidTelemetry, StorageFailure
from bayestwin.project.model import load_model, load_telemetry
from bayestwin.telemetry import datasets

ROOT = pathlib.Path(__file__).parents[2]
CONTENT = b"Time,level\n0,1.5\n60,1.25\n"

real_data = pytest.mark.skipif(
    not (SHARED / "armadillo" / "armadillo.csv").is_file(),
    reason="armadillo is not on this machine: set BAYESTWIN_DATA_DIR to where it is",
)


class Served(http.server.BaseHTTPRequestHandler):
    """Serves `/tank.csv`; everything else is not found."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path == "/cut.csv":
            self.send_response(200)
            self.send_header("Content-Length", str(2 * len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT)
        elif self.path == "/tank.csv":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(CONTENT)
        else:
            self.send_error(404)

    def log_message(self, *arguments: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    """A server on this machine, which keeps what it was asked for in `asked`."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Served) as found:
        found.asked = []
        thread = threading.Thread(target=functools.partial(found.serve_forever, poll_interval=0.01))
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def nowhere(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """No local data, no proxy, and a cache of our own, which is empty."""
    monkeypatch.delenv("BAYESTWIN_DATA_DIR", raising=False)
    monkeypatch.setenv("BAYESTWIN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache"


def source(port: int | None, file: str = "tank.csv", content: bytes = CONTENT, **record: object) -> datasets.Dataset:
    url = None if port is None else f"http://127.0.0.1:{port}/{file}"
    found = datasets.File(file, hashlib.sha256(content).hexdigest(), url)
    reads = datasets.Record(file, {"time": "Time", "units": {"Time": "s"}}, **record)
    return datasets.Dataset("a tank", "nobody/tanks @ 0000000", "MIT", (found,), (reads,), "every tenth sample")


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lets a test add datasets of its own."""

    def add(**sources: datasets.Dataset) -> None:
        monkeypatch.setattr(datasets, "REGISTRY", dict(datasets.REGISTRY) | sources)

    return add


def test_it_is_downloaded_once_and_kept(server, register, nowhere: pathlib.Path) -> None:
    register(tank=source(server.server_port))
    telemetry = datasets.load("tank", rename={"level": "water"})
    np.testing.assert_array_equal(telemetry.table["water"], [1.5, 1.25])
    assert telemetry.units["time"] == "s"
    path = nowhere / "tank" / "tank.csv"
    assert path.read_bytes() == CONTENT
    assert sorted(nowhere.rglob("*")) == [path.parent, path]
    assert datasets.find("tank") == path
    assert server.asked == ["/tank.csv"]


def test_lines_that_are_no_values_are_left_out(register, tmp_path, monkeypatch) -> None:
    content = b"Time,level\ns,m\nAvg,Avg\n0,1.5\n60,1.25\n"
    register(tank=source(0, content=content, skip=(1, 2)))
    (tmp_path / "tank").mkdir()
    (tmp_path / "tank" / "tank.csv").write_bytes(content)
    monkeypatch.setenv("BAYESTWIN_DATA_DIR", str(tmp_path))
    np.testing.assert_array_equal(datasets.load("tank").table["level"], [1.5, 1.25])


def test_a_local_folder_goes_first(server, register, nowhere: pathlib.Path, tmp_path, monkeypatch) -> None:
    register(tank=source(server.server_port))
    local, cached = (folder / "tank" / "tank.csv" for folder in (tmp_path / "local", nowhere))
    monkeypatch.setenv("BAYESTWIN_DATA_DIR", str(tmp_path / "local"))
    for path in (cached, local):
        path.parent.mkdir(parents=True)
        path.write_bytes(CONTENT)
        assert datasets.find("tank") == path
    assert server.asked == []


@pytest.mark.parametrize("where", ["BAYESTWIN_DATA_DIR", "BAYESTWIN_CACHE_DIR"])
def test_another_file_under_its_name_is_refused(server, register, tmp_path, monkeypatch, where: str) -> None:
    register(tank=source(server.server_port))
    path = tmp_path / "local" / "tank" / "tank.csv"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT.replace(b"1.5", b"1.6"))
    monkeypatch.setenv(where, str(tmp_path / "local"))
    with pytest.raises(InvalidTelemetry, match=r"is not the file that was published") as caught:
        datasets.load("tank")
    assert str(path) in str(caught.value)
    assert hashlib.sha256(CONTENT).hexdigest() in str(caught.value)
    assert server.asked == []


def test_a_download_of_something_else_is_refused_and_not_kept(server, register, nowhere: pathlib.Path) -> None:
    register(tank=source(server.server_port, content=b"what was published"))
    with pytest.raises(InvalidTelemetry, match="is not the file that was published"):
        datasets.find("tank")
    assert not nowhere.exists()


@pytest.mark.parametrize("file", ["gone.csv", "cut.csv"])
def test_a_download_that_fails_says_what_to_do(server, register, nowhere: pathlib.Path, file: str) -> None:
    register(tank=source(server.server_port, file))
    with pytest.raises(StorageFailure, match="cannot be downloaded") as caught:
        datasets.find("tank")
    assert f"http://127.0.0.1:{server.server_port}/{file}" in str(caught.value)
    assert str(nowhere) in str(caught.value)
    assert not nowhere.exists()


def test_without_a_network_it_says_so(register) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    register(tank=source(port))
    with pytest.raises(StorageFailure, match=r"(?s)`tank` is not on this machine.*Received: .*refused.*yourself"):
        datasets.load("tank")


def test_a_cache_that_cannot_be_written_is_an_error(server, register, nowhere: pathlib.Path) -> None:
    register(tank=source(server.server_port))
    nowhere.write_text("in the way")
    with pytest.raises(StorageFailure, match="BAYESTWIN_CACHE_DIR"):
        datasets.load("tank")


def test_a_download_that_cannot_be_kept_whole_is_not_kept(server, register, nowhere, monkeypatch) -> None:
    register(tank=source(server.server_port))
    monkeypatch.setattr("os.replace", lambda *paths: os.stat("/no/such/file"))
    with pytest.raises(StorageFailure, match="cannot be kept"):
        datasets.load("tank")
    assert [path for path in nowhere.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", ["armadilo", "", "../armadillo"])
def test_an_unknown_name_lists_those_that_are_known(name: str) -> None:
    with pytest.raises(InvalidTelemetry, match="`armadillo`"):
        datasets.load(name)


def test_every_dataset_says_where_it_comes_from() -> None:
    for name, found in datasets.REGISTRY.items():
        assert found.source
        assert found.licence
        assert found.words
        for file in found.files:
            assert len(file.sha256) == 64
            if file.url is None:
                assert found.made, name
            else:
                assert file.url.startswith("https://")
                # at one commit, so that the hash can hold
                assert any(len(part) == 40 for part in file.url.split("/"))
        assert {record.file for record in found.records} <= {file.name for file in found.files}
        assert datasets.describe(name).count("\n") == 2 + len(found.files)
    assert datasets.names() == tuple(datasets.REGISTRY)


def test_a_file_without_a_public_address_says_so(register) -> None:
    register(tank=source(None))
    with pytest.raises(StorageFailure, match=r"(?s)`tank.csv`.*BAYESTWIN_DATA_DIR.*nobody/tanks.*every tenth sample"):
        datasets.load("tank")
    assert "tank.csv: telemetry; cannot be downloaded (every tenth sample)" in datasets.describe("tank")


def test_source_and_licence_are_printed_once(register, tmp_path, monkeypatch, capsys) -> None:
    register(tank=source(None)._replace(source="nobody/tanks @ 1111111"))
    (tmp_path / "tank").mkdir()
    (tmp_path / "tank" / "tank.csv").write_bytes(CONTENT)
    monkeypatch.setenv("BAYESTWIN_DATA_DIR", str(tmp_path))
    for _ in range(2):
        datasets.load("tank")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "tank: nobody/tanks @ 1111111. Licence: MIT.\n")


def test_a_file_that_is_no_record_or_not_there_is_an_error(register) -> None:
    with pytest.raises(InvalidTelemetry, match=r"(?s)`anomaly_windows.json` of dataset `nab` is no record.*find\("):
        datasets.load("nab", "anomaly_windows.json")
    with pytest.raises(InvalidTelemetry, match=r"(?s)`nab` has no file `cpu.csv`.*`anomaly_windows.json`"):
        datasets.find("nab", "cpu.csv")


SHAPES = {
    "armadillo": (1, 233, 4),
    "battery_leaf": (1, 13248, 2),
    "battery_lgm50": (144, 16188, 4),
    "battery_nasa": (4, 636, 1),
    "cascaded_tanks": (1, 1024, 2),
    "darkgreybox": (1, 792, 4),
    "dutch_home": (1, 4181, 5),
    "fleet": (30, 150, 1),
    "emps": (1, 2485, 3),
    "glucose": (1, 24, 2),
    "lynx_hare": (1, 21, 2),
    "nab": (1, 22683, 1),
    "nist_strd": (1, 154, 1),
    "petab": (1, 16, 3),
    "sbibm": (5, 50, 2),
    "sir": (1, 20, 2),
    "soil_carbon": (1, 25, 2),
    "theophylline": (12, 132, 4),
    "ucl_wall": (1, 864, 4),
}
"""By dataset: experiments, times and signals of its first record."""


@real_data
@pytest.mark.parametrize("name", sorted(datasets.REGISTRY))
def test_every_dataset_loads_as_it_is_described(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAYESTWIN_DATA_DIR", str(SHARED))
    for file in datasets.REGISTRY[name].files:
        assert datasets.find(name, file.name).is_file()
    shapes = []
    for record in datasets.REGISTRY[name].records:
        found = datasets.load(name, record.file)
        each = found if isinstance(found, dict) else {"": found}
        signals = {column for one in each.values() for column in one.table}
        shapes.append((len(each), sum(len(one.table) for one in each.values()), len(signals)))
    assert shapes[0] == SHAPES[name]
    assert all(times > 1 for _, times, _ in shapes)


@real_data
def test_observations_of_sbibm_start_where_the_model_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAYESTWIN_DATA_DIR", str(SHARED))
    for one in datasets.load("sbibm").values():
        # 30 and 1 at the start, with log-normal noise of 0.1
        np.testing.assert_allclose(np.log(one.table.loc[0.0, ["prey", "predators"]] / [30.0, 1.0]), 0.0, atol=0.4)


@real_data
def test_the_test_house_is_found_and_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAYESTWIN_DATA_DIR", str(SHARED))
    house = datasets.load("armadillo", rename={"T_int": "indoor"})
    assert house.table.shape == (233, 4)
    assert house.units == {"time": "s", "T_ext": "degC", "P_hea": "W", "I_sol": "W/m^2", "indoor": "degC"}
    np.testing.assert_allclose(np.diff(house.table.index), 1800.0)
    assert house.table["indoor"].between(25.0, 42.0).all()


@real_data
def test_the_room_is_bound_to_the_test_house(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAYESTWIN_DATA_DIR", str(SHARED))
    split = load_telemetry(load_model(ROOT / "models" / "room", "armadillo.toml"))
    assert (len(split.calibration.table), len(split.held_out.table)) == (180, 53)
