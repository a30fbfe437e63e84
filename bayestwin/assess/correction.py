"""What a backtest has taught, applied to later forecasts: intervals whose ends are conformal quantiles of scores."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr

from bayestwin import errors
from bayestwin.assess import draws
from bayestwin.assess.grouping import Groups, values_of
from bayestwin.assess.scaling import scale_of

KINDS = ("raw", "conformal")


def corrected(tree: xr.DataTree, raw: xr.Dataset, conformal: xr.DataTree) -> xr.Dataset:
    """Conformal intervals beside the raw ones.

    Args:
        tree: A forecast of one experiment.
        raw: Its equal-tailed intervals (observation, prob, time).
        conformal: What `conformalize` returned.

    Returns:
        As `raw`, its ends with `kind` as the first dimension; NaN where a correction is not known, as for a horizon or
        an input outside of what the backtest saw.

    Raises:
        InvalidInput: This is no result of `conformalize`, or not for these observations.
        InvalidSetting: Another `prob` is asked for than was conformalized.
    """
    found = _checked(raw, conformal)
    row = draws.predictive(tree)[1]
    by = str(found.attrs["by"])
    masks = [np.ones(row.sizes["time"], dtype=bool)]
    if by:
        masks = groups_of(found, by).members(np.asarray(values_of(by, tree, None)))
        found = found.transpose(by, "observation", "prob")
    ends = {}
    for end in ("lower", "upper"):
        scores = found[end].to_numpy().reshape(len(masks), *raw[end].shape[:2])
        values = np.full(raw[end].shape, np.nan)
        for place, name in enumerate(raw["observation"].to_numpy()):
            spread = np.full(raw[end].shape[1:], np.nan)
            for number, mask in enumerate(masks):
                spread[:, mask] = scores[number, place][:, None]
            values[place] = scale_of(draws.samples(row, str(name))).value(spread)
        ends[end] = values
    return side_by_side(raw, ends["lower"], ends["upper"])


def side_by_side(raw: xr.Dataset, lower: np.ndarray, upper: np.ndarray) -> xr.Dataset:
    """Raw intervals, and conformal ones whose ends have shape (observation, prob, time), along `kind`."""
    found = raw.copy()
    for end, values in (("lower", lower), ("upper", upper)):
        both = np.stack([raw[end].to_numpy(), values])
        found[end] = (("kind", *raw[end].dims), both, raw[end].attrs)
    return found.assign_coords(kind=list(KINDS))


def groups_of(correction: xr.Dataset, by: str) -> Groups:
    """The groups that a correction distinguishes."""
    edges = None
    if f"{by}_from" in correction.coords:
        edges = np.append(correction[f"{by}_from"].to_numpy(), correction[f"{by}_to"].to_numpy()[-1])
    return Groups(by, correction[by].to_numpy(), edges)


def _checked(raw: xr.Dataset, conformal: xr.DataTree) -> xr.Dataset:
    """The correction for these observations and probabilities."""
    if "correction" not in conformal.children:
        raise errors.InvalidInput(_explain("a group `correction`", conformal.children))
    found = conformal["correction"].to_dataset()
    for dim, error in (("observation", errors.InvalidInput), ("prob", errors.InvalidSetting)):
        wanted, known = raw[dim].to_numpy(), found[dim].to_numpy()
        if not np.isin(wanted, known).all():
            raise error(_explain(f"{dim} {', '.join(map(str, wanted))}", [f"{dim} {one}" for one in known]))
        found = found.sel({dim: wanted})
    return found


def _explain(expected: str, received: Iterable[str]) -> str:
    return errors.explain(
        "`conformal` does not say how to correct these intervals.",
        expected=expected,
        received=", ".join(received) or "nothing",
        advice="Pass what `conformalize` returned for a backtest of this twin, and the `prob` that it was given.",
    )
