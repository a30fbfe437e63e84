"""`bayestwin compare` calibrates without each term, files everything, and says which term earns its keep."""

import pathlib

import pytest
import xarray as xr
from tank_model import JOB, TWIN, MakeModel, Ran, parse_strictly, run_command, write_model

import bayestwin as bt
from bayestwin.errors import InvalidInput, InvalidJob, InvalidTwin
from bayestwin.project.compare import WHOLE, variants
from bayestwin.project.model import changed, load_model
from bayestwin.project.run import named_value
from bayestwin.report.insight import comparison_plot
from bayestwin.report.page import drawing

QUICK = JOB.replace("[calibrate]", '[calibrate]\nmethod = "laplace"').replace("num_samples = 75", "num_samples = 400")
EXTRA = '"rate": bt.Parameter(dist.LogNormal(0.0, 0.5), unit="1/h", doc="rate of the leak")'
LEAKS = TWIN.replace(EXTRA, f'{EXTRA}, "offset": bt.Parameter(dist.Normal(0.0, 0.05), unit="m/h", doc="another leak")')
LEAKS = LEAKS.replace("u.pump - p.rate * x.level", "u.pump - p.offset - p.rate * x.level")
ABLATIONS = '\nablations = {"no leak": {"rate": 0.0}}\n'


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The tank with its leak and without; change nothing in it."""
    root = tmp_path_factory.mktemp("compared")
    model, results = write_model(root / "models" / "tank", twin=LEAKS + ABLATIONS, job=QUICK), root / "results"
    code, out, err = run_command("compare", model, "--results", results, "--horizon", 0.5, "--origins", 2)
    return Ran(code, out, err, model, results)


@pytest.mark.slow
def test_it_says_which_term_earns_its_keep(compared: Ran) -> None:
    assert compared.code == 0, compared.out + compared.err
    assert "The term that `no leak` switches off earns its keep: without it the twin predicts worse." in compared.out
    assert "`no leak` predicts worse than `all terms`: elpd difference -" in compared.out
    assert "What was held out:" in compared.out


def test_everything_is_filed(compared: Ran) -> None:
    (run,) = compared.runs
    files = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    files = {file for file in files if not file.startswith("inputs/")}
    each = {f"compared/{name}/" for name in ("all_terms", "no_leak")}
    made = {one + file for one in each for file in ("posterior.nc", "predictions.nc", "leave_future_out.nc")}
    assert files == made | {"compare.nc", "run.json"}
    record = parse_strictly((run / "run.json").read_text(encoding="utf-8"))
    assert (record["command"], record["status"]) == ("compare", "finished")
    assert record["off"] == {"no leak": {"rate": 0.0}}
    assert record["leave_one_out"]["no leak"]["outcome"] == "worse"
    assert set(record["outputs"]) >= files - {"run.json"}
    assert list(record["compared"]) == [WHOLE, "no leak"]


def test_the_comparison_is_that_of_the_files(compared: Ran) -> None:
    (run,) = compared.runs
    tree = bt.load(run / "compare.nc")
    names = {WHOLE: "all_terms", "no leak": "no_leak"}
    for group, file in (("leave_one_out", "posterior.nc"), ("leave_future_out", "leave_future_out.nc")):
        ours = bt.compare({n: bt.load(run / "compared" / f / file) for n, f in names.items()}, reference=WHOLE)
        xr.testing.assert_allclose(tree[group].to_dataset(), ours)
    assert tree["scores"]["crps"].sel(model="no leak") > 2 * tree["scores"]["crps"].sel(model=WHOLE)
    assert tree["coverage"].sizes["model"] == 2


def test_a_picture_shows_each_difference(compared: Ran) -> None:
    (run,) = compared.runs
    tree = bt.load(run / "compare.nc")
    with drawing():
        found = comparison_plot([tree[name].to_dataset() for name in ("leave_one_out", "leave_future_out")])
    for words in ("leave-one-out, 24 observations", "leave-future-out, 2 origins", "no leak", WHOLE):
        assert words in found.svg
    assert "all terms" in found.caption
    broken = tree["leave_one_out"].to_dataset().copy(deep=True)
    broken["elpd_diff"].values[-1] = float("nan")
    with drawing():
        assert "cannot be computed" in comparison_plot([broken]).svg


@pytest.mark.slow
def test_process_noise_is_compared_by_the_future_alone(make_model: MakeModel, tmp_path: pathlib.Path) -> None:
    noisy = LEAKS.replace('time_unit="h",', 'time_unit="h",\n    model_error=bt.ProcessNoise(scale={"level": 0.05}),')
    model = make_model(twin=noisy, job=QUICK)
    arguments = ("compare", model, "--off", "rate=0", "--results", tmp_path / "results", "--json")
    code, out, err = run_command(*arguments, "--horizon", 0.5, "--origins", 2)
    assert (code, err) == (0, "")
    found = parse_strictly(out)
    assert "process noise" in found["leave_one_out"]["failure"]
    assert set(found["leave_future_out"]) == {WHOLE, "rate=0"}


@pytest.mark.slow
def test_a_term_that_does_nothing_does_not_show(make_model: MakeModel, tmp_path: pathlib.Path) -> None:
    model = make_model(twin=LEAKS, job=QUICK)
    code, out, _ = run_command("compare", model, "--off", "offset=0", "--results", tmp_path / "results")
    assert code == 0
    assert "The term that `offset=0` switches off does not show in predictions" in out
    assert "`offset=0` and `all terms` cannot be told apart: elpd difference" in out


def test_what_is_compared_with(make_model: MakeModel) -> None:
    errors = '\nmodel_errors = {"none": None, "noisy": bt.ProcessNoise(scale={"level": 0.05})}\n'
    model = load_model(make_model(twin=LEAKS + ABLATIONS + errors))
    assert list(variants(model, model.ablations, model_errors=False)) == [WHOLE, "no leak"]
    assert list(variants(model, {}, model_errors=True)) == [WHOLE, "model error noisy"]
    assert variants(model, model.ablations, model_errors=False)["no leak"].twin.parameters["rate"].prior == 0.0
    with pytest.raises(InvalidInput, match="There is nothing to compare"):
        variants(model, {}, model_errors=False)
    with pytest.raises(InvalidTwin, match=r"Ablation `no sun` .*`sun` is no parameter"):
        variants(model, {"no sun": {"sun": 0.0}}, model_errors=False)


def test_options_are_read_or_refused(make_model: MakeModel) -> None:
    assert named_value("off", "rate=-1e-3") == {"rate": -1e-3}
    for word in ("rate", "rate=", "rate=none"):
        with pytest.raises(InvalidInput, match=f"`--off {word}` cannot be read"):
            named_value("off", word)
    model = load_model(make_model())
    assert changed(model, compare={"horizon": 2.0, "origins": 3}).job.compare.model_dump() == {
        "horizon": 2.0,
        "origins": 3,
        "exact": False,
    }
    with pytest.raises(InvalidJob, match="`--horizon` makes no sense"):
        changed(model, compare={"horizon": -2.0})


@pytest.mark.parametrize(
    "value", ["3", '{"no/leak": {"rate": 0.0}}', '{"no leak": {}}', '{"a": {"rate": 0}, "A": {"rate": 0}}']
)
def test_ablations_that_cannot_be_used_are_refused(make_model: MakeModel, value: str) -> None:
    with pytest.raises(InvalidTwin, match=r"`ablations` of .* cannot be used"):
        load_model(make_model(twin=f"{TWIN}\nablations = {value}\n"))
