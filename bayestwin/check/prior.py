"""The prior against the data: can its draws be solved, does it expect such values, and would it in another unit."""

from collections.abc import Callable

import jax
import numpy as np

from bayestwin._base.progress import Progress
from bayestwin._base.seeds import key_for
from bayestwin.check.finding import Finding, ranges_of
from bayestwin.check.thresholds import Thresholds
from bayestwin.check.unit_changes import changes_of
from bayestwin.density.density import Density
from bayestwin.density.predictor import Predictor
from bayestwin.inference.failure import blame_state
from bayestwin.telemetry import Telemetry

PRIOR_DRAWS = 200

MOST_TIMES = 2000
"""Data are held against the prior at no more times than this, spread evenly."""

INTERVAL = (0.005, 0.995)

HARDLY = 0.1
"""A smaller share inside the prior's interval fails where another unit brings the data in."""

CONVINCING = 0.9
"""The share that another unit has to bring in."""

ALIKE = 0.2
"""Of changes that bring in nearly as many, the smallest is suggested: a larger one always squeezes more in."""

STILL = 0.02
"""Prior predictions whose spread over time is less than this share of the data's hardly move."""


def prior_findings(
    density: Density, seed: int, limits: Thresholds, rows: np.ndarray, shown: Progress, telemetry: Telemetry
) -> list[Finding]:
    """How many prior draws can be solved, and how much of the data the prior predictive reaches.

    Args:
        density: Twin and calibrated telemetry.
        seed: Determines the draws.
        limits: From which share on there is a finding.
        rows: What the rows of the telemetry are counted as; shape (n,).
        shown: Where progress is shown.
        telemetry: What was calibrated, which knows how times and columns are told.
    """
    keys = jax.random.split(key_for(seed, "check"), PRIOR_DRAWS)
    values, _ = density.draw_prior(keys)
    with shown, shown.phase("predictive", "predicting from the prior", PRIOR_DRAWS) as phase:
        found = Predictor(density)(values, key_for(seed, "check predictive"), phase)
    solved = found["solved"]
    num = int(solved.sum())
    share = num / PRIOR_DRAWS
    sentence = f"{num} of {PRIOR_DRAWS} draws from the prior can be solved."
    if num == 0:
        first = {name: float(v[0]) for name, v in values.items()}
        sentence = f"Not one draw from the prior can be solved: {blame_state(density, first)}."
    severity = "fail" if num == 0 else "warn" if share < 0.5 else "note"
    findings = [
        Finding(
            "expected" if severity == "note" else "prior",
            severity,
            "prior",
            sentence,
            {"solved": num, "drawn": PRIOR_DRAWS},
        )
    ]
    if num == 0:
        return findings
    for name, observed in density.bound.observations.items():
        findings.append(_expected(name, density, observed, found[name][solved], limits, rows, telemetry))
        findings += _still(name, density, observed, found[f"{name}_noise_free"][solved])
    return findings


def _expected(
    name: str,
    density: Density,
    observed: np.ndarray,
    drawn: np.ndarray,
    limits: Thresholds,
    rows: np.ndarray,
    telemetry: Telemetry,
) -> Finding:
    there = np.flatnonzero(np.isfinite(observed))
    there = there[:: max(1, there.size // MOST_TIMES)]
    low, high = np.nanquantile(drawn[:, there], INTERVAL, axis=0)
    values = observed[there]

    def share(changed: np.ndarray) -> float:
        return float(np.mean((changed >= low) & (changed <= high)))

    inside = share(values)
    sentence = f"{100 * inside:.0f} % of {telemetry.label(name)} lie inside the prior's 99 % equal-tailed interval."
    if inside >= limits.prior:
        return Finding("expected", "note", name, sentence, {"inside": inside})
    outside = there[(values < low) | (values > high)]
    told = dict(zip(("rows", "num_rows"), (ranges_of(rows[outside], 0)[:100], int(outside.size)), strict=True))
    labels = density.bound.labels
    evidence = {
        "inside": inside,
        **told,
        "times": [telemetry.shown(labels[outside[0]]), telemetry.shown(labels[outside[-1]])],
    }
    unit = density.twin.observations[name].unit
    best = _suggested(share, values, unit) if inside < HARDLY else None
    if best is None:
        sentence += " The prior hardly expects such data: check units and priors."
        return Finding("prior", "warn", name, sentence, evidence)
    words, reached = best
    sentence += f" {words[0].upper()}{words[1:]}, {100 * reached:.0f} % would: is the unit ({unit or 'none'}) right?"
    return Finding("unit_scale", "fail", name, sentence, evidence | {"suggestion": words, "inside_then": reached})


def _still(name: str, density: Density, observed: np.ndarray, drawn: np.ndarray) -> list[Finding]:
    """Predictions that stay where they begin while the data move: time runs too slowly in the twin."""
    there = np.isfinite(observed)
    spread = float(observed[there].std()) if there.any() else 0.0
    moved = float(np.median(drawn[:, there].std(axis=1))) / spread if spread > 0 else np.inf
    if moved >= STILL:
        return []
    sentence = (
        f"From the prior `{name}` hardly moves: in half of the draws by {100 * moved:.2g} % of what the data do. "
        f"Is `time_unit` ({density.twin.time_unit}) right, and the units of the parameters?"
    )
    return [Finding("prior", "warn", name, sentence, {"moved": moved})]


def _suggested(share: Callable[[np.ndarray], float], values: np.ndarray, unit: str) -> tuple[str, float] | None:
    """The smallest change of unit of those that bring most values in, and the share that it brings in."""
    changes = changes_of(unit)
    shares = {words: share(change(values)) for words, change in changes.items()}
    highest = max(shares.values())
    if highest < CONVINCING:
        return None
    words = next(words for words in changes if shares[words] >= highest - ALIKE)
    return words, shares[words]
