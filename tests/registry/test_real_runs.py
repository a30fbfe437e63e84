"""What the verbs leave of a real model is what the gates ask for: each stops it until its verb was run."""

import json
import pathlib

import pytest
import tank_model
from tank_model import parse_strictly, run_command, telemetry_text

import bayestwin as bt
from bayestwin.registry.documents import CONTRACT

VERBS = {"validation": "validate", "sbc": "sbc", "scenarios": "scenario", "identifiability": "identify"}

JOB = f"""{tank_model.JOB}
[validate]
origins = 4

[sbc]
num_simulations = 100

[promote.prod]
requires = ["diagnostics", {", ".join(f'"{name}"' for name in VERBS)}]
approvals = 1
"""

TWIN = tank_model.TWIN.replace("time_unit=", 'quantities={"highest": bt.Max("level", unit="m")},\n    time_unit=')

SCENARIO = 'question = "half the leak?"\nexpect = ["highest <= 9 m with P >= 0.9"]\n[parameters]\nrate = "× 0.5"\n'


@pytest.mark.slow
def test_a_model_comes_to_production_by_its_verbs(tmp_path: pathlib.Path) -> None:
    model, results = tank_model.write_model(tmp_path / "models" / "tank", twin=TWIN, job=JOB), tmp_path / "results"
    (model / "data" / "tank.csv").write_text(telemetry_text(401), encoding="utf-8")
    (model / "scenarios").mkdir()
    (model / "scenarios" / "half.toml").write_text(SCENARIO, encoding="utf-8")
    code, out, err = run_command("calibrate", model, "--results", results)
    assert code == 0, out + err
    assert bt.registry.promote(model, results, by="Ann").stage == "staging"
    open_gates = [*VERBS, "approvals"]
    for gate, verb in VERBS.items():
        code, out, _ = run_command("promote", model, "--to", "prod", "--results", results, "--json")
        stopped = {one["name"]: one["verdict"] for one in parse_strictly(out)["gates"] if one["verdict"] != "passed"}
        assert (code, stopped) == (1, dict.fromkeys(open_gates, "missing"))
        code, out, err = run_command(verb, model, "--results", results)
        assert code == 0, out + err
        open_gates.remove(gate)
    run_command("promote", model, "--approve", "--by", "Bob", "--results", results)
    found = bt.registry.promote(model, results, to="prod", by="Ann", why="the first one")
    assert found.stopped_by == ()
    run = results / "tank" / found.run
    assert bt.registry.stages(model, results).production.run == found.run
    contract = json.loads((run / CONTRACT).read_text(encoding="utf-8"))
    assert contract["inputs"]["pump"]["between_samples"] == "linear"
    assert contract["inputs"]["pump"]["calibrated"]["unit"] == "m/h"
    assert contract["outputs"]["level"]["column"] == "gauge"
    assert set(contract["outputs"]["level"]["prob"]) == {"0.5", "0.8", "0.9", "0.95"}
    assert run_command("doctor", "--results", results)[0] == 0
