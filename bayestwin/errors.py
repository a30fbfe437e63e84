"""Everything `bayestwin` raises, as one tree.

BayestwinError
├── InvalidInput              the user's twin, telemetry, job or call is wrong (exit code 2)
│   ├── InvalidTwin           names, shapes, priors, units or vector field of a twin
│   ├── InvalidTelemetry      columns, times, units or values of telemetry
│   ├── InvalidJob            a job file that does not parse or validate
│   └── InvalidArtifact       a file that cannot be used as a result
│       ├── CorruptArtifact   damaged, truncated, or changed since it was written
│       ├── UnsafeArtifact    links, remote paths or formats that could run code or read other files
│       └── NewerSchema       written by a newer version of bayestwin
├── InvalidSetting            float64 off, no such device, no such method (exit code 2)
├── SolverFailure             the twin cannot be solved where it has to be (exit code 1, as the next)
│   └── NoValidStart          no draw from the prior gives a finite log density
├── OutOfMemory               not enough memory for what was asked
└── StorageFailure            no space, no permission, no such folder
    └── RunLocked             another process writes the run
"""


class BayestwinError(Exception):
    """Root of all errors that `bayestwin` raises on purpose."""


class InvalidInput(BayestwinError):
    """What the user handed in is wrong."""


class InvalidTwin(InvalidInput):
    """A twin whose names, shapes, priors, units or vector field do not fit together."""


class InvalidTelemetry(InvalidInput):
    """Telemetry whose columns, times, units or values cannot be used."""


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


class OutOfMemory(BayestwinError):
    """There is not enough memory, of the device or of the machine, for what was asked."""


class StorageFailure(BayestwinError):
    """A result cannot be written: no space, no permission, no such folder."""


class RunLocked(StorageFailure):
    """Another process writes the run."""


def explain(problem: str, *, expected: str, received: str, advice: str) -> str:
    """Compose a message in the one shape that all errors of `bayestwin` have.

    Args:
        problem: What is wrong, with the user's own names in backticks.
        expected: What would have been right.
        received: What came instead.
        advice: What to do about it.

    Returns:
        The message, on four lines.
    """
    return f"{problem}\n  Expected: {expected}\n  Received: {received}\n  {advice}"
