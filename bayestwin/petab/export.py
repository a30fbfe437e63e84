"""A twin as a PEtab problem of version 1 with its model in SBML, where its equations are formulas of scalars.

Functions of the twin are traced, and what they do is written as SymPy does it. What a problem cannot say is refused.
"""

import functools
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist
import pandas as pd

from bayestwin.density.bind import bind
from bayestwin.errors import InvalidSetting, InvalidTwin
from bayestwin.model.components import Parameter
from bayestwin.model.noise.families import Gaussian, LogNormal
from bayestwin.model.tracing import CALLS, abstract_arguments
from bayestwin.model.twin import Twin
from bayestwin.model.types import ByExperiment, Column, First, varies
from bayestwin.petab.formulas import require_packages
from bayestwin.telemetry import Telemetry


def write_petab(
    twin: Twin,
    experiments: Mapping[str, Telemetry],
    folder: str | pathlib.Path,
    nominal: Mapping[str, float] | None = None,
) -> pathlib.Path:
    """Write a twin and its telemetry as a PEtab problem of version 1.

    Args:
        twin: Scalar states without inputs, events and model error; noise `bt.Gaussian` or `bt.LogNormal`.
        experiments: Telemetry by experiment.
        folder: Made if it is missing; a problem that is there is written over.
        nominal: Values of what is inferred, under their names in the posterior; by default medians of the priors.

    Returns:
        The problem's YAML file.

    Raises:
        InvalidTwin: If something of the twin has no words in PEtab or SBML: all of it.
        InvalidSetting: If the extra `petab` is not installed.
    """
    require_packages()
    writer = _Exporter(twin, experiments, dict(nominal or {}))
    tables = writer.tables()
    document = writer.model()
    writer.stop()
    import libsbml

    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    libsbml.writeSBMLToFile(document, str(folder / "model.xml"))
    for name, rows in tables.items():
        pd.DataFrame(rows).to_csv(folder / f"{name}.tsv", sep="\t", index=False)
    path = folder / f"{twin.name}.yaml"
    lines = ["format_version: 1", "parameter_file: parameters.tsv", "problems:", "- condition_files: [conditions.tsv]"]
    lines += ["  measurement_files: [measurements.tsv]", "  observable_files: [observables.tsv]"]
    path.write_text("\n".join([*lines, "  sbml_files: [model.xml]", ""]), encoding="utf-8", newline="\n")
    return path


class _Exporter:
    """Writes one twin."""

    def __init__(self, twin: Twin, experiments: Mapping[str, Telemetry], nominal: dict[str, float]) -> None:
        self.twin, self.experiments, self.nominal = twin, experiments, nominal
        self.wrong: list[str] = []
        self.formulas: dict[str, Any] = {}
        if twin.inputs:
            self.wrong += [f"input `{name}`" for name in twin.inputs]
        self.wrong += [f"event `{name}`" for name in twin.events]
        self.wrong += [f"state `{name}`, which is an array" for name, one in twin.states.items() if one.shape]
        self.wrong += [f"observation `{n}`, which is a {o.reads}" for n, o in twin.observations.items() if o.counts]
        brought = {**{n: p.prior for n, p in twin.parameters.items()}, **{n: s.initial for n, s in twin.states.items()}}
        self.wrong += [f"`{n}`, the first value of a column" for n, one in brought.items() if isinstance(one, First)]
        if twin.model_error is not None:
            self.wrong.append(f"`model_error={type(twin.model_error).__name__}(…)`")
        self.stop()
        self.bound = {name: bind(twin, one, experiment=name) for name, one in experiments.items()}

    def stop(self) -> None:
        """Raise if there is something that a problem cannot say."""
        if self.wrong:
            raise InvalidTwin(
                f"Twin `{self.twin.name}` cannot be written as a PEtab problem.",
                expected="scalar states, formulas, priors and noise that PEtab has",
                received="; ".join(self.wrong),
                advice="Write a simpler twin, or keep this one as Python.",
            )

    def traced(self, function: Callable[..., Any], owner: str) -> Any:
        """What a function of `(t, x, p, u)` returns, as expressions; a dict by name or one."""
        import sympy

        arguments = abstract_arguments(self.twin.shapes)
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
        names = ["time", *self.twin.states, *self.twin.parameters]
        try:
            values = evaluate(closed.jaxpr, closed.consts, [sympy.Symbol(name) for name in names])
        except InvalidSetting as reason:
            self.wrong.append(f"{owner}, which does `{reason.received}`")
            values = [sympy.Integer(0)] * len(closed.out_avals)
        return jax.tree.unflatten(jax.tree.structure(shape), values)

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of all tables."""
        parameters = [self._parameter(site.name, site.prior) for site in self.twin.sites()]
        conditions = [{"conditionId": name, **self._known(name)} for name in self.experiments]
        observables, measurements = [], []
        for name, one in self.twin.observations.items():
            of = one.of if one.of is not None else (lambda t, x, p, u, name=name: getattr(x, name))  # noqa: ARG005
            noise, by_row = self._noise(name, one.noise)
            observables.append(
                {
                    "observableId": self._observable(name),
                    "observableFormula": as_text(self.traced(of, f"observation `{name}`")),
                    "observableTransformation": "log" if isinstance(one.noise, LogNormal) else "lin",
                    "noiseFormula": noise,
                    "noiseDistribution": "normal",
                }
            )
            for experiment, bound in self.bound.items():
                for row in np.flatnonzero(np.isfinite(bound.observations[name])):
                    told = {"observableId": self._observable(name), "simulationConditionId": experiment}
                    told |= {"time": bound.times[row], "measurement": bound.observations[name][row]}
                    told["noiseParameters"] = bound.columns[f"{name}_scale"][row] if by_row else ""
                    measurements.append(told)
        tables = {"parameters": parameters, "conditions": conditions, "observables": observables}
        return tables | {"measurements": measurements}

    def _observable(self, name: str) -> str:
        return f"{name}_observed" if name in (*self.twin.states, *self.twin.parameters) else name

    def _known(self, experiment: str) -> dict[str, float]:
        """What an experiment brings along."""
        own = {name: p.prior for name, p in self.twin.parameters.items()}
        own |= {name: s.initial for name, s in self.twin.states.items()}
        return {n: one.numbers[experiment] for n, one in own.items() if isinstance(one, ByExperiment)}

    def _parameter(self, name: str, prior: Any) -> dict[str, Any]:
        """A row of the parameter table; bounds that a prior does not have are far away."""
        row = {"parameterId": name, "parameterScale": "lin", "lowerBound": -1e6, "upperBound": 1e6, "estimate": 1}
        row |= {"objectivePriorType": "", "objectivePriorParameters": ""}
        kinds: dict[type, tuple[str, tuple[str, str]]] = {
            dist.Uniform: ("uniform", ("low", "high")),
            dist.Normal: ("normal", ("loc", "scale")),
            dist.LogNormal: ("logNormal", ("loc", "scale")),
            dist.Laplace: ("laplace", ("loc", "scale")),
        }
        positive = isinstance(prior, dist.LogUniform | dist.LogNormal)
        if isinstance(prior, dist.LogUniform):
            row |= {"objectivePriorType": "parameterScaleUniform"}
            row |= {"lowerBound": float(np.asarray(prior.low)), "upperBound": float(np.asarray(prior.high))}
        elif type(prior) in kinds:
            kind, names = kinds[type(prior)]
            numbers = [float(getattr(prior, one)) for one in names]
            row |= {"objectivePriorType": kind, "objectivePriorParameters": ";".join(map(repr, numbers))}
            if kind == "uniform":
                row |= {"lowerBound": numbers[0], "upperBound": numbers[1]}
        else:
            self.wrong.append(f"the prior of `{name}`, {type(prior).__name__}")
            return row
        if positive:
            row |= {"parameterScale": "log", "lowerBound": row["lowerBound"] if row["lowerBound"] > 0 else 1e-12}
        middle = float(np.median(prior.sample(jax.random.key(0), (999,))))
        return row | {"nominalValue": float(self.nominal.get(name, middle))}

    def _noise(self, name: str, noise: Any) -> tuple[str, bool]:
        """The noise formula of an observation, and whether its rows tell it."""
        if type(noise) not in (Gaussian, LogNormal):
            self.wrong.append(f"the noise of `{name}`, {type(noise).__name__}")
            return "1", False
        scale = noise.scale
        if isinstance(scale, Column):
            if scale.factor != 1.0:
                self.wrong.append(f"the noise of `{name}`, whose column has a factor")
            return f"noiseParameter1_{self._observable(name)}", True
        if isinstance(scale, dist.Distribution):
            return f"{name}_scale", False
        if varies(scale):
            return as_text(self.traced(scale, f"the noise of `{name}`")), False
        return str(scale), False

    def model(self) -> Any:
        """The model in SBML: states are parameters with rate rules."""
        import libsbml

        document = libsbml.SBMLDocument(3, 2)
        model = document.createModel()
        model.setId(self.twin.name)
        rates = self.traced(self.twin.derivative, "the vector field")
        for name, state in self.twin.states.items():
            element = model.createParameter()
            element.setId(name)
            element.setConstant(False)
            element.setValue(0.0)
            rule = model.createRateRule()
            rule.setVariable(name)
            rule.setMath(libsbml.parseL3Formula(as_text(rates[name])))
            start = self._start(name, state.initial)
            if start is not None:
                assignment = model.createInitialAssignment()
                assignment.setSymbol(name)
                assignment.setMath(libsbml.parseL3Formula(as_text(start)))
        for name, parameter in self.twin.parameters.items():
            self._constant(model, name, parameter)
        for site in self.twin.sites():
            if site.kind != "parameter":
                element = model.createParameter()
                element.setId(site.name)
                element.setConstant(True)
                element.setValue(1.0)
        return document

    def _constant(self, model: Any, name: str, parameter: Parameter) -> None:
        import libsbml

        element = model.createParameter()
        element.setId(name)
        element.setConstant(True)
        prior: Any = parameter.prior
        element.setValue(float(prior) if isinstance(prior, int | float) else 1.0)
        if name in self.twin.derived:
            assignment = model.createInitialAssignment()
            assignment.setSymbol(name)
            function: Any = parameter.prior
            value = self.traced(lambda t, x, p, u: function(p), f"parameter `{name}`")  # noqa: ARG005
            assignment.setMath(libsbml.parseL3Formula(as_text(value)))

    def _start(self, name: str, initial: Any) -> Any:
        """Where a state starts, as an expression; None where conditions say it."""
        import sympy

        if isinstance(initial, int | float):
            return sympy.Float(initial)
        if isinstance(initial, ByExperiment):
            return None
        if f"{name}_initial" in {site.name for site in self.twin.sites()}:
            return sympy.Symbol(f"{name}_initial")
        if self.twin.states[name].derived:
            function: Any = initial
            return self.traced(lambda t, x, p, u: function(p), f"the start of `{name}`")  # noqa: ARG005
        self.wrong.append(f"the start of `{name}`, {type(initial).__name__}")
        return None


@functools.cache
def _text_printer() -> Any:
    """Writes what libsbml and PEtab read."""
    from sympy.printing.str import StrPrinter

    class Formula(StrPrinter):
        def _print_Piecewise(self, expr: Any) -> str:
            parts = [f"{self._print(v)}, {self._print(c)}" for v, c in expr.args if c != True]  # noqa: E712
            rest = [self._print(v) for v, c in expr.args if c == True]  # noqa: E712
            return f"piecewise({', '.join([*parts, *rest])})"

        def _print_log(self, expr: Any) -> str:
            return f"ln({self._print(expr.args[0])})"

        def _print_Float(self, expr: Any) -> str:
            return repr(float(expr))

        def _print_Rational(self, expr: Any) -> str:
            return f"({expr.p}/{expr.q})"

        def _print_And(self, expr: Any) -> str:
            return " && ".join(f"({self._print(one)})" for one in expr.args)

        def _print_Or(self, expr: Any) -> str:
            return " || ".join(f"({self._print(one)})" for one in expr.args)

        def _print_Not(self, expr: Any) -> str:
            return f"!({self._print(expr.args[0])})"

        def _print_Max(self, expr: Any) -> str:
            return f"max({', '.join(map(self._print, expr.args))})"

        def _print_Min(self, expr: Any) -> str:
            return f"min({', '.join(map(self._print, expr.args))})"

        def _print_Abs(self, expr: Any) -> str:
            return f"abs({self._print(expr.args[0])})"

    return Formula()


def as_text(expression: Any) -> str:
    """An expression as formulas of SBML and PEtab have it."""
    return str(_text_printer().doprint(expression)).replace("**", "^")


# What a trace does, by SymPy.


def evaluate(jaxpr: Any, constants: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    """What a trace of scalars computes, as expressions.

    Raises:
        InvalidSetting: If one of its operations has no formula; `received` says which.
    """
    import sympy

    known: dict[Any, Any] = dict(zip(jaxpr.constvars, map(_plain, constants), strict=True))
    known |= dict(zip(jaxpr.invars, arguments, strict=True))

    def value(one: Any) -> Any:
        return _plain(one.val) if hasattr(one, "val") else known[one]

    for equation in jaxpr.eqns:
        name, given = equation.primitive.name, [value(one) for one in equation.invars]
        if name in CALLS or name in ("custom_jvp_call", "custom_vjp_call"):
            inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
            inner, held = (inner.jaxpr, inner.consts) if hasattr(inner, "jaxpr") else (inner, ())
            found = evaluate(inner, held, given)
        else:
            found = [_operation(sympy, name, equation, given)]
        known |= dict(zip(equation.outvars, found, strict=True))
    return [value(one) for one in jaxpr.outvars]


def _plain(value: Any) -> Any:
    """A number of a trace."""
    import sympy

    if not hasattr(value, "dtype") and isinstance(value, sympy.Basic):
        return value
    number = np.asarray(value)
    if number.size != 1:
        raise InvalidSetting("", expected="", received="an array", advice="")
    number = number.ravel()[0]
    if number.dtype == bool:
        return sympy.true if number else sympy.false
    return sympy.Integer(int(number)) if float(number).is_integer() and abs(number) < 1e9 else sympy.Float(number)


def _operation(sympy: Any, name: str, equation: Any, given: list[Any]) -> Any:
    """One operation of a trace."""
    plain: dict[str, Callable[..., Any]] = {
        "add": lambda a, b: a + b,
        "sub": lambda a, b: a - b,
        "mul": lambda a, b: a * b,
        "div": lambda a, b: a / b,
        "neg": lambda a: -a,
        "pow": lambda a, b: a**b,
        "exp": sympy.exp,
        "log": sympy.log,
        "log1p": lambda a: sympy.log(1 + a),
        "expm1": lambda a: sympy.exp(a) - 1,
        "sqrt": sympy.sqrt,
        "square": lambda a: a**2,
        "abs": sympy.Abs,
        "sin": sympy.sin,
        "cos": sympy.cos,
        "tan": sympy.tan,
        "tanh": sympy.tanh,
        "logistic": lambda a: 1 / (1 + sympy.exp(-a)),
        "max": sympy.Max,
        "min": sympy.Min,
        "lt": sympy.Lt,
        "le": sympy.Le,
        "gt": sympy.Gt,
        "ge": sympy.Ge,
        "and": sympy.And,
        "or": sympy.Or,
        "not": sympy.Not,
        "convert_element_type": lambda a: a,
        "broadcast_in_dim": lambda a: a,
        "reshape": lambda a: a,
        "squeeze": lambda a: a,
        "stop_gradient": lambda a: a,
        "copy": lambda a: a,
    }
    if name == "integer_pow":
        return given[0] ** equation.params["y"]
    if name == "select_n" and len(given) == 3:
        return sympy.Piecewise((given[2], given[0]), (given[1], True))
    if name in plain and all(math.prod(one.aval.shape) == 1 for one in equation.outvars):
        return plain[name](*given)
    raise InvalidSetting("", expected="", received=name, advice="")
