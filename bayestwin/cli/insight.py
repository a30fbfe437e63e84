"""`identify`, `sensitivity`, `design`, `compare`, `sbc`, `scenario`: what can be told, what hangs on what, what if."""

import pathlib
import time
from typing import Annotated, Literal

import typer

from bayestwin.cli.frame import (
    AsJson,
    Device,
    JobName,
    ModelPath,
    ResultsPath,
    RunName,
    exit_by,
    explained,
    print_json,
    show_run,
    stop_unless_finished,
)


def identify(
    model: ModelPath,
    job: JobName = "job.toml",
    profile: Annotated[
        list[str] | None, typer.Option(help="Follow the profile likelihood of this quantity; may be given repeatedly.")
    ] = None,
    profile_prior: Annotated[
        bool, typer.Option("--profile-prior", help="Let the prior count in profiles, as it does in the posterior.")
    ] = False,
    planned: Annotated[
        pathlib.Path | None,
        typer.Option(help="CSV file with times and inputs of telemetry to come: how much it would tell."),
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="Calibration whose posterior is held against what is expected.")
    ] = None,
    results: ResultsPath = pathlib.Path("results"),
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Say which quantities the telemetry can tell, before anything is sampled.

    Example: bayestwin identify models/room --profile C_env
    """
    began = time.perf_counter()
    with explained() as console:
        from bayestwin._base.progress import Progress
        from bayestwin.cli.display_insight import show_identified
        from bayestwin.project.insight import Asked, identify_model
        from bayestwin.project.model import load_model

        asked = Asked(tuple(profile or ()), profile_prior, planned, run)
        chosen = load_model(model, job)
        found = identify_model(chosen, results, asked, device=device, progress=Progress(began=began))
        show_run(console, found, show_identified, as_json)
        exit_by(found.status)


def sensitivity(
    model: ModelPath,
    job: JobName = "job.toml",
    run: Annotated[
        str | None, typer.Option(help="Name of the run whose posterior is looked at; by default the newest, if any.")
    ] = None,
    prior_only: Annotated[bool, typer.Option("--prior-only", help="Look at no posterior.")] = False,
    distribution: Annotated[
        Literal["prior", "posterior"] | None,
        typer.Option(help="What quantities are drawn from, instead of the job's: prior or posterior."),
    ] = None,
    results: ResultsPath = pathlib.Path("results"),
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Show which quantities decide predictions, whether prior or data decide parameters, and which observations do.

    Example: bayestwin sensitivity models/lynx_hare
    """
    began = time.perf_counter()
    with explained() as console:
        from bayestwin._base.progress import Progress
        from bayestwin.cli.display_insight import show_sensitivity
        from bayestwin.project.insight import run_sensitivity
        from bayestwin.project.model import changed, load_model

        chosen = changed(load_model(model, job), sensitivity={"distribution": distribution})
        carried, earlier = run_sensitivity(
            chosen, results, run=run, prior_only=prior_only, device=device, progress=Progress(began=began)
        )
        if as_json:
            print_json({"folder": carried.run} | carried.record)
        else:
            show_sensitivity(console, carried, None if earlier is None else earlier.run)
        if carried.status == "interrupted":
            raise typer.Exit(130)
        if earlier is not None:
            stop_unless_finished(earlier.run, earlier.status)


def design(
    model: ModelPath,
    job: JobName = "job.toml",
    planned: Annotated[
        list[pathlib.Path] | None,
        typer.Option(help="CSV file with times and inputs of telemetry to come, a candidate; may be given repeatedly."),
    ] = None,
    of: Annotated[
        list[str] | None, typer.Option(help="Quantity that is to be narrowed, instead of the job's; may be repeated.")
    ] = None,
    criterion: Annotated[
        Literal["A", "D", "E"] | None, typer.Option(help="Criterion of optimal design, instead of the job's.")
    ] = None,
    budget: Annotated[float | None, typer.Option(help="Sum of costs at most, instead of the job's.")] = None,
    run: Annotated[
        str | None, typer.Option(help="Name of the calibration that it rests on; by default the newest.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="Say whether what this run of `design` promised has come true since.")
    ] = None,
    recorded: Annotated[
        str | None, typer.Option(help="With --judge: what was recorded, where that is not what it chose.")
    ] = None,
    results: ResultsPath = pathlib.Path("results"),
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Say what to measure next: which sensors, times or inputs narrow the posterior most, and by how much.

    Example: bayestwin design models/room --planned step.csv --planned steady.csv
    """
    began = time.perf_counter()
    with explained() as console:
        from bayestwin._base.progress import Progress
        from bayestwin.cli.display_insight import show_design
        from bayestwin.project.design import Planned, design_model
        from bayestwin.project.model import changed, load_model

        asked = {"of": of or None, "criterion": criterion, "budget": budget}
        chosen = changed(load_model(model, job), design=asked)
        given = Planned({path.stem: path for path in planned or ()}, run, judge, recorded)
        found, status = design_model(chosen, results, given, device=device, progress=Progress(began=began))
        show_run(console, found, show_design, as_json)
        stop_unless_finished(found.found.run, status)
        exit_by(found.status)


def compare(
    model: ModelPath,
    off: Annotated[
        list[str] | None,
        typer.Option(
            "--off", help="A parameter and its value, name=value, that switch a term off; by default `ablations`."
        ),
    ] = None,
    model_errors: Annotated[
        bool, typer.Option("--model-errors", help="Compare with each of the `model_errors` of `twin.py` as well.")
    ] = False,
    horizon: Annotated[
        float | None,
        typer.Option(help="Leave the future out this far ahead, in the twin's unit; else as the job says."),
    ] = None,
    origins: Annotated[int | None, typer.Option(help="How often to leave it out, instead of the job's.")] = None,
    job: JobName = "job.toml",
    results: ResultsPath = pathlib.Path("results"),
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Calibrate a twin with and without some of its terms, and compare how well it predicts.

    Example: bayestwin compare models/motor
    """
    began = time.perf_counter()
    with explained() as console:
        from bayestwin._base.progress import Progress
        from bayestwin.cli.display_insight import show_comparison
        from bayestwin.project.compare import compare_model
        from bayestwin.project.model import changed, load_model

        chosen = changed(load_model(model, job), compare={"horizon": horizon, "origins": origins})
        found = compare_model(
            chosen,
            results,
            off=off or (),
            model_errors=model_errors,
            device=device,
            progress=Progress(began=began),
        )
        show_run(console, found, show_comparison, as_json)
        stop_unless_finished(found.run.name, found.status)


def sbc(
    model: ModelPath,
    job: JobName = "job.toml",
    num_simulations: Annotated[int | None, typer.Option(help="Instead of the job's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Instead of the job's.")] = None,
    results: ResultsPath = pathlib.Path("results"),
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Check on simulated telemetry that calibration of a twin is right: simulation-based calibration.

    Example: bayestwin sbc models/lynx_hare --num-simulations 100
    """
    began = time.perf_counter()
    with explained() as console:
        from bayestwin._base.progress import Progress
        from bayestwin.cli.display_insight import show_ranks
        from bayestwin.project.insight import check_calibration
        from bayestwin.project.model import changed, load_model

        chosen = changed(load_model(model, job), sbc={"num_simulations": num_simulations, "seed": seed})
        found = check_calibration(chosen, results, device=device, progress=Progress(began=began))
        show_run(console, found, show_ranks, as_json)
        exit_by(found.status)


def scenario(
    model: ModelPath,
    names: Annotated[
        list[str] | None, typer.Argument(help="Scenarios, by the names of their files; all by default.")
    ] = None,
    draws: Annotated[int | None, typer.Option(help="About how many posterior draws, instead of the job's.")] = None,
    job: JobName = "job.toml",
    run: RunName = None,
    results: ResultsPath = pathlib.Path("results"),
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Find policies, compare scenarios with the baseline, say whether they are as expected; exit 1 where one is not.

    Example: bayestwin scenario models/room insulated
    """
    began = time.perf_counter()
    with explained() as console:
        from bayestwin._base.progress import Progress
        from bayestwin.cli.display_insight import show_scenarios
        from bayestwin.project.model import load_model
        from bayestwin.project.scenario import run_scenarios

        chosen = load_model(model, job)
        shown = Progress(began=began)
        outcome = run_scenarios(chosen, results, names or (), run=run, draws=draws, device=device, progress=shown)
        if as_json:
            print_json(outcome.record | {"files": [outcome.page, outcome.table, outcome.decision]})
        else:
            show_scenarios(console, outcome)
        if outcome.missed:
            raise typer.Exit(1)
