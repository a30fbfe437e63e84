"""`batch`: many jobs at once."""

import datetime
import glob
import pathlib
from typing import Annotated

import typer

from bayestwin.cli.frame import AsJson, ResultsPath, explained, print_json


def batch(
    jobs: Annotated[list[pathlib.Path], typer.Argument(help="Job files in model folders, or model folders.")],
    telemetry: Annotated[
        list[str] | None,
        typer.Option(help="Telemetry file, or pattern in quotes, to do each job with; may be given several times."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="How many at once; by default half the cores.")] = None,
    timeout: Annotated[float, typer.Option(min=1.0, help="Seconds that one attempt may take.")] = 3600.0,
    memory: Annotated[float | None, typer.Option(min=0.1, help="GiB that one process may take.")] = None,
    retries: Annotated[int, typer.Option(min=0, help="Further attempts after a crash or a time-out.")] = 1,
    results: ResultsPath = pathlib.Path("results"),
    as_json: AsJson = False,
) -> None:
    """Calibrate many jobs, each in a process of its own; the same call again does what is not done yet.

    Example: bayestwin batch models/room models/tanks/job.toml
    """
    with explained() as console:
        from bayestwin.cli.display_insight import live, phrase, show_batch
        from bayestwin.project.batch import Limits, carry_out, plan, summary, write_page

        files = [pathlib.Path(one) for pattern in telemetry or () for one in sorted(glob.glob(pattern)) or [pattern]]
        tasks, refused = plan(jobs, files, results)
        limits = Limits(timeout, None if memory is None else int(memory * 2**30), retries)
        with live(console, tasks, quiet=as_json) as told:
            outcomes = carry_out(tasks, limits, workers=workers, told=told)
        counts = summary(outcomes) | ({"bad input": len(refused)} if refused else {})
        now = datetime.datetime.now(datetime.UTC)
        page = write_page(results / f"batch-{now:%Y%m%d-%H%M%S}.html", outcomes, refused, phrase(counts))
        if as_json:
            rows = [outcome._asdict() | {"task": outcome.task._asdict()} for outcome in outcomes]
            print_json({"page": page, "summary": counts, "tasks": rows, "refused": [one._asdict() for one in refused]})
        else:
            show_batch(console, refused, page, phrase(counts))
        if counts.get("interrupted"):
            raise typer.Exit(130)
        if set(counts) - {"finished"}:
            raise typer.Exit(1)
