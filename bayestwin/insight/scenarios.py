"""What if: the same posterior draws and the same noise under changed inputs, parameters, starts and events.

Differences between scenarios are those of pairs, so that what both share drops out of their uncertainty.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import xarray as xr

from bayestwin._base.process import key_for
from bayestwin._base.progress import Progress, computing
from bayestwin.calibrate import check_belongs, root_attributes, thinned
from bayestwin.check.range import supported
from bayestwin.density.ahead import Start, check_start, density_ahead, restarted
from bayestwin.density.bind import Bound
from bayestwin.density.density import Density
from bayestwin.density.predictor import num_stored
from bayestwin.errors import InvalidSetting
from bayestwin.insight.expectations import BASELINE, Expectation, compared, judge_all, read_expectation
from bayestwin.model.describe import prior_text
from bayestwin.model.error import Discrepancy, ProcessNoise
from bayestwin.model.noise import Autocorrelated, Biased, Gaussian, Noise, StudentT
from bayestwin.model.twin import Twin
from bayestwin.model.types import Event
from bayestwin.predict import LOWER, paths_dataset, predict
from bayestwin.results.schema import axes_of, driven_dataset
from bayestwin.results.support import MARKS, OF, WORDS, knows_what_was_seen, mark
from bayestwin.telemetry import Telemetry

_CHANGE = re.compile(r"(?P<sign>[×x*/+−=-])\s*(?P<number>[-−+]?[\d.]+(?:[eE][-+]?\d+)?)")


@dataclasses.dataclass(frozen=True)
class InputChange:
    """How an input, or an event that the telemetry tells, is changed: `scale · value + shift`, or replaced.

    Attributes:
        scale: What it is multiplied by.
        shift: What is added then, in the unit of the telemetry's column.
        value: What it is replaced by: a number, or NaN for an event that does not happen.
        values: What it is replaced by, one number for each row of the future.
        start: The first time at which it is changed; by default that of the future.
        end: The first time at which it is not any more.
        daily: Between which times of the day it is, in the zone of the telemetry: `("22:00", "06:00")`.
        later: How much later everything happens, as `"2 h"`, or in the unit of numeric times; before, the first
            value holds.
    """

    scale: float = 1.0
    shift: float = 0.0
    value: float | None = None
    values: Sequence[float] | None = None
    start: Any = None
    end: Any = None
    daily: tuple[str, str] | None = None
    later: float | str | None = None


@dataclasses.dataclass(frozen=True)
class Scenario:
    """What is changed, and what is expected then.

    Attributes:
        question: What it answers, in words.
        inputs: By name, also of events that the telemetry tells: a number that replaces it, text such as `"× 0.8"` or
            `"+ 2"`, `"removed"` of an event, or an `InputChange`.
        parameters: By name: a number, text such as `"× 2"`, which is applied to each draw, or a distribution.
        initial: By state, where it is at the first time, likewise.
        events: By name, an event that is added or replaced; None removes one.
        expect: What is expected, as text: see `insight/expectations.py`.
    """

    question: str = ""
    inputs: Mapping[str, float | str | InputChange] = dataclasses.field(default_factory=dict)
    parameters: Mapping[str, float | str | dist.Distribution] = dataclasses.field(default_factory=dict)
    initial: Mapping[str, float | str | dist.Distribution] = dataclasses.field(default_factory=dict)
    events: Mapping[str, Event | None] = dataclasses.field(default_factory=dict)
    expect: Sequence[str] = ()

    @property
    def restarts(self) -> bool:
        """Whether it needs more than other inputs."""
        return bool(self.parameters or self.initial or self.events)


class WhatIf(NamedTuple):
    """What all scenarios have in common.

    Attributes:
        twin: The twin, with the quantities that expectations need.
        posterior: As `calibrate` returned it.
        future: Times, inputs and events, without observations.
        initial: Where the twin starts anew; None where it goes on from the calibration.
        seed: Determines everything random.
        draws: About how many posterior draws are used.
        progress: Where progress is shown.
        device: As of `predict`.
    """

    twin: Twin
    posterior: xr.DataTree
    future: Telemetry
    initial: Start | None
    seed: int
    draws: int | None
    progress: Progress | None
    device: str | None


def scenario(
    twin: Twin,
    posterior: xr.DataTree,
    future: Telemetry,
    scenarios: Mapping[str, Scenario],
    *,
    seed: int,
    initial: Start | None = None,
    loss: str | None = None,
    limits: Mapping[str, Any] | None = None,
    draws: int | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> xr.DataTree:
    """Compare what would be under several scenarios, with the draws of one posterior.

    All have the same draws and the same noise. What is changed is changed from the first time of `future` on; what
    was before is as it was. One that is called `baseline` is what the others are held against; without one it is the
    future as it is given.

    Args:
        twin: The twin that was calibrated, with the quantities by which scenarios are compared.
        posterior: As `calibrate` returned it.
        future: Times and inputs of the baseline; observations are not looked at.
        scenarios: By name.
        seed: Determines everything random, as of `predict`.
        initial: Where all start, as of `predict`.
        loss: The quantity that is to be small: says which scenario is likely to be the best one.
        limits: The operating range, as of `bt.extrapolation`.
        draws: About how many posterior draws are used, as of `predict`.
        device: `"cpu"`, `"gpu"`, or None for JAX's default.
        progress: Where progress is shown; by default on a terminal only.

    Returns:
        A node for each scenario, with groups as of `predict`; `comparison` (scenario, quantity): `median`, `lower`,
        `upper` of each, `difference` (its median), `difference_lower` and `difference_upper` of pairs with the
        baseline, all with 90 % equal-tailed intervals, `less`, the probability that it is less there than in the
        baseline, and `paired_sd` over `unpaired_sd`, how much the pairs gain; with `loss` also `expected_loss`, `best`
        (the probability of being the best) and `regret` (what it is expected to lose against the best); `beyond`, the
        share of times at which a scenario leaves what was calibrated, with words by scenario in the root attribute
        `beyond`; and `expectations`, if there are any: verdict, value and Monte Carlo interval of each.

    Raises:
        InvalidSetting: If a scenario or an expectation does not fit the twin.
        InvalidArtifact: If the posterior belongs to another twin.
        InvalidTelemetry: If the future does not fit.
    """
    check_belongs(twin, posterior)
    _check_alone(posterior, future)
    everything = {BASELINE: Scenario()} | dict(scenarios)
    for name, one in everything.items():
        _check(twin, name, one)
    expected, asked_of = _read_all(twin, everything)
    _check_loss(twin, loss)
    bare = [name for name in twin.observations if name not in twin.inputs]
    future = future.with_table(future.table.drop(columns=bare, errors="ignore"))
    asked = WhatIf(asked_of, posterior, future, initial, seed, draws, progress, device)
    found = _all_predicted(asked, everything)
    for tree in found.values() if knows_what_was_seen(posterior) else ():
        if limits or MARKS not in tree["predictions"].coords:  # `predict` has marked its own
            mark(tree, supported(twin, posterior, tree, limits))
    drawn = {name: tree["predictions"].to_dataset() for name, tree in found.items()}
    groups = {f"{name}/{key}": own.to_dataset() for name, tree in found.items() for key, own in tree.children.items()}
    groups = {name: data for name, data in groups.items() if not name.endswith("observed_data")}
    shares = [float(own[MARKS].any(OF).mean()) if MARKS in own.coords else math.nan for own in drawn.values()]
    groups["comparison"] = compared(twin, drawn, loss).assign(beyond=("scenario", shares))
    if expected:
        groups["expectations"] = judge_all(expected, drawn)
    tree = xr.DataTree.from_dict(groups)
    questions = {name: one.question for name, one in everything.items() if one.question}
    told = {name: own.attrs[WORDS] for name, own in found.items() if WORDS in own.attrs}
    about = {"scenarios": list(everything), "questions": questions, "loss": loss or "", WORDS: told}
    tree.attrs = found[BASELINE].attrs | about
    return tree


def _check(twin: Twin, name: str, one: Scenario) -> None:
    """Refuse what is changed and is not there."""
    told = [event for event, spec in twin.events.items() if spec.kind == "telemetry"]
    known: dict[str, Sequence[str]] = {
        "inputs": [*twin.inputs, *told],
        "parameters": [n for n in twin.parameters if n not in twin.derived],
        "initial": [*twin.states],
    }
    if not name.isidentifier():
        raise InvalidSetting(
            "The name of a scenario cannot be used.",
            expected="letters, digits and `_`, not starting with a digit",
            received=f"`{name}`",
            advice="Put longer words into its `question`.",
        )
    for group, names in known.items():
        for wrong in [key for key in getattr(one, group) if key not in names]:
            raise InvalidSetting(
                f"Scenario `{name}` changes what twin `{twin.name}` does not have.",
                expected=f"among `{group}` some of {', '.join(f'`{key}`' for key in names) or 'none'}",
                received=f"`{wrong}`",
                advice="Correct the name.",
            )


def _check_alone(posterior: xr.DataTree, future: object) -> None:
    """Refuse what is of several experiments."""
    several = "experiment" in posterior["posterior"].dims
    if several or not isinstance(future, Telemetry):
        raise InvalidSetting(
            "Scenarios are those of one telemetry.",
            expected="a bt.Telemetry as `future`, and the posterior of one experiment",
            received=f"{type(future).__name__}{', and the posterior of several experiments' if several else ''}",
            advice="Take one at a time: `posterior.sel(experiment=…)`, with `initial=` where it starts.",
        )


def _check_loss(twin: Twin, loss: str | None) -> None:
    if loss is not None and loss not in twin.quantities:
        raise InvalidSetting(
            "`loss` is no quantity of the twin.",
            expected=", ".join(f"`{name}`" for name in twin.quantities) or "a twin with quantities",
            received=f"`{loss}`",
            advice="Give the twin a quantity that is to be small.",
        )


def _read_all(twin: Twin, scenarios: Mapping[str, Scenario]) -> tuple[list[tuple[str, Expectation]], Twin]:
    """All expectations with their scenarios, and the twin with the quantities that they need."""
    expected, needed = [], dict(twin.quantities)
    for name, one in scenarios.items():
        for text in one.expect:
            read, more = read_expectation(text, twin)
            expected.append((name, read))
            needed |= more
    return expected, dataclasses.replace(twin, quantities=needed)


# All scenarios, predicted one by one.


def _all_predicted(asked: WhatIf, scenarios: Mapping[str, Scenario]) -> dict[str, xr.DataTree]:
    """Each scenario predicted, the baseline first.

    With process noise all start in the states that the unchanged twin is in at the first time, if any has to: only so
    do they have the same disturbances.
    """
    order = dict(sorted(scenarios.items(), key=lambda item: item[0] != BASELINE))
    if isinstance(asked.twin.model_error, ProcessNoise) and any(one.restarts for one in order.values()):
        start = predicted(asked, Scenario(), BASELINE, None)
        return {n: _restarted(asked, _driven(asked.future, one, n), one, n, start) for n, one in order.items()}
    found: dict[str, xr.DataTree] = {}
    for name, one in order.items():
        found[name] = predicted(asked, one, name, found.get(BASELINE))
    return found


def predicted(asked: WhatIf, one: Scenario, name: str, baseline: xr.DataTree | None) -> xr.DataTree:
    """A scenario predicted, from where the baseline is at the first time if more than inputs are changed."""
    future = _driven(asked.future, one, name)
    if not one.restarts:
        settings: dict[str, Any] = {"initial": asked.initial, "draws": asked.draws}
        return predict(
            asked.twin,
            asked.posterior,
            future,
            seed=asked.seed,
            device=asked.device,
            progress=asked.progress,
            **settings,
        )
    start = predicted(asked, Scenario(), BASELINE, None) if baseline is None else baseline
    return _restarted(asked, future, one, name, start)


def _restarted(asked: WhatIf, future: Telemetry, one: Scenario, name: str, baseline: xr.DataTree) -> xr.DataTree:
    """A scenario from where each draw of the baseline is at the first time on."""
    twin = _with_events(asked.twin, one)
    changed = [group for group in ("parameters", "initial", "events") if getattr(one, group)]
    check_restart(asked.twin, f"Scenario `{name}` cannot change {' and '.join(f'`{group}`' for group in changed)}", one)
    begun = anew(twin)
    computation = computing(LOWER, seed=asked.seed, device=asked.device, progress=asked.progress)
    if asked.initial is not None:
        check_start(asked.twin, asked.posterior, asked.initial, future)
    later, bound, density = density_from(asked, future, begun)
    group = asked.posterior["posterior"].to_dataset()
    axes = axes_of(bound)
    chains, num = group.sizes["chain"], group.sizes["draw"]
    kept = thinned(chains, num, num_stored(density, math.prod(axes.shape), asked.draws))
    values = changed_values(asked, one, name, density, group.isel(draw=kept), baseline)
    drawn = group["draw"].values[kept]

    def density_of(own: Twin) -> Density:
        return density_from(asked, future, own)[2]

    with computation as shown:
        found = paths_dataset(density, bound, values, axes, chains, drawn, asked.seed, density_of, shown)
    carried = _carried(asked.twin)
    if carried:
        unchanged = predicted(asked, Scenario(inputs=one.inputs), name, None) if one.inputs else baseline
        found = _with_added(found, unchanged["predictions"].to_dataset(), carried)
    tree = xr.DataTree.from_dict({"predictions": found, "predictions_constant_data": driven_dataset(twin, bound, axes)})
    tree.attrs = root_attributes(asked.twin, later, asked.seed, {"draws": asked.draws})
    if asked.initial is not None or one.initial:
        tree.attrs["starts_anew"] = baseline.attrs.get("starts_anew", {})
    return tree


ANYWHERE = dist.Normal(0.0, 1.0)
"""Stands for a state that each draw has of its own; nothing is drawn from it."""


def density_from(asked: WhatIf, future: Telemetry, own: Twin) -> tuple[Any, Bound, Density]:
    """What a twin, as `anew` returns it, is predicted by from the first time of a future on; as of `density_ahead`."""
    if asked.initial is None:
        shifted, bound, density = density_ahead(own, asked.posterior, future, led=False)
    else:
        anywhere = {state: ANYWHERE for state in asked.twin.states}
        shifted, bound, density = restarted(own, asked.posterior, anywhere, future)
    return shifted, bound, from_first(density)


def anew(twin: Twin) -> Twin:
    """The twin, each draw of which starts in states of its own."""
    states = {name: dataclasses.replace(state, initial=ANYWHERE, pooled=None) for name, state in twin.states.items()}
    states = {name: state for name, state in states.items() if name not in twin.integrals}
    error = twin.model_error
    error = dataclasses.replace(error, initial_scale={}) if isinstance(error, ProcessNoise) else None
    return dataclasses.replace(twin, states=states, model_error=error)


def _carried(twin: Twin) -> list[str]:
    """Observations to which something is added that goes on from what was observed: a discrepancy, or such noise."""
    discrepant = twin.model_error.scale if isinstance(twin.model_error, Discrepancy) else ()
    return [name for name, one in twin.observations.items() if name in discrepant or not one.noise.independent]


def _with_added(found: xr.Dataset, unchanged: xr.Dataset, names: Sequence[str]) -> xr.Dataset:
    """Predictions with what the unchanged twin has beside its equations along the same inputs, draw by draw."""
    for name in names:
        added = unchanged[name] - unchanged[f"{name}_noise_free"]
        found[name] = (found[f"{name}_noise_free"] + added).assign_attrs(found[name].attrs)
        if f"{name}_discrepancy" in unchanged:
            found[f"{name}_discrepancy"] = unchanged[f"{name}_discrepancy"]
    return found


def from_first(density: Density) -> Density:
    """The density whose solver starts at the first time that is predicted, on the same clock."""
    grid, first = density.grid, int(density.grid.save[0])
    later = grid._replace(
        edges=grid.edges[first:],
        coefficients=grid.coefficients[first:],
        amounts=grid.amounts[first:],
        save=grid.save - first,
    )
    return dataclasses.replace(density, grid=later)


def _with_events(twin: Twin, one: Scenario) -> Twin:
    """The twin with other events."""
    gone = [name for name, event in one.events.items() if event is None]
    events = {name: event for name, event in twin.events.items() if name not in gone}
    added = {name: event for name, event in one.events.items() if event is not None}
    return dataclasses.replace(twin, events=events | added) if one.events else twin


def check_restart(twin: Twin, refused: str, one: Scenario | None = None) -> None:
    """Refuse a twin that cannot be started from the states of a draw alone; `refused` says what cannot be done to it.

    Without a scenario `one` that changes it nothing may go on from what was observed.
    """
    if found := restart_hindrances(twin, one):
        raise InvalidSetting(
            f"{refused} of twin `{twin.name}`.",
            expected="a twin whose future follows from its states and parameters at the first time alone",
            received=f"one with {' and '.join(found)}",
            advice="Change inputs alone, or take the twin without it: `dataclasses.replace(twin, …)` calibrated anew.",
        )


def restart_hindrances(twin: Twin, one: Scenario | None = None) -> list[str]:
    """Why a twin cannot be started from the states of a draw alone, in words; arguments as of `check_restart`."""
    added = [twin.observations[observation].noise for observation in _carried(twin)]
    own = {parameter for noise in added for parameter in noise.parameters.values() if isinstance(parameter, str)}
    changed = set(one.parameters) if one is not None else set()
    reasons = {
        "its model error, which observations have led": one is None and twin.model_error is not None,
        "noise that remembers": one is None and bool(added),
        "noise that is not simply added, beside a discrepancy or a memory": not all(map(_is_added, added)),
        "a changed parameter in the noise that remembers": bool(own & changed),
        "observations over the time between rows": any(o.reads != "value" for o in twin.observations.values()),
        "parameters that events change": bool(twin.switched),
        "states that are arrays": not twin.layout.scalar,
        "inputs that are asked for at other times": bool(twin.delayed),
    }
    return [words for words, there in reasons.items() if there]


def _is_added(noise: Noise) -> bool:
    """Whether noise is the same whatever it is added to."""
    return all(isinstance(layer, Gaussian | StudentT | Autocorrelated | Biased) for layer in noise.layers())


def changed_values(
    asked: WhatIf, one: Scenario, name: str, density: Density, group: xr.Dataset, baseline: xr.DataTree
) -> dict[str, np.ndarray]:
    """Draws of all sites, with what the scenario changes."""
    twin = asked.twin
    num = group.sizes["chain"] * group.sizes["draw"]
    values: dict[str, np.ndarray] = {}
    for site in density.sites:
        if site.kind != "initial":
            values[site.name] = group[site.name].to_numpy().reshape(num)
    for parameter, change in one.parameters.items():
        before = values.get(parameter)
        if before is None:
            known = density.bound.known.get(parameter, twin.parameters[parameter].prior)
            before = np.full(num, float(known))  # type: ignore[arg-type]
        values[parameter] = _applied(change, before, (asked.seed, name, parameter))
    paths = baseline["predictions"].to_dataset().isel(time=0)
    for state in twin.states:
        if f"{state}_initial" in {site.name for site in density.sites}:
            begun = paths[f"{state}_state"].to_numpy().reshape(num)
            change = one.initial.get(state, "+ 0")
            values[f"{state}_initial"] = _applied(change, begun, (asked.seed, name, state))
    return values


def _applied(change: float | str | dist.Distribution, before: np.ndarray, origin: tuple[int, str, str]) -> np.ndarray:
    """Draws, changed: replaced by a number or by draws from a distribution, multiplied, or shifted."""
    if isinstance(change, dist.Distribution):
        seed, name, member = origin
        return np.asarray(change.sample(key_for(seed, f"scenario {name} {member}"), before.shape))
    if isinstance(change, int | float):
        return np.full(before.shape, float(change))
    read = _read_change(change, f"`{origin[2]}` of scenario `{origin[1]}`")
    return np.full(before.shape, read.value) if read.value is not None else before * read.scale + read.shift


def _read_change(text: str, owner: str) -> InputChange:
    """A change as a person writes it: `× 2`, `/ 2`, `+ 1`, `− 1`, `= 3`, or `removed`."""
    words = text.strip()
    if words == "removed":
        return InputChange(value=math.nan)
    found = _CHANGE.fullmatch(words)
    if found is None:
        raise InvalidSetting(
            f"The change of {owner} cannot be read.",
            expected="a number, or text such as `× 2`, `/ 2`, `+ 1.5`, `- 1.5`, `= 3`",
            received=f"`{text}`",
            advice="Write it like one of these.",
        )
    value = float(found["number"].replace("−", "-"))
    match found["sign"]:
        case "×" | "x" | "*":
            return InputChange(scale=value)
        case "/":
            return InputChange(scale=1.0 / value)
        case "=":
            return InputChange(value=value)
    return InputChange(shift=value if found["sign"] == "+" else -value)


def _driven(future: Telemetry, one: Scenario, name: str) -> Telemetry:
    """The future with other inputs."""
    if not one.inputs:
        return future
    table = future.table.copy()
    for column, change in one.inputs.items():
        owner = f"`{column}` of scenario `{name}`"
        if column not in table.columns:
            raise InvalidSetting(
                f"The future has no column for {owner}.",
                expected=", ".join(f"`{one}`" for one in table.columns),
                received=f"`{column}`",
                advice="Give the future one, NaN where an event does not happen.",
            )
        read = change if isinstance(change, InputChange) else None
        if read is None:
            read = _read_change(change, owner) if isinstance(change, str) else InputChange(value=float(change))  # type: ignore[arg-type]
        table[column] = changed_column(table[column], read, future, owner)
    return future.with_table(table)


def changed_column(column: Any, change: InputChange, future: Telemetry, owner: str) -> pd.Series:
    """A column, changed at the times that are meant."""
    times = column.index
    new = column.astype(float)
    if change.later is not None:
        new = _later(new, change.later, future, owner)
    if change.values is not None:
        if len(change.values) != len(times):
            raise InvalidSetting(
                f"The values of {owner} are not those of its rows.",
                expected=f"{len(times)} numbers",
                received=f"{len(change.values)}",
                advice="Give one for each row of the future.",
            )
        new = pd.Series(np.asarray(change.values, float), index=times)
    new = new * change.scale + change.shift
    if change.value is not None:
        new = pd.Series(change.value, index=times, dtype=float)
    where = np.ones(len(times), bool)
    if change.start is not None:
        where &= np.asarray(times >= future.moment(change.start, "start"))
    if change.end is not None:
        where &= np.asarray(times < future.moment(change.end, "end"))
    if change.daily is not None:
        where &= _in_hours(times, change.daily, future, owner)
    return column.astype(float).where(~where, new)


def _later(column: pd.Series, later: float | str, future: Telemetry, owner: str) -> pd.Series:
    """A held column, so much later."""
    times = column.index
    if future.dated:
        shifted = times + pd.Timedelta(later)  # type: ignore[arg-type]
    elif isinstance(later, str):
        raise InvalidSetting(
            f"How much later {owner} happens cannot be read.",
            expected="a number, as times are numbers",
            received=f"`{later}`",
            advice="Give it in the unit of the times.",
        )
    else:
        shifted = times + later
    moved = pd.Series(column.to_numpy(), index=shifted)
    found = moved[~moved.index.duplicated(keep="last")].reindex(times, method="ffill")
    return found.fillna(column.iloc[0])


def _in_hours(times: pd.Index, daily: tuple[str, str], future: Telemetry, owner: str) -> np.ndarray:
    """Which times lie between two times of the day, perhaps across midnight."""
    if not isinstance(times, pd.DatetimeIndex):
        raise InvalidSetting(
            f"{owner} is changed at times of the day, and there are no days.",
            expected="dates as times",
            received="numbers",
            advice="Use `start` and `end`.",
        )
    zone = future.timezone
    local = times.tz_localize("UTC").tz_convert(zone) if isinstance(zone, str) and zone else times
    clock = local.hour * 60 + local.minute + local.second / 60
    ends = [re.fullmatch(r"([01]?\d|2[0-4]):([0-5]\d)", one.strip()) for one in daily]
    if None in ends:
        raise InvalidSetting(
            f"The hours of {owner} cannot be read.",
            expected='two times of the day, as `("22:00", "06:00")`',
            received=f"{daily}",
            advice="Write hours and minutes.",
        )
    first, last = (60 * int(one[1]) + int(one[2]) for one in ends if one is not None)
    return np.asarray((clock >= first) & (clock < last) if first < last else (clock >= first) | (clock < last))


def changes_of(one: Scenario, twin: Twin) -> list[str]:
    """What a scenario changes, in words, one after the other."""
    told, members = [], {**twin.inputs, **twin.events, **twin.states, **twin.parameters}
    for change in (one.inputs, one.parameters, one.initial):
        for name, value in change.items():
            law = prior_text(value) if isinstance(value, dist.Distribution) else ""
            told.append(f"{name} {law or _with_unit(value, getattr(members.get(name), 'unit', ''))}")
    return told + [f"{name}: {'removed' if event is None else 'added'}" for name, event in one.events.items()]


def _with_unit(value: Any, unit: str) -> str:
    """A number, or text such as `"+ 2"`, in the unit of what it is of; what multiplies has none."""
    if isinstance(value, InputChange):
        return _input_words(value, unit)
    text = value if isinstance(value, str) else f"{value:g}"
    return f"{text} {unit}".rstrip() if re.match(r"[+−-]? ?[\d.]", text) else text


def _input_words(change: InputChange, unit: str) -> str:
    """How an input is changed, and when."""
    sign = "+" if change.shift > 0.0 else "−"
    value = None if change.value is None else "removed" if math.isnan(change.value) else _with_unit(change.value, unit)
    parts = [
        value,
        None if change.scale == 1.0 else f"× {change.scale:g}",
        None if change.shift == 0.0 else _with_unit(f"{sign} {abs(change.shift):g}", unit),
        None if change.later is None else f"{change.later} later",
        None if change.daily is None else f"daily from {change.daily[0]} to {change.daily[1]}",
        None if change.start is None else f"from {change.start} on",
        None if change.end is None else f"until {change.end}",
    ]
    return " ".join(part for part in parts if part) or "other values"
