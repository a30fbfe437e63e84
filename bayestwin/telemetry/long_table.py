"""Telemetry of several experiments from one long table, in which a column says to which each row belongs."""

import pathlib
from typing import Unpack

import numpy as np
import pandas as pd
import xarray as xr

from bayestwin.errors import InvalidTelemetry, explain
from bayestwin.telemetry.columns import find
from bayestwin.telemetry.record import Telemetry
from bayestwin.telemetry.rows import read_rows
from bayestwin.telemetry.settings import Settings
from bayestwin.telemetry.sources import read_source


def read_experiments(
    data: str | pathlib.Path | pd.DataFrame | xr.Dataset,
    *,
    by: str,
    **settings: Unpack[Settings],
) -> dict[str, Telemetry]:
    """Read telemetry of several experiments, for `calibrate`.

    Args:
        data: Path of a file, or the table itself, as in `read_telemetry`.
        by: Column that names the experiment of each row.
        **settings: As of `read_telemetry`: `time`, `units`, `rename` and all others; `t0` says when the initial states
            of every experiment hold, by default at the first time of each.

    Returns:
        Telemetry by experiment, in the order in which they first appear.

    Raises:
        InvalidTelemetry: If there is no such column, a row belongs to no experiment, or `read_telemetry` refuses what
            belongs to one of them, whose name is then said.
    """
    source = read_source(data, settings.get("separator", ","), settings.get("decimal", "."))
    table = source.table
    if by not in table.columns and by in table.index.names:
        table = table.reset_index()
    by = find(by, map(str, table.columns))
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
            found[str(name)] = read_rows(source._replace(table=own), **settings)
        except InvalidTelemetry as reason:
            message = f"In experiment `{name}`: {reason}"
            raise InvalidTelemetry(message) from reason
    return found
