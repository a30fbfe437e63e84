"""The command line: parsing and printing. Each command does one thing; the work is done elsewhere.

Heavy modules are imported inside the commands, so that `--help` and mistyped options answer at once.
"""

import contextlib
import json
import pathlib
import sys
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
)

ModelPath = Annotated[pathlib.Path, typer.Argument(help="Model folder with `twin.py` and a job file.")]
JobName = Annotated[str, typer.Option("--job", help="Job file inside the model folder.")]
ResultsPath = Annotated[pathlib.Path, typer.Option("--results", help="Where runs are filed.")]
RunName = Annotated[str | None, typer.Option("--run", help="Name of the run; by default the newest.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Device = Annotated[str | None, typer.Option(help="cpu or gpu; by default what JAX chooses.")]
HoldOut = Annotated[str | None, typer.Option(help="Calibrate on what lies before this time, predict the rest.")]


@contextlib.contextmanager
def _explained() -> Iterator[rich.console.Console]:
    """Errors as one text and an exit code: 2 bad input, 1 a run that failed, 130 Ctrl-C."""
    try:
        yield rich.console.Console()
    except errors.BayestwinError as reason:
        rich.console.Console(stderr=True).print(f"[red]error:[/red] {rich.markup.escape(str(reason))}", soft_wrap=True)
        bad_input = isinstance(reason, errors.InvalidInput | errors.InvalidSetting)
        raise typer.Exit(2 if bad_input else 1) from None
    except KeyboardInterrupt:
        rich.console.Console(stderr=True).print("[yellow]interrupted[/yellow]")
        raise typer.Exit(130) from None


def _print_json(content: Any) -> None:
    json.dump(content, sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")


@app.command()
def calibrate(
    model: ModelPath,
    job: JobName = "job.toml",
    seed: Annotated[int | None, typer.Option(help="Instead of the job's.")] = None,
    hold_out_from: HoldOut = None,
    results: ResultsPath = pathlib.Path("results"),
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Infer the parameters of a twin, predict what was held out, judge, and write the report.

    Example: bayestwin calibrate models/lynx_hare
    """
    with _explained() as console:
        from bayestwin.runs.model import changed, load_model
        from bayestwin.runs.pipeline import calibrate_model
        from bayestwin.show import show_results

        chosen = changed(load_model(model, job), seed=seed, hold_out_from=hold_out_from)
        found = calibrate_model(chosen, results, device=device)
        if as_json:
            _print_json(found.record)
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
        typer.Option(help="CSV file with new times and inputs; by default the job's held-out part."),
    ] = None,
    job: JobName = "job.toml",
    hold_out_from: HoldOut = None,
    run: RunName = None,
    out: Annotated[pathlib.Path | None, typer.Option(help="Where to write; by default into the run folder.")] = None,
    results: ResultsPath = pathlib.Path("results"),
    as_json: AsJson = False,
) -> None:
    """Predict with a calibrated twin at new times and inputs.

    Example: bayestwin predict models/room --telemetry next_week.csv
    """
    with _explained() as console:
        from bayestwin.assess import intervals
        from bayestwin.runs.folder import find_run
        from bayestwin.runs.model import changed, load_model
        from bayestwin.runs.pipeline import predict_again
        from bayestwin.show import forecast_table

        chosen = changed(load_model(model, job), hold_out_from=hold_out_from)
        path, predictions = predict_again(chosen, find_run(model, results, run), telemetry, out)
        found = intervals(predictions)
        if as_json:
            _print_json({"file": str(path), "intervals": found.to_dict()})
            return
        console.print(f"Medians and {found.attrs['kind']}s of new observations:")
        for made in forecast_table(found):
            console.print(made)
        console.print(f"  {path}", soft_wrap=True, highlight=False)


@app.command()
def coverage(
    model: ModelPath,
    job: JobName = "job.toml",
    hold_out_from: HoldOut = None,
    run: RunName = None,
    results: ResultsPath = pathlib.Path("results"),
    as_json: AsJson = False,
) -> None:
    """Show how many observations lie inside the intervals of a run, and its scores.

    Example: bayestwin coverage models/room
    """
    with _explained() as console:
        from bayestwin.runs.folder import find_run
        from bayestwin.runs.model import changed, load_model
        from bayestwin.runs.pipeline import open_results, summary
        from bayestwin.show import coverage_table, coverage_words, score_table

        chosen = changed(load_model(model, job), hold_out_from=hold_out_from)
        found = open_results(chosen, find_run(model, results, run))
        if as_json:
            _print_json(summary(found))
            return
        console.print(coverage_words(found))
        console.print(coverage_table(found.coverage))
        if found.scores is not None:
            console.print(score_table(found.scores))


@app.command()
def report(
    model: ModelPath,
    job: JobName = "job.toml",
    hold_out_from: HoldOut = None,
    run: RunName = None,
    results: ResultsPath = pathlib.Path("results"),
    as_json: AsJson = False,
) -> None:
    """Write the report of a run anew, as one HTML file that opens offline.

    Example: bayestwin report models/lynx_hare
    """
    with _explained() as console:
        from bayestwin.runs.folder import find_run
        from bayestwin.runs.model import changed, load_model
        from bayestwin.runs.pipeline import open_results, write_report

        chosen = changed(load_model(model, job), hold_out_from=hold_out_from)
        path = write_report(open_results(chosen, find_run(model, results, run)))
        if as_json:
            _print_json({"file": str(path)})
        else:
            console.print(str(path), soft_wrap=True, highlight=False)


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
            _print_json([{"model": str(folder), "about": words} for folder, words in found])
            return
        for folder, words in found:
            console.print(f"[bold]{folder}[/bold]  {rich.markup.escape(words)}", highlight=False, soft_wrap=True)
        if not found:
            console.print(f"No model folders in {root}: a model is a folder with a `twin.py`.")
