"""What the README shows runs as it stands: its Python in an empty folder, its job file against the settings."""

import os
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

from bayestwin.runs.sections import Job

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the README's Python prints, run from top to bottom as a user would: one file, warnings left on."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "first.py").write_text("\n".join(blocks("python")), encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "PYTEST_"))}
    done = subprocess.run(
        [sys.executable, "first.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return done.stdout


def test_the_first_posterior_passes_its_gates(printed: str) -> None:
    assert "pass 4 of 4 chains agree" in printed
    gates = printed.split("<xarray", 1)[0]  # findings about the telemetry, which come later, may warn
    assert not re.search(r"^(fail|warn) ", gates, flags=re.MULTILINE)


def test_the_first_posterior_finds_the_truth(printed: str) -> None:
    """R = 0.6 K/W lies within three standard deviations of the mean that the summary prints."""
    mean, sd = (float(x) for x in re.search(r"^R +(\S+) +(\S+)", printed, flags=re.MULTILINE).groups())
    assert abs(mean - 0.6) < 3.0 * sd


def test_the_job_file_is_valid_and_shows_the_defaults() -> None:
    text, *others = blocks("toml")
    for other in others:
        Job.model_validate(tomllib.loads(other))
    shown = tomllib.loads(text)
    job = Job.model_validate(shown)
    for section in (job.calibrate, job.gates, job.validation):
        assert section == type(section)()
