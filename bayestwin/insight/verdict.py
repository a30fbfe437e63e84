"""The verdict on ranks: which quantity is off, in which way, and what that usually means."""

import numpy as np
import xarray as xr

from bayestwin.assess.gates import Gate

MAX_DIVERGING = 0.01
"""Share of all transitions."""

MAX_REPLACED = 0.05
"""Share of all prior draws that may be impossible to solve before a person should look at the prior."""

CLEAR = 2.0
"""Standard errors by which mean or spread of the ranks must differ from a uniform distribution's to give it a name."""

SHAPES = {
    "too narrow": "truths lie in the tails too often: the posterior is too narrow. Usually the log density takes the "
    "noise for smaller than it is, counts something twice, or chains do not get around",
    "too wide": "truths lie in the middle too often: the posterior is too wide. Usually the log density takes the "
    "noise for larger than it is, or leaves observations out",
    "too high": "truths rank too low: the posterior lies too high. Usually simulation and log density differ in times, "
    "inputs, units or priors, or a change of variables has no or a wrong Jacobian",
    "too low": "truths rank too high: the posterior lies too low. Usually simulation and log density differ in times, "
    "inputs, units or priors, or a change of variables has no or a wrong Jacobian",
    "uneven": "ranks are uneven, without a shape that has a name. Look at the picture, and at the chains",
}

OF_DATA = {
    "too high": "draws agree with the data better than the truth does. Usually the log density takes the noise for "
    "smaller than it is, or counts something twice",
    "too low": "draws agree with the data worse than the truth does. Usually the log density leaves observations out, "
    "or has them at other times or with other noise than the simulation",
}
"""What a shift means of the log likelihood; of squared errors it means the opposite."""


def judge_sbc(found: xr.Dataset | xr.DataTree) -> tuple[Gate, ...]:
    """Judge the ranks of a simulation-based calibration.

    Args:
        found: What `sbc` returned, or the tree that `load` made of it.

    Returns:
        A gate for each quantity, `sbc <quantity>`, whose value is the largest distance of its curve from a uniform
        distribution's, and whose limit is the band there; if all is right, all of them pass with the probability
        `level`. Then warnings: `chains` (are draws nearly independent), `divergences`, and `prior` (can it be solved).
    """
    dataset = found.to_dataset() if isinstance(found, xr.DataTree) else found
    names = [str(name) for name in dataset["quantity"].values]
    return (*(_quantity(dataset.sel(quantity=name), name) for name in names), *_chains(dataset))


def shape_of(ranks: np.ndarray) -> str:
    """The name of what is wrong with ranks, shape (n,), that are not uniform: a key of `SHAPES`."""
    num = len(ranks)
    shift = (ranks.mean() - 0.5) * np.sqrt(12.0 * num)
    spread = (ranks.var() - 1.0 / 12.0) * np.sqrt(180.0 * num)  # about their own mean: a shift is not a spread
    if max(abs(shift), abs(spread)) < CLEAR:
        return "uneven"
    if abs(shift) >= abs(spread):
        return "too low" if shift > 0 else "too high"
    return "too narrow" if spread > 0 else "too wide"


def _quantity(one: xr.Dataset, name: str) -> Gate:
    ranks, at, ecdf = one["rank"].values, one["z"].values, one["ecdf"].values
    lower, upper = one["band_lower"].values, one["band_upper"].values
    if not np.isfinite(ranks).all():
        bad = int((~np.isfinite(ranks)).sum())
        sentence = f"`{name}` has no rank in {bad} of {ranks.size} simulations: draws or truth are not finite."
        return Gate(f"sbc {name}", False, float("nan"), 0.0, sentence)
    # how far a curve is from z, as a share of the way to the band; the worst place is told
    room = np.where(ecdf >= at, upper - at, at - lower)
    worst = int(np.argmax(np.abs(ecdf - at) / np.maximum(room, 1e-12)))
    value, limit = float(abs(ecdf - at)[worst]), float(room[worst])
    passed = bool(one["within_band"])
    facts = f"{ecdf[worst]:.0%} of the ranks lie below {at[worst]:.2f}, the band goes from {lower[worst]:.0%} to "
    facts += f"{upper[worst]:.0%}"
    words = f"`{name}` is calibrated as far as {ranks.size} simulations can tell: {facts}."
    if not passed:
        words = f"`{name}`: {_meaning(name, shape_of(ranks))}. {facts[0].upper()}{facts[1:]}."
    return Gate(f"sbc {name}", passed, value, limit, words)


def _meaning(name: str, shape: str) -> str:
    if name == "log_likelihood":
        return OF_DATA.get(shape, SHAPES[shape])
    if name.endswith("_squared_error"):
        return OF_DATA.get({"too high": "too low", "too low": "too high"}.get(shape, shape), SHAPES[shape])
    return SHAPES[shape]


def _chains(found: xr.Dataset) -> tuple[Gate, ...]:
    ess, num_draws, num = found["ess"].values, int(found.attrs["num_draws"]), found.sizes["simulation"]
    weakest, least = found["quantity"].values[int(np.argmin(ess))], float(np.min(ess))
    diverging, replaced = float(found["diverging"].mean()), int(found.attrs["not_solved"])
    share, some = replaced / (replaced + num), int((found["diverging"] > 0).sum())
    return (
        _warning(
            "chains",
            -least,
            -num_draws / 3.0,
            f"{num_draws} draws of `{weakest}` are worth {least:.0f} independent ones, and of others more.",
            "Draws that remember each other make posteriors look too narrow.",
        )._replace(value=least, limit=num_draws / 3.0),
        _warning(
            "divergences",
            diverging,
            MAX_DIVERGING,
            f"{diverging:.2%} of the transitions diverged, in {some} of {num} posteriors.",
            "Parts of these may be missing.",
        ),
        _warning(
            "prior",
            share,
            MAX_REPLACED,
            f"{replaced} of {replaced + num} prior draws could not be solved, and were replaced.",
            "The prior that is checked is cut to where the twin can be solved: look at it.",
        ),
    )


def _warning(name: str, value: float, limit: float, sentence: str, otherwise: str) -> Gate:
    """A gate that stops nothing: passed where the value is not above its limit."""
    passed = bool(value <= limit)
    return Gate(name, passed, value, limit, sentence if passed else f"{sentence} {otherwise}", "warn")
