"""What every command has in common: options, errors and exit codes, JSON."""

import contextlib
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Protocol

import rich.console
import rich.markup
import typer

from bayestwin import errors

ModelPath = Annotated[pathlib.Path, typer.Argument(help="Model folder with `twin.py` and a job file.")]
JobName = Annotated[str, typer.Option("--job", help="Job file inside the model folder.")]
ResultsPath = Annotated[pathlib.Path, typer.Option("--results", help="Where runs are filed.")]
RunName = Annotated[str | None, typer.Option("--run", help="Name of the run; by default the newest.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Device = Annotated[str | None, typer.Option(help="cpu or gpu; by default what JAX chooses.")]


class Ran(Protocol):
    """What a verb that leaves a run returns."""

    @property
    def run(self) -> pathlib.Path:
        """The folder of the run."""
        ...

    @property
    def record(self) -> dict[str, Any]:
        """The content of its `run.json`."""
        ...


@contextlib.contextmanager
def explained() -> Iterator[rich.console.Console]:
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


def advise(words: str) -> None:
    """Say on standard error what could be done next: standard output holds the answer alone."""
    rich.console.Console(stderr=True).print(words, markup=False, soft_wrap=True, highlight=False)


def print_json(content: Any) -> None:
    """Write plain JSON to standard output."""
    from bayestwin.project.record import to_json

    sys.stdout.write(to_json(content))


def show_run(console: rich.console.Console, found: Ran, show: Callable[..., None], as_json: bool) -> None:
    """Print what a verb found: the record of its run as JSON, or what `show(console, found)` makes of it."""
    if as_json:
        print_json({"folder": found.run} | found.record)
    else:
        show(console, found)


def exit_by(status: str) -> None:
    """Exit as what became of a run asks for; go on where it finished."""
    code = {"finished": 0, "failed gates": 1, "interrupted": 130}[status]
    if code:
        raise typer.Exit(code)


def stop_unless_finished(run: str, status: str) -> None:
    """Exit with 1 where what was printed rests on a run that must not be relied on."""
    if status != "finished":
        from bayestwin._base.wording import not_to_rely_on, status_words

        words = f"[red]{not_to_rely_on('this', status_words(run, status))}[/red]"
        rich.console.Console(stderr=True).print(words, soft_wrap=True, highlight=False)
        raise typer.Exit(1)
