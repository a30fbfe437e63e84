"""What a job file leaves out is what the Python functions leave out: one set of defaults."""

import inspect
from collections.abc import Callable

import pydantic
import pytest

import bayestwin as bt
from bayestwin.project.sections import (
    CalibrateSection,
    GatesSection,
    Job,
    PredictSection,
    SbcSection,
    SensitivitySection,
    UpdateSection,
)
from bayestwin.project.telemetry_sections import Section, TelemetrySection


def defaults(function: Callable) -> dict[str, object]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


@pytest.mark.parametrize(
    ("section", "function", "elsewhere"),
    [
        # `device` and `initial` come from the command line, `model_error` from the twin, `population` from a table of
        # its own, the rest from the run itself, what is `covered` and its `predictions` too; a seed has no default
        (CalibrateSection, bt.calibrate, {"device", "model_error", "progress", "job", "checkpoint", "population"}),
        (UpdateSection, bt.update, {"device", "job", "predictive_draws", "progress"}),
        (PredictSection, bt.predict, {"device", "initial", "model_error", "progress"}),
        (GatesSection, bt.diagnose, {"covered", "predictions"}),
        (SensitivitySection, bt.sensitivity, {"device", "model_error", "progress", "posterior"}),
        (SbcSection, bt.sbc, {"device", "model_error", "progress"}),
    ],
)
def test_a_section_has_the_arguments_and_defaults_of_its_function(
    section: type[Section], function: Callable, elsewhere: set[str]
) -> None:
    ours = {name: field.default for name, field in section.model_fields.items() if name != "seed"}
    theirs = {name: value for name, value in defaults(function).items() if name not in elsewhere}
    assert ours == theirs
    assert ("seed" in section.model_fields) == ("seed" in inspect.signature(function).parameters)


def test_telemetry_is_read_as_in_python() -> None:
    theirs = defaults(bt.read_telemetry)
    for name, field in TelemetrySection.model_fields.items():
        if name not in ("file", "dataset", "database", "sources", "align"):
            assert (field.default or None) == (theirs[name] or None), name


def test_every_section_may_be_left_out_but_telemetry() -> None:
    job = Job.model_validate({"telemetry": {"file": "room.csv"}})
    assert (job.fleet, job.population) == (None, None)
    for name, field in Job.model_fields.items():
        if name not in ("telemetry", "fleet", "population"):
            assert getattr(job, name) == field.annotation()


def test_a_job_does_not_change_after_it_was_read() -> None:
    job = Job.model_validate({"telemetry": {"file": "room.csv"}})
    with pytest.raises(pydantic.ValidationError):
        job.calibrate.seed = 3
