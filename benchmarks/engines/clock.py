"""Wall time by phase, with the time that JAX spends compiling taken out of the phase in which it happens."""

import contextlib
import time
from collections.abc import Iterator

import jax


class Clock:
    """Seconds by phase; `build` gathers all compiling.

    Attributes:
        seconds: Wall seconds by phase.
    """

    def __init__(self) -> None:
        """Listen to JAX from now on."""
        self.seconds = {"build": 0.0}
        self._compiled: list[tuple[float, float]] = []
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time one phase."""
        self._compiled.clear()
        begun = time.perf_counter()
        yield
        taken = time.perf_counter() - begun
        compiling = 0.0 if name == "build" else _length(self._compiled)
        self.seconds["build"] += compiling
        self.seconds[name] = self.seconds.get(name, 0.0) + taken - compiling

    def _listen(self, event: str, duration_secs: float, **_: str | int) -> None:
        if event.startswith("/jax/core/compile/"):
            now = time.perf_counter()
            self._compiled.append((now - duration_secs, now))


def _length(spans: list[tuple[float, float]]) -> float:
    """Length of the union of intervals: tracing a function traces others within it."""
    total, reached = 0.0, float("-inf")
    for begun, ended in sorted(spans):
        total += max(0.0, ended - max(begun, reached))
        reached = max(reached, ended)
    return total
