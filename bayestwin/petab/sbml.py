"""A model in SBML as equations of SymPy: states and their rates, rules, constants and events, under their SBML ids.

A species is what its symbol means in formulas: an amount where it has only substance units, else a concentration.
What cannot be read is noted with its id, all of it, and nothing is computed in its place.
"""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

from bayestwin.errors import InvalidInput
from bayestwin.petab.formulas import TIME, Unreadable, of_node

HARMLESS = ("layout", "render", "l3v2extendedmath")
"""Packages that are about pictures, or are part of later versions of the core."""

LENGTHS = {1.0: "s", 60.0: "min", 3600.0: "h", 86400.0: "d"}
"""Units of time by their seconds."""


@dataclasses.dataclass
class Refusals:
    """What of a problem is not supported: a file, an id, and what it is there; told in one error."""

    found: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)

    def add(self, file: str | pathlib.Path, name: str, what: str) -> None:
        """Note one, once."""
        one = (pathlib.Path(file).name, name, what)
        if one not in self.found:
            self.found.append(one)

    def stop(self, problem: str) -> None:
        """Raise if there are any.

        Raises:
            InvalidInput: Naming all of them.
        """
        if self.found:
            raise InvalidInput(
                f"The PEtab problem `{problem}` has {len(self.found)} "
                f"{'thing that is' if len(self.found) == 1 else 'things that are'} not supported.",
                expected="equations, conditions, observables and noise that a twin can have",
                received="; ".join(f"{file}: `{name}` {what}" for file, name, what in self.found),
                advice="Nothing was computed. Leave these out of the problem, or write them in another way.",
            )


@dataclasses.dataclass(frozen=True)
class SbmlEvent:
    """An event: what it assigns when a number crosses zero from below, or a time comes.

    Attributes:
        name: Its id.
        level: What crosses zero; None where it is at a time.
        at: That time, of constants alone; None where it is triggered.
        effects: By id, the new values.
    """

    name: str
    level: Any
    at: Any
    effects: dict[str, Any]


@dataclasses.dataclass
class SbmlModel:
    """Equations, as SymPy expressions of ids.

    Attributes:
        name: Of the model.
        file: Where it was read.
        time_unit: In a word; "dimensionless" where it is not said.
        rates: Time derivative by state.
        starts: Initial value by state.
        constants: Value by parameter, compartment, and species that never changes.
        rules: Value by id of each assignment rule and each reaction, in an order in which they can be computed.
        events: What happens.
        words: Name and unit in words, by id.
        reactions: Ids in `rules` that are rates of reactions.
    """

    name: str
    file: str
    time_unit: str
    rates: dict[str, Any] = dataclasses.field(default_factory=dict)
    starts: dict[str, Any] = dataclasses.field(default_factory=dict)
    constants: dict[str, Any] = dataclasses.field(default_factory=dict)
    rules: dict[str, Any] = dataclasses.field(default_factory=dict)
    events: list[SbmlEvent] = dataclasses.field(default_factory=list)
    words: dict[str, str] = dataclasses.field(default_factory=dict)
    reactions: frozenset[str] = frozenset()


def read_sbml(path: pathlib.Path, refused: Refusals, changing: frozenset[str] = frozenset()) -> SbmlModel:
    """Read a model.

    Args:
        path: The file.
        refused: Where what is not supported is noted.
        changing: Species that stay states though no equation changes them: pre-equilibration does.

    Raises:
        InvalidInput: If it is no SBML.
    """
    import libsbml

    document = libsbml.readSBMLFromFile(str(path))
    if document.getNumErrors(libsbml.LIBSBML_SEV_ERROR) or document.getNumErrors(libsbml.LIBSBML_SEV_FATAL):
        first = next(_errors(document))
        raise InvalidInput(
            f"`{path}` is not a model in SBML.",
            expected="SBML of level 2 or 3",
            received=" ".join(first.getMessage().split()),
            advice="Check the file that the problem names.",
        )
    document.expandFunctionDefinitions()
    model = document.getModel()
    found = SbmlModel(model.getId() or path.stem, str(path), _time_unit(model))
    reader = _Reader(model, found, refused)
    reader.refuse_all(document)
    reader.read_quantities(changing)
    reader.read_reactions()
    reader.read_rules()
    reader.read_starts()
    reader.read_events()
    found.rules = _in_order(found.rules, path, refused)
    return found


def _errors(document: Any) -> Iterator[Any]:
    import libsbml

    for number in range(document.getNumErrors()):
        if document.getError(number).getSeverity() >= libsbml.LIBSBML_SEV_ERROR:
            yield document.getError(number)


def _time_unit(model: Any) -> str:
    """Unit of time as the model states it."""
    name = model.getTimeUnits() if model.getLevel() > 2 else "time"
    if name == "second":
        return "s"
    definition = model.getUnitDefinition(name) if name else None
    if definition is None or definition.getNumUnits() != 1:
        return "dimensionless"
    unit = definition.getUnit(0)
    if not unit.isSecond() or unit.getExponent() != 1:
        return "dimensionless"
    return LENGTHS.get(unit.getMultiplier() * 10.0 ** unit.getScale(), "dimensionless")


def unit_in_words(element: Any) -> str:
    """Units of a quantity as text; empty where they are not said."""
    import libsbml

    try:
        definition = element.getDerivedUnitDefinition()
        text = libsbml.UnitDefinition.printUnits(definition, True) if definition is not None else ""
    except Exception:  # of a model that is not consistent
        return ""
    return "" if text in ("dimensionless", "indeterminable") or "(" in text else text


class _Reader:
    """Reads one model piece by piece."""

    def __init__(self, model: Any, found: SbmlModel, refused: Refusals) -> None:
        self.model, self.found, self.refused = model, found, refused
        self.ruled: dict[str, Any] = {rule.getVariable(): rule for rule in model.getListOfRules() if rule.getVariable()}
        events = model.getListOfEvents()
        self.set_by_events = {one.getVariable() for event in events for one in event.getListOfEventAssignments()}
        self.assigned = {one.getSymbol(): one for one in model.getListOfInitialAssignments()}
        # a dimension that is not said reads as 0, and says nothing of the size
        points = [one for one in model.getListOfCompartments() if one.isSetSpatialDimensions()]
        self.flat = {one.getId() for one in points if one.getSpatialDimensions() == 0}

    def refuse(self, name: str, what: str) -> None:
        """Note what is not supported."""
        self.refused.add(self.found.file, name, what)

    def formula(self, element: Any, owner: str) -> Any:
        """The formula of an element; 0 where there is none or it cannot be read."""
        import sympy

        if element is None or element.getMath() is None:
            self.refuse(owner, "has no formula")
            return sympy.Integer(0)
        try:
            return of_node(element.getMath())
        except Unreadable as reason:
            self.refuse(owner, f"has {reason}")
            return sympy.Integer(0)

    def refuse_all(self, document: Any) -> None:
        """What no part of this reads: packages, algebraic rules, conversion factors, constraints of time."""
        for number in range(document.getNumPlugins()):
            package = document.getPlugin(number).getPackageName()
            own = self.model.getPlugin(package)
            unused = package == "comp" and own is not None and own.getNumSubmodels() == 0
            if document.getPackageRequired(package) and package not in HARMLESS and not unused:
                self.refuse(package, "is an SBML package that changes what equations mean")
        for rule in self.model.getListOfRules():
            if rule.isAlgebraic():
                self.refuse(rule.getIdAttribute() or "algebraicRule", "is an algebraic rule")
        if self.model.getLevel() > 2 and self.model.isSetConversionFactor():
            self.refuse(self.model.getConversionFactor(), "is a conversion factor")

    def read_quantities(self, changing: frozenset[str]) -> None:
        """Compartments, parameters and species: which are states, and which constants."""
        import sympy

        for one in self.model.getListOfCompartments():
            size = one.getSize() if one.isSetSize() and one.getId() not in self.flat else 1.0
            self._quantity(one, sympy.Float(size) if size != 1.0 else sympy.Integer(1))
            if one.getId() in self.set_by_events:
                self.refuse(one.getId(), "is a compartment that an event changes")
        for one in self.model.getListOfParameters():
            self._quantity(one, sympy.Float(one.getValue()) if one.isSetValue() else sympy.Integer(0))
        for one in self.model.getListOfSpecies():
            name, start = one.getId(), self._start_of(one)
            moved = name not in self.ruled and not one.getConstant() and not one.getBoundaryCondition()
            if moved or name in self.set_by_events or (name in changing and name not in self.ruled):
                self.found.words[name] = _words(one)
                self.found.rates[name], self.found.starts[name] = sympy.Integer(0), start
            else:
                self._quantity(one, start)
            if self.model.getLevel() > 2 and one.isSetConversionFactor():
                self.refuse(name, "has a conversion factor")

    def _quantity(self, element: Any, value: Any) -> None:
        name = element.getId()
        self.found.words[name] = _words(element)
        if name not in self.ruled:
            self.found.constants[name] = value
        elif self.ruled[name].isRate():
            self.found.starts[name] = value

    def _start_of(self, one: Any) -> Any:
        """The initial value of a species in what its symbol means."""
        import sympy

        volume = sympy.Integer(1) if one.getCompartment() in self.flat else sympy.Symbol(one.getCompartment())
        if one.isSetInitialAmount():
            amount = sympy.Float(one.getInitialAmount())
            return amount if one.getHasOnlySubstanceUnits() else amount / volume
        value = sympy.Float(one.getInitialConcentration()) if one.isSetInitialConcentration() else sympy.Integer(0)
        return value * volume if one.getHasOnlySubstanceUnits() else value

    def read_reactions(self) -> None:
        """Rates of reactions, and what they do to species."""
        import sympy

        names = []
        for reaction in self.model.getListOfReactions():
            name = reaction.getId()
            law = reaction.getKineticLaw()
            rate = self.formula(law, name)
            if law is not None:
                local = [*law.getListOfParameters(), *law.getListOfLocalParameters()]
                for one in local:
                    own = f"{name}_{one.getId()}"
                    self.found.constants[own] = sympy.Float(one.getValue())
                    rate = rate.xreplace({sympy.Symbol(one.getId()): sympy.Symbol(own)})
            self.found.rules[name] = rate
            names.append(name)
            sides = ((-1, reaction.getListOfReactants()), (1, reaction.getListOfProducts()))
            for sign, reference in ((sign, one) for sign, side in sides for one in side):
                self._take_part(reference, sympy.Symbol(name), sign)
        self.found.reactions = frozenset(names)

    def _take_part(self, reference: Any, rate: Any, sign: int) -> None:
        """What one reaction does to one species."""
        import sympy

        name = reference.getSpecies()
        species = self.model.getSpecies(name)
        number = reference.getStoichiometry()
        if reference.getLevel() < 3 and reference.isSetStoichiometryMath():
            self.refuse(name, "takes part in a reaction in a proportion that is a formula")
        if reference.getId() and (reference.getId() in self.ruled or reference.getId() in self.assigned):
            self.refuse(reference.getId(), "is a proportion of a reaction that changes")
        if species is None or species.getBoundaryCondition() or species.getConstant() or name not in self.found.rates:
            return
        part = sign * (sympy.Integer(int(number)) if number == int(number) else sympy.Float(number)) * rate
        compartment = species.getCompartment()
        if not species.getHasOnlySubstanceUnits() and compartment not in self.flat:
            part /= sympy.Symbol(compartment)
            if compartment in self.ruled and not self.ruled[compartment].isRate():
                self.refuse(compartment, "is a compartment whose size is a rule")
        self.found.rates[name] += part

    def read_rules(self) -> None:
        """Assignment rules and rate rules; a concentration is also thinned where its compartment grows."""
        import sympy

        for name, rule in self.ruled.items():
            if rule.isRate():
                self.found.rates[name] = self.formula(rule, name)
                self.found.starts.setdefault(name, sympy.Integer(0))
            elif rule.isAssignment():
                self.found.rules[name] = self.formula(rule, name)
        for one in self.model.getListOfSpecies():
            name, compartment = one.getId(), one.getCompartment()
            grows = compartment in self.found.rates and name in self.found.rates and name not in self.ruled
            if grows and not one.getHasOnlySubstanceUnits():
                volume = sympy.Symbol(compartment)
                self.found.rates[name] -= sympy.Symbol(name) * self.found.rates[compartment] / volume

    def read_starts(self) -> None:
        """Initial assignments: of states, and of what stays as it is at first."""
        for name, one in self.assigned.items():
            value = self.formula(one, name)
            if name in self.found.starts:
                self.found.starts[name] = value
            elif name in self.found.constants:
                self.found.constants[name] = value

    def read_events(self) -> None:
        """Events whose trigger is one comparison."""
        import sympy

        for number, event in enumerate(self.model.getListOfEvents()):
            name = event.getIdAttribute() or f"event_{number + 1}"
            if event.getDelay() is not None:
                self.refuse(name, "is an event that takes effect later than it is triggered")
            if event.getPriority() is not None:
                self.refuse(name, "is an event with a priority")
            trigger: Any = self.formula(event.getTrigger(), name)
            orders = (sympy.Gt, sympy.Ge, sympy.Lt, sympy.Le)
            if not isinstance(trigger, orders):
                self.refuse(name, f"is an event whose trigger is no single comparison: {trigger}")
                continue
            greater, lesser = (getattr(trigger, side) for side in ("gts", "lts"))
            level = greater - lesser
            effects = {one.getVariable(): self.formula(one, name) for one in event.getListOfEventAssignments()}
            if ruled := effects.keys() & self.found.rules.keys():
                self.refuse(name, f"changes {', '.join(f'`{one}`' for one in sorted(ruled))}, which is a rule")
            time = sympy.Symbol(TIME)
            at = None
            if level.has(time) and level.diff(time) == 1 and not (level - time).has(time):
                at = time - level
                if not at.free_symbols <= {sympy.Symbol(one) for one in self.found.constants}:
                    at = None
            self.found.events.append(SbmlEvent(name, None if at is not None else level, at, effects))


def _words(element: Any) -> str:
    """Name and unit of a quantity."""
    name = element.getName() if element.getName() != element.getId() else ""
    return ", in ".join(filter(None, (" ".join(name.split()), unit_in_words(element))))


def _in_order(rules: dict[str, Any], path: pathlib.Path, refused: Refusals) -> dict[str, Any]:
    """Rules in an order in which each is made of those before it."""
    import graphlib

    names = set(rules)
    needs = {name: {one.name for one in rule.free_symbols} & names for name, rule in rules.items()}
    try:
        return {name: rules[name] for name in graphlib.TopologicalSorter(needs).static_order()}
    except graphlib.CycleError as reason:
        refused.add(path, str(reason.args[1][0]), "is a rule that depends on itself")
        return rules
