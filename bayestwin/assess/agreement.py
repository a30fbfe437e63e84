"""The gates that look at chains: draws are finite, several chains, no copies, none stuck, R̂ and ESS."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np
from arviz_stats.sampling_diagnostics import ess, rhat

from bayestwin.assess.chains import Chains, spread
from bayestwin.assess.gates import Gate

FAR_APART = 1.1
"""Above this R̂, chains sit in different places, and more draws do not help."""

_MEND = "Mend what the gates before this one found, and calibrate again."


def finite_gate(chains: Chains) -> Gate:
    """Every draw of every parameter is a number."""
    if chains.num_draws == 0:
        return Gate("finite", False, float("nan"), 0.0, "There are no draws: nothing was sampled. Calibrate again.")
    bad = {name: int(np.sum(~np.isfinite(values))) for name, values in chains.draws.items()}
    name, total, count = max(bad, key=lambda key: bad[key]), sum(bad.values()), len(bad)
    if total == 0:
        sentence = f"All {chains.num_draws:,} draws of {count} parameters are finite numbers."
    else:
        affected = sum(number > 0 for number in bad.values())
        sentence = (
            f"{bad[name]:,} of {chains.num_draws:,} draws of `{name}` are NaN or infinite ({affected} of"
            f" {count} parameters have such draws): nothing computed from them can be used. Look for a"
            " logarithm, root or division in the twin that leaves its range."
        )
    return Gate("finite", total == 0, float(total), 0.0, sentence)


def count_gate(chains: Chains, limit: int) -> Gate:
    """There are at least two chains: agreement needs another."""
    count = len(chains.labels)
    passed = count >= limit
    if passed:
        sentence = f"{count} chains were run."
    elif count == 1:
        sentence = (
            "1 chain was run, and nothing says whether another would end elsewhere: a chain that is stuck in a wrong"
            " place looks exactly like a good one. Calibrate with four chains (`num_chains=4`)."
        )
    else:
        sentence = f"{count} chains were run, where {limit} are asked for. Calibrate with more (`num_chains={limit}`)."
    return Gate("chains", passed, float(count), float(limit), sentence)


def copies_gate(chains: Chains) -> Gate:
    """No chain repeats another, as happens when two are given the same random numbers."""
    copies = {
        second: first
        for first, second in itertools.combinations(range(len(chains.labels)), 2)
        if all(_same(values[first], values[second]) for values in chains.draws.values())
    }
    sentence = "No chain is a copy of another."
    if copies:
        pairs = ", ".join(f"{chains.labels[b]} of {chains.labels[a]}" for b, a in copies.items())
        sentence = (
            f"{len(copies)} of {len(chains.labels)} chains are copies (chain {pairs}), draw by draw, of"
            f" {_some(chains.draws)}: that they agree says nothing, and there are fewer draws than it seems. Where you"
            " put chains together, give each a seed of its own; otherwise calibrate again."
        )
    return Gate("identical_chains", not copies, float(len(copies)), 0.0, sentence)


def stuck_gate(chains: Chains, limit: float) -> Gate:
    """Every chain moves, and about as widely as the others."""
    ratios = {
        (name, chain): float(ratio)
        for name, values in chains.draws.items()
        for chain, ratio in enumerate(_spread_ratios(values))
    }
    name, chain = min(ratios, key=lambda key: (not np.isnan(ratios[key]), ratios[key]))
    value, label, count = ratios[name, chain], chains.labels[chain], len(chains.labels)
    stuck = {other for (_, other), ratio in ratios.items() if not ratio >= limit}
    if not stuck:
        sentence = f"{count} of {count} chains move."
    elif np.isnan(value):
        sentence = f"Whether the chains move cannot be told: {chains.why_not(name)} (`{name}`). {_MEND}"
    else:
        moves = "does not move" if value == 0 else f"spreads {100 * value:.2g} % as wide as in another chain"
        sentence = (
            f"Chain {label} is stuck ({len(stuck)} of {count} chains are): `{name}` {moves} in it;"
            f" {chains.means(name)}. The draws are not those of the posterior. Calibrate again with another seed; if a"
            f" chain sticks again, see in the report whether solves fail there, and tighten the prior of `{name}`."
        )
    return Gate("stuck_chain", not stuck, value, float(limit), sentence)


def rhat_gate(chains: Chains, limit: float) -> Gate:
    """Chains agree: rank-normalised split R̂ (Vehtari et al. 2021, doi:10.1214/20-BA1221)."""
    found = {name: _computed(chains, name, 2, rhat) for name in chains.draws}
    name = max(found, key=lambda key: (np.isnan(found[key]), found[key]))
    value, count = found[name], len(chains.labels)
    passed = value <= limit
    if passed:
        sentence = f"{count} of {count} chains agree (largest R̂ {value:.3f}, `{name}`; 1 is perfect, limit {limit:g})."
    elif np.isnan(value):
        sentence = f"Whether the chains agree cannot be told: {chains.why_not(name, 2)} (`{name}`). {_MEND}"
    else:
        advice = (
            "They sit in different places: the posterior has several modes (sets of values that lie apart and all"
            " explain the data), or a chain is stuck. Look at the traces in the report; a tighter prior of"
            f' `{name}` or `method="smc"` helps, more draws do not.'
            if value > FAR_APART
            else "Take more draws (`num_samples`), or a longer warm-up (`num_warmup`)."
        )
        sentence = (
            f"The chains disagree, most about `{name}`: R̂ is {value:.4g} (1 if all say the same, limit {limit:g});"
            f" {chains.means(name)}. {advice}"
        )
    return Gate("rhat", passed, value, float(limit), sentence)


def ess_gate(chains: Chains, kind: Literal["bulk", "tail"], per_chain: float) -> Gate:
    """Enough draws when their autocorrelation is taken off (effective sample size, doi:10.1214/20-BA1221).

    Args:
        chains: The draws.
        kind: `"bulk"` for the middle of the posterior, `"tail"` for its 5 % and 95 % quantiles.
        per_chain: Limit for each chain; the sum over chains is held against as many times as much.
    """

    def of_kind(values: np.ndarray) -> float:
        # Without `prob`, ArviZ 1.3 raises a TypeError when "tail" is asked of an array.
        return ess(values, method=kind, prob=(0.05, 0.95) if kind == "tail" else None)

    found = {name: _computed(chains, name, 1, of_kind) for name in chains.draws}
    name = min(found, key=lambda key: (not np.isnan(found[key]), found[key]))
    value, limit = found[name], float(per_chain * len(chains.labels))
    passed = value >= limit
    part = {"bulk": "middle", "tail": "tails"}[kind]
    if np.isnan(value):
        sentence = (
            f"How much the draws say about the {part} of `{name}` cannot be told ({kind} ESS): {chains.why_not(name)}."
            f" {_MEND}"
        )
    else:
        sentence = (
            f"{chains.num_draws:,} draws tell the {part} of `{name}` as well as {value:,.0f} independent ones"
            f" would (smallest {kind} ESS, limit {limit:,.0f})."
        )
    if value < limit:
        sentence += (
            " The chains disagree about it: mend that first."
            if _computed(chains, name, 2, rhat) > FAR_APART
            else f" Take {limit / value:.2g} times as many (`num_samples`); where that is too many, see in the pair"
            f" plot what `{name}` varies together with: another parametrisation or a tighter prior helps."
        )
    return Gate(f"ess_{kind}", passed, value, limit, sentence)


def _some(names: Iterable[str], most: int = 3) -> str:
    """Names in words, the first few of them."""
    found = [f"`{name}`" for name in names]
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more


def _spread_ratios(values: np.ndarray) -> np.ndarray:
    """Spread of each chain over the widest of the others, shape (chain,); 0 where a chain stands still."""
    if values.shape[1] < 1 or not np.isfinite(values).all():
        return np.full(len(values), np.nan)
    widths = spread(values, axis=1)
    rounding = 8 * np.finfo(float).eps * np.abs(values).max(axis=1)
    widths = np.where(widths > rounding, widths, 0.0)
    ratios = np.zeros(len(widths))
    for chain in np.flatnonzero(widths):
        other = np.max(np.delete(widths, chain), initial=0.0)
        ratios[chain] = widths[chain] / other if other > 0 else 1.0
    return ratios


def _same(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two chains are equal, or differ by no more than rounding."""
    if np.array_equal(first, second, equal_nan=True):
        return True
    finite = bool(np.isfinite(first).all() and np.isfinite(second).all())
    return finite and bool(np.max(np.abs(first - second)) <= 1e-6 * np.std(first))


def _computed(chains: Chains, name: str, min_chains: int, statistic: Callable[[np.ndarray], float]) -> float:
    """A statistic of one parameter, or NaN where it means nothing: ArviZ gives a constant its full ESS."""
    if chains.why_not(name, min_chains):
        return float("nan")
    with np.errstate(all="ignore"):
        return float(statistic(chains.draws[name]))
