"""Whoever dies or races, there is one production and no event is lost; a log that was changed is refused."""

import json
import multiprocessing
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest

from bayestwin.errors import CorruptArtifact, InvalidSetting, RunLocked, StorageFailure
from bayestwin.registry import log as registry_log
from bayestwin.registry.log import (
    EMPTY,
    LOCK,
    LOG,
    POINTER,
    Head,
    RegistryEvent,
    append,
    events_until,
    read_log,
    stages_after,
)

PROMOTER = pathlib.Path(__file__).parent / "promoter.py"


def promote(folder: pathlib.Path, run: str, expected: Head | None = None, **told: object) -> RegistryEvent:
    known = {"event": "promote", "stage": "prod", "who": "Ann", "why": "better", "record_sha256": "r"}
    return append(folder, expected, run=run, **{**known, "posterior_sha256": f"hash of {run}", **told})


@pytest.fixture(scope="module")
def five_events(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A, B and C come to production, which goes back to B; D comes to staging. Change nothing in it."""
    folder = tmp_path_factory.mktemp("five")
    for run in "ABC":
        promote(folder, run)
    promote(folder, "B", event="rollback")
    promote(folder, "D", stage="staging")
    return folder


@pytest.fixture
def filled(five_events: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the log of five events."""
    return shutil.copytree(five_events, tmp_path, dirs_exist_ok=True)


def test_events_come_back_and_say_what_is_where(filled: pathlib.Path) -> None:
    log = read_log(filled)
    assert [one.seq for one in log.events] == [1, 2, 3, 4, 5]
    assert log.events[0].previous == EMPTY.sha256
    assert all(later.previous == one.sha256 for one, later in zip(log.events, log.events[1:], strict=False))
    stages = stages_after(log.events)
    assert [one.run for one in stages.productions] == ["A", "B"]
    assert stages.staging.run == "D"
    promote(filled, "D")
    promote(filled, "B", event="rollback")
    promote(filled, "A", event="rollback")
    stages = stages_after(read_log(filled).events)
    assert (stages.production.run, stages.staging) == ("A", None)


def test_an_empty_folder_has_an_empty_log(tmp_path: pathlib.Path) -> None:
    assert read_log(tmp_path) == registry_log.RegistryLog(tmp_path / LOG, (), 0)
    assert list(tmp_path.iterdir()) == []


def test_no_file_stays_open(tmp_path: pathlib.Path) -> None:
    before = len(os.listdir("/dev/fd"))
    for run in "ABC":
        promote(tmp_path, run)
    assert len(os.listdir("/dev/fd")) == before


# A log that someone changed.


def lines_of(folder: pathlib.Path) -> list[bytes]:
    return (folder / LOG).read_bytes().splitlines(keepends=True)


def changed(folder: pathlib.Path, lines: list[bytes]) -> str:
    (folder / LOG).write_bytes(b"".join(lines))
    with pytest.raises(CorruptArtifact) as found:
        read_log(folder)
    with pytest.raises(CorruptArtifact):
        promote(folder, "E")
    assert (folder / LOG).read_bytes() == b"".join(lines)
    return str(found.value)


@pytest.mark.parametrize("number", range(1, 6))
@pytest.mark.parametrize("field", [name for name in RegistryEvent._fields if name not in ("overridden", "evidence")])
def test_an_edited_line_is_told_by_its_number(filled: pathlib.Path, number: int, field: str) -> None:
    lines = lines_of(filled)
    content = json.loads(lines[number - 1])
    content[field] = content[field] + 1 if isinstance(content[field], int) else content[field] + "0"
    lines[number - 1] = registry_log._canonical(content) + b"\n"
    assert f"Line {number} of " in changed(filled, lines)


@pytest.mark.parametrize("number", range(1, 6))
def test_a_space_in_a_line_is_told(filled: pathlib.Path, number: int) -> None:
    lines = lines_of(filled)
    lines[number - 1] = lines[number - 1].replace(b",", b", ", 1)
    assert f"Line {number} of " in changed(filled, lines)


@pytest.mark.parametrize("number", range(1, 6))
def test_a_line_written_anew_with_a_hash_that_fits_is_told(filled: pathlib.Path, number: int) -> None:
    """What follows it, or the pointer, knows the hash of the one that was there."""
    lines = lines_of(filled)
    content = json.loads(lines[number - 1]) | {"who": "Mallory"}
    del content["sha256"]
    lines[number - 1] = registry_log._line(content)[0]
    told = changed(filled, lines)
    assert f"Line {number + 1 if number < 5 else 5} of " in told


@pytest.mark.parametrize("number", range(1, 6))
def test_a_deleted_line_is_told(filled: pathlib.Path, number: int) -> None:
    lines = lines_of(filled)
    del lines[number - 1]
    told = changed(filled, lines)
    assert (f"Line {number} of " in told) if number < 5 else ("ends after line 4: its end was cut off" in told)


@pytest.mark.parametrize(("one", "other"), [(1, 2), (2, 4), (3, 5), (4, 5)])
def test_moved_lines_are_told(filled: pathlib.Path, one: int, other: int) -> None:
    lines = lines_of(filled)
    lines[one - 1], lines[other - 1] = lines[other - 1], lines[one - 1]
    told = changed(filled, lines)
    assert f"Line {one} of " in told
    assert "does not follow" in told


@pytest.mark.parametrize("number", range(1, 7))
def test_a_line_put_in_is_told(filled: pathlib.Path, number: int) -> None:
    lines = lines_of(filled)
    lines.insert(number - 1, lines[min(number, 5) - 1])
    told = changed(filled, lines)
    assert f"Line {min(number + 1, 6)} of " in told


@pytest.mark.parametrize("kept", range(5))
def test_an_end_that_was_cut_off_is_told(filled: pathlib.Path, kept: int) -> None:
    assert f"ends after line {kept}: its end was cut off" in changed(filled, lines_of(filled)[:kept])


@pytest.mark.parametrize("cut", [1, 2, 40, 200])
def test_a_last_line_cut_short_is_told_although_a_dead_writer_leaves_the_like(filled: pathlib.Path, cut: int) -> None:
    """The pointer says that it had been written."""
    lines = lines_of(filled)
    assert "cut off" in changed(filled, [*lines[:-1], lines[-1][:-cut]])


def test_a_log_that_is_gone_is_told(filled: pathlib.Path) -> None:
    (filled / LOG).unlink()
    with pytest.raises(CorruptArtifact, match="ends after line 0"):
        read_log(filled)


@pytest.mark.parametrize(
    "text", [None, "", "{}", '{"seq": 5, "sha256": 7}', "[" * 100_000, '{"seq": -1, "sha256": ""}']
)
def test_a_pointer_that_is_gone_or_something_else_is_told(filled: pathlib.Path, text: str | None) -> None:
    (filled / POINTER).unlink()
    if text is not None:
        (filled / POINTER).write_text(text)
    with pytest.raises(CorruptArtifact, match=re.escape(str(filled / POINTER))):
        read_log(filled)


def test_an_old_pointer_put_back_is_told(tmp_path: pathlib.Path) -> None:
    promote(tmp_path, "A")
    old = (tmp_path / POINTER).read_bytes()
    promote(tmp_path, "B")
    promote(tmp_path, "C")
    (tmp_path / POINTER).write_bytes(old)
    with pytest.raises(CorruptArtifact, match="is older than the log from line 3 on"):
        read_log(tmp_path)


@pytest.mark.parametrize(
    "told",
    [
        {"run": "../elsewhere"},
        {"run": ".."},
        {"run": "a/b"},
        {"run": ""},
        {"why": "x" * 2_000_000},
        {"why": "\udc80"},
        {"when": "yesterday"},
        {"when": "2026-11-30T12:00:00"},
        {"evidence": {"value": float("nan")}},
        {"evidence": {"value": {1}}},
        {"stage": "moon"},
    ],
)
def test_what_cannot_be_a_line_is_refused_and_leaves_the_log(filled: pathlib.Path, told: dict[str, object]) -> None:
    before = (filled / LOG).read_bytes()
    with pytest.raises(InvalidSetting, match="cannot be written to the log"):
        promote(filled, **({"run": "E"} | told))
    assert (filled / LOG).read_bytes() == before


def test_a_line_break_in_words_stays_in_its_line(filled: pathlib.Path) -> None:
    why = 'first\nsecond\r\u2028{"seq": 1}'
    promote(filled, "E", why=why)
    assert read_log(filled).events[-1].why == why
    assert (filled / LOG).read_bytes().count(b"\n") == 6


# Clocks.


def test_events_are_ordered_by_their_number_where_a_clock_goes_back(tmp_path: pathlib.Path) -> None:
    for run, when in (("A", "2026-03-01T10:00:00+00:00"), ("B", "2026-01-01T00:00:00+00:00")):
        promote(tmp_path, run, when=when)
    promote(tmp_path, "C", when="2026-03-03T10:00:00+00:00")
    events = read_log(tmp_path).events
    assert stages_after(events).production.run == "C"
    at = {
        "2026-02-28T00:00:00+00:00": None,  # by its own clock B would have been there already
        "2026-03-01T10:00:00+00:00": "B",
        "2026-03-02T00:00:00+01:00": "B",
        "2026-03-04T00:00:00+00:00": "C",
    }
    for moment, run in at.items():
        found = stages_after(events_until(events, registry_log.datetime.datetime.fromisoformat(moment))).production
        assert (found.run if found else None) == run, moment


# Deaths.


def ran(folder: pathlib.Path, *numbers: int) -> tuple[int, list[str]]:
    done = subprocess.run([sys.executable, PROMOTER, folder, *map(str, numbers)], capture_output=True, text=True)
    return done.returncode, done.stdout.splitlines()


def check_after_death(folder: pathlib.Path, told: list[str]) -> None:
    """Every event that was told is in the log, at most one more is, and the next promoter goes on."""
    log = read_log(folder)
    there = [f"{one.seq} {one.sha256}" for one in log.events]
    assert there[: len(told)] == told
    assert len(there) <= len(told) + 1
    before = stages_after(log.events).productions
    added = promote(folder, "after", log.head)
    after = read_log(folder)
    assert (added.mended, after.torn) == (log.torn, 0)
    assert after.events[:-1] == log.events
    assert stages_after(after.events).productions[:-1] == before
    assert json.loads((folder / POINTER).read_bytes()) == {"seq": after.head.seq, "sha256": after.head.sha256}
    assert [path.name for path in folder.glob(".bayestwin-*")] == []


def test_death_at_each_call_of_the_system_loses_nothing_that_was_told(tmp_path: pathlib.Path) -> None:
    outcomes = set()
    for call in range(40):
        folder = tmp_path / str(call)
        folder.mkdir()
        code, told = ran(folder, 3, call)
        log = read_log(folder)
        outcomes.add((len(told), len(log.events), log.torn > 0))
        check_after_death(folder, told)
        if code == 0:
            break
    assert code == 0
    # before the line, within it, after it and before it is told, for each of three events
    assert outcomes == {(n, n, False) for n in range(4)} | {(n, n, True) for n in range(3)} | {
        (n, n + 1, False) for n in range(3)
    }


def test_the_old_production_holds_until_the_line_is_whole(tmp_path: pathlib.Path) -> None:
    promote(tmp_path, "A")
    whole, pointer = (tmp_path / LOG).read_bytes(), (tmp_path / POINTER).read_bytes()
    promote(tmp_path, "B")
    line = (tmp_path / LOG).read_bytes().removeprefix(whole)
    (tmp_path / POINTER).write_bytes(pointer)
    for size in range(len(line)):
        (tmp_path / LOG).write_bytes(whole + line[:size])
        log = read_log(tmp_path)
        assert (log.torn, [one.run for one in log.events]) == (size, ["A"])
    (tmp_path / LOG).write_bytes(whole + line)
    assert [one.run for one in read_log(tmp_path).events] == ["A", "B"]
    (tmp_path / LOG).write_bytes(whole + b"\0" * (len(line) - 1) + b"\n")  # as a host leaves it that lost its power
    assert read_log(tmp_path).torn == len(line)
    promote(tmp_path, "C")
    assert [one.run for one in read_log(tmp_path).events] == ["A", "C"]


def kill_often(root: pathlib.Path, kills: int, seed: int) -> int:
    """Kill promoters at random moments, twenty one after the other on each log; how many of them had begun an event."""
    rng = random.Random(seed)
    torn = 0
    for number in range(kills):
        folder = root / str(number // 20)
        folder.mkdir(exist_ok=True)
        before = len(read_log(folder).events)
        with subprocess.Popen([sys.executable, PROMOTER, folder], stdout=subprocess.PIPE, text=True) as process:
            first = process.stdout.readline()
            time.sleep(rng.uniform(0.0, 0.01))
            process.send_signal(signal.SIGKILL)
            told = [first.rstrip("\n"), *process.stdout.read().splitlines()]
        told = [line for line in told if re.fullmatch(r"\d+ [0-9a-f]{64}", line)]
        log = read_log(folder)
        there = [f"{one.seq} {one.sha256}" for one in log.events]
        assert there[before : before + len(told)] == told
        # one more may be in the log, whose promoter died before it could say so
        assert len(there) in (before + len(told), before + len(told) + 1)
        seen = [one.seq for one in log.events]
        assert seen == list(range(1, len(seen) + 1))
        productions = stages_after(log.events).productions
        assert productions
        assert productions[-1].seq <= log.head.seq
        torn += len(there) > before + len(told) or log.torn > 0 or _lags(folder, log.head)
    for folder in root.iterdir():
        promote(folder, "after")
        assert read_log(folder).torn == 0
    return torn


def _lags(folder: pathlib.Path, head: Head) -> bool:
    return json.loads((folder / POINTER).read_bytes())["seq"] < head.seq


def test_kills_lose_no_event(tmp_path: pathlib.Path) -> None:
    kill_often(tmp_path, 30, seed=1)


@pytest.mark.slow
def test_a_thousand_kills_lose_no_event(tmp_path: pathlib.Path) -> None:
    assert kill_often(tmp_path, 1000, seed=2) >= 20  # that many fell between a line and what says that it is there


# Races.


def race(folder: pathlib.Path, name: str, barrier: object, told: object) -> None:
    head = read_log(folder).head
    barrier.wait()
    try:
        told.put((name, append_as(folder, name, head).seq))
    except RunLocked as reason:
        told.put((name, str(reason)))


def append_as(folder: pathlib.Path, name: str, head: Head) -> RegistryEvent:
    return promote(folder, f"run-of-{name}", head, who=name)


def test_of_two_promoters_that_saw_the_same_log_one_wins(tmp_path: pathlib.Path) -> None:
    spawn = multiprocessing.get_context("forkserver")
    promote(tmp_path, "A")
    for number in range(6):
        barrier, told = spawn.Barrier(2), spawn.SimpleQueue()
        both = [spawn.Process(target=race, args=(tmp_path, name, barrier, told)) for name in ("Ann", "Bob")]
        for one in both:
            one.start()
        answers = dict(told.get() for _ in both)
        for one in both:
            one.join()
        (winner,) = [name for name, answer in answers.items() if isinstance(answer, int)]
        (refused,) = [answer for answer in answers.values() if isinstance(answer, str)]
        assert f"`{tmp_path.name}` was changed by someone else meanwhile" in refused
        assert f"promote of `run-of-{winner}` by {winner}" in refused
        events = read_log(tmp_path).events
        assert len(events) == number + 2
        assert events[-1].who == winner


def test_many_that_do_not_mind_are_all_in_the_log(tmp_path: pathlib.Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, tmp_path, name], stderr=subprocess.PIPE) for name in "abcd"
    ]
    while any(writer.poll() is None for writer in writers):
        read_log(tmp_path)  # a reader that takes no lock never sees a log that is not whole
    assert [writer.communicate()[1] for writer in writers] == [b""] * 4
    runs = [one.run for one in read_log(tmp_path).events]
    assert sorted(runs) == sorted(f"{name}{number}" for name in "abcd" for number in range(25))


WRITER = """
import pathlib, sys
from bayestwin.registry.log import append
for number in range(25):
    append(pathlib.Path(sys.argv[1]), None, event="approve", run=f"{sys.argv[2]}{number}", stage="prod", who="x",
           why="", posterior_sha256="p", record_sha256="r")
"""


def test_a_lock_that_is_held_is_waited_for_and_then_refused(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_log, "PATIENCE", 0.1)
    with registry_log._locked(tmp_path), pytest.raises(RunLocked, match="is being written by another process"):
        promote(tmp_path, "A")
    assert not (tmp_path / LOG).exists()
    promote(tmp_path, "A")  # the file of the lock is still there, and nobody holds it
    assert (tmp_path / LOCK).exists()


# Disks.


def test_without_room_nothing_changes(filled: pathlib.Path) -> None:
    before = {path.name: path.read_bytes() for path in filled.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    caught = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before[LOG]) + 50, hard))
    try:
        with pytest.raises(StorageFailure, match="Cannot write"):
            promote(filled, "E")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, caught)
    assert {path.name: path.read_bytes() for path in filled.iterdir()} == before
    assert promote(filled, "E").mended == 0


def test_a_folder_that_is_not_there_is_told(tmp_path: pathlib.Path) -> None:
    with pytest.raises(StorageFailure, match="Cannot write"):
        promote(tmp_path / "absent", "A")
    assert not os.path.exists(tmp_path / "absent")


def test_the_log_needs_nothing_heavy() -> None:
    program = "import sys, bayestwin.registry.log; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert {"jax", "numpy", "xarray", "pydantic", "pandas", "filelock"} & set(loaded) == set()
