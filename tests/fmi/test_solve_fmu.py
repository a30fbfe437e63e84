"""An FMU as a twin is solved as its equations are: at the rows, with its inputs, in one process, again and again."""

import pathlib

import numpy as np
import numpyro.distributions as dist
import pytest
from fmus import build_fmu, described
from scipy.integrate import solve_ivp
from twins import telemetry_of

import bayestwin as bt
from bayestwin.errors import InvalidTwin
from bayestwin.model.describe import describe, fingerprint

TIMES = np.linspace(0.0, 5.0, 21)
MU = {"mu": bt.Parameter(dist.LogNormal(0.0, 1.0))}
SEEN = {"x0": bt.Observation(bt.Gaussian(0.1))}


def solved(mu: float, force: object = None, x0: float = 2.0, times: np.ndarray = TIMES) -> np.ndarray:
    """Both states at these times, by SciPy; shape (2, n)."""

    def rates(t: float, x: np.ndarray) -> list[float]:
        return [x[1], mu * (1.0 - x[0] ** 2) * x[1] - x[0] + (0.0 if force is None else force(t))]

    span = (times[0], times[-1])
    return solve_ivp(rates, span, [x0, 0.0], t_eval=times, rtol=1e-11, atol=1e-13, max_step=0.05).y


def simulated(twin: bt.Twin, values: dict[str, float], times: np.ndarray = TIMES, **columns: np.ndarray) -> object:
    return bt.simulate(twin, values, telemetry_of({"time": times, **columns}), seed=0)


def test_a_solve_is_that_of_its_equations(oscillator: pathlib.Path) -> None:
    fmu = bt.Fmu(oscillator, MU)
    found = simulated(fmu.twin(SEEN), {"mu": 1.3})
    expected = solved(1.3)
    np.testing.assert_allclose(found["x0_state"], expected[0], rtol=0, atol=1e-7)  # RK4 in steps of 5 ms
    np.testing.assert_allclose(found["x1_state"], expected[1], rtol=0, atol=1e-7)


def test_units_and_words_are_those_of_the_fmu(oscillator: pathlib.Path) -> None:
    twin = bt.Fmu(oscillator, MU, inputs={"force": bt.Input()}).twin(SEEN)
    assert (twin.name, twin.doc, twin.time_unit) == ("van_der_pol", "An oscillator.", "s")
    assert (twin.states["x0"].unit, twin.states["x0"].doc) == ("m", "what swings")
    assert twin.observations["x0"].unit == "m"
    assert twin.inputs["force"].unit == "m/s^2"
    assert (twin.parameters["mu"].unit, twin.parameters["mu"].doc) == ("", "damping")


def test_start_values_are_parameters_and_names_may_differ(oscillator: pathlib.Path) -> None:
    parameters = {
        "mu": bt.Parameter(0.7),
        "start": bt.Parameter(dist.Normal(1.0, 1.0)),
        "gain": bt.Parameter(dist.Normal(1.0, 0.1)),
        "offset": bt.Parameter(dist.Normal(0.0, 1.0)),
    }
    variables = {"start": "x0", "gain": "sensor.scale", "seen": "sensor.seen", "offset": None}
    twin = bt.Fmu(oscillator, parameters, outputs=["seen"], variables=variables).twin(
        {"shown": bt.Observation(bt.Gaussian(0.1), of=lambda t, x, p, u: x.seen + p.offset)}
    )
    found = simulated(twin, {"start": 0.5, "gain": 3.0, "offset": 10.0})
    np.testing.assert_allclose(found["shown_noise_free"], 10.0 + 3.0 * solved(0.7, x0=0.5)[0], rtol=0, atol=1e-7)


@pytest.mark.parametrize("hold", ["linear", "previous"])
def test_inputs_are_set_at_communication_points(oscillator: pathlib.Path, hold: str) -> None:
    force = np.where(TIMES < 2.5, TIMES, 0.3)

    def signal(t: float) -> float:
        return np.interp(t, TIMES, force) if hold == "linear" else force[np.searchsorted(TIMES, t + 1e-9) - 1]

    exact = solved(1.3, signal)
    errors = []
    for step in (0.025, 0.0125):
        twin = bt.Fmu(oscillator, MU, inputs={"force": bt.Input(hold=hold)}, step=step).twin(SEEN)
        found = simulated(twin, {"mu": 1.3}, force=force)
        errors.append(float(np.abs(found["x0_state"].values - exact[0]).max()))
    if hold == "previous":
        assert max(errors) < 1e-4  # an oracle that steps over jumps
    else:  # a signal that is held in steps, as it is in the middle of each, is wrong by the square of a step
        assert errors[0] < 1e-4
        assert 3.0 < errors[0] / errors[1] < 5.0


def test_it_is_solved_two_thousand_times_in_one_process_by_reset(oscillator: pathlib.Path) -> None:
    fmu = bt.Fmu(oscillator, MU, outputs=["x0"])
    box = fmu.twin(SEEN).black_box
    grid = TIMES, np.zeros((len(TIMES) - 1, 1, 0)), np.arange(len(TIMES))
    ends = [box.solve(np.array([0.5 + 1e-3 * n]), *grid)[-1, 0] for n in range(2000)]
    assert box.tally == {
        "solves": 2001, "failed": 0, "crashed": 0, "timed_out": 0, "processes": 1, "last_failure": "",
    }  # fmt: skip
    assert len(np.unique(ends)) == 2000
    np.testing.assert_allclose(ends[1000], solved(1.5)[0, -1], rtol=0, atol=1e-7)
    again = box.solve(np.array([0.5]), *grid)[-1, 0]
    assert (again, box.tally["solves"]) == (ends[0], 2001), "what is known is not asked for again"


def test_steps_that_cannot_vary_end_at_rows_or_are_refused(tmp_path: pathlib.Path) -> None:
    path = build_fmu(tmp_path / "fixed.fmu", described(varying="false"))
    twin = bt.Fmu(path, MU).twin(SEEN)
    assert "at most 0.1 s" in describe(twin)["equations"]
    apart = telemetry_of({"time": [0.0, 0.5, 0.77], "x0": [2.0, 1.9, 1.8]})
    with pytest.raises(InvalidTwin, match=r"whole multiples of 0\.1 s"):
        bt.calibrate(twin, apart, seed=0)
    finer = bt.Fmu(path, MU, step=0.01).twin(SEEN)
    box, edges = finer.black_box, np.array([0.0, 0.5, 0.77])
    box.check(np.array([[1.0], [1.2]]), edges, np.zeros((2, 1, 0)), np.arange(3))
    found = box.solve(np.array([1.0]), edges, np.zeros((2, 1, 0)), np.arange(3))
    np.testing.assert_allclose(found[:, 0], solved(1.0, times=edges)[0], rtol=0, atol=1e-7)


def test_another_file_is_another_twin(oscillator: pathlib.Path, tmp_path: pathlib.Path) -> None:
    copy = tmp_path / "elsewhere.fmu"
    copy.write_bytes(oscillator.read_bytes())
    other = build_fmu(tmp_path / "other.fmu", more={"resources/table.txt": "1"})
    twins = [bt.Fmu(path, MU).twin(SEEN) for path in (oscillator, copy, other)]
    ours, moved, changed = map(fingerprint, twins)
    assert ours == moved
    assert ours != changed
    settings = [{"step": 0.1}, {"tolerance": 1e-4}, {"variables": {"x0": "x1"}, "outputs": ["x0"]}]
    assert len({ours, *(fingerprint(bt.Fmu(oscillator, MU, **own).twin(SEEN)) for own in settings)}) == 4


@pytest.mark.thorough
def test_several_experiments_are_solved_each_with_its_own_rows(oscillator: pathlib.Path) -> None:
    parameters = {"mu": bt.Parameter({"slow": 0.2, "fast": 2.0}), "x_start": bt.Parameter(dist.Normal(2.0, 1.0))}
    twin = bt.Fmu(oscillator, parameters, variables={"x_start": "x0"}, outputs=["x1"]).twin(
        {"x1": bt.Observation(bt.Gaussian(0.05))}
    )
    records = {
        "slow": telemetry_of({"time": TIMES, "x1": solved(0.2, x0=1.5)[1]}),
        "fast": telemetry_of({"time": TIMES[:9], "x1": solved(2.0, x0=1.5)[1, :9]}),
    }
    found = bt.calibrate(twin, records, seed=0, num_samples=100, num_chains=2)
    start = found["posterior/x_start"]
    assert abs(float(start.mean()) - 1.5) < 4.0 * float(start.std()) < 0.5
