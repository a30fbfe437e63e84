"""Ctrl-C while draws are made ends sampling with what there is; before the first draw it ends the run."""

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from twins import decay_telemetry, known_decay

import bayestwin as bt
from bayestwin._base.progress import Phase, Progress
from bayestwin.inference.climb import Mode
from bayestwin.inference.method import Settings
from bayestwin.inference.nuts import sample_nuts
from bayestwin.inference.starts import Starts

ROOT = Path(__file__).parents[1]

# Says what it is doing on standard output, so that the test can interrupt it at the right moment and at no other.
CALIBRATES = """
import contextlib, json, signal, sys
# a shell that started the tests in the background has made them deaf to Ctrl-C
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, "tests")
import numpy as np
import bayestwin as bt
from bayestwin._base.progress import Progress
from twins import decay_telemetry, known_decay

class Speaking(Progress):
    @contextlib.contextmanager
    def phase(self, name, words, total):
        class Running:
            def advance(self, steps, note=""):
                print("progress", name, flush=True)
        yield Running()

tree = bt.calibrate(
    known_decay(), decay_telemetry(), seed=0, num_warmup=75, num_samples=10_000_000, num_chains=2, progress=Speaking()
)
posterior, predictive = tree["posterior"].to_dataset(), tree["posterior_predictive"].to_dataset()
found = {
    "interrupted": tree.attrs["interrupted"],
    "draws": posterior.sizes["draw"],
    "statistics": tree["sample_stats"].sizes["draw"],
    "likelihoods": tree["log_likelihood"].sizes["draw"],
    "finite": bool(np.isfinite(posterior.to_array()).all() and np.isfinite(predictive.to_array()).all()),
    "mean": float(posterior["level_initial"].mean()),
}
print("result", json.dumps(found), flush=True)
"""


@pytest.mark.thorough
def test_a_partial_posterior_is_returned() -> None:
    command = [sys.executable, "-u", "-c", CALIBRATES]
    found, seen = None, 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            for line in process.stdout:
                seen += line == "progress draws\n"
                if line == "progress draws\n" and seen == 3:
                    process.send_signal(signal.SIGINT)
                assert seen < 10_000, "it goes on drawing"
                if line.startswith("result "):
                    found = json.loads(line.removeprefix("result "))
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert found["interrupted"]
    assert 75 <= found["draws"] < 10_000_000
    assert found["draws"] % 25 == 0
    assert found["statistics"] == found["likelihoods"] == found["draws"]
    assert found["finite"]
    assert 4.0 < found["mean"] < 6.0


@pytest.fixture
def listening() -> Iterator[None]:
    """Ctrl-C is heard, also where the tests were started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Interrupting(Progress):
    """Sends this process a Ctrl-C at the first sign of progress in a phase."""

    def __init__(self, name: str) -> None:
        super().__init__(show=False)
        self.name = name

    @contextlib.contextmanager
    def phase(self, name: str, words: str, total: int) -> Iterator[Phase]:
        """As of `Progress`."""
        with super().phase(name, words, total) as running:

            class Struck:
                def advance(self, steps: int, note: str = "") -> None:
                    running.advance(steps, note)
                    if name == wanted:
                        signal.raise_signal(signal.SIGINT)

            wanted = self.name
            yield Struck()


@pytest.mark.usefixtures("listening")
def test_while_starts_are_sought_it_is_a_keyboard_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt):
        bt.calibrate(known_decay(), decay_telemetry(), seed=0, progress=Interrupting("ladder"))


@pytest.mark.usefixtures("listening")
def test_during_warm_up_it_is_a_keyboard_interrupt() -> None:
    mode = Mode(np.zeros(1), 0.0, np.eye(1), 1.0)
    starts, settings = Starts(np.zeros((2, 1)), (mode,), {}), Settings(num_warmup=75, num_samples=25, num_chains=2)
    with pytest.raises(KeyboardInterrupt):
        sample_nuts(lambda z: -0.5 * z @ z, starts, settings=settings, seed=0, progress=Interrupting("warmup"))
