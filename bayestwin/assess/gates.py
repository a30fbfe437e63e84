"""The shape of a verdict: one gate, passed or not, with its number, its limit and a sentence for people."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

WARN = ("modes", "prior_edge", "prior_posterior", "residuals", "point", "coverage")
"""Names of the gates that only warn, unless they are asked to fail."""


class Gate(NamedTuple):
    """One condition that a result must meet before it is trusted.

    Attributes:
        name: Short and stable, for job files and logs.
        passed: Whether the condition holds. What cannot be computed does not hold.
        value: The number that was judged; NaN where it cannot be computed.
        limit: What the number was held against.
        sentence: What was found, in words, and what to do where it did not pass.
        severity: `"fail"` where the result must not be trusted unless it passes; `"warn"` for what a
            person should look at, and which stops nothing.
    """

    name: str
    passed: bool
    value: float
    limit: float
    sentence: str
    severity: Literal["fail", "warn"] = "fail"


def failed(gates: Iterable[Gate]) -> tuple[Gate, ...]:
    """The gates that forbid to trust the result; none means that it passed."""
    return tuple(gate for gate in gates if gate.severity == "fail" and not gate.passed)
