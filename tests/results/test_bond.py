"""Draws are bound to what a result says of them: edited ones are derived, not calibrated, stored or not."""

import numpy as np
import pytest
import xarray as xr

from bayestwin.assess import diagnose, failed
from bayestwin.results.schema import bond, content_sha256, derived
from bayestwin.results.store import load, save


@pytest.fixture
def posterior() -> xr.DataTree:
    """A healthy posterior of two quantities, as `calibrate` binds it."""
    rng = np.random.default_rng(0)
    dims = ("chain", "draw")
    group = xr.Dataset(
        {"R": (dims, rng.normal(2.0, 0.1, (4, 500))), "C": ((*dims, "experiment"), rng.normal(5.0, 1.0, (4, 500, 2)))},
        {"chain": range(4), "draw": range(500), "experiment": ["a", "b"]},
    )
    stats = xr.Dataset({name: (dims, np.zeros((4, 500), bool)) for name in ("diverging", "solver_failed")})
    stats["energy"] = (dims, rng.normal(size=(4, 500)))
    tree = xr.DataTree.from_dict({"posterior": group, "sample_stats": stats})
    tree.attrs = {"twin": "room", "twin_sha256": "ab" * 32, "interrupted": False} | bond(group)
    return tree


def test_what_was_calibrated_stays_so_through_a_file(posterior, tmp_path):
    assert derived(posterior) == ""
    back = load(save(posterior, tmp_path / "posterior.nc"))
    assert derived(back) == ""
    assert not any(gate.name == "derived" for gate in diagnose(back))


def test_the_order_of_variables_and_dimensions_does_not_matter(posterior):
    group = posterior["posterior"].to_dataset()
    assert content_sha256(group[["C", "R"]].transpose("experiment", "draw", "chain")) == content_sha256(group)


def scaled(group: xr.Dataset) -> xr.Dataset:
    group["R"] *= 0.1
    return group


def nudged(group: xr.Dataset) -> xr.Dataset:
    group["C"][3, 499, 1] = np.nextafter(group["C"][3, 499, 1], np.inf)
    return group


def swapped(group: xr.Dataset) -> xr.Dataset:
    return group.assign(R=group["C"].sel(experiment="a", drop=True), C=group["C"])


@pytest.mark.parametrize("edit", [scaled, nudged, swapped])
def test_edited_draws_are_derived_wherever_they_go(posterior, edit, tmp_path):
    edited = posterior.copy(deep=True)
    edited["posterior"] = xr.DataTree(edit(edited["posterior"].to_dataset().copy(deep=True)))
    for one in (edited, load(save(edited, tmp_path / "posterior.nc"))):
        (gate,) = (gate for gate in failed(diagnose(one)) if gate.name == "derived")
        assert gate.sentence.startswith("Derived, not calibrated: the draws are others than those that were calibrated")


@pytest.mark.parametrize("part", [{"draw": slice(None, None, 10)}, {"experiment": ["a"]}])
def test_a_part_is_derived_as_well_and_warns(posterior, part):
    (gate,) = (
        gate
        for gate in diagnose(posterior.isel(draw=part["draw"]) if "draw" in part else posterior.sel(part))
        if gate.name == "derived"
    )
    assert gate.severity == "warn"
    assert "are left" in gate.sentence


def test_of_files_from_before_it_was_recorded_nothing_is_said(posterior):
    posterior["posterior"]["R"] *= 0.1
    assert derived(posterior) != ""
    del posterior.attrs["posterior_sha256"]
    assert derived(posterior) == ""
