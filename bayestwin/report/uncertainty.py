"""Where the uncertainty of predictions comes from: parameters, discrepancy and noise, by stretch of time."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from bayestwin._base.wording import number, scale_for
from bayestwin.report.reading import Part


class OriginRow(NamedTuple):
    """One line of the table: standard deviations in the unit; `discrepancy` is empty where there is none."""

    name: str
    part: str
    unit: str
    parameters: str
    discrepancy: str
    noise: str
    whole: str


def origin_rows(parts: Sequence[Part]) -> list[OriginRow]:
    """The table of standard deviations, by observation and stretch of time."""
    return [
        _row(part, name) for name in parts[0].names for part in parts if {name, f"{name}_noise_free"} <= set(part.draws)
    ]


def origin_words(rows: Sequence[OriginRow], description: Mapping[str, Any]) -> list[str]:
    """How the table is read, in sentences."""
    words = [
        "Standard deviations over the draws, root mean square over times.",
        "“Parameters” is what the twin says without noise, and holds the initial states.",
    ]
    if (description.get("model_error") or {}).get("kind") == "ProcessNoise":
        words[1] = (
            "“Parameters and states” is what the twin says without noise. With process noise the states are not known "
            "from parameters alone: what is uncertain about them, and their disturbances ahead, stands there as well."
        )
    if any(row.discrepancy for row in rows):
        words.append(
            "Parts need not add up in squares: parameters and discrepancy are inferred together, and where one takes "
            "more the other takes less."
        )
    if any("NaN" in row for row in rows):
        words.append("NaN says that a draw could not be solved.")
    return words


def _row(part: Part, name: str) -> OriginRow:
    whole, noise_free = part.draws[name], part.draws[f"{name}_noise_free"]
    discrepancy = part.draws.get(f"{name}_discrepancy")
    noise = whole - noise_free if discrepancy is None else whole - noise_free - discrepancy
    total = _spread(whole)
    scale = scale_for(total, str(whole.attrs.get("units", "")))

    def text(draws: xr.DataArray) -> str:
        return number(scale.factor * _spread(draws), 2)

    return OriginRow(
        name=name,
        part=part.label,
        unit=scale.unit or "–",
        parameters=text(noise_free),
        discrepancy="" if discrepancy is None else text(discrepancy),
        noise=text(noise),
        whole=text(whole),
    )


def _spread(draws: xr.DataArray) -> float:
    """Standard deviation over draws, root mean square over times; NaN where a draw is not finite."""
    with np.errstate(invalid="ignore"):
        return float(np.sqrt(draws.var(("chain", "draw"), skipna=False).mean("time", skipna=False)))
