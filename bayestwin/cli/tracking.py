"""`track`: finished runs in an MLflow store."""

import pathlib
from typing import Annotated

import typer

from bayestwin.cli.frame import AsJson, ResultsPath, explained, print_json


def track(
    runs: Annotated[list[str], typer.Argument(help="Ids of runs, the beginnings of them, or paths of their folders.")],
    store: Annotated[
        str | None, typer.Option(help="Address of a tracking store; by default `mlflow.db` where runs are filed.")
    ] = None,
    results: ResultsPath = pathlib.Path("results"),
    as_json: AsJson = False,
) -> None:
    """Log finished runs in an MLflow tracking store (extra `mlflow`); what is there already is left alone.

    Example: bayestwin track 20260401-120000
    """
    with explained() as console:
        from bayestwin.cli.text import show_line
        from bayestwin.project.index import find_any_run
        from bayestwin.project.track import track as log

        found = [log(results, find_any_run(results, name), store) for name in runs]
        if as_json:
            print_json([one._asdict() for one in found])
        else:
            for one in found:
                mark = "[green]logged[/green]" if one.new else "[dim]there[/dim]"
                show_line(console, mark, f"{one.run} in {one.store}")
