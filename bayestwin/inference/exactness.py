"""When the error of the solver is small enough: the one rule for the engine, which mends it, and the gate."""

from collections.abc import Mapping
from typing import Any

MAX_PARETO_K = 0.7
"""Above this the largest importance ratios are too heavy-tailed to trust (Vehtari et al. 2024, arXiv:1507.02646)."""

NEGLIGIBLE = 0.1
"""Changes of a log density up to this do not move a posterior, however their tail is shaped."""


def exact_enough(
    audit: Mapping[str, Any], max_difference: float = NEGLIGIBLE, max_pareto_k: float = MAX_PARETO_K
) -> bool:
    """Whether a tolerance audit found that the error of the solver does not shape the posterior.

    Args:
        audit: With `largest_difference`, `pareto_k` and `failed`; what is NaN or None is not exact.
        max_difference: Largest difference that passes whatever the tail is.
        max_pareto_k: Largest Pareto k with which larger differences pass.
    """
    pareto_k = audit["pareto_k"]
    small = audit["largest_difference"] <= max_difference or (pareto_k is not None and pareto_k <= max_pareto_k)
    return bool(small) and audit["failed"] == 0
