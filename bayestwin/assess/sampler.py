"""The gates on what the sampler recorded beside its draws: divergences, E-BFMI, failed solves."""

from __future__ import annotations

import numpy as np
import scipy.stats
import xarray as xr
from arviz_stats.sampling_diagnostics import bfmi

from bayestwin.assess import chains
from bayestwin.assess.chains import Chains
from bayestwin.assess.gates import Gate

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
            sentence += (
                f"not follow the posterior there, and the draws may miss a part of it{place}. The pair plot marks them."
                f" Calibrate with a higher `target_acceptance`, say 0.95; if some remain, {help_} or write the twin in"
                " other parameters"
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
    labels, values = chains.chain_labels(energy), energy.to_numpy().astype(float)
    enough = values.shape[1] >= chains.MIN_DRAWS and np.isfinite(values).all()
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
        sentence += (
            "moves so slowly between the middle of the posterior and its tails that intervals come out too narrow."
            f" Tighten vague priors, {first}, or calibrate with a longer warm-up (`num_warmup`)"
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
            f' equations cannot be solved{place}. Try a stiff solver (`bt.Solver("rodas5p")`), more'
            " steps (`max_steps`), or priors that exclude such values"
        )
    return Gate("solver_failures", passed, value, float(limit), sentence + ".")


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
    counts = zip(chains.chain_labels(bad), bad.sum("draw").to_numpy(), strict=True)
    words = ", ".join(f"chain {label}: {int(count):,}" for label, count in counts if count)
    return f" ({words})" if words else ""
