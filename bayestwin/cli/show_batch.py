"""What is printed of a batch: a live table on a terminal, elsewhere a line for each task as it ends."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import rich.console
import rich.live
import rich.table

from bayestwin.cli.text import show_line, show_path, table
from bayestwin.project.batch import Outcome
from bayestwin.project.tasks import Refused, Task

SHOWN = 30
"""Tasks in the live table: those that have not ended, then the latest that have."""


@contextlib.contextmanager
def live(console: rich.console.Console, tasks: Sequence[Task], *, quiet: bool) -> Iterator[Callable[[Outcome], None]]:
    """Show tasks while they are done; what is yielded is to be told of each outcome."""
    known: dict[str, Outcome] = {}
    if quiet or not console.is_terminal:

        def tell(outcome: Outcome) -> None:
            if not quiet:
                show_line(console, _mark(outcome.status), _words(outcome))

        yield tell
        return
    with rich.live.Live(_table(tasks, known), console=console, refresh_per_second=4) as shown:

        def update(outcome: Outcome) -> None:
            known[outcome.task.key] = outcome
            shown.update(_table(tasks, known))

        yield update


def show_batch(console: rich.console.Console, refused: Sequence[Refused], page: pathlib.Path, words: str) -> None:
    """What could not be done at all, the page, and what became of everything."""
    for one in refused:
        show_line(console, "[red]FAIL[/red]", f"{one.name}: {one.words}")
    show_path(console, page)
    console.print(words, highlight=False)


def phrase(counts: Mapping[str, int]) -> str:
    """How many tasks ended in which way, in words."""
    return ", ".join(f"{number} {status}" for status, number in counts.items()) or "nothing to do"


def _table(tasks: Sequence[Task], known: Mapping[str, Outcome]) -> rich.table.Table:
    made = table("task", "outcome", "attempts", "seconds")
    waiting = [task for task in tasks if task.key not in known]
    done = [outcome for outcome in known.values()][-max(SHOWN - len(waiting), 5) :]
    for outcome in done:
        made.add_row(outcome.task.name, _mark(outcome.status), str(outcome.attempts), f"{outcome.seconds:.0f}")
    for task in waiting[: SHOWN - len(done)]:
        made.add_row(task.name, "[dim]…[/dim]", "", "")
    made.caption = f"{len(known)} of {len(tasks)} done"
    return made


def _mark(status: str) -> str:
    colour = {"finished": "green", "interrupted": "yellow"}.get(status, "red")
    return f"[{colour}]{status}[/{colour}]"


def _words(outcome: Outcome) -> str:
    took = f"{outcome.seconds:.0f} s" if outcome.attempts else "done before"
    again = f", {outcome.attempts} attempts" if outcome.attempts > 1 else ""
    return f"{outcome.task.name} ({took}{again})" + (f": {outcome.words}" if outcome.words else "")
