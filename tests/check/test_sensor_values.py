"""Each defect of a single sensor is found with its exact rows, and a sound sensor has none of them."""

import numpy as np
import pytest


def kinds(found):
    return {one.kind for one in found if one.severity != "note"}


def only(found, kind):
    (finding,) = [one for one in found if one.kind == kind]
    return finding


@pytest.mark.parametrize("seed", range(20))
def test_a_sound_sensor_has_no_warning(look, sensor, seed):
    drive = sensor(seed=1000 + seed)
    assert kinds(look({"y": sensor(seed=seed), "u": drive}, inputs=["u"])) == set()


def test_a_constant_sensor_is_found(look):
    found = look({"y": np.where(np.arange(200) % 7 == 3, np.nan, 21.5)})
    finding = only(found, "constant")
    assert (finding.severity, finding.column) == ("warn", "y")
    assert finding.sentence.startswith("`y` never changes: all 171 values are 21.5 degC.")
    assert finding.evidence == {"value": 21.5, "values": 171}
    assert "Check the sensor" in finding.sentence


def test_an_input_that_nobody_changes_may_not_come_from_a_sensor(look, sensor):
    finding = only(look({"y": sensor(200), "u": np.full(200, -50.0)}, inputs=["u"]), "constant")
    assert "all 200 values are \N{MINUS SIGN}50" in finding.sentence
    assert (finding.severity, finding.column) == ("note", "u")
    assert "Where it is measured, check the sensor" in finding.sentence


def test_a_stuck_sensor_is_found(look, sensor):
    values = sensor()
    values[100:130] = values[100] + 0.0005
    finding = only(look({"y": values}), "stuck")
    assert finding.evidence["rows"] == [[101, 130]]
    assert finding.evidence["times"] == ["100.0", "129.0"]


def test_a_coarse_sensor_that_repeats_itself_is_not_stuck(look, sensor):
    values = np.round(sensor(2000) * 20) / 20  # steps of half an innovation
    longest = max(len(run) for run in "".join("=" if same else " " for same in np.diff(values) == 0).split())
    assert longest >= 3
    assert "stuck" not in kinds(look({"y": values}))


def test_a_sensor_that_comes_to_rest_is_not_stuck(look, sensor):
    values = sensor(1200)
    for start in range(100, 1100, 120):
        values[start : start + 40] = values[start]
    assert "stuck" not in kinds(look({"y": values}))


def test_an_input_that_is_held_is_not_stuck(look, sensor):
    held = np.repeat([0.0, 3.0, 1.0, 2.0], [30, 200, 20, 150])
    assert kinds(look({"y": sensor(), "u": held}, inputs=["u"])) == set()


@pytest.mark.parametrize("code", [-50.0, 85.0, 65535.0])
def test_a_sentinel_that_nobody_declared_is_found(look, sensor, code):
    values = sensor()
    values[[7, 80, 81, 300]] = code
    found = look({"y": values})
    assert kinds(found) == {"sentinel"}
    finding = only(found, "sentinel")
    assert (finding.severity, finding.evidence["rows"]) == ("fail", [[8, 8], [81, 82], [301, 301]])
    assert f"sentinels=({code:g},)" in finding.sentence


def test_a_peak_that_comes_twice_is_no_sentinel(look, sensor):
    values = sensor()
    values[[100, 200]] = values.max() + 0.5
    assert "sentinel" not in kinds(look({"y": values}))


@pytest.mark.parametrize("height", [3.0, -3.0, 300.0])
def test_spikes_are_found(look, sensor, height):
    values = sensor()
    values[[60, 61, 250]] += height
    found = look({"y": values})
    assert kinds(found) == {"spike"}
    assert only(found, "spike").evidence["rows"] == [[61, 62], [251, 251]]


def test_a_jump_that_stays_is_a_level_shift_and_no_spike(look, sensor):
    values = sensor()
    values[200:] += 3.0
    found = look({"y": values})
    assert kinds(found) == {"level_shift"}
    assert only(found, "level_shift").evidence["rows"] == [[201, 201]]


def test_a_jump_is_told_once(look):
    rng = np.random.default_rng(8)
    drive = rng.standard_normal(600)
    values = 0.3 * np.r_[0.0, drive[:-1]] + 0.1 * rng.standard_normal(600) + np.where(np.arange(600) < 300, 0.0, 2.0)
    found = look({"y": values, "u": drive}, inputs=["u"])
    assert [(one.kind, one.evidence["rows"][0][0]) for one in found if one.severity != "note"] == [("level_shift", 301)]


def test_a_jump_that_an_input_explains_is_none(look, sensor):
    heater = np.repeat([0.0, 1.0, 0.0], [150, 150, 100])
    values = sensor() + 3.0 * heater
    assert kinds(look({"y": values, "u": heater}, inputs=["u"])) == set()


def test_a_hidden_intervention_is_found_from_its_onset(look):
    rng = np.random.default_rng(5)
    values, drive = np.zeros(600), np.zeros(600)
    for row in range(1, 600):
        drive[row] = 0.9 * drive[row - 1] + rng.standard_normal()
        lost = 0.4 if row >= 350 else 0.0  # a window was opened
        values[row] = 0.9 * values[row - 1] + 0.1 * drive[row - 1] - lost + 0.1 * rng.standard_normal()
    finding = only(look({"y": values, "u": drive}, inputs=["u"]), "drift")
    (pair,) = finding.evidence["rows"]
    # by chance the best change point lies some rows off: the shift is of 4 sd, so few
    assert abs(pair[0] - 351) <= 8
    assert pair[1] == 600
    assert "falls" in finding.sentence


def test_a_sensor_that_drifts_is_found(look):
    rng = np.random.default_rng(6)
    drive = rng.standard_normal(800)
    steady = 0.2 * np.r_[0.0, drive[:-1]] + 0.1 * rng.standard_normal(800)
    assert kinds(look({"y": steady, "u": drive}, inputs=["u"])) == set()
    found = look({"y": steady + np.linspace(0.0, 0.6, 800), "u": drive}, inputs=["u"])
    finding = only(found, "drift")
    # the asset may as well drift, in a way that its past and the inputs do not tell
    assert (finding.severity, finding.evidence["rows"]) == ("note", [[3, 800]])


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_saturation_is_found(look, sensor, side):
    values = side * (sensor() - 20.0)
    limit = np.round(np.quantile(values, 0.9), 3)
    expected = np.flatnonzero(values >= limit) + 1
    found = look({"y": 20.0 + side * np.minimum(values, limit)})
    assert kinds(found) == {"saturation"}
    finding = only(found, "saturation")
    rows = np.concatenate([np.arange(first, last + 1) for first, last in finding.evidence["rows"]])
    assert np.array_equal(rows, expected)


def test_a_sensor_that_is_cut_off_may_be_stuck_as_well(look, sensor):
    values = sensor(800)
    limit = np.round(np.quantile(values, 0.9), 3)
    values = np.minimum(values, limit)
    values[300:312] = values[300] = 19.5
    found = look({"y": values})
    assert kinds(found) == {"saturation", "stuck"}
    assert only(found, "stuck").evidence["rows"] == [[301, 312]]


def test_a_coarse_sensor_that_is_read_often_is_cut_off_all_the_same(look):
    times = np.arange(2000.0)
    values = np.round(20 + 0.3 * np.sin(times / 150), 2)  # most values are those before
    values = np.minimum(values, 20.25)
    assert "saturation" in kinds(look({"y": values}, times))


def test_a_jump_beyond_what_switching_does_is_not_explained_by_it(look, sensor):
    heater = (np.arange(1200) // 100 % 2).astype(float)
    honest = sensor(1200) + 1.0 * heater
    assert "level_shift" not in kinds(look({"y": honest, "u": heater}, inputs=["u"]))
    values = honest + np.where(np.arange(1200) < 703, 0.0, 8.0)
    finding = only(look({"y": values, "u": heater}, inputs=["u"]), "level_shift")
    assert finding.evidence["rows"] == [[704, 704]]


def test_a_smooth_peak_is_no_saturation(look):
    times = np.arange(600.0)
    values = np.round(20 + 5 * np.sin(times / 40) + 0.01 * np.random.default_rng(2).standard_normal(600), 2)
    assert "saturation" not in kinds(look({"y": values}, times))


def test_coarse_steps_are_found(look, sensor):
    finding = only(look({"y": np.round(sensor() * 5) / 5}), "quantisation")
    assert finding.evidence["rows"] == [[1, 400]]
    assert finding.evidence["step"] == pytest.approx(0.2)


def test_a_resolution_that_changes_is_found(look, sensor):
    values = sensor()
    values[150:260] = np.round(values[150:260], 1)
    finding = only(look({"y": values}), "quantisation")
    (pair,) = finding.evidence["rows"]
    # a neighbour is a multiple of the coarse step once in a hundred times
    assert abs(pair[0] - 151) <= 1
    assert abs(pair[1] - 260) <= 1


def test_larger_values_with_as_many_digits_have_no_other_resolution(look):
    values = 99.0 + 2 * np.sin(np.arange(300) / 30) + 0.01 * np.random.default_rng(3).standard_normal(300)
    values = np.array([float(f"{value:.5g}") for value in values])
    assert "quantisation" not in kinds(look({"y": values}))


def test_counts_are_not_coarse(look):
    values = np.random.default_rng(4).poisson(4.0, 300).astype(float)
    assert "quantisation" not in kinds(look({"y": values}, unit="count"))
