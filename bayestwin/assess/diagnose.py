"""The gates on a posterior: one list, passed or not, each with a sentence that says what to do."""

from __future__ import annotations

import numpy as np
import xarray as xr
from arviz_stats.sampling_diagnostics import bfmi

from bayestwin.assess import against_prior, agreement, chains, engine
from bayestwin.assess.gates import Gate


def diagnose(
    posterior: xr.DataTree,
    *,
    max_rhat: float = 1.01,
    min_ess_per_chain: float = 100,
    max_divergences: int = 0,
    min_bfmi: float = 0.3,
    max_solver_failures: float = 0.01,
) -> tuple[Gate, ...]:
    """Judge a posterior before anything is concluded from it.

    What cannot be computed (a single chain has no R̂, a constant no ESS) does not pass. Which gates there are depends
    on the method: independent draws of an approximation have no chains to compare, a point has no draws at all.

    Args:
        posterior: What `calibrate` returned: groups `posterior`, `sample_stats`, `prior`.
        max_rhat: Largest R̂ of any parameter.
        min_ess_per_chain: Smallest bulk and tail ESS of any parameter, times the number of chains.
        max_divergences: Largest number of divergent transitions.
        min_bfmi: Smallest E-BFMI of any chain.
        max_solver_failures: Largest share of transitions in which a solve failed.

    Returns:
        The gates, in the order in which a reader should look at them: one that fails explains those after it.
        `failed(gates)` picks those that forbid to use the result.

    Raises:
        InvalidInput: The tree has no group `posterior` with chains and draws.
    """
    found = chains.read_chains(posterior, "posterior")
    method = engine.method_of(posterior)
    finite, prior = agreement.finite_gate(found), against_prior.prior_gates
    recorded = [gate for gate in (engine.modes_gate(posterior), engine.tolerance_gate(posterior)) if gate]
    if method == "map":
        return finite, engine.point_gate(), *recorded
    if method in ("laplace", "pathfinder"):
        return finite, engine.approximation_gate(posterior), *recorded, *prior(posterior, found)
    mixing = (
        finite,
        agreement.count_gate(found),
        agreement.copies_gate(found),
        agreement.stuck_gate(found),
        agreement.rhat_gate(found, max_rhat),
        agreement.ess_gate(found, "bulk", min_ess_per_chain),
        agreement.ess_gate(found, "tail", min_ess_per_chain),
    )
    if method == "smc":
        return *mixing, *recorded, *prior(posterior, found)
    return (
        *mixing,
        _divergences(posterior, max_divergences),
        _bfmi(posterior, min_bfmi),
        _solver_failures(posterior, max_solver_failures),
        *recorded,
        *prior(posterior, found),
    )


def _divergences(tree: xr.DataTree, limit: int) -> Gate:
    """The sampler could follow the posterior everywhere (Betancourt 2017, arXiv:1701.02434)."""
    diverging = _statistic(tree, "diverging")
    if diverging is None:
        return _absent("divergences", "diverging", limit)
    bad = diverging != 0  # NaN counts as divergent
    value, total = int(bad.sum()), bad.size
    passed = value <= limit and total > 0
    sentence = f"{value:,} of {total:,} transitions diverged"
    if not passed:
        sentence += (
            f"{_by_chain(bad)}: parts of the posterior were not explored. See in the pair plot where they"
            " lie; a higher target acceptance rate, a tighter prior or another parametrisation helps"
        )
    return Gate("divergences", passed, float(value), float(limit), sentence + ".")


def _bfmi(tree: xr.DataTree, limit: float) -> Gate:
    """The sampler moves across the posterior's energies (E-BFMI, Betancourt 2016, arXiv:1604.00695)."""
    energy = _statistic(tree, "energy")
    if energy is None:
        return _absent("bfmi", "energy", limit)
    labels, values = chains.chain_labels(energy), energy.to_numpy().astype(float)
    enough = values.shape[1] >= chains.MIN_DRAWS and np.isfinite(values).all()
    if not enough or (np.ptp(values, axis=1) == 0).any():
        sentence = "E-BFMI cannot be computed: the energies are too few, constant, NaN or infinite."
        return Gate("bfmi", False, float("nan"), float(limit), sentence)
    by_chain = np.asarray(bfmi(values))
    worst = int(np.argmin(by_chain))
    value = float(by_chain[worst])
    passed = value >= limit
    sentence = f"Smallest E-BFMI {value:.2f} (chain {labels[worst]}, limit {limit:g})"
    if not passed:
        sentence += (
            ": the sampler hardly reaches the tails of the posterior, and its draws are too narrow. Tighten"
            " vague priors, those of noise scales first, or calibrate with a longer warm-up"
        )
    return Gate("bfmi", passed, value, float(limit), sentence + ".")


def _solver_failures(tree: xr.DataTree, limit: float) -> Gate:
    """The differential equations could be solved where the sampler went."""
    solver_failed = _statistic(tree, "solver_failed")
    if solver_failed is None:
        return _absent("solver_failures", "solver_failed", limit)
    bad = solver_failed != 0  # NaN counts as failed
    value = float(bad.mean()) if bad.size else float("nan")
    passed = value <= limit
    sentence = f"{int(bad.sum()):,} of {bad.size:,} solves failed"
    if not passed:
        sentence += (
            f" ({100 * value:.2g} %, limit {100 * limit:g} %){_by_chain(bad)}: the posterior is cut off"
            " where the twin cannot be solved. Try a stiff solver, more steps, or priors that avoid this"
        )
    return Gate("solver_failures", passed, value, float(limit), sentence + ".")


def _statistic(tree: xr.DataTree, name: str) -> xr.DataArray | None:
    """A sampler statistic (chain, draw), or None where there is none."""
    if "sample_stats" not in tree.children or name not in tree["sample_stats"].data_vars:
        return None
    return tree["sample_stats"].to_dataset()[name].transpose("chain", "draw")


def _absent(gate: str, name: str, limit: float) -> Gate:
    sentence = f"Cannot be told: the group `sample_stats` has no variable `{name}`."
    return Gate(gate, False, float("nan"), float(limit), sentence)


def _by_chain(bad: xr.DataArray) -> str:
    """Counts by chain, in words; empty without any."""
    counts = zip(chains.chain_labels(bad), bad.sum("draw").to_numpy(), strict=True)
    words = ", ".join(f"chain {label}: {int(count):,}" for label, count in counts if count)
    return f" ({words})" if words else ""
