"""Progress is shown on a terminal and silent elsewhere, and says how long each phase took."""

import time

import jax
import pytest

from bayestwin._base.progress import Progress


def test_it_is_silent_where_there_is_no_terminal(capfd: pytest.CaptureFixture) -> None:
    with Progress() as progress, progress.phase("draws", "drawing", 10) as phase:
        phase.advance(10, "all is well")
    assert capfd.readouterr() == ("", "")


def test_it_says_what_it_does_where_it_is_shown(capfd: pytest.CaptureFixture) -> None:
    with Progress(show=True) as progress, progress.phase("draws", "drawing", 10) as phase:
        phase.advance(4, "all is well")
    out, err = capfd.readouterr()
    assert out == ""
    for words in ("drawing", "4/10", "all is well"):
        assert words in err


def test_a_command_that_takes_long_says_what_it_is_at(
    capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bayestwin._base.progress.PATIENCE", 0.05)
    with Progress(began=time.perf_counter()) as progress:
        with progress.phase("ladder", "climbing", 4):
            compiling = time.time()
            time.sleep(1.2)
            jax.monitoring.record_event_time_span("/jax/core/compile/backend_compile_duration", compiling, time.time())
        with progress.phase("draws", "drawing [none]", 1000) as phase:
            phase.advance(1000)
    out, err = capfd.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert lines[0] == "climbing: 0 of 4, 0 s; the first step waits for what is compiled"
    assert any(line.startswith("climbing: 0 of 4, ") and line.endswith("1 s of them compiling") for line in lines)
    assert lines[-1] == "drawing [none]: 1,000 of 1,000, 0 s"


def test_a_command_that_is_soon_done_says_nothing(
    capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bayestwin._base.progress.PATIENCE", 5.0)
    with Progress(began=time.perf_counter()) as progress, progress.phase("draws", "drawing", 10) as phase:
        phase.advance(10)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("steps", [0, 10])
def test_compiling_is_called_so_until_the_first_step_is_done(capfd: pytest.CaptureFixture, steps: int) -> None:
    with Progress(show=True) as progress, progress.phase("draws", "drawing", 10) as phase:
        if steps:
            phase.advance(steps)
    assert ("compiling" in capfd.readouterr().err) == (steps == 0)


def test_phases_are_timed_also_where_they_fail() -> None:
    progress = Progress(show=False)
    with progress.phase("ladder", "climbing", 1):
        time.sleep(0.02)
    with pytest.raises(KeyError), progress.phase("draws", "drawing", 1):
        raise KeyError
    with progress.phase("ladder", "climbing", 1):
        time.sleep(0.02)
    assert 0.04 <= progress.timings["ladder"] < 5.0
    assert 0.0 <= progress.timings["draws"] < 0.02


def test_compiling_is_told_apart_from_the_phase_in_which_it_happens() -> None:
    progress = Progress(show=False, began=time.perf_counter() - 7.0)
    begun = time.perf_counter()
    with progress.phase("draws", "drawing", 1):
        compiling = time.time()
        time.sleep(0.04)
        jax.monitoring.record_event_time_span("/jax/core/compile/backend_compile_duration", compiling, time.time())
        time.sleep(0.02)
    with progress.timed("save"):
        time.sleep(0.02)
    passed = time.perf_counter() - begun
    told = progress.timings
    assert list(told) == ["import", "compile", "draws", "save"]
    assert 7.0 <= told["import"] < 7.0 + passed
    assert told["compile"] >= 0.04
    assert 0.02 <= told["draws"] <= passed - told["compile"]
    # no second in two of them
    assert told["compile"] + told["draws"] + told["save"] <= passed


def test_only_a_command_knows_how_long_its_imports_took() -> None:
    progress = Progress(show=False)
    with progress.timed("save"):
        pass
    assert list(progress.timings) == ["compile", "save"]


def test_a_part_with_phases_of_its_own_is_one_timing(capfd: pytest.CaptureFixture) -> None:
    progress = Progress(show=True)
    with progress, progress.phase("draws", "drawing", 1):
        pass
    with progress.part("beside/[none]") as part, part, part.phase("draws", "drawing again", 7) as phase:
        phase.advance(5)
        time.sleep(0.02)
    assert list(progress.timings) == ["compile", "draws", "beside/[none]"]
    assert progress.timings["draws"] < 0.02 <= progress.timings["beside/[none]"]
    _, err = capfd.readouterr()
    assert err.index("drawing") < err.index("beside/[none]") < err.index("drawing again")
    assert "5/7" in err


def test_a_part_is_as_silent_as_the_whole(capfd: pytest.CaptureFixture) -> None:
    progress = Progress(show=False)
    with progress.part("beside/none") as part, part, part.phase("draws", "drawing", 7):
        pass
    assert capfd.readouterr() == ("", "")
