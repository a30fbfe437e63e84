"""The features that a job declares, made of its telemetry before that is split, and looked at where it is."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bayestwin.density.bind import elapsed
from bayestwin.errors import InvalidTelemetry, explain
from bayestwin.model.twin import Twin
from bayestwin.project.feature_sections import KINDS, FeatureSection
from bayestwin.project.sections import Job, SplitSection
from bayestwin.project.wording import about_job
from bayestwin.telemetry import Telemetry
from bayestwin.telemetry.adding import add_features
from bayestwin.telemetry.derived import Feature
from bayestwin.telemetry.features_derived import Expression, Standardized
from bayestwin.telemetry.leakage import made_of, refuse_ahead
from bayestwin.telemetry.record import sealed


def with_features(
    telemetry: Telemetry, job: Job, job_path: pathlib.Path, split: SplitSection, *, partly: bool = False
) -> Telemetry:
    """Telemetry with the features of a job.

    Args:
        telemetry: What was recorded.
        job: Has them in the tables `[features.NAME]`.
        job_path: Where it is, for messages.
        split: Says where the held-out part begins, of which statistics know nothing.
        partly: Whether those may be left out that are made of columns which are not there.

    Raises:
        InvalidTelemetry: As of `add_features`, naming the table.
    """
    if not job.features:
        return telemetry
    until = split.hold_out_from
    features = {name: _declared(section, telemetry, until) for name, section in job.features.items()}
    if partly:
        features = _possible(features, telemetry)
    with about_job(f"`[features]` of `{job_path}`"):
        return add_features(telemetry, features)


def continued(earlier: Telemetry, later: Telemetry) -> Telemetry:
    """Telemetry that goes on from what was recorded before it, so that features know what that was."""
    if earlier.dated != later.dated:
        return later
    before = earlier.table.loc[earlier.table.index < later.table.index[0]]
    table = pd.concat([before, later.table]).reindex(columns=list(dict.fromkeys([*earlier.table, *later.table])))
    units = {**earlier.units, **later.units}
    # moments in the declarations of features are on the clock of what was recorded
    settings = {} if earlier.timezone is None else {"timezone": earlier.timezone}
    return sealed(table.rename_axis("time"), units, later.t0, later.source, later.notices, settings, later.renamed)


def check_driven(twin: Twin, calibration: Telemetry, held_out: Telemetry | None, job_path: pathlib.Path) -> None:
    """Refuse features that drive a twin where they are not known.

    Args:
        twin: The twin.
        calibration: What is calibrated.
        held_out: What is to be predicted; None for nothing.
        job_path: The job file, for messages.

    Raises:
        InvalidTelemetry: At first, where windows are not full yet, or in the held-out part.
    """
    driving = [name for name in made_of(calibration) if name in twin.inputs]
    table = calibration.table
    known = np.isfinite(table[driving].to_numpy(np.float64)).all(axis=1)
    if driving and known.any() and not known[0]:
        first = table.index[int(known.argmax())]
        moment = f'"{calibration.shown(first)}"' if calibration.dated else f"{float(first)!r}"
        late = driving[int(np.isnan(table[driving].to_numpy(np.float64)[0]).argmax())]
        message = explain(
            f"The input `{late}` is a feature that is not known at first.",
            expected="a value from the start on: the twin is driven by it",
            received=f"none before {calibration.shown(first)}",
            advice=f"Begin there: `start = {moment}` in `[split]` of `{job_path}`. What was recorded before is used "
            "for features alone.",
        )
        raise InvalidTelemetry(message)
    if held_out is None:
        return
    unit = calibration.units.get("time", twin.time_unit)
    both = [elapsed(part.table.index, calibration.t0, unit, twin.time_unit) for part in (calibration, held_out)]
    last = float(both[0][-1])
    try:
        refuse_ahead(held_out, twin.inputs, twin.observations, last=last, times=both[1], time_unit=twin.time_unit)
    except InvalidTelemetry as reason:
        message = f"In the part that is held out: {reason}"
        raise InvalidTelemetry(message) from reason


def _declared(section: FeatureSection, telemetry: Telemetry, calibrated_until: Any) -> Feature:
    feature = KINDS[section.kind](**section.model_dump(exclude={"kind"}))
    if isinstance(feature, Standardized) and feature.until is None:
        until = calibrated_until
        if until is None:  # all is calibrated, the last row too
            last = telemetry.table.index[-1]
            until = last + pd.Timedelta(1, "ns") if telemetry.dated else float(np.nextafter(last, np.inf))
        return Standardized(feature.of, until)
    return feature


def _possible(features: Mapping[str, Feature], telemetry: Telemetry) -> dict[str, Feature]:
    """Those features whose columns are there."""
    there = {str(name) for name, values in telemetry.table.items() if np.isfinite(values.to_numpy(np.float64)).any()}
    found = {}
    for name, feature in features.items():
        readable = feature.made_of or not isinstance(feature, Expression)
        if readable and there.issuperset(feature.made_of):
            found[name] = feature
            there.add(name)
    return found
