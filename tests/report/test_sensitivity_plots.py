"""Pictures of sensitivities show what was found, say what cannot be told, and let no text become markup."""

import re

import numpy as np
import xarray as xr

from bayestwin.report.page import LIGHT, WIDTH, Picture, drawing
from bayestwin.report.reading import TimeAxis
from bayestwin.report.sensitivity import influence_plot, local_plot, sobol_plot

HOURS = TimeAxis(False, "h")
NAMES = ["gain", "<script>alert(1)"]
UNITS = ("observation", ["m", "K"])


def sobol(upper: float = 0.1) -> xr.Dataset:
    overall = np.array([[[0.3, 0.7], [np.nan, np.nan]], [[0.35, 0.75], [np.nan, np.nan]]])
    dims = ("order", "observation", "quantity")
    return xr.Dataset(
        {
            "overall": (dims, overall),
            "overall_lower": (dims, overall - 0.1),
            "overall_upper": (dims, overall + upper),
            "reliable": ("observation", [True, False]),
        },
        coords={"order": ["first", "total"], "observation": ["level", "heat"], "quantity": NAMES, "units": UNITS},
        attrs={"prob": 0.9},
    )


def local(**dims: int) -> xr.Dataset:
    shape = (2, 2, *dims.values(), 5)
    scaled = np.random.default_rng(0).normal(size=shape)
    return xr.Dataset(
        {
            "scaled": (("observation", "quantity", *dims, "time"), scaled),
            "scaled_rms": (("observation", "quantity"), np.ones((2, 2))),
        },
        coords={"observation": ["level", "heat"], "quantity": NAMES, "time": np.arange(5.0), "units": UNITS}
        | {name: [f"{name} {i}" for i in range(size)] for name, size in dims.items()},
    )


def influential(largest: list[float]) -> xr.Dataset:
    num = len(largest)
    return xr.Dataset(
        {"largest": ("point", largest), "reliable": ("point", [True, *[False] * (num - 1)])},
        coords={"observation": ("point", ["level"] * num), "time": ("point", np.arange(float(num)))},
        attrs={"max_pareto_k": 0.5, "meaning": "One by one."},
    )


def test_pictures_of_few_panels_are_as_wide_as_the_page_so_that_their_letters_are_of_one_size() -> None:
    """One of a single panel was blown up to the page, and its legend was cut off."""
    for names in (["level"], ["level", "heat"]):
        svg = drawn_by(sobol_plot, sobol().sel(observation=names)).svg
        width = float(re.search(r'viewBox="0 0 ([\d.]+)', svg)[1])
        assert abs(width - 72.0 * WIDTH) < 1.0
        assert "with all that it does together with others" in svg


def drawn_by(function, *arguments: object) -> Picture:
    with drawing():
        found = function(*arguments)
    assert "<script" not in found.svg
    assert 'role="img"' in found.svg
    return found


def test_bars_and_intervals_are_drawn_and_what_says_little_is_named() -> None:
    found = drawn_by(sobol_plot, sobol())
    assert "&lt;script&gt;" in found.svg
    assert "90" in found.caption
    assert "Those of heat say little" in found.caption
    # an observation without indices has no bars: two bars of each quantity, and the legend
    assert len(re.findall(r"fill: var\(--calibrated\)", found.svg)) >= 3


def test_lines_have_the_unit_of_their_observation() -> None:
    found = drawn_by(local_plot, local(), HOURS)
    assert "level (m)" in found.svg
    assert "heat (K)" in found.svg
    assert "time (h)" in found.svg
    two = drawn_by(local_plot, local(experiment=2), HOURS)
    assert "level, experiment 1 (m)" in two.svg


def test_what_is_not_reliable_has_another_colour_and_what_is_unknown_is_counted() -> None:
    found = drawn_by(influence_plot, influential([0.5, 0.2, np.nan]), HOURS)
    assert "Of 1 it cannot be told" in found.caption
    assert "One by one." in found.caption
    assert "var(--fail)" in found.svg
    assert LIGHT["fail"] not in found.svg
