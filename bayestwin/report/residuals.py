"""Residuals of a result: raw, and as scores that are standard normal and independent if the twin is right."""

from typing import NamedTuple

import numpy as np
import xarray as xr

from bayestwin._base.wording import fixed, scale_for
from bayestwin.assess.residuals import MAX_CORRELATION, normal_scores, successive, worth
from bayestwin.report.reading import Part, as_numbers


class Residuals(NamedTuple):
    """How one observation differs from its prediction in one part.

    Attributes:
        part: Which part of time.
        name: The observation.
        time: As numbers, shape (n,).
        raw: Observed − predictive median, shape (n,); NaN where not observed.
        scores: Normal scores, shape (n,): standard normal and independent if the twin is right. NaN as `raw`.
        unit: Of `raw`.
    """

    part: Part
    name: str
    time: np.ndarray
    raw: np.ndarray
    scores: np.ndarray
    unit: str


def residuals_of(parts: tuple[Part, ...]) -> tuple[Residuals, ...]:
    """Residuals of every observation in every part that has both observations and predictions."""
    found = []
    for name in parts[0].names:
        for part in parts:
            if part.bands is None or name not in part.observed or name not in part.draws:
                continue
            common = np.intersect1d(part.observed["time"], part.draws["time"])
            values = part.observed[name].sel(time=common).to_numpy().astype(float)
            if not np.isfinite(values).any():
                continue
            draws = part.draws[name].sel(time=common).transpose("chain", "draw", "time").to_numpy()
            unit = str(part.draws[name].attrs.get("units", ""))
            found.append(_residuals(part, name, as_numbers(xr.DataArray(common)), values, draws, unit))
    return tuple(found)


def residual_words(residuals: tuple[Residuals, ...], dependent: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """What the residuals say, one sentence for each observation and part; those in `dependent` may be correlated."""
    words = []
    for residual in residuals:
        raw = residual.raw[np.isfinite(residual.raw)]
        scale = scale_for(float(np.abs(raw).max()), residual.unit)
        rms = scale.factor * float(np.sqrt(np.mean(raw**2)))
        bias = scale.factor * float(raw.mean())
        digits = 1 if rms >= 10 else 2 if rms >= 1 else 3
        unit = f" {scale.unit}" if scale.unit else ""
        text = (
            f"`{residual.name}`, {residual.part.label}: residuals have mean {fixed(bias, digits)}{unit} and "
            f"root mean square {fixed(rms, digits)}{unit}."
        )
        first, pairs = successive([residual.scores])
        limit = band(residual.scores)
        if residual.name in dependent:
            text += " That successive ones are correlated is part of the twin: its noise or its states remember."
        elif not np.isfinite(first):
            text += " They are too few, or not finite, to tell whether successive ones are correlated."
        elif first > max(limit, MAX_CORRELATION):
            factor = worth(first, pairs + 1) ** -0.5
            text += (
                f" Successive ones are correlated ({fixed(first, 2)}): the twin leaves something out, and intervals of "
                f"what these tell together are too narrow by a factor of up to {fixed(factor, 1)}. Look for a missing "
                "input or state, or a gap in the inputs."
            )
        elif abs(first) > max(limit, 0.1):
            text += f" Successive ones are correlated beyond chance, but too little to matter ({fixed(first, 2)})."
        else:
            text += f" Successive ones are not correlated beyond chance ({fixed(first, 2)})."
        words.append(text)
    return tuple(words)


def _residuals(part: Part, name: str, time: np.ndarray, values: np.ndarray, draws: np.ndarray, unit: str) -> Residuals:
    """Residuals from observations (n,) and predictive draws (chain, draw, n)."""
    flat = draws.reshape(-1, draws.shape[-1])
    scores = normal_scores(values, flat)
    usable = np.isfinite(scores)
    raw = np.full(values.shape, np.nan)
    raw[usable] = values[usable] - np.median(flat[:, usable], axis=0)
    return Residuals(part, name, time, raw, scores, unit)


def band(scores: np.ndarray) -> float:
    """Where 95 % of the autocorrelations of independent scores lie."""
    return 1.96 / np.sqrt(max(np.isfinite(scores).sum(), 1))
