"""The search for a policy: goal and constraints of some draws, their least by SLSQP, and levels set on other draws.

It knows choices, each from 0 to 1 between its bounds, and nothing of what is chosen.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bayestwin._base.progress import Phase
from bayestwin._base.wording import percent
from bayestwin.density.quantities import Courses, Followable, quantities_along
from bayestwin.errors import InvalidSetting
from bayestwin.insight.expectations import BASELINE, Expectation
from bayestwin.model.twin import Twin

POINTS, TURNS, FAR = 8, 60, 10.0
"""Points that a search looks at before it begins, its most iterations, and how far, in standard errors of the search,
levels are set."""

KEPT = 1e-3
"""By what share of its spread a constraint may be off when a search ends."""

_GOAL = re.compile(r"(?P<name>\w+)(?:\.(?P<kind>mean|median|q\d+(?:\.\d+)?|cvar\d+(?:\.\d+)?))?")


# What is asked: goal and constraints.


class Goal(NamedTuple):
    """What is to be small, `sign` times a quantity.

    Attributes:
        text: As it was written.
        quantity: Its name.
        kind: "mean", "quantile" or "cvar".
        level: Of the quantile or the CVaR, among values that are to be small.
        sign: 1 where it is least, −1 where it is most.
    """

    text: str
    quantity: str
    kind: str
    level: float
    sign: float


class Constraint(NamedTuple):
    """A constraint: the mean, or a quantile, of `sign · (quantity − right)` is not above 0.

    Attributes:
        quantity: Its name.
        right: A number, or the quantity of the baseline it is compared with.
        sign: 1 or −1.
        allowed: The probability with which it may be above 0; None of a mean.
    """

    quantity: str
    right: float | str
    sign: float
    allowed: float | None


def read_goal(twin: Twin, minimise: str | None, maximise: str | None) -> Goal:
    """What is least or most.

    Raises:
        InvalidSetting: If it is not told, or told twice, or is about no quantity of the twin.
    """
    text = minimise if minimise is not None else maximise
    found = _GOAL.fullmatch((text or "").strip())
    if (minimise is None) == (maximise is None) or found is None or found["name"] not in twin.quantities:
        raise InvalidSetting(
            "What is to be best is not told.",
            expected="either `minimise` or `maximise`, as `energy`, `energy.q90` or `energy.cvar95`, of a quantity of "
            f"the twin: {', '.join(f'`{name}`' for name in twin.quantities) or 'it has none'}",
            received=f"minimise = {minimise!r}, maximise = {maximise!r}",
            advice="Name one quantity.",
        )
    sign, words = 1.0 if minimise is not None else -1.0, found["kind"] or "mean"
    if words == "mean":
        return Goal(str(text), found["name"], "mean", math.nan, sign)
    share = 0.5 if words == "median" else float(words.lstrip("qcvar")) / 100.0
    if not 0.0 < share < 1.0:
        raise InvalidSetting(
            f"`{words}` is no level.",
            expected="a number between 0 and 100, as in `q90` or `cvar95`",
            received=f"`{text}`",
            advice="Correct it.",
        )
    if words.startswith("cvar"):
        return Goal(str(text), found["name"], "cvar", share, sign)
    return Goal(str(text), found["name"], "quantile", share if sign > 0 else 1.0 - share, sign)


def constraint_of(one: Expectation) -> Constraint:
    """An expectation as a constraint."""
    right = one.right[1] if isinstance(one.right, tuple) else one.right
    if isinstance(one.right, tuple) and one.right[0] != BASELINE:
        raise InvalidSetting(
            "A constraint is held against a scenario that is not there.",
            expected=f"a number, or a quantity of `{BASELINE}`",
            received=f"`{one.text}`",
            advice="Policies are compared with the baseline alone.",
        )
    above = 1.0 if one.sign in (">", ">=") else -1.0
    if one.demand is None:
        return Constraint(one.quantity, right, -above, None)
    most = one.demand[0] in ("<", "<=")
    return Constraint(one.quantity, right, above if most else -above, one.demand[1] if most else 1.0 - one.demand[1])


# The problem on some draws, and its derivatives.


class Losses(NamedTuple):
    """Goal and constraints of n draws, each so that less is better.

    Attributes:
        values: Shape (1 + constraints, n); NaN where a path fails.
        slopes: Their derivatives by the k choices, shape (1 + constraints, n, k); None where they are not wanted.
    """

    values: np.ndarray
    slopes: np.ndarray | None


class PolicyProblem(NamedTuple):
    """What is searched.

    Attributes:
        prepared: What quantities are solved for by.
        courses: What choices do, each from 0 to 1 between its bounds.
        values: Draws of all sites, by name.
        baseline: Quantities of the baseline that constraints are compared with, by name; one for each draw.
        between: The least and the largest value of each choice; shape (2, k).
        goal: What is least.
        limits: The constraints.
        searched: Numbers of the draws by which controls are searched for.
        levelled: Numbers of those by which levels are set.
    """

    prepared: Followable
    courses: Courses
    values: Mapping[str, np.ndarray]
    baseline: Mapping[str, np.ndarray]
    between: np.ndarray
    goal: Goal
    limits: Sequence[Constraint]
    searched: np.ndarray
    levelled: np.ndarray

    def losses(self, choices: np.ndarray, rows: np.ndarray, *, slopes: bool = False) -> Losses:
        """Of some draws under some choices."""
        own = {name: v[rows] for name, v in self.values.items()}
        drawn, changes = quantities_along(self.prepared, self.courses, own, choices, slopes=slopes)
        signs: list[tuple[str, float, Any]] = [(self.goal.quantity, self.goal.sign, 0.0)]
        for one in self.limits:
            right = self.baseline[one.right][rows] if isinstance(one.right, str) else one.right
            signs.append((one.quantity, one.sign, right))
        values = np.stack([sign * (drawn[name] - right) for name, sign, right in signs])
        told = np.stack([sign * changes[name] for name, sign, _ in signs]) if slopes else None
        return Losses(values, told)

    def chosen(self, choices: np.ndarray) -> np.ndarray:
        """Values of the controls."""
        low, high = self.between
        return low + np.clip(choices, 0.0, 1.0) * (high - low)


def check_promised(one: Constraint, num: int) -> None:
    """Refuse a level that so many draws cannot promise."""
    if one.allowed is None or (one.allowed < 1.0 and most_bad(one.allowed, num) >= 0):
        return
    raise InvalidSetting(
        f"So few draws cannot promise a level of {percent(one.allowed, 1)} for `{one.quantity}`.",
        expected=f"a probability between 0 and 1 of which {num:,} draws, those that set levels, tell",
        received=f"{one.allowed:g}",
        advice="Calibrate with more `num_samples`, pass more `draws`, or allow more.",
    )


def most_bad(allowed: float, num: int) -> int:
    """How many of so many draws may violate, if the next one counts as one that does."""
    return math.floor(allowed * (num + 1) + 1e-9) - 1


def statistic(values: np.ndarray, goal: Goal) -> float:
    """What a goal comes to, of draws of what is to be small; shape (n,)."""
    if goal.kind == "quantile":
        return float(np.quantile(values, goal.level))
    return float(_weights(goal.kind, goal.level, len(values)) @ np.sort(values))


# The search, on the first draws: goal and quantiles as weighted averages of order statistics.


def _weights(kind: str, level: float, num: int) -> np.ndarray:
    """Of values in increasing order, shape (num,)."""
    import scipy.stats  # takes a while to import

    if kind == "mean":
        return np.full(num, 1.0 / num)
    ends = np.arange(num + 1) / num
    if kind == "cvar":
        return np.diff(np.maximum(ends - level, 0.0)) / (1.0 - level)
    return np.diff(scipy.stats.beta((num + 1) * level, (num + 1) * (1.0 - level)).cdf(ends))


def _averaged(values: np.ndarray, slopes: np.ndarray, kind: str, level: float) -> tuple[float, np.ndarray]:
    """A statistic of n draws and its derivatives, from theirs, shape (n, k); paths that fail are left out."""
    there = ~np.isnan(values)
    values, slopes = _bounded(values[there]), np.nan_to_num(slopes[there])
    order, weights = np.argsort(values, kind="stable"), _weights(kind, level, there.sum())
    return float(weights @ values[order]), weights @ slopes[order]


def _bounded(values: np.ndarray) -> np.ndarray:
    """What is infinite, as times that never come, at the ends of what is finite."""
    finite = values[np.isfinite(values)]
    return np.clip(values, finite.min(), finite.max()) if finite.size else np.sign(values)


class Surrogate:
    """Goal and constraints as smooth functions of the choices, each divided by its own scale."""

    def __init__(self, problem: PolicyProblem, points: np.ndarray, phase: Phase) -> None:
        """Scales are those at some points, shape (p, k), by few of the draws."""
        self.problem, self.phase = problem, phase
        self.kinds = [(problem.goal.kind, problem.goal.level)]
        self.kinds += [
            ("mean", math.nan) if o.allowed is None else ("quantile", 1.0 - o.allowed) for o in problem.limits
        ]
        self.known: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
        few = problem.searched[: max(len(problem.searched) // 2, 1)]
        seen = [problem.losses(point, few, slopes=True) for point in points]
        self.scales = np.ones(len(self.kinds))
        table = np.array([self._of(one)[0] for one in seen])
        for row in range(len(self.kinds)):
            values = np.stack([one.values[row] for one in seen])
            spread = max(float(np.std(_bounded(values[~np.isnan(values)]))), float(np.ptp(table[:, row])))
            self.scales[row] = spread if math.isfinite(spread) and spread > 0.0 else 1.0
        worst = (table[:, 1:] / self.scales[1:]).max(axis=1, initial=0.0)
        # the best of those that keep all constraints, else that which is nearest to it
        self.start = points[np.lexsort((table[:, 0], np.round(np.maximum(worst, 0.0), 6)))[0]]

    def _of(self, losses: Losses) -> tuple[np.ndarray, np.ndarray]:
        assert losses.slopes is not None
        rows = zip(losses.values, losses.slopes, self.kinds, strict=True)
        found = [_averaged(values, slopes, *kind) for values, slopes, kind in rows]
        return np.array([one[0] for one in found]), np.stack([one[1] for one in found])

    def __call__(self, choices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values, shape (1 + constraints,), and derivatives, shape (1 + constraints, k)."""
        choices = np.clip(choices, 0.0, 1.0)
        key = choices.tobytes()
        if key not in self.known:
            values, slopes = self._of(self.problem.losses(choices, self.problem.searched, slopes=True))
            self.known[key] = values / self.scales, slopes / self.scales[:, None]
            self.phase.advance(1)
        return self.known[key]

    def least(self, start: np.ndarray, margins: np.ndarray) -> tuple[np.ndarray, bool]:
        """The best choices with each constraint so much tighter, and whether they were found."""
        return self._solved(start, lambda x: self(x)[0][0], lambda x: self(x)[1][0], lambda x: self(x)[0][1:] + margins)

    def nearest(self, start: np.ndarray) -> np.ndarray:
        """The choices with which the constraint that is violated most is violated least."""
        begun = np.append(start, max(self(start)[0][1:].max(initial=0.0), 0.0))
        unit = np.eye(len(begun))[-1]
        found, _ = self._solved(begun, lambda x: x[-1], lambda _: unit, lambda x: self(x[:-1])[0][1:] - x[-1])
        return found[:-1]

    def _solved(self, start: np.ndarray, goal: Any, slope: Any, above: Any) -> tuple[np.ndarray, bool]:
        """Least `goal` where nothing that `above` gives is above 0, by SLSQP."""
        import scipy.optimize

        num, k = len(self.kinds) - 1, self.problem.between.shape[1]

        def falling(x: np.ndarray) -> np.ndarray:
            return -np.column_stack([self(x[:k])[1][1:], -np.ones((num, len(x) - k))])

        bounds = [(0.0, 1.0)] * k + [(0.0, None)] * (len(start) - k)
        kept: Any = [{"type": "ineq", "fun": lambda x: -above(x), "jac": falling}] if num else []
        settings = {"maxiter": TURNS, "ftol": 1e-8}
        found = scipy.optimize.minimize(
            goal, start, jac=slope, bounds=bounds, constraints=kept, method="SLSQP", options=settings
        )
        return np.clip(found.x, 0.0, [high or math.inf for _, high in bounds]), bool(found.success)


class Searched(NamedTuple):
    """Where a search ends.

    Attributes:
        choices: Shape (k,).
        direction: Where constraints lead that are tighter by `margins`; shape (k,), 0 where none binds.
        margins: Standard errors of the statistics of all constraints; shape (constraints,).
        converged: Whether it ended by itself.
    """

    choices: np.ndarray
    direction: np.ndarray
    margins: np.ndarray
    converged: bool


def searched(problem: PolicyProblem, phase: Phase) -> Searched:
    """The best choices on the first draws."""
    import scipy.stats

    k = problem.between.shape[1]
    sequence = scipy.stats.qmc.Sobol(k, rng=np.random.default_rng(0))
    points = np.concatenate([np.full((1, k), 0.5), sequence.random(POINTS)])
    smooth = Surrogate(problem, points, phase)
    none = np.zeros(len(problem.limits))
    choices, converged = smooth.least(smooth.start, none)
    if smooth(choices)[0][1:].max(initial=0.0) > KEPT:
        near = smooth.nearest(choices)
        again, converged = smooth.least(near, none)
        kept = smooth(again)[0][1:].max(initial=0.0) <= KEPT
        choices = again if kept else near
    losses = problem.losses(choices, problem.searched).values[1:]
    margins = np.array([_standard_error(own, kind) for own, kind in zip(losses, smooth.kinds[1:], strict=True)])
    margins = np.maximum(margins, KEPT * smooth.scales[1:])
    binding = smooth(choices)[0][1:] > -KEPT
    direction = np.zeros(k)
    if binding.any():
        tighter = margins / smooth.scales[1:] * binding
        further, found = smooth.least(choices, tighter)
        slopes = smooth(choices)[1][1:][binding]
        straight = -np.linalg.pinv(slopes) @ tighter[binding]
        direction = further - choices if found and np.abs(further - choices).max() > 0.0 else straight
    return Searched(choices, direction, margins, converged)


def _standard_error(values: np.ndarray, kind: tuple[str, float]) -> float:
    """Of the mean or a quantile of draws."""
    finite = values[np.isfinite(values)]
    if finite.size < 2:
        return 0.0
    if kind[0] == "mean":
        return float(finite.std() / math.sqrt(finite.size))
    half = math.sqrt(kind[1] * (1.0 - kind[1]) / finite.size)
    ends = np.clip([kind[1] - half, kind[1] + half], 0.0, 1.0)
    return float(np.diff(np.quantile(finite, ends))[0] / 2.0)


# Levels, on the second draws: how far along the line each constraint is just kept.


class Chosen(NamedTuple):
    """A policy whose levels are set.

    Attributes:
        choices: Shape (k,).
        binds: Whether each constraint does; shape (constraints,).
        feasible: Whether all are kept.
        converged: Whether the search ended by itself.
    """

    choices: np.ndarray
    binds: np.ndarray
    feasible: bool
    converged: bool


def levelled(problem: PolicyProblem, found: Searched, phase: Phase) -> Chosen:
    """The policy on the line through the search's end that just keeps all constraints."""
    import scipy.optimize

    known: dict[float, np.ndarray] = {}

    def at(far: float) -> np.ndarray:
        return np.clip(found.choices + far * found.direction, 0.0, 1.0)

    def off(far: float) -> float:
        if far not in known:
            values = problem.losses(at(far), problem.levelled).values[1:]
            own = [_off(one, limit) for one, limit in zip(values, problem.limits, strict=True)]
            known[far] = np.clip(np.array(own) / found.margins, -1e6, 1e6)
            phase.advance(1)
        return float(known[far].max(initial=-math.inf))

    begin = off(0.0)
    if problem.limits and found.direction.any() and begin != 0.0:
        side, far = math.copysign(1.0, begin), min(abs(begin) + 0.5, FAR)
        while (off(side * far) > 0.0) == (begin > 0.0) and far < FAR:
            far = min(2.0 * far, FAR)
        if (off(side * far) > 0.0) != (begin > 0.0):
            scipy.optimize.brentq(off, *sorted((0.0, side * far)), xtol=0.02, maxiter=20, disp=False)
    kept = [far for far, own in known.items() if own.max(initial=-math.inf) <= 0.0]
    far = min(kept) if kept else min(known, key=off)
    return Chosen(at(far), known[far] > -1.0, bool(kept), found.converged)


def _off(values: np.ndarray, limit: Constraint) -> float:
    """How far the mean, or the order statistic that a level is about, is above 0."""
    if limit.allowed is None:
        return float(np.nanmean(_bounded(values)))
    ordered = np.sort(np.where(np.isnan(values), np.inf, values))
    return float(ordered[len(ordered) - 1 - most_bad(limit.allowed, len(ordered))])
