"""Units that data carry themselves: attributes of xarray variables, and pint quantities. NumPy would drop them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from bayestwin._base.units import check_unit, named_alike
from bayestwin.errors import InvalidTelemetry, explain


def of_dataset(dataset: xr.Dataset) -> tuple[xr.Dataset, dict[str, str]]:
    """A dataset with plain arrays, and the units that its variables state, by the attribute `units` or as quantities.

    Raises:
        InvalidTelemetry: If a variable's quantity and its attribute state different units.
    """
    units, plain = {}, {}
    for name, variable in dataset.variables.items():
        stated = variable.attrs.get("units")
        if isinstance(stated, str) and not np.issubdtype(variable.dtype, np.datetime64):
            units[str(name)] = "" if stated == "1" else stated
        data: Any = variable.data
        if _is_quantity(data):
            unit = str(data.units)
            _check_same(f"`{name}`", unit, units.get(str(name), unit), "its attribute `units`")
            units[str(name)] = unit
            plain[name] = (variable.dims, data.magnitude, variable.attrs)
    return dataset.assign(plain) if plain else dataset, units


def of_table(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """A table with plain numbers for pint quantities in cells, and the units that these had.

    Raises:
        InvalidTelemetry: If the quantities in a column do not convert to the unit of the first.
    """
    units = {}
    for place, name in enumerate(table.columns):
        column = table.iloc[:, place]
        there = [cell for cell in column if _is_quantity(cell)] if column.dtype == object else []
        if not there:
            continue
        units[str(name)] = str(there[0].units)
        try:
            plain = [cell.to(there[0].units).magnitude if _is_quantity(cell) else cell for cell in column]
        except Exception as reason:  # of pint, or of a registry of the user's
            message = explain(
                f"Telemetry column `{name}` holds quantities of different kinds.",
                expected=f"all of them in units that convert to `{there[0].units}`, as the first one is",
                received=str(reason),
                advice="Give each kind a column of its own.",
            )
            raise InvalidTelemetry(message) from reason
        table = table.assign(**{str(name): plain})
    return table, units


def joined(carried: dict[str, str], given: dict[str, str], labels: Mapping[str, str]) -> dict[str, str]:
    """Units by column: those that the data carry, and those that the user gives, which must not contradict them.

    Raises:
        InvalidTelemetry: If they do, or a carried unit does not parse and none is given.
    """
    for name, unit in given.items():
        check_unit(unit, f"telemetry column {labels.get(name, f'`{name}`')}, in `units`,", InvalidTelemetry)
    for name, unit in carried.items():
        called = labels.get(name, f"`{name}`")
        if name not in given:
            check_unit(unit, f"telemetry column {called}, as the data state it,", InvalidTelemetry)
        elif _parses(unit):
            _check_same(called, unit, given[name], "`units`")
    return carried | given


def _parses(unit: str) -> bool:
    try:
        check_unit(unit, "", InvalidTelemetry)
    except InvalidTelemetry:
        return False
    return True


def _check_same(label: str, carried: str, given: str, where: str) -> None:
    if named_alike(carried, given):
        return
    message = explain(
        f"Telemetry column {label} has two units.",
        expected=f"`{carried}`, as the data themselves state it",
        received=f"`{given}` by {where}",
        advice="Drop the wrong one. To convert, state the unit that the numbers are in: the twin's is made of it.",
    )
    raise InvalidTelemetry(message)


def _is_quantity(value: Any) -> bool:
    return hasattr(value, "magnitude") and hasattr(value, "units")
