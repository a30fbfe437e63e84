"""What pictures show, in words with their numbers, for readers who cannot see them."""

from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr

from bayestwin._base.wording import count, fixed, number, percent, scale_for
from bayestwin.report.quantities import PROB, Quantity
from bayestwin.report.reading import PROBS, Part

MOST = 12
"""Things that one sentence tells of; the others are counted."""


def listed(texts: Iterable[str], most: int = MOST) -> str:
    """Texts one after the other, those beyond `most` only counted."""
    held = list(texts)
    more = len(held) - most
    return "; ".join(held[:most]) + (f"; and {more} more" if more > 0 else "")


def reach(values: np.ndarray, unit: str) -> str:
    """Smallest and largest of values in `unit`: `from 16.2 to 29.3 °C`."""
    seen = np.asarray(values, dtype=float)
    seen = seen[np.isfinite(seen)]
    if not seen.size:
        return "never known"
    scale = scale_for(float(np.abs(seen).max()), unit)
    low, high = (number(scale.factor * float(end)) for end in (seen.min(), seen.max()))
    return f"from {low} to {high} {scale.unit}".rstrip()


def size(value: float, unit: str) -> str:
    """A value with its unit."""
    scale = scale_for(value, unit)
    return f"{number(scale.factor * value)} {scale.unit}".rstrip()


def over_time(names: Sequence[str], shown: Iterable[tuple[Part, xr.Dataset | None]], *, observed: bool) -> str:
    """Observations, medians and mean widths of intervals, by name and stretch of time."""
    held = list(shown)
    return listed(_stretch(name, part, bands, observed=observed) for name in names for part, bands in held)


def intervals_of(quantities: Sequence[Quantity]) -> str:
    """Posterior interval of each quantity."""
    prob = percent(PROB)
    return f"{prob} equal-tailed intervals: " + listed(
        f"{q.name} {_between(q.lower, q.upper)} {q.scale.unit}".rstrip() for q in quantities
    )


def correlations(quantities: Sequence[Quantity]) -> str:
    """The strongest correlations between quantities."""
    between = np.atleast_2d(np.corrcoef([quantity.draws.ravel() for quantity in quantities]))
    rows, columns = np.triu_indices(len(quantities), 1)
    order = np.argsort(-np.abs(between[rows, columns]), kind="stable")[:6]
    pairs = [(int(rows[place]), int(columns[place])) for place in order]
    told = (f"{quantities[i].name} and {quantities[j].name} {fixed(float(between[i, j]), 2)}" for i, j in pairs)
    return "correlations: " + listed(told)


def covered(found: xr.Dataset) -> str:
    """Coverage by nominal probability of one observation's intervals, `found` being (prob)."""
    names = ("prob", "coverage", "within_joint_band")
    rows = zip(*(found[name].to_numpy() for name in names), strict=True)
    told = [f"{percent(float(s), 1)} inside that of {percent(float(p))}{'' if good else ' (✗)'}" for p, s, good in rows]
    return f"{', '.join(told)}, of {count(int(found['num'].max()), 'observation')}"


def _stretch(name: str, part: Part, bands: xr.Dataset | None, *, observed: bool) -> str:
    told = []
    unit = ""
    if bands is not None and name in bands["observation"]:
        own = bands.sel(observation=name)
        unit = str(own["units"].item()) if "units" in own.coords else ""
        told.append(f"median {reach(own['median'].to_numpy(), unit)}")
        ends = own.sel(prob=PROBS[1])
        wide = (ends["upper"] - ends["lower"]).to_numpy()
        wide = wide[np.isfinite(wide)]
        if wide.size:
            told.append(f"{percent(PROBS[1])} interval {size(float(wide.mean()), unit)} wide on average")
    if observed and name in part.observed:
        values = part.observed[name].to_numpy().astype(float)
        unit = unit or str(part.observed[name].attrs.get("units", ""))
        told.insert(0, f"{count(int(np.isfinite(values).sum()), 'observation')} {reach(values, unit)}")
    return f"{name}, {part.label}: {', '.join(told) or 'nothing'}"


def _between(low: float, high: float) -> str:
    return f"{number(low, 4)} to {number(high, 4)}"
