"""`serve` and `token`: what is in production over HTTP, and who may ask for what."""

import ipaddress
import pathlib
from typing import Annotated, Literal

import rich.markup
import typer

from bayestwin.cli.frame import AsJson, ResultsPath, advise, explained, print_json

TokensPath = Annotated[
    pathlib.Path | None, typer.Option("--tokens", help="File with the hashes of tokens; by default among the results.")
]


def serve(
    host: Annotated[str, typer.Option(help="Address; any but this machine's own needs tokens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen at; 0 takes a free one.")] = 8000,
    models: Annotated[
        pathlib.Path | None,
        typer.Option(help="Folder with the model folders: for missing forecasts, updates and promotions."),
    ] = None,
    tokens: TokensPath = None,
    max_body: Annotated[int, typer.Option(min=1_000, help="Most bytes of a request.")] = 1 << 20,
    max_times: Annotated[int, typer.Option(min=1, help="Most times of a forecast.")] = 384,
    max_draws: Annotated[int, typer.Option(min=1, help="Most draws of a forecast.")] = 4000,
    results: ResultsPath = pathlib.Path("results"),
    as_json: AsJson = False,
) -> None:
    """Serve the forecasts of what is in production over HTTP, with a page for people at `/`.

    Example: bayestwin serve --port 8000
    """
    with explained() as console:
        _check_there(results)
        try:
            from bayestwin.serve.app import run
        except ModuleNotFoundError as reason:
            if (reason.name or "").split(".")[0] not in ("fastapi", "starlette", "uvicorn", "prometheus_client"):
                raise
            from bayestwin.errors import InvalidSetting

            raise InvalidSetting(
                f"Serving needs {reason.name}, which is not installed.",
                expected="the packages of the extra `serve`",
                received="none of that name",
                advice='Install them: `pip install "bayestwin[serve]"`.',
            ) from reason
        if models is not None:
            from bayestwin.registry.forecasts import write_missing_forecasts

            for name, why in write_missing_forecasts(models, results).items():
                words = f"has no forecast to serve. {why}" if why else "had no exported forecast; now it has one."
                advise(f"{name} {words}")
        if as_json:
            print_json({"url": f"http://{host}:{port}/", "results": results, "models": models})
        else:
            where = rich.markup.escape(str(results))
            console.print(f"Serving {where} at http://{host}:{port}/ (Ctrl-C ends it).", soft_wrap=True)
        limits = {"body": max_body, "times": max_times, "draws": max_draws}
        run(results, host, port, models=models, tokens=tokens, limits=limits, private=not _own(host))


def token(
    name: Annotated[str, typer.Argument(help="Who it is for: a person or a program.")],
    role: Annotated[
        Literal["read", "update", "promote"], typer.Option(help="What it may do; each may do what those before it may.")
    ] = "read",
    revoke: Annotated[bool, typer.Option("--revoke", help="Take the token of that name back.")] = False,
    tokens: TokensPath = None,
    results: ResultsPath = pathlib.Path("results"),
    as_json: AsJson = False,
) -> None:
    """Give out a token for `serve`, which is shown once and kept nowhere, or take one back.

    Example: bayestwin token control-room --role read
    """
    with explained() as console:
        from bayestwin.serve.tokens import TOKENS, add_token, revoke_token

        if tokens is None:
            _check_there(results)
        path = tokens or results / TOKENS
        if revoke:
            revoke_token(path, name)
            if as_json:
                print_json({"name": name, "revoked": True})
            else:
                console.print(f"The token of {rich.markup.escape(name)} is refused from now on.", soft_wrap=True)
            return
        found = add_token(path, name, role)
        if as_json:
            print_json({"name": name, "role": role, "token": found})
        else:
            console.print(found, soft_wrap=True, markup=False)
            advise("It is shown this once: a hash of it is kept. Send it as `Authorization: Bearer TOKEN`.")


def _check_there(results: pathlib.Path) -> None:
    from bayestwin.errors import InvalidSetting

    if not results.is_dir():
        raise InvalidSetting(
            f"There is no folder `{results}`.",
            expected="the folder in which runs are filed",
            received="nothing under that path",
            advice="Say by `--results` where it is.",
        )


def _own(host: str) -> bool:
    """Whether an address is that of this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
