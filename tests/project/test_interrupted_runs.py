"""Ctrl-C while a run draws keeps the draws made, says so everywhere, and exits with 130."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from tank_model import JOB, MakeModel, parse_strictly, run_command

import bayestwin as bt
from bayestwin._base.progress import Phase, Progress
from bayestwin.project.calibrate import calibrate_model
from bayestwin.project.model import load_model
from bayestwin.project.record import read_record

ENDLESS = JOB.replace("num_samples = 75", "num_samples = 100_000_000")


class Terminal:
    """A terminal of which a test reads what is shown on it."""

    def __init__(self) -> None:
        self.ours, self.theirs = os.openpty()
        self.shown = ""
        self.changed = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self.ours, 65536)
            except OSError:  # nobody writes any more
                data = b""
            with self.changed:
                self.shown += data.decode(errors="replace")
                self.changed.notify_all()
            if not data:
                return

    def wait_for(self, pattern: str, seconds: float) -> bool:
        """Whether a pattern is shown in time."""
        with self.changed:
            return self.changed.wait_for(lambda: re.search(pattern, self.shown) is not None, seconds)


def interrupt(model: pathlib.Path, results: pathlib.Path, pattern: str) -> tuple[int, str, str]:
    """Calibrate, and press Ctrl-C once the progress on the terminal shows a pattern: code, output, what was shown."""
    command = [sys.executable, "-c", "from bayestwin.cli import app; app()"]
    command += ["calibrate", str(model), "--results", str(results), "--json"]
    terminal = Terminal()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal.theirs, text=True, env=environment) as run:
        os.close(terminal.theirs)
        terminal.reader.start()
        try:
            assert terminal.wait_for(pattern, 180), terminal.shown
            run.send_signal(signal.SIGINT)
            out, _ = run.communicate(timeout=180)
        finally:
            run.kill()
    terminal.reader.join(10)
    os.close(terminal.ours)
    return run.returncode, out, terminal.shown


@pytest.mark.thorough
def test_the_draws_made_until_then_are_kept(make_model: MakeModel, tmp_path: pathlib.Path) -> None:
    # the bar says how many transitions are done: three digits or more are draws that were kept
    code, out, shown = interrupt(make_model(job=ENDLESS), tmp_path / "results", r"drawing[^\n\r]*\d{3,}/1")
    assert code == 130, shown
    assert "Traceback" not in shown
    (run,) = (tmp_path / "results" / "tank").iterdir()
    record = parse_strictly((run / "run.json").read_text(encoding="utf-8"))
    assert record["status"] == parse_strictly(out)["status"] == "interrupted"
    results = {name for name in record["outputs"] if not name.startswith("inputs/")}
    assert results == {"posterior.nc", "predictions.nc", "report.html", "checkpoint.nc"}
    posterior = bt.load(run / "posterior.nc")
    assert posterior.attrs["interrupted"] is True
    assert 100 <= posterior["posterior"].sizes["draw"] < 100_000_000
    assert "interrupted" in (run / "report.html").read_text(encoding="utf-8")


class Interrupting(Progress):
    """Presses Ctrl-C when the first phase begins."""

    @contextlib.contextmanager
    def phase(self, name: str, words: str, total: int) -> Iterator[Phase]:
        """As of `Progress`."""
        with super().phase(name, words, total) as running:
            signal.raise_signal(signal.SIGINT)
            yield running


def test_before_the_first_draw_there_is_only_a_record(make_model: MakeModel, tmp_path: pathlib.Path) -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        calibrate_model(load_model(make_model()), tmp_path / "results", progress=Interrupting(show=False))
    (run,) = (tmp_path / "results" / "tank").iterdir()
    assert caught.value.__notes__ == [f"What is left of this run lies in `{run}`."]
    assert read_record(run)["status"] == "interrupted"
    assert sorted(path.name for path in run.iterdir()) == ["inputs", "run.json"]


def test_at_any_other_time_it_is_130_and_one_word(make_model: MakeModel) -> None:
    model = make_model(twin="import signal\n\nsignal.raise_signal(signal.SIGINT)\n")
    assert run_command("check", model) == (130, "", "interrupted\n")
