"""The picture of shares: a stack for each observation, and a caption that says what was assumed and how exact it is."""

import numpy as np
import pytest
import xarray as xr

from bayestwin.report.page import LIGHT, drawing
from bayestwin.report.reading import TimeAxis
from bayestwin.report.series import caption, shares_plot


def made(sources: tuple[str, ...], times: int = 5, share: float | None = None) -> xr.Dataset:
    dims = ("observation", "time", "source")
    table = np.full((2, times, len(sources)), 1 / len(sources) if share is None else share)
    return xr.Dataset(
        {"share": (dims, table), "share_error": (dims, 0.012 * table), "variance": (dims, 4.0 * table)},
        coords={
            "observation": ["in<door", "outlet"],
            "time": np.arange(float(times)),
            "source": list(sources),
            "units": ("observation", ["degC", "kW"]),
        },
    )


@pytest.mark.parametrize("times", [1, 5])
def test_each_source_has_its_colour_in_each_stack(times):
    sources = ("parameters", "initial_state", "inputs", "noise")
    with drawing():
        found = shares_plot(made(sources, times), TimeAxis(dated=False, unit="h"))
    for name in ("chain1", "chain3", "chain4", "prior"):
        assert found.svg.count(f"fill: var(--{name})") >= 2, name
    assert f"var(--{'chain2'})" not in found.svg  # there is no model error
    assert LIGHT["chain1"] not in found.svg
    assert "in&lt;door" in found.svg
    assert "<door" not in found.svg


def test_the_caption_says_what_was_assumed_and_how_exact_it_is():
    both = caption(made(("parameters", "initial_state", "noise")))
    assert "Shapley" in both
    assert "Inputs are taken to be known" in both
    assert "< 1" in both  # a third of 1.2 %
    alone = caption(made(("parameters", "inputs", "noise")))
    assert "Shapley" not in alone
    assert "taken to be known" not in alone


def test_shares_that_are_not_known_are_said_to_be():
    unknown = made(("parameters", "noise"), share=float("nan"))
    with drawing():
        shares_plot(unknown, TimeAxis(dated=False, unit="h"))
    assert "too many draws could not be solved" in caption(unknown)
