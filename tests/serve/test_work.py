"""Updates and promotions that are asked for over HTTP run in processes of their own, and are served in the end."""

import pathlib
import sys
import time
from typing import Any

import pytest
from tank_model import JOB, run_command, telemetry_text, write_model

import bayestwin as bt
from bayestwin.exported import FORECAST

testclient = pytest.importorskip("starlette.testclient")
pytest.importorskip("prometheus_client")

from bayestwin.serve.app import make_app  # noqa: E402
from bayestwin.serve.tokens import add_token  # noqa: E402

LINES = telemetry_text().splitlines()[1:]


@pytest.mark.slow
def test_readings_become_a_run_that_is_promoted_and_served(tmp_path: pathlib.Path) -> None:
    job = JOB.replace("num_samples = 75", "num_samples = 300") + '\n[promote.prod]\nrequires = ["diagnostics"]\n'
    model, results = write_model(tmp_path / "models" / "tank", job=job), tmp_path / "results"
    code, out, err = run_command("calibrate", model, "--results", results)
    assert code == 0, out + err
    for stage in ("staging", "prod"):
        event = bt.registry.promote(model, results, to=stage, by="Ann").event
        assert event is not None
    assert FORECAST in event.evidence["documents"]
    assert event.evidence["not_served"] == ""
    token = add_token(tmp_path / "tokens.json", "historian", "promote")
    app = make_app(results, models=tmp_path / "models", tokens=tmp_path / "tokens.json")
    client = testclient.TestClient(app, headers={"Authorization": f"Bearer {token}"})
    client.get("/ready")
    served = app.state.service.served.model("tank")
    served.wait()
    before = client.get("/models/tank").json()
    rows = [line.split(",") for line in LINES[25:31]]
    names = LINES[0].split(",")
    columns = {name: [float(row[place]) for row in rows] for place, name in enumerate(names)}
    body = {
        "times": columns["hour"],
        "inputs": {"pump": [100.0 * one for one in columns["pump"]]},
        "units": {"pump": "cm/h"},
        "observations": {"level": columns["gauge"]},
    }
    found = client.post("/models/tank/update", json=body)
    assert found.status_code == 202, found.text
    assert len(found.json()["held"]) == 6
    again = client.post("/models/tank/update", json=body)
    assert again.status_code == 409
    done = ended(client, found.json()["work"]["id"])
    assert done["state"] == "finished", done
    run = done["message"].removeprefix("run ")
    assert run in {path.name for path in (results / "tank").iterdir()}
    updated = bt.load(results / "tank" / run / "posterior.nc")
    assert (
        updated["observed_data"].sizes["time"]
        == bt.load(results / "tank" / before["version"]["run"] / "posterior.nc")["observed_data"].sizes["time"] + 6
    )
    assert client.get("/models/tank").json()["version"] == before["version"]  # nothing was promoted
    for stage in ("staging", "prod"):
        found = client.post("/models/tank/promote", json={"run": run, "to": stage, "why": "more rows"})
        assert found.status_code == 202, found.text
        done = ended(client, found.json()["id"])
        assert done["state"] == "finished", done
    client.get("/ready")
    served.wait()
    told = client.get("/models/tank").json()
    assert told["version"]["run"] == run
    assert told["time"]["known_until"] == columns["hour"][-1]
    events = client.get("/models/tank/history").json()["events"]
    assert [(one["who"], one["stage"]) for one in events[2:]] == [("historian", "staging"), ("historian", "prod")]


def ended(client: Any, identifier: str) -> dict[str, Any]:
    deadline = time.monotonic() + 300.0
    while time.monotonic() < deadline:
        found = client.get(f"/models/tank/work/{identifier}").json()
        if found["state"] != "running":
            return found
        time.sleep(0.5)
    raise TimeoutError(identifier)


def test_the_command_line_starts_without_the_server() -> None:
    """And without the extra: its packages are imported when it is asked to serve."""
    import subprocess

    lines = (
        "import sys, bayestwin.cli; print([m for m in ('fastapi', 'uvicorn', 'prometheus_client') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_without_the_extra_it_says_what_to_install(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("bayestwin.serve", "fastapi", "uvicorn"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, out, err = run_command("serve", "--results", tmp_path)
    assert (code, out) == (2, "")
    assert 'pip install "bayestwin[serve]"' in err
    monkeypatch.undo()


def test_tokens_by_the_command_line(tmp_path: pathlib.Path) -> None:
    code, out, err = run_command("token", "control room", "--role", "update", "--results", tmp_path)
    assert code == 0, err
    assert out.startswith("bt_")
    assert "shown this once" in err
    assert out.strip() not in (tmp_path / ".serve-tokens.json").read_text()
    code, _, err = run_command("token", "control room", "--results", tmp_path)
    assert code == 2
    assert "--revoke" in err
    assert run_command("token", "control room", "--revoke", "--results", tmp_path)[0] == 0
    code, _, err = run_command("token", "control room", "--revoke", "--results", tmp_path)
    assert code == 2
    assert "There is no token" in err
