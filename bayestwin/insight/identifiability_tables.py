"""What is found about identifiability, as datasets that can be stored."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from bayestwin.density.density import Density
from bayestwin.density.experiments import Experiments
from bayestwin.insight.coordinates import Coordinates, values_and_slopes
from bayestwin.insight.forms import written
from bayestwin.insight.profile import Profile
from bayestwin.insight.ties import Tie
from bayestwin.telemetry import Telemetry

WORDS = {
    "prior_sd": "standard deviation of the prior, in z",
    "expected_sd": "standard deviation expected of the posterior, in z",
    "expected_contraction": "expected 1 − posterior variance / prior variance, in z",
    "expected_correlation": "correlation expected in the posterior, in z",
    "sd": "standard deviation of the posterior's draws, in z",
    "contraction": "1 − variance of the posterior's draws / prior variance, in z",
    "correlation": "correlation of the posterior's draws, in z",
    "information": "Fisher information at the highest mode, per variance of the prior",
    "directions": "directions in standard deviations of the prior, the least known first",
    "direction_information": "Fisher information along each direction, per variance of the prior",
    "sd_without": "standard deviation without what is planned, in z",
    "sd_with": "standard deviation expected with what is planned, in z",
    "contraction_without": "1 − variance / prior variance without what is planned, in z",
    "contraction_with": "expected 1 − variance / prior variance with what is planned, in z",
    "narrowing": "share by which what is planned is expected to lower the standard deviation",
}


def quantities(
    coordinates: Coordinates, information: np.ndarray, covariance: np.ndarray, drawn: np.ndarray | None
) -> xr.Dataset:
    """Spreads, contraction, correlations and directions.

    Args:
        coordinates: Those of z.
        information: At the highest mode; shape (d, d).
        covariance: Expected of the posterior; shape (d, d).
        drawn: Draws of the posterior in z, where there are some; shape (n, d).
    """
    spread = coordinates.spread
    scaled = information * spread[:, None] * spread[None]
    fine = np.isfinite(scaled).all()
    along, vectors = np.linalg.eigh(scaled) if fine else (np.full(len(spread), np.nan), np.full_like(scaled, np.nan))
    data: dict[str, Any] = {"prior_sd": ("quantity", spread)}
    data |= _spreads(covariance, spread, "expected_")
    if drawn is not None:
        data |= _spreads(np.atleast_2d(np.cov(drawn, rowvar=False)), spread, "")
    data["information"] = (("quantity", "other"), scaled)
    data["directions"] = (("direction", "quantity"), vectors.T)
    data["direction_information"] = ("direction", np.maximum(along, 0.0))
    return _told(data, coordinates).assign_coords(other=list(coordinates.names))


def _spreads(covariance: np.ndarray, spread: np.ndarray, prefix: str) -> dict[str, Any]:
    sd = np.sqrt(np.diagonal(covariance))
    return {
        f"{prefix}sd": ("quantity", sd),
        f"{prefix}contraction": ("quantity", 1.0 - (sd / spread) ** 2),
        f"{prefix}correlation": (("quantity", "other"), covariance / sd[:, None] / sd[None]),
    }


def points(coordinates: Coordinates, values: np.ndarray, information: np.ndarray, num_modes: int) -> xr.Dataset:
    """Where information was looked at, and how much of it there is in each point's own directions."""
    scaled = information * coordinates.spread[:, None] * coordinates.spread[None]
    blank = ~np.isfinite(scaled).all(axis=(1, 2))
    scaled[blank] = 0.0
    along = np.maximum(np.linalg.eigvalsh(scaled), 0.0)
    along[blank] = np.nan
    kinds = ["mode"] * num_modes + ["prior"] * (len(values) - num_modes)
    data = {
        "value": (("point", "quantity"), values, {"long_name": "value of each quantity"}),
        "information": (
            ("point", "direction"),
            along,
            {"long_name": "eigenvalues of the Fisher information, per variance of the prior", "units": ""},
        ),
    }
    return _told(data, coordinates).assign_coords(kind=("point", kinds))


def ties(coordinates: Coordinates, found: Sequence[tuple[Tie, str]]) -> xr.Dataset:
    """What observations cannot tell apart."""
    members = np.zeros((len(found), len(coordinates.names)), dtype=int)
    for row, (tie, _) in enumerate(found):
        members[row, list(tie.members)] = 1
    told = [
        ", ".join(written(one, [coordinates.names[m] for m in tie.members], tie.form) for one in tie.combinations)
        for tie, _ in found
    ]
    data = {
        "member": (("tie", "quantity"), members, {"long_name": "1 for quantities that are tied together"}),
        "direction": (
            ("tie", "quantity"),
            np.stack([tie.direction for tie, _ in found]),
            {"long_name": "a direction without information, in standard deviations of the prior"},
        ),
        "num_null": ("tie", [tie.num_null for tie, _ in found], {"long_name": "directions without information"}),
        "kind": ("tie", [kind for _, kind in found], {"long_name": "structural, or of this telemetry alone"}),
        "form": ("tie", [tie.form for tie, _ in found], {"long_name": "unused, log, plain or unknown"}),
        "determined": ("tie", told, {"long_name": "all that observations determine of these quantities"}),
    }
    return _told(data, coordinates)


def profiles(
    density: Density, coordinates: Coordinates, followed: dict[int, Profile], prob: float, with_prior: bool
) -> xr.Dataset:
    """Profiles: values held, what is lost in log density, and intervals; in the quantities' own units."""
    steps = max(len(profile.z) for profile in followed.values())
    values, drops, ends, reach = [], [], [], []
    for number, profile in followed.items():
        at = np.concatenate([profile.optimum, *[_with(profile.optimum[0], number, end) for end in profile[3:]]])
        own = values_and_slopes(density, at)[0][:, number]
        blank = np.full(steps - len(profile.z), np.nan)
        values.append(np.concatenate([own[:-2], blank]))
        drops.append(np.concatenate([profile.drop, blank]))
        ends.append([end if np.isfinite(z) else z for end, z in zip(own[-2:], profile[3:], strict=True)])
        reach.append([own[0], own[len(profile.z) - 1]])
    rows = [coordinates.names[number] for number in followed]
    units = [coordinates.units[number] for number in followed]
    data = {
        "value": (("profiled", "step"), np.stack(values), {"long_name": "value held"}),
        "drop": (
            ("profiled", "step"),
            np.stack(drops),
            {"long_name": "log density lost, with all others optimised", "units": ""},
        ),
        "interval": (("profiled", "end"), np.array(ends), {"long_name": "interval; infinite where there is no bound"}),
        "followed": (("profiled", "end"), np.array(reach), {"long_name": "how far the profile was followed"}),
    }
    coords = {"profiled": rows, "end": ["lower", "upper"], "unit": ("profiled", units)}
    of = "posterior in z" if with_prior else "likelihood"
    return xr.Dataset(data, coords=coords, attrs={"prob": prob, "of": of, "prior": with_prior})


def _with(point: np.ndarray, number: int, z: float) -> np.ndarray:
    changed = point.copy()
    changed[number] = z if np.isfinite(z) else point[number]
    return changed[None]


def planned(
    coordinates: Coordinates, covariance: np.ndarray, later: np.ndarray, telemetry: Telemetry | Experiments
) -> xr.Dataset:
    """Spreads without and with what is planned."""
    before, after = np.sqrt(np.diagonal(covariance)), np.sqrt(np.diagonal(later))
    data = {
        "sd_without": ("quantity", before),
        "sd_with": ("quantity", after),
        "contraction_without": ("quantity", 1.0 - (before / coordinates.spread) ** 2),
        "contraction_with": ("quantity", 1.0 - (after / coordinates.spread) ** 2),
        "narrowing": ("quantity", 1.0 - after / before),
    }
    records = [telemetry] if isinstance(telemetry, Telemetry) else list(telemetry.values())
    times = sum(len(record.table) for record in records)
    return _told(data, coordinates).assign_attrs(times=times, span=", ".join(_span(record) for record in records))


def _span(record: Telemetry) -> str:
    """How long a record is, in words; the usual step counts with its last sample."""
    index = record.table.index
    seconds = index.to_numpy().astype("datetime64[ns]").astype(float) * 1e-9 if record.dated else index.to_numpy(float)
    length = float(seconds[-1] - seconds[0]) + float(np.median(np.diff(seconds)) if len(seconds) > 1 else 0.0)
    if not record.dated:
        return f"{length:.4g} {record.units.get('time', '')}".strip()
    hours = length / 3600.0
    return f"{hours / 24.0:.3g} days" if hours >= 48 else f"{hours:.3g} hours"


def _told(data: dict[str, Any], coordinates: Coordinates) -> xr.Dataset:
    """A dataset over quantities, with words about each variable."""
    told = {}
    for name, (dims, values, *attrs) in data.items():
        told[name] = (dims, values, attrs[0] if attrs else {"long_name": WORDS[name], "units": ""})
    coords = {
        "quantity": list(coordinates.names),
        "scale": ("quantity", list(coordinates.scales)),
        "unit": ("quantity", list(coordinates.units)),
    }
    return xr.Dataset(told, coords=coords)
