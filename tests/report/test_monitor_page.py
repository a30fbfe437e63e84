"""The page of `monitor` does not say that telemetry is wrong and, further down, that nothing speaks against it."""

import pytest

from bayestwin.report.monitor import ShiftRow
from bayestwin.report.page import fill

PAGE = {"name": "tank", "status": "fail", "verdict": "act", "headline": "Act.", "reason": "", "alarm_at": "20"} | {
    "since": "",
    "version": "",
}


@pytest.mark.parametrize(("kind", "told"), [("sensor is off by", True), ("parameter", False)])
def test_a_sensor_that_is_off_speaks_against_telemetry_in_which_the_check_found_nothing(kind: str, told: bool) -> None:
    moved = ShiftRow("level", kind, "m", "–", "2", "–", "9", "4")
    page = PAGE | {"cause": "data" if told else "model", "shifts": [moved], "pictures": [None] * 3}
    page |= {name: [] for name in ("observations", "regimes", "findings", "infrastructure", "sections", "provenance")}
    text = fill("monitor.html", page)
    assert ("nothing new in the telemetry; what speaks against it" in text) is told
    assert ("nothing new in the telemetry." in text) is not told
