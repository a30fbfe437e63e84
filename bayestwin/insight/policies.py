"""Policies: the values of a few controls that are best under a posterior, and keep what is demanded of them.

Sample average approximation over fixed draws, with gradients through the twin; levels of chance constraints are
then set on draws that the search has not seen, and what is told of a policy comes from draws that neither has.

A. J. Kleywegt, A. Shapiro, T. Homem-de-Mello (2002), doi:10.1137/S1052623499363220.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from bayestwin._base.progress import Progress, computing
from bayestwin._base.wording import count, number, percent
from bayestwin.calibrate import check_belongs, thinned
from bayestwin.density.ahead import Start
from bayestwin.density.quantities import Courses, Followable, followable, quantities_along
from bayestwin.errors import InvalidSetting
from bayestwin.insight.expectations import BASELINE, effective, read_expectation
from bayestwin.insight.scenarios import (
    InputChange,
    Scenario,
    WhatIf,
    anew,
    changed_column,
    changed_values,
    check_restart,
    density_from,
    predicted,
    scenario,
)
from bayestwin.insight.search import (
    TURNS,
    Chosen,
    Constraint,
    Goal,
    PolicyProblem,
    check_promised,
    constraint_of,
    levelled,
    read_goal,
    searched,
    statistic,
)
from bayestwin.model.quantities import FromRows
from bayestwin.model.twin import Twin
from bayestwin.predict import LOWER
from bayestwin.results.support import WORDS
from bayestwin.telemetry import Telemetry

POLICY = "policy"
"""The scenario of a policy, among those of its outcome."""

DRAWS, SEARCHED, LEVELLED = 4000, 200, 0.65
"""About how many draws are used where nobody says, by how many at most controls are searched for, and the share of all
up to which levels are set; the rest judges."""


@dataclasses.dataclass(frozen=True)
class Control:
    """What can be chosen: a number, or one for each stretch of time.

    Attributes:
        of: The input, the event that the telemetry tells, or the parameter that is chosen.
        between: The least and the largest value, in the unit of the telemetry's column or of the parameter.
        by: Whether the number replaces the value of an input or of each event, is what it is multiplied by, or what is
            added to it. Parameters are replaced.
        start: The first time at which it holds; by default that of the future.
        end: The first time at which it does not any more.
        daily: Between which times of the day it does, as of `bt.InputChange`.
        every: How long each stretch is, as `"6 h"`, or in the unit of numeric times: a schedule of levels.
    """

    of: str
    between: tuple[float, float]
    by: Literal["value", "scale", "shift"] = "value"
    start: Any = None
    end: Any = None
    daily: tuple[str, str] | None = None
    every: float | str | None = None


class KeptConstraint(NamedTuple):
    """What became of a constraint, by the draws that judge.

    Attributes:
        text: As it was written.
        verdict: As of scenarios; one that binds is mostly "undecided", since it lies at its limit.
        achieved: The probability, or the mean.
        lower: Lower end of its Monte Carlo interval.
        upper: Upper end.
        limit: With what it is compared.
        binds: Whether it keeps the policy from being better.
    """

    text: str
    verdict: str
    achieved: float
    lower: float
    upper: float
    limit: float
    binds: bool


@dataclasses.dataclass(frozen=True)
class Policy:
    """The best values of some controls, and what they are worth, by draws that did not choose them.

    Attributes:
        controls: By name, the value; of a schedule one for each stretch.
        changes: The same in words.
        scenario: The policy as a scenario, for `bt.scenario`.
        goal: What is least or most, as it was written.
        value: What that comes to, with `lower` and `upper`, its 95 % Monte Carlo interval.
        lower: See `value`.
        upper: See `value`.
        regret: What the baseline loses against the policy, on the same draws; negative where it is better.
        regret_lower: Lower end of its 95 % Monte Carlo interval.
        regret_upper: Upper end.
        constraints: What became of each.
        feasible: Whether the draws that set the levels keep all constraints.
        converged: Whether the search did.
        warnings: What to know before it is relied upon, in sentences.
        outcome: Policy and baseline as of `bt.scenario`, by the draws that judge.
        judged: Numbers of these draws within each chain.
    """

    controls: Mapping[str, float | tuple[float, ...]]
    changes: tuple[str, ...]
    scenario: Scenario = dataclasses.field(repr=False)
    goal: str
    value: float
    lower: float
    upper: float
    regret: float
    regret_lower: float
    regret_upper: float
    constraints: tuple[KeptConstraint, ...]
    feasible: bool
    converged: bool
    warnings: tuple[str, ...]
    outcome: xr.DataTree = dataclasses.field(repr=False)
    judged: np.ndarray = dataclasses.field(repr=False)


def optimise(
    twin: Twin,
    posterior: xr.DataTree,
    future: Telemetry,
    controls: Mapping[str, Control],
    *,
    minimise: str | None = None,
    maximise: str | None = None,
    subject_to: Sequence[str] = (),
    seed: int,
    initial: Start | None = None,
    draws: int | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> Policy:
    """Choose controls so that a quantity is least or most under a posterior, and constraints are kept.

    `min_c S[q(c, θ)]` over the bounds of c, with θ from the posterior and S the mean, a quantile, or the CVaR, the mean
    of the worst draws (R. T. Rockafellar, S. Uryasev, 2000, doi:10.21314/JOR.2000.038), subject to constraints on means
    and probabilities.

    Posterior draws are parted into three. On the first, SLSQP (D. Kraft, 1988) finds controls with derivatives through
    the twin; quantiles are smooth averages of order statistics (F. E. Harrell, C. E. Davis, 1982,
    doi:10.1093/biomet/69.3.635). On the second, the policy is moved along the line from there to where tighter
    constraints lead, to where the share of draws that violate a chance constraint, the next draw counted as one that
    does, is what is allowed: over all draws that there might be, that is its probability (A. N. Angelopoulos et al.,
    2022, doi:10.48550/arXiv.2208.02814). The third judges.

    Controls act from the first time of `future` on, where each draw is where it is in the baseline.

    Args:
        twin: The twin that was calibrated, with the quantities that goal and constraints are about.
        posterior: As `calibrate` returned it.
        future: Times and inputs of the baseline; observations are not looked at.
        controls: By name.
        minimise: A quantity, as `"energy"`, which means its mean, `"energy.q90"`, `"energy.median"` or
            `"energy.cvar95"`, the mean of its largest 5 %.
        maximise: Likewise; `cvar95` is then the mean of its smallest 5 %.
        subject_to: Constraints as expectations of scenarios are written, as `"P(indoor < 16 degC) <= 0.05"`,
            `"energy.q90 <= 420 kWh"`, `"energy <= 420 kWh"` of a mean, `"cost < baseline.cost with P >= 0.9"`.
        seed: Determines everything random.
        initial: Where the future starts, as of `predict`.
        draws: About how many posterior draws are used in all; by default 4,000, or all there are.
        device: `"cpu"`, `"gpu"`, or None for JAX's default.
        progress: Where progress is shown; by default on a terminal only.

    Raises:
        InvalidSetting: If controls, goal or constraints do not fit the twin, or so few draws cannot promise a level.
        InvalidArtifact: If the posterior belongs to another twin.
        InvalidTelemetry: If the future does not fit.
    """
    check_belongs(twin, posterior)
    check_restart(twin, "Controls cannot be chosen")
    goal = read_goal(twin, minimise, maximise)
    read = [read_expectation(text, twin) for text in subject_to]
    asked_of = dataclasses.replace(
        twin, quantities={**twin.quantities, **{n: q for _, new in read for n, q in new.items()}}
    )
    limits = [constraint_of(one) for one, _ in read]
    _check_solved(asked_of, [goal.quantity, *(one.quantity for one, _ in read)])
    bare = [name for name in twin.observations if name not in twin.inputs]
    future = future.with_table(future.table.drop(columns=bare, errors="ignore"))
    knobs = _knobs(twin, controls, future)
    asked = WhatIf(asked_of, posterior, future, initial, seed, draws, progress, device)
    computation = computing(LOWER, seed=seed, device=device, progress=progress)
    with computation as shown:
        posed = _posed(asked, knobs, goal, limits)
        with shown.phase("search", "searching controls", TURNS) as phase:
            found = searched(posed.problem, phase)
        with shown.phase("levels", "setting levels", TURNS) as phase:
            chosen = levelled(posed.problem, found, phase)
    return _told(asked, twin, posed, chosen, subject_to, controls)


# What is asked: goal, constraints, controls.


def _check_solved(twin: Twin, names: Sequence[str]) -> None:
    """Refuse quantities that are no smooth functions of controls."""
    wrong = [name for name in names if isinstance(twin.quantities[name], FromRows)]
    if wrong:
        raise InvalidSetting(
            f"`{wrong[0]}` is made of rows, and policies are about quantities that are solved for.",
            expected="`bt.Integral`, `bt.Mean`, `bt.Max`, `bt.Min`, `bt.TimeWhere`, `bt.LongestWhere`, `bt.FirstTime`",
            received="`bt.FromRows`",
            advice="Use one of these.",
        )


class Knob(NamedTuple):
    """One number that is chosen: of a control, or of one stretch of it."""

    name: str
    control: Control
    begin: Any
    end: Any

    def words(self, value: float, future: Telemetry) -> str:
        """What is chosen, in words."""
        sign = {"value": "", "scale": "× ", "shift": "+ "}[self.control.by]
        when = "" if self.control.daily is None else f" from {self.control.daily[0]} to {self.control.daily[1]}"
        when += "" if self.begin is None else f" from {future.shown(future.moment(self.begin, 'start'))} on"
        unit = f" {future.units[self.control.of]}" if sign != "× " and future.units.get(self.control.of) else ""
        return f"{self.name}: {self.control.of} {sign}{number(value, 4)}{unit}{when}"


def _knobs(twin: Twin, controls: Mapping[str, Control], future: Telemetry) -> list[Knob]:
    """All numbers that are chosen."""
    told = [event for event, spec in twin.events.items() if spec.kind == "telemetry"]
    driven, free = [*twin.inputs, *told], [name for name in twin.parameters if name not in twin.derived]
    found = []
    for name, control in controls.items():
        low, high = control.between
        if control.of not in (*driven, *free) or not -math.inf < low < high < math.inf:
            raise InvalidSetting(
                f"Control `{name}` cannot be chosen.",
                expected=f"`of` one of {', '.join(f'`{one}`' for one in (*driven, *free))}, and `between` two numbers, "
                "the smaller one first",
                received=f"`{control.of}` between {low:g} and {high:g}",
                advice="Correct its name or its bounds.",
            )
        timed = control.by != "value" or any((control.start, control.end, control.daily, control.every))
        if control.of in free and timed:
            raise InvalidSetting(
                f"Control `{name}` is of a parameter, which is one number for all times.",
                expected="`of` and `between` alone",
                received=", ".join(key for key in ("by", "start", "end", "daily", "every") if getattr(control, key)),
                advice="Make it an input of the twin.",
            )
        if control.of in driven and control.of not in future.table.columns:
            raise InvalidSetting(
                f"The future has no column for control `{name}`.",
                expected=f"a column `{control.of}`",
                received=", ".join(f"`{one}`" for one in future.table.columns),
                advice="Give it one; of an event, with a number in each row at which it happens.",
            )
        found += _stretches(name, control, future)
    if not found:
        raise InvalidSetting(
            "There is nothing to choose.",
            expected='`controls` such as `{"power": bt.Control("heating", between=(0.0, 1000.0))}`',
            received="none",
            advice="Name what can be chosen.",
        )
    return found


def _stretches(name: str, control: Control, future: Telemetry) -> list[Knob]:
    """A control, or the stretches of its schedule."""
    if control.every is None:
        return [Knob(name, control, control.start, control.end)]
    times = future.table.index
    first = times[0] if control.start is None else future.moment(control.start, "start")
    last = times[-1] if control.end is None else future.moment(control.end, "end")
    length: Any = pd.Timedelta(control.every) if future.dated else float(control.every)
    num = math.ceil((last - first) / length - 1e-9) if length > 0 * length else 0
    if not 1 <= num <= len(times):
        raise InvalidSetting(
            f"`every` of control `{name}` makes no schedule.",
            expected="a span of time that is shorter than the future, and no shorter than its rows are apart",
            received=f"{control.every}",
            advice="Correct it.",
        )
    begins = [first + place * length for place in range(num)]
    ends = [*begins[1:], control.end]
    return [Knob(f"{name} {place + 1}", control, *both) for place, both in enumerate(zip(begins, ends, strict=True))]


def _tables(knobs: Sequence[Knob], twin: Twin, future: Telemetry, values: Any) -> Telemetry:
    """The future as it is under some values of the controls; of an event, where it happens anyway."""
    table = future.table.copy()
    for knob, value in zip(knobs, values, strict=True):
        column = knob.control.of
        if column in twin.parameters:
            continue
        settings: dict[str, Any] = {"start": knob.begin, "end": knob.end, "daily": knob.control.daily}
        settings[knob.control.by] = float(value)
        change = InputChange(**settings)
        new = changed_column(table[column], change, future, f"control `{knob.name}`")
        table[column] = new.where(table[column].notna()) if column in twin.events else new
    return future.with_table(table)


class Posed(NamedTuple):
    """What is searched.

    Attributes:
        problem: The problem, on the draws that search and set levels.
        knobs: What its choices are.
        judged: Numbers of the draws of each chain that judge.
    """

    problem: PolicyProblem
    knobs: Sequence[Knob]
    judged: np.ndarray


def _posed(asked: WhatIf, knobs: Sequence[Knob], goal: Goal, limits: Sequence[Constraint]) -> Posed:
    """The problem, and what belongs to it."""
    twin, group = asked.twin, asked.posterior["posterior"].to_dataset()
    chains, num = group.sizes["chain"], group.sizes["draw"]
    kept = thinned(chains, num, DRAWS if asked.draws is None else asked.draws)
    quiet = asked._replace(
        twin=dataclasses.replace(twin, quantities={}),
        posterior=with_draws(asked.posterior, kept),
        future=asked.future.with_table(asked.future.table.iloc[:1]),
        draws=chains * len(kept),
    )
    first = predicted(quiet, Scenario(), BASELINE, None)
    names = {goal.quantity, *(one.quantity for one in limits)}
    needed = {name: quantity for name, quantity in twin.quantities.items() if name in names}
    begun = anew(twin)
    density = density_from(asked, asked.future, begun)[2]
    values = changed_values(asked, Scenario(), POLICY, density, group.isel(draw=kept), first)
    paths = {str(name): own.to_numpy() for name, own in first["predictions"].data_vars.items() if "_state" in str(name)}
    paths = {name: own.reshape(-1, own.shape[-1]) for name, own in paths.items()}

    def at(future: Telemetry) -> Followable:
        return followable(begun, needed, lambda own: density_from(asked, future, own)[2], values, paths)

    low, high = np.transpose([knob.control.between for knob in knobs])
    prepared = at(_tables(knobs, twin, asked.future, low))
    others = [
        at(_tables(knobs, twin, asked.future, np.where(np.arange(len(low)) == k, high, low))) for k in range(len(low))
    ]
    courses = _courses(knobs, twin, prepared, others)
    baseline: Mapping[str, np.ndarray] = {}
    if any(isinstance(one.right, str) for one in limits):
        still = courses._replace(**{name: np.zeros_like(getattr(courses, name)) for name in COURSES}, parameters={})
        baseline, _ = quantities_along(at(asked.future), still, values, np.zeros(len(knobs)), slopes=False)
    order = np.arange(chains * len(kept)).reshape(chains, -1)
    ends = [max(1, min(len(kept) // 6, SEARCHED // chains)), max(2, int(LEVELLED * len(kept)))]
    parts = [part.T.ravel() for part in np.split(order, ends, axis=1)]
    for one in limits:
        check_promised(one, len(parts[1]))
    between = np.stack([low, high])
    problem = PolicyProblem(prepared, courses, values, baseline, between, goal, limits, parts[0], parts[1])
    return Posed(problem, knobs, kept[ends[1] :])


def with_draws(posterior: xr.DataTree, kept: np.ndarray) -> xr.DataTree:
    """The posterior with some draws of each chain alone."""
    groups = {name: node.to_dataset() for name, node in posterior.children.items()}
    found = xr.DataTree.from_dict(groups | {"posterior": groups["posterior"].isel(draw=kept)})
    found.attrs = posterior.attrs
    return found


COURSES = ("coefficients", "inputs", "amounts")
"""What of a grid choices change."""


def _courses(knobs: Sequence[Knob], twin: Twin, low: Followable, highs: Sequence[Followable]) -> Courses:
    """What choices do, from what each of them alone does at its upper bound."""
    base, grids = low.density.filled.grid, [one.density.filled.grid for one in highs]
    if any(np.shape(base.edges) != np.shape(one.edges) or (base.edges != one.edges).any() for one in grids):
        raise InvalidSetting(
            f"Twin `{twin.name}` is to be solved at other times under other values of the controls.",
            expected="equations without short pulses in time whose height the controls set",
            received="pulses between rows",
            advice="Give the future rows at these times.",
        )
    with np.errstate(invalid="ignore"):
        changes = {
            name: np.nan_to_num(np.stack([getattr(one, name) - getattr(base, name) for one in grids]))
            for name in COURSES
        }
    lines = {}
    for place, knob in enumerate(knobs):
        if knob.control.of in twin.parameters:
            lowest, highest = knob.control.between
            lines[knob.control.of] = np.concatenate([[lowest], np.eye(len(knobs))[place] * (highest - lowest)])
    return Courses(**changes, parameters=lines)


# What is told of a policy, by the third draws.


def _told(
    asked: WhatIf,
    twin: Twin,
    posed: Posed,
    chosen: Chosen,
    texts: Sequence[str],
    controls: Mapping[str, Control],
) -> Policy:
    """All that is told."""
    (problem, knobs, judged), future = posed, asked.future
    values = problem.chosen(chosen.choices)
    best = _as_scenario(knobs, twin, future, values, texts)
    own = with_draws(asked.posterior, judged)
    settings: dict[str, Any] = {"initial": asked.initial, "device": asked.device, "progress": asked.progress}
    num = own["posterior"].sizes["chain"] * len(judged)
    outcome = scenario(twin, own, future, {POLICY: best}, seed=asked.seed, draws=num, **settings)
    rows = outcome["expectations"].to_dataset().to_dataframe().to_dict("records") if texts else []
    keys = {"achieved": "value", **{key: key for key in ("text", "verdict", "lower", "upper", "limit")}}
    told = [{key: row[column] for key, column in keys.items()} for row in rows]
    constraints = tuple(
        KeptConstraint(**one, binds=bool(on))  # type: ignore[arg-type]
        for one, on in zip(told, chosen.binds, strict=True)
    )
    drawn = [outcome[f"{name}/predictions"][problem.goal.quantity].to_numpy() for name in (POLICY, BASELINE)]
    worth = _worth(drawn[0], drawn[1], problem.goal)
    numbers = dict(zip([knob.name for knob in knobs], map(float, values), strict=True))
    return Policy(
        controls={name: numbers[name] if name in numbers else _schedule(numbers, name) for name in controls},
        changes=tuple(knob.words(value, future) for knob, value in zip(knobs, values, strict=True)),
        scenario=best,
        goal=f"{'least' if problem.goal.sign > 0 else 'most'} {problem.goal.text}",
        value=worth[0],
        lower=worth[1],
        upper=worth[2],
        regret=worth[3],
        regret_lower=worth[4],
        regret_upper=worth[5],
        constraints=constraints,
        feasible=chosen.feasible,
        converged=chosen.converged,
        warnings=tuple(_warnings(posed, chosen, constraints, outcome)),
        outcome=outcome,
        judged=judged,
    )


def _schedule(numbers: Mapping[str, float], name: str) -> tuple[float, ...]:
    return tuple(value for key, value in numbers.items() if key.rpartition(" ")[0] == name)


def _as_scenario(
    knobs: Sequence[Knob], twin: Twin, future: Telemetry, values: np.ndarray, texts: Sequence[str]
) -> Scenario:
    table = _tables(knobs, twin, future, values).table
    columns = dict.fromkeys(knob.control.of for knob in knobs if knob.control.of not in twin.parameters)
    inputs = {name: InputChange(values=tuple(map(float, table[name]))) for name in columns}
    own = {k.control.of: float(v) for k, v in zip(knobs, values, strict=True) if k.control.of in twin.parameters}
    return Scenario(inputs=inputs, parameters=own, expect=tuple(texts))


RESAMPLED = 2000
"""How often draws are drawn again for the interval of a goal: B. Efron (1979), doi:10.1214/aos/1176344552."""


def _worth(own: np.ndarray, other: np.ndarray, goal: Goal) -> list[float]:
    """What a goal comes to, what the baseline loses against that, and the Monte Carlo intervals of both."""
    num = max(int(effective(own - other)), 1)
    pairs = np.stack([own.ravel(), other.ravel()])
    pairs = goal.sign * pairs[:, np.isfinite(pairs).all(axis=0)]
    if not pairs.size:
        return [math.nan] * 6
    rows = np.random.default_rng(0).integers(0, pairs.shape[1], (RESAMPLED, min(num, pairs.shape[1])))
    again = np.stack([[statistic(one[draw], goal) for draw in rows] for one in pairs])
    value, lost = statistic(pairs[0], goal), statistic(pairs[1], goal) - statistic(pairs[0], goal)
    ends = goal.sign * np.quantile(again[0], [0.025, 0.975])
    return [
        goal.sign * value,
        *map(float, np.sort(ends)),
        lost,
        *map(float, np.quantile(again[1] - again[0], [0.025, 0.975])),
    ]


def _warnings(posed: Posed, chosen: Chosen, constraints: Sequence[KeptConstraint], outcome: xr.DataTree) -> list[str]:
    """What to know before a policy is relied upon."""
    problem, knobs, _ = posed
    told = []
    if not chosen.feasible:
        for one, limit in zip(constraints, problem.limits, strict=True):
            if one.verdict != "met":
                best = number(one.achieved) if limit.allowed is None else percent(one.achieved, 1)
                told.append(
                    f"`{one.text}` cannot be kept by these controls within their bounds: {best} is the nearest."
                )
    elif not chosen.converged:
        told.append("The search did not converge: other controls may be better.")
    for knob, value in zip(knobs, problem.chosen(chosen.choices), strict=True):
        low, high = knob.control.between
        if min(value - low, high - value) < 1e-6 * (high - low):
            told.append(f"`{knob.name}` is at the end of its bounds, {number(value, 4)}.")
    failed = int(outcome[f"{POLICY}/predictions"].to_dataset().get("num_failed", xr.DataArray(0)).max())
    if failed:
        told.append(
            f"{count(failed, 'draw')} cannot be solved under the policy, and count as violating its constraints."
        )
    told += outcome.attrs[WORDS].get(POLICY, [])
    return told
