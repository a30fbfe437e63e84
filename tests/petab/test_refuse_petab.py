"""What a twin cannot have is refused in one error that names all of it, by file and id, before anything is computed."""

import pathlib

import pytest
from problems import PARAMETERS, exchange, formula, measured, quantity, write_problem

import bayestwin as bt
from bayestwin.errors import InvalidInput

OBSERVABLE = {"observableId": "y", "observableFormula": "A", "noiseFormula": "0.1"}


def test_three_things_are_named_in_one_error(tmp_path: pathlib.Path) -> None:
    document = exchange()
    model = document.getModel()
    event = model.createEvent()
    event.setId("late")
    event.setUseValuesFromTriggerTime(True)
    formula(event.createTrigger(), "time > 1", setInitialValue=True, setPersistent=True)
    formula(event.createDelay(), "0.5")
    formula(event.createEventAssignment(), "2", setVariable="A")
    formula(model.createAlgebraicRule(), "A + B - 3")
    path = write_problem(
        tmp_path,
        document,
        observables=[OBSERVABLE | {"noiseDistribution": "gamma"}],
        measurements=[measured("y", 1.0, 1.0)],
    )
    with pytest.raises(InvalidInput) as caught:
        bt.read_petab(path)
    text = str(caught.value)
    assert "has 3 things that are not supported" in text
    assert "model.xml: `late` is an event that takes effect later" in text
    assert "model.xml: `algebraicRule` is an algebraic rule" in text
    assert "observables.tsv: `y` has the noise distribution `gamma`" in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"parameters": [PARAMETERS[0] | {"lowerBound": 0}]}, "parameters.tsv: `k2` is uniform between 0.0 and 1000.0"),
        (
            {"measurements": [measured("z", 1.0, 1.0)]},
            "measurements.tsv: `z` is an observable that the observable table",
        ),
        ({"measurements": [measured("y", -1.0, 1.0)]}, "measurements.tsv: `y` is measured at the time -1.0"),
        (
            {"measurements": [measured("y", 1.0, 1.0), measured("y", float("inf"), 1.0)]},
            "`y` is measured at steady state where others are measured at a time",
        ),
        (
            {"observables": [OBSERVABLE | {"observableFormula": "A * q"}]},
            "`q` stands in a formula and is nowhere defined",
        ),
        ({"conditions": [{"conditionId": "c0", "q": 1}, {"conditionId": "c1", "q": ""}]}, None),
    ],
)
def test_each_is_named(tmp_path: pathlib.Path, change: dict[str, object], said: str | None) -> None:
    told = {"observables": [OBSERVABLE], "measurements": [measured("y", 1.0, 1.0)]} | change
    path = write_problem(tmp_path, exchange(), **told)
    if said is None:  # a column that nothing asks for
        bt.read_petab(path)
        return
    with pytest.raises(InvalidInput) as caught:
        bt.read_petab(path)
    assert said in str(caught.value)


def test_conversion_factors_and_delays_are_refused(tmp_path: pathlib.Path) -> None:
    document = exchange()
    model = document.getModel()
    quantity(model, "Parameter", "factor", 2.0)
    model.setConversionFactor("factor")
    quantity(model, "Parameter", "late", None, constant=False)
    formula(model.createAssignmentRule(), "delay(A, 1)", setVariable="late")
    path = write_problem(
        tmp_path,
        document,
        observables=[OBSERVABLE | {"observableFormula": "late"}],
        measurements=[measured("y", 1.0, 1.0)],
    )
    with pytest.raises(
        InvalidInput, match=r"(?s)`factor` is a conversion factor.*`late` has `delay`, which has no formula at one time"
    ):
        bt.read_petab(path)


def test_a_file_that_is_not_there_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InvalidInput, match=r"There is no PEtab problem `.*absent.yaml`"):
        bt.read_petab(tmp_path / "absent.yaml")
    path = write_problem(tmp_path, exchange(), observables=[OBSERVABLE], measurements=[measured("y", 1.0, 1.0)])
    (tmp_path / "model.xml").write_text("<sbml/>")
    with pytest.raises(InvalidInput, match="is not a model in SBML"):
        bt.read_petab(path)
    path.write_text(path.read_text().replace("format_version: 1", "format_version: 2.0.0"))
    with pytest.raises(InvalidInput, match="is not one PEtab problem of version 1"):
        bt.read_petab(path)


def test_text_of_a_problem_stays_text(tmp_path: pathlib.Path) -> None:
    """Names and words of files are no code of the twin that is written."""
    words = '""" + __import__("os").getcwd() + """ \\" \n import os'
    odd = {"parameterId": "lambda", "parameterName": words, "parameterScale": "lin", "lowerBound": 0, "upperBound": 9}
    path = write_problem(
        tmp_path,
        exchange(),
        observables=[OBSERVABLE | {"observableName": words, "observableFormula": "A * time"}],
        measurements=[measured("y", 1.0, 1.0)],
        parameters=[*PARAMETERS, odd | {"nominalValue": 1.0}],
    )
    problem = bt.read_petab(path)
    assert "lambda_" in problem.twin.parameters
    assert "__import__" in problem.twin.parameters["lambda_"].doc


def test_a_compartment_whose_dimension_is_not_said_keeps_its_size(tmp_path: pathlib.Path) -> None:
    """libsbml reads 0 for it, as of a point, which has none."""
    path = write_problem(tmp_path, exchange(), observables=[OBSERVABLE], measurements=[measured("y", 1.0, 1.0)])
    assert bt.read_petab(path).twin.parameters["cell"].prior == 2.0
