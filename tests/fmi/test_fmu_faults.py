"""What an FMU does to its process is one solve that failed, with a reason; what is no FMU is refused before it runs."""

import dataclasses
import importlib.util
import os
import pathlib
import subprocess
import sys
import time
import zipfile

import numpy as np
import numpyro.distributions as dist
import pytest
from fmus import DESCRIPTION, FAULTS, KIND, VARIABLES, build_fmu, described
from twins import telemetry_of

import bayestwin as bt
from bayestwin.errors import InvalidInput, InvalidSetting, InvalidTwin, NoValidStart, UnsafeArtifact
from bayestwin.fmi import process

TIMES = np.linspace(0.0, 5.0, 21)
GRID = TIMES, np.zeros((len(TIMES) - 1, 1, 0)), np.arange(len(TIMES))
MU = {"mu": bt.Parameter(dist.LogNormal(0.0, 1.0))}
FAULT = {"fault": bt.Parameter(dist.Normal(0.0, 1.0))}
SEEN = {"x0": bt.Observation(bt.Gaussian(0.1))}


def box_of(path: pathlib.Path, **settings: object) -> bt.Fmu:
    return bt.Fmu(path, FAULT, outputs=["x0", "x1"], **settings).twin(SEEN).black_box


def solved(box: bt.Fmu, fault: str) -> np.ndarray:
    return box.solve(np.array([float(FAULTS.index(fault))]), *GRID)


@pytest.mark.parametrize(
    ("fault", "count", "words"),
    [
        ("segfault", "crashed", "its process died of SIGSEGV"),
        ("exit", "crashed", "it ended its process, code 7"),
        ("hang", "timed_out", "it did not answer within 1 s"),
    ],
)
def test_a_process_that_is_lost_is_replaced(oscillator: pathlib.Path, fault: str, count: str, words: str) -> None:
    box = box_of(oscillator, most_seconds=1.0)
    before = solved(box, "none")
    assert np.isfinite(before).all()
    assert np.isnan(solved(box, fault)).all()
    assert box.tally == {
        "solves": 3, "failed": 1, "crashed": 0, "timed_out": 0, "processes": 1, "last_failure": words, count: 1,
    }  # fmt: skip
    other = box.solve(np.array([0.25]), *GRID)
    np.testing.assert_array_equal(other, before)  # 0.25 is no fault either
    assert box.tally["processes"] == 2


ASKS = """
import sys
import numpy as np
import bayestwin as bt

box = bt.Fmu(sys.argv[1], {"fault": bt.Parameter(3.0)}, outputs=["x0"])
box.solve(np.array([0.0]), np.array([0.0, 1.0]), np.zeros((1, 1, 0)), np.array([1]))
print(box._process._worker.pid, flush=True)
box.solve(np.array([3.0]), np.array([0.0, 5.0]), np.zeros((1, 1, 0)), np.array([1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_its_process_ends_with_the_one_that_asks_also_while_it_hangs(oscillator: pathlib.Path) -> None:
    command = [sys.executable, "-c", ASKS, str(oscillator)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as asking:
        worker = pathlib.Path(f"/proc/{int(asking.stdout.readline())}")
        time.sleep(0.5)
        asking.kill()
    assert worker.exists()
    for _ in range(50):
        if not worker.exists() or "Z" in (worker / "stat").read_text(encoding="ascii").rpartition(")")[2][:3]:
            return
        time.sleep(0.1)
    pytest.fail("the process of the FMU is still there")


@pytest.mark.parametrize(
    ("fault", "words"),
    [("refuse_step", "at t = 4.75 s"), ("nan", "not a finite number"), ("refuse_value", "ExitInitializationMode")],
)
def test_a_solve_that_fails_leaves_the_process_as_it_is(oscillator: pathlib.Path, fault: str, words: str) -> None:
    box = box_of(oscillator)
    whole = solved(box, "none")
    found = solved(box, fault)
    if fault == "refuse_value":
        assert np.isnan(found).all()
    else:
        np.testing.assert_array_equal(found[:-1], whole[:-1])
        assert np.isnan(found[-1]).any()
    assert words in box.tally["last_failure"]
    assert (box.tally["failed"], box.tally["processes"]) == (1, 1)
    np.testing.assert_array_equal(box.solve(np.array([0.25]), *GRID), whole)


def test_what_it_prints_and_writes_is_nobody_s(
    oscillator: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    box = box_of(oscillator)
    np.testing.assert_array_equal(solved(box, "print"), box.solve(np.array([0.0]), *GRID))
    assert os.listdir(tmp_path) == []
    assert capfd.readouterr() == ("", "")


def test_values_that_are_no_numbers_are_not_even_asked_for(oscillator: pathlib.Path) -> None:
    box = box_of(oscillator)
    for value in (np.nan, np.inf, -np.inf):
        assert np.isnan(box.solve(np.array([value]), *GRID)).all()
    assert box.tally["solves"] == 0


def test_an_instance_that_cannot_be_reset_is_made_anew(oscillator: pathlib.Path) -> None:
    box = box_of(oscillator)
    first = solved(box, "no_reset")
    np.testing.assert_array_equal(first, box.solve(np.array([0.0]), *GRID))
    assert box.tally["failed"] == 0


def test_what_a_reset_leaves_behind_is_found_and_got_around(oscillator: pathlib.Path) -> None:
    twin = bt.Fmu(oscillator, {"fault": bt.Parameter(7.0), **MU}, outputs=["x0"]).twin(SEEN)
    box = twin.black_box
    values = np.array([[7.0, 1.0], [7.0, 2.0]])
    box.check(values, *GRID)
    first = box.solve(values[0], *GRID)
    box.solve(np.array([7.0, 3.0]), *GRID)
    np.testing.assert_array_equal(box._solve(values[0], *GRID, keep=False), first)
    assert first[0, 0] == 2.0


def test_what_a_reset_leaves_behind_does_not_reach_a_forecast_either(oscillator: pathlib.Path) -> None:
    box = box_of(oscillator)
    first = solved(box, "keep_state")
    assert first[0, 0] == 2.0
    other = box.solve(np.array([7.25]), *GRID)  # no calibration has begun here
    np.testing.assert_array_equal(other, first)
    assert box.tally["solves"] == 4


def test_chance_is_refused(oscillator: pathlib.Path) -> None:
    parameters = {"fault": bt.Parameter(8.0), "mu": MU["mu"]}
    twin = bt.Fmu(oscillator, parameters, outputs=["seen"], variables={"seen": "sensor.seen"}).twin(
        {"seen": bt.Observation(bt.Gaussian(0.1))}
    )
    with pytest.raises(InvalidTwin, match="does not give the same outputs for the same parameters"):
        bt.calibrate(twin, telemetry_of({"time": TIMES, "seen": np.ones(21)}), seed=0)


def test_a_parameter_that_moves_nothing_is_named(oscillator: pathlib.Path) -> None:
    parameters = {"idle": bt.Parameter(dist.Normal(0.0, 1.0)), "gain": bt.Parameter(dist.Normal(1.0, 0.1)), **MU}
    twin = bt.Fmu(oscillator, parameters, outputs=["x0"], variables={"gain": "sensor.scale"}).twin(SEEN)
    with pytest.raises(InvalidTwin, match="Parameters move no output") as told:
        bt.calibrate(twin, telemetry_of({"time": TIMES, "x0": np.ones(21)}), seed=0)
    assert told.value.received == "the same outputs whatever the value of `idle`, `gain`"


@pytest.mark.thorough
def test_a_model_that_always_dies_is_an_error_and_no_endless_run(oscillator: pathlib.Path) -> None:
    parameters = {"fault": bt.Parameter(1.0), **MU}
    twin = bt.Fmu(oscillator, parameters, outputs=["x0"]).twin(SEEN)
    begun = time.monotonic()
    with pytest.raises(NoValidStart, match="SIGSEGV"):
        bt.calibrate(twin, telemetry_of({"time": TIMES, "x0": np.ones(21)}), seed=0)
    assert twin.black_box.tally["processes"] == process.MOST_DEATHS
    assert time.monotonic() - begun < 60.0


@pytest.mark.parametrize("method", ["nuts", "laplace", "pathfinder", "map", "smc"])
def test_a_method_that_needs_derivatives_is_refused(oscillator: pathlib.Path, method: str) -> None:
    twin = bt.Fmu(oscillator, MU).twin(SEEN)
    with pytest.raises(InvalidSetting, match="needs derivatives, which twin `van_der_pol` does not have") as told:
        bt.calibrate(twin, telemetry_of({"time": TIMES, "x0": np.ones(21)}), seed=0, method=method)
    assert told.value.expected == '`method="ensemble"`'


def test_what_else_asks_for_derivatives_is_refused(oscillator: pathlib.Path) -> None:
    twin = bt.Fmu(oscillator, MU).twin(SEEN)
    with pytest.raises(InvalidSetting, match="has no derivatives"):
        bt.identify(twin, telemetry_of({"time": TIMES, "x0": np.ones(21)}), seed=0)


ASKED = {
    "events": {"events": {"kick": bt.Event(lambda t, x, p, u: {"x0": 0.0}, at=[1.0])}},
    "process noise": {"model_error": bt.ProcessNoise({"x0": 0.1})},
    "quantities": {"quantities": {"top": bt.Max("x0")}},
}


@pytest.mark.parametrize("what", ASKED)
def test_what_nobody_can_do_from_outside_is_refused(oscillator: pathlib.Path, what: str) -> None:
    with pytest.raises(InvalidTwin, match="equations nobody sees") as told:
        bt.Fmu(oscillator, MU).twin(SEEN, **ASKED[what])
    assert told.value.received.startswith(f"{what}: ")


def test_a_mean_over_time_is_refused(oscillator: pathlib.Path) -> None:
    with pytest.raises(InvalidTwin, match="equations nobody sees") as told:
        bt.Fmu(oscillator, MU).twin({"x0": bt.Observation(bt.Gaussian(0.1), reads="mean")})
    assert told.value.received == "observations that read a mean or a total: `x0`"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"time_unit": "min"}, "time in other units than seconds: `min`"),
        ({"parameters": {}}, "no parameter: `mu`"),
        ({"inputs": {"force": bt.Input(), "other": bt.Input()}}, "inputs other than its own, in its order: `force`"),
        ({"inputs": {}}, "inputs other than its own, in its order: `none`"),
        ({"states": {"x0": bt.State(2.0)}}, "initial values from outside: `x0`"),
    ],
)
def test_a_twin_that_says_otherwise_than_its_fmu_is_refused(
    oscillator: pathlib.Path, changes: dict[str, object], words: str
) -> None:
    twin = bt.Fmu(oscillator, MU, outputs=["x0"], inputs={"force": bt.Input()}).twin(SEEN)
    with pytest.raises(InvalidTwin, match="equations nobody sees") as told:
        dataclasses.replace(twin, **changes)
    assert words in told.value.received


def test_an_fmu_without_parameters_leaves_the_noise_to_be_inferred(oscillator: pathlib.Path) -> None:
    twin = bt.Fmu(oscillator, {}, outputs=["x0"]).twin({"x0": bt.Observation(bt.Gaussian(dist.HalfNormal(1.0)))})
    found = bt.simulate(twin, {"x0_scale": 0.1}, telemetry_of({"time": TIMES}), seed=0)
    assert np.isfinite(found["x0_state"]).all()


# What is no FMU that can be used.

EXCHANGE = '<ModelExchange modelIdentifier="van_der_pol"/>'


@pytest.mark.parametrize(
    ("description", "words"),
    [
        (described(version="1.0"), "Received: 1.0"),
        (described(kind=EXCHANGE), "it has no co-simulation"),
        (described(kind=KIND.replace("/>", ' needsExecutionTool="true"/>')), "the tool that made it"),
        ("<fmiModelDescription", "cannot be read"),
    ],
)
def test_kinds_that_are_not_supported(tmp_path: pathlib.Path, description: str, words: str) -> None:
    path = build_fmu(tmp_path / "x.fmu", description)
    with pytest.raises(InvalidInput, match=words):
        bt.Fmu(path, MU)


def test_a_binary_for_another_platform_alone(tmp_path: pathlib.Path) -> None:
    path = build_fmu(tmp_path / "x.fmu", binary="binaries/win64/van_der_pol.dll")
    with pytest.raises(InvalidInput, match=r"no binary for .* \(there: win64\)"):
        bt.Fmu(path, MU)


def test_all_variables_that_do_not_fit_are_named_in_one_error(oscillator: pathlib.Path) -> None:
    names = ("nu", "number", "follows", "force", "odd", "seen", "scale")
    parameters = {name: bt.Parameter(dist.Normal(0.0, 1.0)) for name in names} | {"mu": bt.Parameter(1.0, unit="kg")}
    with pytest.raises(InvalidInput, match="12 things do not fit") as told:
        bt.Fmu(
            oscillator, parameters, outputs=["mu"], inputs={"x1": bt.Input()}, step=-1.0,
            variables={"seen": "sensor.seen", "else": "x0"},
        )  # fmt: skip
    for words in (
        "there is no `nu`",
        "parameter `number` is of type Integer",
        "`follows` is no parameter: its causality is calculatedParameter",
        "`force` is no parameter: its causality is input",
        "`sensor.seen` is no parameter: nothing sets where it starts",
        "there is no `scale` (there is `sensor.scale`)",
        "`mu` is no output",
        "`x1` is no input: its causality is output",
        "`variables` names `else`",
        "the unit `no.such.unit` of parameter `odd` is not known",
        "parameter `mu` is in `1`, not in `kg`",
        "`step=-1.0` is no positive number",
    ):
        assert words in told.value.received


def test_a_unit_that_is_not_the_fmu_s_is_refused(oscillator: pathlib.Path) -> None:
    with pytest.raises(InvalidInput, match="Units do not fit") as told:
        bt.Fmu(oscillator, MU).twin({"x0": bt.Observation(bt.Gaussian(0.1), unit="kg")})
    assert told.value.received == "observation `x0` is in `m`, not in `kg`"
    assert bt.Fmu(oscillator, MU).twin({"x0": bt.Observation(bt.Gaussian(0.1), unit="metre")})


@pytest.mark.parametrize("name", ["../spilt.txt", "/tmp/spilt.txt", "a/../../spilt.txt", "C:\\spilt.txt"])
def test_an_archive_that_climbs_out_is_not_unpacked(tmp_path: pathlib.Path, name: str) -> None:
    path = build_fmu(tmp_path / "x.fmu", more={name: "spilt"})
    with pytest.raises(UnsafeArtifact, match="not unpacked"):
        bt.Fmu(path, MU)
    assert not list(tmp_path.parent.glob("**/spilt.txt"))


def test_a_link_in_an_archive_is_not_made(tmp_path: pathlib.Path) -> None:
    path = build_fmu(tmp_path / "x.fmu")
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("resources/link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(UnsafeArtifact, match="not unpacked"):
        bt.Fmu(path, MU)


def test_a_description_that_names_other_files_is_not_read(tmp_path: pathlib.Path) -> None:
    entity = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]>'
    text = described().replace("<fmiModelDescription", f"{entity}<fmiModelDescription", 1)
    path = build_fmu(tmp_path / "x.fmu", text)
    with pytest.raises(UnsafeArtifact, match="defines entities"):
        bt.Fmu(path, MU)


def test_what_is_no_archive(tmp_path: pathlib.Path) -> None:
    (tmp_path / "x.fmu").write_bytes(b"no archive")
    with zipfile.ZipFile(tmp_path / "empty.fmu", "w") as archive:
        archive.writestr("readme.txt", DESCRIPTION + VARIABLES)
    for name, words in (("x.fmu", "zip"), ("none.fmu", "No such file"), ("empty.fmu", "no `modelDescription.xml`")):
        with pytest.raises(InvalidInput, match="cannot be read as an FMU") as told:
            bt.Fmu(tmp_path / name, MU)
        assert words in told.value.received


def test_a_library_that_cannot_be_loaded_is_a_solve_that_fails(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.fmu"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("modelDescription.xml", described())
        archive.writestr("binaries/linux64/van_der_pol.so", b"no library")
    box = box_of(path)
    assert np.isnan(solved(box, "none")).all()
    assert "van_der_pol.so" in box.tally["last_failure"]
    assert (box.tally["failed"], box.tally["crashed"]) == (1, 0)


def test_without_the_extra_it_says_what_is_missing(oscillator: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "fmpy" else found(name))
    with pytest.raises(InvalidSetting, match="FMUs cannot be read or written here") as told:
        bt.Fmu(oscillator, MU)
    assert told.value.received == "no fmpy"
    assert "bayestwin[fmi]" in told.value.advice


def test_its_parameters_do_not_wander(oscillator: pathlib.Path) -> None:
    fmu = bt.Fmu(oscillator, {"mu": bt.Parameter(dist.LogNormal(0.0, 1.0))}, outputs=["x0"])
    with pytest.raises(InvalidTwin, match="`mu` cannot wander"):
        bt.with_random_walk(fmu.twin({"x0": bt.Observation(bt.Gaussian(0.1))}), {"mu": 0.1})
