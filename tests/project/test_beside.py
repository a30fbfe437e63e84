"""`--compare-model-errors` calibrates under other model errors beside the run's own, files them, and compares them."""

import contextlib
import json
import pathlib
import shutil
import signal
from collections.abc import Iterator

import numpy as np
import pytest
from tank_model import JOB, TWIN, MakeModel, Ran, parse_strictly, run_command, write_model

import bayestwin as bt
from bayestwin._base.progress import Phase, Progress
from bayestwin.calibrate import with_model_error
from bayestwin.errors import InvalidTwin
from bayestwin.model.describe import fingerprint
from bayestwin.project.calibrate import calibrate_model
from bayestwin.project.model import load_model, load_telemetry

ERRORS = """
model_errors = {
    "none": None,
    "smooth": bt.Discrepancy(scale={"level": dist.HalfNormal(0.1)}, length={"level": 2.0}),
}
"""
NOISY = TWIN.replace('time_unit="h",', 'time_unit="h",\n    model_error=bt.ProcessNoise(scale={"level": 0.05}),')


QUICK = JOB.replace("[calibrate]", '[calibrate]\nmethod = "laplace"')


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The tank with process noise, compared with two other model errors; change nothing in it."""
    root = tmp_path_factory.mktemp("compared")
    model, results = write_model(root / "models" / "tank", twin=NOISY + ERRORS, job=QUICK), root / "results"
    code, out, err = run_command("calibrate", model, "--results", results, "--compare-model-errors")
    return Ran(code, out, err, model, results)


def record_of(run: pathlib.Path) -> dict:
    return parse_strictly((run / "run.json").read_text(encoding="utf-8"))


def test_each_is_filed_in_a_folder_of_its_own(compared: Ran) -> None:
    assert compared.code == 0, compared.out + compared.err
    (run,) = compared.runs
    files = [path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()]
    beside = [f"beside/{name}/{file}.nc" for name in ("none", "smooth") for file in ("posterior", "predictions")]
    files = [file for file in files if not file.startswith("inputs/")]
    assert sorted(files) == [*beside, "posterior.nc", "predictions.nc", "report.html", "run.json"]
    for name in files:
        assert f"  {run / name}\n" in compared.out


def test_the_record_lists_them(compared: Ran) -> None:
    (run,) = compared.runs
    record, model = record_of(run), load_model(compared.model)
    errors = model.model_errors
    assert record["beside"] == {name: fingerprint(with_model_error(model.twin, e)) for name, e in errors.items()}
    assert {name for name in record["outputs"] if name.startswith("beside/")} == {
        f"beside/{name}/{file}.nc" for name in errors for file in ("posterior", "predictions")
    }
    assert {"beside/none", "beside/smooth"} < set(record["timings"])


@pytest.mark.parametrize("name", ["none", "smooth"])
def test_each_is_what_the_library_makes_of_that_model_error(compared: Ran, name: str) -> None:
    """With the settings and the seed of the job: to the bit."""
    (run,) = compared.runs
    model = load_model(compared.model)
    split, error = load_telemetry(model), model.model_errors[name]
    stored = bt.load(run / "beside" / name / "posterior.nc")
    ours = bt.calibrate(model.twin, split.calibration, model_error=error, **model.job.calibrate.model_dump())
    np.testing.assert_array_equal(stored["posterior/rate"], ours["posterior/rate"])
    ahead = bt.predict(model.twin, ours, split.held_out, model_error=error, **model.job.predict.model_dump())
    predicted = bt.load(run / "beside" / name / "predictions.nc")
    np.testing.assert_array_equal(predicted["predictions/level"], ahead["predictions/level"])
    assert ("level_discrepancy" in predicted["predictions"]) == (name == "smooth")
    assert json.loads(stored.attrs["job"]) == record_of(run)["job"]


def test_the_report_compares_them_also_when_it_is_written_again(compared: Ran, tmp_path: pathlib.Path) -> None:
    results = shutil.copytree(compared.results, tmp_path / "results")
    (run,) = (results / "tank").iterdir()
    first = (run / "report.html").read_text(encoding="utf-8")
    part = first.split('id="model-error"')[1].split("</section>")[0]
    for words in (">none</th>", ">smooth</th>", ">with process noise (this report)</th>", "<code>level</code> covers"):
        assert words in part
    (run / "report.html").unlink()
    code, _, err = run_command("report", compared.model, "--results", results)
    assert (code, err) == (0, "")
    again = (run / "report.html").read_text(encoding="utf-8")
    assert again.split('id="model-error"')[1].split("</section>")[0] == part


def test_without_the_option_nothing_is_compared(ran: Ran) -> None:
    assert "beside" not in record_of(ran.runs[0])
    assert 'id="model-error"' not in (ran.runs[0] / "report.html").read_text(encoding="utf-8")


def test_what_the_twin_has_already_is_not_calibrated_again(make_model: MakeModel, tmp_path: pathlib.Path) -> None:
    model = make_model(twin=TWIN + ERRORS, job=QUICK)
    code, _, err = run_command(
        "calibrate", model, "--results", tmp_path / "results", "--compare-model-errors", "--json"
    )
    assert err == ""
    (run,) = (tmp_path / "results" / "tank").iterdir()
    assert list(record_of(run)["beside"]) == ["smooth"]
    assert [path.name for path in (run / "beside").iterdir()] == ["smooth"]
    assert code in (0, 1)  # as the gates say


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no variable `model_errors`"),
        ("\nmodel_errors = {}\n", "no variable `model_errors`"),
        ('\nmodel_errors = {"none": None}\n', "only the twin's own"),
        (ERRORS.replace("2.0", "-1.0"), "Model error `smooth` of"),
        (ERRORS.replace('{"level": dist', '{"depth": dist'), "Model error `smooth` of"),
        (ERRORS.replace("2.0", "0.001"), "is too fine"),
    ],
)
def test_what_cannot_be_compared_is_told_before_a_run_begins(
    make_model: MakeModel, tmp_path: pathlib.Path, text: str, words: str
) -> None:
    model = make_model(twin=TWIN + text)
    code, out, err = run_command("calibrate", model, "--results", tmp_path / "results", "--compare-model-errors")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert words in err
    for part in ("\n  Expected: ", "\n  Received: "):
        assert part in err
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("value", "received"),
    [
        ("[None]", "a list"),
        ('{"../up": None}', "the name '../up'"),
        ('{"": None}', "the name ''"),
        ("{1: None}", "the name 1"),
        ('{"a b": None}', "the name 'a b'"),
        ('{"none": 0.1}', "`none` is 0.1, a float"),
        ('{"none": None, "None": None}', "names that differ only in capitals: none, None"),
    ],
)
def test_names_are_folders_and_values_are_model_errors(make_model: MakeModel, value: str, received: str) -> None:
    folder = make_model(twin=f"{TWIN}\nmodel_errors = {value}\n")
    with pytest.raises(InvalidTwin, match=r"`model_errors` of .* cannot be used") as caught:
        load_model(folder)
    assert f"Received: {received}\n" in str(caught.value)


@pytest.mark.thorough
def test_a_run_that_was_stopped_beside_is_gone_on_with(compared: Ran, tmp_path: pathlib.Path) -> None:
    """Its record says that the comparison was asked for; what it makes is to the bit the same."""
    root = shutil.copytree(compared.results.parent, tmp_path / "copy")
    (run,) = (root / "results" / "tank").iterdir()
    before = {name: bt.load(run / name) for name in ("posterior.nc", "beside/smooth/posterior.nc")}
    shutil.rmtree(run / "beside" / "smooth")
    (run / "report.html").unlink()
    (run / "run.json").write_text(json.dumps(record_of(run) | {"status": "interrupted"}))
    code, _, err = run_command("resume", run, "--model", root / "models" / "tank")
    assert (code, err) == (0, "")
    for name, tree in before.items():
        assert bt.load(run / name).identical(tree)
    assert 'id="model-error"' in (run / "report.html").read_text(encoding="utf-8")


def test_other_model_errors_than_those_of_the_run_are_not_gone_on_with(compared: Ran, tmp_path: pathlib.Path) -> None:
    root = shutil.copytree(compared.results.parent, tmp_path / "copy")
    (run,) = (root / "results" / "tank").iterdir()
    (run / "run.json").write_text(json.dumps(record_of(run) | {"status": "interrupted"}))
    twin = root / "models" / "tank" / "twin.py"
    twin.write_text(twin.read_text().replace("2.0", "2.1"))
    code, out, err = run_command("resume", run, "--model", root / "models" / "tank")
    assert (code, out) == (2, "")
    assert "cannot be resumed" in err
    assert "beside" in err


class Striking(Progress):
    """Presses Ctrl-C once draws are made in a part, and never before."""

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[Progress]:
        """As of `Progress`."""
        with super().part(name):
            yield Struck(show=False)


class Struck(Progress):
    """Presses Ctrl-C when draws advance."""

    @contextlib.contextmanager
    def phase(self, name: str, words: str, total: int) -> Iterator[Phase]:
        """As of `Progress`."""

        with super().phase(name, words, total) as running:

            class Running:
                def advance(self, steps: int, note: str = "") -> None:
                    running.advance(steps, note)
                    if name == "draws":
                        signal.raise_signal(signal.SIGINT)

            yield Running()


@pytest.mark.thorough
def test_ctrl_c_beside_leaves_the_run_s_own_result_and_can_be_gone_on_with(
    make_model: MakeModel, tmp_path: pathlib.Path
) -> None:
    noisy = '\nmodel_errors = {"noisy": bt.ProcessNoise(scale={"level": 0.05})}\n'
    folder = make_model(twin=TWIN + noisy, job=JOB.replace("num_samples = 75", "num_samples = 300"))
    with pytest.raises(KeyboardInterrupt):
        calibrate_model(
            load_model(folder), tmp_path / "results", compare_model_errors=True, progress=Striking(show=False)
        )
    (run,) = (tmp_path / "results" / "tank").iterdir()
    assert record_of(run)["status"] == "interrupted"
    assert bt.load(run / "posterior.nc")["posterior"].sizes["draw"] == 300
    code, _, err = run_command("resume", run, "--model", folder)
    assert (code, err) == (0, "")
    assert bt.load(run / "beside" / "noisy" / "posterior.nc")["posterior"].sizes["draw"] == 300
    assert not list(run.rglob("checkpoint.nc"))
    assert 'id="model-error"' in (run / "report.html").read_text(encoding="utf-8")
