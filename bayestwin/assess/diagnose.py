"""The gates on a posterior: one list, passed or not, each with a sentence that says what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import xarray as xr

from bayestwin import errors
from bayestwin.assess import gates as of_chains
from bayestwin.assess import recorded
from bayestwin.assess.coverage import coverage_gate, width_gate
from bayestwin.assess.gates import WARN, Gate
from bayestwin.assess.residuals import MAX_CORRELATION, noise_gate, residuals_gate
from bayestwin.inference.method import MAX_PARETO_K, MAX_RHAT, MIN_ESS_PER_CHAIN, NEGLIGIBLE


def diagnose(
    posterior: xr.DataTree,
    *,
    max_rhat: float = MAX_RHAT,
    min_ess_per_chain: float = MIN_ESS_PER_CHAIN,
    min_chains: int = 2,
    min_chain_spread: float = 0.1,
    max_divergences: int = 0,
    min_bfmi: float = 0.3,
    max_solver_failures: float = 0.01,
    max_solver_error: float = NEGLIGIBLE,
    max_pareto_k: float = MAX_PARETO_K,
    max_modes: int = 1,
    max_at_prior_edge: float = 0.1,
    max_prior_width: float = 0.8,
    max_residual_correlation: float = MAX_CORRELATION,
    strict: bool | Sequence[str] = False,
    coverage: Literal["report", "warn", "fail"] = "report",
    max_coverage_misses: int = 0,
    covered: xr.Dataset | None = None,
    max_failed_paths: float = recorded.MAX_FAILED_PATHS,
    predictions: xr.DataTree | None = None,
) -> tuple[Gate, ...]:
    """Judge a posterior before anything is concluded from it.

    What cannot be computed (a single chain has no R̂, a constant no ESS) does not pass. Which gates there are depends
    on the method: independent draws of an approximation have no chains to compare, a point has no draws at all.

    Args:
        posterior: What `calibrate` returned: groups `posterior`, `sample_stats`, `prior`.
        max_rhat: Largest R̂ of any parameter.
        min_ess_per_chain: Smallest bulk and tail ESS of any parameter, times the number of chains.
        min_chains: Smallest number of chains.
        min_chain_spread: Smallest spread of a chain, relative to the widest of the others; below it is stuck.
        max_divergences: Largest number of divergent transitions.
        min_bfmi: Smallest E-BFMI of any chain.
        max_solver_failures: Largest share of transitions in which a solve failed.
        max_solver_error: Largest change of a log density when solved more precisely, unless its Pareto k passes.
        max_pareto_k: Largest Pareto k, of the solver's errors and of an approximation.
        max_modes: Largest number of modes found when starts were looked for.
        max_at_prior_edge: Largest share of the draws beyond the prior's 1 % or 99 % quantile.
        max_prior_width: Largest width of a posterior that did not move, relative to its prior.
        max_residual_correlation: Largest correlation of successive residuals of an observation, where it is more than
            chance makes; by default that at which intervals of parameters are too narrow by up to 1.5.
        strict: Names of gates that otherwise only warn and are to fail: `"prior_edge"`, `"prior_posterior"`,
            `"residuals"`, `"modes"`, `"point"`, `"coverage"`, `"failed_paths"`, `"width"`; True for all of them.
        coverage: Severity of the gate on what intervals promise on held-out telemetry; `"report"` is none.
        max_coverage_misses: Largest number of intervals, by observation and `prob`, outside their joint band.
        covered: What the function `coverage` says of held-out telemetry, for the gates `coverage` and `width`.
        max_failed_paths: Largest share of predicted paths that may fail; fewer only warn.
        predictions: What `predict` returned, whose paths are looked at; by default those of the posterior predictive.

    Returns:
        The gates, in the order in which a reader should look at them: one that fails explains those after it.
        `failed(gates)` picks those that forbid to use the result.

    Raises:
        InvalidInput: The tree has no group `posterior` with chains and draws.
        InvalidSetting: `strict` or `coverage` has no meaning.
    """
    _check(strict, coverage)
    found, judged = of_chains.read_chains(posterior, "posterior"), recorded.judged_as(posterior)
    gates: list[Gate | None] = [noise_gate(posterior), recorded.derived_gate(posterior), of_chains.finite_gate(found)]
    if judged == "point":
        gates += [recorded.point_gate(), recorded.maximum_gate(posterior)]
    elif judged == "approximation":
        gates += [recorded.approximation_gate(posterior, max_pareto_k)]
    else:
        modes, many = recorded.num_modes(posterior), judged == "chains"
        gates += [of_chains.count_gate(found, min_chains), of_chains.copies_gate(found)]
        gates += [of_chains.stuck_gate(found, min_chain_spread), of_chains.rhat_gate(found, max_rhat, modes, many)]
        gates += [of_chains.ess_gate(found, kind, min_ess_per_chain) for kind in ("bulk", "tail")]
    if judged == "transitions":
        gates += [
            of_chains.divergences_gate(posterior, found, max_divergences),
            of_chains.bfmi_gate(posterior, found, min_bfmi),
            of_chains.solver_gate(posterior, found, max_solver_failures),
        ]
    gates += [recorded.population_gate(posterior), recorded.modes_gate(posterior, max_modes)]
    gates += [recorded.tolerance_gate(posterior, max_solver_error, max_pareto_k)]
    if judged != "point":
        gates += recorded.prior_gates(posterior, found, max_at_prior_edge, max_prior_width)
    gates += [residuals_gate(posterior, max_residual_correlation)]
    if coverage != "report":
        gates += [coverage_gate(covered, max_coverage_misses)._replace(severity=coverage)]
    gates += [recorded.paths_gate(posterior if predictions is None else predictions, max_failed_paths)]
    gates += [width_gate(covered, recorded.record(posterior, "description"))]
    failing = WARN if strict is True else strict or ()
    return tuple(gate._replace(severity="fail") if gate.name in failing else gate for gate in gates if gate)


def _check(strict: bool | Sequence[str], coverage: str) -> None:
    """Refuse words that mean nothing: a gate that is misspelt would never fail."""
    if coverage not in ("report", "warn", "fail"):
        expected, received, name = '"report", "warn" or "fail"', repr(coverage), "coverage"
    elif not isinstance(strict, bool) and (isinstance(strict, str) or not set(strict) <= set(WARN)):
        expected = f"True, False, or names among {', '.join(f'`{word}`' for word in WARN)}"
        received, name = repr(strict), "strict"
    else:
        return
    raise errors.InvalidSetting(
        f"`{name}` has no meaning.",
        expected=expected,
        received=received,
        advice="All other gates fail as they are; leave it out for the default.",
    )
