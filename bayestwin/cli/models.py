"""`new`, `models` and `check`: making a model folder, listing those there are, and looking at one before sampling."""

import pathlib
import shlex
import time
from typing import Annotated

import rich.markup
import typer

from bayestwin.cli.frame import AsJson, JobName, ModelPath, ResultsPath, advise, exit_by, explained, print_json

MODELS = pathlib.Path("models")
"""Where model folders lie unless something else is said."""


def new(
    name: Annotated[str, typer.Argument(help="Name of the model: letters, digits and `_`.")],
    root: Annotated[pathlib.Path, typer.Option("--in", help="Folder that holds model folders.")] = MODELS,
    as_json: AsJson = False,
) -> None:
    """Make a model folder to start from: a twin, a job, a card and simulated telemetry, which calibrates as it is.

    Example: bayestwin new tank
    """
    with explained() as console:
        from bayestwin.project.model import new_model

        folder = new_model(name, root)
        if as_json:
            print_json({"model": folder, "files": sorted(path for path in folder.rglob("*") if path.is_file())})
            return
        typed = shlex.quote(str(folder))
        console.print(
            f"{folder} holds a heated tank with simulated telemetry. Calibrate it as it is, then make it your own:\n"
            f"  bayestwin check {typed}\n  bayestwin calibrate {typed}",
            markup=False,
            soft_wrap=True,
        )


def import_model(
    kind: Annotated[str, typer.Argument(help="What it is: `petab`.")],
    file: Annotated[pathlib.Path, typer.Argument(help="The problem's YAML file.")],
    folder: Annotated[pathlib.Path, typer.Argument(help="Model folder to make, such as models/NAME.")],
    as_json: AsJson = False,
) -> None:
    """Write a model folder from a model that exists: a PEtab problem of version 1, whose equations are in SBML.

    Example: bayestwin import petab problem.yaml kinetics
    """
    with explained() as console:
        if kind != "petab":
            from bayestwin.errors import InvalidInput

            raise InvalidInput(
                f"There is no import of `{kind}`.", expected="`petab`", received=f"`{kind}`", advice="Write `petab`."
            )
        from bayestwin.petab.problem import import_petab

        found = import_petab(file, folder)
        if as_json:
            print_json({"model": found.folder} | found._asdict())
            return
        typed = shlex.quote(str(found.folder))
        told = "not known" if found.log_likelihood is None else f"{found.log_likelihood:.6f}"
        num = len(found.experiments)
        words = [f"{found.folder} holds {num} experiment{'s' if num > 1 else ''}."]
        words.append(f"Log likelihood at the nominal values: {told}.")
        words += found.notices
        console.print(
            "\n".join([*words, "Read its card and its priors, then:", f"  bayestwin calibrate {typed}"]),
            markup=False,
            soft_wrap=True,
        )


import_model.__name__ = "import"  # the name of the verb, which Python does not let a function be defined by


def _inside(root: pathlib.Path) -> str:
    """The option that names a folder of model folders; empty where it need not be named."""
    return "" if root == MODELS else f" --in {shlex.quote(str(root))}"


def models(
    root: Annotated[pathlib.Path, typer.Argument(help="Folder that holds model folders.")] = MODELS,
    as_json: AsJson = False,
) -> None:
    """List the model folders, with one line about each.

    Example: bayestwin models
    """
    with explained() as console:
        from bayestwin.project.model import list_models

        found = list_models(root)
        if as_json:
            print_json([{"model": folder, "about": words} for folder, words in found])
            return
        width = max((len(str(folder)) for folder, _ in found), default=0)
        for folder, words in found:
            name = rich.markup.escape(str(folder)) + " " * (width - len(str(folder)))
            console.print(f"[bold]{name}[/bold]  {rich.markup.escape(words)}", highlight=False, soft_wrap=True)
        if not found:
            console.print(
                f"No model folders in {root}: a model is a folder with a `twin.py`.", markup=False, soft_wrap=True
            )
            advise(f"`bayestwin new NAME{_inside(root)}` makes one to start from.")


def check(
    model: ModelPath,
    job: JobName = "job.toml",
    held_out: Annotated[
        pathlib.Path | None,
        typer.Option(
            "--held-out", help="File of telemetry that is held out, instead of what the job's split holds out."
        ),
    ] = None,
    results: ResultsPath = pathlib.Path("results"),
    as_json: AsJson = False,
) -> None:
    """Look at a model's telemetry and priors before anything is sampled.

    Example: bayestwin check models/room
    """
    began = time.perf_counter()
    with explained() as console:
        from bayestwin._base.progress import Progress
        from bayestwin.cli.display import show_checked
        from bayestwin.project.check import check_model
        from bayestwin.project.model import load_model

        found = check_model(load_model(model, job), results, held_out, progress=Progress(began=began))
        if as_json:
            print_json([finding._asdict() for finding in found.found.findings])
        else:
            show_checked(console, found)
        exit_by(found.status)
