"""PEtab problems that tests write: a model in SBML, made by libsbml, and the tables beside it."""

import pathlib
from collections.abc import Mapping, Sequence

import libsbml
import pandas as pd


def quantity(model: libsbml.Model, kind: str, name: str, value: float | None, **settings: object) -> libsbml.SBase:
    """Add a compartment, parameter or species; `value` is its size, value or initial concentration."""
    element = getattr(model, f"create{kind}")()
    element.setId(name)
    element.setConstant(bool(settings.pop("constant", kind != "Species")))
    if kind == "Species":
        element.setBoundaryCondition(bool(settings.pop("boundary", False)))
        element.setHasOnlySubstanceUnits(bool(settings.pop("amount", False)))
        element.setCompartment(str(settings.pop("compartment", "cell")))
    set_value = {"Compartment": "setSize", "Parameter": "setValue", "Species": "setInitialConcentration"}[kind]
    if value is not None:
        getattr(element, set_value)(value)
    for key, own in settings.items():
        getattr(element, key)(own)
    return element


def reaction(model: libsbml.Model, name: str, reactants: Sequence[str], products: Sequence[str], law: str) -> None:
    element = model.createReaction()
    element.setId(name)
    element.setReversible(False)
    for make, side in ((element.createReactant, reactants), (element.createProduct, products)):
        for species in side:
            reference = make()
            reference.setSpecies(species)
            reference.setStoichiometry(1.0)
            reference.setConstant(True)
    element.createKineticLaw().setMath(libsbml.parseL3Formula(law))


def formula(element: libsbml.SBase, text: str, **settings: object) -> libsbml.SBase:
    """Give an element its formula."""
    for key, own in settings.items():
        getattr(element, key)(own)
    element.setMath(libsbml.parseL3Formula(text))
    return element


def exchange() -> libsbml.SBMLDocument:
    """A goes from a large compartment to B in a small one and back; the sum of amounts is conserved."""
    document = libsbml.SBMLDocument(3, 2)
    model = document.createModel()
    model.setId("exchange")
    quantity(model, "Compartment", "cell", 2.0)
    quantity(model, "Compartment", "vesicle", 0.5)
    quantity(model, "Species", "A", 1.0)
    quantity(model, "Species", "B", 0.2, compartment="vesicle")
    for name, value in (("k1", 0.3), ("k2", 0.6), ("a0", 1.0)):
        quantity(model, "Parameter", name, value)
    formula(model.createInitialAssignment(), "a0", setSymbol="A")
    reaction(model, "out", ["A"], ["B"], "cell * k1 * A")
    reaction(model, "back", ["B"], ["A"], "vesicle * k2 * B")
    return document


PARAMETERS = [
    {"parameterId": "k2", "parameterScale": "log10", "lowerBound": 1e-3, "upperBound": 1e3, "nominalValue": 0.6},
    {"parameterId": "a0", "parameterScale": "lin", "lowerBound": 0, "upperBound": 10, "nominalValue": 1.4},
]


def write_problem(
    folder: pathlib.Path,
    document: libsbml.SBMLDocument,
    *,
    observables: Sequence[Mapping[str, object]],
    measurements: Sequence[Mapping[str, object]],
    conditions: Sequence[Mapping[str, object]] = ({"conditionId": "c0"},),
    parameters: Sequence[Mapping[str, object]] = PARAMETERS,
) -> pathlib.Path:
    """Write a problem; the path of its YAML file."""
    folder.mkdir(parents=True, exist_ok=True)
    libsbml.writeSBMLToFile(document, str(folder / "model.xml"))
    tables = {"conditions": conditions, "observables": observables, "measurements": measurements}
    tables["parameters"] = [{"estimate": 1, **one} for one in parameters]
    for name, rows in tables.items():
        pd.DataFrame(list(rows)).to_csv(folder / f"{name}.tsv", sep="\t", index=False)
    path = folder / "exchange.yaml"
    path.write_text(
        "format_version: 1\nparameter_file: parameters.tsv\nproblems:\n- condition_files: [conditions.tsv]\n"
        "  measurement_files: [measurements.tsv]\n  observable_files: [observables.tsv]\n  sbml_files: [model.xml]\n"
    )
    return path


def measured(observable: str, time: float, value: float, condition: str = "c0", **more: object) -> dict[str, object]:
    """A row of the measurement table."""
    told = {"observableId": observable, "simulationConditionId": condition, "time": time, "measurement": value}
    return told | more
