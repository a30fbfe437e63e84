"""`validation.nc`: all that a validation found, as groups of one tree."""

import re
from typing import Any

import xarray as xr

from bayestwin.assess.trust import as_plain
from bayestwin.assess.validated import BACKTEST, HELD_OUT, Validated

FRONT = {HELD_OUT: "", BACKTEST: "backtest_"}


def validation_tree(found: Validated, settings: dict[str, Any]) -> xr.DataTree:
    """One tree, bound to twin and telemetry by its attributes.

    Groups are `coverage`, `coverage_by_<name>`, `conformal` and `conformal_by_<name>` (raw and conformal intervals at
    the times at which there are both), `pit`, `scores`, each also of the backtest with `backtest_` before it;
    `intervals`, and the `correction` that conformal ones are made from. In names of columns `_` stands for all but
    letters and digits.
    """
    groups: dict[str, xr.Dataset] = {}
    for word, evidences in (("coverage", found.evidence), ("conformal", found.both)):
        for part, evidence in evidences.items():
            groups[f"{FRONT[part]}{word}"] = evidence.whole
            groups |= {
                f"{FRONT[part]}{word}_by_{_storable(name)}": _renamed(table) for name, table in evidence.by.items()
            }
    for word, tables in (("pit", found.pit), ("scores", found.scores)):
        groups |= {f"{FRONT[part]}{word}": table for part, table in tables.items()}
    groups["intervals"] = found.intervals
    if found.correction is not None:
        groups["correction"] = found.correction
    tree = xr.DataTree.from_dict(groups)
    kept = ("twin", "twin_sha256", "telemetry_sha256", "bayestwin_version", "time_unit")
    tree.attrs = {name: found.posterior.attrs[name] for name in kept if name in found.posterior.attrs}
    tree.attrs |= {
        "held_out_sha256": found.telemetry.sha256,
        "seed": settings["seed"],
        "prob": found.prob,
        "settings": settings,
        "verdict": as_plain(found.trust),
    }
    return tree


def _renamed(table: xr.Dataset) -> xr.Dataset:
    """A table whose names can be stored: columns may be called `W/m2` or `pump speed`."""
    names = {str(name) for name in (*table.variables, *table.dims) if _storable(str(name)) != name}
    return table.rename({name: _storable(name) for name in names})


def _storable(name: str) -> str:
    plain = re.sub(r"\W", "_", name)
    return plain if plain.isidentifier() else f"_{plain}"
