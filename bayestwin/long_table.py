"""Telemetry of several experiments from one long table, in which a column says to which each row belongs."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from bayestwin.errors import InvalidTelemetry, explain
from bayestwin.telemetry import Telemetry, read_table, read_telemetry


def read_experiments(
    data: str | pathlib.Path | pd.DataFrame | xr.Dataset,
    *,
    by: str,
    time: str = "time",
    units: Mapping[str, str] | None = None,
    rename: Mapping[str, str] | None = None,
    t0: Any = None,
) -> dict[str, Telemetry]:
    """Read telemetry of several experiments, for `calibrate`.

    Args:
        data: Path of a CSV file, or the table itself.
        by: Column that names the experiment of each row.
        time: As in `read_telemetry`, as is what follows.
        units: Unit of each column.
        rename: Names in the data → names in the twin.
        t0: When the initial states of every experiment hold; by default the first time of each.

    Returns:
        Telemetry by experiment, in the order in which they first appear.

    Raises:
        InvalidTelemetry: If there is no such column, a row belongs to no experiment, or `read_telemetry` refuses what
            belongs to one of them, whose name is then said.
    """
    table, _ = read_table(data)
    if by not in table.columns and by in table.index.names:
        table = table.reset_index()
    if by not in table.columns:
        received = ", ".join(f"`{column}`" for column in table.columns)
    elif table.empty:
        received = "no rows"
    else:
        nameless = int(np.count_nonzero(table[by].isna()))
        received = f"{nameless} rows without one" if nameless else ""
    if received:
        message = explain(
            f"Telemetry has no experiments in `{by}`.",
            expected="a column with the name of an experiment in each row",
            received=received,
            advice="Pass `by='<the column with the experiments>'`, and drop rows that belong to none.",
        )
        raise InvalidTelemetry(message)
    found = {}
    for name, rows in table.groupby(by, sort=False):
        own = rows.drop(columns=by)
        if not isinstance(own.index, pd.MultiIndex) and own.index.name is None:
            own = own.reset_index(drop=True)
        try:
            found[str(name)] = read_telemetry(own, time=time, units=units, rename=rename, t0=t0)
        except InvalidTelemetry as reason:
            message = f"In experiment `{name}`: {reason}"
            raise InvalidTelemetry(message) from reason
    return found
