"""Log likelihoods of PEtab problems by another reader of SBML and another solver: libroadrunner, which has CVODE.

Of this package only the tables are read by `bayestwin.petab.tables`; SBML, initial values, events and rules are
libroadrunner's own. `python benchmarks/petab_roadrunner.py PROBLEM.yaml` prints one number.
"""

import argparse
import math
import pathlib
import tempfile
from collections import defaultdict
from typing import Any

import libsbml
import numpy as np
import sympy
from scipy import stats

from bayestwin.petab.sbml import Refusals
from bayestwin.petab.tables import PetabMeasurement, PetabObservable, PetabTables, placeholders, read_tables

RTOL, ATOL = 1e-12, 1e-16
LONGEST_REST = 1e12
"""By when a model has come to rest before a pre-equilibration is given up."""


def log_probability(observable: PetabObservable, measured: float, simulated: float, noise: float) -> float:
    """Of one measurement."""
    shape = stats.norm if observable.distribution == "normal" else stats.laplace
    base = {"lin": None, "log": 1.0, "log10": math.log(10.0)}[observable.transformation]
    if base is None:
        return float(shape.logpdf(measured, simulated, noise))
    on_scale = shape.logpdf(math.log(measured) / base, math.log(simulated) / base, noise)
    return float(on_scale - math.log(measured * base))


class Model:
    """The SBML model under one condition, as libroadrunner solves it."""

    def __init__(self, tables: PetabTables, condition: str, atol: float = ATOL) -> None:
        import roadrunner

        self.document = libsbml.readSBMLFromFile(str(tables.sbml))
        self.sbml = self.document.getModel()
        self.nominal = {sympy.Symbol(name): sympy.Float(one.nominal, 17) for name, one in tables.parameters.items()}
        for name, one in tables.parameters.items():
            self._give(name, one.nominal)
        self.told = {name: value for name, value in tables.conditions[condition].items() if value is not None}
        for name, value in self.told.items():
            self._give(name, self._number(value))
        text = libsbml.writeSBMLToString(self.document)
        with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
            file.write(text)
            file.flush()
            self.solver = roadrunner.RoadRunner(file.name)
        self.solver.setIntegrator("cvode")
        integrator = self.solver.getIntegrator()
        for setting, value in {
            "relative_tolerance": RTOL,
            "absolute_tolerance": atol,
            "stiff": True,
            "maximum_num_steps": 2_000_000,
        }.items():
            integrator.setValue(setting, value)

    def _number(self, value: Any) -> float:
        """Of a cell of the condition table: a number, a parameter of the tables, or one of the model."""
        found = sympy.sympify(value).xreplace(self.nominal)
        if found.is_number:
            return float(found)
        return float(self.sbml.getElementBySId(str(found)).getValue())

    def _give(self, name: str, value: float) -> None:
        """Let an entity of the model begin with a value, whatever the model said."""
        entity = self.sbml.getElementBySId(name)
        if entity is None or math.isnan(value):
            return
        self.sbml.removeInitialAssignment(name)
        if isinstance(entity, libsbml.Species):
            if entity.getHasOnlySubstanceUnits():
                entity.setInitialAmount(value)
            else:
                entity.setInitialConcentration(value)
        elif isinstance(entity, libsbml.Compartment):
            entity.setSize(value)
        else:
            entity.setValue(value)

    def selection(self, name: str) -> str:
        """What libroadrunner calls the value of an id in formulas."""
        entity = self.sbml.getElementBySId(name)
        concentration = isinstance(entity, libsbml.Species) and not entity.getHasOnlySubstanceUnits()
        return f"[{name}]" if concentration else name

    def states(self) -> list[str]:
        """What a pre-equilibration hands on: species, and whatever else has a rate."""
        ruled = [one.getVariable() for one in self.sbml.getListOfRules() if one.isRate()]
        fixed = {one.getVariable() for one in self.sbml.getListOfRules() if one.isAssignment()}
        species = [one.getId() for one in self.sbml.getListOfSpecies()]
        return [name for name in dict.fromkeys(species + ruled) if name not in fixed]

    def rest(self) -> dict[str, float]:
        """The states when nothing moves any more."""
        names = self.states()
        return dict(zip(names, self._at_rest([self.selection(name) for name in names], 1e3), strict=True))

    def _at_rest(self, selected: list[str], end: float) -> list[float]:
        """What ten times as long does not change."""
        last = None
        while end <= LONGEST_REST:
            self.solver.reset()
            found = np.asarray(self.solver.simulate(0.0, end, 2, selections=selected))[-1]
            if last is not None and np.all(np.abs(found - last) <= 1e-11 * np.abs(found) + 1e-14):
                return found.tolist()
            end, last = 10.0 * end, found
        raise ArithmeticError("no rest")

    def start_from(self, states: dict[str, float]) -> None:
        """Begin where another condition came to rest, but for what this one sets."""
        for name, value in states.items():
            if name not in self.told:
                self.solver.setValue(self.selection(name), value)

    def simulate(self, times: list[float], names: list[str]) -> dict[float, dict[str, float]]:
        """Values of ids at times, of which the last may be infinite."""
        finite = sorted({0.0, *(time for time in times if math.isfinite(time))})
        selected = [self.selection(name) for name in names]
        found: dict[float, dict[str, float]] = {}
        if len(finite) == 1:
            found[0.0] = {name: float(self.solver.getValue(one)) for name, one in zip(names, selected, strict=True)}
        else:
            rows = np.asarray(self.solver.simulate(times=finite, selections=["time", *selected]))
            for row in rows:
                # what a model jumps by at a time of measurement is there twice: the later counts
                found[float(row[0])] = dict(zip(names, row[1:].tolist(), strict=True))
        if not all(map(math.isfinite, times)):
            rest = self._at_rest(selected, max(1e3, 10.0 * finite[-1]))
            found[math.inf] = dict(zip(names, rest, strict=True))
        return found


def log_likelihood(path: pathlib.Path, atol: float = ATOL) -> float:
    """Log likelihood of all measurements of a problem at its nominal values."""
    tables = read_tables(path, Refusals())
    rows: dict[tuple[str, str], list[PetabMeasurement]] = defaultdict(list)
    for one in tables.measurements:
        rows[one.before, one.condition].append(one)
    total, rests = 0.0, {}
    for (before, condition), measured in rows.items():
        model = Model(tables, condition, atol)
        if before and before not in rests:
            rests[before] = Model(tables, before, atol).rest()
        if before:
            model.start_from(rests[before])
        outputs = {sympy.Symbol(name): own.formula.xreplace(model.nominal) for name, own in tables.observables.items()}
        formulas = []
        for one in measured:
            observable = tables.observables[one.observable]
            known = placeholders(observable, one)
            simulated, noise = (
                own.xreplace(known).xreplace(model.nominal) for own in (observable.formula, observable.noise)
            )
            formulas.append((simulated, noise.xreplace(outputs)))
        names = sorted({str(symbol) for pair in formulas for one in pair for symbol in one.free_symbols} - {"time"})
        found = model.simulate([one.time for one in measured], names)
        keys = np.array(list(found))
        for one, (formula, noise) in zip(measured, formulas, strict=True):
            at = float(keys[np.argmin(np.abs(keys - one.time))]) if math.isfinite(one.time) else math.inf
            assert at == one.time or abs(at - one.time) <= 1e-9 * max(1.0, abs(one.time))
            values = {sympy.Symbol(name): sympy.Float(value, 17) for name, value in found[at].items()}
            values[sympy.Symbol("time")] = sympy.Float(one.time, 17)
            simulated, spread = (float(part.xreplace(values)) for part in (formula, noise))
            total += log_probability(tables.observables[one.observable], one.value, simulated, spread)
    return total


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("problem", type=pathlib.Path)
    options.add_argument("--atol", type=float, default=ATOL)
    told = options.parse_args()
    print(log_likelihood(told.problem, told.atol))


if __name__ == "__main__":
    main()
