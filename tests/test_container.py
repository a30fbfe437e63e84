"""The container, as far as that can be told without an engine: its files fit each other, the lock, and the server."""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time

import pytest
import yaml

ROOT = pathlib.Path(__file__).parent.parent
CONTAINER = ROOT / "container"
INSTRUCTIONS = [
    line.split(maxsplit=1)
    for line in re.sub(r"\\\n\s*", "", (CONTAINER / "Dockerfile").read_text(encoding="utf-8")).splitlines()
    if line and not line.startswith("#")
]
COMPOSED = yaml.safe_load((CONTAINER / "compose.yaml").read_text(encoding="utf-8"))


def told(word: str) -> list[str]:
    return [rest for own, rest in INSTRUCTIONS if own == word]


def locked(path: pathlib.Path) -> dict[str, set[str]]:
    """Hashes by name and version."""
    entries = re.split(r"\n(?=\S)", path.read_text(encoding="utf-8").strip())
    return {one.split()[0]: set(re.findall(r"--hash=sha256:([0-9a-f]{64})", one)) for one in entries}


def test_the_image_is_built_of_what_is_there_and_locked() -> None:
    for copied in told("COPY"):
        *sources, _ = [part for part in copied.split() if not part.startswith("--")]
        assert "--from=build" in copied or all((ROOT / source).exists() for source in sources), copied
    assert all(re.fullmatch(r"[\w/.-]+:[\w.-]+( AS \w+)?", image) for image in told("FROM"))
    first, own = [run for run in told("RUN") if "pip install" in run]
    assert "--require-hashes --only-binary :all:" in first
    assert "--no-index --no-deps --no-build-isolation" in own


def test_its_lock_is_a_part_of_that_of_the_tests() -> None:
    ours, all_of = locked(CONTAINER / "requirements.lock"), locked(ROOT / "requirements.lock")
    assert all(ours.values())
    names = {one.partition("==")[0] for one in ours}
    assert {"fastapi", "uvicorn", "prometheus-client", "hatchling", "jax", "numpyro"} <= names
    assert not names & {"pytest", "ruff", "httpx", "mkdocs"}
    assert {name: hashes for name, hashes in ours.items() if all_of.get(name) != hashes} == {}
    assert "://" not in (CONTAINER / "requirements.lock").read_text(encoding="utf-8")


def test_nothing_runs_as_root_or_writes_beside_its_volumes() -> None:
    *_, user = told("USER")
    assert user == COMPOSED["services"]["bayestwin"]["user"] == "10001"
    for name, service in COMPOSED["services"].items():
        assert int(service["user"]) > 0, name
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
    places = {part.rpartition(":")[2] for part in COMPOSED["services"]["bayestwin"]["volumes"]}
    assert places == set(json.loads(told("VOLUME")[0])) == {"/results", "/cache"}
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    for secret in COMPOSED["secrets"].values():
        assert str((CONTAINER / secret["file"]).relative_to(ROOT)) in ignored


def test_what_is_mounted_is_there_and_parses() -> None:
    for service in COMPOSED["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (CONTAINER / source).exists(), source
            elif not source.startswith("$"):
                assert source in COMPOSED["volumes"]
    for path in CONTAINER.rglob("*.yml"):
        assert yaml.safe_load(path.read_text(encoding="utf-8")), path
    (scraped,) = yaml.safe_load((CONTAINER / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    assert scraped["static_configs"][0]["targets"] == ["bayestwin:8000"]
    assert scraped["authorization"]["credentials_file"] == "/run/secrets/token"


def test_the_dashboard_asks_for_what_the_server_tells() -> None:
    pytest.importorskip("prometheus_client")
    from bayestwin.serve.telling import Meters

    meters = Meters()
    meters.seconds.labels("/", "room").observe(0.1)
    meters.requests.labels("/", "200").inc()
    meters.draws.labels("room").inc()
    meters.pit.labels("room", "indoor").observe(0.5)
    meters.tell("room", None, None)
    known = set(re.findall(r"^(\w+?)(?:\{| )", meters.text().decode(), flags=re.MULTILINE)) | {"bayestwin_version"}
    board = json.loads((CONTAINER / "grafana/bayestwin.json").read_text(encoding="utf-8"))
    asked = {
        name
        for panel in board["panels"]
        for target in panel["targets"]
        for name in re.findall(r"\bbayestwin_\w+", target["expr"])
    }
    assert len(asked) >= 7
    assert asked <= known
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_its_command_starts_a_server_that_its_health_check_finds_healthy(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("fastapi")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
    entry, command = (json.loads(told(word)[0]) for word in ("ENTRYPOINT", "CMD"))
    assert entry == ["bayestwin"]
    command = [{"/results": str(tmp_path), "8000": port}.get(word, word) for word in command]
    command = [word if word != "0.0.0.0" else "127.0.0.1" for word in command]
    check = json.loads(told("HEALTHCHECK")[0].partition("CMD ")[2])
    check = [sys.executable, *(word.replace(":8000", f":{port}") for word in check[1:])]
    assert subprocess.run(check, capture_output=True, check=False).returncode != 0  # nothing is healthy yet
    environment = os.environ | {"BAYESTWIN_CACHE_DIR": str(tmp_path / "cache")}
    start = [sys.executable, "-c", "from bayestwin.cli import app; app()", *command]
    with subprocess.Popen(start, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as server:
        try:
            for _ in range(240):
                if subprocess.run(check, capture_output=True, check=False).returncode == 0:
                    break
                assert server.poll() is None, server.communicate()[0].decode()
                time.sleep(0.5)
            else:
                pytest.fail("not healthy after two minutes")
        finally:
            server.terminate()
