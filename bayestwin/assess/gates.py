"""Gates on a posterior: the shape of a verdict, and those on its chains and on what the sampler recorded.

A gate is passed or not, with its number, its limit and a sentence for people.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.stats
import xarray as xr
from arviz_stats.sampling_diagnostics import bfmi, ess, rhat

from bayestwin import errors
from bayestwin.inference.method import FAR_APART, rhat_limit

WARN = ("modes", "prior_edge", "prior_posterior", "residuals", "point", "coverage", "failed_paths", "width")
"""Names of the gates that only warn, unless they are asked to fail."""


class Gate(NamedTuple):
    """One condition that a result must meet before it is trusted.

    Attributes:
        name: Short and stable, for job files and logs.
        passed: Whether the condition holds. What cannot be computed does not hold.
        value: The number that was judged; NaN where it cannot be computed.
        limit: What the number was held against.
        sentence: What was found, in words, and what to do where it did not pass.
        severity: `"fail"` where the result must not be trusted unless it passes; `"warn"` for what a
            person should look at, and which stops nothing.
    """

    name: str
    passed: bool
    value: float
    limit: float
    sentence: str
    severity: Literal["fail", "warn"] = "fail"


def failed(gates: Iterable[Gate]) -> tuple[Gate, ...]:
    """The gates that forbid to trust the result; none means that it passed."""
    return tuple(gate for gate in gates if gate.severity == "fail" and not gate.passed)


# Draws of a result by chain and scalar parameter, and how widely they spread.

MIN_DRAWS = 4
"""With fewer draws a chain, R̂, ESS and E-BFMI mean nothing (and ArviZ does not compute them)."""

NORMAL_DECILES = 2.5631
"""Distance of the outer deciles of a normal distribution, in standard deviations."""


class Chains(NamedTuple):
    """Draws as plain arrays.

    Attributes:
        labels: Name of each chain.
        draws: Draws (chain, draw) of each scalar parameter; element 2 of an array `theta` is `theta[2]`, and what
            belongs to experiment `a` is `theta[a]`.
    """

    labels: tuple[str, ...]
    draws: Mapping[str, np.ndarray]

    @property
    def num_draws(self) -> int:
        """Draws of all chains together."""
        return next(iter(self.draws.values())).size

    def means(self, parameter: str) -> str:
        """Mean of a parameter in each chain, in words."""
        means = zip(self.labels, self.draws[parameter].mean(axis=1), strict=True)
        return "means by chain: " + ", ".join(f"{label}: {mean:.4g}" for label, mean in means)

    def why_not(self, parameter: str, min_chains: int = 1) -> str:
        """Why the draws of a parameter cannot be judged, in words; empty where they can."""
        values = self.draws[parameter]
        if values.shape[1] < MIN_DRAWS:
            return f"{values.shape[1]} draws a chain are too few"
        if not np.isfinite(values).all():
            return "some draws are NaN or infinite"
        if np.ptp(values) == 0:
            return "all draws are the same"
        if len(values) < min_chains:
            return "there is only one chain"
        return ""


def read_chains(tree: xr.DataTree, group: str) -> Chains:
    """All parameters of a group with dimensions chain and draw, one array for each scalar.

    Raises:
        InvalidInput: No such group, no variable or chain in it, or a variable without chains and draws.
    """
    dataset = tree[group].to_dataset() if group in tree.children else xr.Dataset()
    foreign = [str(name) for name, value in dataset.items() if not {"chain", "draw"} <= set(value.dims)]
    if not dataset.data_vars or foreign or dataset.sizes["chain"] == 0:
        received = f"variables without them: {', '.join(foreign)}" if foreign else "no variable or chain"
        raise errors.InvalidInput(
            f"The group `{group}` is not a set of draws.",
            expected="variables with the dimensions `chain` and `draw`",
            received=received,
            advice="Pass what `calibrate` returned, or a file that `save` wrote.",
        )
    found: dict[str, np.ndarray] = {}
    for name, variable in dataset.items():
        variable = variable.transpose("chain", "draw", ...)
        values = variable.to_numpy().astype(float)
        words = [variable[dim].to_numpy() for dim in variable.dims[2:]]
        for index in np.ndindex(values.shape[2:]):
            places = ", ".join(str(labels[place]) for labels, place in zip(words, index, strict=True))
            label = f"{name}[{places}]" if index else str(name)
            found[label] = values[(slice(None), slice(None), *index)]
    return Chains(chain_labels(dataset), found)


def record(tree: xr.DataTree, name: str) -> dict[str, Any]:
    """A root attribute that holds a mapping, in memory or as JSON text; empty where it is missing or something else."""
    held = tree.attrs.get(name) or {}
    held = json.loads(held) if isinstance(held, str) else held
    return dict(held) if isinstance(held, Mapping) else {}


def chain_labels(draws: xr.Dataset | xr.DataArray) -> tuple[str, ...]:
    """Names of the chains: their coordinate, or 0, 1, … without one."""
    return tuple(str(label) for label in draws["chain"].to_numpy())


def spread(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Standard deviation of a normal distribution with the same outer deciles: far draws do not move it."""
    lower, upper = np.quantile(values, (0.1, 0.9), axis=axis)
    return (upper - lower) / NORMAL_DECILES


# The gates that look at chains: draws are finite, several chains, no copies, none stuck, R̂ and ESS.

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


class Mirror(NamedTuple):
    """Chains in two modes that differ by names alone.

    Attributes:
        pairs: Parameters that trade places.
        others: Numbers of the chains in which they have, as seen from the first one.
    """

    pairs: tuple[tuple[str, str], ...]
    others: tuple[int, ...]

    def sentence(self, labels: Sequence[str]) -> str:
        """In words."""
        swapped = ", ".join(labels[number] for number in self.others)
        kept = ", ".join(label for number, label in enumerate(labels) if number not in self.others)
        traded = "; ".join(
            f"what is `{first}` in chain {kept} is `{second}` in chain {swapped}" for first, second in self.pairs
        )
        return f"Chains are in two modes with mirrored labels: {traded}, and the other way round."


def mirrored(chains: Chains) -> Mirror | None:
    """Chains that agree once parameters trade names in some of them; None where they do not, or agree anyway."""
    if chains.num_draws == 0 or not all(np.isfinite(values).all() for values in chains.draws.values()):
        return None
    centre = {name: np.median(values, axis=1) for name, values in chains.draws.items()}
    width = {name: spread(values, axis=1) for name, values in chains.draws.items()}

    def alike(one: str, chain: int, other: str) -> bool:
        """Whether a parameter in some chain is what another is in the first one."""
        wide = max(width[one][chain], width[other][0])
        near = abs(centre[one][chain] - centre[other][0]) <= 2.0 * wide
        return bool(near and min(width[one][chain], width[other][0]) > 0.3 * wide)

    found: dict[int, tuple[tuple[str, str], ...]] = {}
    for chain in range(1, len(chains.labels)):
        apart = [name for name in centre if not alike(name, chain, name)]
        pairs = tuple(
            (one, other)
            for one, other in itertools.combinations(apart, 2)
            if alike(one, chain, other) and alike(other, chain, one)
        )
        if sorted(name for pair in pairs for name in pair) != sorted(apart):
            return None
        if apart:
            found[chain] = pairs
    if not found or len(set(found.values())) > 1:
        return None
    return Mirror(next(iter(found.values())), tuple(found))


def relabelled(chains: Chains, mirror: Mirror) -> Chains:
    """The draws under the names of the first chain's mode."""
    draws = {name: values.copy() for name, values in chains.draws.items()}
    rows = list(mirror.others)
    for one, other in mirror.pairs:
        draws[one][rows], draws[other][rows] = chains.draws[other][rows], chains.draws[one][rows]
    return chains._replace(draws=draws)


def stuck_gate(chains: Chains, limit: float) -> Gate:
    """Every chain moves, and about as widely as the others, be it under mirrored labels."""
    mirror = mirrored(chains)
    chains = chains if mirror is None else relabelled(chains, mirror)
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
        sentence += "" if mirror is None else f" {mirror.sentence(chains.labels)}"
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


def rhat_gate(chains: Chains, limit: float, modes: int | None = None, populations: bool = False) -> Gate:
    """Chains agree: rank-normalised split R̂ (Vehtari et al. 2021, doi:10.1214/20-BA1221).

    Of many quantities the largest may be above the limit by chance alone, and that far it passes.

    Args:
        chains: The draws.
        limit: Largest R̂.
        modes: How many modes climbs from many starts found; None where that is not known.
        populations: Whether each chain is a population that came from the prior by itself.
    """
    found = {name: _computed(chains, name, 2, rhat) for name in chains.draws}
    num, count = len(found), len(chains.labels)
    limits = {
        name: rhat_limit(num, count, _computed(chains, name, 2, ess), limit) if value > limit else limit
        for name, value in found.items()
    }
    name = max(found, key=lambda key: (np.isnan(found[key]), found[key] > limits[key], found[key]))
    value, most = found[name], limits[name]
    passed = value <= most
    if passed:
        sentence = f"{count} of {count} chains agree (largest R̂ {value:.3f}, `{name}`; 1 is perfect, limit {limit:g}"
        sentence += f", and {most:.3f} where {num} quantities are looked at)." if most > limit else ")."
    elif np.isnan(value):
        sentence = f"Whether the chains agree cannot be told: {chains.why_not(name, 2)} (`{name}`). {_MEND}"
    else:
        advice = _to_agree(chains, name, value, modes, populations)
        sentence = (
            f"The chains disagree, most about `{name}`: R̂ is {value:.4g} (1 if all say the same, limit {most:.4g});"
            f" {chains.means(name)}. {advice}"
        )
    return Gate("rhat", passed, value, float(most), sentence)


def _to_agree(chains: Chains, name: str, value: float, modes: int | None, populations: bool) -> str:
    """What to do about chains that disagree about a parameter, beyond what was done."""
    if (mirror := mirrored(chains)) is not None:
        one, other = mirror.pairs[0]
        return (
            f"{mirror.sentence(chains.labels)} The twin does not tell `{one}` from `{other}`, and neither more draws"
            " nor another method will: give them priors that do, or write one as the other and a positive difference."
        )
    num = chains.draws[name].shape[1]
    if populations:
        return (
            "Each chain is a population that came from the prior by itself: they weigh the modes of the posterior"
            f" differently, or some have lost one. Take more particles than these {num:,} (`num_samples`), or exclude"
            f" by a tighter prior of `{name}` the modes that make no sense."
        )
    if value <= FAR_APART:
        return f"Take more draws than these {num:,} a chain (`num_samples`), or a longer warm-up (`num_warmup`)."
    if modes == 1:
        return (
            "Climbs from many starts found one mode, so they are on their way through one posterior, and slow."
            " Take more draws and a longer warm-up (`num_samples`, `num_warmup`); see in the pair plot what"
            f" `{name}` varies together with: a tighter prior of one of the two, or another parametrisation, helps."
        )
    return (
        "They sit in different places: the posterior has several modes (sets of values that lie apart and all"
        " explain the data), or a chain is stuck. Look at the traces in the report; a tighter prior of"
        f' `{name}` or `method="smc"` helps, more draws do not.'
    )


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
            else f" Take {np.ceil(10 * limit / value) / 10:g} times as many"
            f" ({_enough(chains, limit / value)}); where that is too many,"
            f" see in the pair plot what `{name}` varies together with: another parametrisation or a tighter prior"
            " helps."
        )
    return Gate(f"ess_{kind}", passed, value, limit, sentence)


def _enough(chains: Chains, times: float) -> str:
    """So many times as many draws a chain, rounded up, as the argument that asks for them."""
    wanted = chains.num_draws / len(chains.labels) * times
    unit = 10 ** max(int(np.floor(np.log10(wanted))) - 1, 0)
    return f"`num_samples={int(np.ceil(wanted / unit)) * unit}`"


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


# The gates on what the sampler recorded beside its draws: divergences, E-BFMI, failed solves.

HIGHEST_ADVISED = 0.95
"""Target acceptance that is advised, where less was aimed at."""

APART = 0.2
"""Transitions are said to lie where a parameter is small or large if a draw of theirs is smaller than another's with a
probability that differs by more than this from one half."""


def divergences_gate(tree: xr.DataTree, found: Chains, limit: int) -> Gate:
    """The sampler could follow the posterior everywhere (Betancourt 2017, arXiv:1701.02434)."""
    diverging = _statistic(tree, "diverging")
    if diverging is None:
        return _absent("divergences", "diverging", limit, "Whether the sampler could follow the posterior")
    bad = diverging != 0  # NaN counts as divergent
    value, total = int(bad.sum()), bad.size
    passed = value <= limit and total > 0
    sentence = f"{value:,} of {total:,} transitions diverged"
    if not passed:
        sentence += f"{_by_chain(bad)}: the sampler could "
        if value < total:
            place, name = _place(found, bad.to_numpy())
            help_ = f"tighten the prior of {name}" if name else "tighten vague priors"
            aimed = float(record(tree, "sampling").get("target_acceptance", 0.0))
            higher = (
                f"A `target_acceptance` of {aimed:g} did not cure it"
                if aimed >= HIGHEST_ADVISED
                else f"Calibrate with a higher `target_acceptance`, say {HIGHEST_ADVISED}; if some remain"
            )
            sentence += (
                f"not follow the posterior there, and the draws may miss a part of it{place}. Pair plots mark them."
                f" {higher}{':' if aimed >= HIGHEST_ADVISED else ','} {help_} or write the twin in other parameters"
            )
        else:
            sentence += (
                "follow the posterior nowhere, and no draw can be used. See whether the vector field jumps or bends"
                " sharply (`jnp.where`, `abs`, a division by something near zero) where the priors reach"
            )
    return Gate("divergences", passed, float(value), float(limit), sentence + ".")


def bfmi_gate(tree: xr.DataTree, found: Chains, limit: float) -> Gate:
    """The sampler moves across the posterior's energies (E-BFMI, Betancourt 2016, arXiv:1604.00695)."""
    energy = _statistic(tree, "energy")
    if energy is None:
        return _absent("bfmi", "energy", limit, "Whether the sampler reached the tails of the posterior")
    labels, values = chain_labels(energy), energy.to_numpy().astype(float)
    enough = values.shape[1] >= MIN_DRAWS and np.isfinite(values).all()
    if not enough or (np.ptp(values, axis=1) == 0).any():
        sentence = (
            "Whether the sampler reached the tails of the posterior cannot be told: E-BFMI cannot be computed, since"
            " the energies are too few, constant, NaN or infinite. Calibrate again, with more draws."
        )
        return Gate("bfmi", False, float("nan"), float(limit), sentence)
    by_chain = np.asarray(bfmi(values))
    worst = int(np.argmin(by_chain))
    value = float(by_chain[worst])
    passed = value >= limit
    sentence = f"Smallest E-BFMI {value:.2f} (chain {labels[worst]}, limit {limit:g}): the sampler "
    if passed:
        sentence += "reaches the tails of the posterior"
    else:
        name = _follows(found, values)
        first = f"that of {name} first, which goes along with it" if name else "those of noise scales first"
        taken = tree.attrs.get("num_warmup")
        than = " (`num_warmup`)" if taken is None else f" than {int(taken):,} (`num_warmup`)"
        sentence += (
            "moves so slowly between the middle of the posterior and its tails that intervals come out too narrow."
            f" Tighten vague priors, {first}, or calibrate with a longer warm-up{than}"
        )
    return Gate("bfmi", passed, value, float(limit), sentence + ".")


def solver_gate(tree: xr.DataTree, found: Chains, limit: float) -> Gate:
    """The differential equations could be solved where the sampler went."""
    solver_failed = _statistic(tree, "solver_failed")
    if solver_failed is None:
        return _absent("solver_failures", "solver_failed", limit, "Whether the twin could be solved everywhere")
    bad = solver_failed != 0  # NaN counts as failed
    value = float(bad.mean()) if bad.size else float("nan")
    passed = value <= limit
    sentence = f"{int(bad.sum()):,} of {bad.size:,} solves failed"
    if not passed:
        place, _ = _place(found, bad.to_numpy())
        sentence += (
            f" ({100 * value:.3g} %, limit {100 * limit:g} %){_by_chain(bad)}: the posterior is cut off where the"
            f" equations cannot be solved{place}. {_other_solver(tree)} more steps (`max_steps`), or priors that"
            " exclude such values"
        )
    return Gate("solver_failures", passed, value, float(limit), sentence + ".")


def _other_solver(tree: xr.DataTree) -> str:
    """Which solver has not been tried."""
    if record(tree, "solver_choice").get("method") == "rodas5p":
        return "They were solved by the stiff solver: try"
    return 'Try a stiff solver (`bt.Solver("rodas5p")`),'


def _place(found: Chains, bad: np.ndarray) -> tuple[str, str]:
    """Which parameter tells these transitions from the others, in words, and its name; empty where none does.

    Args:
        found: The draws.
        bad: Which transitions, shape (chain, draw).
    """
    num = int(bad.sum())
    if not 0 < num < bad.size:
        return "", ""
    shares = {}
    for name, values in found.draws.items():
        if values.shape == bad.shape and np.isfinite(values).all():
            ranks = scipy.stats.rankdata(values)[bad.ravel()]
            shares[name] = (ranks.mean() - (num + 1) / 2) / (bad.size - num) - 0.5  # Mann and Whitney's U
    name = max(shares, key=lambda key: abs(shares[key]), default="")
    # three standard deviations of what chance does: a few transitions lie somewhere anyhow
    if not name or abs(shares[name]) <= max(APART, 3 / np.sqrt(12 * num)):
        return "", ""
    return f", mostly where `{name}` is {'large' if shares[name] > 0 else 'small'}", f"`{name}`"


def _follows(found: Chains, energy: np.ndarray) -> str:
    """The parameter that goes along with the energy (rank correlation above 0.5); empty where none does."""
    strengths = {}
    for name, values in found.draws.items():
        if values.shape == energy.shape and np.isfinite(values).all() and np.ptp(values) > 0:
            ranks = [scipy.stats.rankdata(part) for part in (values, energy)]
            strengths[name] = abs(np.corrcoef(*ranks)[0, 1])
    name = max(strengths, key=lambda key: strengths[key], default="")
    return f"`{name}`" if name and strengths[name] > 0.5 else ""


def _statistic(tree: xr.DataTree, name: str) -> xr.DataArray | None:
    """A sampler statistic (chain, draw), or None where there is none."""
    if "sample_stats" not in tree.children or name not in tree["sample_stats"].data_vars:
        return None
    return tree["sample_stats"].to_dataset()[name].transpose("chain", "draw")


def _absent(gate: str, name: str, limit: float, what: str) -> Gate:
    sentence = (
        f"{what} cannot be told: the group `sample_stats` has no variable `{name}`. Judge what `calibrate` returned,"
        " or a file that `save` wrote of it."
    )
    return Gate(gate, False, float("nan"), float(limit), sentence)


def _by_chain(bad: xr.DataArray) -> str:
    """Counts by chain, in words; empty without any."""
    counts = zip(chain_labels(bad), bad.sum("draw").to_numpy(), strict=True)
    words = ", ".join(f"chain {label}: {int(count):,}" for label, count in counts if count)
    return f" ({words})" if words else ""
