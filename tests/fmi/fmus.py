"""Builds the small FMU of the tests from its C code, and descriptions of FMUs that are wrong in some way."""

import functools
import pathlib
import shutil
import subprocess
import tempfile
import zipfile

import pytest

SOURCE = pathlib.Path(__file__).with_name("van_der_pol.c")
FAULTS = (
    "none", "segfault", "exit", "hang", "nan", "print", "refuse_step", "keep_state", "chance", "refuse_value",
    "no_reset",
)  # fmt: skip
"""What the FMU does where its parameter `fault` is the place of the word here; in the order of the C code."""

VARIABLES = """\
    <ScalarVariable name="x0" valueReference="0" causality="output" variability="continuous" initial="exact"
        description="what swings"><Real start="2" unit="m"/></ScalarVariable>
    <ScalarVariable name="x1" valueReference="1" causality="output" variability="continuous" initial="exact">
        <Real start="0" unit="m/s"/></ScalarVariable>
    <ScalarVariable name="mu" valueReference="2" causality="parameter" variability="fixed" description="damping">
        <Real start="1" unit="1"/></ScalarVariable>
    <ScalarVariable name="sensor.scale" valueReference="3" causality="parameter" variability="tunable">
        <Real start="1"/></ScalarVariable>
    <ScalarVariable name="fault" valueReference="4" causality="parameter" variability="fixed">
        <Real start="0"/></ScalarVariable>
    <ScalarVariable name="idle" valueReference="5" causality="parameter" variability="fixed">
        <Real start="0"/></ScalarVariable>
    <ScalarVariable name="force" valueReference="6" causality="input" variability="continuous">
        <Real start="0" unit="m/s2"/></ScalarVariable>
    <ScalarVariable name="sensor.seen" valueReference="7" causality="output" variability="continuous">
        <Real unit="m"/></ScalarVariable>
    <ScalarVariable name="odd" valueReference="3" causality="parameter" variability="fixed">
        <Real start="1" unit="no.such.unit"/></ScalarVariable>
    <ScalarVariable name="number" valueReference="0" causality="parameter" variability="fixed">
        <Integer start="1"/></ScalarVariable>
    <ScalarVariable name="follows" valueReference="3" causality="calculatedParameter" variability="fixed">
        <Real/></ScalarVariable>
"""
KIND = '<CoSimulation modelIdentifier="van_der_pol" canHandleVariableCommunicationStepSize="{varying}"/>'
DESCRIPTION = """\
<?xml version="1.0" encoding="UTF-8"?>
<fmiModelDescription fmiVersion="{version}" modelName="Van der Pol" guid="{{1}}" description="An oscillator.">
  {kind}
  <DefaultExperiment startTime="0" stopTime="20" stepSize="0.1"/>
  <ModelVariables>
{variables}
  </ModelVariables>
  <ModelStructure/>
</fmiModelDescription>
"""


@functools.cache
def library() -> pathlib.Path:
    """The shared library, compiled once."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler, by which the FMU of the tests is built")
    made = pathlib.Path(tempfile.mkdtemp()) / "van_der_pol.so"
    command = [compiler, "-O2", "-shared", "-fPIC", "-fvisibility=hidden", str(SOURCE), "-o", str(made), "-lm"]
    subprocess.run(command, check=True, timeout=60)
    return made


def described(*, version: str = "2.0", kind: str = KIND, varying: str = "true", variables: str = VARIABLES) -> str:
    """A description as an FMU has it."""
    return DESCRIPTION.format(version=version, kind=kind.format(varying=varying), variables=variables)


def build_fmu(
    path: pathlib.Path,
    description: str | None = None,
    *,
    binary: str = "binaries/linux64/van_der_pol.so",
    more: dict[str, str] | None = None,
) -> pathlib.Path:
    """An FMU at this path, with other contents where they are given."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("modelDescription.xml", described() if description is None else description)
        archive.write(library(), binary)
        for name, text in (more or {}).items():
            archive.writestr(name, text)
    return path
