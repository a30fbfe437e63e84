"""What is read from a PEtab problem has the log likelihood that SciPy and a pencil give it."""

import itertools
import pathlib

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
from problems import PARAMETERS, exchange, formula, measured, quantity, reaction, write_problem
from scipy.integrate import solve_ivp
from scipy.stats import laplace, norm

import bayestwin as bt
from bayestwin.petab.problem import closely, likelihood_at, log_likelihood

CELL, VESICLE = 2.0, 0.5
TIMES = np.array([0.0, 1.0, 3.0])


def solved(k1: float, k2: float, a0: float, b0: float, times: np.ndarray) -> np.ndarray:
    """Concentrations of A and B, from their amounts."""

    def rates(_: float, amounts: np.ndarray) -> np.ndarray:
        flow = k1 * amounts[0] - k2 * amounts[1]
        return np.array([-flow, flow])

    start = [a0 * CELL, b0 * VESICLE]
    amounts = solve_ivp(rates, (0.0, times[-1]), start, t_eval=times, rtol=1e-11, atol=1e-13).y
    return amounts / np.array([[CELL], [VESICLE]])


VALUES = {
    "c0": {"A": np.array([1.3, 1.0, 0.7]), "B": np.array([0.3, 1.4, 2.9])},
    "c1": {"A": np.array([1.5, 0.6, 0.5]), "B": np.array([0.8, 3.1, 3.6])},
}
SETS = {"c0": (0.8, 0.2), "c1": (1.7, 0.9)}
"""What the two conditions set: k1, and B at first."""


@pytest.fixture(scope="module")
def two_conditions(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    rows = [
        measured(f"obs_{name}", time, value, condition, noiseParameters=0.2 if name == "A" else "sd_B")
        for condition in SETS
        for name, values in VALUES[condition].items()
        for time, value in zip(TIMES, values, strict=True)
    ]
    sd = {"parameterId": "sd_B", "parameterScale": "lin", "lowerBound": 0, "upperBound": 1, "nominalValue": 0.15}
    return write_problem(
        tmp_path_factory.mktemp("two") / "problem",
        exchange(),
        conditions=[{"conditionId": name, "k1": k1, "B": b0} for name, (k1, b0) in SETS.items()],
        observables=[
            {"observableId": "obs_A", "observableFormula": "A", "noiseFormula": "noiseParameter1_obs_A"},
            {
                "observableId": "obs_B",
                "observableFormula": "2 * B + 0.1",
                "noiseFormula": "noiseParameter1_obs_B",
                "observableTransformation": "log10",
            },
        ],
        measurements=rows,
        parameters=[*PARAMETERS, sd],
    )


def by_hand(k2: float, a0: float, sd_B: float) -> float:
    total = 0.0
    for condition, (k1, b0) in SETS.items():
        (a, b), seen = solved(k1, k2, a0, b0, TIMES), VALUES[condition]
        total += norm.logpdf(seen["A"], a, 0.2).sum()
        total += norm.logpdf(np.log10(seen["B"]), np.log10(2.0 * b + 0.1), sd_B).sum()
        total -= np.log(seen["B"] * np.log(10.0)).sum()  # density of the value, not of its logarithm
    return total


@pytest.mark.parametrize("values", [{"k2": 0.6, "a0": 1.4, "sd_B": 0.15}, {"k2": 2.5, "a0": 0.6, "sd_B": 0.4}])
def test_compartments_conditions_and_logarithms(two_conditions: pathlib.Path, values: dict[str, float]) -> None:
    problem = bt.read_petab(two_conditions)
    assert problem.nominal == {"k2": 0.6, "a0": 1.4, "sd_B": 0.15}
    assert list(problem.experiments) == ["c0", "c1"]
    assert log_likelihood(problem.twin, problem.experiments, values) == pytest.approx(by_hand(**values), abs=1e-7)


def test_gradients_are_those_of_differences(two_conditions: pathlib.Path) -> None:
    twin, experiments, nominal = bt.read_petab(two_conditions)
    density = closely(twin, experiments)
    gradient = jax.jit(jax.grad(lambda own: likelihood_at(density, own)))
    found = gradient({name: np.asarray(value) for name, value in nominal.items()})
    for name, value in nominal.items():
        step = 1e-5 * value
        ends = [by_hand(**nominal | {name: value + sign * step}) for sign in (1.0, -1.0)]
        assert float(found[name]) == pytest.approx((ends[0] - ends[1]) / (2.0 * step), rel=1e-5)


def test_priors_are_on_the_scale_of_their_parameter(tmp_path: pathlib.Path) -> None:
    kinds = {
        "": dist.LogUniform(1e-3, 1e3),
        "uniform": dist.Uniform(0.5, 2.0),
        "normal": dist.Normal(0.5, 2.0),
        "laplace": dist.Laplace(0.5, 2.0),
        "logNormal": dist.LogNormal(0.5, 2.0),
        "parameterScaleUniform": dist.LogUniform(1e-3, 1e3),
        "parameterScaleNormal": dist.LogNormal(0.5 * np.log(10.0), 2.0 * np.log(10.0)),
    }
    rows = []
    for number, kind in enumerate([*kinds, "parameterScaleLaplace", "logLaplace"]):
        numbers = "" if kind in ("", "parameterScaleUniform") else "0.5;2.0"
        row = {"parameterId": f"q{number}", "parameterScale": "log10", "lowerBound": 1e-3, "upperBound": 1e3}
        rows.append(row | {"nominalValue": 1.0, "objectivePriorType": kind, "objectivePriorParameters": numbers})
    path = write_problem(
        tmp_path,
        exchange(),
        observables=[{"observableId": "y", "observableFormula": "A", "noiseFormula": "0.1"}],
        measurements=[measured("y", 1.0, 1.0)],
        parameters=rows,
    )
    sites = {site.name: site.prior for site in bt.read_petab(path).twin.sites()}
    at = np.array([0.6, 1.1, 1.7])
    for number, prior in enumerate(kinds.values()):
        np.testing.assert_allclose(sites[f"q{number}"].log_prob(at), prior.log_prob(at), rtol=1e-12)
    on_log10 = laplace.logpdf(np.log10(at), 0.5, 2.0) - np.log(at * np.log(10.0))
    np.testing.assert_allclose(sites["q7"].log_prob(at), on_log10, rtol=1e-12)
    on_log = laplace.logpdf(np.log(at), 0.5, 2.0) - np.log(at)
    np.testing.assert_allclose(sites["q8"].log_prob(at), on_log, rtol=1e-12)


def test_rows_have_scales_and_noise_of_their_own_and_replicates_count(tmp_path: pathlib.Path) -> None:
    told = [(1.0, 1.1, 10, 0.3), (1.0, 0.9, 10, 0.2), (3.0, 2.2, "s", 0.5), (3.0, 2.0, "s", 0.5)]
    rows = [measured("y", t, v, observableParameters=s, noiseParameters=n) for t, v, s, n in told]
    scale = {"parameterId": "s", "parameterScale": "log", "lowerBound": 0.1, "upperBound": 9, "nominalValue": 3.0}
    observable = {"observableId": "y", "observableFormula": "observableParameter1_y * A"}
    path = write_problem(
        tmp_path,
        exchange(),
        observables=[observable | {"noiseFormula": "noiseParameter1_y", "noiseDistribution": "laplace"}],
        measurements=rows,
        parameters=[*PARAMETERS, scale],
    )
    problem = bt.read_petab(path)
    assert list(problem.twin.observations) == ["y_1", "y_2"]
    a = dict(zip(TIMES, solved(0.3, 0.6, 1.4, 0.2, TIMES)[0], strict=True))
    expected = sum(laplace.logpdf(v, (3.0 if s == "s" else s) * a[t], n) for t, v, s, n in told)
    assert log_likelihood(problem.twin, problem.experiments, problem.nominal) == pytest.approx(expected, abs=1e-7)


def test_rules_pieces_events_and_amounts(tmp_path: pathlib.Path) -> None:
    document = exchange()
    model = document.getModel()
    quantity(model, "Parameter", "dose", 0.0, constant=False)
    quantity(model, "Parameter", "until", 2.0)
    quantity(model, "Parameter", "kept", 0.5, constant=False)
    quantity(model, "Parameter", "total", None, constant=False)
    quantity(model, "Species", "stock", None, amount=True, setInitialAmount=3.0)
    formula(model.createAssignmentRule(), "piecewise(0.4, time < until, 0.1)", setVariable="dose")
    formula(model.createAssignmentRule(), "A * cell + B * vesicle + dose", setVariable="total")
    formula(model.createRateRule(), "-0.2 * kept", setVariable="kept")
    reaction(model, "feed", ["stock"], ["A"], "dose * stock")
    event = model.createEvent()
    event.setId("refill")
    event.setUseValuesFromTriggerTime(True)
    formula(event.createTrigger(), "time >= 2.5", setInitialValue=True, setPersistent=True)
    formula(event.createEventAssignment(), "stock + 1", setVariable="stock")
    times = [1.0, 2.2, 4.0]
    rows = [measured(name, t, 1.0) for name in ("all", "kept_seen", "stock_seen") for t in times]
    formulas = {"all": "total", "kept_seen": "kept", "stock_seen": "stock"}
    path = write_problem(
        tmp_path,
        document,
        observables=[
            {"observableId": name, "observableFormula": text, "noiseFormula": "0.1 + 0.2 * B"}
            for name, text in formulas.items()
        ],
        measurements=rows,
    )

    def rates(t: float, x: np.ndarray) -> list[float]:
        dose = 0.4 if t < 2.0 else 0.1
        flow, feed = 0.3 * x[0] - 0.6 * x[1], dose * x[2]
        return [feed - flow, flow, -feed, -0.2 * x[3]]

    x, total = np.array([1.4 * CELL, 0.2 * VESICLE, 3.0, 0.5]), 0.0
    stops = [0.0, 1.0, 2.0, 2.2, 2.5, 4.0]
    for begin, end in itertools.pairwise(stops):
        middle = (begin + end) / 2.0
        held = lambda t, x, at=middle: rates(at, x)  # noqa: E731  # no step goes across the switch
        x = solve_ivp(held, (begin, end), x, rtol=1e-11, atol=1e-13).y[:, -1]
        if end in times:
            predicted = [x[0] + x[1] + (0.4 if end < 2.0 else 0.1), x[3], x[2]]
            total += norm.logpdf(1.0, predicted, 0.1 + 0.2 * x[1] / VESICLE).sum()
        x[2] += end == 2.5
    problem = bt.read_petab(path)
    assert log_likelihood(problem.twin, problem.experiments, problem.nominal) == pytest.approx(total, abs=1e-6)


# Steady states: before a stimulus, and as what is measured.


def equilibrium(k1: float, k2: float, amount: float) -> np.ndarray:
    """Amounts in equilibrium of a total."""
    return amount * np.array([k2, k1]) / (k1 + k2)


@pytest.fixture(scope="module")
def stimulated(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """In equilibrium under another k1 until t0, when B is set anew."""
    rows = [measured("y", t, v, "c0", preequilibrationConditionId="rest") for t, v in ((0.0, 1.5), (1.0, 1.2))]
    rows += [measured("y", t, v, "c1", preequilibrationConditionId="rest") for t, v in ((0.0, 1.4), (1.0, 0.8))]
    return write_problem(
        tmp_path_factory.mktemp("steady") / "problem",
        exchange(),
        conditions=[
            {"conditionId": "c0", "k1": 0.8, "B": ""},
            {"conditionId": "c1", "k1": 1.3, "B": 0.7},
            {"conditionId": "rest", "k1": 0.1, "B": 0.4},
        ],
        observables=[{"observableId": "y", "observableFormula": "A", "noiseFormula": "0.1"}],
        measurements=rows,
    )


def stimulated_by_hand(k2: float, a0: float) -> float:
    total = 0.0
    rested = equilibrium(0.1, k2, a0 * CELL + 0.4 * VESICLE) / [CELL, VESICLE]
    for k1, anew, seen in ((0.8, None, [1.5, 1.2]), (1.3, 0.7, [1.4, 0.8])):
        a, _ = solved(k1, k2, rested[0], rested[1] if anew is None else anew, np.array([0.0, 1.0]))
        total += norm.logpdf(seen, a, 0.1).sum()
    return total


@pytest.mark.parametrize("values", [{"k2": 0.6, "a0": 1.4}, {"k2": 0.05, "a0": 3.0}])
def test_pre_equilibration_is_under_its_own_condition(stimulated: pathlib.Path, values: dict[str, float]) -> None:
    problem = bt.read_petab(stimulated)
    found = log_likelihood(problem.twin, problem.experiments, values)
    assert found == pytest.approx(stimulated_by_hand(**values), abs=1e-7)


def test_the_posterior_of_an_equilibrium_is_that_of_one_written_by_hand(stimulated: pathlib.Path) -> None:
    """Curvature of the log likelihood: the standard deviations of a normal approximation, within 2 %."""
    twin, experiments, nominal = bt.read_petab(stimulated)
    density = closely(twin, experiments)
    gradient = jax.jit(jax.grad(lambda own: likelihood_at(density, own)))

    def slopes(values: dict[str, float]) -> np.ndarray:
        found = gradient({name: np.asarray(value) for name, value in values.items()})
        return np.array([float(found[name]) for name in nominal])

    ours, theirs = np.zeros((2, 2)), np.zeros((2, 2))
    names, step = list(nominal), 1e-4
    for i, name in enumerate(names):
        moved = [nominal | {name: nominal[name] + sign * step} for sign in (1.0, -1.0)]
        ours[i] = (slopes(moved[0]) - slopes(moved[1])) / (2.0 * step)
        for j, other in enumerate(names):
            ends = [
                stimulated_by_hand(**one | {other: one[other] + sign * step}) for one in moved for sign in (1.0, -1.0)
            ]
            theirs[i, j] = (ends[0] - ends[1] - ends[2] + ends[3]) / (4.0 * step**2)
    spread = [np.sqrt(np.diag(np.linalg.inv(-one))) for one in (ours, theirs)]
    np.testing.assert_allclose(spread[0], spread[1], rtol=0.02)


def test_measured_at_steady_state(tmp_path: pathlib.Path) -> None:
    path = write_problem(
        tmp_path,
        exchange(),
        observables=[{"observableId": "y", "observableFormula": "B", "noiseFormula": "0.1"}],
        measurements=[measured("y", np.inf, 1.9), measured("y", np.inf, 2.1)],
    )
    problem = bt.read_petab(path)
    b = equilibrium(0.3, 0.6, 1.4 * CELL + 0.2 * VESICLE)[1] / VESICLE
    expected = norm.logpdf([1.9, 2.1], b, 0.1).sum()
    assert log_likelihood(problem.twin, problem.experiments, problem.nominal) == pytest.approx(expected, abs=1e-7)
