"""A calibrated twin as an FMU: its equations as C, its parameters at a draw or a quantile, compiled for this platform.

Whoever imports it needs neither Python nor this package; the source lies in the archive.
"""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from typing import Any
from xml.sax.saxutils import quoteattr

import jax
import numpy as np
import xarray as xr

from bayestwin._base.units import registry
from bayestwin.calibrate import check_belongs
from bayestwin.errors import InvalidSetting, InvalidTwin
from bayestwin.fmi.fmu import require_packages
from bayestwin.model.tracing import abstract_arguments, num_arguments
from bayestwin.model.twin import Twin
from bayestwin.model.types import ByExperiment, First, SteadyState
from bayestwin.petab.export import evaluate
from bayestwin.results.store import write_bytes_durably

TEMPLATE = pathlib.Path(__file__).with_name("solver.c.txt")
RTOL, ATOL = 1e-8, 1e-10
MADE = (1980, 1, 1, 0, 0, 0)
"""When files of the archive were made, whenever that was, so that the same twin gives the same bytes."""


def write_fmu(
    twin: Twin,
    posterior: xr.DataTree,
    path: str | pathlib.Path,
    *,
    draw: tuple[int, int] | None = None,
    quantile: float = 0.5,
) -> pathlib.Path:
    """Write a calibrated twin as an FMU of FMI 2.0 for co-simulation.

    Parameters and initial states are parameters of the FMU and start at the values asked for; inputs are held between
    communication points; outputs are the states, and the observations without noise. Time is in seconds from the start
    of the experiment, which is `t0`. It solves by explicit steps, to a relative tolerance of 1e-8.

    Args:
        twin: Scalar states without events, delays or model error, made of functions that have formulas.
        posterior: As `calibrate` returned it.
        path: The file to write, `….fmu`.
        draw: Chain and number of the draw whose values are taken, which belong together.
        quantile: Of each quantity by itself, where no draw is named; the median by default.

    Returns:
        The file.

    Raises:
        InvalidTwin: Naming all that an FMU cannot say.
        InvalidSetting: If the extras `fmi` and `petab` or a C compiler are missing, or there is no such draw.
        InvalidArtifact: If the posterior belongs to another twin.
    """
    require_packages()
    import fmpy

    compiler = _compiler()
    check_belongs(twin, posterior)
    exporter = _FmuWriter(twin, _values_of(posterior, draw, quantile), posterior.attrs)
    source, description = exporter.written()
    told = {"twin": twin.name, "twin_sha256": posterior.attrs["twin_sha256"], "values": exporter.values}
    told |= {"draw": list(draw)} if draw else {"quantile": quantile}
    path, name = pathlib.Path(path), twin.name
    with tempfile.TemporaryDirectory(prefix="bayestwin-fmu-") as temporary:
        folder = pathlib.Path(temporary)
        (folder / f"{name}.c").write_text(source, encoding="utf-8")
        library = folder / f"{name}{fmpy.sharedLibraryExtension}"
        flags = ["-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off"]
        command = [compiler, *flags, str(folder / f"{name}.c"), "-o", str(library), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise InvalidSetting(
                f"The C compiler `{compiler}` refuses the source of twin `{name}`.",
                expected="a compiler of C99",
                received=done.stderr.strip()[:500],
                advice="Name another compiler by the environment variable CC.",
            )
        files = {
            "modelDescription.xml": description.encode(),
            f"sources/{name}.c": source.encode(),
            f"binaries/{fmpy.platform}/{library.name}": library.read_bytes(),
            "resources/bayestwin.json": json.dumps(told, indent=1, sort_keys=True).encode(),
        }
        made = folder / "made.fmu"
        with zipfile.ZipFile(made, "w") as archive:
            for file, content in files.items():
                archive.writestr(zipfile.ZipInfo(file, MADE), content, zipfile.ZIP_DEFLATED)
        _check(made)
        return write_bytes_durably(path, made.read_bytes())


def _compiler() -> str:
    named = os.environ.get("CC", "")
    found = shutil.which(named) if named else shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if found is None:
        raise InvalidSetting(
            "No FMU can be made here.",
            expected="a C compiler, `cc` or what the environment variable CC names",
            received=f"CC={named!r}" if named else "none",
            advice="Install one, for example by the system's package `gcc`.",
        )
    return found


def _check(path: pathlib.Path) -> None:
    """Hold the archive against the standard, as FMPy does."""
    from fmpy.validation import validate_fmu

    problems = validate_fmu(str(path))
    assert not problems, problems


def _values_of(posterior: xr.DataTree, draw: tuple[int, int] | None, quantile: float) -> dict[str, float]:
    """A value of each quantity of a posterior."""
    group = posterior["posterior"].to_dataset()
    several = [str(name) for name, own in group.data_vars.items() if set(own.dims) != {"chain", "draw"}]
    if several:
        raise InvalidTwin(
            "An FMU is of one asset.",
            expected="one value of each quantity in a draw",
            received="several of " + ", ".join(f"`{name}`" for name in several),
            advice="Take one experiment: `posterior.sel(experiment=…)`.",
        )
    sizes = group.sizes["chain"], group.sizes["draw"]
    if draw is not None and not all(0 <= at < size for at, size in zip(draw, sizes, strict=True)):
        raise InvalidSetting(
            "There is no such draw.",
            expected=f"`draw=(chain, draw)`, below {sizes[0]} and {sizes[1]}",
            received=f"{draw!r}",
            advice="Count from 0.",
        )
    if not 0.0 <= quantile <= 1.0:
        raise InvalidSetting(
            "There is no such quantile.",
            expected="`quantile=` between 0 and 1",
            received=f"{quantile!r}",
            advice="Leave it out for medians.",
        )
    if draw is not None:
        return {str(name): float(own.values[draw]) for name, own in group.data_vars.items()}
    return {str(name): float(np.quantile(own.values, quantile)) for name, own in group.data_vars.items()}


class _FmuWriter:
    """Writes one twin: a row of numbers `w`, in which states, parameters, inputs and outputs have their places."""

    def __init__(self, twin: Twin, values: Mapping[str, float], attributes: Mapping[Any, Any]) -> None:
        self.twin = twin
        known = {n: p.prior for n, p in twin.parameters.items() if isinstance(p.prior, int | float)}
        known |= {f"{n}_initial": s.initial for n, s in twin.states.items() if isinstance(s.initial, int | float)}
        self.values = {name: float(own) for name, own in {**known, **values}.items()}
        self.wrong = self._wrong(attributes)
        self.starts = [f"{n}_initial" for n, s in twin.states.items() if f"{n}_initial" in self.values]
        self.seen = [n for n, o in twin.observations.items() if o.of is not None]
        names = [*twin.states, *twin.parameters, *self.starts, *twin.inputs, *self.seen]
        if len(set(names)) < len(names):
            self.wrong.append("names that stand for two things")
        self.place = {name: number for number, name in enumerate(names)}

    def _wrong(self, attributes: Mapping[Any, Any]) -> list[str]:
        twin = self.twin
        if twin.black_box:
            return ["a model that shows no equations"]
        if not twin.name.isascii():
            return ["a name with letters that C does not have"]
        wrong = [f"event `{name}`" for name in twin.events] + [f"delayed input `{name}`" for name in twin.delayed]
        wrong += [f"state `{name}`, which is an array" for name, one in twin.states.items() if one.shape]
        wrong += [f"observation `{n}`, which is a {o.reads}" for n, o in twin.observations.items() if o.counts]
        if twin.model_error is not None:
            wrong.append(f"`model_error={type(twin.model_error).__name__}(…)`")
        if attributes.get("solver_choice", {}).get("method") == "rodas5p":
            wrong.append("stiff equations, for which explicit steps are too short")
        for name, state in twin.states.items():
            if isinstance(state.initial, SteadyState | First | ByExperiment):
                wrong.append(f"the start of `{name}`, {type(state.initial).__name__}")
            elif state.derived and num_arguments(state.initial) == 2:
                wrong.append(f"the start of `{name}`, which depends on inputs")
        for name, parameter in twin.parameters.items():
            if isinstance(parameter.prior, First | ByExperiment):
                wrong.append(f"parameter `{name}`, {type(parameter.prior).__name__}")
        try:
            registry().Quantity(1.0, twin.time_unit).to("s")
        except Exception:  # pint raises errors of many unrelated kinds
            wrong.append(f"time in `{twin.time_unit}`, which are no seconds")
        return wrong

    def written(self) -> tuple[str, str]:
        """The source in C and the description.

        Raises:
            InvalidTwin: Naming what has no formula.
        """
        parts = {} if self.wrong else self._functions()
        if self.wrong:
            raise InvalidTwin(
                f"Twin `{self.twin.name}` cannot be written as an FMU.",
                expected="scalar states, and functions that have formulas",
                received="; ".join(self.wrong),
                advice="Write a simpler twin; what else asks for it can call `predict`.",
            )
        seconds = float(registry().Quantity(1.0, self.twin.time_unit).to("s").magnitude)
        start = [repr(self.values.get(name, 0.0)) for name in self.place]
        parts |= {"TITLE": self.twin.name, "STATES": str(len(self.twin.states)), "SIZE": str(len(self.place))}
        parts |= {"SECONDS": repr(seconds), "RTOL": repr(RTOL), "ATOL": repr(ATOL), "START": ", ".join(start)}
        guid = hashlib.sha256(json.dumps([parts, [*self.place]]).encode()).hexdigest()[:32]
        source = TEMPLATE.read_text(encoding="utf-8")
        for name, text in {**parts, "GUID": guid}.items():
            source = source.replace(f"@{name}@", text)
        return source, self._description(guid, seconds)

    def _functions(self) -> dict[str, str]:
        """The bodies of the four functions in C."""
        twin = self.twin
        states: dict[str, str] = {}
        for name, state in twin.states.items():
            given = self.place.get(f"{name}_initial")
            owner = f"the start of `{name}`"
            states[name] = f"w[{given}]" if given is not None else self._formula(_of_parameters(state.initial), owner)
        derived = {
            name: self._formula(_of_parameters(twin.parameters[name].prior), f"parameter `{name}`")
            for name in twin.derived
        }
        seen = {name: self._formula(twin.observations[name].of, f"observation `{name}`") for name in self.seen}
        rates = self._formula(twin.derivative, "the vector field")
        return {
            "DERIVE": self._lines({f"w[{self.place[n]}]": own for n, own in derived.items()}),
            "BEGIN": self._lines({f"w[{self.place[n]}]": own for n, own in states.items()}),
            "RATES": self._lines({f"dx[{self.place[n]}]": own for n, own in rates.items()}),
            "OUTPUTS": self._lines({f"w[{self.place[n]}]": own for n, own in seen.items()}),
        }

    def _formula(self, function: Callable[..., Any] | None, owner: str) -> Any:
        """What a function of `(t, x, p, u)` returns in C; a dict by name or one."""
        import sympy

        assert function is not None
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*abstract_arguments(self.twin.shapes))
        names = [*self.twin.states, *self.twin.parameters, *self.twin.inputs]
        symbols = [sympy.Symbol("t"), *(sympy.Symbol(f"w[{self.place[name]}]") for name in names)]
        try:
            found = [_in_c(sympy, one) for one in evaluate(closed.jaxpr, closed.consts, symbols)]
        except InvalidSetting as reason:
            self.wrong.append(f"{owner}, which does `{reason.received}`")
            found = ["0.0"] * len(closed.out_avals)
        return jax.tree.unflatten(jax.tree.structure(shape), found)

    @staticmethod
    def _lines(assigned: Mapping[str, str]) -> str:
        return "".join(f"    {place} = {text};\n" for place, text in assigned.items())

    def _description(self, guid: str, seconds: float) -> str:
        """The file `modelDescription.xml`."""
        twin = self.twin
        units = {n: m.unit for group in (twin.states, twin.parameters, twin.inputs) for n, m in group.items()}
        units |= {f"{n}_initial": s.unit for n, s in twin.states.items()}
        units |= {n: twin.observations[n].unit for n in self.seen}
        words = {n: m.doc for group in (twin.states, twin.parameters, twin.inputs) for n, m in group.items()}
        words |= {f"{n}_initial": f"initial {s.doc or n}" for n, s in twin.states.items()}
        words |= {n: twin.observations[n].doc for n in self.seen}
        rows, outputs = [], []
        for name, number in self.place.items():
            kind, started = self._kind(name)
            if kind.startswith('causality="output"'):
                outputs.append(number + 1)
            start = f" start={quoteattr(repr(self.values.get(name, 0.0)))}" if started else ""
            unit = f" unit={quoteattr(units[name])}" if units[name] else ""
            told = f" description={quoteattr(words[name])}" if words[name] else ""
            rows.append(
                f'    <ScalarVariable name="{name}" valueReference="{number}" {kind}{told}><Real{unit}{start}/>'
                "</ScalarVariable>"
            )
        defined = [f"    <Unit name={quoteattr(one)}/>" for one in sorted({*units.values()} - {""})]
        unknown = [f'      <Unknown index="{number}"/>' for number in outputs]
        lines = [
            '<?xml version="1.0" encoding="UTF-8"?>',
            f'<fmiModelDescription fmiVersion="2.0" modelName="{twin.name}" guid="{guid}" '
            f'generationTool="bayestwin" description={quoteattr(twin.doc)}>',
            f'  <CoSimulation modelIdentifier="{twin.name}" canHandleVariableCommunicationStepSize="true">',
            f'    <SourceFiles><File name="{twin.name}.c"/></SourceFiles>',
            "  </CoSimulation>",
            *(["  <UnitDefinitions>", *defined, "  </UnitDefinitions>"] if defined else []),
            f'  <DefaultExperiment startTime="0" stopTime="{100.0 * seconds!r}" stepSize="{seconds!r}"/>',
            "  <ModelVariables>",
            *rows,
            "  </ModelVariables>",
            "  <ModelStructure>",
            *["    <Outputs>", *unknown, "    </Outputs>"],
            *["    <InitialUnknowns>", *unknown, *self._calculated(), "    </InitialUnknowns>"],
            "  </ModelStructure>",
            "</fmiModelDescription>",
            "",
        ]
        return "\n".join(lines)

    def _calculated(self) -> list[str]:
        """Derived parameters as initial unknowns."""
        return [f'      <Unknown index="{self.place[name] + 1}"/>' for name in self.twin.derived]

    def _kind(self, name: str) -> tuple[str, bool]:
        """What a variable is, in the words of the standard, and whether it has a start value."""
        if name in self.twin.states or name in self.seen:
            return 'causality="output" variability="continuous" initial="calculated"', False
        if name in self.twin.inputs:
            return 'causality="input" variability="continuous"', True
        if name in self.twin.derived:
            return 'causality="calculatedParameter" variability="fixed" initial="calculated"', False
        return 'causality="parameter" variability="fixed" initial="exact"', True


def _of_parameters(function: Any) -> Callable[..., Any]:
    """A function of parameters alone as one of `(t, x, p, u)`."""
    return lambda t, x, p, u: function(p)  # noqa: ARG005


def _in_c(sympy: Any, expression: Any) -> str:
    """An expression in C99."""
    return str(sympy.ccode(sympy.sympify(expression), standard="c99"))
