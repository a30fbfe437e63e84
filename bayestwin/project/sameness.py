"""Is a result made again the same: bit for bit, to rounding, or within what the Monte Carlo error allows."""

import hashlib
import pathlib
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import xarray as xr
from arviz_stats.sampling_diagnostics import mcse

from bayestwin.results.store import load

MAX_Z = 4.0
"""Largest difference of two means or standard deviations, in standard errors of both, that chance explains."""

ROUNDING = 1e-6
"""Largest difference, relative to the largest number of a variable, that another order of summing explains."""


class Sameness(NamedTuple):
    """One file, recorded and made again.

    Attributes:
        file: Its path in the run folder.
        level: `"bits"`: every number is the same; `"rounding"`: to six digits; `"mcse"`: means and standard deviations
            of the posterior are, within 4 Monte Carlo standard errors; `"different"` else.
        sentence: What was compared and found.
    """

    file: str
    level: Literal["bits", "rounding", "mcse", "different"]
    sentence: str


def compare_files(name: str, recorded: pathlib.Path, again: pathlib.Path) -> Sameness:
    """Hold a result file that was made again against the one of the run.

    Args:
        name: What it is called.
        recorded: The file of the run.
        again: The file made again.

    Raises:
        InvalidArtifact: If one of them is damaged.
    """
    if not again.is_file():
        return Sameness(name, "different", f"`{name}` was not made again.")
    if _sha256(recorded) == _sha256(again):
        return Sameness(name, "bits", f"`{name}` is the same file to the bit.")
    if not name.endswith(".nc"):
        return Sameness(name, "different", f"`{name}` is not the same file.")
    return compare_trees(name, load(recorded), load(again))


def compare_trees(name: str, recorded: xr.DataTree, again: xr.DataTree) -> Sameness:
    """Hold two results against each other; arguments and result as in `compare_files`."""
    ours, theirs = _variables(recorded), _variables(again)
    differ = [key for key in [*ours, *(key for key in theirs if key not in ours)] if not _same(ours, theirs, key)]
    if not differ:
        return Sameness(name, "bits", f"`{name}`: all {len(ours)} variables are the same to the bit.")
    words = f"`{name}`: {len(differ)} of {len(ours)} variables are not the same to the bit (`{differ[0]}` first)"
    if all(_close(ours, theirs, key) for key in differ):
        return Sameness(name, "rounding", f"{words}; all numbers agree to six digits.")
    if "posterior" not in recorded.children or "posterior" not in again.children:
        return Sameness(name, "different", f"{words}, and it holds no posterior, whose Monte Carlo error is known.")
    worst, quantity = _largest_z(recorded["posterior"].to_dataset(), again["posterior"].to_dataset())
    if worst <= MAX_Z:
        return Sameness(
            name,
            "mcse",
            f"{words}; all means and standard deviations agree within {worst:.1f} Monte Carlo standard errors.",
        )
    reason = f"those of `{quantity}` lie {worst:.1f} Monte Carlo standard errors apart" if quantity else "no draws"
    return Sameness(name, "different", f"{words}, and {reason} (limit {MAX_Z:g}).")


def _variables(tree: xr.DataTree) -> dict[str, np.ndarray]:
    return {f"{node.path}/{name}": v.to_numpy() for node in tree.subtree for name, v in node.dataset.variables.items()}


def _same(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], key: str) -> bool:
    if key not in ours or key not in theirs:
        return False
    first, second = ours[key], theirs[key]
    if (first.shape, first.dtype) != (second.shape, second.dtype):
        return False
    return bool(np.array_equal(first, second)) if first.dtype == object else first.tobytes() == second.tobytes()


def _close(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], key: str) -> bool:
    """Whether two variables are the same but for rounding."""
    if key not in ours or key not in theirs:
        return False
    first, second = ours[key], theirs[key]
    if first.shape != second.shape or first.dtype != second.dtype or first.dtype.kind != "f":
        return False
    scale = float(np.abs(first[np.isfinite(first)]).max(initial=0.0))
    return bool(np.allclose(first, second, rtol=0.0, atol=ROUNDING * scale, equal_nan=True))


def _largest_z(first: xr.Dataset, second: xr.Dataset) -> tuple[float, str]:
    """Largest difference of a mean or standard deviation in its standard errors, and whose; infinite where unknown."""
    found = {}
    for name in first.data_vars:
        if name not in second.data_vars or first[name].shape != second[name].shape:
            return float("inf"), str(name)
        pair = [values[name].transpose("chain", "draw", ...).to_numpy() for values in (first, second)]
        found[str(name)] = max(_z(pair, "mean", np.mean), _z(pair, "sd", np.std))
    worst = max(found, key=lambda name: found[name], default="")
    return found.get(worst, float("inf")), worst


def _z(pair: Sequence[np.ndarray], method: str, moment: Callable[..., np.ndarray]) -> float:
    """Difference of a moment of two sets of draws (chain, draw, …), in standard errors of both; the largest of all."""
    values = [moment(draws, axis=(0, 1)) for draws in pair]
    errors = [np.asarray(mcse(draws, chain_axis=0, draw_axis=1, method=method)) for draws in pair]
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(values[0] == values[1], 0.0, np.abs(values[0] - values[1]) / np.hypot(*errors))
    return float(np.nan_to_num(z, nan=np.inf).max())


def _sha256(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
