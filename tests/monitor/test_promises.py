"""What a monitor promises, of shipped twins: few false alarms, and the parameter that moved by its name."""

import pytest
from futures import world

RUNS = 200

FUTURES = {"queue": 100, "tanks": 140, "room": 192, "battery": 130}
"""Rows of clean futures."""

LONG = {"queue": 800, "tanks": 1000, "room": 1920}
"""Rows by which a change of three posterior standard deviations can be told: some four times those calibrated."""


@pytest.mark.slow
@pytest.mark.parametrize("name", FUTURES)
def test_clean_futures_raise_an_alarm_as_rarely_as_promised(name: str) -> None:
    raised = sum(world(name).monitored(world(name).future(k, FUTURES[name])).verdict == "act" for k in range(RUNS))
    assert raised <= 0.05 * RUNS


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_what_moved_by_three_posterior_standard_deviations_is_named(name: str) -> None:
    sites = [site.name for site in world(name).twin.sites() if site.kind != "initial"]
    right = 0
    for k in range(100):
        moved, sign = sites[k % len(sites)], (3.0, -3.0)[k // len(sites) % 2]
        found = world(name).monitored(world(name).future(1000 + k, LONG[name], (moved, sign)))
        own = [one.name for one in found.shifts if one.kind != "sensor"]
        right += own[0] == moved
    assert right >= 90
