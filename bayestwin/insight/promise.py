"""What a design promises, in words; and, once the new telemetry is calibrated, whether that was kept."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from bayestwin._base.wording import number, percent
from bayestwin.calibrate import check_belongs
from bayestwin.density.bind import Experiments, sha256_of
from bayestwin.errors import InvalidArtifact, InvalidSetting
from bayestwin.insight.design import known_of
from bayestwin.insight.selection import Wanted
from bayestwin.model.twin import Twin
from bayestwin.telemetry import Telemetry

USUAL = (0.05, 0.95)
"""Quantiles over simulated telemetry between which what comes true is as promised."""

WORTH_TELLING = 0.05
"""Share by which an option must lower a standard deviation to be worth recording for that."""


FEW = 25.0
"""Effective number of draws below which a simulated calibration says little."""


class Promise(NamedTuple):
    """What is expected of one target with what is chosen, in its unit.

    Attributes:
        target: Its name.
        unit: Its unit.
        width_now: Width of its interval now.
        width: Width expected then.
        error: Monte Carlo error of that; NaN where nothing was simulated.
        lower: Width that one in twenty simulated calibrations stays below; NaN where nothing was simulated.
        upper: Width that one in twenty exceeds.
    """

    target: str
    unit: str
    width_now: float
    width: float
    error: float
    lower: float
    upper: float


def promises(found: xr.DataTree, recorded: str | None = None) -> tuple[Promise, ...]:
    """What is expected of each target.

    Args:
        found: As of `design`, fresh or loaded.
        recorded: What is recorded: a set that was simulated; by default what is chosen.

    Raises:
        InvalidSetting: If that set was not simulated.
    """
    now, simulated = found["targets"].to_dataset(), _set(found, recorded)
    told = []
    for name in now["target"].values:
        own = now.sel(target=name)
        width_now, unit = float(own["width"]), str(own["unit"].item())
        if simulated is None:
            last = found["chosen"].to_dataset().isel(option=-1).sel(target=name)
            left = float(last["sd"]) / float(own["sd"])
            told.append(Promise(str(name), unit, width_now, left * width_now, *3 * (np.nan,)))
            continue
        widths = simulated["width"].sel(target=name).values
        good = np.isfinite(widths)
        widths, others = widths[good], simulated["resampled_width"].sel(target=name).values[good]
        by_chance = others.mean(axis=0).var()  # of the draws, which move all simulations together
        error = float(np.sqrt(widths.var(ddof=1) / len(widths) + by_chance))
        # what comes out is told by draws as well, other ones, and scatters by chance as much again
        scattered = widths[:, None] + np.sqrt(2.0) * (others - others.mean(axis=1, keepdims=True))
        told.append(Promise(str(name), unit, width_now, float(widths.mean()), error, *np.quantile(scattered, USUAL)))
    return tuple(told)


def _set(found: xr.DataTree, recorded: str | None) -> xr.Dataset | None:
    """The simulations of what is recorded; None where there are none."""
    simulated = found["simulated"].to_dataset() if "simulated" in found else None
    sets = [] if simulated is None else [str(name) for name in simulated["set"].values]
    chosen = _chosen(found)
    wanted = chosen if recorded is None else recorded
    if simulated is not None and wanted in sets:
        return simulated.sel(set=wanted)
    if recorded in (None, chosen):
        return None
    raise InvalidSetting(
        f"What `{recorded}` would do was not simulated.",
        expected=", ".join(f"`{name}`" for name in sets or [chosen]),
        received=f"`{recorded}`",
        advice="Make the design with more of the `best` options.",
    )


def _chosen(found: xr.DataTree) -> str:
    """Name of the set that is chosen."""
    return " + ".join(str(name) for name in found["chosen"].to_dataset()["option"].values)


def sentences(found: xr.DataTree) -> list[str]:
    """What a design comes to, for people who have never heard of Fisher information.

    Args:
        found: As of `design`, fresh or loaded.
    """
    options, chosen = found["options"].to_dataset(), found["chosen"].to_dataset()
    names = [str(name) for name in chosen["option"].values]
    cost, budget = float(chosen["cost"].values[-1]), found.attrs["budget"]
    if budget == "":
        told = [f"Record `{names[0]}`: of {options.sizes['option']:,} options it tells most by itself."]
    else:
        listed = ", ".join(f"`{name}`" for name in names)
        told = [f"Record {listed}: that costs {cost:g} of the budget of {float(budget):g}."]
    if float(options["narrowing"].max()) < WORTH_TELLING and len(names) == 1:
        told.append(f"It is hardly worth it: no option alone narrows anything by {percent(WORTH_TELLING)}.")
    prob = percent(float(found.attrs["prob"]))
    for one in promises(found):
        unit = f" {one.unit}".rstrip()
        error = "" if np.isnan(one.error) else f" ± {number(one.error, 2)}"
        usual = f"; in 90 % of simulated futures {number(one.lower)} to {number(one.upper)}"
        told.append(
            f"The {prob} interval of `{one.target}` is then expected to be {number(one.width)}{error}{unit} wide, "
            f"{number(one.width_now)}{unit} now ({percent(1.0 - one.width / one.width_now)} narrower"
            f"{'' if np.isnan(one.lower) else usual})."
        )
    return told + _caveats(found)


def _caveats(found: xr.DataTree) -> list[str]:
    """What else should be known: options that do as well, and how widths were computed."""
    if "simulated" not in found:
        return ["Nothing was simulated: these are widths of the linearised twin alone."]
    simulated = found["simulated"].to_dataset()
    chosen = _chosen(found)
    told = []
    alike = _as_good(simulated, chosen, found["targets"].to_dataset()) if found.attrs["budget"] == "" else []
    if alike:
        listed = ", ".join(f"`{name}`" for name in alike)
        told.append(f"Within Monte Carlo error {listed} would do as well.")
    unsure = simulated["ess"].quantile(0.1, "simulation") < FEW
    if bool(unsure.any()):
        listed = ", ".join(f"`{name}`" for name in simulated["set"].values[unsure.values])
        told.append(f"Widths with {listed} hang on few draws, and say little.")
    return told


def _as_good(simulated: xr.Dataset, chosen: str, now: xr.Dataset) -> list[str]:
    """Other sets whose variances, as shares of the present ones, differ by no more than two of their errors."""
    variances = ((simulated["sd"] / now["sd"]) ** 2).sum("target", skipna=False)
    alike = []
    for name in simulated["set"].values:
        gap = (variances.sel(set=name) - variances.sel(set=chosen)).values
        gap = gap[np.isfinite(gap)]
        if name != chosen and abs(gap.mean()) <= 2.0 * gap.std(ddof=1) / np.sqrt(len(gap)):
            alike.append(str(name))
    return alike


def judge_design(
    found: xr.DataTree,
    twin: Twin,
    telemetry: Telemetry | Experiments,
    posterior: xr.DataTree,
    *,
    of: Wanted = None,
    future: Telemetry | None = None,
    recorded: str | None = None,
) -> xr.Dataset:
    """Say whether what a design promised came true.

    Args:
        found: As of `bt.design`.
        twin: The twin.
        telemetry: All that there is now, that which the design asked for included.
        posterior: As of `calibrate` with it.
        of: As it was given to `bt.design`.
        future: As it was given to `bt.design`.
        recorded: What was recorded, where that is not what was chosen: a `set` of the group `simulated`.

    Returns:
        By target the `promised` width of its interval, the widths `lower` and `upper` between which 90 % of simulated
        calibrations lay, the `realised` one, `ratio` of promised to realised, and `outcome`: `"kept"`, `"narrower"`,
        `"wider"`, or, where nothing was simulated, `"unknown"`; with a `sentence`.

    Raises:
        InvalidArtifact: If the posterior belongs to another twin or to other telemetry, or nothing was added since.
        InvalidSetting: If the targets are not those of the design.
    """
    check_belongs(twin, posterior)
    _check_added(found, telemetry, posterior)
    told = promises(found, recorded)
    wanted = of if of is not None else [one.target for one in told]
    known = known_of(twin, telemetry, posterior, wanted, future, int(found.attrs["seed"]))
    if known.targets.names != tuple(one.target for one in told):
        raise InvalidSetting(
            "`of` does not name what the design was about.",
            expected=", ".join(f"`{one.target}`" for one in told),
            received=", ".join(f"`{name}`" for name in known.targets.names),
            advice="Pass `of` and `future` as they were given to `bt.design`.",
        )
    prob = float(found.attrs["prob"])
    realised = np.diff(np.quantile(known.values, [(1.0 - prob) / 2, (1.0 + prob) / 2], axis=0), axis=0)[0]
    return _judged(told, realised, prob)


def _check_added(found: xr.DataTree, telemetry: Telemetry | Experiments, posterior: xr.DataTree) -> None:
    ours, then = sha256_of(telemetry), found.attrs["telemetry_sha256"]
    theirs = posterior.attrs.get("telemetry_sha256", "")
    if ours == theirs != then:
        return
    raise InvalidArtifact(
        "This posterior does not say whether the design kept its promise.",
        expected="one calibrated with `telemetry`, which has what the design asked for beside what there was",
        received="the telemetry of the design, with nothing added" if theirs == then else "one of other telemetry",
        advice="Calibrate all telemetry together, what was there and what was recorded since.",
    )


def _judged(told: Sequence[Promise], realised: np.ndarray, prob: float) -> xr.Dataset:
    outcomes = [_outcome(one, float(width)) for one, width in zip(told, realised, strict=True)]
    words = [
        _sentence(one, float(width), outcome, prob)
        for one, width, outcome in zip(told, realised, outcomes, strict=True)
    ]
    data: dict[str, Any] = {
        "promised": ("target", [one.width for one in told], {"long_name": "width that was promised"}),
        "lower": ("target", [one.lower for one in told], {"long_name": "5 % of simulated calibrations are narrower"}),
        "upper": ("target", [one.upper for one in told], {"long_name": "5 % of simulated calibrations are wider"}),
        "realised": ("target", realised, {"long_name": "width that came out"}),
        "ratio": (
            "target",
            np.array([one.width for one in told]) / realised,
            {"long_name": "promised / realised", "units": ""},
        ),
        "outcome": ("target", outcomes, {"long_name": "kept, narrower, wider or unknown"}),
        "sentence": ("target", words, {"long_name": "in words"}),
    }
    coords = {"target": [one.target for one in told], "unit": ("target", [one.unit for one in told])}
    return xr.Dataset(data, coords=coords, attrs={"prob": prob})


def _outcome(one: Promise, realised: float) -> str:
    if np.isnan(one.lower):
        return "unknown"
    return "narrower" if realised < one.lower else "wider" if realised > one.upper else "kept"


def _sentence(one: Promise, realised: float, outcome: str, prob: float) -> str:
    unit = f" {one.unit}".rstrip()
    what = f"The {percent(prob)} interval of `{one.target}` is {number(realised)}{unit} wide"
    if outcome == "unknown":
        return f"{what}; {number(one.width)}{unit} was expected of the linearised twin, and nothing was simulated."
    usual = f"promised were {number(one.width)}{unit}, and {number(one.lower)} to {number(one.upper)} in 90 % of cases"
    words = {
        "kept": "the promise was kept",
        "narrower": "better than promised",
        "wider": "the promise was not kept: look at what the new telemetry says against the twin",
    }
    return f"{what}; {usual}: {words[outcome]}."
