"""No request that fits the OpenAPI document, or nearly fits it, is answered by an error of the server's own."""

import pathlib
import threading

import pytest
from served import add_run, promote_run

requests = pytest.importorskip("requests")
schemathesis = pytest.importorskip("schemathesis")
uvicorn = pytest.importorskip("uvicorn")
hypothesis = pytest.importorskip("hypothesis")

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")

from bayestwin.serve.app import make_app  # noqa: E402
from bayestwin.serve.tokens import add_token  # noqa: E402


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of what the tool itself uses
def test_no_request_is_answered_by_a_500(tmp_path: pathlib.Path) -> None:
    results = tmp_path / "results"
    promote_run(results, "first", add_run(results, "first"))
    token = add_token(tmp_path / "tokens.json", "tester", "promote")
    app = make_app(results, tokens=tmp_path / "tokens.json")
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.05)
    where = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    headers = {"Authorization": f"Bearer {token}"}
    requests.get(f"{where}/ready", timeout=60)
    app.state.service.served.model("driven").wait()
    schema = schemathesis.openapi.from_url(f"{where}/openapi.json")
    statuses: dict[str, set[int]] = {}
    for operation in schema.get_all_operations():
        _send(operation.ok(), headers, statuses)
    server.should_exit = True
    thread.join(30)
    assert statuses
    assert not {code for own in statuses.values() for code in own if code >= 500}
    assert 200 in statuses["POST /models/{name}/forecast"] | statuses["GET /models/{name}"]
    assert {404, 422} & statuses["POST /models/{name}/scenario"]


def _send(operation: object, headers: dict[str, str], statuses: dict[str, set[int]]) -> None:
    """Make requests of one operation, and note what they were answered by."""

    @hypothesis.settings(
        max_examples=60, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @hypothesis.seed(0)
    @hypothesis.given(case=operation.as_strategy())  # type: ignore[attr-defined]
    def send(case: object) -> None:
        response = case.call(headers=headers)  # type: ignore[attr-defined]
        statuses.setdefault(operation.label, set()).add(response.status_code)  # type: ignore[attr-defined]

    send()
