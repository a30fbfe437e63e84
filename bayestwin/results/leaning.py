"""Whether a forecast leans on what only the priors say, and how far.

Directions of the parameters that calibration did not narrow are those of T. Cui et al. (2014),
doi:10.1088/0266-5611/30/11/114015, by draws.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.special
import xarray as xr

NARROWED = 0.5
"""Share of its prior variance that a direction of the parameters keeps at most, if calibration has narrowed it."""

LEANING = 1.0 / 3.0
"""Share of the variance of a new observation that comes from directions which are not narrowed, beyond which it leans.

Of what was calibrated no observation with normal noise does in a linear twin: its information alone narrows them."""

FEWEST_PRIOR, TOLD_APART = 100, 0.3
"""Fewer draws of a prior say little; correlations that so many cannot tell from chance are none."""


class Leaning(NamedTuple):
    """How far one observation leans on the priors.

    Attributes:
        share: Of the variance of a new observation, at each time; shape (n,).
        blame: Of each parameter in that, where it leans; by name.
    """

    share: np.ndarray
    blame: Mapping[str, float]


def array_of(dataset: Any, name: str, *dims: str) -> np.ndarray:
    """A variable with these dimensions first, those of them that it has; experiments before times, one without."""
    variable = dataset.variables[name]
    found = variable.transpose(*[dim for dim in dims if dim in variable.dims], ...).to_numpy()
    if "experiment" not in dims or "experiment" in variable.dims:
        return found
    return np.expand_dims(found, dims.index("experiment"))


@dataclasses.dataclass(frozen=True, eq=False)
class PriorScores:
    """Draws of the prior and of the forecast as normal quantiles among the former, by parameter; shape (E, draws) each.

    A parameter that other assets tell of has no mere prior; where a forecast starts anew, initial states are told.
    """

    experiments: tuple[str, ...]
    found: Mapping[str, tuple[np.ndarray, np.ndarray]]
    known: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, posterior: xr.DataTree, ahead: Any, *, anew: bool) -> "PriorScores":
        """Of the draws of a forecast, the predictions `ahead`; `anew` where it starts from states that are given."""
        group, told = posterior["posterior"].dataset, posterior.attrs.get("population") or {}
        draws, wanted = group.variables["draw"].to_numpy(), ahead.variables["draw"].to_numpy()
        if "prior" not in posterior.children or not np.isin(wanted, draws).all():
            return cls((), {})
        priors, places, found = posterior["prior"].dataset, np.searchsorted(draws, wanted), {}
        for name, variable in group.variables.items():
            kind = variable.attrs.get("kind")
            if kind in (None, "derived", "noise") or name not in priors or name in told.get("names", ()):
                continue
            if anew and kind == "initial":
                continue
            prior, drawn = (array_of(one, str(name), "experiment", "chain", "draw") for one in (priors, group))
            prior, drawn = (one.reshape(len(one), -1) for one in (prior, drawn[..., places]))
            if prior.shape[1] >= FEWEST_PRIOR and np.isfinite(prior).all() and np.ptp(prior, axis=1).all():
                found[str(name)] = (prior, drawn)
        several = "experiment" in group.dims
        return cls(tuple(map(str, group.variables["experiment"].to_numpy())) if several else (), found)

    def alone(self, name: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Those of one experiment: of the prior, of the forecast, shape (draws, parameters), and whose they are."""
        known = name in self.experiments
        expected, drawn, names = [], [], []
        for parameter, (prior, values) in self.found.items():
            if len(prior) > 1 and not known:
                continue
            place = self.experiments.index(name) if len(prior) > 1 else 0
            ordered = np.sort(prior[place])
            normal = scipy.special.ndtri((np.arange(ordered.size) + 0.5) / ordered.size)
            expected.append(np.interp(prior[place], ordered, normal))
            drawn.append(np.interp(values[place], ordered, normal))
            names.append(parameter)
        both = (np.stack(own, axis=1) if names else np.zeros((0, 0)) for own in (expected, drawn))
        return (*both, names)  # type: ignore[return-value]

    def directions(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]] | None:
        """Of one experiment `s`, shape (draws, p), λ and V of `leaning_of`, and the p parameters; None if untold."""
        if name not in self.known:
            prior, drawn, names = self.alone(name)
            self.known[name] = None
            if names and len(drawn) >= 10 * len(names):
                correlation = np.atleast_2d(np.corrcoef(prior, rowvar=False))
                correlation[np.abs(correlation) < TOLD_APART] = 0.0
                size, axes = np.linalg.eigh(correlation)
                drawn = (drawn - drawn.mean(axis=0)) @ (axes / np.sqrt(np.maximum(size, 1e-3)) @ axes.T)
                self.known[name] = (drawn, *np.linalg.eigh(drawn.T @ drawn / len(drawn)), names)
        return self.known[name]


def leaning_of(
    signals: Sequence[str], scores: PriorScores, ahead: Any, name: str, rows: tuple[int, np.ndarray]
) -> dict[int, Leaning]:
    """By signal that is observed, how far it leans on the priors; nothing where that cannot be told.

    With `s` the parameters on the scale on which their prior is standard normal, and `V diag(λ) Vᵀ` the covariance of
    `s` in the posterior, direction i explains `cov(y, Vᵢᵀ s)² / λᵢ` of the variance of a prediction y; it is one that
    is not narrowed where `λᵢ` is more than `NARROWED`.
    """
    told = scores.directions(name)
    if told is None:
        return {}
    drawn, kept, directions, parameters = told
    num, wide = len(drawn), kept > NARROWED
    found = {}
    for signal, observation in enumerate(signals):
        if f"{observation}_noise_free" not in ahead.variables or not wide.any():
            continue
        both = (
            array_of(ahead, one, "experiment", "chain", "draw") for one in (f"{observation}_noise_free", observation)
        )
        expected, new = (one[rows[0]].reshape(num, -1)[:, rows[1]] for one in both)
        solved = np.isfinite(expected).all(axis=1) & np.isfinite(new).all(axis=1)
        if solved.mean() < 0.5:
            continue
        expected, along = expected[solved], (drawn @ directions[:, wide])[solved]
        slope = (along - along.mean(axis=0)).T @ (expected - expected.mean(axis=0)) / solved.sum()
        parts = slope**2 / kept[wide, None]
        share = parts.sum(axis=0) / np.maximum(new[solved].var(axis=0), np.finfo(float).tiny)
        weights = directions[:, wide] ** 2 @ parts[:, share > LEANING].sum(axis=1)
        blame = dict(zip(parameters, weights / weights.sum(), strict=True)) if weights.any() else {}
        found[signal] = Leaning(share, blame)
    return found
