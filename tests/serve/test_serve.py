"""What is in production is answered over HTTP, equal to `predict`; all else is refused in words, never by a 500."""

import json
import logging
import pathlib
import shutil
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import served
from served import add_run, ahead, calibrated, promote_run, telemetry_of

import bayestwin as bt
from bayestwin.exported import FORECAST
from bayestwin.registry.production import rollback

fastapi = pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
testclient = pytest.importorskip("starlette.testclient")

from bayestwin.serve.app import RequestLimits, make_app  # noqa: E402
from bayestwin.serve.tokens import add_token, read_tokens, revoke_token  # noqa: E402


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Results with one run in production; tests that change them take a copy."""
    results = tmp_path_factory.mktemp("served") / "results"
    promote_run(results, "first", add_run(results, "first"))
    return results


def client_of(results: pathlib.Path, **settings: Any) -> Any:
    """A client of a server that is ready, or has failed to be."""
    app = make_app(results, **settings)
    client = testclient.TestClient(app)
    ready(client)
    return client


def ready(client: Any) -> None:
    service = client.app.state.service
    client.get("/ready")
    for model in service.served.models():
        model.wait()


@pytest.fixture(scope="module")
def client(production: pathlib.Path) -> Any:
    return client_of(production, limits=RequestLimits(body=20_000, times=20, draws=100))


@pytest.fixture
def copied(production: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(production, tmp_path / "results"))


def ask(client: Any, verb: str = "forecast", body: Any = None, **settings: Any) -> Any:
    return client.post(f"/models/driven/{verb}", json=ahead() if body is None else body, **settings)


def check_refused(response: Any, status: int, *words: str) -> None:
    """That an answer is none, and says why in our four parts."""
    assert response.status_code == status, response.text
    told = response.json()["error"]
    assert set(told) == {"problem", "expected", "received", "advice"}
    text = " ".join(filter(None, told.values()))
    for word in words:
        assert word in text


# What is answered.


def expected(body: dict, seed: int = 0) -> np.ndarray:
    """Draws of `predict`; shape (draws, times)."""
    future = telemetry_of({"time": body["times"], **body["inputs"]})
    tree = bt.predict(served.driven(), calibrated(seed)[0], future, seed=body["seed"], draws=body["draws"])
    return tree["predictions"]["level"].to_numpy().reshape(-1, len(body["times"]))


def check_series(series: dict, drawn: np.ndarray) -> None:
    np.testing.assert_allclose(series["median"], np.quantile(drawn, 0.5, axis=0), rtol=1e-10)
    np.testing.assert_allclose(series["mean"], drawn.mean(axis=0), rtol=1e-10)
    for prob in series["lower"]:
        ends = np.quantile(drawn, [(1 - float(prob)) / 2, (1 + float(prob)) / 2], axis=0)
        np.testing.assert_allclose([series["lower"][prob], series["upper"][prob]], ends, rtol=1e-10)


def test_a_forecast_is_that_of_predict(client: Any) -> None:
    body = ahead(prob=[0.5, 0.95])
    found = ask(client, body=body)
    assert found.status_code == 200, found.text
    told = found.json()
    assert told["version"]["run"] == "first"
    assert len(told["version"]["posterior_sha256"]) == 64
    assert told["draws"] == 48
    assert told["failed"] == [0, 0, 0]
    assert set(told["observations"]["level"]["lower"]) == {"0.5", "0.95"}
    check_series(told["observations"]["level"], expected(body))


def test_what_lies_beyond_the_calibration_is_said(client: Any) -> None:
    assert ask(client).json()["warnings"] == []
    far = ask(client, body=ahead(inputs={"stepped": [50.0] * 3, "sloped": [0.5] * 3})).json()["warnings"]
    assert any("`stepped` is 50" in words for words in far)


def test_a_scenario_has_differences_of_the_same_draws(client: Any) -> None:
    other = {"stepped": [2.0] * 3}
    found = ask(client, "scenario", ahead(alternatives={"more": other, "same": {}}))
    assert found.status_code == 200, found.text
    told = found.json()
    check_series(told["observations"]["level"], expected(ahead()))
    assert told["alternatives"]["same"]["differences"]["level"]["mean"] == [0.0, 0.0, 0.0]
    more = told["alternatives"]["more"]
    changed = expected(ahead(inputs={"stepped": [2.0] * 3, "sloped": [0.5] * 3}))
    check_series(more["observations"]["level"], changed)
    np.testing.assert_allclose(
        more["differences"]["level"]["mean"], (changed - expected(ahead())).mean(axis=0), atol=1e-10
    )


def test_readings_are_held_against_the_forecast(client: Any) -> None:
    body = {key: own for key, own in ahead().items() if key in ("times", "inputs")}
    drawn = expected({**ahead(), "seed": 0, "draws": 1000})
    body |= {"observations": {"level": [float(np.median(drawn[:, 0])), None, 1e6]}, "calibrate": False}
    service = client.app.state.service
    service.limits = service.limits._replace(draws=1000)
    found = ask(client, "update", body, headers=token_for(client, "update"))
    assert found.status_code == 202, found.text
    held = found.json()["held"]
    assert [one["time"] for one in held] == [12.0, 14.0]
    np.testing.assert_allclose([one["pit"] for one in held], [0.5, 1.0], atol=1e-3)
    assert found.json()["work"] is None
    figures = client.get("/metrics", headers=token_for(client, "read")).text
    assert 'bayestwin_pit_count{model="driven",observation="level"} 2.0' in figures
    revoke(client)


def token_for(client: Any, role: str) -> dict[str, str]:
    path = client.app.state.service._tokens
    name = f"test {role}"
    if any(one.name == name for one in read_tokens(path)):
        revoke_token(path, name)
    return {"Authorization": f"Bearer {add_token(path, name, role)}"}


def revoke(client: Any) -> None:
    path = client.app.state.service._tokens
    for one in read_tokens(path):
        revoke_token(path, one.name)


def test_what_it_tells_of_itself(client: Any) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json() == {"status": "ready", "models": ["driven"]}
    told = client.get("/models").json()["models"][0]
    assert (told["name"], told["state"], told["time"]["known_until"]) == ("driven", "ready", 11.0)
    assert client.get("/models/driven").json()["most_times"] == 24
    events = client.get("/models/driven/history").json()["events"]
    assert [(one["event"], one["run"], one["who"]) for one in events] == [("promote", "first", "Ann")]
    figures = client.get("/metrics").text
    assert 'bayestwin_version{model="driven",posterior_sha256=' in figures
    assert 'bayestwin_drift{model="driven"} -1.0' in figures
    assert 'route="/models/{name}/forecast"' in figures


def test_openapi_has_the_units_of_what_is_served(copied: pathlib.Path) -> None:
    told = client_of(copied).get("/openapi.json").json()
    assert told["info"]["x-models"]["driven"]["inputs"]["stepped"]["unit"] == ""
    assert "`stepped` [1]" in told["components"]["schemas"]["ForecastBody"]["properties"]["inputs"]["description"]
    inputs = told["components"]["schemas"]["ForecastBody"]["properties"]["inputs"]["properties"]
    assert {name: one["type"] for name, one in inputs.items()} == {"stepped": "array", "sloped": "array"}
    assert told["paths"]["/models/{name}/forecast"]["post"]["security"] == [{"token": []}]


# What is refused.


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"draws": 101}, "at most 100"),
        ({"draws": 10**9}, "at most 100"),
        ({"draws": 0}, "`draws`"),
        ({"times": [12.0 + n for n in range(21)]}, "too many times"),
        ({"times": [5.0, 6.0, 7.0]}, "does not begin after"),
        ({"times": []}, "`times`"),
        ({"times": ["2026-01-01", 13.0, 14.0]}, "Some times are dates"),
        ({"times": ["2026-01-01", "2026-01-02", "2026-01-03"]}, "another kind"),
        ({"times": [12.0, 12.0, 13.0]}, ""),
        ({"inputs": {"stepped": [1.0, 1.0, 1.0]}}, "input `sloped`"),
        ({"inputs": {"stepped": [1.0], "sloped": [1.0] * 3}}, "3 values"),
        ({"inputs": {"stepped": [1.0, None, 1.0], "sloped": [1.0] * 3}}, "gap"),
        ({"inputs": {"strange": [1.0] * 3}}, "no input `strange`"),
        ({"units": {"stepped": "kg"}}, "stepped"),
        ({"prob": [1.5]}, "`prob.0`"),
        ({"seed": -1}, "`seed`"),
        ({"more": 1}, "`more`"),
    ],
)
def test_what_does_not_fit_is_told_in_our_words(client: Any, changes: dict, words: str) -> None:
    client.app.state.service.limits = RequestLimits(body=20_000, times=20, draws=100)
    check_refused(ask(client, body=ahead(**changes)), 422, words)


def test_bodies_that_are_no_requests(client: Any) -> None:
    def send(text: str | bytes) -> Any:
        return client.post("/models/driven/forecast", content=text, headers={"Content-Type": "application/json"})

    whole = json.dumps(ahead())
    check_refused(send(whole.replace("1.0", "NaN")), 422, "null in its place")
    check_refused(send(whole.replace("1.0", "Infinity")), 422)
    check_refused(send("[" * 5_000 + "]" * 5_000), 400)
    check_refused(send(b"\xff\xfe"), 400)
    check_refused(send('{"times": ["\\ud800"], "inputs": {}}'), 422)
    check_refused(send("x" * 20_001), 413, "20,000 bytes")
    check_refused(client.get("/models/other"), 404, "`driven`")
    check_refused(client.get("/models/..%2F..%2Fetc"), 404)
    check_refused(client.get("/models/driven/work/none"), 404)
    check_refused(client.put("/models/driven"), 405)


def test_a_body_without_a_length_is_counted(client: Any) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(30):
            yield b" " * 1_000

    check_refused(client.post("/models/driven/forecast", content=parts()), 413)


def test_numbers_that_are_not_known_are_a_code(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    forecast = client.app.state.service.served.model("driven").now().forecast
    draw = type(forecast).draw

    def failing(self: Any, *given: Any, **named: Any) -> Any:
        drawn = draw(self, *given, **named)
        found = {name: array.copy() for name, array in drawn.found.items()}
        for array in found.values():
            array[:10, 1], array[:, 2] = np.nan, np.nan
        return drawn._replace(found=found)

    monkeypatch.setattr(type(forecast), "draw", failing)
    found = ask(client)
    assert found.status_code == 200
    told = json.loads(found.text, parse_constant=pytest.fail)
    assert told["failed"] == [0, 10, 48]
    assert told["observations"]["level"]["median"][2] == "NaN"
    assert isinstance(told["observations"]["level"]["median"][1], float)
    drawn = expected(ahead())[10:, 1]
    assert told["observations"]["level"]["upper"]["0.9"][1] == pytest.approx(np.quantile(drawn, 0.95), rel=1e-10)


# Who may ask.


def test_roles(copied: pathlib.Path) -> None:
    client = client_of(copied)
    update = {"times": [12.0], "inputs": {}, "observations": {"level": [1.0]}}
    check_refused(ask(client, "update", update), 401, "needs a token")
    check_refused(ask(client, "promote", {}), 401)
    assert ask(client).status_code == 200  # nobody has a token, and only this machine can ask
    reader = token_for(client, "read")
    check_refused(ask(client), 401)
    assert ask(client, headers=reader).status_code == 200
    check_refused(ask(client, "update", update, headers=reader), 403, "role `update`")
    updater = token_for(client, "update")
    check_refused(ask(client, "promote", {}, headers=updater), 403)
    check_refused(ask(client, headers={"Authorization": reader["Authorization"] + "x"}), 401, "not known")
    revoke(client)
    check_refused(ask(client, headers=reader), 401, "revoked")
    check_refused(client_of(copied, private=True).get("/models"), 401)


def test_a_browser_sends_its_token_as_a_password(copied: pathlib.Path) -> None:
    client = client_of(copied)
    token = token_for(client, "read")["Authorization"].removeprefix("Bearer ")
    assert client.get("/").headers["www-authenticate"].startswith("Basic")
    assert client.get("/", auth=("anyone", token)).status_code == 200
    promoter = token_for(client, "promote")["Authorization"].removeprefix("Bearer ")
    check_refused(client.post("/models/driven/promote", json={}, auth=("anyone", promoter)), 401)


def test_tokens_are_kept_as_hashes_and_stand_in_no_line_of_the_log(
    copied: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = client_of(copied)
    header = token_for(client, "read")
    token = header["Authorization"].removeprefix("Bearer ")
    path = client.app.state.service._tokens
    assert token not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    with caplog.at_level(logging.DEBUG):
        client.get("/models", headers=header)
        client.get(f"/models?token={token}", headers=header)
        client.get(f"/models/{token}", headers=header)
        client.post("/models/driven/forecast", content=token, headers=header)
    own = [one for one in caplog.records if one.name == "bayestwin.serve"]
    assert len(own) == 4
    assert "test read" in own[0].getMessage()
    assert not any(token in one.getMessage() for one in own)


# What is in production.


def test_a_promotion_drops_no_request(copied: pathlib.Path) -> None:
    client, found, stop = client_of(copied), [], threading.Event()

    def keep_asking() -> None:
        while not stop.is_set():
            found.append(ask(client))

    asking = [threading.Thread(target=keep_asking) for _ in range(2)]
    for one in asking:
        one.start()
    promote_run(copied, "second", add_run(copied, "second", seed=1))
    deadline = time.monotonic() + 120.0
    while time.monotonic() < deadline and not (found and found[-1].json().get("version", {}).get("run") == "second"):
        time.sleep(0.05)
    stop.set()
    for one in asking:
        one.join()
    assert {one.status_code for one in found} == {200}
    runs = [one.json()["version"]["run"] for one in found]
    assert set(runs) == {"first", "second"}
    for seed, run in enumerate(("first", "second")):
        drawn = expected(ahead(), seed)
        for one in found:
            if one.json()["version"]["run"] == run:
                check_series(one.json()["observations"]["level"], drawn)
    rollback("driven", copied, why="the sensor was wrong", by="Ann")
    ask(client)
    ready(client)
    assert ask(client).json()["version"]["run"] == "first"


@pytest.mark.parametrize("name", [FORECAST, "posterior.nc"])
def test_a_damaged_production_is_not_answered(copied: pathlib.Path, name: str) -> None:
    client = client_of(copied)
    path = copied / "driven" / "first" / name
    whole = path.read_bytes()
    path.write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
    ask(client)
    ready(client)
    check_refused(ask(client), 503, name, "first")
    assert client.get("/ready").status_code == 503
    assert client.get("/health").status_code == 200
    assert "does not answer" in client.get("/").text
    path.write_bytes(whole)
    ask(client)
    ready(client)
    assert ask(client).status_code == 200


def test_another_whole_forecast_in_its_place_is_not_answered(copied: pathlib.Path) -> None:
    client, path = client_of(copied), copied / "driven" / "first" / FORECAST
    bt.save(calibrated(1)[1], path)
    ask(client)
    ready(client)
    check_refused(ask(client), 503, "is not the file that was promoted")


def test_a_damaged_run_that_comes_to_production_takes_the_place_of_none(copied: pathlib.Path) -> None:
    client, sha256 = client_of(copied), add_run(copied, "second", seed=1)
    promote_run(copied, "second", sha256)
    (copied / "driven" / "second" / FORECAST).write_bytes(b"another file")
    ask(client)
    ready(client)
    check_refused(ask(client), 503, "second")  # and not what was in production before


def test_a_log_that_was_changed_is_not_answered_from(copied: pathlib.Path) -> None:
    client, log = client_of(copied), copied / "driven" / "registry.jsonl"
    log.write_text(log.read_text().replace("Ann", "Eve"))
    check_refused(ask(client), 503, "was changed")
    check_refused(client.get("/models/driven/history"), 503)


def test_a_run_without_a_forecast_says_how_to_get_one(tmp_path: pathlib.Path) -> None:
    promote_run(tmp_path, "old", add_run(tmp_path, "old", export=False))
    check_refused(ask(client_of(tmp_path)), 503, "--models")


def test_a_model_of_which_nothing_is_in_production_keeps_no_other_from_being_ready(copied: pathlib.Path) -> None:
    (copied / "other").mkdir()
    (copied / "other" / "registry.jsonl").touch()
    client = client_of(copied)
    assert client.get("/ready").json() == {"status": "ready", "models": ["driven"]}
    check_refused(client.get("/models/other"), 503, "is in production")
    assert "Nothing is in production." in client.get("/").text


# The page.


def test_the_page_shows_forecast_and_readings_and_nothing_from_outside(copied: pathlib.Path) -> None:
    promote_run(copied, "first", calibrated_sha256(copied), who="<script>alert(1)</script>")
    client = client_of(copied)
    assert "No forecast was asked for" in client.get("/").text
    ask(client)
    body = {"times": [12.0, 13.0], "inputs": {"stepped": [1.0, 1.0], "sloped": [0.5, 0.5]}}
    body |= {"observations": {"level": [1.0, 2.0]}, "calibrate": False}
    assert ask(client, "update", body, headers=token_for(client, "update")).status_code == 202
    revoke(client)
    page = client.get("/").text
    assert page.count("<circle") == 2
    assert page.count("<polygon") == 2
    assert "<script>alert" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert "event 2" in page


def calibrated_sha256(results: pathlib.Path) -> str:
    import hashlib

    return hashlib.sha256((results / "driven" / "first" / "posterior.nc").read_bytes()).hexdigest()
