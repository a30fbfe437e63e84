"""The application: what is asked over HTTP, by whom, within which limits, and the process that listens.

Every failure is JSON that says more.
"""

import base64
import binascii
import contextlib
import logging
import pathlib
import tempfile
import threading
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, NamedTuple

import fastapi
import fastapi.exceptions
import fastapi.openapi.utils
import jax
import pydantic_core
import starlette.exceptions
import uvicorn
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import HTMLResponse

from bayestwin import errors
from bayestwin._base.compilation import keep_compiled
from bayestwin._base.process import num_cores
from bayestwin.project.record import read_record
from bayestwin.serve import bodies
from bayestwin.serve.answers import forecast_answer, held_points, model_answer, rows_of, scenario_answer
from bayestwin.serve.page import Recent, page_of
from bayestwin.serve.production import FileMark, InService, Served, ServedModel, mark_of
from bayestwin.serve.telling import BodyLimit, Meters, monitored
from bayestwin.serve.tokens import Role, TokenHolder, holder_of, read_tokens
from bayestwin.serve.work import Works, write_rows


class RequestLimits(NamedTuple):
    """How much one request may ask for.

    Attributes:
        body: Bytes.
        times: Times of a forecast; programs have room for no more than they were exported for.
        draws: Draws of a forecast.
    """

    body: int = 1 << 20
    times: int = 384
    draws: int = 4000


class RefusedRequest(Exception):
    """An answer that is none, with its status and what it says."""

    def __init__(self, status: int, reason: errors.BayestwinError, headers: dict[str, str] | None = None) -> None:
        """Of an error with its four parts."""
        super().__init__(reason.problem)
        self.status, self.reason, self.headers = status, reason, headers


STATUS: tuple[tuple[type[errors.BayestwinError], int], ...] = (
    (errors.RunLocked, 409),
    (errors.CorruptArtifact, 503),
    (errors.NotReady, 503),
    (errors.InvalidInput, 422),
    (errors.InvalidSetting, 422),
)
"""The first that fits; all else is 503."""

FAILURES: dict[int | str, dict[str, Any]] = {
    code: {"model": bodies.Failure, "description": words}
    for code, words in {
        400: "the body is no JSON",
        401: "no token, or one that is not known",
        403: "a token whose role may not do that",
        404: "no such model, or nothing of that name",
        409: "something else is under way, or this server cannot do it",
        413: "the body is too large",
        422: "the request does not fit the model, or asks for too much",
        503: "production is not ready, or its files are not the ones that were promoted",
    }.items()
}


PAGE_HEADERS = {
    "Refresh": "60",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
"""Of the page for people, whose own policy lets it load nothing."""


class Service:
    """All that requests share.

    Attributes:
        served: The models.
        works: Updates and promotions.
        meters: Figures.
        limits: Of one request.
        recent: By model, what the page shows of late.
    """

    def __init__(
        self,
        results: pathlib.Path,
        models: pathlib.Path | None,
        tokens: pathlib.Path,
        limits: RequestLimits,
        *,
        private: bool,
    ) -> None:
        """Nothing is loaded yet."""
        self.served, self.works = Served(results), Works(models, results)
        self.meters, self.limits = Meters(), limits
        self.recent: dict[str, Recent] = {}
        # more at once than there are cores would only make each one wait longer
        self.cores = threading.Semaphore(num_cores())
        self._tokens, self._private = tokens, private
        self._known: tuple[FileMark, tuple[TokenHolder, ...]] = ((), ())

    def holders(self) -> tuple[TokenHolder, ...]:
        """Who has a token; a file that was changed is read anew."""
        mark = mark_of(self._tokens)
        if mark != self._known[0]:
            self._known = (mark, read_tokens(self._tokens))
        return self._known[1]

    def allowed(self, request: Request, role: Role) -> TokenHolder | None:
        """Who asks; None where reading is open to all.

        Raises:
            RefusedRequest: Nobody who may.
        """
        token, known = _token_in(request), self.holders()
        holder = None if token is None else holder_of(token, known)
        if holder is None and role == "read" and token is None and not known and not self._private:
            return None
        if holder is None:
            reason = errors.InvalidSetting(
                "This needs a token." if token is None else "This token is not known.",
                expected=f"`Authorization: Bearer …` with a token of the role `{role}`",
                received="none" if token is None else "one that was not given out, or was revoked",
                advice=f"On the host: `bayestwin token NAME --role {role}`.",
            )
            kind = "Basic" if request.url.path == "/" else "Bearer"
            raise RefusedRequest(401, reason, {"WWW-Authenticate": f'{kind} realm="bayestwin"'})
        if not holder.may(role):
            reason = errors.InvalidSetting(
                f"The token of `{holder.name}` may not do this.",
                expected=f"the role `{role}`",
                received=f"the role `{holder.role}`",
                advice=f"On the host: `bayestwin token NAME --role {role}`.",
            )
            raise RefusedRequest(403, reason)
        request.scope["who"] = holder.name
        return holder

    def model(self, name: str) -> ServedModel:
        """A model.

        Raises:
            RefusedRequest: There is none of that name.
        """
        found = self.served.model(name)
        if found is None:
            names = ", ".join(f"`{one.name}`" for one in self.served.models())
            reason = errors.InvalidInput(
                "There is no such model.",
                expected=names or "a model with a log of promotions; there is none",
                received=f"`{name[:100]}`",
                advice="`GET /models` lists them.",
            )
            raise RefusedRequest(404, reason)
        return found

    def serving(self, name: str) -> InService:
        """What answers for a model.

        Raises:
            RefusedRequest: Nothing does.
        """
        try:
            return self.model(name).now()
        except errors.BayestwinError as reason:
            raise RefusedRequest(
                503, reason, {"Retry-After": "2"} if isinstance(reason, errors.NotReady) else None
            ) from reason

    def check(self, body: bodies.RowsBody) -> None:
        """Refuse what is more than a request may ask for.

        Raises:
            InvalidSetting: It is.
        """
        asked = {"times": len(body.times)}
        if isinstance(body, bodies.DrawsBody):
            asked["draws"] = body.draws
        for name, num in asked.items():
            if num > getattr(self.limits, name):
                raise errors.InvalidSetting(
                    f"This asks for too many {name}.",
                    expected=f"at most {getattr(self.limits, name):,}",
                    received=f"{num:,}",
                    advice="Ask for less at once; `bayestwin serve --help` says how a server allows more.",
                )

    def states(self) -> dict[str, tuple[InService | None, errors.BayestwinError | None]]:
        """By model, what answers for it, or why nothing does; the figures are told both."""
        found = {}
        for model in self.served.models():
            serving, reason = None, None
            try:
                serving = model.now()
            except errors.BayestwinError as why:
                reason = why
            seen = None
            if serving is not None:
                seen = monitored(model.runs / serving.held.run, serving.held.posterior_sha256)
            self.meters.tell(model.name, serving, None if seen is None else str(seen.get("verdict")))
            found[model.name] = (serving, reason)
        return found


def make_app(
    results: pathlib.Path,
    *,
    models: pathlib.Path | None = None,
    tokens: pathlib.Path | None = None,
    limits: RequestLimits | None = None,
    private: bool = False,
) -> FastAPI:
    """The application.

    Args:
        results: Where runs are filed.
        models: The folder with the model folders, where updates and promotions are to be possible.
        tokens: The file of tokens; by default one among the results.
        limits: Of one request.
        private: Whether reading needs a token also where none was given out.
    """
    from bayestwin.serve.tokens import TOKENS

    service = Service(results, models, tokens or results / TOKENS, limits or RequestLimits(), private=private)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.states()  # begins to load
        yield

    app = FastAPI(
        title="bayestwin",
        summary="Forecasts of calibrated digital twins, from what is in production.",
        version=_version(),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses=FAILURES,
    )
    app.state.service = service
    app.add_middleware(BodyLimit, most=service.limits.body, meters=service.meters)  # type: ignore[arg-type]
    _add_failures(app)
    _add_reading(app, service)
    _add_forecasts(app, service)
    _add_changes(app, service)
    app.openapi = lambda: _described(app, service)  # type: ignore[method-assign]
    return app


def _version() -> str:
    import importlib.metadata

    return importlib.metadata.version("bayestwin")


def _may(service: Service, role: Role) -> Any:
    # one that is not `async` would have a thread of its own, which costs more than what it does
    async def allowed(request: Request) -> TokenHolder | None:
        return service.allowed(request, role)

    return Depends(allowed)


def answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON, in which there is no number that it does not have."""
    return Response(pydantic_core.to_json(content, inf_nan_mode="strings"), status, headers, "application/json")


# What is read.


def _add_reading(app: FastAPI, service: Service) -> None:
    @app.get("/", response_class=HTMLResponse, dependencies=[_may(service, "read")])
    def page() -> HTMLResponse:
        """The page for people."""
        return HTMLResponse(page_of(service.served, service.states(), service.recent), headers=PAGE_HEADERS)

    @app.get("/health", responses={200: {"description": "the process answers"}})
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready")
    def ready() -> Response:
        """Whether all that is in production can answer."""
        states = service.states()
        waiting = {
            name: why.summary
            for name, (_, why) in states.items()
            if why is not None and not isinstance(why, errors.NothingInProduction)
        }
        names = [name for name, (serving, _) in states.items() if serving is not None]
        if names and not waiting:
            return answer({"status": "ready", "models": names})
        reason = errors.NotReady(
            "Not all that is in production can answer.",
            expected="at least one model, and each verified and loaded",
            received="; ".join(waiting.values()) or "no model with a log of promotions",
            advice="Wait a little where something is being loaded; else see what each one says.",
        )
        raise RefusedRequest(503, reason)

    @app.get("/metrics", dependencies=[_may(service, "read")])
    def metrics() -> Response:
        """Figures as Prometheus reads them."""
        service.states()
        return Response(service.meters.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/models", dependencies=[_may(service, "read")])
    def models() -> Response:
        """All models: what answers for each, what it takes and gives, in which units."""
        return answer({"models": [_model(name, *own) for name, own in service.states().items()]})

    @app.get("/models/{name}", dependencies=[_may(service, "read")])
    def model(name: str) -> Response:
        """One model: what it takes and gives, in which units."""
        return answer(_model(name, service.serving(name), None))

    @app.get("/models/{name}/history", dependencies=[_may(service, "read")])
    def history(name: str) -> Response:
        """All that was done with the runs of a model, after its log was verified."""
        try:
            events = service.model(name).events()
        except errors.BayestwinError as reason:
            raise RefusedRequest(503, reason) from reason
        kept = ("seq", "event", "run", "stage", "replaces", "who", "when", "why", "overridden", "posterior_sha256")
        return answer({"events": [{key: getattr(one, key) for key in kept} for one in events]})

    @app.get(
        "/models/{name}/work/{identifier}",
        dependencies=[_may(service, "read")],
        response_model=bodies.WorkAnswer,
    )
    def work(name: str, identifier: str) -> Response:
        """What became of an update or a promotion."""
        service.model(name)
        found = service.works.find(name, identifier)
        if found is None:
            reason = errors.InvalidInput(
                "Nothing of that name is known.",
                expected="the `id` of an update or a promotion of this model since the server began",
                received=f"`{identifier[:100]}`",
                advice=f"`GET /models/{name}/history` lists what was promoted.",
            )
            raise RefusedRequest(404, reason)
        return answer(found)


def _model(name: str, serving: InService | None, reason: errors.BayestwinError | None) -> dict[str, Any]:
    if serving is None:
        return {"name": name, "state": "unavailable", "why": None if reason is None else reason.summary}
    return {"name": name, "state": "ready", "version": _version_of(name, serving), **model_answer(serving.forecast)}


def _version_of(name: str, serving: InService) -> dict[str, Any]:
    return {"model": name, **serving.version}


# What is forecast.


def _add_forecasts(app: FastAPI, service: Service) -> None:
    @app.post("/models/{name}/forecast", dependencies=[_may(service, "read")], response_model=bodies.ForecastAnswer)
    def forecast(name: str, body: bodies.ForecastBody) -> Response:
        """New observations at later times, as intervals, driven by these inputs."""
        service.check(body)
        serving = service.serving(name)
        with service.cores:
            found, _ = forecast_answer(serving.forecast, body)
        version = _version_of(name, serving)
        service.meters.draws.labels(name).inc(found["draws"])
        service.recent.setdefault(name, Recent()).forecast = {"version": version, **found}
        return answer({"version": version, **found})

    @app.post("/models/{name}/scenario", dependencies=[_may(service, "read")], response_model=bodies.ScenarioAnswer)
    def scenario(name: str, body: bodies.ScenarioBody) -> Response:
        """What would be different if inputs were others, with intervals of the differences."""
        service.check(body)
        serving = service.serving(name)
        with service.cores:
            found = scenario_answer(serving.forecast, body)
        service.meters.draws.labels(name).inc(found["draws"] * (1 + len(body.alternatives)))
        return answer({"version": _version_of(name, serving), **found})


# What is changed.


def _add_changes(app: FastAPI, service: Service) -> None:
    @app.post(
        "/models/{name}/update",
        status_code=202,
        response_model=bodies.UpdateAnswer,
        dependencies=[_may(service, "update")],
    )
    def update(name: str, body: bodies.UpdateBody) -> Response:
        """Hold what was observed since against the forecast, and update the posterior in a process of its own.

        An update leaves a new run, and promotes nothing.
        """
        service.check(body)
        serving = service.serving(name)
        with service.cores:
            held = held_points(serving.forecast, body)
        work = None
        if body.calibrate:
            made = tempfile.TemporaryDirectory(prefix="bayestwin-")
            try:
                rows = rows_of(serving.forecast, body, {**body.inputs, **body.observations})
                job = read_record(service.served.results / name / serving.held.run).get("job") or {}
                path = write_rows(serving.forecast, rows, job, pathlib.Path(made.name) / "rows.csv")
                arguments = ["--telemetry", str(path), "--run", serving.held.run]
                work = _begun(service, "update", name, arguments, made)
            except BaseException:
                made.cleanup()
                raise
        for one in held:
            if not isinstance(one["pit"], str):
                service.meters.pit.labels(name, one["observation"]).observe(one["pit"])
        service.recent.setdefault(name, Recent()).hold(held)
        return answer({"version": _version_of(name, serving), "held": held, "work": work}, 202)

    @app.post("/models/{name}/promote", status_code=202, response_model=bodies.WorkAnswer)
    def promote(
        name: str, body: bodies.PromoteBody, holder: Annotated[TokenHolder, _may(service, "promote")]
    ) -> Response:
        """Bring a run into a stage, if all gates pass, in a process of its own; gates cannot be overruled here."""
        service.model(name)
        arguments = ["--to", body.to, "--by", holder.name, f"--why={body.why}"]
        arguments += [] if body.run is None else [f"--run={body.run}"]
        return answer(_begun(service, "promote", name, arguments), 202)


def _begun(service: Service, kind: str, name: str, arguments: list[str], made: Any = None) -> dict[str, Any]:
    try:
        return service.works.begin(kind, name, arguments, made)
    except errors.InvalidInput as reason:
        raise RefusedRequest(409, reason) from reason


# What fails.


def _add_failures(app: FastAPI) -> None:
    @app.exception_handler(RefusedRequest)
    def refused(_: Request, reason: Exception) -> Response:
        assert isinstance(reason, RefusedRequest)
        return _failure(reason.status, reason.reason, reason.headers)

    @app.exception_handler(errors.BayestwinError)
    def wrong(_: Request, reason: Exception) -> Response:
        assert isinstance(reason, errors.BayestwinError)
        return _failure(next((code for kind, code in STATUS if isinstance(reason, kind)), 503), reason)

    @app.exception_handler(fastapi.exceptions.RequestValidationError)
    def invalid(_: Request, reason: Exception) -> Response:
        assert isinstance(reason, fastapi.exceptions.RequestValidationError)
        first = reason.errors()[0]
        place = ".".join(str(part)[:100] for part in first["loc"][1:]) or "the body"
        several = len(reason.errors())
        told = errors.InvalidSetting(
            f"`{place}` cannot be used." + (f" So cannot {several - 1} more." if several > 1 else ""),
            expected=str(first["msg"])[:300],
            received=repr(first.get("input"))[:100],
            advice="`GET /openapi.json` says what a request holds. JSON has no NaN: write null in its place.",
        )
        return _failure(400 if first["type"] == "json_invalid" else 422, told)

    @app.exception_handler(starlette.exceptions.HTTPException)
    def other(request: Request, reason: Exception) -> Response:
        assert isinstance(reason, starlette.exceptions.HTTPException)
        told = errors.InvalidInput(
            str(reason.detail),
            expected="a method and a path that this server has",
            received=f"{request.method} {request.url.path[:100]}",
            advice="`GET /openapi.json` lists what can be asked for, and how.",
        )
        return _failure(reason.status_code, told, dict(reason.headers or {}))


def _failure(status: int, reason: errors.BayestwinError, headers: dict[str, str] | None = None) -> Response:
    """Surrogates, which names may have, are no UTF-8."""
    listed = " ".join(one.summary for one in reason.reasons)
    told = {
        "problem": f"{reason.summary} {listed}".strip(),
        "expected": reason.expected,
        "received": reason.received,
        "advice": reason.advice,
    }
    plain = {key: None if text is None else text.encode("utf-8", "replace").decode() for key, text in told.items()}
    return answer({"error": plain}, status, headers)


def _token_in(request: Request) -> str | None:
    """The token of a request; browsers send it as the password of `Basic`."""
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and value.strip():
        return value.strip()
    if kind.lower() == "basic" and request.method == "GET":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2] or None
        except (binascii.Error, ValueError):
            return None
    return None


def _described(app: FastAPI, service: Service) -> dict[str, Any]:
    """The OpenAPI document, with inputs, observations and units of what is in production now."""
    found = fastapi.openapi.utils.get_openapi(
        title=app.title, version=app.version, summary=app.summary, routes=app.routes
    )
    units = {}
    for name, (serving, _) in service.states().items():
        if serving is not None:
            told = model_answer(serving.forecast)
            units[name] = {kind: told[kind] for kind in ("inputs", "events", "observations", "time")}
    found["info"]["x-models"] = units
    lines = [
        f"{name}: " + ", ".join(f"`{one}` [{own['unit'] or '1'}]" for one, own in told["inputs"].items())
        for name, told in units.items()
        if told["inputs"]
    ]
    if lines:
        for schema in ("ForecastBody", "ScenarioBody", "UpdateBody"):
            inputs = found["components"]["schemas"][schema]["properties"]["inputs"]
            inputs["description"] = "By input or event, in these units. " + "; ".join(lines)
            column, inputs["properties"] = inputs.pop("additionalProperties"), {}
            for told in units.values():
                own = {name: one["unit"] or "1" for kind in ("inputs", "events") for name, one in told[kind].items()}
                inputs["properties"] |= {name: {**column, "description": unit} for name, unit in own.items()}
            inputs["additionalProperties"] = False  # no model has another one
    found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    names = [model.name for model in service.served.models()]
    for path, methods in found["paths"].items():
        for told in methods.values():
            for parameter in told.get("parameters", ()):
                if parameter["name"] == "name" and names:
                    parameter["schema"]["enum"] = names
            if path not in ("/health", "/ready"):
                told["security"] = [{"token": []}]
    return found


def run(
    results: pathlib.Path,
    host: str,
    port: int,
    *,
    models: pathlib.Path | None,
    tokens: pathlib.Path | None,
    limits: Mapping[str, int],
    private: bool,
) -> None:
    """Listen until Ctrl-C: one process, with JAX on its processor, and a log of its own in place of the server's.

    Args:
        results: As of `make_app`, like all that follow but two.
        host: Address.
        port: 0 for a free one.
        models: As of `make_app`.
        tokens: Likewise.
        limits: Likewise, by name.
        private: Likewise.
    """
    jax.config.update("jax_platforms", "cpu")
    keep_compiled()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    app = make_app(results, models=models, tokens=tokens, limits=RequestLimits(**limits), private=private)
    # the server's own lines have what follows a `?`, where a token may stand
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False, server_header=False)
