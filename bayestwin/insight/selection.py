"""Which options to choose: what they tell of targets, the criteria of optimal design, and choice within a budget.

V. V. Fedorov (1972), *Theory of Optimal Experiments* (exchange). A. C. Atkinson, A. N. Donev & R. D. Tobias (2007),
*Optimum Experimental Designs, with SAS* (D-, A-, E- and c-optimality).
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bayestwin.density.density import Density
from bayestwin.errors import InvalidSetting
from bayestwin.insight.candidates import Continuation, Option
from bayestwin.insight.information import has_memory, information_of_parts
from bayestwin.insight.profile import scaled_inverse
from bayestwin.insight.ties import Coordinates
from bayestwin.model.dependence import parameters
from bayestwin.model.tracing import namespace

# What a design is to narrow: quantities by name, or functions of parameters and of what is predicted.

type Wanted = Sequence[str] | Mapping[str, Any] | None
"""Names of quantities; or by name functions `(p)` or `(p, y)`, each perhaps in a pair with its unit."""


class Targets(NamedTuple):
    """What is to be narrowed, m numbers.

    Attributes:
        names: Of each.
        units: Of each.
        of: z, shape (d,) → all of them, shape (m,).
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    of: Callable[[Array], Array]


def targets_of(density: Density, coordinates: Coordinates, wanted: Wanted, rows: slice) -> Targets:
    """What is to be narrowed, as functions of z.

    Args:
        density: Whose quantities they are, with the times at which functions see what is predicted.
        coordinates: Those of z.
        wanted: What the user asks for; by default all parameters, or all quantities where none is inferred.
        rows: Which of the times these are.

    Raises:
        InvalidSetting: If a name is unknown, or a function is none.
    """
    if isinstance(wanted, Mapping):
        pairs = {str(name): _with_unit(name, one) for name, one in wanted.items()}
        own = {name: _checked(density, name, function) for name, (function, _) in pairs.items()}
        units = tuple(unit for _, unit in pairs.values())

        def functions(z: Array) -> Array:
            values = density.constrain(z)
            p = parameters(density.twin, density.complete(values))
            y = _seen(density, values, rows) if any(two for _, two in own.values()) else None
            found = [function(p, y) if two else function(p) for function, two in own.values()]
            return jnp.stack([jnp.asarray(one, float).reshape(()) for one in found])

        _try(density, functions, tuple(pairs))
        return Targets(tuple(pairs), units, functions)
    kinds = {site.name: site.kind for site in density.sites}
    usual = [n for n, site in zip(coordinates.names, coordinates.sites, strict=True) if kinds[site] == "parameter"]
    names = list(wanted) if wanted is not None else usual or list(coordinates.names)
    unknown = [name for name in names if name not in coordinates.names]
    if unknown or not names:
        raise InvalidSetting(
            f"There is no `{unknown[0]}` to narrow." if unknown else "There is nothing to narrow.",
            expected=", ".join(f"`{name}`" for name in coordinates.names),
            received=", ".join(f"`{name}`" for name in names) or "no name",
            advice="Name quantities with a prior as they are called in the posterior, or give functions by name: "
            '`of={"half_life": lambda p: jnp.log(2.0) / p.rate}`.',
        )
    places = np.array([coordinates.names.index(name) for name in names])

    def quantities(z: Array) -> Array:
        values = density.constrain(z)
        return jnp.concatenate([jnp.ravel(values[site.name]) for site in density.sites])[places]

    return Targets(tuple(names), tuple(coordinates.units[place] for place in places), quantities)


def _with_unit(name: str, one: Any) -> tuple[Any, str]:
    """A function and its unit, of one that stands alone or in a pair."""
    function, unit = one if isinstance(one, tuple) and len(one) == 2 else (one, "")
    if callable(function) and isinstance(unit, str):
        return function, unit
    raise InvalidSetting(
        f"`of` does not say what `{name}` is.",
        expected="a function `(p)` or `(p, y)`, or a pair of one and its unit",
        received=repr(one),
        advice="For quantities that have a prior a list of their names is enough.",
    )


def _checked(density: Density, name: str, function: Callable[..., Any]) -> tuple[Callable[..., Any], bool]:
    """A function, and whether it looks at what is predicted."""
    num = len(inspect.signature(function).parameters)
    if num == 1 or (num == 2 and not density.experiments):
        return function, num == 2
    raise InvalidSetting(
        f"`of` cannot compute `{name}`.",
        expected="a function of parameters `(p)`" + ("" if density.experiments else ", or `(p, y)`"),
        received=f"one of {num} arguments" + (", and several experiments" if density.experiments else ""),
        advice="`p` has the parameters, and `y` times `t`, states and observations without noise, at the times of "
        "`future`.",
    )


def _seen(density: Density, values: Mapping[str, Array], rows: slice) -> Any:
    """Times, states and observations without noise, as functions of a trajectory see them."""
    predicted, twin = density.predict(values), density.twin
    found: dict[str, Any] = {"t": jnp.asarray(density.bound.times)[rows]}
    for name, place in twin.layout.places.items():
        if name in twin.states:
            found[name] = predicted.states[:, place].reshape(-1, *twin.states[name].shape)[rows]
    found |= {name: own[rows] for name, own in predicted.noise_free.items()}
    return namespace("signals", tuple(found))(*found.values())


def _try(density: Density, functions: Callable[[Array], Array], names: Sequence[str]) -> None:
    """Refuse functions that do not run, before anything is computed."""
    try:
        jax.eval_shape(functions, jax.ShapeDtypeStruct((sum(density.priors.sizes),), float))
    except Exception as reason:
        raise InvalidSetting(
            f"`of` cannot compute {', '.join(f'`{name}`' for name in names)}.",
            expected="functions of JAX that give one number each",
            received=f"{type(reason).__name__}: {str(reason).splitlines()[0]}",
            advice="`p` has the parameters; `y` has times `t`, states and noise-free observations, one entry a time.",
        ) from reason


# What options add, and the covariance of targets with them.

type Added = Callable[[np.ndarray], np.ndarray]
"""Which of c options each of s sets has, (s, c) → what it adds to the information at each of n points, (s, n, d, d)."""


class Information(NamedTuple):
    """Fisher information at n points.

    Attributes:
        before: Of the telemetry that there is; shape (n, d, d).
        added: What sets of options add to that.
        good: At which of the points asked for it can be computed.
    """

    before: np.ndarray
    added: Added
    good: np.ndarray


def informed_by(plans: Sequence[Continuation], options: Sequence[Option], z: np.ndarray, seed: int) -> Information:
    """What there is, and sets of options, say at points.

    Args:
        plans: The plans.
        options: Parts of them.
        z: Points; shape (n, d).
        seed: Determines imagined observations.
    """
    told = [information_of_parts(plan.after, seed) for plan in plans]
    numbers = [np.array([i for i, one in enumerate(options) if one.plan == n]) for n in range(len(plans))]
    past = [{name: np.isfinite(own) for name, own in plan.before.bound.observations.items()} for plan in plans]
    if not has_memory(plans[0].after):
        each = np.zeros((len(options), len(z), z.shape[1], z.shape[1]))
        before = each[0]
        for own, tell, there in zip(numbers, told, past, strict=True):
            parts = np.swapaxes(tell(z, _stacked([there, *[options[i].seen for i in own]])), 0, 1)
            before, each[own] = parts[0], parts[1:]
        good = np.isfinite(each).all(axis=(0, 2, 3))
        each = each[:, good]
        return Information(before[good], lambda sets: np.tensordot(sets.astype(float), each, 1), good)
    known = [tell(z, _stacked([there]))[:, 0] for tell, there in zip(told, past, strict=True)]
    good = np.isfinite(np.stack(known)).all(axis=(0, 2, 3))

    def together(sets: np.ndarray) -> np.ndarray:
        found = np.zeros((len(sets), int(good.sum()), z.shape[1], z.shape[1]))
        for own, tell, there, before in zip(numbers, told, past, known, strict=True):
            rows = np.flatnonzero(sets[:, own].any(axis=1))
            for first in range(0, len(rows), len(options)):
                some = rows[first : first + len(options)]
                parts = [_union(there, [options[i].seen for i in own if sets[row, i]]) for row in some]
                # as many as there are options, whatever is asked: one compilation
                filled = [parts[i % len(parts)] for i in range(len(options))]
                whole = tell(z[good], _stacked(filled))[:, : len(some)] - before[good][:, None]
                found[some] += np.swapaxes(whole, 0, 1)
        return found

    return Information(known[0][good], together, good)


def _stacked(seen: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.stack([one[name] for one in seen]) for name in seen[0]}


def _union(before: Mapping[str, np.ndarray], seen: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.any([own, *[one[name] for one in seen]], axis=0) for name, own in before.items()}


def spread_after(precision: np.ndarray, added: np.ndarray, slopes: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Covariances of targets with more observations, `G (P + I)⁻¹ Gᵀ` at each of n points; shape (s, n, m, m).

    Args:
        precision: P, of z now; shape (n, d, d).
        added: I, of each of s sets; shape (s, n, d, d).
        slopes: G; shape (n, m, d).
        spread: Scale of z, for the arithmetic alone; shape (d,).
    """
    unit = spread[:, None] * spread[None]
    return slopes @ (scaled_inverse((precision + added) * unit) * unit) @ np.swapaxes(slopes, -2, -1)


# The criteria: numbers that sum up a covariance of targets V, or their precision V⁻¹, averaged over points.

CRITERIA = {
    "D": "log10 det V⁻¹, the mean over draws: the more, the smaller the region that the targets lie in",
    "A": "log10 trace V, of the mean over draws: the less, the smaller the variances of the targets",
    "E": "log10 of the least eigenvalue of V⁻¹, the mean over draws: the more, the better the worst direction is known",
}
"""What each says. With a single target all of them order options alike, which is c-optimality."""


def criteria_of(covariances: np.ndarray) -> dict[str, np.ndarray]:
    """Each criterion, by name.

    Args:
        covariances: V; shape (…, n, m, m) with the n points over which it is averaged.
    """
    along = np.maximum(np.linalg.eigvalsh(covariances), np.finfo(float).tiny)
    with np.errstate(divide="ignore"):
        return {
            "D": -np.log10(along).sum(axis=-1).mean(axis=-1),
            "A": np.log10(along.sum(axis=-1).mean(axis=-1)),
            "E": -np.log10(along[..., -1]).mean(axis=-1),
        }


def loss_of(covariances: np.ndarray, criterion: str) -> np.ndarray:
    """What is to be made small."""
    value = criteria_of(covariances)[criterion]
    return value if criterion == "A" else -value


# Choice within a budget: greedily by what is gained for the cost, then by exchanging one for another.

ROUNDS = 20
"""Exchanges at most."""

type SetLoss = Callable[[np.ndarray], np.ndarray]
"""Which of c options each of s sets has, (s, c) → what is to be made small, (s,)."""


def choose_within(loss: SetLoss, costs: np.ndarray, plans: np.ndarray, budget: float) -> list[int]:
    """Options that together make the loss small, the most rewarding first.

    Args:
        loss: Of sets of options.
        costs: Of each option; shape (c,).
        plans: Number of the plan that each is part of; all that are chosen are of one.
        budget: The sum of costs at most.
    """
    single = loss(np.eye(len(costs), dtype=bool))
    best: list[int] = []
    least = np.inf
    for plan in np.unique(plans):
        own = np.flatnonzero((plans == plan) & (costs <= budget))
        if not own.size:
            continue
        # greedy choice by reward for the cost can miss one that is dear and tells the most
        for start in ([], [int(own[np.argmin(single[own])])]):
            found = _exchanged(loss, costs, own, budget, _filled(loss, costs, own, budget, start))
            value = float(loss(_as_sets([found], len(costs)))[0])
            if value < least:
                best, least = found, value
    return best


def _filled(loss: SetLoss, costs: np.ndarray, own: np.ndarray, budget: float, start: Sequence[int]) -> list[int]:
    """What gains most for its cost is added, one after the other, while the budget lasts and something is gained."""
    found = list(start)
    while True:
        left = budget * (1.0 + 1e-12) - costs[found].sum()
        rest = [int(i) for i in own if i not in found and costs[i] <= left]
        if not rest:
            return found
        values = loss(_as_sets([found, *[[*found, i] for i in rest]], len(costs)))
        gains = (values[0] - values[1:]) / costs[rest]
        if not gains.max() > 0.0:
            return found
        found.append(rest[int(np.argmax(gains))])


def _exchanged(loss: SetLoss, costs: np.ndarray, own: np.ndarray, budget: float, start: list[int]) -> list[int]:
    """One is put in the place of another as long as that makes the loss smaller, and what is left over is used."""
    found = start
    for _ in range(ROUNDS):
        limit = budget * (1.0 + 1e-12) - costs[found].sum()
        pairs = [(k, int(i)) for k in range(len(found)) for i in own if i not in found]
        swaps = [[*found[:k], i, *found[k + 1 :]] for k, i in pairs if costs[i] - costs[found[k]] <= limit]
        if not swaps:
            break
        values = loss(_as_sets([found, *swaps], len(costs)))
        if not values[1:].min() < values[0] - 1e-12 * abs(values[0]):
            break
        found = _filled(loss, costs, own, budget, swaps[int(np.argmin(values[1:]))])
    return found


def _as_sets(members: Sequence[Sequence[int]], num: int) -> np.ndarray:
    found = np.zeros((len(members), num), bool)
    for row, own in enumerate(members):
        found[row, list(own)] = True
    return found
