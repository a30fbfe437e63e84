"""Dosing tables mean what NONMEM means by them: one compartment that they fill is the closed form's."""

from collections.abc import Callable

import jax
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest

import bayestwin as bt
from bayestwin.density.bind import bind
from bayestwin.density.density import build_density
from bayestwin.dynamics.solve import solve

RATE = 0.11
"""Of elimination: a half-life of 6.3."""

TIMES = np.array([1.0, 2.0, 5.0, 11.0, 23.0, 25.0, 30.0, 47.0])


def compartment() -> bt.Twin:
    return bt.Twin(
        name="compartment",
        vector_field=lambda t, x, p, u: {"amount": p.inflow - p.rate * x.amount},
        states={"amount": bt.State(0.0)},
        parameters={"rate": bt.Parameter(dist.LogNormal(0.0, 1.0)), "inflow": bt.Parameter(0.0)},
        observations={"amount": bt.Observation(noise=bt.Gaussian(scale=0.1))},
        events={
            "dose": bt.Event(lambda t, x, p, u: {"amount": x.amount + u.dose}),
            "infusion": bt.Event(lambda t, x, p, u: {"inflow": u.infusion}),
        },
        solver=bt.Solver("tsit5", rtol=1e-10, atol=1e-12),
    )


def table_of(*doses: dict) -> pd.DataFrame:
    seen = pd.DataFrame({"TIME": TIMES, "EVID": 0, "DV": 1.0})
    given = pd.DataFrame([{"EVID": 1, "DV": 0.0} | dose for dose in doses])
    return pd.concat([given, seen], ignore_index=True).sort_values("TIME", kind="stable")


@pytest.fixture(scope="module")
def amounts() -> Callable[[pd.DataFrame], np.ndarray]:
    """What a table leads to at the times of the observations; all in grids of one size, so solved by one program."""
    twin = compartment()
    solved = jax.jit(lambda grid: solve(twin, grid, {"rate": RATE}))

    def found(table: pd.DataFrame) -> np.ndarray:
        expanded = bt.read_doses(table, half_life=7.0)
        expanded = expanded.reindex(columns=["TIME", "dose", "infusion", "DV"])
        record = bt.read_telemetry(expanded, time="TIME", rename={"DV": "amount"}, sentinels=())
        bound = bind(twin, record)
        states = solved(build_density(twin, bound).filled.grid).states[: len(bound.times), 0]
        return np.asarray(states)[np.isfinite(bound.observations["amount"])]

    return found


def at_once(time: float, dose: float) -> np.ndarray:
    """What is left; an observation at the time of a dose is from before it."""
    return np.where(time < TIMES, dose * np.exp(-RATE * np.clip(TIMES - time, 0.0, None)), 0.0)


def slowly(time: float, dose: float, rate: float) -> np.ndarray:
    passed = np.clip(TIMES - time, 0.0, None)
    during = np.minimum(passed, dose / rate)
    return rate / RATE * (1.0 - np.exp(-RATE * during)) * np.exp(-RATE * (passed - during))


def test_doses_at_once_and_their_repetitions(amounts: Callable) -> None:
    table = table_of({"TIME": 0.0, "AMT": 100.0, "II": 12.0, "ADDL": 3}, {"TIME": 5.0, "AMT": 30.0})
    expected = sum(at_once(time, 100.0) for time in (0.0, 12.0, 24.0, 36.0)) + at_once(5.0, 30.0)
    assert np.allclose(amounts(table), expected, rtol=1e-8)


def test_infusions_add_up_where_they_overlap(amounts: Callable) -> None:
    table = table_of(
        {"TIME": 0.0, "AMT": 100.0, "RATE": 4.0, "II": 12.0, "ADDL": 1}, {"TIME": 2.0, "AMT": 30.0, "RATE": 10.0}
    )
    expected = slowly(0.0, 100.0, 4.0) + slowly(12.0, 100.0, 4.0) + slowly(2.0, 30.0, 10.0)
    assert np.allclose(amounts(table), expected, rtol=1e-8)


def test_a_steady_state_of_doses(amounts: Callable) -> None:
    """The series `e⁻ᵏᵗ + e⁻ᵏ⁽ᵗ⁺ᴵᴵ⁾ + …` is geometric."""
    table = table_of({"TIME": 0.0, "AMT": 100.0, "SS": 1, "II": 12.0})
    expected = 100.0 * np.exp(-RATE * TIMES) / (1.0 - np.exp(-RATE * 12.0))
    assert np.allclose(amounts(table), expected, rtol=1e-8)


def test_a_steady_state_of_infusions_that_goes_on(amounts: Callable) -> None:
    table = table_of({"TIME": 0.0, "AMT": 60.0, "RATE": 20.0, "SS": 1, "II": 8.0, "ADDL": 1})
    before = 20.0 / RATE * (np.exp(RATE * 3.0) - 1.0) * np.exp(-RATE * 8.0) / (1.0 - np.exp(-RATE * 8.0))
    expected = before * np.exp(-RATE * TIMES) + slowly(0.0, 60.0, 20.0) + slowly(8.0, 60.0, 20.0)
    assert np.allclose(amounts(table), expected, rtol=1e-8)


def test_subjects_compartments_covariates_and_times_without_an_observation() -> None:
    table = pd.DataFrame(
        {
            "id": [1, 1, 1, 2, 2, 2],
            "Time": [0.0, 0.0, 6.0, 0.0, 3.0, 4.0],
            "amt": [100.0, 50.0, ".", 80.0, ".", "."],
            "cmt": [1, 2, 2, 1, 2, 2],
            "mdv": [1, 1, 0, 1, 0, 1],
            "dv": [0.0, 0.0, 4.0, 0.0, 3.0, 9.0],
            "wt": [70.0, 70.0, 70.0, 60.0, 60.0, 61.0],
        }
    )
    found = bt.read_doses(table)
    assert list(found.columns) == ["id", "Time", "dose_1", "dose_2", "dv", "wt"]
    expected = [[1, 0, 100, 50, np.nan, 70], [1, 6, np.nan, np.nan, 4, 70]]
    expected += [[2, 0, 80, np.nan, np.nan, 60], [2, 3, np.nan, np.nan, 3, 60], [2, 4, np.nan, np.nan, np.nan, 61]]
    assert np.array_equal(found.to_numpy(float), np.array(expected), equal_nan=True)
    renamed = {"dv": "amount"}
    records = bt.read_experiments(found, by="id", time="Time", rename=renamed)
    assert [len(one.table) for one in records.values()] == [2, 3]


def test_a_file_says_the_same(tmp_path) -> None:
    table = table_of({"TIME": 0.0, "AMT": 100.0, "RATE": 40.0})
    path = tmp_path / "doses.csv"
    table.to_csv(path, index=False, na_rep=".")
    found, expected = bt.read_doses(path), bt.read_doses(table)
    assert np.array_equal(found.to_numpy(float), expected.to_numpy(float), equal_nan=True)
    assert expected["infusion"].dropna().tolist() == [40.0, 0.0]


@pytest.mark.parametrize(
    ("dose", "words"),
    [
        ({"AMT": 1.0, "RATE": -2.0}, "inferred.*at=lambda p"),
        ({"AMT": 1.0, "ADDL": 2}, "does not say when.*II above 0"),
        ({"AMT": 1.0, "SS": 1, "II": 12.0}, "steady state.*half_life="),
        ({"AMT": 1.0, "SS": 2, "II": 12.0}, "SS 0 or 1"),
        ({"AMT": 1.0, "ADDL": 1.5, "II": 12.0}, "cannot be counted"),
        ({"AMT": 1.0, "EVID": 4}, "resets"),
        ({"AMT": 1.0, "EVID": 0}, r"Row 1 of the dosing table .TIME 0. has an amount, and is no dose"),
        ({"AMT": 0.0, "RATE": 3.0, "EVID": 2}, r"Row 1 of the dosing table .TIME 0. has an amount, and is no dose"),
        ({"AMT": 1.0, "EVID": 5}, r"Row 1 of the dosing table .TIME 0. is of a kind that is not known"),
        ({"AMT": 0.0}, "a dose without amount"),
        ({"AMT": "a lot"}, "has text in row 1"),
        ({"EVID": 0}, "no amounts"),
    ],
)
def test_what_is_not_known_here_is_refused(dose: dict, words: str) -> None:
    with pytest.raises(bt.errors.InvalidTelemetry, match=f"(?s){words}"):
        bt.read_doses(table_of({"TIME": 0.0} | dose))


def test_the_row_that_is_refused_is_named() -> None:
    """By its number in the table, whatever subjects it has and in whatever order they stand."""
    table = pd.DataFrame(
        {
            "ID": [7, 9, 7, 9],
            "TIME": [0.0, 0.0, 5.0, 6.0],
            "AMT": [1.0, 2.0, np.nan, 3.0],
            "RATE": [0.0, 0.0, 0.0, -1.0],
        }
    )
    with pytest.raises(bt.errors.InvalidTelemetry, match=r"Row 4 of the dosing table .ID 9, TIME 6. has a rate"):
        bt.read_doses(table)


def test_an_amount_is_a_dose_where_no_kind_is_said() -> None:
    """In a table that says it elsewhere; else it would be lost in silence."""
    table = table_of(
        {"TIME": 0.0, "AMT": 1.0, "EVID": 1.0}, {"TIME": 3.0, "AMT": 2.0}, {"TIME": 5.0, "DV": 1.0, "EVID": 0.0}
    )
    found = bt.read_doses(table).set_index("TIME")["dose"].dropna()
    assert found.to_dict() == {0.0: 1.0, 3.0: 2.0}


def test_a_steady_state_after_other_doses_is_refused() -> None:
    table = table_of({"TIME": 0.0, "AMT": 1.0}, {"TIME": 9.0, "AMT": 1.0, "SS": 1, "II": 12.0})
    with pytest.raises(bt.errors.InvalidTelemetry, match="others before"):
        bt.read_doses(table, half_life=7.0)
