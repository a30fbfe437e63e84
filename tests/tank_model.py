"""The model folder of a tank, which is quickly calibrated, and the command line run in this process."""

import json
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from typer.testing import CliRunner

from bayestwin.cli import app

TWIN = '''"""A leaking tank, with one thing to infer."""

import numpyro.distributions as dist

import bayestwin as bt


def vector_field(t, x, p, u):
    """It leaks, and a pump fills it."""
    return {"level": u.pump - p.rate * x.level}


twin = bt.Twin(
    name="tank",
    vector_field=vector_field,
    states={"level": bt.State(5.0, unit="m", doc="height of the water")},
    parameters={"rate": bt.Parameter(dist.LogNormal(0.0, 0.5), unit="1/h", doc="rate of the leak")},
    inputs={"pump": bt.Input(unit="m/h")},
    observations={"level": bt.Observation(bt.Gaussian(0.1), unit="m")},
    time_unit="h",
)
'''

JOB = """
[telemetry]
file = "data/tank.csv"
time = "hour"
units = { gauge = "m", pump = "m/h" }
rename = { gauge = "level" }

[split]
hold_out_from = 6.0

[calibrate]
num_warmup = 75
num_samples = 75
num_chains = 2
predictive_draws = 60

[predict]
draws = 60

[gates]
max_rhat = 1.2
min_ess_per_chain = 5
"""

SECRET = "hunter2-of-the-environment"

CARD = "# tank\n\nA leaking tank with a pump.\n\n## What it assumes\n- nothing\n"

type MakeModel = Callable[..., pathlib.Path]


class Ran(NamedTuple):
    """A command that has run: its exit code, what it printed, and where the model and its runs lie."""

    code: int
    out: str
    err: str
    model: pathlib.Path
    results: pathlib.Path

    @property
    def runs(self) -> list[pathlib.Path]:
        """Folders of the model's runs, oldest first."""
        return sorted((self.results / self.model.name).iterdir())


class Runs(NamedTuple):
    """Where runs are filed, and their folders, oldest first."""

    results: pathlib.Path
    folders: list[pathlib.Path]


def telemetry_text(num: int = 41) -> str:
    """Ten hours of `level' = pump − 0.8 level` with noise, as CSV."""
    rng = np.random.default_rng(8)
    hours = np.linspace(0.0, 10.0, num)
    pump = 1.0 + 0.2 * hours
    # exact: level = a + b t + (5 − a) exp(−0.8 t)
    b = 0.2 / 0.8
    a = (1.0 - b) / 0.8
    level = a + b * hours + (5.0 - a) * np.exp(-0.8 * hours) + 0.1 * rng.standard_normal(num)
    rows = "".join(f"{t:g},{v:.4f},{u:.4f}\n" for t, v, u in zip(hours, level, pump, strict=True))
    return f"# of a tank\nhour,gauge,pump\n{rows}"


def write_model(folder: pathlib.Path, *, twin: str = TWIN, job: str = JOB) -> pathlib.Path:
    """Write a model folder."""
    (folder / "data").mkdir(parents=True)
    (folder / "twin.py").write_text(twin, encoding="utf-8")
    (folder / "job.toml").write_text(job, encoding="utf-8")
    (folder / "card.md").write_text(CARD, encoding="utf-8")
    (folder / "data" / "tank.csv").write_text(telemetry_text(), encoding="utf-8")
    return folder


def run_command(*arguments: object) -> tuple[int, str, str]:
    """Run the command line in this process: exit code, standard output, standard error."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


def parse_strictly(text: str) -> object:
    """JSON as the standard has it: NaN and Infinity, which Python takes, are errors."""

    def refuse(constant: str) -> None:
        message = f"{constant} is no JSON"
        raise ValueError(message)

    return json.loads(text, parse_constant=refuse)
