"""Progress of long work: phases with a bar on a terminal, silence elsewhere, and how long each phase took."""

import contextlib
import time
from collections.abc import Iterator
from typing import Protocol, Self

import rich.console
import rich.progress


class Phase(Protocol):
    """One phase under way."""

    def advance(self, steps: int, note: str = "") -> None:
        """Say that `steps` more are done, and a word about them."""
        ...


class Progress:
    """Shows phases one after the other and keeps their durations.

    Attributes:
        timings: Seconds by phase.
    """

    def __init__(self, *, show: bool | None = None) -> None:
        """Show bars if `show`; by default only where standard error is a terminal."""
        self.timings: dict[str, float] = {}
        console = rich.console.Console(stderr=True)
        visible = console.is_terminal if show is None else show
        self._bars = rich.progress.Progress(
            rich.progress.TextColumn("{task.description:<26}"),
            rich.progress.BarColumn(bar_width=24),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TextColumn("{task.fields[note]}", style="dim"),
            console=console,
            disable=not visible,
        )

    @contextlib.contextmanager
    def phase(self, name: str, words: str, total: int) -> Iterator[Phase]:
        """Run one phase.

        Args:
            name: Key in `timings`.
            words: What is shown.
            total: Number of steps expected.
        """
        begun = time.perf_counter()
        task = self._bars.add_task(words, total=total, note="")
        bars = self._bars

        class Running:
            def advance(self, steps: int, note: str = "") -> None:
                bars.update(task, advance=steps, note=note)

        try:
            yield Running()
        finally:
            bars.stop_task(task)
            self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - begun

    def __enter__(self) -> Self:
        """Start drawing."""
        self._bars.start()
        return self

    def __exit__(self, *reason: object) -> None:
        """Stop drawing, and leave the finished bars on the screen."""
        self._bars.stop()
