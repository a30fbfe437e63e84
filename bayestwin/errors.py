"""Everything `bayestwin` raises, as one tree.

BayestwinError
├── InvalidInput              the user's twin, telemetry, job or call is wrong (exit code 2)
│   ├── InvalidTwin           names, shapes, priors, units or vector field of a twin
│   ├── InvalidTelemetry      columns, times, units or values of telemetry
│   │   └── NothingNew        telemetry all of which a posterior knows
│   ├── InvalidJob            a job file that does not parse or validate
│   └── InvalidArtifact       a file that cannot be used as a result
│       ├── CorruptArtifact   damaged, truncated, or changed since it was written
│       ├── UnsafeArtifact    links, remote paths or formats that could run code or read other files
│       └── NewerSchema       written by a newer version of bayestwin
├── InvalidSetting            float64 off, no such device, no such method (exit code 2)
├── SolverFailure             the twin cannot be solved where it has to be (exit code 1, as the next)
│   └── NoValidStart          no draw from the prior gives a finite log density
├── NotReady                  what is in production cannot answer yet
│   └── NothingInProduction   there is a log, and no run of the model is in production
├── Unreachable               a database or a broker that does not answer
├── OutOfMemory               not enough memory for what was asked
└── StorageFailure            no space, no permission, no such folder
    └── RunLocked             another process writes the run
"""

from collections.abc import Callable, Sequence
from typing import Any, Self

PARTS = ("problem", "expected", "received", "advice")


class BayestwinError(Exception):
    """Root of all errors that `bayestwin` raises on purpose: four parts, of which its text is made.

    Attributes:
        problem: What is wrong, with the user's own names in backticks.
        expected: What would have been right.
        received: What came instead.
        advice: What to do about it.
        where: What it is about, such as "In experiment `first`", the outermost first; see `within`.
        reasons: The errors that this one lists, where several things are wrong; see `all_of`.
    """

    def __init__(
        self,
        problem: str,
        *,
        expected: str | None = None,
        received: str | None = None,
        advice: str | None = None,
    ) -> None:
        """An error from its parts; those that are None have no line in its text."""
        super().__init__(problem)
        self.problem = problem
        self.expected = expected
        self.received = received
        self.advice = advice
        self.where: tuple[str, ...] = ()
        self.reasons: tuple[BayestwinError, ...] = ()

    @classmethod
    def all_of(cls, errors: Sequence[Self]) -> Self:
        """The one error there is, or one of this type that lists all of them."""
        if len(errors) == 1:
            return errors[0]
        return cls(f"{len(errors)} things are wrong:").replace(reasons=tuple(errors))

    @property
    def summary(self) -> str:
        """The first line of the text: what it is about, and what is wrong."""
        return ": ".join((*self.where, self.problem))

    @property
    def line(self) -> str:
        """All of the text in one line, for a table or a sentence."""
        told = (("Expected: ", self.expected), ("Received: ", self.received), ("", self.advice))
        parts = (f"{mark}{part}" for mark, part in told if part)
        listed = (f"({n}) {one.line}" for n, one in enumerate(self.reasons, 1))
        sentences = (" ".join(part.split()) for part in (self.summary, *parts, *listed))
        return " ".join(part if part.endswith((".", "?", "!", ":")) else f"{part}." for part in sentences)

    def __str__(self) -> str:
        """The text: a line each for what is wrong, what was expected, what was received, and what to do."""
        parts = (("  Expected: ", self.expected), ("  Received: ", self.received), ("  ", self.advice))
        lines = [f"{mark}{part}" for mark, part in parts if part is not None]
        return "\n".join([self.summary, *lines, *(f"({n}) {one}" for n, one in enumerate(self.reasons, 1))])

    def replace(self, **fields: Any) -> Self:
        """The same error with other values of some fields."""
        # not by `copy`, whose way with exceptions other packages change, such as those that send them elsewhere
        other = type(self).__new__(type(self), self.problem)
        vars(other).update(vars(self))
        for name, value in fields.items():
            setattr(other, name, value)
        other.args = (other.problem,)
        if hasattr(self, "__notes__"):
            other.__notes__ = list(self.__notes__)  # notes that are added to one are not the other's
        return other

    def within(self, where: str) -> Self:
        """The same error with what it is about in front, for example "In experiment `first`"."""
        return self.replace(where=(where, *self.where))

    def reworded(self, words: Callable[[str], str]) -> Self:
        """The same error, each part of it as `words` puts it, and those of the errors that it lists."""
        told = {name: words(part) for name in PARTS if (part := getattr(self, name)) is not None}
        where = tuple(map(words, self.where))
        return self.replace(**told, where=where, reasons=tuple(one.reworded(words) for one in self.reasons))


class InvalidInput(BayestwinError):
    """What the user handed in is wrong."""


class InvalidTwin(InvalidInput):
    """A twin whose names, shapes, priors, units or vector field do not fit together."""


class InvalidTelemetry(InvalidInput):
    """Telemetry whose columns, times, units or values cannot be used."""


class NothingNew(InvalidTelemetry):
    """A posterior knows all of some telemetry."""


class InvalidJob(InvalidInput):
    """A job file that does not parse or validate."""


class InvalidArtifact(InvalidInput):
    """A file that cannot be used as a result of `bayestwin`."""


class CorruptArtifact(InvalidArtifact):
    """A result file that is damaged, truncated, or changed since it was written."""


class UnsafeArtifact(InvalidArtifact):
    """A file that could run code or read other files when opened."""


class NewerSchema(InvalidArtifact):
    """A result file written by a newer version of `bayestwin`."""


class InvalidSetting(BayestwinError):
    """A setting of the call or of the process that cannot give a right result."""


class SolverFailure(BayestwinError):
    """The twin cannot be solved where a solution is needed."""


class NoValidStart(SolverFailure):
    """No draw from the prior gives a finite log density."""


class NotReady(BayestwinError):
    """What is in production cannot answer yet, or nothing is in production."""


class NothingInProduction(NotReady):
    """There is a log, and no run of the model is in production."""


class Unreachable(BayestwinError):
    """A database or a broker does not answer, or does not let this user in."""


class OutOfMemory(BayestwinError):
    """There is not enough memory, of the device or of the machine, for what was asked."""


class StorageFailure(BayestwinError):
    """A result cannot be written: no space, no permission, no such folder."""


class RunLocked(StorageFailure):
    """Another process writes the run."""
