"""From runs to the rows of the table: medians over seeds, rates, ratios, and whether engines agree."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from results_page import number

MOST_RHAT, MOST_Z = 1.01, 4.0
HEADER = (
    "posterior",
    "engine",
    "bulk ESS",
    "tail ESS",
    "build, s",
    "warm-up, s",
    "sampling, s",
    "process, s",
    "ESS/s",
    "ESS/s with build",
    "gradients a draw",
    "divergences",
    "R̂",
    "largest z",
    "seeds failed",
    "ours / it",
    "with build",
)
MEANING = """ESS and R̂ are the worst over all quantities. `build` is all compiling (C++ or XLA) of the first seed, whose
caches are empty; `warm-up` is everything else before the first draw that is kept, finding starts included; `process`
lasts from the start of Python to its end, for ours with predictions and the saved file. `ESS/s` is bulk ESS by warm-up
and sampling, the other with build too. `largest z` is the largest difference of a posterior mean from the reference
named below, in combined Monte Carlo standard errors. A seed failed when there is no result, R̂ is above 1.01, a draw
diverged, or z is above 4. The last two columns say how many times the engine's rate ours is. Where there are several
seeds, numbers are medians over those with a result."""

type Found = dict[str, Any]
"""What a worker says about one run."""


class Row(NamedTuple):
    """One engine on one posterior, over all seeds; numbers are None where no seed gave a result."""

    posterior: str
    engine: str
    reference: str
    words: str
    bulk: float | None = None
    tail: float | None = None
    build: float | None = None
    warmup: float | None = None
    sampling: float | None = None
    process: float | None = None
    rate: float | None = None
    rate_with_build: float | None = None
    gradients: float | None = None
    divergences: float | None = None
    rhat: float | None = None
    z: float | None = None
    failed: str = ""
    ratio: float | None = None
    ratio_with_build: float | None = None

    def cells(self) -> list[str]:
        """The row as text, in the order of `HEADER`."""
        if self.bulk is None:
            return [self.posterior, self.engine, self.words, *[""] * 11, self.failed, "", ""]
        rhat = "" if self.rhat is None else f"{self.rhat:.3f}"
        numbers = [number(v) for v in self[4:14]]
        return [
            *self[:2],
            *numbers,
            rhat,
            number(self.z),
            self.failed,
            number(self.ratio),
            number(self.ratio_with_build),
        ]


def make_rows(posterior: str, found: Mapping[str, Sequence[Found]]) -> list[Row]:
    """The rows of one posterior, from the runs of each engine."""
    first = next((run for run in found.get("ours", ()) if run["status"] == "done"), None)
    rows = [_row(posterior, engine, runs, first) for engine, runs in found.items()]
    ours = next((row for row in rows if row.engine == "ours" and row.rate), None)
    if ours is None:
        return rows
    return [
        row
        if row.rate is None or row.rate_with_build is None
        else row._replace(
            ratio=(ours.rate or 0.0) / row.rate,
            ratio_with_build=(ours.rate_with_build or 0.0) / row.rate_with_build,
        )
        for row in rows
    ]


def agreement(rows: Sequence[Row]) -> list[str]:
    """One sentence an engine and posterior: does its posterior agree with the reference?"""
    return [
        f"{row.posterior}, {row.engine}: largest z {row.z:.1f} against {row.reference}"
        + (", agrees" if row.z <= MOST_Z else ", DISAGREES")
        for row in rows
        if row.z is not None and row.reference
    ]


def largest_z(run: Found, reference: Mapping[str, Sequence[float]]) -> float:
    """Largest difference of means in combined standard errors."""
    scores = []
    for name, (mean, error) in reference.items():
        here, its_error = run["moments"][name]
        scores.append(abs(here - mean) / (error**2 + its_error**2) ** 0.5)
    return max(scores)


def _row(posterior: str, engine: str, runs: Sequence[Found], ours: Found | None) -> Row:
    done = [run for run in runs if run["status"] == "done"]
    if not done:
        words = runs[0].get("reason") or runs[0]["status"]
        absent = runs[0]["status"] in ("not installed", "CPU only")
        return Row(posterior, engine, "", words, failed="" if absent else f"{len(runs)} of {len(runs)}")
    gold = done[0]["gold"]
    reference = gold or (ours["moments"] if ours and engine != "ours" else {})
    z = [largest_z(run, reference) if reference else None for run in done]
    bad = sum(
        run["rhat"] > MOST_RHAT or run["divergences"] > 0 or (score or 0.0) > MOST_Z
        for run, score in zip(done, z, strict=True)
    )
    build = done[0]["seconds"]["build"]
    warmup, sampling, bulk = (
        statistics.median(values)
        for values in (
            [run["seconds"]["warmup"] for run in done],
            [run["seconds"]["sampling"] for run in done],
            [run["bulk"] for run in done],
        )
    )
    return Row(
        posterior,
        engine,
        (done[0]["source"] if gold else "ours at the first seed") if reference else "",
        "",
        bulk,
        statistics.median(run["tail"] for run in done),
        build,
        warmup,
        sampling,
        done[0]["process"],
        bulk / (warmup + sampling),
        bulk / (build + warmup + sampling),
        statistics.median(run["gradients"] for run in done),
        statistics.median(run["divergences"] for run in done),
        max(run["rhat"] for run in done),
        max(score for score in z if score is not None) if reference else None,
        f"{bad + len(runs) - len(done)} of {len(runs)}",
    )
