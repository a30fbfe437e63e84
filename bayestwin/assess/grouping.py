"""Points in groups: by forecast horizon, by origin, by bins of an input, or by a label of each time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from bayestwin import errors
from bayestwin.assess import draws
from bayestwin.assess.draws import flat
from bayestwin.telemetry.times import at

if TYPE_CHECKING:
    from bayestwin.telemetry import Telemetry

type By = str | pd.Series | None
type BinEdges = int | Sequence[float] | None
type Judge = Callable[[xr.DataTree, Telemetry | None], Callable[[np.ndarray], xr.Dataset]]
"""(result, telemetry) → a function that says something of the points marked in a mask, shape (time,)."""

FEW = 12
"""Up to as many different values are groups of their own."""

QUARTERS = 4
"""Without bins, more values than that are split into as many groups of equal size."""

TAKEN = ("observation", "prob", "kind", "time", "experiment", "z")


class Groups(NamedTuple):
    """Groups of points.

    Attributes:
        name: Dimension that they are to be.
        labels: Value or, of bins, text of each; shape (G,).
        edges: Ends of the bins, which hold their lower end (the last one both); shape (G + 1,). None for values.
    """

    name: str
    labels: np.ndarray
    edges: np.ndarray | None

    def members(self, values: np.ndarray) -> list[np.ndarray]:
        """Mask of the points, shape (n,), in each group."""
        if self.edges is not None:
            place = np.searchsorted(self.edges, values, side="right") - 1
            place = np.where(values == self.edges[-1], len(self.labels) - 1, place)
            return [place == number for number in range(len(self.labels))]
        if values.dtype.kind in "fi":
            return [np.isclose(values, label, rtol=1e-9, atol=0.0) for label in self.labels]
        return [values.astype(str) == label for label in self.labels.astype(str)]

    @property
    def coords(self) -> dict[str, Any]:
        """Coordinates along the dimension."""
        ends = {} if self.edges is None else {"from": self.edges[:-1], "to": self.edges[1:]}
        return {self.name: self.labels} | {f"{self.name}_{end}": (self.name, v) for end, v in ends.items()}


def grouped(
    judge: Judge,
    tree: xr.DataTree,
    telemetry: Telemetry | Mapping[str, Telemetry] | None,
    by: By,
    bins: BinEdges,
) -> xr.Dataset:
    """What is to be said of all points together, or of each group of them as the first dimension.

    Args:
        judge: What says it.
        tree: A result; of several experiments these become the first dimension.
        telemetry: Observations, of experiments by name.
        by: See `values_of`.
        bins: See `find_groups`; experiments have the same.
    """
    groups = None
    if by is not None:
        name = name_of(by)
        values = [values_of(by, part, one) for part, one in draws.parts(tree, telemetry)]
        groups = find_groups(name, np.concatenate(values), bins)

    def of_one(part: xr.DataTree, one: Telemetry | None) -> xr.Dataset:
        judged = judge(part, one)
        if groups is None:
            return judged(np.ones(draws.axis(part).sizes["time"], dtype=bool))
        found = draws.all_with_failed([judged(keep) for keep in groups.members(values_of(by, part, one))])
        along = pd.Index(groups.labels, name=groups.name)
        return xr.concat(found, along, coords="minimal", compat="override").assign_coords(groups.coords)

    if isinstance(telemetry, Mapping):
        return draws.of_each(tree, telemetry, of_one)
    return of_one(tree, telemetry)


def name_of(by: str | pd.Series) -> str:
    """The dimension that groups become.

    Raises:
        InvalidSetting: Results have such a dimension anyway.
    """
    name = by if isinstance(by, str) else str(by.name or "group")
    if name in TAKEN:
        raise errors.InvalidSetting(
            f"`by` cannot be `{name}`: a result has that dimension anyway.",
            expected='"horizon", "origin", an input, a column of the telemetry, or a pandas Series of labels',
            received=f"{name!r}",
            advice="Leave `by` out; experiments are told apart where telemetry is given by their names.",
        )
    return name


def values_of(by: By, tree: xr.DataTree, telemetry: Telemetry | None) -> np.ndarray:
    """The value by which each point is put into a group, missing where it has none.

    Args:
        by: `"horizon"` (time since the last known observation), `"origin"` of a backtest, the name of an input or of a
            column of the telemetry, or a Series of labels over the user's times.
        tree: A result, of one experiment.
        telemetry: Telemetry that has the column.

    Returns:
        Shape (time,).

    Raises:
        InvalidSetting: There is nothing of that name.
    """
    row = draws.axis(tree)
    if isinstance(by, pd.Series):
        return by.reindex(draws.labels(row)).to_numpy()
    if by == "horizon":
        return draws.horizons(tree, row)
    if by == "origin" and "origin" in row.coords:
        return row["origin"].to_numpy()
    inputs = xr.Dataset()
    if "predictions_constant_data" in tree.children:
        inputs = flat(tree["predictions_constant_data"].to_dataset())
        if by in inputs.data_vars:
            return at(inputs[by].to_numpy(), pd.Index(row["time"].to_numpy()), pd.Index(inputs["time"].to_numpy()))
    columns = {} if telemetry is None else telemetry.table
    if telemetry is not None and by in columns:
        own = draws.counted(telemetry, row["experiment"]) if "experiment" in row.coords else telemetry
        return at(own.table[by].to_numpy(), draws.labels(row), own.table.index)
    raise errors.InvalidSetting(
        f"There is no `{by}` by which points could be grouped.",
        expected='"horizon"' + "".join(f", {str(name)!r}" for name in ("origin", *inputs.data_vars, *columns)),
        received=f"{by!r}",
        advice="Labels that are text come as a pandas Series over the times.",
    )


def find_groups(name: str, values: np.ndarray, bins: BinEdges) -> Groups:
    """Groups that values fall into.

    Args:
        name: Dimension that they are to be.
        values: Shape (n,).
        bins: Number of bins that hold about as many points each, or their edges, increasing. By default each value is a
            group where there are at most 12, and otherwise there are 4 bins.

    Raises:
        InvalidSetting: No value, or bins of what is no number, or that are none.
    """
    known = values[~pd.isna(values)]
    different = np.unique(known.astype(str)) if known.dtype == object else np.unique(known)
    if bins is None and 0 < different.size <= FEW:
        return Groups(name, different, None)
    if known.size == 0 or known.dtype.kind not in "fib":
        raise _no_groups(name, f"{different.size} different values that are not numbers" if known.size else "no value")
    if bins is None or isinstance(bins, int | np.integer):
        count = QUARTERS if bins is None else int(bins)
        edges = np.unique(np.quantile(known.astype(float), np.linspace(0.0, 1.0, max(count, 0) + 1)))
    else:
        edges = np.asarray(bins, dtype=float)
    if edges.size < 2 or not (np.diff(edges) > 0).all():
        raise _no_groups(name, f"bins={bins}")
    texts = np.array([f"{low:g} to {high:g}" for low, high in itertools.pairwise(edges)])
    return Groups(name, texts, edges)


def _no_groups(name: str, received: str) -> errors.InvalidSetting:
    return errors.InvalidSetting(
        f"`{name}` does not make groups.",
        expected="numbers and a number of bins or their increasing edges, or at most 12 different labels",
        received=received,
        advice="Pass `bins=4` or `bins=(0, 6, 24)`, or labels that repeat.",
    )
