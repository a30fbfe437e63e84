"""On seven real records `check` fails falsely at most once, and finds each of fifteen planted defects with its rows.

Where nothing moves that could tell whether clocks agree, it says so instead.

`pytest -s -m slow tests/check/test_real_telemetry.py` prints the table.
"""

import sys

import numpy as np
import pytest
from defects import DEFECTS
from real_sets import SETS, RealSet
from shared_data import SHARED

import bayestwin as bt
from bayestwin.check import Finding, Thresholds, record_for
from bayestwin.check.check import signal_findings

pytestmark = pytest.mark.skipif(
    not all((SHARED / one.dataset[0]).is_dir() for one in SETS.values()),
    reason="the records are not on this machine: set BAYESTWIN_DATA_DIR to where they are",
)

PRIOR = ("prior", "unit_scale", "expected")
FROM_VALUES_ALONE = sorted(DEFECTS.keys() - {"duplicate", "out_of_order", "unit_scale", "out_of_range"})


@pytest.fixture(autouse=True)
def shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAYESTWIN_DATA_DIR", str(SHARED))


def found_rows(findings: tuple[Finding, ...], kind: str, rows: np.ndarray, within: int) -> bool:
    """Whether a finding of the kind has the rows: all of them, and where it is about some alone few others.

    What the record has by itself (a spike of its own) may be told together with what was planted.
    """
    for one in findings:
        if one.kind != kind or "rows" not in one.evidence:
            continue
        told = rows_of(one)
        if within:
            if abs(told[0] - rows[0]) <= within and abs(told[-1] - rows[-1]) <= within:
                return True
        elif kind == "unit_scale":
            # a value near zero stays inside whatever its unit
            if np.isin(told, rows).all() and told.size > 0.8 * rows.size:
                return True
        elif np.isin(rows, told).all() and (told.size == rows.size or kind == "spike"):
            return True
    return False


@pytest.mark.parametrize("name", ["darkgreybox", "ucl_wall"])
def test_defects_are_found_from_values_alone(name: str) -> None:
    one = SETS[name]
    telemetry = one.load()
    for defect in FROM_VALUES_ALONE:
        planted, kind, rows, within = DEFECTS[defect](one, telemetry, values_of(one, telemetry))
        found = signal_findings(record_for(one.twin, planted, None), Thresholds())
        assert found_rows(tuple(found), kind, rows, within), defect


@pytest.mark.slow
def test_clean_records_fail_at_most_once_in_all_and_warn_of_what_they_have() -> None:
    fails = []
    for name, one in SETS.items():
        found = bt.check(one.twin, one.load(), seed=0, limits=one.limits)
        assert {finding.kind for finding in found if finding.severity == "warn"} <= one.honest, name
        untold = [finding.sentence for finding in found if finding.kind == "clock_unknown"]
        assert any("cannot be told from this record" in sentence for sentence in untold) == one.still
        fails += [(name, finding) for finding in found if finding.severity == "fail"]
        counts = [f"{kind}:{sum(f.severity == kind for f in found)}" for kind in ("fail", "warn", "note")]
        sys.stdout.write(f"{name:12s} {' '.join(counts)}\n")
    assert len(fails) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SETS))
def test_each_planted_defect_is_found_with_its_rows(name: str) -> None:
    one = SETS[name]
    telemetry = one.load()
    missed = []
    for defect, plant in DEFECTS.items():
        planted, kind, rows, within = plant(one, telemetry, values_of(one, telemetry))
        # solving the twin tells of units alone, and takes long
        found = bt.check(one.twin, planted, seed=0, limits=one.limits, ignore=() if kind == "unit_scale" else PRIOR)
        seen = found_rows(found, kind, rows, within)
        if one.still and kind.startswith("clock"):
            kind = "clock_unknown"
            seen = [finding.column for finding in found if finding.kind == kind] == [one.observed]
        severities = [finding.severity for finding in found if finding.kind == kind]
        line = f"{name:12s} {defect:13s} {'found' if seen else 'MISSED':7s} {kind} {', '.join(severities)}"
        sys.stdout.write(f"{line}\n")
        missed += [] if seen else [defect]
    assert missed == []


def rows_of(finding: Finding) -> np.ndarray:
    """The rows of a finding, one by one."""
    return np.concatenate([np.arange(first, last + 1) for first, last in finding.evidence["rows"]])


def values_of(one: RealSet, telemetry: bt.Telemetry) -> np.ndarray:
    return telemetry.table[one.observed].to_numpy().copy()
