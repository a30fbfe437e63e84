"""What is added from outside the package by its public hooks is taken everywhere: `docs/extending.md` is run and held.

Also that a setting of `calibrate` is told once: what a call, a job and the command line take is the same.
"""

import ast
import dataclasses
import inspect
import os
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pydantic
import pytest
import typer.main
import typer.testing

import bayestwin as bt
from bayestwin.assess.trust import BacktestTrial
from bayestwin.check import KINDS
from bayestwin.check import unregister as unregister_check
from bayestwin.cli import app
from bayestwin.errors import InvalidInput, InvalidSetting, InvalidTwin
from bayestwin.inference import METHODS, Method, register, unregister
from bayestwin.inference.method import BUILT_IN, SETTINGS, method_named
from bayestwin.model.describe import describe, fingerprint
from bayestwin.model.noise import Noise, NoiseParameter
from bayestwin.project.sections import CalibrateSection, ValidateSection
from bayestwin.report.insight import SECTIONS
from bayestwin.report.validation_tables import unchecked
from bayestwin.telemetry.sources import FORMATS, usual_suffixes

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "extending.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The names that the page defines, run from top to bottom; what it adds is taken back."""
    before, commands = [*SECTIONS], [*app.registered_commands]
    here = pathlib.Path.cwd()
    code = tmp_path_factory.mktemp("extending") / "extending.py"
    code.write_text("\n".join(BLOCKS), encoding="utf-8")
    names: dict[str, Any] = {"__name__": "extending"}
    os.chdir(code.parent)
    try:
        exec(compile(code.read_text(encoding="utf-8"), str(code), "exec"), names)
        yield names
    finally:
        os.chdir(here)
        unregister("resample")
        unregister_check("below_zero")
        FORMATS.pop("JSON Lines", None)
        SECTIONS[:] = before
        app.registered_commands[:] = commands


# A sampler.


def test_the_gates_of_a_sampler_are_those_that_it_names(extended: dict[str, Any]) -> None:
    posterior = extended["posterior_of_tank"]
    assert posterior.attrs["method"] == "resample"
    gates = {gate.name: gate for gate in bt.diagnose(posterior)}
    assert [*gates] == ["finite", "approximation", "tolerance", "prior_edge", "prior_posterior"]
    assert gates["approximation"].passed
    assert "resample" in gates["approximation"].sentence


def test_a_sampler_finds_the_truth_and_its_result_is_reported(extended: dict[str, Any]) -> None:
    tau = extended["posterior_of_tank"]["posterior"]["tau"]
    assert abs(float(tau.mean()) - 25.0) < 3.0 * float(tau.std())
    assert float(tau.std()) < 2.0
    assert "resample" in bt.render_report(extended["posterior_of_tank"])


def test_a_job_and_the_command_line_take_it_by_name(extended: dict[str, Any]) -> None:
    assert extended["register"] is register
    assert CalibrateSection(method="resample").method == "resample"
    assert ValidateSection(method="resample").method == "resample"
    told = typer.testing.CliRunner().invoke(app, ["calibrate", "--help"], terminal_width=250)
    assert "--method" in told.output


def test_a_sampler_that_is_taken_back_is_unknown_to_all() -> None:
    register(Method("passing", "for a moment", lambda problem: None))
    assert method_named("passing").judged == "chains"
    assert CalibrateSection(method="passing").method == "passing"
    unregister("passing")
    with pytest.raises(pydantic.ValidationError, match="'nuts', 'laplace', 'pathfinder', 'map'"):
        CalibrateSection(method="passing")
    assert method_named("passing").judged == "transitions", "the most demanding gates"


def test_a_point_is_no_method_of_a_backtest() -> None:
    with pytest.raises(pydantic.ValidationError, match=r"'nuts', 'laplace', 'pathfinder'.* 'smc'"):
        ValidateSection(method="map")


@pytest.mark.parametrize("method", BUILT_IN, ids=lambda method: method.name)
def test_a_method_of_the_package_is_no_name_for_another(method: Method) -> None:
    with pytest.raises(InvalidSetting, match=f"There is a method `{method.name}` already"):
        register(dataclasses.replace(method, help="another"))
    unregister(method.name)
    assert METHODS[method.name] is method


def told_apart(tree: ast.AST) -> list[str]:
    """Words that code compares with, chooses among or looks up."""
    words: list[ast.AST | None] = []
    for node in ast.walk(tree):
        match node:
            case ast.Compare(left=left, comparators=others):
                words += [left, *others]
            case ast.Tuple(elts=some) | ast.List(elts=some) | ast.Set(elts=some) | ast.Dict(keys=some):
                words += some
            case ast.Subscript(slice=one) | ast.MatchValue(value=one):
                words.append(one)
    return [word.value for word in words if isinstance(word, ast.Constant) and isinstance(word.value, str)]


def test_no_other_module_tells_methods_apart_by_name() -> None:
    package = pathlib.Path(bt.__file__).parent
    for path in sorted(package.rglob("*.py")):
        if path.parent.name == "petab":  # which has Laplace's distribution in its files
            continue
        words = told_apart(ast.parse(path.read_text(encoding="utf-8")))
        named = {method.name for method in BUILT_IN} & set(words)
        assert not named, (
            f"{path.relative_to(package)} knows the methods {named}: let `Method` say what it asks of them"
        )


# The settings of `calibrate`.


def test_a_call_a_job_and_the_command_line_take_the_same_settings() -> None:
    signature = inspect.signature(bt.calibrate)
    told = {s.name: (s.kind if s.default is not None else s.kind | None, s.default) for s in SETTINGS}
    kinds = {"loss": str}
    call = {n: (kinds.get(n, p.annotation), p.default) for n, p in signature.parameters.items() if n in told}
    assert call == told
    fields = {n: f for n, f in CalibrateSection.model_fields.items() if n != "seed"}
    assert {n: (f.annotation, f.default) for n, f in fields.items()} == told
    command: Any = typer.main.get_command(app)
    options = {one.name: one for one in command.commands["calibrate"].params}
    assert [name for name in options if name in told] == [*told]
    for setting in SETTINGS:
        assert options[setting.name].opts == [f"--{setting.name.replace('_', '-')}"]
        assert options[setting.name].default is None, "the job's holds"
        assert setting.help in options[setting.name].help
        assert setting.name in bt.calibrate.__doc__


WRONG = {"method": "annealing", "loss": "absolute", "target_acceptance": 1.0, "max_extensions": -1}


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_what_makes_no_sense_does_so_in_a_call_and_in_a_job(setting: Any) -> None:
    value = WRONG.get(setting.name, 0)
    assert not setting.fits(value)
    assert setting.fits(setting.default)
    with pytest.raises(pydantic.ValidationError):
        CalibrateSection(**{setting.name: value})


# A noise model.


@dataclasses.dataclass(frozen=True)
class Skewed(Noise):
    """Normal noise, `factor` times wider upwards; a noise model of this file."""

    scale: NoiseParameter
    factor: float = 2.0

    def distribution(self, value: Any, times: Any, *, scale: Any) -> dist.Distribution:  # noqa: ARG002
        return dist.AsymmetricLaplace(value, scale, self.factor)


def tank(noise: Noise) -> bt.Twin:
    return bt.Twin(
        name="tank",
        vector_field=lambda t, x, p, u: {"level": -x.level / p.tau},
        states={"level": bt.State(initial=60.0, unit="cm")},
        parameters={"tau": bt.Parameter(dist.LogNormal(3.0, 0.5), unit="min")},
        observations={"level": bt.Observation(noise=noise, unit="cm")},
        time_unit="min",
    )


def test_a_twin_with_it_is_described_and_simulated(extended: dict[str, Any]) -> None:
    twin = tank(Skewed(dist.HalfNormal(2.0)))
    (observation,) = describe(twin)["observations"]
    assert observation["noise"] == "Skewed(factor = 2, scale ~ HalfNormal(2))"
    simulated = bt.simulate(twin, {"tau": 25.0, "level_scale": 1.0}, extended["drained"], seed=1)
    noise = simulated["level"] - simulated["level_noise_free"]
    assert 0.1 < float(abs(noise).mean()) < 10.0


def test_what_was_calibrated_with_it_predicts_and_is_scored(extended: dict[str, Any]) -> None:
    twin, telemetry, posterior = (extended[name] for name in ("tank", "drained", "posterior_of_tank"))
    assert set(posterior["posterior"].data_vars) == {"tau", "level_scale"}
    later = bt.predict(twin, posterior, bt.read_telemetry(pd.DataFrame({"time": [39.0, 40.0]})), seed=1, draws=100)
    assert np.isfinite(later["predictions/level"]).all()
    assert bt.pit(posterior, telemetry, seed=2)["within_band"].all()
    assert np.isfinite(bt.scores(posterior, telemetry)["crps"]).all()


@pytest.mark.slow
def test_its_derivatives_lead_to_the_truth(extended: dict[str, Any]) -> None:
    twin = tank(Skewed(dist.HalfNormal(2.0)))
    simulated = bt.simulate(twin, {"tau": 25.0, "level_scale": 1.0}, extended["drained"], seed=1)
    telemetry = bt.read_telemetry(extended["minutes"].assign(level=simulated["level"].to_numpy()))
    posterior = bt.calibrate(twin, telemetry, seed=0, method="laplace", num_samples=100, predictive_draws=100)
    tau = posterior["posterior/tau"]
    assert abs(float(tau.mean()) - 25.0) < 4.0 * float(tau.std())


def test_numpyro_takes_it(extended: dict[str, Any]) -> None:
    model = bt.numpyro_model(tank(Skewed(1.0)), extended["drained"])
    traced = numpyro.handlers.trace(numpyro.handlers.seed(model, jax.random.key(0))).get_trace()
    assert isinstance(traced["level"]["fn"], dist.AsymmetricLaplace)


def defined(text: str, folder: pathlib.Path, name: str) -> Any:
    """The class `Own` of a file, as a user's own module would have it."""
    path = folder / f"{name}.py"
    path.write_text(text, encoding="utf-8")
    module = type(sys)(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    exec(compile(text, str(path), "exec"), vars(module))
    return module.Own


OWN = """
from __future__ import annotations
import dataclasses
import numpyro.distributions as dist
from bayestwin.model.noise import Noise, NoiseParameter

@dataclasses.dataclass(frozen=True)
class Own(Noise):
    scale: NoiseParameter
    weights: tuple = (1.0, 2.0)

    def distribution(self, value, times, *, scale):
        return dist.Normal(value, 2.0 * scale)
"""


def test_its_code_is_part_of_what_a_twin_is(tmp_path: pathlib.Path) -> None:
    prior = dist.HalfNormal(1.0)
    one = fingerprint(tank(defined(OWN, tmp_path, "own_noise_1")(prior)))
    assert fingerprint(tank(defined(OWN, tmp_path, "own_noise_2")(prior))) == one
    other = defined(OWN.replace("2.0 * scale", "3.0 * scale"), tmp_path, "own_noise_3")
    assert fingerprint(tank(other(prior))) != one
    assert fingerprint(tank(defined(OWN, tmp_path, "own_noise_4")(prior, (1.0, 3.0)))) != one


def test_parameters_are_known_where_annotations_are_text(tmp_path: pathlib.Path) -> None:
    noise = defined(OWN, tmp_path, "own_noise_5")(dist.HalfNormal(1.0))
    assert [*noise.parameters] == ["scale"]


def test_a_class_without_fields_is_refused_in_words(tmp_path: pathlib.Path) -> None:
    plain = defined(OWN.replace("@dataclasses.dataclass(frozen=True)\n", ""), tmp_path, "own_noise_6")
    with pytest.raises(InvalidTwin, match=r"(?s)`Own` are not known.*Expected: a frozen dataclass"):
        tank(plain())


# A finding, a source, a section, a verb.


def test_a_finding_is_reported_ignored_and_taken_back(extended: dict[str, Any]) -> None:
    twin, telemetry, unsolved = (extended[name] for name in ("tank", "offset", "unsolved"))
    found = {one.kind: one for one in bt.check(twin, telemetry, seed=0, ignore=unsolved, fail_on=["below_zero"])}
    assert found["below_zero"].severity == "fail"
    assert found["below_zero"].column == "level"
    kinds = {one.kind for one in bt.check(twin, telemetry, seed=0, ignore=[*unsolved, "below_zero"])}
    assert "below_zero" not in kinds
    with pytest.raises(InvalidSetting, match="There is a finding of the kind `spike` already"):
        extended["register_check"]("spike", "another", extended["below_zero"])
    assert "below_zero" in KINDS


def test_a_kind_of_file_is_read_and_listed(extended: dict[str, Any], tmp_path: pathlib.Path) -> None:
    path = tmp_path / "drained.jsonl"
    extended["drained"].table.reset_index().to_json(path, orient="records", lines=True)
    read = bt.read_telemetry(path)
    np.testing.assert_allclose(read.table["level"], extended["drained"].table["level"])
    assert read.units["level"] == "cm"
    assert usual_suffixes() == {".csv", ".nc", ".parquet", ".jsonl"}
    with pytest.raises(InvalidInput, match="CSV, Parquet, netCDF or JSON Lines file"):
        bt.read_telemetry(tmp_path / "absent.jsonl")


def test_a_section_is_an_entry(extended: dict[str, Any]) -> None:
    assert extended["told"](extended["Found"]("run", {"kilograms": 3}, None)).words == ("It weighed 3 kg.",)
    words = unchecked(
        trial=BacktestTrial(None, 8), regimes=("load",), inputs=(), ran=("sbc",), folder="models/tank", reach="1 h"
    )
    assert words[-1] == "Weight: not done yet, run `bayestwin weigh models/tank`."
    assert not any("sbc" in line for line in words)


def test_a_verb_is_an_entry(extended: dict[str, Any]) -> None:
    assert extended["app"] is app
    done = typer.testing.CliRunner().invoke(app, ["weigh", "4"])
    assert done.output == "4 kg\n"


def test_the_page_shows_each() -> None:
    titles = re.findall(r"^## (.*)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(titles) == len(BLOCKS) == 6
