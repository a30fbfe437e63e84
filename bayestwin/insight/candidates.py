"""What could be recorded next: candidates as a user says them, and the observations that each would add to a record."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from bayestwin.density.bind import Experiments
from bayestwin.density.density import Density
from bayestwin.errors import InvalidSetting, InvalidTelemetry
from bayestwin.insight.identify import with_planned
from bayestwin.model.twin import Twin
from bayestwin.telemetry import Telemetry
from bayestwin.telemetry.record import sealed


@dataclasses.dataclass(frozen=True)
class Candidate:
    """Something that could be recorded next, and what it costs.

    Attributes:
        planned: Telemetry to come, as of `bt.identify`: its times, and its inputs, which are what is to be done. An
            observation counts at each time at which its column has a value, and at all times where the column is empty
            or absent.
        times: By observation, when it is read: some of the times of `planned`, or, of a twin that needs no inputs, any
            after those of the telemetry.
        observations: Which ones are read; by default those in `times`, or all.
        cost: In any unit that all candidates have in common; of each time where `each="time"`.
        each: `"whole"`: everything or nothing is recorded; `"time"`: each of its times is a candidate by itself.
        experiment: Where several experiments were calibrated, the one that goes on, or a new name; by default the
            name of the candidate.
    """

    planned: Telemetry | None = None
    times: Mapping[str, Any] | None = None
    observations: Sequence[str] | None = None
    cost: float = 1.0
    each: Literal["whole", "time"] = "whole"
    experiment: str | None = None


class Option(NamedTuple):
    """What can be chosen: a candidate, or one of its times.

    Attributes:
        name: Of the candidate, with the time.
        candidate: Its name.
        cost: Of this option.
        plan: Number of the plan that it is part of.
        seen: By observation, which ones it adds; of the shape of those of the plan's densities.
    """

    name: str
    candidate: str
    cost: float
    plan: int
    seen: Mapping[str, np.ndarray]


class Continuation(NamedTuple):
    """One way in which telemetry may go on, with all that could be observed on it.

    Attributes:
        before: The density without what is planned.
        after: With all of it; at the same times.
    """

    before: Density
    after: Density


def options_of(
    twin: Twin, telemetry: Telemetry | Experiments, candidates: Mapping[str, Candidate | Telemetry]
) -> tuple[tuple[Continuation, ...], tuple[Option, ...]]:
    """All that can be chosen from. Of plans that go on from the same telemetry only one can be carried out.

    Args:
        twin: The twin.
        telemetry: What there is.
        candidates: By name; telemetry alone stands for a candidate with nothing else said.

    Raises:
        InvalidSetting: If a candidate makes no sense, or what it tells cannot be computed.
        InvalidTelemetry: If what is planned does not fit the twin, or does not go on from what there is.
    """
    told = _checked(twin, candidates)
    if isinstance(telemetry, Telemetry):
        return _of_one(twin, telemetry, told)
    planned: dict[str, Telemetry] = {}
    owners = {name: one.experiment or name for name, one in told.items()}
    for owner in dict.fromkeys(owners.values()):
        own = {name: one for name, one in told.items() if owners[name] == owner}
        plans = _plans_of(telemetry.get(owner), own)
        if len(plans) > 1:
            first, second, *_ = (names[0] for _, names in plans)
            raise InvalidSetting(
                f"Candidates `{first}` and `{second}` go on differently from experiment `{owner}`.",
                expected="one plan for each experiment",
                received=f"{len(plans)} plans of it",
                advice="Give each an experiment of its own, by `experiment=`, or ask for them one by one.",
            )
        planned[owner] = plans[0][0]
    plan = _continuation(twin, telemetry, planned, tuple(told))
    options = []
    for name, one in told.items():
        owner, record = owners[name], planned[owners[name]]
        first = len(telemetry[owner].table) if owner in telemetry else 0
        options += _options(plan, 0, name, one, record, first, plan.after.experiments.index(owner))
    return (plan,), tuple(options)


def _of_one(
    twin: Twin, telemetry: Telemetry, told: Mapping[str, Candidate]
) -> tuple[tuple[Continuation, ...], tuple[Option, ...]]:
    """Plans and options where one telemetry goes on."""
    stray = [name for name, one in told.items() if one.experiment is not None]
    if stray:
        raise InvalidSetting(
            f"Candidate `{stray[0]}` is of an experiment, and one telemetry was calibrated.",
            expected="candidates without `experiment=`, which go on from the telemetry",
            received=f"experiment={told[stray[0]].experiment!r}",
            advice='What begins anew is an experiment: calibrate `{"first": telemetry}`, and pass the same here.',
        )
    plans, options = [], []
    for number, (record, names) in enumerate(_plans_of(telemetry, told)):
        plan = _continuation(twin, telemetry, record, names)
        plans.append(plan)
        for name in names:
            options += _options(plan, number, name, told[name], record, len(telemetry.table))
    return tuple(plans), tuple(options)


def _continuation(twin: Twin, telemetry: Any, planned: Any, names: Sequence[str]) -> Continuation:
    """A plan; what is wrong with it is said of the candidates that are part of it."""
    try:
        return Continuation(*with_planned(twin, telemetry, planned))
    except InvalidTelemetry as reason:
        listed = ", ".join(f"`{name}`" for name in names)
        raise reason.within(f"In what is planned for {listed}") from reason


def _plans_of(
    telemetry: Telemetry | None, candidates: Mapping[str, Candidate]
) -> list[tuple[Telemetry, tuple[str, ...]]]:
    """The different ways in which one record may go on, each with the candidates that are part of it."""
    grouped: dict[str, tuple[Telemetry, list[str]]] = {}
    for name, one in candidates.items():
        if one.planned is not None:
            grouped.setdefault(one.planned.sha256, (one.planned, []))[1].append(name)
    loose = {name: one for name, one in candidates.items() if one.planned is None}
    if loose:
        if telemetry is None:
            name = next(iter(loose))
            raise InvalidSetting(
                f"Candidate `{name}` begins a new experiment, and says nothing but times.",
                expected="`planned=`: telemetry with these times, its `t0` and the inputs, if the twin has any",
                received="`times=` alone",
                advice="Or name by `experiment=` one that was calibrated, to go on from it.",
            )
        record = _at_times(telemetry, loose)
        grouped.setdefault(record.sha256, (record, []))[1].extend(loose)
    return [(record, tuple(names)) for record, names in grouped.values()]


def _at_times(telemetry: Telemetry, candidates: Mapping[str, Candidate]) -> Telemetry:
    """Telemetry to come that has nothing but the times of candidates."""
    told = [time for one in candidates.values() for own in (one.times or {}).values() for time in np.atleast_1d(own)]
    moments = sorted({telemetry.moment(_plain(time), "times") for time in told})
    index = pd.DatetimeIndex(moments) if telemetry.dated else pd.Index(moments, dtype=float)
    units = {"time": telemetry.units["time"]} if "time" in telemetry.units else {}
    return sealed(pd.DataFrame(index=index.rename("time")), units, telemetry.t0, "times of candidates")


def _plain(time: Any) -> Any:
    """A time as `Telemetry.moment` takes it."""
    return time if isinstance(time, np.datetime64) else time.item() if isinstance(time, np.generic) else time


def _options(
    plan: Continuation,
    number: int,
    name: str,
    one: Candidate,
    record: Telemetry,
    first: int,
    experiment: int | None = None,
) -> list[Option]:
    """What can be chosen of one candidate, whose planned times are rows from the `first` on, of one experiment."""
    twin, after = plan.after.twin, plan.after.bound
    place = () if experiment is None else (experiment,)
    unit = record.units.get("time", twin.time_unit)
    wanted = tuple(one.observations or one.times or twin.observations)
    rows = first + np.arange(len(record.table))
    seen = {key: np.zeros(np.shape(own), bool) for key, own in after.observations.items()}
    for key in wanted:
        new = np.isfinite(after.observations[key]) & ~np.isfinite(plan.before.bound.observations[key])
        if one.times is None:
            seen[key][(*place, rows)] = new[(*place, rows)]
            continue
        moments = [record.moment(_plain(time), "times") for time in np.atleast_1d(one.times[key])]
        absent = [moment for moment in moments if moment not in record.table.index]
        if absent:
            raise InvalidSetting(
                f"Candidate `{name}` would read `{key}` when nothing is planned.",
                expected="times of its `planned` telemetry",
                received=record.shown(absent[0]),
                advice="Correct `times`, or add these times to `planned`.",
            )
        seen[key][(*place, rows)] = record.table.index.isin(moments)
    _check_seen(plan, name, one, seen)
    if one.each == "whole":
        return [Option(name, name, one.cost, number, seen)]
    found = []
    for row, label in zip(rows, record.table.index, strict=True):
        at = (*place, row)
        part = {key: np.zeros_like(own) for key, own in seen.items()}
        for key, own in seen.items():
            part[key][at] = own[at]
        if any(own.any() for own in part.values()):
            shown = record.shown(label) if record.dated else f"{label:g} {unit}".strip()
            found.append(Option(f"{name} at {shown}", name, one.cost, number, part))
    return found


def _check_seen(plan: Continuation, name: str, one: Candidate, seen: Mapping[str, np.ndarray]) -> None:
    """Refuse a candidate that reads nothing, or a part of what can be read only as a whole."""
    if not any(own.any() for own in seen.values()):
        raise InvalidSetting(
            f"Candidate `{name}` reads nothing.",
            expected="an observation at one time at least",
            received="none",
            advice="Leave a column of `planned` out, or empty, to read that observation at all times.",
        )
    twin, before, after = plan.after.twin, plan.before.bound.observations, plan.after.bound.observations
    for key, own in seen.items():
        spec = twin.observations[key]
        possible = np.isfinite(after[key]) & ~np.isfinite(before[key])
        partly = one.each == "time" or bool((possible & ~own).any())
        if own.any() and spec.reads != "value" and spec.begins != "row" and partly:
            raise InvalidSetting(
                f"Candidate `{name}` reads `{key}` at some of the planned times, and it is a {spec.reads} since the "
                "reading before.",
                expected="a plan at all of whose times it is read",
                received="a part of them",
                advice="Plan telemetry at these times alone, a candidate for each choice of them.",
            )


def _checked(twin: Twin, candidates: Mapping[str, Candidate | Telemetry]) -> dict[str, Candidate]:
    """Candidates by name, each of which makes sense by itself."""
    if not isinstance(candidates, Mapping) or not candidates:
        raise InvalidSetting(
            "There is nothing to choose from.",
            expected='candidates by name: `{"a week": bt.Candidate(planned=telemetry, cost=2.0)}`',
            received=f"{type(candidates).__name__}{' without an entry' if not candidates else ''}",
            advice="Name what could be recorded.",
        )
    if twin.model_error is not None:
        raise InvalidSetting(
            f"What to record next cannot be told of twin `{twin.name}` with its model error.",
            expected="a twin whose observations follow from its quantities and their own noise",
            received=f"`model_error=bt.{type(twin.model_error).__name__}(…)`",
            advice="Pass `model_error=None`, and a posterior calibrated so, for an answer that leaves it out.",
        )
    found = {}
    for name, one in candidates.items():
        own = Candidate(planned=one) if isinstance(one, Telemetry) else one
        fault = _fault_of(twin, own)
        if fault:
            raise InvalidSetting(
                f"Candidate `{name}` makes no sense.", expected=fault[0], received=fault[1], advice="Correct it."
            )
        found[str(name)] = own
    return found


def _fault_of(twin: Twin, one: Any) -> tuple[str, str] | None:
    """What is expected of a candidate, and received instead; None where nothing is wrong."""
    if not isinstance(one, Candidate):
        return "a bt.Candidate, or a bt.Telemetry", type(one).__name__
    if one.planned is None and not one.times:
        return "`planned=` telemetry, or `times=` by observation", "neither"
    unknown = [key for key in (*(one.observations or ()), *(one.times or ())) if key not in twin.observations]
    if unknown:
        known = ", ".join(f"`{key}`" for key in twin.observations)
        return f"observations of the twin: {known}", f"`{unknown[0]}`"
    stray = [key for key in one.observations or () if one.times and key not in one.times]
    if stray:
        return f"in `times` also those of `{stray[0]}`", ", ".join(f"`{key}`" for key in one.times or ())
    if not (isinstance(one.cost, int | float) and math.isfinite(one.cost) and one.cost > 0):
        return "a cost above zero", f"cost={one.cost!r}"
    if one.each not in ("whole", "time"):
        return '`each="whole"` or `each="time"`', f"each={one.each!r}"
    return None
