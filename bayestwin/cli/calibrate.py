"""`calibrate`, `resume` and `batch`: what makes posteriors, one or many."""

import datetime
import functools
import glob
import inspect
import pathlib
import time
from collections.abc import Callable
from typing import Annotated, Any

import rich.console
import typer

from bayestwin.cli.frame import (
    AsJson,
    Device,
    JobName,
    ModelPath,
    ResultsPath,
    exit_by,
    explained,
    print_json,
    show_run,
)
from bayestwin.inference.method import SETTINGS, Setting, names


def _option(setting: Setting) -> inspect.Parameter:
    """A setting of `calibrate` as an option of the command line, which the job's value gives way to."""
    metavar = f"[{'|'.join(names())}]" if setting.choices is names else None
    told = typer.Option(help=f"{setting.help} Instead of the job's.", metavar=metavar)
    kind = Annotated[setting.kind | None, told]
    return inspect.Parameter(setting.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option for each setting of `calibrate`, in the place of its `**settings`."""

    @functools.wraps(command)
    def with_options(**options: Any) -> None:
        command(**options)

    *own, _ = inspect.signature(command).parameters.values()
    parameters = [*own, *map(_option, SETTINGS)]
    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {one.name: one.annotation for one in parameters}
    return with_options


@with_settings
def calibrate(
    model: ModelPath,
    job: JobName = "job.toml",
    seed: Annotated[int | None, typer.Option(help="Instead of the job's.")] = None,
    hold_out_from: Annotated[
        str | None, typer.Option(help="Calibrate on what lies before this time, predict the rest.")
    ] = None,
    telemetry: Annotated[
        pathlib.Path | None, typer.Option(help="Telemetry file instead of the job's, with the same columns.")
    ] = None,
    results: ResultsPath = pathlib.Path("results"),
    compare_model_errors: Annotated[
        bool,
        typer.Option(
            "--compare-model-errors",
            help="Calibrate under each of the `model_errors` of `twin.py` as well, and compare them in the report.",
        ),
    ] = False,
    device: Device = None,
    as_json: AsJson = False,
    **settings: Any,
) -> None:
    """Infer the parameters of a twin, predict what was held out, judge, and write the report.

    Example: bayestwin calibrate models/lynx_hare
    """
    began = time.perf_counter()
    with explained() as console:
        from bayestwin._base.progress import Progress
        from bayestwin.project.calibrate import calibrate_model
        from bayestwin.project.model import changed, load_model

        asked = {"calibrate": {"seed": seed} | settings, "split": {"hold_out_from": hold_out_from}}
        chosen = changed(load_model(model, job), telemetry=telemetry, **asked)
        found = calibrate_model(
            chosen,
            results,
            compare_model_errors=compare_model_errors,
            device=device,
            progress=Progress(began=began),
        )
        _end(console, found, as_json)


def resume(
    run: Annotated[pathlib.Path, typer.Argument(help="Run folder of a calibration that was killed or interrupted.")],
    model: Annotated[
        pathlib.Path | None,
        typer.Option(help="Its model folder, which must not have changed; by default what the run kept."),
    ] = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Go on with a calibration that was killed or interrupted; the result is that of an uninterrupted one.

    Example: bayestwin resume results/room/20260401-120000-1a2b
    """
    began = time.perf_counter()
    with explained() as console:
        from bayestwin._base.progress import Progress
        from bayestwin.project.calibrate import read_resumable, resume_run
        from bayestwin.project.model import load_model

        job = pathlib.Path(str(read_resumable(run)["job_file"])).name
        chosen = None if model is None else load_model(model, job)
        found = resume_run(chosen, run, device=device, progress=Progress(began=began))
        _end(console, found, as_json)


def _end(console: rich.console.Console, found: Any, as_json: bool) -> None:
    """Print the results of a calibration, and exit as they ask for."""
    from bayestwin.cli.display import show_results

    show_run(console, found, show_results, as_json)
    exit_by(found.status)


def update(
    model: ModelPath,
    telemetry: Annotated[
        pathlib.Path, typer.Option(help="File with new rows: later ones, late ones, or the same ones corrected.")
    ],
    job: JobName = "job.toml",
    run: Annotated[
        str | None, typer.Option("--run", help="Name of the run that is updated; by default the newest.")
    ] = None,
    max_k: Annotated[
        float | None,
        typer.Option(help="Largest Pareto k with which draws are weighted, instead of the job's; −1 to draw anew."),
    ] = None,
    forget: Annotated[
        str | None,
        typer.Option(
            help="Half-life after which a row counts half, instead of the job's: a number in the twin's unit "
            "of time, or text such as P2D."
        ),
    ] = None,
    results: ResultsPath = pathlib.Path("results"),
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Add what was observed since to the posterior of a run, as a new run; the earlier one stays as it is.

    Example: bayestwin update models/room --telemetry monday.csv
    """
    began = time.perf_counter()
    with explained() as console:
        from bayestwin._base.progress import Progress
        from bayestwin.cli.display import show_update
        from bayestwin.project.model import changed, load_model
        from bayestwin.project.update import update_model

        chosen = changed(load_model(model, job), update={"max_k": max_k, "forget": forget})
        found = update_model(chosen, results, telemetry, run, device=device, progress=Progress(began=began))
        show_run(console, found, show_update, as_json)
        exit_by(found.status)


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
        from bayestwin.project.batch import Limits, carry_out, doubted, plan, summary, write_page

        files = [pathlib.Path(one) for pattern in telemetry or () for one in sorted(glob.glob(pattern)) or [pattern]]
        tasks, refused = plan(jobs, files, results)
        limits = Limits(timeout, None if memory is None else int(memory * 2**30), retries)
        with live(console, tasks, quiet=as_json) as told:
            outcomes = carry_out(tasks, limits, workers=workers, told=told)
        against = doubted(outcomes)
        counts = summary(outcomes) | ({"bad input": len(refused)} if refused else {})
        now = datetime.datetime.now(datetime.UTC)
        page = write_page(results / f"batch-{now:%Y%m%d-%H%M%S}.html", outcomes, refused, phrase(counts, against))
        if as_json:
            rows = [outcome._asdict() | {"task": outcome.task._asdict()} for outcome in outcomes]
            print_json({"page": page, "summary": counts, "tasks": rows, "refused": [one._asdict() for one in refused]})
        else:
            show_batch(console, refused, page, phrase(counts, against))
        if counts.get("interrupted"):
            raise typer.Exit(130)
        if set(counts) - {"finished"}:
            raise typer.Exit(1)
