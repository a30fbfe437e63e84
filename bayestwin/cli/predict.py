"""`predict`, `coverage` and `report`: what is done with an earlier run."""

import pathlib
from typing import Annotated

import typer

from bayestwin.cli.frame import (
    AsJson,
    JobName,
    ModelPath,
    ResultsPath,
    RunName,
    explained,
    print_json,
    stop_unless_finished,
)


def predict(
    model: ModelPath,
    telemetry: Annotated[
        pathlib.Path | None,
        typer.Option(help="CSV file with new times and inputs; by default what the run held out."),
    ] = None,
    initial: Annotated[
        list[str] | None,
        typer.Option(
            help="A state and its value, name=value, from which the twin starts anew at the first of the new times, "
            "whenever that is; once for each state that has a prior."
        ),
    ] = None,
    job: JobName = "job.toml",
    run: RunName = None,
    out: Annotated[
        pathlib.Path | None, typer.Option(help="File to write, .nc or .csv; by default one in the run folder.")
    ] = None,
    results: ResultsPath = pathlib.Path("results"),
    as_json: AsJson = False,
) -> None:
    """Predict with a calibrated twin at new times and inputs.

    Example: bayestwin predict models/room --telemetry next_week.csv
    """
    with explained() as console:
        from bayestwin.assess import intervals
        from bayestwin.cli.display import show_forecast
        from bayestwin.project.model import load_model
        from bayestwin.project.predict import predict_again
        from bayestwin.project.record import forecast_figures
        from bayestwin.project.run import find_run, start_of
        from bayestwin.report.reading import zone_of

        chosen = load_model(model, job)
        used = find_run(results, chosen, run)
        start = start_of(initial)
        later_predictions = predict_again(chosen, used, telemetry, out, start)
        if as_json:
            about = {"run": used.name, "status": later_predictions.status, "file": later_predictions.path}
            made = later_predictions.predictions
            told = ("starts_anew", "failed_paths")
            about |= {name: made.attrs[name] for name in told if name in made.attrs}
            print_json(about | forecast_figures(intervals(made), zone_of(made)))
        else:
            show_forecast(console, later_predictions, zone_of(later_predictions.predictions))
        stop_unless_finished(used.name, later_predictions.status)


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
    with explained() as console:
        from bayestwin.cli.display import show_coverage
        from bayestwin.project.model import load_model
        from bayestwin.project.predict import open_results
        from bayestwin.project.record import summary
        from bayestwin.project.run import find_run

        chosen = load_model(model, job)
        found = open_results(chosen, find_run(results, chosen, run))
        if as_json:
            figures = summary(found.coverage, found.scores)
            print_json({"run": found.run.name, "status": found.status} | figures)
        else:
            show_coverage(console, found)
        stop_unless_finished(found.run.name, found.status)


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
    with explained() as console:
        from bayestwin.cli.display import show_path
        from bayestwin.project.model import load_model
        from bayestwin.project.predict import open_results, renew_report
        from bayestwin.project.run import find_run

        chosen = load_model(model, job)
        found = open_results(chosen, find_run(results, chosen, run))
        path = renew_report(found)
        if as_json:
            print_json({"run": found.run.name, "status": found.status, "file": path})
        else:
            show_path(console, path)
