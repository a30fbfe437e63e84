"""Evaluations of a twin with some sources in common, and the shares of the variance that follow from them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bayestwin._base.progress import Progress
from bayestwin._base.seeds import key_for, seed_for
from bayestwin.density.density import Density
from bayestwin.insight.evaluate import Evaluator, Moments
from bayestwin.insight.redraw import Redraw
from bayestwin.insight.shapley import Coalition, coalitions, correlation, shapley

SOURCES = ("parameters", "initial_state", "model_error", "inputs", "noise")
"""In the order in which they are stacked."""

BLOCKS = 10
"""Blocks of draws whose scatter says how exact the shares are."""

MAX_FAILED = 0.05
"""Share of the draws that may fail to be solved; what the others say would else be about another posterior."""


class Evaluations(NamedTuple):
    """What the twin says of new observations.

    Attributes:
        players: The sources that Shapley effects are of: those that can be known beforehand, alone or together.
        disturbed: Whether there is a model error.
        base: For each posterior draw.
        pairs: The same with only a group of players kept, and everything else, the model error included, drawn anew.
    """

    players: tuple[str, ...]
    disturbed: bool
    base: Moments
    pairs: Mapping[Coalition, Moments]

    @property
    def sources(self) -> tuple[str, ...]:
        """Those that there are."""
        there = {*self.players, "noise"} | ({"model_error"} if self.disturbed else set())
        return tuple(source for source in SOURCES if source in there)


def evaluate(
    densities: Sequence[Density], known: Redraw, rows: np.ndarray, seed: int, progress: Progress
) -> Evaluations:
    """Solve the twin as often as the shares need it.

    Args:
        densities: Of the future, one for each member of the ensemble of inputs.
        known: The posterior draws, and which coordinates belong to which source.
        rows: Which of them to use; shape (n,).
        seed: Determines everything random.
        progress: Shows the phase "shares".
    """
    evaluator, num = Evaluator(densities), len(densities)
    players = tuple(name for name, positions in known.groups.items() if positions.size)
    players += ("inputs",) if num > 1 else ()
    disturbed = densities[0].twin.model_error is not None
    groups = [group for group in coalitions(players) if disturbed or len(group) < len(players)]
    rng = np.random.default_rng(seed_for(seed, "shares"))
    members = rng.permutation(len(rows)) % num
    with progress.phase("shares", "attributing uncertainty", (1 + len(groups)) * len(rows)) as phase:
        base = evaluator(known.draws[rows], members, key_for(seed, "shares"), phase)
        pairs = {}
        for group in groups:
            z = known.given(group, rows, rng)
            driven = members if "inputs" in group else rng.permutation(len(rows)) % num
            pairs[group] = evaluator(z, driven, key_for(seed, f"shares {'+'.join(sorted(group))}"), phase)
    return Evaluations(players, disturbed, base, pairs)


def variances(found: Evaluations, name: str, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variance of one observation by source, and the standard errors of the shares; shape (source, times) each.

    Args:
        found: The evaluations.
        name: The observation.
        places: Which of their times are asked for.
    """
    tables = [found.base[name], *(pair[name] for pair in found.pairs.values())]
    means, spreads = (np.stack([table[part][:, places] for table in tables]) for part in (0, 1))
    solved = np.isfinite(means).all(axis=(0, 2)) & np.isfinite(spreads).all(axis=(0, 2))
    if solved.mean() < 1 - MAX_FAILED:
        nothing = np.full((len(found.sources), len(places)), np.nan)
        return nothing, nothing
    means, spreads = means[:, solved], spreads[:, solved]
    blocks = np.array_split(np.arange(means.shape[1]), BLOCKS)
    shares = np.stack([_shares(_by_source(found, means[:, rows], spreads[:, rows])) for rows in blocks])
    return _by_source(found, means, spreads), shares.std(axis=0, ddof=1) / np.sqrt(BLOCKS)


def _shares(by_source: np.ndarray) -> np.ndarray:
    total = by_source.sum(axis=0)
    return np.divide(by_source, total, out=np.full_like(by_source, np.nan), where=total > 0)


def _by_source(found: Evaluations, means: np.ndarray, spreads: np.ndarray) -> np.ndarray:
    """Variance by source, shape (source, times).

    Args:
        found: The evaluations.
        means: Over the noise, of the base and all pairs, shape (1 + pairs, n, times).
        spreads: Variances over the noise, likewise.
    """
    # all evaluations have the same distribution: together they tell its variance better than one
    variance = means.var(axis=1, ddof=1).mean(axis=0)
    explained = {
        group: variance * correlation(means[0], pair) for group, pair in zip(found.pairs, means[1:], strict=True)
    }
    everyone = frozenset(found.players)
    explained.setdefault(everyone, variance)
    for group in coalitions(found.players):  # knowing more explains no less
        for less in coalitions(found.players):
            if less < group:
                explained[group] = np.maximum(explained[group], explained[less])
    parts = shapley(found.players, explained)
    parts["model_error"] = np.maximum(variance - explained[everyone], 0.0)
    parts["noise"] = spreads.mean(axis=(0, 1))
    return np.stack([parts[source] for source in found.sources])
