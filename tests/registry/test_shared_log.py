"""Hosts that share a log have the same events in the same order, whoever races or dies; other logs are refused."""

import multiprocessing
import pathlib
import shutil
from collections.abc import Iterator

import pytest
from servers import PASSWORD, Database

from bayestwin.errors import CorruptArtifact, InvalidInput, RunLocked, StorageFailure, Unreachable
from bayestwin.registry import log as registry_log
from bayestwin.registry.log import EMPTY, LOG, POINTER, Head, RegistryEvent, read_log
from bayestwin.registry.production import history
from bayestwin.registry.shared import REGISTRY, append, current_log


@pytest.fixture
def hosts(
    database: Database, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[pathlib.Path, pathlib.Path]]:
    """The folders of one model on two hosts."""
    database.execute("DROP TABLE IF EXISTS bayestwin_registry")
    monkeypatch.setenv(REGISTRY, database.address)
    found = tmp_path / "one" / "tank", tmp_path / "two" / "tank"
    for folder in found:
        folder.mkdir(parents=True)
    return found


def promote(folder: pathlib.Path, run: str, expected: Head | None = None, **told: object) -> RegistryEvent:
    known = {"event": "promote", "stage": "prod", "who": "Ann", "why": "better — ü", "record_sha256": "r"}
    return append(folder, expected, run=run, **{**known, "posterior_sha256": f"hash of {run}", **told})


def test_each_host_has_what_the_others_did_to_the_byte(hosts: tuple[pathlib.Path, pathlib.Path]) -> None:
    one, two = hosts
    promote(one, "A")
    promote(two, "B", evidence={"gates": [1.5, None, "ü"]})
    promote(one, "A", event="rollback")
    assert [event.run for event in history("tank", two.parent)] == ["A", "B", "A"]
    for name in (LOG, POINTER):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    assert current_log(one).head.seq == 3


def test_who_decides_on_what_has_changed_is_told(hosts: tuple[pathlib.Path, pathlib.Path]) -> None:
    one, two = hosts
    seen = current_log(two).head
    assert seen == EMPTY
    promote(one, "A")
    with pytest.raises(RunLocked, match=r"(?s)changed by someone else.*promote of `A` by Ann"):
        promote(two, "B", seen)
    assert [event.run for event in read_log(two).events] == ["A"]


def race(folder: pathlib.Path, count: int, won: "multiprocessing.Queue[tuple[str, int]]") -> None:
    for number in range(count):
        try:
            added = promote(folder, f"{folder.parent.name}-{number}", current_log(folder).head)
            won.put((added.run, added.seq))
        except RunLocked:
            continue


def test_of_two_that_race_one_wins_each_number(hosts: tuple[pathlib.Path, pathlib.Path]) -> None:
    context = multiprocessing.get_context("spawn")
    won = context.Queue()
    racers = [context.Process(target=race, args=(folder, 25, won)) for folder in hosts]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(120)
        assert racer.exitcode == 0
    logs = [current_log(folder) for folder in hosts]
    assert logs[0].events == logs[1].events
    told = [won.get(timeout=10) for _ in logs[0].events]
    assert sorted((event.run, event.seq) for event in logs[0].events) == sorted(told)
    assert {run.partition("-")[0] for run, _ in told} == {"one", "two"}


def test_who_dies_before_it_wrote_what_it_claimed_finds_it_there(
    hosts: tuple[pathlib.Path, pathlib.Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = hosts
    promote(one, "A")

    def full(*_: object) -> None:
        raise StorageFailure("no space", expected="room", received="none", advice="Make room.")

    with monkeypatch.context() as patched:
        patched.setattr(registry_log, "_write_line", full)
        with pytest.raises(StorageFailure) as raised:
            promote(one, "B")
    assert "it holds" in raised.value.__notes__[0]
    assert [event.run for event in current_log(two).events] == ["A", "B"]
    assert [event.run for event in current_log(one).events] == ["A", "B"]
    promote(one, "C")
    assert [event.run for event in current_log(two).events] == ["A", "B", "C"]


def test_a_log_that_was_kept_before_is_shared_from_then_on(
    hosts: tuple[pathlib.Path, pathlib.Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = hosts
    with monkeypatch.context() as patched:
        patched.delenv(REGISTRY)
        promote(one, "A")
        promote(one, "B")
    promote(one, "C")
    assert [event.run for event in current_log(two).events] == ["A", "B", "C"]


def test_logs_that_go_on_otherwise_are_refused(
    hosts: tuple[pathlib.Path, pathlib.Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = hosts
    promote(one, "A")
    current_log(two)
    with monkeypatch.context() as patched:
        patched.delenv(REGISTRY)
        promote(two, "alone")
    promote(one, "B")
    before = (two / LOG).read_bytes()
    with pytest.raises(CorruptArtifact, match=r"(?s)not the same.*event 2"):
        promote(two, "C")
    assert (two / LOG).read_bytes() == before
    shutil.rmtree(two)
    two.mkdir()
    assert [event.run for event in current_log(two).events] == ["A", "B"]


def test_a_line_that_was_changed_in_the_table_is_refused(
    hosts: tuple[pathlib.Path, pathlib.Path], database: Database
) -> None:
    one, two = hosts
    promote(one, "A")
    promote(one, "B")
    database.execute("UPDATE bayestwin_registry SET line = replace(line, 'Ann', 'Eve') WHERE seq = 2")
    with pytest.raises(CorruptArtifact, match=r"(?s)goes on otherwise.*a line that was changed"):
        current_log(two)
    assert [event.run for event in read_log(two).events] == ["A"]


def test_a_line_that_was_taken_out_of_the_table_is_missed(
    hosts: tuple[pathlib.Path, pathlib.Path], database: Database
) -> None:
    one, two = hosts
    for run in "ABC":
        promote(one, run)
    database.execute("DELETE FROM bayestwin_registry WHERE seq = 2")
    with pytest.raises(
        CorruptArtifact, match=r"(?s)goes on otherwise.*event 2, which follows.*event 3: promote of `C`"
    ):
        current_log(two)
    assert [event.run for event in read_log(two).events] == ["A"]
    with pytest.raises(CorruptArtifact, match="not the same"):
        current_log(one)


def test_models_do_not_mix(hosts: tuple[pathlib.Path, pathlib.Path]) -> None:
    one, _ = hosts
    other = one.with_name("room")
    other.mkdir()
    promote(one, "A")
    promote(other, "X")
    assert [event.run for event in current_log(other).events] == ["X"]


def test_what_cannot_be_shared_is_said_and_nothing_is_written(
    hosts: tuple[pathlib.Path, pathlib.Path], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = hosts
    monkeypatch.setenv(REGISTRY, database.address.replace(str(database.port), "1"))
    with pytest.raises(Unreachable):
        promote(one, "A")
    monkeypatch.setenv(REGISTRY, f"postgresql://ann:{PASSWORD}@host/plant")
    with pytest.raises(InvalidInput) as raised:
        promote(one, "A")
    assert PASSWORD not in str(raised.value)
    database.execute("DROP ROLE IF EXISTS reader", f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'")
    monkeypatch.setenv(REGISTRY, database.address.replace("bayestwin@", "reader@"))
    with pytest.raises(StorageFailure, match=r"(?s)cannot be read or written.*permission denied"):
        promote(one, "A")
    assert list(one.iterdir()) == []
