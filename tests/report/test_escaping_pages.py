"""Text from users becomes markup on no page: report, validation, ranks, batch (fault 91); units cannot hold any."""

import pathlib
from html.parser import HTMLParser

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr
from tank_model import JOB, run_command, telemetry_text, write_model

import bayestwin as bt
from bayestwin.assess import Gate
from bayestwin.errors import InvalidTelemetry, InvalidTwin
from bayestwin.project.batch import Refused, Task, TaskOutcome, write_page
from bayestwin.report.insight import render_ranks

EVIL = "<script>alert(1)</script>"
FOLDER = "<script>alert(1)"  # a name of a folder holds no slash
BREAKOUT = '"><img src=x onerror=alert(1)>'


class Seen(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.handlers += [name for name, value in attrs if name.startswith("on") or "alert(1)" in str(value) == "href"]

    def handle_data(self, data):
        self.text += data


def check_harmless(page: str, *shown: str) -> None:
    """Nothing of ours is an image from elsewhere, or has handlers; a script of ours never holds text of a user."""
    seen = Seen(page)
    assert "img" not in seen.tags
    assert seen.handlers == []
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    for text in shown:
        assert text in seen.text


def sbc_of(names: list[str]) -> xr.Dataset:
    """What `sbc` returns, of quantities with these names."""
    z, num = np.linspace(0.1, 0.9, 9), 20
    curves = {key: (("quantity", "z"), np.tile(z, (len(names), 1))) for key in ("ecdf", "band_lower", "band_upper")}
    variables = curves | {
        "within_band": ("quantity", np.ones(len(names), dtype=bool)),
        "ess": ("quantity", np.full(len(names), 60.0)),
        "diverging": ("simulation", np.zeros(num)),
    }
    attrs = {"level": 0.95, "num_draws": 63, "not_solved": 0, "twin": EVIL, "job": BREAKOUT}
    return xr.Dataset(variables, {"quantity": names, "z": z, "simulation": np.arange(num)}, attrs)


def test_the_page_of_ranks() -> None:
    gate = Gate("sbc" + EVIL, False, 1.0, 0.0, f"ranks of `{EVIL}` and {BREAKOUT}")
    check_harmless(render_ranks(sbc_of([EVIL, BREAKOUT]), [gate]), EVIL, BREAKOUT)


def test_the_page_of_a_batch(tmp_path: pathlib.Path) -> None:
    task = Task(EVIL + BREAKOUT, EVIL, "job.toml", EVIL, str(tmp_path), "0")
    outcome = TaskOutcome(task, "failed", str(tmp_path / FOLDER / "1"), 1, 2.0, f"error: `{EVIL}` {BREAKOUT}")
    (tmp_path / FOLDER / "1").mkdir(parents=True)
    (tmp_path / FOLDER / "1" / "report.html").write_text("", encoding="utf-8")
    page = write_page(tmp_path / "batch.html", [outcome], [Refused(EVIL, BREAKOUT)], f"1 failed {EVIL}")
    text = page.read_text(encoding="utf-8")
    check_harmless(text, EVIL, BREAKOUT)
    assert 'href="&lt;script&gt;alert(1)/1/report.html"' in text


@pytest.mark.thorough
def test_the_pages_of_a_run_and_of_its_validation(tmp_path: pathlib.Path) -> None:
    """A hostile folder, source of the telemetry, column that tells regimes apart, card and doc of a parameter."""
    lines = telemetry_text().splitlines()
    rows = [f"{line},{number % 2 + 1}" for number, line in enumerate(lines[2:])]
    job = JOB.replace('units = { gauge = "m", pump', f'units = {{ \'{EVIL}\' = "m", gauge = "m", pump')
    job += f"[validate]\nby = ['{EVIL}']\n"
    model = write_model(tmp_path / "models" / FOLDER, job=job)
    (model / "data" / "tank.csv").write_text("\n".join([f"hour,gauge,pump,{EVIL}", *rows]), encoding="utf-8")
    (model / "card.md").write_text(f"# {EVIL}\n\n{BREAKOUT}\n", encoding="utf-8")
    twin = (model / "twin.py").read_text(encoding="utf-8")
    twin = twin.replace("height of the water", EVIL).replace("rate of the leak", BREAKOUT.replace('"', "'"))
    (model / "twin.py").write_text(twin, encoding="utf-8")
    results = tmp_path / "results"
    for arguments in (("calibrate",), ("validate", "--no-backtest")):
        code, out, err = run_command(arguments[0], model, *arguments[1:], "--results", results)
        assert code in (0, 1), out + err
        assert "Traceback" not in err
    (report,) = results.rglob("report.html")
    (validation,) = results.rglob("validation.html")
    check_harmless(report.read_text(encoding="utf-8"), EVIL)
    check_harmless(validation.read_text(encoding="utf-8"), EVIL)


def test_a_unit_is_one_that_pint_knows() -> None:
    with pytest.raises(InvalidTwin, match="does not parse"):
        bt.Parameter(dist.Normal(0.0, 1.0), unit=EVIL) and bt.Twin(
            name="x",
            vector_field=lambda t, x, p, u: {"x": -p.a * x.x},
            states={"x": bt.State(1.0)},
            parameters={"a": bt.Parameter(dist.Normal(0.0, 1.0), unit=EVIL)},
            observations={"x": bt.Observation(bt.Gaussian(0.1))},
            time_unit="s",
        )
    table = pd.DataFrame({"x": [1.0, 2.0]}, index=pd.Index([0.0, 1.0], name="time"))
    with pytest.raises(InvalidTelemetry, match="does not parse"):
        bt.read_telemetry(table, units={"x": EVIL})
