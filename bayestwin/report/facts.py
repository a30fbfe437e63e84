"""Facts by name: what a result and the record of a run say about where they come from."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from bayestwin.assess.recorded import record
from bayestwin.report.reading import Part, group
from bayestwin.telemetry import Telemetry, said


def result_rows(
    posterior: xr.DataTree, parts: Sequence[Part], forecast: xr.DataTree | None, validation: Telemetry | None
) -> list[tuple[str, str]]:
    """What the result's own attributes say about where it comes from."""
    attrs = posterior.attrs
    rows = [
        ("bayestwin", str(attrs.get("bayestwin_version", "not recorded"))),
        ("schema version", str(attrs.get("schema_version", "not recorded"))),
        ("seed", str(attrs.get("seed", "not recorded"))),
        (
            "solver",
            str(attrs.get("solver") or record(posterior, "description").get("solver", "not recorded")),
        ),
        ("warm-up draws a chain", str(attrs.get("num_warmup", "not recorded"))),
        ("start of the twin (t0)", _named(attrs.get("t0", "not recorded"))),
    ]
    for part in parts:
        time = part.bands["time"] if part.bands is not None else part.observed.get("time")
        if time is not None and time.size:
            rows.append((f"times, {part.label}", f"{time.size:,}, from {_moment(time[0])} to {_moment(time[-1])}"))
    stats = group(posterior, "sample_stats")
    if "solver_failed" in stats:
        failures = (stats["solver_failed"] != 0).sum("draw").to_numpy()
        chains = ", ".join(f"chain {chain}: {int(number):,}" for chain, number in enumerate(failures) if number)
        total = f"{int(failures.sum()):,} of {stats['solver_failed'].size:,}"
        rows.append(("failed solves", f"{total} ({chains})" if chains else total))
    rows.append(("SHA-256 of the twin", str(attrs.get("twin_sha256", "not recorded"))))
    rows.append(("SHA-256 of the telemetry", str(attrs.get("telemetry_sha256", "not recorded"))))
    if forecast is not None:
        rows.append(("seed of the forecast", str(forecast.attrs.get("seed", "not recorded"))))
    if validation is not None:
        rows.append(("source of the held-out telemetry", str(validation.source)))
        rows.append(("SHA-256 of the held-out telemetry", str(validation.sha256)))
    return rows


def flat_rows(nested: Mapping[str, Any] | str, front: str = "") -> list[tuple[str, str]]:
    """A nested mapping, or its JSON text, as rows `outer · inner` → value."""
    held = json.loads(nested) if isinstance(nested, str) else nested
    rows: list[tuple[str, str]] = []
    for key, value in held.items():
        name = f"{front} · {key}" if front else str(key)
        if isinstance(value, Mapping):
            rows += flat_rows(value, name)
        elif isinstance(value, list | tuple):
            rows.append((name, ", ".join(map(str, value)) or "none"))
        else:
            rows.append((name, f"{value:.6g}" if isinstance(value, float) else str(value)))
    return rows


def _named(value: Any) -> str:
    """A value, or that of each experiment."""
    return ", ".join(f"{name}: {one}" for name, one in value.items()) if isinstance(value, Mapping) else str(value)


def _moment(time: xr.DataArray) -> str:
    value = time.to_numpy()
    if np.issubdtype(value.dtype, np.datetime64):
        return said(value.astype("datetime64[m]")[()])
    return f"{value.item():g}"
