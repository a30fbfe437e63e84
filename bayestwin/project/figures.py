"""Key figures of a run and of a forecast, as plain values for JSON."""

from collections.abc import Mapping
from typing import Any

import xarray as xr


def summary(covered: xr.Dataset, scored: xr.Dataset | None) -> dict[str, Any]:
    """Coverage and scores by observation; `held_out` says whether they are of data that calibration has not seen."""
    frame = covered["coverage"].to_pandas()
    figures: dict[str, Any] = {
        "held_out": scored is not None,
        "coverage": {str(name): {f"{p:g}": float(v) for p, v in row.items()} for name, row in frame.iterrows()},
    }
    if scored is not None:
        numbers = scored.drop_vars("units", errors="ignore").to_dataframe()
        figures["scores"] = {str(name): {k: float(v) for k, v in row.items()} for name, row in numbers.iterrows()}
    return figures


def coverage_words(covered: Mapping[str, Mapping[str, float | None]], prob: str = "0.9") -> str:
    """The coverage of one interval by observation, from the `coverage` of a summary, as a phrase; may be empty."""
    known = {name: own[prob] for name, own in covered.items() if own.get(prob) is not None}
    return ", ".join(f"{name} {100 * share:.0f} %" for name, share in known.items() if share is not None)


def forecast_figures(found: xr.Dataset) -> dict[str, Any]:
    """Medians and intervals as `bayestwin.intervals` gives them: times once, then lists as long by observation."""
    observations = {}
    for name in found["observation"].values:
        own = found.sel(observation=name)
        ends = {
            f"{prob:g}": {end: own[end].sel(prob=prob).values for end in ("lower", "upper")}
            for prob in own["prob"].values
        }
        observations[str(name)] = {"unit": own["units"].item(), "median": own["median"].values, "intervals": ends}
    return {"kind": found.attrs["kind"], "time": found["time"].values, "observations": observations}
