"""A card states the operating range of its twin in TOML: mistakes are explained, telemetry is held against it."""

import math
import pathlib

import numpy as np
import pandas as pd
import pytest
from shipped_models import FOLDERS, name_of

import bayestwin as bt
from bayestwin.check import Finding, Limit, read_limits
from bayestwin.errors import InvalidInput
from bayestwin.project.model import load_model, load_telemetry

CARD = """# room

## What it assumes
```toml
[indoor]
low = 1000.0
```

## Operating range
Lived in.

```toml
{}
```

## Do not use when
- never
"""


def limits(tmp_path: pathlib.Path, room: bt.Twin, block: str) -> dict[str, Limit]:
    (tmp_path / "card.md").write_text(CARD.replace("{}", block))
    return read_limits(tmp_path / "card.md", room)


def test_a_range_is_read_in_the_units_of_the_twin(tmp_path: pathlib.Path, room: bt.Twin) -> None:
    block = '[indoor]\nlow = 59.0\nhigh = 86.0\nunit = "degF"\nmax_rate = 1.8\n[outdoor]\nlow = -20'
    found = limits(tmp_path, room, block)
    assert found["indoor"] == pytest.approx((15.0, 30.0, 1.0))
    assert found["outdoor"] == Limit(low=-20.0)
    assert found["outdoor"].high == math.inf


def test_a_card_without_a_block_or_none_has_no_limits(tmp_path: pathlib.Path, room: bt.Twin) -> None:
    assert read_limits(tmp_path / "card.md", room) == {}
    (tmp_path / "card.md").write_text(
        "# room\n\n## Operating range\nAll.\n\n## Other\n```toml\n[indoor]\nlow = 1\n```\n"
    )
    assert read_limits(tmp_path / "card.md", room) == {}


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ("[indoor\nlow = 1", "not valid TOML"),
        ("[indor]\nlow = 1", "Did you mean `indoor`"),
        ("[indoor]\nlo = 1", "Did you mean `low`"),
        ('[indoor]\nlow = "1"', "no number for `indoor.low`"),
        ("[indoor]\nlow = 30\nhigh = 15", "nothing between `low` and `high` of `indoor`"),
        ("[indoor]\nmax_rate = 0", "forbids all"),
        ('[indoor]\nlow = 1\nunit = "kW"', "wrong dimension"),
        ("indoor = 3", "no table for `indoor`"),
    ],
)
def test_a_wrong_block_is_explained(tmp_path: pathlib.Path, room: bt.Twin, block: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        limits(tmp_path, room, block)
    assert "Expected: " in str(caught.value)


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_shipped_cards_state_a_range_that_their_telemetry_is_in(folder: pathlib.Path) -> None:
    model = load_model(folder)
    stated = read_limits(folder / "card.md", model.twin)
    assert stated.keys() == {**model.twin.observations, **model.twin.inputs}.keys()
    if model.job.telemetry.dataset is None:
        for part in load_telemetry(model)[:2]:
            for name, limit in stated.items() if part is not None else ():
                values = part.in_unit(name, {**model.twin.observations, **model.twin.inputs}[name].unit)
                assert not ((values < limit.low) | (values > limit.high)).any()


def telemetry(indoor: np.ndarray, outdoor: np.ndarray) -> bt.Telemetry:
    table = pd.DataFrame({"time": np.arange(float(indoor.size)), "indoor": indoor, "outdoor": outdoor})
    return bt.read_telemetry(table, units={"indoor": "degC", "outdoor": "degC"})


@pytest.fixture
def quiet(sensor) -> tuple[np.ndarray, np.ndarray]:
    return sensor(200, 1), 10.0 + (sensor(200, 2) - 20.0)


def kinds(found: tuple[Finding, ...]) -> set[tuple[str, str]]:
    return {(one.kind, one.column) for one in found if one.severity != "note"}


PRIOR = ["prior", "expected", "unit_scale"]

RANGE = {"indoor": {"low": 15.0, "high": 25.0, "max_rate": 2.0}, "outdoor": {"low": 0.0, "high": 20.0}}


def test_inside_the_range_there_is_no_finding(room: bt.Twin, quiet) -> None:
    found = bt.check(room, telemetry(*quiet), seed=0, limits=RANGE, ignore=PRIOR)
    assert kinds(found) == set()


def test_values_outside_and_rates_are_found(room: bt.Twin, quiet) -> None:
    indoor, outdoor = quiet
    indoor[60:64] = [25.5, 26.0, 25.5, 25.2]
    found = bt.check(room, telemetry(indoor, outdoor), seed=0, limits=RANGE, ignore=PRIOR)
    (outside,) = [one for one in found if one.kind == "range"]
    assert (outside.severity, outside.evidence["rows"]) == ("warn", [[61, 64]])
    assert outside.evidence["extremes"] == [25.2, 26.0]
    (fast,) = [one for one in found if one.kind == "rate"]
    assert fast.evidence["rows"] == [[61, 61], [65, 65]]
    assert "allows 2" in fast.sentence


def test_an_input_in_another_unit_is_suspected_from_the_range(room: bt.Twin, quiet) -> None:
    indoor, outdoor = quiet
    found = bt.check(room, telemetry(indoor, 1000.0 * outdoor), seed=0, limits=RANGE)
    (finding,) = [one for one in found if one.kind == "unit_scale" and one.column == "outdoor"]
    assert (finding.severity, finding.evidence["suggestion"]) == ("fail", "divided by 1000")


def test_what_calibration_has_not_visited_is_noted(room: bt.Twin, quiet) -> None:
    indoor, outdoor = quiet
    whole = telemetry(indoor, outdoor + np.where(np.arange(200) < 150, 0.0, 6.0))
    parts = whole.between(end=150), whole.between(start=150)
    found = bt.check(room, *parts, seed=0, limits=RANGE, ignore=[*PRIOR, "level_shift"])
    (note,) = [one for one in found if one.kind == "coverage" and one.column == "outdoor"]
    visited = np.quantile(outdoor[:150], [0.005, 0.995])
    assert note.severity == "note"
    assert note.evidence["share"] == pytest.approx(np.ptp(visited) / 20.0)
    (beyond,) = [one for one in found if one.kind == "extrapolation" and one.column == "outdoor"]
    assert (beyond.severity, beyond.evidence["rows"]) == ("warn", [[151, 200]])
