"""`runs`, `show`, `diff`, `doctor`, `export`, `reproduce`, `track`: what is done with runs whatever their model."""

import pathlib
from typing import Annotated

import typer

from bayestwin.cli.frame import AsJson, Device, ResultsPath, explained, print_json

AnyRun = Annotated[str, typer.Argument(help="Id of a run, the beginning of it, or the path of its folder.")]


def runs(
    model: Annotated[str | None, typer.Argument(help="Only runs of this model: its name, or its folder.")] = None,
    status: Annotated[str | None, typer.Option(help="Only runs of this status, such as `failed gates`.")] = None,
    most: Annotated[int, typer.Option("--most", min=1, help="As many, the newest.")] = 20,
    results: ResultsPath = pathlib.Path("results"),
    as_json: AsJson = False,
) -> None:
    """List the runs, newest last.

    Example: bayestwin runs room
    """
    with explained() as console:
        from bayestwin.cli.display import show_runs
        from bayestwin.project.index import read_index

        name = None if model is None else pathlib.Path(model).absolute().name
        found = [e for e in read_index(results) if name in (None, e.model) and status in (None, e.status)]
        if as_json:
            print_json([entry._asdict() for entry in found[-most:]])
        else:
            show_runs(console, found[-most:], len(found))


def show(run: AnyRun, results: ResultsPath = pathlib.Path("results"), as_json: AsJson = False) -> None:
    """Show what a run was made of and what came out.

    Example: bayestwin show 20260401-120000
    """
    with explained() as console:
        from bayestwin.cli.display import show_run
        from bayestwin.project.index import find_any_run, status_now
        from bayestwin.project.record import read_record
        from bayestwin.project.run import POSTERIOR
        from bayestwin.results.store import load

        folder = find_any_run(results, run)
        record = read_record(folder)
        if "status" in record:
            record |= {"status": status_now(folder, str(record["status"]))}
        if as_json:
            print_json({"folder": folder} | record)
        else:
            posterior = load(folder / POSTERIOR) if (folder / POSTERIOR).is_file() else None
            show_run(console, folder, record, posterior)


def diff(
    first: AnyRun,
    second: AnyRun,
    html: Annotated[
        pathlib.Path | None, typer.Option(help="File of a page to write, with parameters and metrics side by side.")
    ] = None,
    results: ResultsPath = pathlib.Path("results"),
    as_json: AsJson = False,
) -> None:
    """Show what is different between two runs: inputs, settings, environment, outcome, and how far posteriors agree.

    Example: bayestwin diff 20260401-120000 20260402-090000 --html difference.html
    """
    with explained() as console:
        from bayestwin.cli.display import show_difference, show_path
        from bayestwin.project.diff import difference
        from bayestwin.project.index import find_any_run

        folders = find_any_run(results, first), find_any_run(results, second)
        found = difference(*folders)
        page = None
        if html is not None:
            from bayestwin.project.diff import write_difference  # half a second, which only a page is worth

            page = write_difference(html, *folders, found)
        if as_json:
            print_json(
                {
                    "page": page,
                    "first": folders[0],
                    "second": folders[1],
                    "changes": [change._asdict() for change in found.changes],
                    "posteriors": [one._asdict() for one in found.agreements],
                    "only_first": found.only_first,
                    "only_second": found.only_second,
                }
            )
        else:
            show_difference(console, folders[0], folders[1], found)
            if page is not None:
                show_path(console, page)


def doctor(results: ResultsPath = pathlib.Path("results"), as_json: AsJson = False) -> None:
    """Look whether the environment, the files of all runs and the logs of promotions are in order.

    Example: bayestwin doctor
    """
    with explained() as console:
        from bayestwin.cli.display import show_findings
        from bayestwin.project.index import examine
        from bayestwin.registry.production import examine_logs

        findings = (*examine(results), *examine_logs(results))
        if as_json:
            print_json([finding._asdict() for finding in findings])
        else:
            show_findings(console, findings)
        if any(finding.severity == "fail" for finding in findings):
            raise typer.Exit(1)


def export(
    run: AnyRun,
    out: Annotated[pathlib.Path | None, typer.Option(help="The archive; by default `RUN.zip` here.")] = None,
    results: ResultsPath = pathlib.Path("results"),
    as_json: AsJson = False,
) -> None:
    """Pack a run into one archive that makes it again on another machine, by one command.

    Example: bayestwin export 20260401-120000
    """
    with explained() as console:
        from bayestwin.cli.display import show_kit
        from bayestwin.project.index import find_any_run
        from bayestwin.project.kit import export as export_run

        folder = find_any_run(results, run)
        path = export_run(folder.parents[1], folder, out or pathlib.Path(f"{folder.name}.zip"))
        if as_json:
            print_json({"run": folder.name, "file": path})
        else:
            show_kit(console, path)


def reproduce(
    run: Annotated[str, typer.Argument(help="Id or folder of a run, or an archive that `export` wrote.")],
    here: Annotated[
        bool, typer.Option("--here", help="In this environment, instead of a fresh one from the lock.")
    ] = False,
    device: Device = None,
    results: ResultsPath = pathlib.Path("results"),
    as_json: AsJson = False,
) -> None:
    """Make a run again from the inputs that it kept, and say whether it comes out the same.

    Example: bayestwin reproduce 20260401-120000
    """
    with explained() as console:
        from bayestwin.cli.display import show_reproduction
        from bayestwin.project.kit import opened, rerun
        from bayestwin.project.reproduce import reproduce as reproduce_run

        with opened(results, run, kit=not here) as folder:
            if not here:
                raise typer.Exit(rerun(folder.parent, ["--json"] if as_json else []))
            found = reproduce_run(folder, device=device)
        if as_json:
            print_json({**found._asdict(), "holds": found.holds, "files": [one._asdict() for one in found.files]})
        else:
            show_reproduction(console, found)
        if not found.holds:
            raise typer.Exit(1)


# `track`: finished runs in an MLflow store.


def track(
    runs: Annotated[list[str], typer.Argument(help="Ids of runs, the beginnings of them, or paths of their folders.")],
    store: Annotated[
        str | None, typer.Option(help="Address of a tracking store; by default `mlflow.db` where runs are filed.")
    ] = None,
    aliases: Annotated[
        bool,
        typer.Option(
            "--aliases", help="Have the aliases `staging` and `prod` of their models there point to what is in these."
        ),
    ] = False,
    results: ResultsPath = pathlib.Path("results"),
    as_json: AsJson = False,
) -> None:
    """Log finished runs in an MLflow tracking store (extra `mlflow`); what is there already is left alone.

    With `--aliases`, after a promotion, the registered model of that name follows the log of the model here.

    Example: bayestwin track 20260401-120000 --aliases
    """
    with explained() as console:
        from bayestwin.cli.display import show_line
        from bayestwin.project.index import find_any_run
        from bayestwin.project.track import track as log
        from bayestwin.registry.aliases import mirror

        folders = [find_any_run(results, name) for name in runs]
        found = [log(results, folder, store) for folder in folders]
        models = sorted({folder.parent.name for folder in folders}) if aliases else []
        pointed = {name: mirror(name, results, store) for name in models}
        if as_json:
            told = [one._asdict() for one in found]
            every = {name: {one.alias: one._asdict() for one in own} for name, own in pointed.items()}
            print_json({"runs": told, "aliases": every} if aliases else told)
            return
        for one in found:
            mark = "[green]logged[/green]" if one.new else "[dim]there[/dim]"
            show_line(console, mark, f"{one.run} in {one.store}")
        for name, own in pointed.items():
            for one in own:
                what = f"version {one.version}, run {one.run}" if one.run else "nothing"
                show_line(console, "[green]alias[/green]", f"{name}@{one.alias} is {what}")
