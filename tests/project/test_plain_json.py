"""Whatever a result holds becomes JSON that every reader takes: no NaN, no infinity, nothing of NumPy."""

import datetime
import math
import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tank_model import parse_strictly

from bayestwin.assess import Gate
from bayestwin.project.record import to_json

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
NESTED = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


def without_nonfinite(value: object) -> object:
    if isinstance(value, dict):
        return {key: without_nonfinite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_nonfinite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@pytest.mark.thorough
@given(NESTED)
def test_plain_values_come_back_and_nonfinite_numbers_are_null(content: object) -> None:
    assert parse_strictly(to_json(content)) == without_nonfinite(content)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, np.float64("nan"), np.float32("inf")])
def test_a_gate_that_could_not_be_computed_is_null(number: float) -> None:
    gate = Gate("rhat", False, number, number, "Cannot be told.")
    found = parse_strictly(to_json({"gates": [gate._asdict()]}))
    assert found["gates"][0] == gate._asdict() | {"value": None, "limit": None}


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float64(1.5), 1.5),
        (np.int64(3), 3),
        (np.True_, True),
        (np.array([[1.0, np.nan], [np.inf, 4.0]]), [[1.0, None], [None, 4.0]]),
        (np.array(2.5), 2.5),
        (np.array(["2026-03-21T06:30", "2026-03-22"], "M8[ns]"), ["2026-03-21T06:30:00", "2026-03-22T00:00:00"]),
        (np.array(["a", "b"]), ["a", "b"]),
        (datetime.date(2026, 3, 21), "2026-03-21"),
        (datetime.datetime(2026, 3, 21, 6, tzinfo=datetime.UTC), "2026-03-21T06:00:00+00:00"),
        (pathlib.PurePosixPath("results/tank"), "results/tank"),
        ({1.5: (1, 2)}, {"1.5": [1, 2]}),
    ],
)
def test_arrays_times_and_paths_become_plain(value: object, plain: object) -> None:
    assert parse_strictly(to_json({"value": value})) == {"value": plain}


def test_text_stays_readable() -> None:
    assert "largest R̂ 1.002" in to_json({"sentence": "largest R̂ 1.002"})
