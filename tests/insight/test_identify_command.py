"""`bayestwin identify` says in plain words what cannot be told, files it, and exits with 1 if the equations are why."""

import json
import math
import pathlib

import numpy as np
import pytest
from tank_model import JOB, TWIN, parse_strictly, run_command, write_model

import bayestwin as bt
from bayestwin.insight.profile import _interval
from bayestwin.report.insight import contraction_plot, profile_plot
from bayestwin.report.page import drawing

# The leak is a product, and a second input that never moves has a gain that nothing is told of.
TIED = (
    TWIN.replace("p.rate * x.level", "p.wear * p.area * x.level + p.gain * u.valve")
    .replace('"rate": bt', '"wear": bt')
    .replace('doc="rate of the leak")}', 'doc="rate of the leak"), "area": A, "gain": A}')
    .replace("twin = bt", "A = bt.Parameter(dist.LogNormal(0.0, 0.5))\ntwin = bt")
    .replace('unit="m/h")}', 'unit="m/h"), "valve": bt.Input()}')
)


def tied_model(folder: pathlib.Path) -> pathlib.Path:
    model = write_model(folder, twin=TIED, job=JOB)
    data = model / "data" / "tank.csv"
    first, header, *rows = data.read_text(encoding="utf-8").splitlines()
    lines = [first, f"{header},valve", *[f"{row},0" for row in rows]]
    data.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return model


@pytest.mark.slow
def test_what_the_equations_tie_fails_in_words(tmp_path: pathlib.Path) -> None:
    model = tied_model(tmp_path / "tank")
    options = ["--results", tmp_path / "results", "--profile", "wear"]
    code, out, err = run_command("identify", model, *options, "--json")
    assert (code, err) == (1, "")
    record = parse_strictly(out)
    assert record["status"] == "failed gates"
    gates = {gate["name"]: gate for gate in record["gates"]}
    assert gates["structure"]["sentence"] == (
        "`wear` and `area` appear only as their product `wear · area`: the data cannot tell them apart. "
        "Fix one, or give one an informative prior."
    )
    assert gates["telemetry"]["sentence"] == (
        "`gain` leaves no trace in these data: its posterior will be its prior. "
        "Other inputs, or an observation at more times, would change that."
    )
    assert "is flat: from" in gates["profile"]["sentence"]
    assert [gates[name]["passed"] for name in ("structure", "telemetry", "profile")] == [False, False, False]
    assert record["quantities"]["gain"]["expected_contraction"] == pytest.approx(0.0, abs=1e-9)
    # of two equal halves of a product that is known exactly, each keeps half of its variance
    assert record["quantities"]["wear"]["expected_contraction"] == pytest.approx(0.5, abs=0.01)
    run = pathlib.Path(record["folder"])
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["command"] == "identify"
    tree = bt.load(run / "identify.nc")
    assert tree["profile"]["interval"].values.tolist() == [[-math.inf, math.inf]]
    with drawing():
        pictures = contraction_plot(tree), profile_plot(tree)
    assert all("wear" in picture.svg for picture in pictures)


def test_a_name_that_is_not_inferred_is_refused_before_a_run_begins(tmp_path: pathlib.Path) -> None:
    model = write_model(tmp_path / "tank")
    code, out, err = run_command("identify", model, "--results", tmp_path / "results", "--profile", "raet")
    assert (code, out) == (2, "")
    assert "There is no `raet` to profile." in err
    assert not (tmp_path / "results").exists()


def test_the_end_of_an_interval_is_infinite_where_a_profile_stays_up() -> None:
    z = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    assert _interval(z, np.array([4.0, 1.0, 0.0, 0.5, 0.6]), 2.25) == (pytest.approx(-1.5), np.inf)
    assert _interval(z, np.array([0.2, 0.1, 0.0, 1.0, 4.0]), 2.25) == (-np.inf, pytest.approx(1.5))
