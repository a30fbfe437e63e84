"""The verdict on identifiability for people who have never heard of Fisher information, and its datasets."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from bayestwin.assess.gates import Gate
from bayestwin.density.bind import Experiments
from bayestwin.density.density import Density
from bayestwin.insight.profile import Profile
from bayestwin.insight.ties import Coordinates, Tie, values_and_slopes, written
from bayestwin.telemetry import Telemetry

MIN_CONTRACTION = 0.1
"""Contraction below which the data have hardly narrowed a quantity."""

MAX_CORRELATION = 0.95
"""Correlation above which two quantities trade off against each other."""

WORTH_TELLING = 0.05
"""Share of its width by which planned data must narrow a quantity to be named."""


def verdict(found: xr.DataTree) -> tuple[Gate, ...]:
    """The verdict on what `identify` returned.

    Args:
        found: The result, fresh or loaded.

    Returns:
        Gates `structure` (fails where quantities cannot be told apart whatever the data), `telemetry`, `contraction`
        and `trade_off` (which warn), and as far as they were asked for `profile` and `planned`.
    """
    quantities = found["quantities"].to_dataset()
    rows = (
        [found["ties"].to_dataset().isel(tie=n) for n in range(found["ties"].sizes["tie"])] if "ties" in found else []
    )
    gates = [*_structure(found, rows), *_telemetry(rows), _contraction(quantities, rows), _trade_off(quantities, rows)]
    if "profile" in found:
        gates += _profiles(found["profile"].to_dataset())
    if "planned" in found:
        gates.append(_planned(found["planned"].to_dataset()))
    return tuple(gates)


def _structure(found: xr.DataTree, rows: Sequence[xr.Dataset]) -> list[Gate]:
    along = found["points"].to_dataset()["information"].values
    good = int(np.isfinite(along).all(axis=1).sum())
    if good < 2:
        sentence = (
            f"What the equations leave open cannot be told: the twin could be differentiated at {good} of {len(along)} "
            "points. Look at the priors, or at the solver's tolerances."
        )
        return [Gate("structure", False, math.nan, 0.0, sentence)]
    structural = [row for row in rows if row["kind"].item() == "structural"]
    if not structural:
        sentence = f"At all of {good} points the observations react to every quantity, each in its own way."
        if rows:
            sentence = "The equations themselves tie no quantities together."
        return [Gate("structure", True, 0.0, 0.0, sentence)]
    return [Gate("structure", False, float(row["num_null"]), 0.0, _tie_words(row)) for row in structural]


def _telemetry(rows: Sequence[xr.Dataset]) -> list[Gate]:
    """Ties that other inputs, or more observations, would undo."""
    return [
        Gate("telemetry", False, float(row["num_null"]), 0.0, _tie_words(row), "warn")
        for row in rows
        if row["kind"].item() == "telemetry"
    ]


def _members(row: xr.Dataset) -> list[str]:
    return [str(name) for name in row["quantity"].values[row["member"].values == 1]]


def _tie_words(row: xr.Dataset) -> str:
    names, form, determined = _members(row), row["form"].item(), row["determined"].item()
    here = row["kind"].item() == "telemetry"
    rest = " Other inputs, or an observation at more times, would change that." if here else ""
    where = "In these data " if here else ""
    if form == "unused":
        words = f"`{names[0]}` leaves no trace in these data: its posterior will be its prior."
        return words + (rest or " Fix it, or observe something that depends on it.")
    several = _listed([f"`{name}`" for name in names])
    if form == "unknown":
        words = f"{where}{several} can be changed together so that no observation changes"
        ending = ": the data cannot tell them apart."
    else:
        words = f"{where}{several} appear only as {_shape(determined, names)}"
        ending = ": the data cannot tell them apart."
    open_ = int(row["num_null"])
    fix = "one" if open_ == 1 else f"{open_} of them"
    advice = f" Fix {fix}, or give {fix} an informative prior."
    return words + ending + (rest or advice)


def _shape(determined: str, names: Sequence[str]) -> str:
    """What is determined, in a word where there is one for it."""
    for sign, word in ((" · ", "product"), (" / ", "ratio"), (" + ", "sum"), (" − ", "difference")):
        if determined == sign.join(names):
            return f"their {word} `{determined}`"
    return _listed([f"`{one}`" for one in determined.split(", ")])


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _measured(quantities: xr.Dataset, what: str) -> tuple[xr.DataArray, str]:
    """What draws say, where there are some; else what is expected."""
    return (quantities[what], what) if what in quantities else (quantities[f"expected_{what}"], f"expected {what}")


def _contraction(quantities: xr.Dataset, rows: Sequence[xr.Dataset]) -> Gate:
    found, word = _measured(quantities, "contraction")
    names, values = [str(name) for name in found["quantity"].values], found.values
    if not np.isfinite(values).all():
        sentence = "How far posteriors contract cannot be computed: information or draws are not finite."
        return Gate("contraction", False, math.nan, MIN_CONTRACTION, sentence, "warn")
    tied = {name for row in rows for name in _members(row)}
    rest = sorted((float(v), n) for n, v in zip(names, values, strict=True) if n not in tied)
    low = [f"`{name}` ({value:.2f})" for value, name in rest if value < MIN_CONTRACTION]
    least = f"`{rest[0][1]}` ({word} {_share(rest[0][0])})" if rest else ""
    if not rest:
        sentence = "These data tell no quantity by itself."
    elif low:
        sentence = (
            f"These data hardly narrow {_listed(low)} ({word}; 0 is the prior, 1 is known exactly). Give informative "
            "priors that you stand by, or record what reacts to them."
        )
    elif len(rest) == 1:
        sentence = f"{'The other' if tied else 'The one'} quantity is identifiable: {least}."
    else:
        sentence = f"{'The other' if tied else 'All'} {len(rest)} quantities are identifiable; least so {least}."
    lowest = rest[0][0] if rest else math.nan
    return Gate("contraction", bool(rest) and not low, lowest, MIN_CONTRACTION, sentence, "warn")


def _share(value: float) -> str:
    """A contraction that is not rounded up to known exactly."""
    return "above 0.99" if value > 0.99 else f"{value:.2f}"


def _trade_off(quantities: xr.Dataset, rows: Sequence[xr.Dataset]) -> Gate:
    found, _ = _measured(quantities, "correlation")
    names, values = [str(name) for name in found["quantity"].values], found.values
    if not np.isfinite(values).all():
        sentence = "Whether quantities trade off against each other cannot be computed."
        return Gate("trade_off", False, math.nan, MAX_CORRELATION, sentence, "warn")
    together = [set(_members(row)) for row in rows]
    pairs = [
        (float(values[i, j]), names[i], names[j])
        for i in range(len(names))
        for j in range(i)
        if not any({names[i], names[j]} <= some for some in together)
    ]
    strongest = max((abs(pair[0]) for pair in pairs), default=0.0)
    high = sorted((pair for pair in pairs if abs(pair[0]) > MAX_CORRELATION), key=lambda pair: -abs(pair[0]))
    if not high:
        sentence = f"No two quantities trade off strongly against each other (largest correlation {strongest:.2f})."
        return Gate("trade_off", True, strongest, MAX_CORRELATION, sentence, "warn")
    told = [f"`{b}` and `{a}` ({value:+.3f})".replace("-", "−") for value, a, b in high[:4]]
    more = f", and {len(high) - 4} more pairs" if len(high) > 4 else ""
    sentence = (
        f"Trade-offs: {_listed(told)}{more}: the data tell what they do together better than each by itself "
        "(+: a higher value of one goes with a higher value of the other)."
    )
    return Gate("trade_off", False, strongest, MAX_CORRELATION, sentence, "warn")


def _profiles(found: xr.Dataset) -> list[Gate]:
    gates = []
    prior = "with the prior" if found.attrs["prior"] else "of the likelihood alone, without the prior"
    for name in found["profiled"].values:
        row = found.sel(profiled=name)
        ends, reach = row["interval"].values, row["followed"].values
        unit = f" {row['unit'].item()}".rstrip()
        open_ = [bool(np.isinf(end)) for end in ends]
        if np.isnan(ends).any():
            words = f"The profile of `{name}` cannot be computed."
        elif all(open_):
            words = (
                f"The profile of `{name}` ({prior}) is flat: from {reach[0]:.4g} to {reach[1]:.4g}{unit} all values "
                "explain the data about as well."
            )
        elif any(open_):
            side, bound, far = ("below", ends[1], reach[0]) if open_[0] else ("above", ends[0], reach[1])
            other = "above" if open_[0] else "below"
            words = (
                f"The profile of `{name}` ({prior}) has no bound {side}: values as far as {far:.4g}{unit} explain the "
                f"data about as well; {other} it ends at {bound:.4g}{unit}."
            )
        else:
            words = (
                f"The profile of `{name}` ({prior}) gives {ends[0]:.4g} … {ends[1]:.4g}{unit} "
                f"({100 * found.attrs['prob']:.4g} % interval)."
            )
        passed = bool(np.isfinite(ends).all())
        gates.append(Gate("profile", passed, float(sum(open_)), 0.0, words, "warn"))
    return gates


def _planned(found: xr.Dataset) -> Gate:
    narrower = found["narrowing"]
    values = narrower.values
    if not np.isfinite(values).all():
        sentence = "What the planned observations would tell cannot be computed."
        return Gate("planned", False, math.nan, WORTH_TELLING, sentence, "warn")
    ranked = sorted(
        ((float(v), str(n)) for n, v in zip(narrower["quantity"].values, values, strict=True)), reverse=True
    )
    told = [f"`{name}` by {100 * value:.0f} %" for value, name in ranked if value >= WORTH_TELLING]
    what = f"Adding the {found.attrs['times']:,} planned times ({found.attrs['span']}) is expected to narrow"
    if not told:
        sentence = f"{what} no quantity by more than {100 * WORTH_TELLING:.0f} %."
    else:
        rest = "" if len(told) == len(ranked) else f", the others by less than {100 * WORTH_TELLING:.0f} %"
        sentence = f"{what} {_listed(told)}{rest}."
    return Gate("planned", bool(told), ranked[0][0], WORTH_TELLING, sentence, "warn")


# What is found about identifiability, as datasets that can be stored.

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
