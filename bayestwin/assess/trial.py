"""A backtest, and what became of its origins."""

from collections.abc import Sequence
from typing import NamedTuple

from bayestwin._base.wording import count
from bayestwin.assess.evidence import Evidence


class Trial(NamedTuple):
    """A backtest, and what became of its origins.

    Attributes:
        evidence: Its forecasts held against what came; None where no origin gave any, or none were asked.
        planned: Number of origins that were asked for.
        failures: Why origins have no forecast, in words, one for each.
        doubtful: Number of origins whose posterior failed a gate.
        unreached: Number of origins that Ctrl-C left out.
        gates: Names of the gates that any of them failed.
    """

    evidence: Evidence | None
    planned: int
    failures: Sequence[str] = ()
    doubtful: int = 0
    unreached: int = 0
    gates: Sequence[str] = ()


def origin_sentences(trial: Trial) -> list[str]:
    """What speaks against it: origins without a forecast, with a doubtful one, or left out."""
    sentences = []
    if trial.failures:
        first = trial.failures[0].split("\n")[0]
        sentences.append(
            f"{len(trial.failures)} of {count(trial.planned, 'origin')} of the backtest gave no forecast: calibrated "
            f"anew on less data, this twin does not always come out. The first: {first}"
        )
    if trial.doubtful:
        sentences.append(
            f"At {trial.doubtful} of {count(trial.planned, 'origin')} of the backtest the posterior failed a gate"
            f"{' (' + ', '.join(trial.gates) + ')' if trial.gates else ''}: forecasts there need not be what a careful "
            "calibration would say. Its table of origins says where. With few observations before the origin, let the "
            "first come later (`origins` in `[validate]`); else take `--method nuts`, or more `num_samples`."
        )
    if trial.unreached:
        sentences.append(
            f"The backtest was interrupted: {trial.unreached} of {count(trial.planned, 'origin')} are missing."
        )
    return sentences
