"""An FMU as a black box: its description is read, everything that does not fit is refused at once, and it is solved.

FMI 2.0 and 3.0, co-simulation, variables that are real numbers.
"""

import atexit
import dataclasses
import functools
import hashlib
import importlib.util
import math
import os
import pathlib
import re
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bayestwin._base.files import check_archive, local_path
from bayestwin._base.units import check_unit, suggested
from bayestwin.errors import BayestwinError, InvalidInput, InvalidSetting, InvalidTwin, UnsafeArtifact
from bayestwin.fmi.process import FmuProcess, packed
from bayestwin.model.black_box import BlackBox, OwnStart
from bayestwin.model.checks import check_name
from bayestwin.model.components import Input, Observation, Parameter, State
from bayestwin.model.twin import Twin

MOST_FILES = 100_000
"""Of an archive: what claims to hold more is not opened."""

CLOSE = 1e-9
"""How far the end of a step may lie from a row of the telemetry, in steps."""


def require_packages() -> None:
    """Refuse where the extra is not installed.

    Raises:
        InvalidSetting: Naming what is missing.
    """
    missing = [name for name in ("fmpy", "sympy") if importlib.util.find_spec(name) is None]
    if missing:
        raise InvalidSetting(
            "FMUs cannot be read or written here.",
            expected="the extra `fmi`: FMPy and SymPy",
            received=f"no {', '.join(missing)}",
            advice="Install it: `pip install 'bayestwin[fmi]'`.",
        )


class Variables(NamedTuple):
    """Value references in the order of a twin's names.

    Attributes:
        parameters: Of what is set before a solve.
        inputs: Of what is set at each communication point.
        outputs: Of what is read at the saved times.
    """

    parameters: list[int]
    inputs: list[int]
    outputs: list[int]


@dataclasses.dataclass(frozen=True, eq=False)
class Fmu(BlackBox):
    """A co-simulation FMU in place of equations; `twin` makes a twin of it.

    It runs in a process of its own, which is replaced where it dies or does not answer: that is one solve that failed.
    One instance is reset after each solve. Each calibration begins by making sure that the same values give the same
    outputs again, and that each parameter moves one.

    An FMU is native code, which runs with your rights as soon as it is solved: take it only from those whom you trust.

    Attributes:
        path: The file, `….fmu`.
        parameters: By name: parameters of the FMU, or start values of its variables (`initial="exact"`).
        outputs: Names of what is read, the twin's states; by default all real outputs whose names are identifiers.
        inputs: By name; what is left out stays as the FMU has it.
        variables: What the FMU calls a name of the twin, where that differs: `{"mass": "body.m"}`; None for a parameter
            that the FMU does not know, as one that only an observation uses.
        step: Longest communication step, in seconds. By default that of its default experiment where there are
            inputs, or where its steps cannot vary, and else from one row to the next.
        tolerance: Relative tolerance that the FMU is asked for; None leaves it to the FMU.
        most_seconds: After which a solve has failed.
        sha256: Of the file, as it was when this was made.

    Raises:
        InvalidInput: If it cannot be used: all reasons in one error.
        InvalidSetting: If the extra `fmi` is not installed.
        UnsafeArtifact: If the archive would write elsewhere, or more than an FMU holds.
    """

    path: Any
    parameters: Mapping[str, Parameter]
    outputs: Sequence[str] | None = None
    inputs: Mapping[str, Input] = dataclasses.field(default_factory=dict)
    variables: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    step: float | None = None
    tolerance: float | None = None
    most_seconds: float = 60.0
    sha256: str = dataclasses.field(default="", init=False)

    def __post_init__(self) -> None:
        """Read the description, and refuse what does not fit."""
        require_packages()
        path = pathlib.Path(os.path.abspath(local_path(self.path)))
        sha256, folder = _unpack(path)
        description = _describe(path, folder)
        faults = _faults_of(description, folder)
        found = _Described(description, dict(self.variables), faults)
        outputs = found.plain_outputs() if self.outputs is None else tuple(self.outputs)
        references = Variables(
            found.references([name for name in self.parameters if self.variables.get(name, name)], "parameter"),
            found.references([*self.inputs], "input"),
            found.references(outputs, "output"),
        )
        for name in set(self.variables) - {*self.parameters, *self.inputs, *outputs}:
            faults.append(f"`variables` names `{name}`, which is no parameter, input or output")
        if not outputs:
            faults.append("there is no real output")
        members = {
            "parameters": {n: found.with_unit(n, p, "parameter") for n, p in self.parameters.items()},
            "inputs": {n: found.with_unit(n, i, "input") for n, i in self.inputs.items()},
        }
        for name, number in (("step", self.step), ("tolerance", self.tolerance), ("most_seconds", self.most_seconds)):
            if number is not None and not (isinstance(number, int | float) and 0.0 < number < math.inf):
                faults.append(f"`{name}={number!r}` is no positive number")
        if faults:
            raise InvalidInput(
                f"The FMU `{path.name}` cannot be used: {len(faults)} "
                f"{'thing does' if len(faults) == 1 else 'things do'} not fit.",
                expected="FMI 2.0 or 3.0, co-simulation, for this platform, with real variables of these names",
                received="; ".join(faults),
                advice="Nothing was run. Name variables as its modelDescription.xml does, or have it exported again.",
            )
        known = {"path": path, "sha256": sha256, "outputs": outputs, **members}
        for name, value in known.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_found", found)
        object.__setattr__(self, "_told", {"folder": str(folder), "tolerance": self.tolerance, **references._asdict()})

    @property
    def takes(self) -> tuple[str, ...]:
        """Parameters that the FMU knows."""
        return tuple(name for name in self.parameters if self.variables.get(name, name))

    @property
    def driven_by(self) -> tuple[str, ...]:
        """Inputs that are set."""
        return tuple(self.inputs)

    @property
    def gives(self) -> tuple[str, ...]:
        """What is read."""
        return tuple(self.outputs or ())

    @property
    def words(self) -> str:
        """Which FMU it is, and how it is used."""
        found: _Described = vars(self)["_found"]
        lines = [f"FMU {found.title}, FMI {found.version}, co-simulation, sha256 {self.sha256}"]
        renamed = [f"{name} is {own}" for name, own in sorted(self.variables.items()) if own and own != name]
        lines += [f"variables: {', '.join(renamed)}"] if renamed else []
        stepped = self._longest
        lines += ["one step from stop to stop" if stepped is None else f"communication steps of at most {stepped:g} s"]
        return "\n".join(lines + ([] if self.tolerance is None else [f"tolerance {self.tolerance:g}"]))

    @property
    def file(self) -> pathlib.Path:
        """As `BlackBox.file`."""
        return self.path

    @property
    def tally(self) -> Mapping[str, Any]:
        """What its process was asked, and what came of it."""
        return dataclasses.asdict(self._process.counts)

    def twin(
        self,
        observations: Mapping[str, Observation],
        *,
        name: str | None = None,
        doc: str = "",
        **settings: Any,
    ) -> Twin:
        """A twin whose states are the outputs, with the units and words that the FMU has for them.

        Args:
            observations: By name; one without `of=` is the output of the same name.
            name: Of the twin; by default the FMU's.
            doc: What the asset is, in words; by default the FMU's.
            settings: What else `bt.Twin` takes.

        Returns:
            The twin, whose time is in seconds from `t0`, at which the FMU's is 0.

        Raises:
            InvalidInput: If the unit of an observation is not that of the FMU.
            InvalidTwin: If something does not fit together.
        """
        found: _Described = vars(self)["_found"]
        faults: list[str] = []
        seen = {
            n: o if o.of is not None or n not in self.gives else found.with_unit(n, o, "observation", faults)
            for n, o in observations.items()
        }
        states = {n: found.with_unit(n, State(OwnStart()), "output", faults) for n in self.gives}
        if faults:
            raise InvalidInput(
                f"Units do not fit those of the FMU `{self.path.name}`.",
                expected="for each output the unit that the FMU has, or none, which takes that",
                received="; ".join(faults),
                advice="Convert with `of=lambda t, x, p, u: …` under another name.",
            )
        return Twin(
            name=name or found.identifier,
            vector_field=self,
            states=states,
            parameters=self.parameters,
            inputs=self.inputs,
            observations=seen,
            doc=doc or found.doc,
            **settings,
        )

    def solve(self, values: np.ndarray, edges: np.ndarray, coefficients: np.ndarray, save: np.ndarray) -> np.ndarray:
        """As `BlackBox.solve`."""
        return self._solve(values, edges, coefficients, save, keep=True)

    def _solve(self, values: np.ndarray, edges: Any, coefficients: Any, save: np.ndarray, *, keep: bool) -> np.ndarray:
        whole = np.full((len(save), len(self.gives)), np.nan)
        if np.isfinite(values).all():
            plan = _plan(edges.tobytes(), coefficients.tobytes(), save.tobytes(), coefficients.shape, self._longest)
            found = self._process.solve(plan, values, keep=keep)
            whole[: len(found)] = np.where(np.isfinite(found), found, np.nan)
        return whole

    def check(self, values: np.ndarray, edges: np.ndarray, coefficients: np.ndarray, save: np.ndarray) -> None:
        """As `BlackBox.check`; where a reset leaves something behind, each solve gets an instance of its own."""
        found: _Described = vars(self)["_found"]
        if not found.varying and self._longest is not None:
            lengths = np.diff(edges[: int(np.max(save)) + 1]) / self._longest
            if (np.abs(lengths - lengths.round()) > CLOSE * np.maximum(lengths, 1.0)).any():
                raise InvalidTwin(
                    f"The FMU `{self.path.name}` cannot step to all rows of the telemetry.",
                    expected=f"rows at whole multiples of {self._longest:g} s after `t0`: its steps cannot vary",
                    received=f"rows that are {np.diff(edges).min():g} to {np.diff(edges).max():g} s apart",
                    advice="Choose rows that lie on its steps, or pass a `step=` that they are multiples of.",
                )
        if not self._repeats(values, edges, coefficients, save):
            self._process.fresh = True
            if not self._repeats(values, edges, coefficients, save):
                raise InvalidTwin(
                    f"The FMU `{self.path.name}` does not give the same outputs for the same parameters.",
                    expected="outputs that parameters and inputs determine",
                    received="other outputs when it was asked again, even from a new instance",
                    advice="Fix its seed, if it has one as a parameter; noise belongs to the observations of the twin.",
                )

    def _repeats(self, values: np.ndarray, *grid: np.ndarray) -> bool:
        """Whether the first of several values gives the same again after the others; they are solved anew."""
        first, *others = values
        before = self._solve(first, *grid, keep=False)
        for other in others:
            self._solve(other, *grid, keep=False)
        return np.array_equal(before, self._solve(first, *grid, keep=False), equal_nan=True)

    @functools.cached_property
    def _process(self) -> FmuProcess:
        return FmuProcess(vars(self)["_told"], self.most_seconds)

    @property
    def _longest(self) -> float | None:
        """The longest communication step; None where there is no need for one."""
        found: _Described = vars(self)["_found"]
        if self.step is not None:
            return self.step
        return found.step if self.inputs or not found.varying else None


@functools.lru_cache(64)
def _plan(edges: bytes, coefficients: bytes, save: bytes, shape: tuple[int, ...], longest: float | None) -> bytes:
    """Communication points from stop to stop, and inputs as they are at the start and in the middle of each step."""
    stops, places = np.frombuffer(edges), np.frombuffer(save, int)
    powers = np.frombuffer(coefficients).reshape(shape)
    points, inputs, at = [stops[0]], [powers[0, 0] if shape[0] else np.empty(shape[-1])], [0]
    for k in range(int(places.max())):
        length = stops[k + 1] - stops[k]
        num = 1 if longest is None or not length else max(1, math.ceil(length / longest - CLOSE))
        middle = (np.arange(num) + 0.5) * length / num
        rows = sum(powers[k, power] * middle[:, None] ** power for power in range(shape[1]))
        inputs += list(np.broadcast_to(rows, (num, shape[-1])))
        points += [*(stops[k] + length * np.arange(1, num) / num), stops[k + 1]]
        at.append(len(points) - 1)
    return packed(np.array(points), np.array(inputs), np.array(at)[places])


# The archive and its description.


@functools.cache
def _unpacked(sha256: str) -> pathlib.Path:
    """A private folder for the contents of one file, which is gone when this process ends."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"bayestwin-fmu-{sha256[:12]}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _unpack(path: pathlib.Path) -> tuple[str, pathlib.Path]:
    """The hash of a file, and the folder into which exactly what was hashed is unpacked."""
    import io

    try:
        content = path.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check_archive(path, archive)
            folder = _unpacked(sha256)
            if not (folder / "modelDescription.xml").exists():
                archive.extractall(folder)
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as reason:
        raise InvalidInput(
            f"`{path}` cannot be read as an FMU.",
            expected="an archive `….fmu` with a `modelDescription.xml`",
            received=str(reason) or type(reason).__name__,
            advice="Check the path; have the FMU exported again if it is damaged.",
        ) from reason
    return sha256, folder


def _check_archive(path: pathlib.Path, archive: zipfile.ZipFile) -> None:
    """Refuse what would leave the folder, fill the disk, or read other files, before anything is written."""
    check_archive(path, archive, most_files=MOST_FILES, why="what an FMU is", within="the archive")
    try:
        text = archive.read("modelDescription.xml")
    except KeyError as reason:
        message = "no `modelDescription.xml` in it"
        raise zipfile.BadZipFile(message) from reason
    if re.search(rb"<!(?:DOCTYPE|ENTITY)", text.replace(b"\0", b"")):
        raise UnsafeArtifact(
            f"The description in `{path}` is not read: it defines entities, which can name other files.",
            expected="a `modelDescription.xml` without a document type",
            received="a document type definition",
            advice="Do not use it unless you know who made it.",
        )


def _describe(path: pathlib.Path, folder: pathlib.Path) -> Any:
    """What FMPy reads in a description of a version that is supported."""
    from fmpy import read_model_description

    version = re.search(rb"""fmiVersion\s*=\s*["']([^"']*)""", (folder / "modelDescription.xml").read_bytes())
    told = version[1].decode("utf-8", "replace") if version else "of no version"
    cause: Exception | None = None
    if told == "2.0" or re.fullmatch(r"3\.\d.*", told):
        try:
            return read_model_description(str(folder), validate=False)
        except Exception as reason:  # FMPy's errors are of no type of their own
            told, cause = str(reason), reason
    raise InvalidInput(
        f"The description in `{path.name}` cannot be read.",
        expected="a `modelDescription.xml` of FMI 2.0 or 3.0",
        received=told,
        advice="Have the FMU exported again, as one of version 2.0 or 3.0.",
    ) from cause


def _faults_of(description: Any, folder: pathlib.Path) -> list[str]:
    """Why an FMU as a whole cannot be used."""
    import fmpy

    kind = description.coSimulation
    if kind is None:
        return ["it has no co-simulation: one for model exchange alone leaves solving to others"]
    faults = []
    names = (fmpy.platform, fmpy.platform_tuple)
    library = [folder / "binaries" / one / f"{kind.modelIdentifier}{fmpy.sharedLibraryExtension}" for one in names]
    if not any(one.is_file() for one in library):
        there = sorted(one.name for one in (folder / "binaries").glob("*")) or ["none"]
        faults.append(f"it has no binary for {fmpy.platform_tuple} (there: {', '.join(there)})")
    if getattr(kind, "needsExecutionTool", False):
        faults.append("it needs the tool that made it to be running")
    return faults


@dataclasses.dataclass(eq=False)
class _Described:
    """A description, by the names that a twin has for its variables.

    Attributes:
        description: As FMPy reads it.
        variables: What the FMU calls them, where that differs.
        faults: What does not fit; added to.
    """

    description: Any
    variables: Mapping[str, str | None]
    faults: list[str]

    @functools.cached_property
    def by_name(self) -> Mapping[str, Any]:
        """Variables by the FMU's names."""
        return {one.name: one for one in self.description.modelVariables}

    @property
    def title(self) -> str:
        """What the FMU calls itself."""
        return str(self.description.modelName or "without a name")

    @property
    def version(self) -> str:
        """Of FMI."""
        return str(self.description.fmiVersion)

    @property
    def doc(self) -> str:
        """What it is, in words."""
        return str(self.description.description or "")

    @property
    def identifier(self) -> str:
        """Its name as a twin may have it."""
        plain = re.sub(r"\W+", "_", self.title).strip("_").lower()
        return plain if re.match(r"[a-z]", plain) else f"fmu_{plain}"

    @property
    def varying(self) -> bool:
        """Whether its communication steps may differ in length."""
        return bool(getattr(self.description.coSimulation, "canHandleVariableCommunicationStepSize", True))

    @property
    def step(self) -> float | None:
        """The step that it asks for."""
        fixed = getattr(self.description.coSimulation, "fixedInternalStepSize", None)
        usual = getattr(self.description.defaultExperiment, "stepSize", None)
        given = [float(one) for one in (fixed, usual) if one]
        return given[0] if given and given[0] > 0.0 else None

    def called(self, name: str) -> str:
        """What the FMU calls it."""
        return self.variables.get(name) or name

    def plain_outputs(self) -> tuple[str, ...]:
        """Names of all outputs that a twin can have."""
        renamed = {own: name for name, own in self.variables.items() if own}
        names = [renamed.get(n, n) for n, v in self.by_name.items() if v.causality == "output" and self._real(v)]
        return tuple(name for name in names if _is_plain(name))

    @staticmethod
    def _real(variable: Any) -> bool:
        return variable.type in ("Real", "Float64") and not variable.dimensions

    def references(self, names: Sequence[str], kind: str) -> list[int]:
        """Value references; what does not fit is added to the faults."""
        found = []
        for name in names:
            own = self.called(name)
            variable = self.by_name.get(own)
            if variable is None:
                near = [known for known in self.by_name if known.lower().endswith(own.lower())]
                self.faults.append(f"there is no `{own}`" + (f" (there is `{near[0]}`)" if near else ""))
                continue
            if not _is_plain(name):
                self.faults.append(f"`{name}` is no name for a twin: choose one, `variables={{'…': '{own}'}}`")
            if not self._real(variable):
                what = "an array" if variable.dimensions else f"of type {variable.type}"
                self.faults.append(f"{kind} `{own}` is {what}, not a real number")
            elif (why := _unfit(variable, kind)) is not None:
                self.faults.append(f"`{own}` is no {kind}: {why}")
            found.append(int(variable.valueReference))
        return found

    def with_unit[M: (Parameter, Input, State, Observation)](
        self, name: str, member: M, kind: str, faults: list[str] | None = None
    ) -> M:
        """A member of a twin with the unit and the words that the FMU has for it."""
        faults = self.faults if faults is None else faults
        variable = self.by_name.get(self.called(name)) if self.variables.get(name, name) else None
        if variable is None:
            return member
        own = variable.unit or getattr(variable.declaredType, "unit", None) or ""
        unit = _parsed(own)
        if unit is None and not member.unit:
            faults.append(f"the unit `{own}` of {kind} `{name}` is not known: say `unit=`")
        if own and unit is not None and member.unit and not _same(unit, member.unit):
            faults.append(f"{kind} `{name}` is in `{own}`, not in `{member.unit}`")
        words = {"unit": member.unit or unit or "", "doc": member.doc or variable.description or ""}
        return dataclasses.replace(member, **words)


def _unfit(variable: Any, kind: str) -> str | None:
    """Why a real variable cannot be a parameter, an input or an output; None where it can."""
    causality, variability, initial = variable.causality, variable.variability, variable.initial
    if kind == "input":
        return None if causality == "input" else f"its causality is {causality}"
    if kind == "output":
        return None if causality in ("output", "local") else f"its causality is {causality}"
    if variability == "constant" or causality in ("input", "independent", "calculatedParameter"):
        return f"its causality is {causality}, its variability {variability}"
    if causality in ("parameter", "structuralParameter"):
        return None if causality == "parameter" else "it changes the structure of the model"
    return None if initial in ("exact", "approx") else "nothing sets where it starts: it is calculated"


def _is_plain(name: str) -> bool:
    try:
        check_name(name, "a variable")
    except BayestwinError:
        return False
    return True


def _parsed(unit: str) -> str | None:
    """A unit of an FMU as pint reads it; None where it does not."""
    if unit in ("", "1"):
        return ""
    for text in (unit, suggested(unit), suggested(unit.replace(".", "*")), unit.replace(".", "*")):
        if text is None:
            continue
        try:
            check_unit(text, "a variable", InvalidInput)
        except InvalidInput:
            continue
        return text
    return None


def _same(one: str, other: str) -> bool:
    """Whether two units are the same, in whatever way they are written."""
    from bayestwin._base.units import registry

    units = registry()
    return units.parse_units(one) == units.parse_units(other)
