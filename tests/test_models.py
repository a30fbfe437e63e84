"""Every model that ships is what its card says; where its telemetry is simulated, the truth is found.

The folders of `models/` are listed, not named: a model that is added is tested here with no change to this file.
"""

import pathlib
import re
import runpy
import shutil
import sys

import numpy as np
import pytest
from scipy.stats import chi2
from shipped_models import FOLDERS, SIMULATED, calibrated, missed, name_of, truth_of
from twins import bound_density

from bayestwin._base.progress import Progress
from bayestwin.inference.starts import find_starts
from bayestwin.project.model import load_model, load_telemetry

every_model = pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
every_simulated_model = pytest.mark.parametrize("folder", SIMULATED, ids=name_of)


@every_model
def test_a_model_has_a_card_with_its_limits(folder: pathlib.Path) -> None:
    card = (folder / "card.md").read_text(encoding="utf-8")
    assert card.startswith(f"# {folder.name}\n")
    for heading in ("What it assumes", "Operating range", "Do not use when", "Source"):
        assert re.search(rf"\n## {heading}.*\n\S", card), heading
    twin = load_model(folder).twin
    assert (twin.name, bool(twin.doc)) == (folder.name, True)
    for group in (twin.states, twin.parameters, twin.inputs, twin.observations, twin.events):
        assert all(member.doc for member in group.values())


@every_simulated_model
def test_a_card_tells_the_truth_with_its_units(folder: pathlib.Path) -> None:
    card = (folder / "card.md").read_text(encoding="utf-8")
    assert re.search(r"\n## The telemetry\n\S", card)
    assert re.search(r"\n## Source[^#]*\bdoi:10\.", card)
    rows = re.findall(r"(?m)^\| (\w+) \| ([\d.e+-]+) ?(.*) \|$", card)
    stated = {name: (float(number), unit) for name, number, unit in rows}
    units = {site.name: site.unit for site in load_model(folder).twin.sites()}
    assert stated == {name: (value, units[name]) for name, value in truth_of(folder).items()}


@pytest.mark.thorough
@every_simulated_model
def test_telemetry_can_be_made_again_bit_for_bit(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process; that the file runs as a program is tested of the room."""
    copy = shutil.copytree(folder, tmp_path / folder.name)
    shipped = {path.name: path.read_bytes() for path in (copy / "data").iterdir()}
    shutil.rmtree(copy / "data")
    (copy / "data").mkdir()
    monkeypatch.syspath_prepend(copy)
    monkeypatch.setitem(sys.modules, "twin", None)  # restored afterwards, whatever `from twin import` leaves there
    del sys.modules["twin"]
    runpy.run_path(str(copy / "simulate.py"), run_name="__main__")
    assert {path.name: path.read_bytes() for path in (copy / "data").iterdir()} == shipped


@every_simulated_model
def test_priors_expect_the_truth(folder: pathlib.Path) -> None:
    """Between their 0.1 % and 99.9 % points, for all that is inferred and nothing else."""
    truth = truth_of(folder)
    at = {site.name: float(site.prior.cdf(truth[site.name])) for site in load_model(folder).twin.sites()}
    assert set(at) == set(truth)
    assert [name for name, share in at.items() if not 0.001 < share < 0.999] == []


QUICK = ("dosing", "queue", "tanks")


@pytest.mark.thorough
@pytest.mark.parametrize(
    "folder",
    [pytest.param(f, id=name_of(f), marks=[] if f.name in QUICK else [pytest.mark.slow]) for f in SIMULATED],
)
def test_the_ladder_leads_to_the_truth(folder: pathlib.Path) -> None:
    """From prior draws to a mode whose Laplace approximation has the truth inside its 99.9 % ellipsoid."""
    model = load_model(folder)
    density = bound_density(model.twin, load_telemetry(model).calibration)
    mode = find_starts(density, 4, 0, Progress(show=False)).modes[0]
    away = np.linalg.solve(mode.scale, np.asarray(density.unconstrain(truth_of(folder))) - mode.z)
    assert away @ away < chi2.ppf(0.999, away.size)


@pytest.mark.slow
@every_model
def test_a_model_s_own_job_passes_its_gates_and_finds_the_truth(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Truth inside 99 % intervals; of what is held out, as much inside 90 % intervals as chance allows."""
    found = calibrated(folder, tmp_path)
    if folder in SIMULATED:
        assert missed(truth_of(folder), found.draws, tail=0.005) == []
        assert found.covered is not None
    if found.covered is not None:
        shares = found.covered.sel(prob=0.9)
        assert bool(shares["within_joint_band"].all()), shares["coverage"].to_pandas().to_dict()
        for name, scored in found.record["summary"]["scores"].items():
            assert scored["rmse"] < scored["persistence_rmse"], name
