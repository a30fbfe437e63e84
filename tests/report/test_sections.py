"""What other verbs found is shown with its pictures and sentences; what cannot be read as such is said to be so."""

import numpy as np
import pytest
import xarray as xr

from bayestwin.insight.sbc import curves
from bayestwin.report.insight import SECTIONS, Found

BUILD = {section.command: section.build for section in SECTIONS}


def ranked(ranks: np.ndarray) -> xr.DataTree:
    """As `sbc` leaves it, of one quantity."""
    found = curves(ranks[None], ["rate"], 0.95, 0)
    found["ess"] = ("quantity", [50.0])
    found["diverging"] = ("simulation", np.zeros(ranks.size))
    found.attrs |= {"num_draws": 63, "not_solved": 0, "interrupted": False}
    return xr.DataTree(found)


@pytest.mark.parametrize(("power", "words"), [(1.0, "passed"), (2.0, "`rate`")])
def test_a_simulation_based_calibration_is_drawn_and_judged(power: float, words: str) -> None:
    tree = ranked(((np.arange(200) + 0.5) / 200) ** power)
    content = BUILD["sbc"](Found("a run", {}, tree))
    assert len(content.pictures) == 1
    assert "200 telemetries" in content.words[0]
    assert any(words in sentence for sentence in content.words[1:])


@pytest.mark.parametrize("command", sorted(BUILD))
def test_a_file_of_another_version_is_no_end_of_the_page(command: str) -> None:
    content = BUILD[command](Found("a run", {"simulations": 99}, xr.DataTree(xr.Dataset({"x": 1.0}))))
    assert content.pictures == ()
    assert BUILD[command](Found("a run", {"simulations": 99}, None)).rows == (("simulations", "99"),)
