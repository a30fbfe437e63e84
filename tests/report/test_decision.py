"""The page that is signed: its answer is what the draws say, and nothing grave is left out."""

import re

import numpy as np
import pytest
import xarray as xr
from readable import faults

from bayestwin.insight.expectations import compared, plain_words
from bayestwin.report.scenario import difference_plot, render_decision
from bayestwin.results.schema import QUANTITY

SHIFTS = {"baseline": 0.0, "insulated": -30.0, "warmer": 5.0, "same": 0.0}


class Bare:
    """Of a twin, what a comparison asks for."""

    quantities = ("energy",)


def found_of(spread: float = 4.0) -> xr.DataTree:
    rng = np.random.default_rng(0)
    common, own = rng.normal(100.0, 20.0, (2, 500)), rng.normal(0.0, 1.0, (2, 500))
    drawn = {}
    for name, shift in SHIFTS.items():
        values = common + shift + (0.0 if shift == 0.0 else spread) * own
        attrs = {"units": "kW h", QUANTITY: "integral"}
        drawn[name] = xr.Dataset({"energy": (("chain", "draw"), values, attrs)})
    tree = xr.DataTree.from_dict({"comparison": compared(Bare(), drawn, "energy")})  # type: ignore[arg-type]
    tree.attrs["loss"] = "energy"
    return tree


def record_of(best: str | None = "insulated", most: str = "least", **changed) -> dict:
    expected = [{"scenario": "insulated", "text": "P(indoor < 16 degC) <= 0.05", "verdict": "met", "value": 0.01}]
    told = {
        "question": "Which home is warm with <little> heating?",
        "quantity": "energy",
        "words": "electricity for heating",
        "docs": {"R_out": "resistance of the walls", "indoor": "the room"},
        "most": most,
        "best": best,
        "about": best if best not in (None, "baseline") else "insulated",
        "shares": {"R_out": 0.7, "C_in": 0.2, "R_in": 0.001},
        "warnings": {"baseline": ["All is colder."], "insulated": ["All is colder.", "`indoor` is warmer than ever."]},
        "status": "finished",
        "failed": [],
        "warned": [],
        "made_from": {"began": "2026-01-01", "version": "1.0", "seed": 0, "twin_sha256": "0123456789abcdef"},
        "draws": 1000,
    }
    scenarios = {name: {"question": "", "changes": [] if name == "baseline" else [f"{name}!"]} for name in SHIFTS}
    return {"run": "first", "scenarios": scenarios, "expectations": expected, "flipped": [], "decision": told | changed}


def text_of(page: str) -> str:
    body = re.sub(r"<(script|style)\b.*?</\1>|<svg.*?</svg>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)).replace("\u202f", " ")


def test_the_sheet_says_units_as_people_read_them_and_where_else_is_what_it_has_no_room_for() -> None:
    warned = [f"Warning {k}." for k in range(9)]
    record = record_of(warned=warned, missed=["Ranges of it are not to be trusted."])
    record["scenarios"]["insulated"]["changes"] = ["setpoint 20 degC", "loss 5 kW*h"]
    text = text_of(render_decision(found_of(), record, "room"))
    assert "setpoint 20 °C; loss 5 kW·h" in text
    assert text.index("Ranges of it are not to be trusted.") < text.index("Warning 0.")
    assert "Warning 4." in text
    assert "Warning 5." not in text
    assert "And 6 more, on the pages of the scenarios and of the calibration." in text


def test_the_answer_is_told_with_its_range_and_its_reasons() -> None:
    page = render_decision(found_of(), record_of(), "room")
    assert faults(page) == ["nav 0 times"]  # one sheet has nothing to be found by a list of contents
    text = text_of(page)
    assert "Which home is warm with &lt;little&gt; heating?" in text
    own = found_of()["comparison"].to_dataset().sel(scenario="insulated", quantity="energy")
    size, close, far = (abs(float(own[key])) for key in ("difference", "difference_upper", "difference_lower"))
    told = re.search(
        r"insulated: electricity for heating is ([\d.]+) kW h less than in the baseline \(likely ([\d.]+) to ([\d.]+)",
        text,
    )
    assert told is not None
    assert [float(one) for one in told.groups()] == pytest.approx([size, close, far], abs=0.51)
    assert "Demanded is a chance of at most 5 % that the room is below 16 °C: kept." in text
    assert not re.search(r"median|interval|draw|posterior|quantile|P\(", text)  # words that it does not explain
    assert "resistance of the walls (70 %), C_in (20 %)." in text
    assert "R_in" not in text  # less than a fiftieth is no reason
    assert "`" not in text
    assert "indoor is warmer than ever." in text
    assert text.count("All is colder.") == 1
    assert "twin 0123456789ab" in text
    assert "Name and signature" in text


@pytest.mark.parametrize(
    ("verdict", "answer"), [("met", "All that is demanded"), ("missed", "not kept"), (None, "names nothing")]
)
def test_without_a_quantity_alternatives_are_told_by_what_is_demanded(verdict: str | None, answer: str) -> None:
    """Of a twin that names none."""

    class Barer:
        quantities = ()

    drawn = {name: xr.Dataset() for name in SHIFTS}
    tree = xr.DataTree.from_dict({"comparison": compared(Barer(), drawn, None)})  # type: ignore[arg-type]
    tree.attrs["loss"] = ""
    record = record_of(None, "", quantity="", words="", question="", shares={})
    record["scenarios"]["warmer"]["question"] = "And if it is warmer?"
    record["expectations"] = [one | {"verdict": verdict} for one in record["expectations"] if verdict]
    record |= {"status": "pass"}
    page = render_decision(tree, record, "room")
    assert faults(page) == ["nav 0 times"]
    text = text_of(page)
    assert "And if it is warmer?" in text
    assert answer in text
    assert "insulated!" in text
    assert ("that the room is below 16 °C" in text) == (verdict is not None)
    assert difference_plot(tree["comparison"].to_dataset()) is None


@pytest.mark.parametrize(("most", "chance"), [("least", "100 %"), ("most", "0 %")])
def test_the_chance_to_be_better_goes_by_what_is_wanted(most: str, chance: str) -> None:
    page = render_decision(found_of(), record_of(most=most), "room").replace("\u202f", " ")
    row = re.search(r"<tr><th scope=\"row\">insulated</th>(.*?)</tr>", page, flags=re.DOTALL)
    assert row is not None
    assert f">{chance}<" in row[1]


@pytest.mark.parametrize(
    ("best", "words"),
    [
        ("baseline", "Stay with the baseline"),
        (None, "No alternative keeps what is demanded of it"),
        ("same", "same, though it may make no difference"),
    ],
)
def test_what_cannot_be_recommended_is_not(best: str | None, words: str) -> None:
    assert words in text_of(render_decision(found_of(), record_of(best), "room"))


def test_a_policy_at_its_limit_says_so_and_what_it_gains() -> None:
    record = record_of(docs={"cost": "what is paid"})
    (one,) = record["expectations"]
    one |= {"verdict": "undecided", "value": 0.043}
    kept = {"text": one["text"], "binds": True}
    goal = {"goal": "least cost.q90", "value": 12.5, "regret": 3.25, "feasible": True, "converged": True}
    own = record["scenarios"]["insulated"]
    own |= {"policy": goal | {"constraints": [kept]}, "quantities": {"cost": {"unit": "EUR"}}}
    text = text_of(render_decision(found_of(), record, "room"))
    assert "what is paid: 12.50 EUR, 3.250 EUR better than in the baseline." in text
    assert "at its limit, as closely as so many cases can tell (4.3 % of them)." in text


def test_a_baseline_of_which_nothing_was_demanded_is_not_said_to_do_better() -> None:
    missed = [
        {"scenario": name, "text": "P(indoor < 16 degC) <= 0.05", "verdict": "missed", "value": 0.97}
        for name in ("insulated", "warmer", "same")
    ]
    record, headline = record_of("baseline"), "Stay with the baseline, of which nothing was demanded: no alternative"
    record["expectations"] = missed
    text = text_of(render_decision(found_of(), record, "room"))
    assert headline in text
    assert "Whether the baseline keeps what is demanded of the alternatives was not asked" in text
    for asked in (missed[:2], [*missed, missed[0] | {"scenario": "baseline", "verdict": "met"}]):
        record["expectations"] = asked  # one alternative that keeps its demands, and a baseline that does
        text = text_of(render_decision(found_of(), record, "room"))
        assert "Stay with the baseline: no alternative that keeps its demands has least" in text
        assert "was not asked" not in text


def test_a_gate_that_warned_is_not_called_failed() -> None:
    record = record_of(warned=["The posterior lies at its prior's edge."])
    items = re.findall(r"<li>(.*?)</li>", render_decision(found_of(), record, "room"))
    assert items[0] == "A check of the calibration warns: The posterior lies at its prior&#39;s edge."
    assert not any("did not pass" in item for item in items)


def test_what_failed_comes_first() -> None:
    record = record_of(failed=["Chains disagree."], warned=["A prior is narrow."])
    record["expectations"].append({"scenario": "warmer", "text": "energy <= 90 kWh", "verdict": "missed", "value": 0.0})
    page = render_decision(found_of(), record, "room")
    items = re.findall(r"<li>(.*?)</li>", page)
    assert items[0] == "The calibration did not pass a check: Chains disagree."
    assert items[1] == "warmer does not keep what is demanded: energy at most 90 kWh on average."
    assert items[2] == "A check of the calibration warns: A prior is narrow."
    assert 'class="verdict warn"' in page


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("P(indoor < 16 degC for 1 h) <= 0.05", "a chance of at most 5 % that indoor air is below 16 degC for 1 h"),
        ("energy < baseline.energy with P >= 90 %", "a chance of at least 90 % that energy is below that of baseline"),
        ("energy.q90 <= 420 kWh", "energy at most 420 kWh in 90 % of all cases"),
        ("energy.q10 >= 40 kWh", "energy at least 40 kWh in 90 % of all cases"),
        ("energy.median > 2", "energy at least 2 in half of all cases"),
        ("energy <= 420 kWh", "energy at most 420 kWh on average"),
    ],
)
def test_what_is_demanded_is_told_in_plain_words(text: str, words: str) -> None:
    assert plain_words(text, {"indoor": "indoor air"}).replace("\u202f", " ") == words
