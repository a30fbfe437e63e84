"""The command line: parsing and printing. Each command does one thing; the work is done elsewhere.

Heavy modules are imported inside the commands, so that `--help` and mistyped options answer at once.
"""

import contextlib
import importlib.metadata
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Annotated, Any

import rich.console
import rich.markup
import typer

from bayestwin import errors

app = typer.Typer(
    help="Bayesian calibration of digital twins: telemetry in, posterior and checked intervals out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ModelPath = Annotated[pathlib.Path, typer.Argument(help="Model folder with `twin.py` and a job file.")]
JobName = Annotated[str, typer.Option("--job", help="Job file inside the model folder.")]
ResultsPath = Annotated[pathlib.Path, typer.Option("--results", help="Where runs are filed.")]
RunName = Annotated[str | None, typer.Option("--run", help="Name of the run; by default the newest.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Device = Annotated[str | None, typer.Option(help="cpu or gpu; by default what JAX chooses.")]


@contextlib.contextmanager
def _explained() -> Iterator[rich.console.Console]:
    """Errors as one text and an exit code: 2 bad input, 1 a run that failed, 130 Ctrl-C."""
    try:
        yield rich.console.Console(highlight=False)
    except errors.BayestwinError as reason:
        _say_why("[red]error:[/red]", reason, str(reason))
        bad_input = isinstance(reason, errors.InvalidInput | errors.InvalidSetting)
        raise typer.Exit(2 if bad_input else 1) from None
    except KeyboardInterrupt as reason:
        _say_why("[yellow]interrupted[/yellow]", reason)
        raise typer.Exit(130) from None


def _say_why(mark: str, reason: BaseException, words: str = "") -> None:
    """Words and notes on standard error; text that comes from users is not taken for markup."""
    notes = getattr(reason, "__notes__", [])
    text = "\n".join([f"{mark} {rich.markup.escape(words)}".rstrip(), *(f"  {rich.markup.escape(n)}" for n in notes)])
    rich.console.Console(stderr=True).print(text, soft_wrap=True, highlight=False)


def _print_json(content: Any) -> None:
    from bayestwin.runs.plain import to_json

    sys.stdout.write(to_json(content))


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"bayestwin {importlib.metadata.version('bayestwin')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """Bayesian calibration of digital twins: telemetry in, posterior and checked intervals out."""


@app.command()
def calibrate(
    model: ModelPath,
    job: JobName = "job.toml",
    seed: Annotated[int | None, typer.Option(help="Instead of the job's.")] = None,
    hold_out_from: Annotated[
        str | None, typer.Option(help="Calibrate on what lies before this time, predict the rest.")
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
) -> None:
    """Infer the parameters of a twin, predict what was held out, judge, and write the report.

    Example: bayestwin calibrate models/lynx_hare
    """
    began = time.perf_counter()
    with _explained() as console:
        from bayestwin.progress import Progress
        from bayestwin.runs.model import changed, load_model
        from bayestwin.runs.pipeline import calibrate_model

        chosen = changed(load_model(model, job), seed=seed, hold_out_from=hold_out_from)
        found = calibrate_model(
            chosen,
            results,
            compare_model_errors=compare_model_errors,
            device=device,
            progress=Progress(began=began),
        )
        _end(console, found, as_json)


@app.command()
def resume(
    run: Annotated[pathlib.Path, typer.Argument(help="Run folder of a calibration that was killed or interrupted.")],
    model: Annotated[
        pathlib.Path | None, typer.Option(help="Its model folder; by default the one in `models/` of the same name.")
    ] = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Go on with a calibration that was killed or interrupted; the result is that of an uninterrupted one.

    Example: bayestwin resume results/room/20260401-120000-1a2b
    """
    began = time.perf_counter()
    with _explained() as console:
        from bayestwin.progress import Progress
        from bayestwin.runs.model import load_model
        from bayestwin.runs.pipeline import read_resumable, resume_run

        job = pathlib.Path(str(read_resumable(run)["job_file"])).name
        folder = model or pathlib.Path("models") / run.absolute().parent.name
        found = resume_run(load_model(folder, job), run, device=device, progress=Progress(began=began))
        _end(console, found, as_json)


def _end(console: rich.console.Console, found: Any, as_json: bool) -> None:
    """Print the results of a calibration, and exit as they ask for."""
    from bayestwin.show import show_results

    if as_json:
        _print_json({"folder": found.run} | found.record)
    else:
        show_results(console, found)
    code = {"finished": 0, "failed gates": 1, "interrupted": 130}[found.status]
    if code:
        raise typer.Exit(code)


@app.command()
def predict(
    model: ModelPath,
    telemetry: Annotated[
        pathlib.Path | None,
        typer.Option(help="CSV file with new times and inputs; by default what the run held out."),
    ] = None,
    job: JobName = "job.toml",
    run: RunName = None,
    out: Annotated[pathlib.Path | None, typer.Option(help="File to write; by default one in the run folder.")] = None,
    results: ResultsPath = pathlib.Path("results"),
    as_json: AsJson = False,
) -> None:
    """Predict with a calibrated twin at new times and inputs.

    Example: bayestwin predict models/room --telemetry next_week.csv
    """
    with _explained() as console:
        from bayestwin.assess import intervals
        from bayestwin.runs.earlier import predict_again
        from bayestwin.runs.figures import forecast_figures
        from bayestwin.runs.folder import find_run
        from bayestwin.runs.model import load_model
        from bayestwin.show import show_forecast

        chosen = load_model(model, job)
        used = find_run(results, chosen, run)
        found = predict_again(chosen, used, telemetry, out)
        if as_json:
            about = {"run": used.name, "status": found.status, "file": found.path}
            _print_json(about | forecast_figures(intervals(found.predictions)))
        else:
            show_forecast(console, intervals(found.predictions, prob=(0.5, 0.9)), found.path)
        _stop_unless_finished(used.name, found.status)


@app.command()
def coverage(
    model: ModelPath,
    job: JobName = "job.toml",
    run: RunName = None,
    results: ResultsPath = pathlib.Path("results"),
    as_json: AsJson = False,
) -> None:
    """Show how many observations lie inside the intervals of a run, and its scores.

    Example: bayestwin coverage models/room
    """
    with _explained() as console:
        from bayestwin.runs.earlier import open_results
        from bayestwin.runs.figures import summary
        from bayestwin.runs.folder import find_run
        from bayestwin.runs.model import load_model
        from bayestwin.show import show_coverage

        chosen = load_model(model, job)
        found = open_results(chosen, find_run(results, chosen, run))
        if as_json:
            figures = summary(found.coverage, found.scores)
            _print_json({"run": found.run.name, "status": found.status} | figures)
        else:
            show_coverage(console, found)
        _stop_unless_finished(found.run.name, found.status)


@app.command()
def report(
    model: ModelPath,
    job: JobName = "job.toml",
    run: RunName = None,
    results: ResultsPath = pathlib.Path("results"),
    as_json: AsJson = False,
) -> None:
    """Write the report of a run anew, as one HTML file that opens offline.

    Example: bayestwin report models/lynx_hare
    """
    with _explained() as console:
        from bayestwin.runs.earlier import open_results, renew_report
        from bayestwin.runs.folder import find_run
        from bayestwin.runs.model import load_model
        from bayestwin.show import show_path

        chosen = load_model(model, job)
        found = open_results(chosen, find_run(results, chosen, run))
        path = renew_report(found)
        if as_json:
            _print_json({"run": found.run.name, "status": found.status, "file": path})
        else:
            show_path(console, path)


def _stop_unless_finished(run: str, status: str) -> None:
    """Exit with 1 where what was printed rests on a run that must not be relied on."""
    if status != "finished":
        words = f"[red]Do not rely on this:[/red] the status of run {run} is “{status}”."
        rich.console.Console(stderr=True).print(words, soft_wrap=True, highlight=False)
        raise typer.Exit(1)


@app.command()
def check(model: ModelPath, job: JobName = "job.toml", as_json: AsJson = False) -> None:
    """Look at a model's telemetry and priors before anything is sampled.

    Example: bayestwin check models/room
    """
    with _explained() as console:
        from bayestwin.runs.model import load_model
        from bayestwin.runs.readiness import check_model
        from bayestwin.show import show_findings

        findings = check_model(load_model(model, job))
        if as_json:
            _print_json([finding._asdict() for finding in findings])
        else:
            show_findings(console, findings)
        if any(finding.severity == "fail" for finding in findings):
            raise typer.Exit(1)


@app.command()
def models(
    root: Annotated[pathlib.Path, typer.Argument(help="Folder that holds model folders.")] = pathlib.Path("models"),
    as_json: AsJson = False,
) -> None:
    """List the model folders, with one line about each.

    Example: bayestwin models
    """
    with _explained() as console:
        from bayestwin.runs.listing import list_models

        found = list_models(root)
        if as_json:
            _print_json([{"model": folder, "about": words} for folder, words in found])
            return
        width = max((len(str(folder)) for folder, _ in found), default=0)
        for folder, words in found:
            name = rich.markup.escape(str(folder)) + " " * (width - len(str(folder)))
            console.print(f"[bold]{name}[/bold]  {rich.markup.escape(words)}", highlight=False, soft_wrap=True)
        if not found:
            console.print(
                f"No model folders in {root}: a model is a folder with a `twin.py`.", markup=False, soft_wrap=True
            )
