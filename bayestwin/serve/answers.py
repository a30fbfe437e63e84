"""From what a request says to what it is answered: forecasts, alternatives, and readings held against forecasts."""

import datetime
from collections.abc import Mapping
from typing import Any

import numpy as np

from bayestwin._base.units import difference_unit, has_offset
from bayestwin.errors import InvalidTelemetry
from bayestwin.exported import ExportedForecast, ForecastDraws
from bayestwin.serve.bodies import DrawsBody, RowsBody, ScenarioBody, UpdateBody, numbers, series
from bayestwin.telemetry import Telemetry


def rows_of(forecast: ExportedForecast, body: RowsBody, columns: Mapping[str, list[Any]]) -> Telemetry:
    """Columns of a request as telemetry.

    Raises:
        InvalidTelemetry: They do not fit.
    """
    known = {*forecast.twin.inputs, *forecast.twin.events, *forecast.twin.observations}
    strange = [name for name in (*columns, *body.units) if name not in known]
    lengths = {name: len(own) for name, own in columns.items() if len(own) != len(body.times)}
    if strange:
        raise InvalidTelemetry(
            f"There is no input `{strange[0]}`.",
            expected=", ".join(f"`{name}`" for name in (*forecast.twin.inputs, *forecast.twin.events)) or "no inputs",
            received=", ".join(f"`{name}`" for name in strange),
            advice="Correct the name; `GET /models` lists those there are, with their units.",
        )
    if lengths:
        name, num = next(iter(lengths.items()))
        raise InvalidTelemetry(
            f"Input `{name}` has not one value for each time.",
            expected=f"{len(body.times)} values",
            received=f"{num}",
            advice="Write null where there is none.",
        )
    if len({isinstance(time, str) for time in body.times}) > 1:
        raise InvalidTelemetry(
            "Some times are dates, and others are numbers.",
            expected="dates in ISO 8601, or numbers",
            received="both",
            advice="Write all of them as those of the calibration are.",
        )
    table = {"time": body.times} | {name: np.array(own, float) for name, own in columns.items()}
    # events that are not told do not happen
    table |= {name: np.full(len(body.times), np.nan) for name in forecast.told_events if name not in columns}
    return forecast.read(table, body.units)


def forecast_answer(forecast: ExportedForecast, body: DrawsBody) -> tuple[dict[str, Any], ForecastDraws]:
    """The answer to `forecast`, but for its version, and the draws behind it."""
    drawn = forecast.draw(rows_of(forecast, body, body.inputs), seed=body.seed, draws=body.draws)
    told = {
        "times": times_of(drawn.times),
        "draws": drawn.chains * len(drawn.draws),
        "seed": body.seed,
        "observations": _observed(forecast, drawn, body.prob),
        "failed": failed(drawn),
        "warnings": forecast.beyond(drawn),
    }
    return told, drawn


def scenario_answer(forecast: ExportedForecast, body: ScenarioBody) -> dict[str, Any]:
    """The answer to `scenario`, but for its version: differences are those of the same draws."""
    told, plan = forecast_answer(forecast, body)
    told["alternatives"] = {}
    for name, changed in body.alternatives.items():
        future = rows_of(forecast, body, {**body.inputs, **changed})
        drawn = forecast.draw(future, seed=body.seed, draws=body.draws)
        differences = {}
        for observation, spec in forecast.twin.observations.items():
            apart = drawn.found[f"{observation}_noise_free"] - plan.found[f"{observation}_noise_free"]
            unit = str(difference_unit(spec.unit)) if has_offset(spec.unit) else spec.unit
            differences[observation] = series(apart, unit, body.prob)
        told["alternatives"][name] = {
            "observations": _observed(forecast, drawn, body.prob),
            "differences": differences,
            "failed": failed(drawn),
            "warnings": forecast.beyond(drawn),
        }
    return told


MOST_HELD_DRAWS = 1000
"""Draws against which readings are held."""


def held_points(forecast: ExportedForecast, body: UpdateBody) -> list[dict[str, Any]]:
    """Readings with the share of the draws below each, of those that come after the record's end.

    Raises:
        InvalidTelemetry: They do not fit.
    """
    strange = [name for name in body.observations if name not in forecast.twin.observations]
    if strange:
        raise InvalidTelemetry(
            f"There is no observation `{strange[0]}`.",
            expected=", ".join(f"`{name}`" for name in forecast.twin.observations),
            received=", ".join(f"`{name}`" for name in strange),
            advice="Correct the name.",
        )
    rows = rows_of(forecast, body, {**body.inputs, **body.observations})
    drawn = forecast.draw(rows, seed=0, draws=min(MOST_HELD_DRAWS, forecast.most_draws))
    labels = times_of(drawn.times)
    found = []
    for name, spec in forecast.twin.observations.items():
        if name not in body.observations:
            continue
        readings, draws = rows.in_unit(name, spec.unit), drawn.found[name]
        for place in np.flatnonzero(np.isfinite(readings)):
            own = draws[:, place]
            own = own[np.isfinite(own)]
            pit = numbers(np.array([np.mean(own < readings[place]) if own.size else np.nan]))[0]
            row = {"time": labels[place], "observation": name, "value": float(readings[place]), "pit": pit}
            found.append(row)
    return found


def times_of(labels: np.ndarray) -> list[Any]:
    """Times as JSON has them: numbers, or dates in UTC."""
    if labels.dtype.kind != "M":
        return labels.astype(float).tolist()
    return [f"{one}Z" for one in np.datetime_as_string(labels.astype("datetime64[ms]"))]


def failed(drawn: ForecastDraws) -> list[int]:
    """How many draws could not be solved up to each time."""
    gone = np.any([np.isnan(array) for name, array in drawn.found.items() if name.endswith("_state")], axis=0)
    return gone.sum(axis=0).tolist()


def model_answer(forecast: ExportedForecast) -> dict[str, Any]:
    """What a model takes and gives: names, units and words, where its record ends, and how much may be asked for."""
    twin, last = forecast.twin, forecast.last_time
    return {
        "inputs": {
            name: {"unit": one.unit, "doc": one.doc, "between_samples": one.hold, "beyond_its_ends": one.beyond}
            for name, one in twin.inputs.items()
        },
        "events": {
            name: {"unit": twin.events[name].unit, "doc": twin.events[name].doc} for name in forecast.told_events
        },
        "observations": {name: {"unit": one.unit, "doc": one.doc} for name, one in twin.observations.items()},
        "time": {
            "unit": forecast.tree.attrs["telemetry_time_unit"] or None,
            "time_zone": forecast.tree.attrs.get("telemetry_timezone") or None,
            "known_until": times_of(np.atleast_1d(np.asarray(last)))[0],
        },
        "most_times": forecast.most_times,
        "most_draws": forecast.most_draws,
        "doc": twin.doc,
    }


def _observed(forecast: ExportedForecast, drawn: ForecastDraws, prob: list[float]) -> dict[str, Any]:
    return {name: series(drawn.found[name], spec.unit, prob) for name, spec in forecast.twin.observations.items()}


def moment() -> str:
    """Now, in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def as_number(time: Any) -> float:
    """A time of an answer as a number, for pictures: dates in seconds."""
    if isinstance(time, str):
        return float(np.datetime64(time.removesuffix("Z"), "ms").astype(float)) / 1e3
    return float(time)
