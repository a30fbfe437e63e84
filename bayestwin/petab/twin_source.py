"""The source of a twin, written from a PEtab problem: what `read_petab` runs and what an imported folder holds.

There is one road: the twin in memory and the one in the folder are made of the same text.
"""

import graphlib
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pandas as pd

from bayestwin.petab.formulas import TIME, comment, wrapped, written
from bayestwin.petab.sbml import Refusals, SbmlModel
from bayestwin.petab.tables import Arrangement, PetabParameter, PetabTables, Sensor

CONDITION, BEFORE, EXPERIMENT = "condition_number", "preequilibration_number", "experiment_number"
"""Parameters that say by their number which condition holds, which held before, and which experiment it is."""


class WrittenTwin(NamedTuple):
    """What a problem becomes.

    Attributes:
        source: Of `twin.py`.
        table: Rows of measurements: `experiment`, `time`, a column for each observation, and perhaps one of its noise.
        experiments: Their names, in order.
        notices: What a reader should know.
    """

    source: str
    table: pd.DataFrame
    experiments: tuple[str, ...]
    notices: tuple[str, ...]


class ParameterLine(NamedTuple):
    """One line of a dict of the twin, and the parameters that must stand before it."""

    text: str
    needs: frozenset[str] = frozenset()


def write_twin(tables: PetabTables, model: SbmlModel, refused: Refusals) -> WrittenTwin:
    """Write the source of a twin, and the table of its measurements.

    Args:
        tables: The problem.
        model: Its equations.
        refused: Where what is not supported is noted, which is then raised as one error.

    Raises:
        InvalidInput: If something of the problem is not supported: all of it.
    """
    _drop_unit_volumes(tables, model)
    told = Arrangement(tables, model, refused)
    refused.stop(tables.name)
    source = TwinWriter(told).source()
    refused.stop(tables.name)
    return WrittenTwin(source, told.table(), tuple(told.experiments.values()), tuple(tables.notices))


def _drop_unit_volumes(tables: PetabTables, model: SbmlModel) -> None:
    """Take compartments of size 1 that nothing sets out of the equations."""
    import sympy

    told = {name for one in tables.conditions.values() for name in one} | set(tables.parameters)
    told |= {name for event in model.events for name in event.effects}
    one = sympy.Integer(1)
    ones = {sympy.Symbol(name): one for name, value in model.constants.items() if value is one and name not in told}
    for group in (model.rates, model.starts, model.constants, model.rules):
        group.update({name: value.xreplace(ones) for name, value in group.items()})


class TwinWriter:
    """Writes one twin."""

    def __init__(self, told: Arrangement) -> None:
        """Write for what was arranged."""
        self.told, self.names, self.model, self.tables = told, told.names, told.model, told.tables
        self.parameters: dict[str, ParameterLine] = {}
        self.helped = False

    # Parameters.

    def _tell(self, identifier: str, values: list[Any], number: str, words: str) -> None:
        """A parameter with a value for each experiment or condition."""
        name, few = self.names[identifier], list(dict.fromkeys(values))
        doc = f", doc={comment(words)!r}" if words else ""
        each = number == EXPERIMENT or not self.told.preequilibrated
        if len(few) > 1 and all(one.is_number for one in few) and each:
            if number == CONDITION:
                values = [values[self.told.conditions.index(condition)] for _, condition in self.told.experiments]
            pairs = zip(self.told.experiments.values(), values, strict=True)
            text = "{" + ", ".join(f"{key!r}: {float(one)!r}" for key, one in pairs) + "}"
            self.parameters[name] = ParameterLine(f"{wrapped(text, 8, 'bt.Parameter(')}{doc})")
            return
        if len(few) == 1:
            self._derive(identifier, few[0], words)
            return
        self._number(number)
        self.helped = True
        parts = ", ".join(self.text(one) for one in values)
        text = wrapped(f"choose(p.{number}, {parts})", 8, "bt.Parameter(lambda p: ")
        needs = frozenset({number, *(self.names[own.name] for one in few for own in one.free_symbols)})
        self.parameters[name] = ParameterLine(f"{text}{doc})", needs)
        self._need(own.name for one in few for own in one.free_symbols)

    def _number(self, number: str) -> None:
        """The parameter that counts conditions or experiments."""
        if number in self.parameters:
            return
        listed = list(self.told.experiments.values())
        counted = {
            EXPERIMENT: listed.index,
            CONDITION: lambda name: self.told.conditions.index(self._pair(name)[1]),
            BEFORE: lambda name: self.told.conditions.index(self._pair(name)[0]),
        }[number]
        text = "{" + ", ".join(f"{name!r}: {float(counted(name))!r}" for name in listed) + "}"
        words = {CONDITION: "the condition", BEFORE: "the one before", EXPERIMENT: "the experiment"}[number]
        self.names[number]
        self.parameters[number] = ParameterLine(f"{wrapped(text, 8, 'bt.Parameter(')}, doc='{words}, counted from 0')")

    def _pair(self, experiment: str) -> tuple[str, str]:
        return next(pair for pair, name in self.told.experiments.items() if name == experiment)

    def _derive(self, identifier: str, value: Any, words: str) -> None:
        """A parameter that is a number, or made of others."""
        name = self.names[identifier]
        doc = f", doc={comment(words)!r}" if words else ""
        if value.is_number:
            self.parameters[name] = ParameterLine(f"bt.Parameter({float(value)!r}{doc})")
            return
        value = self._at_start(value)
        self._need(one.name for one in value.free_symbols)
        text = wrapped(self.text(value), 8, "bt.Parameter(lambda p: ")
        self.parameters[name] = ParameterLine(
            f"{text}{doc})", frozenset(self.names[one.name] for one in value.free_symbols)
        )

    def _need(self, identifiers: Iterable[str]) -> None:
        """Have these parameters told, and all that they are made of."""
        for identifier in identifiers:
            if identifier in self.model.rates or identifier == TIME:
                continue
            if identifier in self.model.rules:
                self._need(one.name for one in self.model.rules[identifier].free_symbols)
                continue
            name = self.names[identifier]
            if name in self.parameters or name in (CONDITION, BEFORE, EXPERIMENT):
                continue
            self.parameters[name] = ParameterLine("")  # so that circles end; told below
            words = self.model.words.get(identifier, "")
            if identifier in self.tables.parameters:
                self.parameters[name] = ParameterLine(self._from_table(self.tables.parameters[identifier]))
            elif identifier in self.told.columns:
                self._by_condition(identifier, self.model.constants.get(identifier), words)
            elif identifier in self.model.constants:
                self._derive(identifier, self.model.constants[identifier], words)
            elif identifier.removesuffix(START) in self.model.rates and identifier.endswith(START):
                state = identifier.removesuffix(START)
                self._by_condition(state, self._at_start(self.model.starts[state]), f"{state} at first", identifier)
            else:
                self.told.refused.add(self.tables.files[0], identifier, "stands in a formula and is nowhere defined")

    def _by_condition(self, column: str, usual: Any, words: str, identifier: str | None = None) -> None:
        """What the condition table sets."""
        told = [self.tables.conditions[one].get(column) for one in self.told.conditions]
        if usual is None and any(one is None for one in told):
            self.told.refused.add(
                self.told.file_of("condition"), column, "has no value in a condition, and none in the model"
            )
            return
        values = [self._at_start(usual if one is None else one) for one in told]
        self._need(own.name for one in values for own in one.free_symbols)
        self._tell(identifier or column, values, CONDITION, words)

    def _from_table(self, one: PetabParameter) -> str:
        words = comment(one.words)
        if not one.estimated:
            return f"bt.Parameter({one.nominal!r}" + (f", doc={words!r})" if words else ")")
        prior, bounded = _prior(one)
        words = ", ".join(filter(None, (words, f"the bounds of its {one.scale} scale as a prior" if bounded else "")))
        return f"bt.Parameter({prior}" + (f", doc={words!r})" if words else ")")

    # Expressions.

    def _at_start(self, expression: Any) -> Any:
        """An expression at time 0, made of parameters alone."""
        import sympy

        for _ in range(len(self.model.rules) + len(self.model.rates) + 2):
            inner = {one: one.name for one in expression.free_symbols}
            known: dict[Any, Any] = {}
            for symbol, name in inner.items():
                if name in self.model.rates:
                    started = name in self.told.columns
                    known[symbol] = sympy.Symbol(name + START) if started else self.model.starts[name]
                elif name in self.model.rules:
                    known[symbol] = self.model.rules[name]
                elif name == TIME:
                    known[symbol] = sympy.Integer(0)
            if not known:
                return expression
            expression = expression.xreplace(known)
        return expression

    def text(self, expression: Any, local: Mapping[str, str] | None = None) -> str:
        """An expression as Python, of `t`, `x`, `p`, and what stands for rules."""
        symbols = {}
        for one in expression.free_symbols:
            name = one.name
            if local is not None and name in local:
                symbols[one] = local[name]
            elif name == TIME:
                symbols[one] = "t"
            elif name in self.model.rates:
                symbols[one] = f"x.{self.names[name]}"
            else:
                symbols[one] = f"p.{self.names[name]}"
        return written(expression, symbols)

    # The parts of the file.

    def source(self) -> str:
        """The text of `twin.py`."""
        for one in self.tables.parameters.values():
            if one.estimated:
                self._need([one.name])
        for identifier, values, words in self.told.by_experiment:
            self._need(own.name for one in values for own in one.free_symbols)
            self._tell(identifier, values, EXPERIMENT, words)
        shown = self._shown_rules()
        field = self._vector_field(shown)
        states = [self._state(name) for name in self.model.rates]
        observations, functions = self._observations(shown)
        events, effects = self._events(shown)
        parameters = self._parameter_lines()
        if self.told.preequilibrated:
            self._number(CONDITION)
            self._number(BEFORE)
            parameters = self._parameter_lines()
        head = self._head()
        parts = [*head, *self._rules(shown), field, *functions, *effects, *self._before()]
        dicts = [("states", states), ("parameters", parameters), ("observations", observations)]
        twin = ["twin = bt.Twin(", f"    name={self._name()!r},", "    vector_field=vector_field,"]
        for name, lines in dicts:
            twin += [f"    {name}={{", *(f"        {line}" for line in lines), "    },"]
        if events:
            twin += ["    events={", *(f"        {line}" for line in events), "    },"]
        twin += [f"    time_unit={self.model.time_unit!r},", ")"]
        known = [one for one in self.tables.parameters.values() if one.estimated and math.isfinite(one.nominal)]
        nominal = [f"    {self.names[one.name]!r}: {one.nominal!r}," for one in known]
        tail = ["nominal = {", *nominal, "}", '"""Values of the parameter table."""']
        return "\n\n\n".join(["\n".join(head), *parts[len(head) :], "\n".join(twin)]) + "\n\n" + "\n".join(tail) + "\n"

    def _name(self) -> str:
        name = self.tables.name if self.tables.name.lower() not in ("problem", "") else self.model.name
        base = re.sub(r"[^A-Za-z0-9_]", "_", name).strip("_")
        return base if base and not base[0].isdigit() else f"petab_{base}"

    def _head(self) -> list[str]:
        words = [f'"""{comment(self._name())}: written by bayestwin from a PEtab problem and a model in SBML.', ""]
        words += [comment(one) for one in self.tables.notices]
        renamed = {one: name for one, name in self.names.renamed().items()}
        words += [f"Id {comment(one)} is called {name}." for one, name in sorted(renamed.items())]
        while words[-1] == "":
            words.pop()
        body = "\n".join(words) + ('"""' if len(words) == 1 else '\n"""')
        modules = ["import jax.numpy as jnp", "import numpyro.distributions as dist", "", "import bayestwin as bt"]
        lines = [body, "", *modules]
        if self.logarithmic:
            lines += ["", "LN10 = 2.302585092994046"]
        if self.helped:
            lines += [
                "",
                "",
                "def choose(number, *values):",
                '    """The value of that number: conditions and experiments are counted from 0."""',
                "    return jnp.stack([jnp.asarray(one, float) for one in values])[jnp.asarray(number, int)]",
            ]
        return lines

    @property
    def logarithmic(self) -> bool:
        """Whether decimal logarithms are compared."""
        return any(one.observable.transformation == "log10" for one in self.told.sensors)

    def _shown_rules(self) -> dict[str, str]:
        """Rules that have a function of their own, by what stands for them: those that are no rates of reactions."""
        named = {one for one in self.model.rules if one not in self.model.reactions}
        wanted = self._closure([*self.model.rates.values(), *self._formulas()])
        found = [one for one in self.model.rules if one in wanted and one in named]
        inner = self._closure([self.model.rules[one] for one in found])
        kept = [one for one in self.model.rules if one in found or one in inner]
        return {one: f'r["{self.names[one]}"]' for one in kept}

    def _formulas(self) -> list[Any]:
        found = [one.formula for one in self.told.sensors] + [
            one.noise for one in self.told.sensors if one.noise is not None
        ]
        found += [value for event in self.model.events for value in event.effects.values()]
        return found + [event.level for event in self.model.events if event.level is not None]

    def _closure(self, expressions: Iterable[Any]) -> set[str]:
        """Rules that expressions are made of."""
        found: set[str] = set()
        waiting = list(expressions)
        while waiting:
            for one in waiting.pop().free_symbols:
                if one.name in self.model.rules and one.name not in found:
                    found.add(one.name)
                    waiting.append(self.model.rules[one.name])
        return found

    def _rules(self, shown: Mapping[str, str]) -> list[str]:
        if not shown:
            return []
        lines = [
            "def rules(t, x, p):",
            '    """Rules of the model, which follow from states and parameters."""',
            "    r = {}",
        ]
        for name, place in shown.items():
            self._need(one.name for one in self.model.rules[name].free_symbols)
            lines.append(
                "    " + wrapped(self.text(self.model.rules[name], shown), 4, f"{place} = ") + self._remark(name)
            )
        return ["\n".join([*lines, "    return r"])]

    def _remark(self, name: str) -> str:
        words = self.model.words.get(name, "")
        return f"  # {comment(words)}" if words else ""

    def _vector_field(self, shown: Mapping[str, str]) -> str:
        lines = ["def vector_field(t, x, p, u):", '    """Rates of the states, as the reactions and rate rules say."""']
        wanted = self._closure(self.model.rates.values())
        if any(one in wanted for one in shown):
            lines.append("    r = rules(t, x, p)")
        local = dict(shown)
        for name in self.model.rules:
            if name in wanted and name not in shown:
                rate = self.model.rules[name]
                self._need(one.name for one in rate.free_symbols)
                own = self.names[f"rate of {name}" if self.names[name] in LOCAL else name]
                lines.append("    " + wrapped(self.text(rate, local), 4, f"{own} = "))
                local[name] = own
        lines.append("    return {")
        for name, rate in self.model.rates.items():
            self._need(one.name for one in rate.free_symbols)
            lines.append("        " + wrapped(self.text(rate, local), 8, f"{self.names[name]!r}: ") + ",")
        return "\n".join([*lines, "    }"])

    def _state(self, name: str) -> str:
        """The line of one state."""
        import sympy

        words, own = comment(self.model.words.get(name, "")), self.names[name]
        doc = f", doc={words!r}" if words else ""
        start = sympy.Symbol(name + START) if name in self.told.columns else self._at_start(self.model.starts[name])
        self._need(one.name for one in start.free_symbols)
        text = repr(float(start)) if start.is_number else f"lambda p: {self.text(start)}"
        if not self.told.equilibrium:
            return f"{own!r}: bt.State({wrapped(text, 8)}{doc}),"
        under = ", under=before" if self.told.preequilibrated else ""
        then = self._then(name) if self.told.preequilibrated else ""
        return f"{own!r}: bt.State(bt.SteadyState({wrapped(text, 8)}{under}{then}){doc}),"

    def _then(self, name: str) -> str:
        """What sets a state anew after pre-equilibration: what its condition says."""
        own = list(dict.fromkeys(condition for _, condition in self.told.experiments))
        told = [self.tables.conditions[one].get(name) is not None for one in own]
        start = f"p.{self.names[name + START]}"
        if not any(told):
            return ""
        if all(told):
            return f", then=lambda p, x: {start}"
        self._number(CONDITION)
        self.helped = True
        flags = [self.tables.conditions[one].get(name) is not None for one in self.told.conditions]
        chosen = ", ".join(str(int(one)) for one in flags)
        return f", then=lambda p, x: jnp.where(choose(p.{CONDITION}, {chosen}) > 0, {start}, x.{self.names[name]})"

    def _before(self) -> list[str]:
        if not self.told.preequilibrated:
            return []
        words = '    """What held until t0: the condition of pre-equilibration."""'
        return ["\n".join(["def before(p):", words, f'    return {{"{CONDITION}": p.{BEFORE}}}'])]

    def _observations(self, shown: Mapping[str, str]) -> tuple[list[str], list[str]]:
        """Lines of the observations, and functions that they call."""
        lines, functions = [], []
        kinds = set()
        for one in self.told.sensors:
            of, function = self._function(f"observe_{one.name}", one.formula, shown, comment(one.observable.words))
            functions += function
            noise, more, kind = self._noise(one, shown)
            functions += more
            kinds.add(kind)
            words = comment(one.observable.words)
            doc = f", doc={words!r}" if words else ""
            lines.append(f"{one.name!r}: bt.Observation({noise}, of={of}{doc}),")
        return lines, [*(KINDS[kind] for kind in sorted(kinds & KINDS.keys())), *functions]

    def _function(
        self, name: str, formula: Any, shown: Mapping[str, str], words: str = "", factor: str = ""
    ) -> tuple[str, list[str]]:
        """A formula as a function of `(t, x, p, u)`: in its place where it is short, else with a name."""
        self._need(one.name for one in formula.free_symbols)
        local = dict(shown)
        for rate in self._closure([formula]):
            if rate not in shown:
                formula = formula.xreplace(
                    {one: self.model.rules[rate] for one in formula.free_symbols if one.name == rate}
                )
        ruled = any(one.name in shown for one in formula.free_symbols)
        text = factor + (f"({self.text(formula, local)})" if factor else self.text(formula, local))
        if len(text) < 60 and not ruled:
            return f"lambda t, x, p, u: {text}", []
        lines = [f"def {name}(t, x, p, u):", f'    """{words or name}."""']
        lines += ["    r = rules(t, x, p)"] if ruled else []
        return name, ["\n".join([*lines, "    " + wrapped(text, 4, "return ")])]

    def _noise(self, one: Sensor, shown: Mapping[str, str]) -> tuple[str, list[str], str]:
        """The noise of an observation, functions that it calls, and its kind where that has a function."""
        transformation, distribution = one.observable.transformation, one.observable.distribution
        factor = "LN10 * " if transformation == "log10" else ""
        functions: list[str] = []
        if one.noise is None:
            scale = f'bt.Column("{one.name}_sd"{", factor=LN10" if factor else ""})'
        elif one.noise.is_number:
            scale = f"{factor}{float(one.noise)!r}"
        else:
            symbol = next(iter(one.noise.free_symbols))
            plain = one.noise == symbol and symbol.name not in {*self.model.rates, *self.model.rules, TIME}
            if plain and not factor:
                self._need([symbol.name])
                scale = repr(self.names[symbol.name])
            else:
                scale, functions = self._function(f"noise_of_{one.name}", one.noise, shown, factor=factor)
        if distribution == "normal":
            return f"bt.{'Gaussian' if transformation == 'lin' else 'LogNormal'}({scale})", functions, ""
        if transformation == "lin":
            return f'bt.NoiseFrom(laplace, {{"scale": {scale}}})', functions, "laplace"
        support = "dist.constraints.positive"
        return f'bt.NoiseFrom(log_laplace, {{"scale": {scale}}}, {support})', functions, "log_laplace"

    def _events(self, shown: Mapping[str, str]) -> tuple[list[str], list[str]]:
        lines, functions = [], []
        for one in self.model.events:
            name = self.names[f"{one.name}"]
            own = [f"def effect_of_{name}(t, x, p, u):", '    """What the event sets."""']
            values = list(one.effects.values())
            if self._closure(values):
                own.append("    r = rules(t, x, p)")
            for value in values:
                self._need(symbol.name for symbol in value.free_symbols)
            self._need(one.effects)
            pairs = [f"{self.names[key]!r}: {self.text(value, shown)}" for key, value in one.effects.items()]
            functions.append("\n".join([*own, "    return {" + ", ".join(pairs) + "}"]))
            if one.at is not None and one.at.is_number:
                when = f"at=({float(one.at)!r},)"
            elif one.at is not None:
                self._need(symbol.name for symbol in one.at.free_symbols)
                when = f"at=lambda p: {self.text(one.at)}"
            else:
                level, more = self._function(f"level_of_{name}", one.level, shown)
                functions += more
                when = f"when={level}"
            lines.append(f"{name!r}: bt.Event(effect_of_{name}, {when}),")
        return lines, functions

    def _parameter_lines(self) -> list[str]:
        """All parameters, each after those that it is made of."""
        needs = {
            name: [one for one in entry.needs if one in self.parameters] for name, entry in self.parameters.items()
        }
        order = list(graphlib.TopologicalSorter(needs).static_order())
        return [f"{name!r}: {self.parameters[name].text}," for name in order]


LOCAL = frozenset({"t", "x", "p", "u", "r", "jnp", "dist", "bt", "rules", "choose", "before", "twin", "LN10"})
"""Names that mean something else within the file."""

START = " at first"
"""What is appended to a state's id for the parameter that conditions set it by."""

KINDS = {
    "laplace": "def laplace(value, p):\n"
    '    """Laplace noise around the value."""\n'
    "    return dist.Laplace(value, p.scale)",
    "log_laplace": "def log_laplace(value, p):\n"
    '    """Noise whose logarithm is Laplace around that of the value."""\n'
    "    around = dist.Laplace(jnp.log(value), p.scale)\n"
    "    return dist.TransformedDistribution(around, dist.transforms.ExpTransform())",
}
"""Functions of noise that have no class of their own."""


def _prior(one: PetabParameter) -> tuple[str, bool]:
    """The prior of a parameter as Python, and whether it is its bounds."""
    log = one.scale != "lin"
    unit = math.log(10.0) if one.scale == "log10" else 1.0
    kind = one.prior or "parameterScaleUniform"
    if kind == "parameterScaleUniform":
        low, high = one.bounds
        return f"dist.{'LogUniform' if log else 'Uniform'}({low!r}, {high!r})", True
    first, second = one.numbers
    on_scale = kind.startswith("parameterScale")
    if kind == "uniform":
        return f"dist.Uniform({first!r}, {second!r})", False
    family = "Laplace" if "aplace" in kind else "Normal"
    logarithm = kind.startswith("log") or (on_scale and log)
    factor = unit if on_scale else 1.0
    numbers = f"{first * factor!r}, {second * factor!r}"
    if not logarithm:
        return f"dist.{family}({numbers})", False
    if family == "Normal":
        return f"dist.LogNormal({numbers})", False
    return f"dist.TransformedDistribution(dist.Laplace({numbers}), dist.transforms.ExpTransform())", False
