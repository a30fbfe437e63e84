"""Telemetry that is only planned: its times and inputs after those that there are, and what is to be observed then."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from bayestwin.density.bind import Bound, bind
from bayestwin.density.density import Density, build_density
from bayestwin.density.experiments import Experiments
from bayestwin.errors import InvalidSetting, InvalidTelemetry, explain
from bayestwin.model.noise import Noise
from bayestwin.model.process_noise import ProcessNoise
from bayestwin.model.twin import Twin
from bayestwin.telemetry import Telemetry


def with_planned(
    twin: Twin, telemetry: Telemetry | Experiments, planned: Telemetry | Experiments
) -> tuple[Density, Density]:
    """The densities without and with planned observations; both have all times, so that they have the same z.

    A planned observation needs no value: it counts at each time at which its column has one, and at all times where
    the column is empty or absent.

    Args:
        twin: The twin.
        telemetry: What there is.
        planned: What is planned: it goes on from there; of experiments by name, which may be new.

    Raises:
        InvalidSetting: If the twin has process noise.
        InvalidTelemetry: If what is planned does not go on from what there is.
    """
    if isinstance(twin.model_error, ProcessNoise):
        message = explain(
            f"What planned telemetry would say of twin `{twin.name}` is not known.",
            expected="a twin without process noise, whose information does not hang on the values to come",
            received="`model_error=bt.ProcessNoise(…)`",
            advice="Pass `model_error=None` for an answer that leaves out disturbances, or leave out `planned`.",
        )
        raise InvalidSetting(message)
    if isinstance(telemetry, Telemetry) and isinstance(planned, Telemetry):
        bounds = _continued(twin, telemetry, planned)
        return build_density(twin, bounds[0]), build_density(twin, bounds[1])
    if isinstance(telemetry, Telemetry) or isinstance(planned, Telemetry):
        message = explain(
            "`planned` does not go on from `telemetry`.",
            expected="telemetry after telemetry, or experiments by name beside experiments",
            received="one telemetry and several experiments",
            advice='Name both: `{"first": telemetry}` and `{"second": planned}`.',
        )
        raise InvalidTelemetry(message)
    pairs = {name: _one(twin, telemetry, planned, name) for name in dict.fromkeys([*telemetry, *planned])}
    before, after = ({name: pair[part] for name, pair in pairs.items()} for part in range(2))
    return build_density(twin, before), build_density(twin, after)


def _one(twin: Twin, telemetry: Experiments, planned: Experiments, name: str) -> tuple[Bound, Bound]:
    """One experiment, without and with what is planned of it."""
    if name not in planned:
        bound = bind(twin, telemetry[name])
        return bound, bound
    if name in telemetry:
        return _continued(twin, telemetry[name], planned[name])
    bound = bind(twin, planned[name], observed=False)
    later = _expected(twin, bound)
    nothing = {key: np.full(len(bound.times), np.nan) for key in twin.observations}
    return bound._replace(observations=nothing), bound._replace(observations=later)


def _continued(twin: Twin, telemetry: Telemetry, planned: Telemetry) -> tuple[Bound, Bound]:
    past = bind(twin, telemetry)
    clocks = [(one.dated, one.units.get("time", twin.time_unit)) for one in (telemetry, planned)]
    last = telemetry.table.index[-1]
    if clocks[0] != clocks[1] or not planned.table.index[0] > last:
        message = explain(
            "`planned` does not go on from `telemetry`.",
            expected=f"times after {telemetry.shown(last)}, dates or numbers in the same unit as those before",
            received=f"times from {planned.shown(planned.table.index[0])} on",
            advice="Shift its times; what begins anew is another experiment: pass both by name.",
        )
        raise InvalidTelemetry(message)
    ahead = bind(twin, dataclasses.replace(planned, t0=telemetry.t0), observed=False)

    def joined(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: np.concatenate([before[name], after[name]]) for name in before}

    nothing = {name: np.full(len(ahead.times), np.nan) for name in twin.observations}
    whole = Bound(
        times=np.concatenate([past.times, ahead.times]),
        labels=np.concatenate([past.labels, ahead.labels]),
        observations=joined(past.observations, nothing),
        inputs=joined(past.inputs, ahead.inputs),
        events=joined(past.events, ahead.events),
    )
    return whole, whole._replace(observations=joined(past.observations, _expected(twin, ahead)))


def _expected(twin: Twin, bound: Bound) -> dict[str, np.ndarray]:
    """A value for each planned observation, which only says that there will be one; NaN elsewhere."""
    found = {}
    for name, observation in twin.observations.items():
        values = bound.observations.get(name, np.full(len(bound.times), np.nan))
        there = np.isfinite(values) if np.isfinite(values).any() else np.ones(len(bound.times), dtype=bool)
        found[name] = np.where(there, _possible(observation.noise), np.nan)
    return found


def _possible(noise: Noise) -> float:
    return 1.0 if bool(np.asarray(noise.support(1.0))) else 0.0
