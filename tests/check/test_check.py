"""`bt.check` says what would spoil a calibration: faults of telemetry, units and splits, each with where it is."""

import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

import bayestwin as bt
from bayestwin.check import KINDS, Finding
from bayestwin.errors import InvalidInput, InvalidSetting, InvalidTelemetry

UNITS = {"indoor": "degC", "outdoor": "degC"}


type Check = Callable[..., tuple[Finding, ...]]


@pytest.fixture(scope="module")
def table(weather: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    return weather()


@pytest.fixture(scope="module")
def check(room: bt.Twin) -> Check:
    def found(telemetry: bt.Telemetry, held_out: bt.Telemetry | None = None, **settings: object) -> tuple[Finding, ...]:
        return bt.check(room, telemetry, held_out, seed=0, **settings)

    return found


def read(table: pd.DataFrame, **settings: object) -> bt.Telemetry:
    return bt.read_telemetry(table, **{"units": UNITS, **settings})


QUICK = {"ignore": ["prior", "unit_scale", "expected", "clock_unknown"]}
"""Leaves out what needs the twin to be solved, and that nothing is known of clocks."""


def of(found: tuple[Finding, ...], kind: str) -> Finding:
    (finding,) = [one for one in found if one.kind == kind]
    return finding


def test_sound_telemetry_is_only_noted(check: Check, table: pd.DataFrame) -> None:
    found = check(read(table))
    assert {(one.kind, one.severity) for one in found} == {("expected", "note"), ("clock_unknown", "note")}
    assert check(read(table)) == found
    assert json.loads(json.dumps([one._asdict() for one in found])) == [one._asdict() for one in found]


def test_53_duplicate_times(check: Check, table: pd.DataFrame) -> None:
    twice = pd.concat([table.iloc[:40], table.iloc[[39, 39]], table.iloc[40:]])
    with pytest.raises(InvalidTelemetry, match="row 41, 42"):
        read(twice)
    repaired = of(check(read(twice, duplicates="first"), **QUICK), "duplicate")
    assert (repaired.severity, repaired.evidence["source_rows"]) == ("note", [41, 42])
    kept = of(check(read(table).with_table(twice.set_index("time")), fail_on=["duplicate"]), "duplicate")
    assert (kept.severity, kept.evidence["rows"]) == ("fail", [[41, 42]])


def test_54_rows_out_of_order(check: Check, table: pd.DataFrame) -> None:
    order = np.r_[0:70, 71, 70, 72:150]
    found = check(read(table.iloc[order]), **QUICK)
    finding = of(found, "out_of_order")
    assert (finding.severity, finding.evidence["source_rows"]) == ("note", [72])
    strict = check(read(table.iloc[order]), fail_on=["out_of_order"], **QUICK)
    assert strict[0] == finding._replace(severity="fail")


def test_55_a_gap_beyond_the_threshold(check: Check, table: pd.DataFrame) -> None:
    cut = read(table.drop(table.index[80:95]))
    finding = of(check(cut, **QUICK), "gap")
    assert (finding.severity, finding.evidence["rows"], finding.evidence["gap"]) == ("warn", [[80, 81]], "16 h")
    assert [one for one in check(cut, thresholds={"gap": 20.0}, **QUICK) if one.kind == "gap"] == []


def test_56_sentinels_declared_and_not(check: Check, table: pd.DataFrame) -> None:
    marked = table.assign(indoor=table["indoor"].where(~table.index.isin([5, 60, 61]), -999.0))
    with pytest.raises(InvalidTelemetry, match="row 6, 61, 62"):
        read(marked)
    declared = of(check(read(marked, sentinels=(-999.0,)), **QUICK), "sentinel")
    assert (declared.severity, declared.column, declared.evidence["source_rows"]) == ("note", "indoor", [6, 61, 62])
    taken = of(check(read(marked, sentinels=()), **QUICK), "sentinel")
    assert (taken.severity, taken.evidence["rows"]) == ("fail", [[6, 6], [61, 62]])


def test_58_a_unit_of_the_wrong_dimension_names_both(check: Check, table: pd.DataFrame) -> None:
    with pytest.raises(InvalidTelemetry, match=r"`degC`.*\n.*`kW`"):
        check(read(table, units=UNITS | {"indoor": "kW"}))


@pytest.mark.parametrize(
    ("change", "suggestion"),
    [
        (lambda values: 1000.0 * values, "divided by 1000"),
        (lambda values: 1.8 * values + 32.0, "taken as °F"),
        (lambda values: values + 273.15, "taken as K"),
    ],
)
def test_60_a_plausible_but_wrong_scale(check: Check, table: pd.DataFrame, change: object, suggestion: str) -> None:
    finding = of(check(read(table.assign(indoor=change(table["indoor"])))), "unit_scale")
    assert (finding.severity, finding.column, finding.evidence["suggestion"]) == ("fail", "indoor", suggestion)
    assert finding.evidence["rows"][0][0] == 1
    assert "is the unit (degC) right?" in finding.sentence


def test_a_prior_that_is_only_off_is_no_wrong_unit(check: Check, table: pd.DataFrame) -> None:
    found = check(read(table.assign(indoor=table["indoor"] + 8.0)))
    assert of(found, "prior").severity == "warn"
    assert "unit_scale" not in {one.kind for one in found}


def test_63_a_constant_sensor(check: Check, table: pd.DataFrame) -> None:
    finding = of(check(read(table.assign(indoor=20.5)), **QUICK), "constant")
    assert (finding.severity, finding.column, finding.evidence["value"]) == ("warn", "indoor", 20.5)


def test_65_what_is_held_out_was_calibrated(check: Check, table: pd.DataFrame) -> None:
    whole = read(table)
    sound = check(whole.between(end=100), whole.between(start=100), **QUICK)
    assert "overlap" not in {one.kind for one in sound}
    finding = of(check(whole.between(end=100), whole.between(start=90), **QUICK), "overlap")
    assert (finding.severity, finding.evidence["rows"]) == ("fail", [[91, 100]])
    # a stretch that the calibrated part repeats by itself is no overlap
    copied = table.assign(indoor=table["indoor"].where(table.index < 60, np.roll(table["indoor"], 40)))
    copied["outdoor"] = table["outdoor"].where(table.index < 60, np.roll(table["outdoor"], 40))
    inside = read(copied.iloc[:90])
    assert "overlap" not in {one.kind for one in check(inside, whole.between(start=120), **QUICK)}
    # another file, with other times, that holds rows again
    again = read(table.assign(time=table["time"] + 1000.0).iloc[40:90])
    finding = of(check(whole.between(end=100), again, **QUICK), "overlap")
    assert (finding.severity, finding.evidence["rows"]) == ("fail", [[41, 90]])
    assert finding.evidence["held_out_rows"] == [[1, 50]]


def test_rows_of_what_is_held_out_count_on(check: Check, table: pd.DataFrame) -> None:
    whole = read(table.assign(indoor=table["indoor"] + np.where(table.index == 130, 6.0, 0.0)).iloc[10:])
    parts = whole.between(end=100), whole.between(start=100)
    assert of(check(*parts, **QUICK), "spike").evidence["rows"] == [[121, 121]]
    assert of(check(*parts, first_row=11, **QUICK), "spike").evidence["rows"] == [[131, 131]]


def test_kinds_are_silenced_and_escalated(check: Check, table: pd.DataFrame) -> None:
    changed = read(table.assign(indoor=table["indoor"] + np.where(table.index == 130, 6.0, 0.0)))
    assert of(check(changed, **QUICK), "spike").severity == "warn"
    assert check(changed, fail_on=["spike"], **QUICK)[0].severity == "fail"
    assert check(changed, thresholds={"spike": 1000.0}, **QUICK) == ()
    assert check(changed, ignore=["spike", *QUICK["ignore"]]) == ()


def test_what_makes_no_sense_is_refused(check: Check, table: pd.DataFrame) -> None:
    telemetry = read(table)
    with pytest.raises(InvalidSetting, match="no finding of the kind `spikes`"):
        check(telemetry, ignore=["spikes"])
    with pytest.raises(InvalidSetting, match="unknown name `spikes`"):
        check(telemetry, thresholds={"spikes": 3.0})
    with pytest.raises(InvalidSetting, match="wrong value for `spike`"):
        check(telemetry, thresholds={"spike": -1.0})
    with pytest.raises(InvalidInput, match="Did you mean `indoor`"):
        check(telemetry, limits={"indor": {"low": 1.0}})
    with pytest.raises(InvalidTelemetry, match="no column `outdoor`"):
        check(telemetry.with_table(telemetry.table[["indoor"]]))


def test_every_kind_is_a_slug_with_words() -> None:
    assert all(kind == kind.lower() and " " not in kind and words for kind, words in KINDS.items())
