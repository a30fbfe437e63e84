"""Progress of long work: phases with a bar on a terminal, lines where a command takes long, and where the time went.

And what every verb that computes opens with: `computing`, one context for all that must hold meanwhile.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Protocol, Self

import rich.console
import rich.progress
import rich.table

from bayestwin._base.compilation import compile_clock, keep_compiled
from bayestwin._base.process import check_seed, enough_memory, on_device, require_float64

ORDER = ("import", "compile", "ladder", "warmup", "draws", "predictive", "predict", "save", "report")
"""The order in which timings are told; others come last."""


COMPUTED = ("ladder", "warmup", "draws", "predictive", "predict")
"""Phases whose first step waits for programs to be compiled, where these are new."""


class Phase(Protocol):
    """One phase under way."""

    def advance(self, steps: int, note: str = "") -> None:
        """Say that `steps` more are done, and a word about them."""
        ...


PATIENCE = 30.0
"""Seconds of silence after which a command without a terminal says what it is at."""


class Lines:
    """Says on standard error what a command is at, a line a phase, once it has been silent for `PATIENCE` seconds."""

    def __init__(self, console: rich.console.Console, began: float) -> None:
        """Nothing is said yet; `began` is when the command did, by `time.perf_counter`."""
        self._console, self._told, self._spoken = console, began, False

    @contextlib.contextmanager
    def phase(self, words: str, done: list[int], total: int) -> Iterator[None]:
        """Tell a phase, of which `done[0]` of `total` steps are done."""
        begun, ended, clock = time.perf_counter(), threading.Event(), compile_clock()
        compiled = clock.seconds

        def told() -> str:
            passed, compiling = time.perf_counter() - begun, clock.seconds - compiled
            much = f", {compiling:.0f} s of them compiling" if compiling >= 1 else ""
            return f"{words}: {done[0]:,} of {total:,}, {passed:.0f} s{much}"

        def watch() -> None:
            while not ended.wait(min(PATIENCE, 1.0)):
                if time.perf_counter() - self._told >= PATIENCE:
                    self._say(f"{told()}{'; the first step waits for what is compiled' if not done[0] else ''}")

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()
            if self._spoken:
                self._say(told())

    def _say(self, words: str) -> None:
        self._told, self._spoken = time.perf_counter(), True
        self._console.print(words, markup=False, highlight=False, soft_wrap=True)


class Progress:
    """Shows phases one after the other and keeps where the time went.

    Attributes:
        timings: Seconds by phase, no second in two of them: `compile` has what JAX spent on compiling in all phases,
            and `import` what went by before the first.
    """

    def __init__(self, *, show: bool | None = None, began: float | None = None) -> None:
        """Show bars if `show`; by default only where standard error is a terminal.

        Args:
            show: Whether to show bars.
            began: When the command began, by `time.perf_counter`; without it there is no timing `import`, and nothing
                is said where there is no terminal.
        """
        self.timings: dict[str, float] = {}
        self._began = began
        console = rich.console.Console(stderr=True)
        visible = console.is_terminal if show is None else show
        self._lines = None if visible or show is False or began is None else Lines(console, began)
        note = rich.table.Column(ratio=3, no_wrap=True, overflow="ellipsis")
        self._bars = rich.progress.Progress(
            rich.progress.TextColumn("{task.description:<20}", table_column=_fixed(20)),
            rich.progress.BarColumn(bar_width=None, table_column=rich.table.Column(ratio=1)),
            rich.progress.MofNCompleteColumn(table_column=_fixed(11)),
            rich.progress.TimeElapsedColumn(table_column=_fixed(7)),
            rich.progress.TimeRemainingColumn(table_column=_fixed(7)),
            rich.progress.TextColumn("{task.fields[note]}", style="dim", table_column=note),
            console=console,
            expand=True,
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
        # until the first step is done most of the time goes into compiling, of what computes
        task = self._bars.add_task(words, total=total, note="compiling" if name in COMPUTED else "")
        bars, done = self._bars, [0]

        class Running:
            def advance(self, steps: int, note: str = "") -> None:
                done[0] += steps
                bars.update(task, advance=steps, note=note)

        lines = contextlib.nullcontext() if self._lines is None else self._lines.phase(words, done, total)
        try:
            with self.timed(name), lines:
                yield Running()
        finally:
            bars.stop_task(task)

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator["Progress"]:
        """Do a part of the work that has phases of its own: shown beneath its name, timed as one; not within a phase.

        Args:
            name: Key in `timings`, and what is shown.
        """
        visible = not self._bars.disable
        if visible:
            self._bars.console.print(name, markup=False)
        part = Progress(show=visible)
        try:
            yield part
        finally:
            self._add(name, sum(part.timings.values()))

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Time what is done inside, without showing it; not within a phase.

        Args:
            name: Key in `timings`.
        """
        clock = compile_clock()
        begun, compiled = time.perf_counter(), clock.seconds
        if self._began is not None:
            self._add("import", begun - self._began)
            self._began = None
        try:
            yield
        finally:
            passed, compiled = time.perf_counter() - begun, max(0.0, clock.seconds - compiled)
            self._add("compile", compiled)
            self._add(name, max(0.0, passed - compiled))

    def _add(self, name: str, seconds: float) -> None:
        self.timings[name] = self.timings.get(name, 0.0) + seconds

    def __enter__(self) -> Self:
        """Start drawing."""
        self._bars.start()
        return self

    def __exit__(self, *reason: object) -> None:
        """Stop drawing, and leave the finished bars on the screen."""
        self._bars.stop()


def computing(
    advice: str = "Look at less at once.",
    *,
    seed: object,
    device: str | None = None,
    progress: Progress | None = None,
) -> contextlib.AbstractContextManager[Progress]:
    """The context in which a verb computes; float64 and the seed are checked at once, before it is entered.

    Inside, what is compiled is kept, JAX computes on the device, and running out of memory is an error with advice.

    Args:
        advice: What to lower where there is not enough memory.
        seed: Of the verb.
        device: `"cpu"`, `"gpu"`, or None for JAX's default.
        progress: Where progress is shown; by default a bar where there is a terminal.

    Raises:
        InvalidSetting: If float64 is off or the seed is none; on entering, if there is no such device.
        OutOfMemory: From inside.
    """
    require_float64()
    check_seed(seed)
    return _computing(advice, device, progress)


@contextlib.contextmanager
def _computing(advice: str, device: str | None, progress: Progress | None) -> Iterator[Progress]:
    keep_compiled()
    with enough_memory(advice), on_device(device), progress or Progress() as shown:
        yield shown


def _fixed(width: int) -> rich.table.Column:
    """A column that a narrow terminal does not cut; bar and note share what is left."""
    return rich.table.Column(no_wrap=True, min_width=width)
