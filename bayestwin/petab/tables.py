"""The tables of a PEtab problem of version 1 as they stand, and the experiments and observations that they make.

Nothing is converted to version 2, whose conversion loses the scales of parameters.
"""

import dataclasses
import math
import pathlib
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bayestwin.errors import InvalidInput
from bayestwin.petab.formulas import Names, Unreadable, of_text
from bayestwin.petab.sbml import Refusals, SbmlModel

SCALES = {"lin": "lin", "log": "log", "log10": "log10", "": "lin"}
DISTRIBUTIONS = ("normal", "laplace")
PRIORS = (
    "uniform",
    "normal",
    "laplace",
    "logNormal",
    "logLaplace",
    "parameterScaleUniform",
    "parameterScaleNormal",
    "parameterScaleLaplace",
)
"""Kinds of prior that version 1 has."""


class PetabParameter(NamedTuple):
    """A row of the parameter table.

    Attributes:
        name: Its id.
        scale: `lin`, `log` or `log10`.
        bounds: Lower and upper, on the linear scale.
        nominal: Its value, on the linear scale.
        estimated: Whether it is inferred.
        prior: Kind of its objective prior; empty for none.
        numbers: Of which that is made.
        words: Its name.
    """

    name: str
    scale: str
    bounds: tuple[float, float]
    nominal: float
    estimated: bool
    prior: str
    numbers: tuple[float, ...]
    words: str


class PetabObservable(NamedTuple):
    """A row of the observable table; formulas as SymPy expressions."""

    name: str
    formula: Any
    noise: Any
    transformation: str
    distribution: str
    words: str


class PetabMeasurement(NamedTuple):
    """A row of the measurement table; `before` is the condition of pre-equilibration, empty for none."""

    observable: str
    condition: str
    before: str
    time: float
    value: float
    observable_parameters: tuple[Any, ...]
    noise_parameters: tuple[Any, ...]


@dataclasses.dataclass
class PetabTables:
    """A problem as it was read.

    Attributes:
        name: Of the problem: of its file, without the ending.
        files: Every file, the problem's own first.
        sbml: The model's.
        parameters: By id.
        conditions: By id, what each sets: numbers or ids of parameters as SymPy expressions, None where nothing.
        observables: By id.
        measurements: In order.
        notices: What is read otherwise than a reader of PEtab may think, in words.
    """

    name: str
    files: list[pathlib.Path]
    sbml: pathlib.Path
    parameters: dict[str, PetabParameter]
    conditions: dict[str, dict[str, Any]]
    observables: dict[str, PetabObservable]
    measurements: list[PetabMeasurement]
    notices: list[str]


def read_tables(path: pathlib.Path, refused: Refusals) -> PetabTables:
    """Read the tables that a problem's YAML file names.

    Args:
        path: The YAML file.
        refused: Where what is not supported is noted.

    Raises:
        InvalidInput: If a file is missing or a table lacks a column.
    """
    import yaml

    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as reason:
        raise InvalidInput(
            f"There is no PEtab problem `{path}`.",
            expected="a YAML file that names the tables of a problem",
            received=getattr(reason, "strerror", None) or "a file that is no YAML",
            advice="Name the problem's YAML file.",
        ) from reason
    version = str(told.get("format_version", "")) if isinstance(told, dict) else ""
    problems = told.get("problems", []) if isinstance(told, dict) else []
    if version.partition(".")[0] != "1" or len(problems) != 1:
        raise InvalidInput(
            f"`{path}` is not one PEtab problem of version 1.",
            expected="`format_version: 1` and one entry in `problems`",
            received=f"format_version {version or 'none'}, {len(problems)} problems",
            advice="Write its tables as those of version 1, a YAML file for each problem.",
        )
    (problem,) = problems
    groups = {name: _paths(path, problem.get(f"{name}_files")) for name in ("condition", "measurement", "observable")}
    models = _paths(path, problem.get("sbml_files"))
    if len(models) != 1:
        raise InvalidInput(
            f"The PEtab problem `{path}` does not have one model in SBML.",
            expected="one file in `sbml_files`",
            received=", ".join(f"`{one.name}`" for one in models) or "none",
            advice="Write a problem for each model.",
        )
    parameter_files = _paths(path, told.get("parameter_file"))
    listed = {
        "parameter": _table(parameter_files, ("parameterId", "parameterScale", "estimate")),
        "condition": _table(groups["condition"], ("conditionId",)),
        "observable": _table(groups["observable"], ("observableId", "observableFormula", "noiseFormula")),
        "measurement": _table(groups["measurement"], ("observableId", "simulationConditionId", "measurement", "time")),
    }
    files = [path, models[0], *parameter_files, *groups["condition"], *groups["observable"], *groups["measurement"]]
    found = PetabTables(path.stem.lstrip("_"), files, models[0], {}, {}, {}, [], [])
    for row in listed["parameter"]:
        _read_parameter(row, found, refused)
    for row in listed["condition"]:
        own = {name: _entry(text) for name, text in row.items() if name not in ("conditionId", "conditionName", "")}
        own.pop(FILE)
        found.conditions[row["conditionId"]] = own
    for row in listed["observable"]:
        _read_observable(row, found, refused)
    for row in listed["measurement"]:
        _read_measurement(row, found, refused)
    return found


FILE = " file"
"""Under which a row keeps the name of its file."""


def _paths(path: pathlib.Path, told: Any) -> list[pathlib.Path]:
    names = [told] if isinstance(told, str) else list(told or ())
    return [path.parent / str(name) for name in names]


def _table(paths: list[pathlib.Path], needed: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows of one table in one or several files, as text."""
    rows = []
    for path in paths:
        try:
            table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
        except (OSError, ValueError) as reason:
            raise InvalidInput(
                f"The table `{path}` of a PEtab problem cannot be read.",
                expected="a table of columns that tabulators divide",
                received=str(getattr(reason, "strerror", None) or reason),
                advice="Check the file that the problem names.",
            ) from reason
        table.columns = [str(name).strip() for name in table.columns]
        if missing := [name for name in needed if name not in table.columns]:
            raise InvalidInput(
                f"The table `{path}` of a PEtab problem lacks {', '.join(f'`{name}`' for name in missing)}.",
                expected=", ".join(f"`{name}`" for name in needed),
                received=", ".join(f"`{name}`" for name in table.columns),
                advice="Add the column.",
            )
        told = table.to_dict("records")
        rows += [{**{str(k): str(v).strip() for k, v in row.items()}, FILE: path.name} for row in told]
    return rows


def _number(text: str) -> float:
    """A number; NaN of an empty cell or what is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _entry(text: str) -> Any:
    """A number or the id of a parameter; None of an empty cell."""
    import sympy

    if not text or text.lower() == "nan":
        return None
    value = _number(text)
    return sympy.Symbol(text) if math.isnan(value) else sympy.Float(value)


def _read_parameter(row: dict[str, str], found: PetabTables, refused: Refusals) -> None:
    name, scale = row["parameterId"], row["parameterScale"]
    bounds = (_number(row.get("lowerBound", "")), _number(row.get("upperBound", "")))
    nominal, estimated = _number(row.get("nominalValue", "")), _number(row["estimate"]) == 1.0
    prior = row.get("objectivePriorType", "")
    prior = "" if prior.lower() == "nan" else prior
    numbers = tuple(_number(one) for one in row.get("objectivePriorParameters", "").split(";") if one)
    if scale not in SCALES:
        refused.add(row[FILE], name, f"has the scale `{scale}`")
    if prior and prior not in PRIORS:
        refused.add(row[FILE], name, f"has the prior `{prior}`")
    elif prior and prior != "parameterScaleUniform" and len(numbers) != 2:
        refused.add(row[FILE], name, f"has a prior of {len(numbers)} numbers instead of two")
    if estimated and prior in ("", "parameterScaleUniform", "uniform"):
        low, high = numbers if len(numbers) == 2 and prior == "uniform" else bounds
        lowest = 0.0 if scale in ("log", "log10") and prior != "uniform" else -math.inf
        if not lowest < low < high < math.inf:
            refused.add(row[FILE], name, f"is uniform between {low} and {high}, which is no prior on its scale")
    if not estimated and not math.isfinite(nominal):
        refused.add(row[FILE], name, "is not estimated and has no nominal value")
    if row.get("initializationPriorType", "") and not any("nitialization" in one for one in found.notices):
        found.notices.append("Initialization priors say where optimisers start and are not read.")
    words = row.get("parameterName", "")
    found.parameters[name] = PetabParameter(
        name, SCALES.get(scale, "lin"), bounds, nominal, estimated, prior, numbers, "" if words == name else words
    )


def read_formula(text: str, file: str, owner: str, refused: Refusals) -> Any:
    """A formula of PEtab as a SymPy expression of ids."""
    import sympy

    try:
        return of_text(text)
    except Unreadable as reason:
        refused.add(file, owner, f"has {reason}")
        return sympy.Integer(0)


def _read_observable(row: dict[str, str], found: PetabTables, refused: Refusals) -> None:
    name, file = row["observableId"], row[FILE]
    transformation, distribution = row.get("observableTransformation", ""), row.get("noiseDistribution", "")
    if transformation not in SCALES:
        refused.add(file, name, f"has the transformation `{transformation}`")
    if distribution and distribution not in DISTRIBUTIONS:
        refused.add(file, name, f"has the noise distribution `{distribution}`")
    found.observables[name] = PetabObservable(
        name,
        read_formula(row["observableFormula"], file, name, refused),
        read_formula(row["noiseFormula"], file, name, refused),
        SCALES.get(transformation, "lin"),
        distribution or "normal",
        row.get("observableName", ""),
    )


def _read_measurement(row: dict[str, str], found: PetabTables, refused: Refusals) -> None:
    observable, file = row["observableId"], row[FILE]
    time, value = _number(row["time"]), _number(row["measurement"])
    for name in (row["simulationConditionId"], row.get("preequilibrationConditionId", "")):
        if name and name not in found.conditions:
            refused.add(file, name, "is a condition that the condition table does not have")
    if observable not in found.observables:
        refused.add(file, observable, "is an observable that the observable table does not have")
        return
    if not time >= 0.0:
        refused.add(file, observable, f"is measured at the time {row['time']}")
    if math.isnan(value):
        return
    if found.observables[observable].transformation != "lin" and value <= 0.0:
        refused.add(file, observable, f"has the measurement {value:g}, of which there is no logarithm")
    found.measurements.append(
        PetabMeasurement(
            observable,
            row["simulationConditionId"],
            row.get("preequilibrationConditionId", ""),
            time,
            value,
            tuple(_entry(one) for one in row.get("observableParameters", "").split(";") if one),
            tuple(_entry(one) for one in row.get("noiseParameters", "").split(";") if one),
        )
    )


def placeholders(observable: PetabObservable, one: PetabMeasurement) -> dict[Any, Any]:
    """What the placeholders of an observable stand for in one row."""
    import sympy

    found = {}
    for kind, told in (("observable", one.observable_parameters), ("noise", one.noise_parameters)):
        for number, value in enumerate(told, 1):
            found[sympy.Symbol(f"{kind}Parameter{number}_{observable.name}")] = value
    return found


# Experiments, conditions and observations, and the measurements as telemetry.


class Sensor(NamedTuple):
    """One observation of the twin: an observable, or the part of one whose rows have the same formula.

    Attributes:
        name: Of the observation.
        observable: Its row of the observable table.
        formula: Of the value.
        noise: Of its scale; None where a column tells it.
        rows: Its measurements, each with the name of its experiment.
    """

    name: str
    observable: PetabObservable
    formula: Any
    noise: Any
    rows: list[tuple[str, PetabMeasurement]]


class Arrangement:
    """What there is of one problem, and Python's names for it.

    Attributes:
        tables: The problem.
        model: Its equations.
        refused: Where what is not supported is noted.
        names: Of all ids.
        experiments: Name of each, by its condition of pre-equilibration and its own.
        conditions: Those that hold at some time, in order.
        columns: What they set.
        sensors: Its observations.
        by_experiment: Placeholders that differ by experiment: id, values in the order of experiments, words.
        steady: Whether everything is measured at steady state.
    """

    def __init__(self, tables: PetabTables, model: SbmlModel, refused: Refusals) -> None:
        """Find out what experiments and observations there are."""
        self.tables, self.model, self.refused = tables, model, refused
        self.names = Names()
        self.sensors: list[Sensor] = []
        self.by_experiment: list[tuple[str, list[Any], str]] = []
        self.experiments: dict[tuple[str, str], str] = {}
        self.conditions: list[str] = []
        self.columns: list[str] = []
        self.steady = False
        self._arrange()

    def _arrange(self) -> None:
        rows = self.tables.measurements
        pairs = list(dict.fromkeys((one.before, one.condition) for one in rows))
        conditions = [condition for _, condition in pairs]
        for before, condition in pairs:
            alone = conditions.count(condition) == 1
            self.experiments[before, condition] = condition if alone else "_".join(filter(None, (before, condition)))
        self.conditions = list(dict.fromkeys([*conditions, *(before for before, _ in pairs if before)]))
        self.columns = list(dict.fromkeys(name for one in self.conditions for name in self.tables.conditions[one]))
        measured = self.file_of("measurement")
        if self.preequilibrated and not all(before for before, _ in pairs):
            lacking = next(condition for before, condition in pairs if not before)
            self.refused.add(measured, lacking, "starts without pre-equilibration where others start with it")
        endless = [one for one in rows if math.isinf(one.time)]
        self.steady = bool(endless)
        if endless and len(endless) < len(rows):
            name = endless[0].observable
            self.refused.add(measured, name, "is measured at steady state where others are measured at a time")
        if endless and self.preequilibrated:
            self.refused.add(measured, endless[0].observable, "is measured at steady state after pre-equilibration")
        for name in self.columns:
            if name in self.model.rules:
                self.refused.add(self.file_of("condition"), name, "is a rule of the model, which a condition sets")
        for observable in self.tables.observables.values():
            own = [one for one in rows if one.observable == observable.name]
            if own:
                self._sense(observable, [(self.experiments[one.before, one.condition], one) for one in own])
            else:
                self.tables.notices.append(f"Observable `{observable.name}` has no measurement and is left out.")

    @property
    def preequilibrated(self) -> bool:
        """Whether experiments start in the steady state of another condition."""
        return any(before for before, _ in self.experiments)

    @property
    def equilibrium(self) -> bool:
        """Whether states start in a steady state at all."""
        return self.preequilibrated or self.steady

    def file_of(self, kind: str) -> str:
        """The file of a table, for messages."""
        return next((one.name for one in self.tables.files if kind in one.name.lower()), self.tables.files[0].name)

    def _sense(self, observable: PetabObservable, rows: list[tuple[str, PetabMeasurement]]) -> None:
        """One observation of an observable, or several where rows differ in their formula."""
        by_row = []
        for _, one in rows:
            told = placeholders(observable, one)
            if any(value is None for value in told.values()):
                self.refused.add(self.file_of("measurement"), observable.name, "has a row with an empty placeholder")
                return
            by_row.append((observable.formula.xreplace(told), observable.noise.xreplace(told)))
        numeric = all(noise.is_number for _, noise in by_row)
        keys = [formula if numeric else (formula, noise) for formula, noise in by_row]
        changing = numeric and len({noise for _, noise in by_row}) > 1
        base = self.names[self._free_name(observable.name)]
        if len(set(keys)) == 1:
            noise = None if changing else by_row[0][1]
            self.sensors.append(Sensor(base, observable, by_row[0][0], noise, rows))
            return
        own: dict[str, set[Any]] = {}
        for (experiment, _), key in zip(rows, keys, strict=True):
            own.setdefault(experiment, set()).add(key)
        if all(len(one) == 1 for one in own.values()):
            self._tell_placeholders(observable, rows)
            noise = (None if changing else by_row[0][1]) if numeric else observable.noise
            self.sensors.append(Sensor(base, observable, observable.formula, noise, rows))
            return
        for number, key in enumerate(dict.fromkeys(keys), 1):
            part = [row for row, one in zip(rows, keys, strict=True) if one == key]
            formula, noise = next(pair for pair, one in zip(by_row, keys, strict=True) if one == key)
            name = self.names[f"{self._free_name(observable.name)}_{number}"]
            self.sensors.append(Sensor(name, observable, formula, None if changing else noise, part))

    def _free_name(self, name: str) -> str:
        """An id for an observation that is none of the model."""
        known = {*self.model.constants, *self.model.rates, *self.tables.parameters, *self.columns}
        return f"{name}_observed" if name in known else name

    def _tell_placeholders(self, observable: PetabObservable, rows: list[tuple[str, PetabMeasurement]]) -> None:
        """Placeholders that are the same throughout an experiment, as parameters of the twin."""
        told = {experiment: placeholders(observable, one) for experiment, one in rows}
        used = observable.formula.free_symbols | observable.noise.free_symbols
        for symbol in sorted({one for own in told.values() for one in own} & used, key=str):
            values = {name: own[symbol] for name, own in told.items() if symbol in own}
            some = next(iter(values.values()))
            full = [values.get(name, some) for name in self.experiments.values()]
            self.by_experiment.append((symbol.name, full, f"of {observable.name}, by experiment"))

    def table(self) -> pd.DataFrame:
        """The measurements as telemetry: one row a time, or several where there are replicates."""
        cells: dict[tuple[str, float], dict[str, list[float]]] = {}
        for one in self.sensors:
            for experiment, row in one.rows:
                own = cells.setdefault((experiment, 0.0 if self.steady else row.time), {})
                own.setdefault(one.name, []).append(row.value)
                if one.noise is None:
                    noise = one.observable.noise.xreplace(placeholders(one.observable, row))
                    own.setdefault(f"{one.name}_sd", []).append(float(noise))
        order = {name: number for number, name in enumerate(self.experiments.values())}
        rows: list[dict[str, Any]] = []
        for experiment, time in sorted(cells, key=lambda key: (order[key[0]], key[1])):
            own = cells[experiment, time]
            for number in range(max(len(values) for values in own.values())):
                told = {name: values[number] for name, values in own.items() if number < len(values)}
                rows.append({"experiment": experiment, "time": time} | told)
        columns = [name for one in self.sensors for name in (one.name, f"{one.name}_sd")[: 1 + (one.noise is None)]]
        table = pd.DataFrame(rows, columns=["experiment", "time", *columns])
        for one in self.sensors:
            if one.noise is None:  # a row without a reading asks for noise as well
                name = f"{one.name}_sd"
                usual = float(np.nanmedian(table[name]))
                own = table.groupby("experiment", sort=False)[name]
                table[name] = own.transform(lambda values: values.ffill().bfill()).fillna(usual)
        return table
