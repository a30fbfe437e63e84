"""What a page reads off a result: stretches of time, quantities, facts by name, a forecast against held-out data."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from arviz_stats.sampling_diagnostics import ess, rhat

from bayestwin import errors
from bayestwin._base.wording import Scale, scale_for
from bayestwin.assess import coverage, intervals, scores
from bayestwin.assess.gates import read_chains, record
from bayestwin.model.checks import DIMENSIONS
from bayestwin.results.schema import bond_of, derived
from bayestwin.results.support import MARKS, OF
from bayestwin.telemetry import Telemetry, said

PROBS = (0.5, 0.9)
"""Nominal probabilities of the bands in pictures over time, the narrow one first."""


class TimeAxis(NamedTuple):
    """How time is written: as dates in a zone, UTC where there is none, or as numbers in `unit`."""

    dated: bool
    unit: str
    zone: str = ""


CUT = ("bands", "hidden", "discrepancy", "observed", "inputs", "beyond")
"""What of a period is cut to a window of time."""

type Calibrated = tuple[xr.DataTree, xr.DataTree | None]
"""A posterior, and predictions with it; None where nothing is held out."""


class Period(NamedTuple):
    """One stretch of time.

    Attributes:
        label: `calibration`, `held out`, or `forecast` where nothing was held out.
        colour: Of its bands.
        names: The observations.
        bands: Median and intervals by observation (see `assess.intervals`); None where none were predicted.
        hidden: The same for states that are not observed; None where there are none.
        discrepancy: The same for discrepancies, as `<observation>_discrepancy`; None where there are none.
        observed: Observations (time), NaN where missing; without variables where there are none.
        inputs: Inputs (time); without variables where there are none.
        draws: Predictive draws (chain, draw, time); without variables where there are none.
        beyond: Codes of what lies beyond what was calibrated (time), by signal; without variables where nothing does.
    """

    label: str
    colour: str
    names: tuple[str, ...]
    bands: xr.Dataset | None
    hidden: xr.Dataset | None
    discrepancy: xr.Dataset | None
    observed: xr.Dataset
    inputs: xr.Dataset
    draws: xr.Dataset
    beyond: xr.Dataset

    def between(self, window: tuple[float, float] | None) -> "Period":
        """The part whose times, as numbers, lie in `window`; the whole for None."""
        if window is None:
            return self
        found = {name: getattr(self, name) for name in CUT}
        return self._replace(**{name: None if data is None else _cut(data, window) for name, data in found.items()})


def split(posterior: xr.DataTree, forecast: xr.DataTree | None, validation: Telemetry | None) -> tuple[Period, ...]:
    """The calibration part and, if there is a forecast or held-out telemetry, the part after it.

    Args:
        posterior: Result of `calibrate`.
        forecast: Result of `predict`, or None.
        validation: Telemetry that was held out, or None.
    """
    from bayestwin.report.page import LIGHT  # with matplotlib, which only a picture is worth

    observed = group(posterior, "observed_data")
    names = tuple(str(name) for name in observed.data_vars)
    holds = {entry["name"]: entry.get("hold", "") for entry in record(posterior, "description").get("inputs", ())}
    calibrated = _part("calibration", LIGHT["calibrated"], posterior, names, observed)
    first = calibrated._replace(inputs=_held(group(posterior, "constant_data"), holds))
    if forecast is None and validation is None:
        return (first,)
    table = xr.Dataset() if validation is None else _signals(validation, posterior)
    label = "forecast" if validation is None else "held out"
    later = _part(label, LIGHT["heldout"], forecast, names, table[[name for name in names if name in table]])
    inputs = group(forecast, "predictions_constant_data")
    if not inputs.data_vars:
        inputs = table[[name for name in holds if name in table]]
    return (first, later._replace(inputs=_held(inputs, holds)))


def apart(parts: tuple[Period, ...]) -> bool:
    """Whether the later part is another recording, whose times are on a clock of its own."""
    if len(parts) < 2:
        return False
    first, later = (as_numbers(_times(part)) for part in parts[:2])
    return bool(len(first) and len(later) and later.min() <= first.max())


def _times(part: Period) -> xr.DataArray:
    return part.bands["time"] if part.bands is not None else part.observed.get("time", xr.DataArray([]))


def _signals(telemetry: Telemetry, posterior: xr.DataTree) -> xr.Dataset:
    """Observations and inputs of telemetry, in the units of the posterior."""
    known = {**group(posterior, "observed_data").data_vars, **group(posterior, "constant_data").data_vars}
    columns = [name for name in known if name in telemetry.table.columns]
    values = {name: ("time", telemetry.in_unit(str(name), known[name].attrs.get("units", ""))) for name in columns}
    return xr.Dataset(values, coords={"time": telemetry.table.index.to_numpy()})


def time_axis(posterior: xr.DataTree) -> TimeAxis:
    """Whether the user's times are dates, and the unit of times that are numbers."""
    time = posterior["observed_data"]["time"].to_numpy()
    told = posterior.attrs.get("telemetry_time_unit")  # of several experiments by name: their times are the twin's
    unit = told if isinstance(told, str) else posterior.attrs.get("time_unit", "")
    return TimeAxis(bool(np.issubdtype(time.dtype, np.datetime64)), str(unit), zone_of(posterior))


def zone_of(result: xr.DataTree) -> str:
    """The zone that was declared for the times of a result's telemetry; empty where there is none, or several."""
    told = result.attrs.get("telemetry_timezone")
    return told if isinstance(told, str) else ""


def as_numbers(time: xr.DataArray) -> np.ndarray:
    """Times as matplotlib counts them, shape (time,)."""
    from matplotlib.dates import date2num

    values = time.to_numpy()
    return date2num(values) if np.issubdtype(values.dtype, np.datetime64) else values.astype(float)


def group(tree: xr.DataTree | None, name: str) -> xr.Dataset:
    """One group of a result; an empty dataset where it is missing."""
    return tree[name].to_dataset() if tree is not None and name in tree.children else xr.Dataset()


def _part(label: str, colour: str, tree: xr.DataTree | None, names: tuple[str, ...], observed: xr.Dataset) -> Period:
    draws = group(tree, "predictions" if label != "calibration" else "posterior_predictive")
    bands = intervals(xr.DataTree.from_dict({"predictions": draws}), prob=PROBS) if draws.data_vars else None
    states = [str(name).removesuffix("_state") for name in draws.data_vars if str(name).endswith("_state")]
    paths = [entries_of(state, draws[f"{state}_state"]) for state in states if state not in names]
    hidden = _noiseless({name: path for entries in paths for name, path in entries.items()})
    errors = [f"{name}_discrepancy" for name in names]
    discrepancy = _noiseless({name: draws[name] for name in errors if name in draws})
    return Period(label, colour, names, bands, hidden, discrepancy, observed, xr.Dataset(), draws, _beyond(draws))


def _beyond(draws: xr.Dataset) -> xr.Dataset:
    """What lies beyond what was calibrated, by signal; nothing where all was seen."""
    if MARKS not in draws.coords or not draws[MARKS].any():
        return xr.Dataset()
    codes = draws[MARKS]
    found = {str(name): ("time", codes.sel({OF: name}).to_numpy()) for name in codes[OF].to_numpy()}
    return xr.Dataset(found, coords={"time": draws["time"]})


MOST_ENTRIES = 3
"""Of a state that is an array so many entries are drawn, evenly spread from the first to the last."""


def entries_of(state: str, path: xr.DataArray) -> dict[str, xr.DataArray]:
    """The trajectory of a state by its name, or of an array those of a few entries, by names with their labels."""
    inner = [str(dim) for dim in path.dims if dim not in DIMENSIONS]
    if not inner:
        return {state: path}
    sizes = [path.sizes[dim] for dim in inner]
    found = {}
    for place in np.unique(np.linspace(0, math.prod(sizes) - 1, MOST_ENTRIES).round().astype(int)):
        where = dict(zip(inner, map(int, np.unravel_index(place, sizes)), strict=True))
        one = path.isel(where)
        labels = ((dim, one[dim].item()) for dim in inner)
        told = [f"{dim} {label:.4g}" if isinstance(label, float) else f"{dim} {label}" for dim, label in labels]
        found[f"{state}, {', '.join(told)}"] = one.drop_vars(inner)
    return found


def _noiseless(draws: dict[str, xr.DataArray]) -> xr.Dataset | None:
    """Intervals of what is inferred and has no noise of its own; None where there is nothing."""
    if not draws:
        return None
    # `intervals` knows what to read by its noise-free twin.
    twice = draws | {f"{name}_noise_free": values for name, values in draws.items()}
    return intervals(xr.DataTree.from_dict({"predictions": xr.Dataset(twice)}), prob=PROBS, of="noise_free")


def _held(inputs: xr.Dataset, holds: dict[str, str]) -> xr.Dataset:
    """Inputs with the way each is held between samples as an attribute."""
    marked = {name: values.assign_attrs(hold=holds.get(str(name), "")) for name, values in inputs.data_vars.items()}
    return inputs.assign(marked)


def _cut(dataset: xr.Dataset, window: tuple[float, float]) -> xr.Dataset:
    if "time" not in dataset.coords:
        return dataset
    time = as_numbers(dataset["time"])
    return dataset.isel(time=np.flatnonzero((time >= window[0]) & (time <= window[1])))


# The free quantities of a posterior, one by one: draws, unit, words, and numbers of the parameter table.

PROB = 0.9
"""Nominal probability of a quantity's interval; it is equal-tailed."""


class Quantity(NamedTuple):
    """One scalar that was calibrated.

    Attributes:
        name: As in the posterior; element `i` of an array `theta` is `theta[i]`.
        doc: What it is, in words; may be empty.
        scale: Factor and unit in which it is written.
        draws: (chain, draw), times the scale's factor.
        prior: Draws of the prior, shape (n,), times the same factor; empty where there are none.
        mean: Of the draws.
        sd: Of the draws.
        lower: Lower end of the equal-tailed interval of probability `PROB`.
        upper: Its upper end.
        rhat: Rank-normalised split R̂; NaN for a single chain.
        ess_bulk: Effective sample size in the middle.
        ess_tail: Effective sample size of the 5 % and 95 % quantiles.
        contraction: 1 − width of the interval / width of the prior's, of the logarithm where all draws are positive;
            NaN without prior draws.
    """

    name: str
    doc: str
    scale: Scale
    draws: np.ndarray
    prior: np.ndarray
    mean: float
    sd: float
    lower: float
    upper: float
    rhat: float
    ess_bulk: float
    ess_tail: float
    contraction: float

    @property
    def label(self) -> str:
        """Name with unit, for an axis."""
        return f"{self.name} ({self.scale.unit})" if self.scale.unit else self.name

    @property
    def stacked(self) -> str:
        """Name over unit, for a narrow axis."""
        return f"{self.name}\n({self.scale.unit})" if self.scale.unit else self.name

    @property
    def drawable(self) -> bool:
        """Whether a density of it can be drawn: all draws finite, and not all the same."""
        return bool(np.isfinite(self.draws).all() and np.ptp(self.draws) > 0)


def read_quantities(posterior: xr.DataTree) -> tuple[Quantity, ...]:
    """All quantities of a posterior, in its order."""
    variables = group(posterior, "posterior").data_vars
    priors = read_chains(posterior, "prior").draws if group(posterior, "prior").data_vars else {}
    docs = {entry["name"]: entry.get("doc", "") for entry in record(posterior, "description").get("parameters", ())}
    found = []
    for name, draws in read_chains(posterior, "posterior").draws.items():
        attrs = variables[name.split("[")[0]].attrs
        prior = priors[name].ravel() if name in priors else np.empty(0)
        doc = docs.get(name) or str(attrs.get("long_name", ""))
        found.append(_quantity(name, "" if doc == name else doc, str(attrs.get("units", "")), draws, prior))
    return tuple(found)


def widest_rhat_first(quantities: tuple[Quantity, ...], most: int) -> tuple[Quantity, ...]:
    """Those `most` quantities whose chains agree least, in their own order."""
    worst = sorted(quantities, key=lambda quantity: -np.nan_to_num(quantity.rhat, nan=np.inf))[:most]
    return tuple(quantity for quantity in quantities if quantity in worst)


def _quantity(name: str, doc: str, unit: str, draws: np.ndarray, prior: np.ndarray) -> Quantity:
    finite = draws[np.isfinite(draws)]
    scale = scale_for(float(np.median(np.abs(finite))) if finite.size else 0.0, unit)
    draws = draws * scale.factor
    prior = prior[np.isfinite(prior)] * scale.factor
    lower, upper = _ends(draws)
    with np.errstate(all="ignore"):
        return Quantity(
            name=name,
            doc=doc,
            scale=scale,
            draws=draws,
            prior=prior,
            mean=float(draws.mean()),
            sd=float(draws.std(ddof=1)) if draws.size > 1 else float("nan"),
            lower=lower,
            upper=upper,
            rhat=_statistic(draws, rhat),
            ess_bulk=_statistic(draws, ess),
            ess_tail=_statistic(draws, lambda values: ess(values, method="tail", prob=(0.05, 0.95))),
            contraction=_contraction(draws, prior),
        )


def _contraction(draws: np.ndarray, prior: np.ndarray) -> float:
    """1 − width of the posterior's interval / width of the prior's, of the logarithm where all draws are positive.

    A prior over decades is as wide as its decades: at its high end a posterior of half a decade has learnt something,
    however many units that is.
    """
    if not prior.size:
        return float("nan")
    both = [np.log(values) for values in (draws, prior)] if min(draws.min(), prior.min()) > 0 else [draws, prior]
    known, expected = (np.diff(_ends(values))[0] for values in both)
    return float(1 - known / expected) if expected > 0 else float("nan")


def _ends(values: np.ndarray) -> tuple[float, float]:
    lower, upper = np.quantile(values, ((1 - PROB) / 2, (1 + PROB) / 2))
    return float(lower), float(upper)


def _statistic(draws: np.ndarray, statistic: Callable[[np.ndarray], float]) -> float:
    """A statistic of draws (chain, draw); NaN where draws are not finite, too few or all the same."""
    usable = np.isfinite(draws).all() and draws.shape[1] >= 4 and np.ptp(draws) > 0
    return float(statistic(draws)) if usable else float("nan")


# Facts by name: what a result and the record of a run say about where they come from.


def result_rows(
    posterior: xr.DataTree, parts: Sequence[Period], forecast: xr.DataTree | None, validation: Telemetry | None
) -> list[tuple[str, str]]:
    """What the result's own attributes say about where it comes from."""
    attrs = posterior.attrs
    rows = [
        ("bayestwin", str(attrs.get("bayestwin_version", "not recorded"))),
        ("schema version", str(attrs.get("schema_version", "not recorded"))),
        ("seed", str(attrs.get("seed", "not recorded"))),
        ("solver", _solver(posterior)),
        ("warm-up draws a chain", str(attrs.get("num_warmup", "not recorded"))),
        ("start of the twin (t0)", _start(attrs.get("t0", "not recorded"), zone_of(posterior))),
    ]
    for part in parts:
        time = part.bands["time"] if part.bands is not None else part.observed.get("time")
        if time is not None and time.size:
            ends = (_moment(time[place], zone_of(posterior)) for place in (0, -1))
            rows.append((f"times, {part.label}", f"{time.size:,}, from {' to '.join(ends)}"))
    stats = group(posterior, "sample_stats")
    if "solver_failed" in stats:
        failures = (stats["solver_failed"] != 0).sum("draw").to_numpy()
        chains = ", ".join(f"chain {chain}: {int(number):,}" for chain, number in enumerate(failures) if number)
        total = f"{int(failures.sum()):,} of {stats['solver_failed'].size:,}"
        rows.append(("failed solves", f"{total} ({chains})" if chains else total))
    rows += [(f"update {number}", _updated(one)) for number, one in enumerate(attrs.get("updates", ()), 1)]
    if words := forgotten_words(posterior):
        rows.append(("rows that count less", words))
    rows.append(("SHA-256 of the twin", str(attrs.get("twin_sha256", "not recorded"))))
    rows.append(("SHA-256 of the telemetry", str(attrs.get("telemetry_sha256", "not recorded"))))
    told, words = bond_of(posterior), derived(posterior)
    rows.append(
        (
            "SHA-256 of the draws",
            f"derived, not calibrated: {words}" if words else told.sha256 if told else "not recorded",
        )
    )
    if forecast is not None:
        rows.append(("seed of the forecast", str(forecast.attrs.get("seed", "not recorded"))))
    if validation is not None:
        rows.append(("source of the held-out telemetry", str(validation.source)))
        rows.append(("SHA-256 of the held-out telemetry", str(validation.sha256)))
    return rows


def forgotten_words(posterior: xr.DataTree) -> str:
    """What old rows count for, where they count less; empty otherwise."""
    if (told := posterior.attrs.get("forget")) is None:
        return ""
    unit = posterior.attrs.get("time_unit", "")
    return (
        f"Rows count half after {told['half_life']:g}{f' {unit}' if unit else ''}: all together as {told['count']:.1f} "
        f"would in full; the first {told['faded']:,} count for less than a tenth."
    )


def _updated(told: Mapping[str, Any]) -> str:
    """What one update of a posterior was made of, and how."""
    shape = "unknown" if told["pareto_k"] is None else f"{told['pareto_k']:.2f}"
    revised = f", {told['revised']:,} revised" if told["revised"] else ""
    done = "draws were weighted" if told["how"] == "weighted" else "chains went on from the draws before"
    return f"{told['readings']:,} new readings{revised}; {done} (Pareto k {shape})"


def _solver(posterior: xr.DataTree) -> str:
    """What was asked for, and what was taken; exact steps have no tolerances."""
    asked = str(posterior.attrs.get("solver") or record(posterior, "description").get("solver", "not recorded"))
    taken = record(posterior, "solver_choice").get("method")
    if taken == "exact":
        return "exact steps, without tolerances"
    return f"{asked}; {taken} was taken" if taken and not asked.startswith(str(taken)) else asked


def flat_rows(nested: Mapping[str, Any] | str, front: str = "") -> list[tuple[str, str]]:
    """A nested mapping, or its JSON text, as rows `outer · inner` → value."""
    held = json.loads(nested) if isinstance(nested, str) else nested
    rows: list[tuple[str, str]] = []
    for key, value in held.items():
        name = f"{front} · {key}" if front else str(key)
        if isinstance(value, Mapping):
            rows += flat_rows(value, name)
        elif isinstance(value, list | tuple):
            rows.append((name, ", ".join(map(str, value)) or "none"))
        else:
            rows.append((name, f"{value:.6g}" if isinstance(value, float) else str(value)))
    return rows


SHOWN_ALONE = ("job", "telemetry_notices")
"""Of the record of a run, what pages tell elsewhere."""

IDENTITY = ("run", "command", "status", "began", "ended", "model", "code_sha256", "job_sha256")
"""Of the record of a run, what tells which one it is: that is on paper as well."""

OTHER_VERBS = ("check", "sbc", "sensitivity", "design", "compare", "promote", "watch", "validate")
"""Tables of a job that say how a calibration is looked at later, and nothing about what it was."""


class Provenance(NamedTuple):
    """Where a result comes from, as rows of tables.

    Attributes:
        settings: Of the job, those that the result comes from.
        other_settings: Those of other verbs.
        run: What tells which run it was.
        record: All else that it recorded.
    """

    settings: list[tuple[str, str]]
    other_settings: list[tuple[str, str]]
    run: list[tuple[str, str]]
    record: list[tuple[str, str]]


def provenance_rows(job: str, recorded: Mapping[str, Any] | None) -> Provenance:
    """What the settings of a result, as JSON text, and the record of its run say; None where there is no record."""
    settings: dict[str, Any] = json.loads(job or "{}")
    known = {key: value for key, value in (recorded or {}).items() if key not in SHOWN_ALONE}
    return Provenance(
        flat_rows({key: value for key, value in settings.items() if key not in OTHER_VERBS}),
        flat_rows({key: settings[key] for key in OTHER_VERBS if key in settings}),
        flat_rows({key: known[key] for key in IDENTITY if key in known}),
        flat_rows({key: value for key, value in known.items() if key not in IDENTITY}),
    )


def _start(value: Any, zone: str) -> str:
    """The recorded `t0`, or that of each experiment: a date as all others on the page, on its clock."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_start(one, zone)}" for name, one in value.items())
    try:
        return said(np.datetime64(value) if "-" in str(value)[1:] else value, zone)
    except ValueError:
        return value


def _moment(time: xr.DataArray, zone: str) -> str:
    value = time.to_numpy()
    if np.issubdtype(value.dtype, np.datetime64):
        return said(value.astype("datetime64[m]")[()], zone)
    return f"{value.item():g}"


# A forecast held against what was held out: coverage and scores, or why there are none.


def of_other_draws(forecast: xr.DataTree | None, posterior: xr.DataTree) -> bool:
    """Whether a forecast says that it was made from other draws than those that were calibrated."""
    told, made = bond_of(posterior), None if forecast is None else forecast.attrs.get("posterior_sha256")
    return told is not None and made is not None and made != told.sha256


def held_out(
    forecast: xr.DataTree | None, validation: Telemetry | None
) -> tuple[xr.Dataset | None, xr.Dataset | None, str]:
    """Coverage and scores, or why there are none."""
    if validation is None:
        start = "There is a forecast, but no" if forecast is not None else "No"
        reason = (
            f"{start} telemetry was held out: whether the intervals keep their promise is not known. Leave the "
            "last part of the record out of the calibration, predict it, and hold the forecast against it."
        )
        return None, None, reason
    if forecast is None:
        reason = (
            "Telemetry was held out, but nothing was predicted for it: whether the intervals keep their promise "
            "is not known. Predict at the held-out times, and make this report again with that forecast."
        )
        return None, None, reason
    try:
        return coverage(forecast, validation), scores(forecast, validation), ""
    except errors.InvalidInput as reason:
        return None, None, f"The forecast cannot be held against the held-out telemetry. {reason}"
