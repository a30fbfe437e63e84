"""The solver stops at every saved time and every input sample, and between two stops an input is a straight line."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twins import decay, driven

import bayestwin as bt
from bayestwin.dynamics.grid import Grid, build_grid
from bayestwin.errors import InvalidTelemetry

ROUNDING = 8 * 20.0 * np.finfo(float).eps
"""Inputs are up to 20: what is left of a difference of two of them that are equal."""

# a thousandth apart at least: slopes between samples nearer than numbers can tell would be infinite
TIMES = st.lists(st.integers(0, 10**9).map(lambda n: n / 1000), min_size=1, max_size=12, unique=True).map(sorted)


def held(**settings: object) -> bt.Twin:
    """A twin with an input of each hold, both with `settings`."""
    names = {"stepped": "previous", "sloped": "linear"}
    return driven(inputs={name: bt.Input(hold=hold, **settings) for name, hold in names.items()})


def grid_of(times: list[float], knots: list[float], values: np.ndarray, **settings: object) -> Grid:
    inputs = {"stepped": values, "sloped": 10.0 - values}
    return build_grid(held(**settings), np.array(times), np.array(knots), inputs)


@given(TIMES, TIMES, st.data())
@settings(deadline=None, derandomize=True)
def test_stops_are_the_saved_times_and_the_samples_between_them(times: list, knots: list, data: st.DataObject) -> None:
    values = np.array(data.draw(st.lists(st.floats(-10, 10), min_size=len(knots), max_size=len(knots))))
    grid = grid_of(times, knots, values, beyond="hold")
    assert (np.diff(grid.edges) > 0).all()
    np.testing.assert_array_equal(grid.edges[grid.save], times)
    assert set(grid.edges) == {0.0} | set(times) | {k for k in knots if k < times[-1]}
    assert grid.left.shape == grid.right.shape == (len(grid.edges) - 1, 2)


@given(TIMES, TIMES, st.data())
@settings(deadline=None, derandomize=True)
def test_inputs_are_those_of_their_hold(times: list, knots: list, data: st.DataObject) -> None:
    values = np.array(data.draw(st.lists(st.floats(-10, 10), min_size=len(knots), max_size=len(knots))))
    grid = grid_of(times, knots, values, beyond="hold")

    def previous(t: float) -> float:
        return values[max(sum(k <= t for k in knots) - 1, 0)]

    for start, end, left, right in zip(grid.edges[:-1], grid.edges[1:], grid.left, grid.right, strict=True):
        assert left[0] == right[0] == previous(start)
        line = np.interp([start, end], knots, 10.0 - values)
        np.testing.assert_allclose([left[1], right[1]], line, atol=ROUNDING)
    np.testing.assert_array_equal(grid.inputs[:, 0], [previous(t) for t in times])
    np.testing.assert_allclose(grid.inputs[:, 1], np.interp(times, knots, 10.0 - values), atol=ROUNDING)


def test_samples_after_the_last_saved_time_are_no_stops() -> None:
    grid = grid_of([0.0, 2.0], [0.0, 1.0, 2.0, 3.0, 4.0], np.arange(5.0))
    assert grid.edges.tolist() == [0.0, 1.0, 2.0]


def test_samples_before_t0_say_what_an_input_is_at_t0() -> None:
    grid = grid_of([1.0], [-2.0, 2.0], np.array([0.0, 4.0]))
    assert grid.left.tolist() == [[0.0, 8.0]]
    assert grid.right.tolist() == [[0.0, 7.0]]


@pytest.mark.parametrize(("knots", "range_"), [([0.5, 3.0], "0.5 to 3"), ([0.0, 1.5], "0 to 1.5")])
def test_an_input_asked_beyond_its_samples_is_an_error_unless_it_is_held(knots: list[float], range_: str) -> None:
    values = np.array([1.0, 5.0])
    with pytest.raises(InvalidTelemetry, match=rf"(?s)`stepped`.*Expected: .*0 to 2.*Received: .*{range_}.*beyond"):
        grid_of([0.0, 2.0], knots, values)
    grid = grid_of([0.0, 2.0], knots, values, beyond="hold")
    nearest = values[0] if knots[0] > 0.0 else values[-1]
    at = 0 if knots[0] > 0.0 else -1
    assert grid.inputs[at].tolist() == [nearest, 10.0 - nearest]


def test_a_twin_without_inputs_stops_at_the_saved_times_only() -> None:
    grid = build_grid(decay(), np.array([1.0, 2.0]), np.array([0.3, 0.4]), {})
    assert grid.edges.tolist() == [0.0, 1.0, 2.0]
    assert grid.left.shape == (2, 0)
