"""What README and docs show runs as it stands: Python in an empty folder, job files against the settings, links."""

import os
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

from bayestwin.project.scenario import ScenarioFile
from bayestwin.project.sections import Job

ROOT = pathlib.Path(__file__).parent.parent

HOME = (
    "https://github.com/bayestwin/bayestwin/blob/main/",
    "https://raw.githubusercontent.com/bayestwin/bayestwin/main/",
)
"""Where the README's pages and pictures are for those who read it at the package index, which has nothing beside it."""

PAGES = (
    "telemetry",
    "inference",
    "fleets",
    "worked-examples",
    "model-error",
    "trust",
    "monitoring",
    "living-twin",
    "insight",
    "scenarios",
    "jobs",
    "registry",
    "serving",
    "runs",
    "extending",
    "models-that-exist",
    "petab",
    "fmu",
)
"""In the order in which their Python is run, after the README's."""

SITE = ("index", "examples", "cli", "changelog")
"""Pages that the site has beside the guide; `test_docs.py` is about them."""

TEXTS = {
    path: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *(ROOT / f"docs/{p}.md" for p in PAGES))
}


def blocks(language: str, *texts: str) -> list[str]:
    """Code in the README and the pages, or in some texts."""
    fence = re.compile(rf"```{language}\n(.*?)```", flags=re.DOTALL)
    return [code for text in texts or TEXTS.values() for code in fence.findall(text)]


def run(folder: pathlib.Path, code: list[str]) -> str:
    """What Python prints that is run from top to bottom as a user would: one file, warnings left on."""
    (folder / "first.py").write_text("\n".join(code), encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "PYTEST_"))}
    done = subprocess.run(
        [sys.executable, "first.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the README's Python prints."""
    return run(tmp_path_factory.mktemp("readme"), blocks("python", TEXTS[ROOT / "README.md"]))


@pytest.mark.slow
def test_the_pages_go_on_from_it(tmp_path: pathlib.Path) -> None:
    assert "pass" in run(tmp_path, blocks("python"))


def test_the_first_posterior_passes_its_gates(printed: str) -> None:
    assert "pass 4 of 4 chains agree" in printed
    assert not re.search(r"^(fail|warn) ", printed, flags=re.MULTILINE)


def test_the_first_posterior_finds_the_truth(printed: str) -> None:
    """R = 0.6 K/W lies within three standard deviations of the mean that the summary prints."""
    mean, sd = (float(x) for x in re.search(r"^R +(\S+) +(\S+)", printed, flags=re.MULTILINE).groups())
    assert abs(mean - 0.6) < 3.0 * sd


def test_the_job_file_is_valid_and_shows_the_defaults() -> None:
    scenarios = TEXTS[ROOT / "docs/scenarios.md"]
    assert [ScenarioFile.model_validate(tomllib.loads(text)) for text in blocks("toml", scenarios)]
    jobs = [
        Job.model_validate(tomllib.loads(text))
        for text in blocks("toml", *(text for text in TEXTS.values() if text is not scenarios))
    ]
    job = max(jobs, key=lambda one: len(one.model_fields_set))
    for section in (job.calibrate, job.gates, job.validation):
        assert section == type(section)()


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: pathlib.Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", TEXTS[path]):
        assert (path.parent / target).exists(), target


def test_the_readme_links_and_shows_what_is_in_the_repository_by_whole_addresses() -> None:
    targets = re.findall(r"\]\(([^)#]+)", TEXTS[ROOT / "README.md"])
    assert [target for target in targets if not target.startswith("https://")] == []
    own = [target.removeprefix(home) for target in targets for home in HOME if target.startswith(home)]
    assert len(own) >= len(PAGES)
    assert [path for path in own if not (ROOT / path).exists()] == []


def test_pictures_are_whole_files_and_not_pages_about_them() -> None:
    shown = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", TEXTS[ROOT / "README.md"])
    assert shown
    assert all(target.startswith(HOME[1]) for target in shown)


def test_each_page_is_linked_in_the_readme() -> None:
    pages = {path for path in (ROOT / "docs").glob("*.md") if path.stem not in SITE}
    assert {f"docs/{page}.md" for page in PAGES} == {f"docs/{path.name}" for path in pages}
    for page in PAGES:
        assert f"]({HOME[0]}docs/{page}.md)" in TEXTS[ROOT / "README.md"]
