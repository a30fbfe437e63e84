"""`predict`, `coverage`, `report`, `fleet`, `validate`, `monitor` and `watch`: what is done with an earlier run."""

import pathlib
import sys
import time
from typing import Annotated

import typer

from bayestwin.cli.frame import (
    AsJson,
    Device,
    JobName,
    ModelPath,
    ResultsPath,
    RunName,
    advise,
    exit_by,
    explained,
    print_json,
    show_run,
    stop_unless_finished,
)
from bayestwin.errors import Unreachable
from bayestwin.inference.method import names_with_draws


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
        from bayestwin.project.record import forecast_figures, quantity_figures
        from bayestwin.project.run import find_run, start_of
        from bayestwin.report.reading import zone_of

        chosen = load_model(model, job)
        used = find_run(results, chosen, run)
        start = start_of(initial)
        later_predictions = predict_again(chosen, used, telemetry, out, start)
        if as_json:
            about = {"run": used.name, "status": later_predictions.status, "file": later_predictions.path}
            about["beyond"] = list(later_predictions.beyond)
            made = later_predictions.predictions
            told = ("starts_anew", "failed_paths")
            about |= {name: made.attrs[name] for name in told if name in made.attrs}
            print_json(about | forecast_figures(intervals(made), zone_of(made)) | quantity_figures(made))
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


def fleet(
    model: ModelPath,
    job: JobName = "job.toml",
    run: Annotated[
        str | None,
        typer.Option(
            "--run", help="Name of the calibration; by default the newest of all as it is now, or else a new one."
        ),
    ] = None,
    parquet: Annotated[bool, typer.Option("--parquet", help="Write the table as Parquet instead of CSV.")] = False,
    shard: Annotated[
        str | None,
        typer.Option(help="Part i of n of assets without a population, as 2/8: a task of an array job."),
    ] = None,
    gather: Annotated[bool, typer.Option("--gather", help="Put all parts together, once they are done.")] = False,
    dask: Annotated[
        str | None, typer.Option(help="Address of a scheduler of dask.distributed, for assets without a population.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="How many such assets at once; by default half the cores.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=1.0, help="Seconds that one such asset may take.")] = 3600.0,
    results: ResultsPath = pathlib.Path("results"),
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Say how each asset of a fleet does, what their population is, and who lies far from it; calibrate if need be.

    Where the job says `pool = false`, assets are calibrated one by one; the same call again does what is not done yet.

    Example: bayestwin fleet cells
    """
    began = time.perf_counter()
    with explained() as console:
        from bayestwin._base.progress import Progress
        from bayestwin.cli.display_insight import show_each, show_fleet
        from bayestwin.project.batch import Limits
        from bayestwin.project.each import calibrate_assets, check_fitting, gather_shards, shard_of
        from bayestwin.project.model import load_model
        from bayestwin.project.predict import fleet_model

        opened, shown = load_model(model, job), Progress(began=began)
        alone = opened.job.fleet is not None and not opened.job.fleet.pool
        together = {"--run": run, "--parquet": parquet, "--device": device}
        one_by_one = {"--shard": shard, "--gather": gather, "--dask": dask, "--workers": workers}
        check_fitting(opened, [option for option, value in (together if alone else one_by_one).items() if value])
        if alone:
            limits = Limits(timeout)
            each = (
                gather_shards(opened, results)
                if gather
                else calibrate_assets(
                    opened, results, shard=shard_of(shard), dask=dask, workers=workers, limits=limits, progress=shown
                )
            )
            show_run(console, each, show_each, as_json)
            exit_by(each.status)
            return
        found = fleet_model(opened, results, run, parquet=parquet, device=device, progress=shown)
        show_run(console, found, show_fleet, as_json)
        stop_unless_finished(found.run.name, found.status)


def validate(
    model: ModelPath,
    job: JobName = "job.toml",
    run: Annotated[
        str | None, typer.Option(help="Name of the calibrated run; by default the newest that held something out.")
    ] = None,
    origins: Annotated[
        int | None, typer.Option(help="Number of origins of the backtest, instead of the job's.")
    ] = None,
    horizon: Annotated[
        float | None, typer.Option(help="How far ahead the backtest looks, in the twin's unit of time.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="How the backtest calibrates, instead of the job's.",
            metavar=f"[{'|'.join(names_with_draws())}]",
        ),
    ] = None,
    by: Annotated[
        list[str] | None, typer.Option(help="Column that tells regimes apart, instead of the job's; may be repeated.")
    ] = None,
    no_backtest: Annotated[
        bool, typer.Option("--no-backtest", help="Judge what was held out alone, in seconds.")
    ] = False,
    held_out: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="CSV file to judge by instead of what the run held out: what follows its telemetry, or another "
            "recording, on whatever clock."
        ),
    ] = None,
    initial: Annotated[
        list[str] | None,
        typer.Option(help="A state and its value, name=value, at the first time of that file; may be repeated."),
    ] = None,
    results: ResultsPath = pathlib.Path("results"),
    as_json: AsJson = False,
) -> None:
    """Say how far the intervals of a calibrated twin can be trusted, and write a page about it.

    Example: bayestwin validate models/room
    """
    began = time.perf_counter()
    with explained() as console:
        from bayestwin._base.progress import Progress
        from bayestwin.cli.display import show_validation
        from bayestwin.project.model import changed, load_model
        from bayestwin.project.run import start_of
        from bayestwin.project.validate import validate_model

        settings = {"origins": origins, "horizon": horizon, "method": method, "by": by or None}
        chosen = changed(load_model(model, job), validation=settings)
        found = validate_model(
            chosen,
            results,
            run,
            with_backtest=not no_backtest,
            held_out=held_out,
            initial=start_of(initial),
            progress=Progress(began=began),
        )
        show_run(console, found, show_validation, as_json)
        exit_by(found.status)


def monitor(
    model: ModelPath,
    telemetry: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="File with all telemetry since the calibration, in which rows that it had do no harm; by default what "
            "the run held out."
        ),
    ] = None,
    job: JobName = "job.toml",
    run: RunName = None,
    alpha: Annotated[
        float, typer.Option(help="Probability of a false alarm, ever: the alarm is at an e-value of 1/alpha.")
    ] = 0.05,
    by: Annotated[str | None, typer.Option(help="Column that tells regimes apart.")] = None,
    due: Annotated[
        str | None, typer.Option(help="Time up to which telemetry should be there: a date, or a number as in the file.")
    ] = None,
    device: Device = None,
    results: ResultsPath = pathlib.Path("results"),
    as_json: AsJson = False,
) -> None:
    """Say whether a calibrated twin is still right, by new telemetry, and what it is that changed.

    Exit code 1 is the verdict `act`; `ok`, `watch` and `insufficient data` are 0, and stand in the answer. The verdict
    lies in `monitor.json` in the run folder, its evidence in `monitor.html`.

    Example: bayestwin monitor models/room --telemetry april.csv
    """
    with explained() as console:
        from bayestwin.cli.display import show_monitored
        from bayestwin.project.model import load_model
        from bayestwin.project.monitor import monitor_run
        from bayestwin.project.run import find_run

        chosen = load_model(model, job)
        used = find_run(results, chosen, run)
        found = monitor_run(chosen, used, telemetry, alpha=alpha, by=by, due=due, device=device)
        show_run(console, found, show_monitored, as_json)
        if found.found.verdict == "act":
            raise typer.Exit(1)


def watch(
    model: ModelPath,
    source: Annotated[
        str,
        typer.Option(
            help="Folder in which files of telemetry arrive; or `postgresql://host/database`, whose query stands in "
            "`[watch]` of the job; or `mqtt://host/topic`."
        ),
    ],
    once: Annotated[
        bool, typer.Option("--once", help="End once all that is there was looked at, as for a schedule of the system.")
    ] = False,
    job: JobName = "job.toml",
    run: Annotated[
        str | None,
        typer.Option(
            help="Name of the run to begin with, by default the newest; another one than it was begun with begins anew."
        ),
    ] = None,
    results: ResultsPath = pathlib.Path("results"),
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Follow a source: monitor what arrives, and take it in where it is as forecast; nothing is promoted.

    Each arrival that counts is an update, a run of its own. Killed or interrupted, the same call goes on, and no row
    counts twice. Without a terminal it speaks of what needs somebody alone; exit code 1 says, with `--once`, that
    something does.

    Example: bayestwin watch models/exchanger --source incoming --once
    """
    with explained() as console:
        from bayestwin.cli.display import watched_words
        from bayestwin.project.model import load_model
        from bayestwin.project.streams import opened_source
        from bayestwin.project.watch import WatchedArrival, watch_model

        chosen = load_model(model, job)
        needed = False

        def told(one: WatchedArrival) -> None:
            nonlocal needed
            needed |= one.needs_somebody
            if as_json:
                print_json(one._asdict())
            elif one.needs_somebody or console.is_terminal:
                console.print(watched_words(one), soft_wrap=True)
            sys.stdout.flush()

        def away(reason: Unreachable) -> None:
            advise(f"{reason.summary} {reason.received}. It is asked again.")

        with opened_source(source, chosen, results) as followed:
            watch_model(chosen, results, followed, run, once=once, told=told, away=away, device=device)
        if needed:
            raise typer.Exit(1)
