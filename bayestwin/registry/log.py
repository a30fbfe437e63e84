"""The log of a model's promotions: plain JSON lines, each with the hash of the one before, and never rewritten.

The log is the truth, and what is in which stage is derived from it. `registry.json` beside it says how far it went,
so that lines cut off its end are missed; it follows the log, and never leads. Nothing heavy is imported here.
"""

import contextlib
import datetime
import fcntl
import hashlib
import itertools
import json
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, NoReturn

from bayestwin.errors import CorruptArtifact, InvalidSetting, RunLocked, StorageFailure
from bayestwin.results.durable import without_locks, write_text_durably

LOG, POINTER, LOCK = "registry.jsonl", "registry.json", ".registry.lock"
"""In the folder of a model's runs; the lock is held for as long as a line takes, and dropped when its holder dies."""

STAGES = ("dev", "staging", "prod")
"""Every run is in the first one until it is promoted."""

PATIENCE = 10.0
"""Seconds for which a lock is asked again."""

LONGEST = 1 << 20
"""Bytes that a line may have."""


class Head(NamedTuple):
    """Where a log ends: how many events it has, and the hash of the last one."""

    seq: int
    sha256: str


EMPTY = Head(0, "0" * 64)


class RegistryEvent(NamedTuple):
    """One line of the log.

    Attributes:
        seq: Its number, from 1: events are ordered by it, and never by a clock.
        previous: Hash of the event before.
        event: What was done.
        run: The run that it was done with; of a rollback the one that production went back to.
        stage: Where that is from then on; of an approval, what it is approved for.
        replaces: The run that was there before; empty without one.
        who: Name of the person, as told.
        when: In UTC, by the clock of that host.
        why: In words.
        overridden: What stood against it and was overruled.
        posterior_sha256: Hash of the run's posterior.
        record_sha256: Hash of its record at that time.
        evidence: What it was decided on, as plain values.
        mended: Bytes that a dead process had left at the end of the log, which were removed before.
        sha256: Hash of all of this.
    """

    seq: int
    previous: str
    event: Literal["promote", "approve", "rollback"]
    run: str
    stage: str
    replaces: str
    who: str
    when: str
    why: str
    overridden: Sequence[str]
    posterior_sha256: str
    record_sha256: str
    evidence: Mapping[str, Any]
    mended: int
    sha256: str


class RegistryLog(NamedTuple):
    """A log that was read and found whole.

    Attributes:
        path: The file.
        events: Its events, the first one first.
        torn: Bytes after the last whole line, which a dead process left; they say nothing.
    """

    path: pathlib.Path
    events: tuple[RegistryEvent, ...]
    torn: int

    @property
    def head(self) -> Head:
        """Where it ends."""
        return Head(self.events[-1].seq, self.events[-1].sha256) if self.events else EMPTY


def read_log(folder: pathlib.Path) -> RegistryLog:
    """Read the log of a model and make sure that it is whole; empty where there is none. It waits for no lock.

    Args:
        folder: Where the runs of the model are filed.

    Raises:
        CorruptArtifact: A line was changed, taken out, put in, moved or cut off; it says which.
    """
    while True:
        # a log never shrinks, so that one read after its pointer reaches at least as far
        before = _read(folder / POINTER)
        content = _read(folder / LOG)
        if _read(folder / POINTER) == before:
            return _checked(folder, content, before)


def append(
    folder: pathlib.Path,
    expected: Head | None,
    *,
    event: Literal["promote", "approve", "rollback"],
    run: str,
    stage: str,
    who: str,
    why: str,
    posterior_sha256: str,
    record_sha256: str,
    replaces: str = "",
    overridden: Sequence[str] = (),
    evidence: Mapping[str, Any] | None = None,
    when: str | None = None,
    claim: Callable[[RegistryEvent, bytes], None] | None = None,
) -> RegistryEvent:
    """Add an event to the log of a model: after its last one, whole, or not at all.

    Args:
        folder: Where the runs of the model are filed.
        expected: Where the log ended when it was decided to add it; None where that does not matter.
        event: As in `RegistryEvent`, like all that follow.
        run: Likewise.
        stage: Likewise.
        who: Likewise.
        why: Likewise.
        posterior_sha256: Likewise.
        record_sha256: Likewise.
        replaces: Likewise.
        overridden: Likewise.
        evidence: Likewise.
        when: Likewise; by default now.
        claim: Called with the event and its line before that is written; what it raises leaves the log as it was.

    Raises:
        CorruptArtifact: The log is not whole.
        RunLocked: Someone else added an event since, or holds the lock.
        InvalidSetting: The event cannot be written as one line of JSON.
        StorageFailure: It cannot be written. The log is then as it was.
    """
    with _locked(folder):
        log = read_log(folder)
        if expected is not None and log.head != expected:
            raise _changed_meanwhile(folder, expected, log)
        line, added = _line(
            {
                "seq": log.head.seq + 1,
                "previous": log.head.sha256,
                "event": event,
                "run": run,
                "stage": stage,
                "replaces": replaces,
                "who": who,
                "when": when or now(),
                "why": why,
                "overridden": list(overridden),
                "posterior_sha256": posterior_sha256,
                "record_sha256": record_sha256,
                "evidence": dict(evidence or {}),
                "mended": log.torn,
            }
        )
        if claim is not None:
            claim(added, line)
        _point(folder, log.head)  # one that a dead process left behind, and the first one, which says that none is
        _write_line(log, line)
        try:
            _point(folder, Head(added.seq, added.sha256))
        except StorageFailure as reason:
            reason.add_note(f"Event {added.seq} is in the log, and holds.")
            raise
    return added


def take_over(folder: pathlib.Path, lines: Sequence[bytes]) -> RegistryLog:
    """Add lines that stand in another copy of the log: those that follow what is here, each whole, or none of the rest.

    Args:
        folder: Where the runs of the model are filed.
        lines: In order, each with its line end; those that are here already are left out.

    Raises:
        CorruptArtifact: The log is not whole, or a line does not follow it.
        RunLocked: Someone holds the lock.
        StorageFailure: It cannot be written.
    """
    with _locked(folder):
        log = read_log(folder)
        for line in lines:
            event = _parsed(line.rstrip(b"\n"))
            if event is not None and event.seq <= log.head.seq and log.events[event.seq - 1] == event:
                continue
            if event is None or (event.seq, event.previous) != (log.head.seq + 1, log.head.sha256):
                _refuse(
                    log.path,
                    f"Another copy of the log of `{folder.name}` goes on otherwise than this one.",
                    "a line that was changed"
                    if event is None
                    else f"event {event.seq}: {event.event} of `{event.run}`",
                    f"event {log.head.seq + 1}, which follows one with the sha256 {log.head.sha256[:12]}",
                )
            _point(folder, log.head)
            _write_line(log, line)
            log = log._replace(events=(*log.events, event), torn=0)
            _point(folder, log.head)
        return log


def line_of(event: RegistryEvent) -> bytes:
    """The line of an event, to the byte as it was written."""
    return _canonical(event._asdict()) + b"\n"


def now() -> str:
    """This moment in UTC, by the clock of this host."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")


def _read(path: pathlib.Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as failure:
        raise StorageFailure(
            f"Cannot read `{path}`.",
            expected="a file that this user may read",
            received=f"{failure.strerror} (errno {failure.errno})",
            advice="Check its permissions and the file system.",
        ) from failure


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
    """Hold the lock of a model's log. The file stays: removing it would let two hold locks of one name."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as failure:
        raise _unwritable(folder / LOCK, failure) from failure
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as reason:
                if time.monotonic() > deadline:
                    raise RunLocked(
                        f"The log of `{folder.name}` is being written by another process.",
                        expected=f"that it is free within {PATIENCE:g} s",
                        received="a lock that a living process holds",
                        advice="Nothing was changed. Look what holds it, and try again.",
                    ) from reason
                time.sleep(0.005)
            except OSError as reason:
                raise without_locks(folder, reason) from reason
        yield
    finally:
        os.close(descriptor)


def _write_line(log: RegistryLog, line: bytes) -> None:
    """Bring a line to the disk, after the last whole one; where that fails the log is cut back to that."""
    try:
        descriptor = os.open(log.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            end = os.fstat(descriptor).st_size - log.torn
            os.ftruncate(descriptor, end)
            os.lseek(descriptor, end, os.SEEK_SET)
            try:
                rest = memoryview(line)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
                os.fsync(descriptor)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, end)
                raise
        finally:
            os.close(descriptor)
    except OSError as failure:
        raise _unwritable(log.path, failure) from failure


def _unwritable(path: pathlib.Path, failure: OSError) -> StorageFailure:
    return StorageFailure(
        f"Cannot write `{path}`.",
        expected="a folder that can be written to, and room for a line",
        received=f"{failure.strerror} (errno {failure.errno})",
        advice="Nothing was changed. Check the permissions and the space.",
    )


def _point(folder: pathlib.Path, head: Head) -> None:
    """Let the pointer say where the log ends; this also brings the name of a new log to the disk."""
    text = json.dumps({"seq": head.seq, "sha256": head.sha256}) + "\n"
    if _read(folder / POINTER) != text.encode():
        write_text_durably(folder / POINTER, text)


def _changed_meanwhile(folder: pathlib.Path, expected: Head, log: RegistryLog) -> RunLocked:
    last = log.events[-1] if log.events else None
    told = f"event {last.seq}: {last.event} of `{last.run}` by {last.who}" if last else "an empty log"
    return RunLocked(
        f"`{folder.name}` was changed by someone else meanwhile.",
        expected=f"event {expected.seq} to be the last one" if expected.seq else "no event yet",
        received=told,
        advice=f"Nothing was done. Look at `bayestwin history {folder.name}`, and decide again.",
    )


# Lines, and whether they are what was written.


def _line(content: dict[str, Any]) -> tuple[bytes, RegistryEvent]:
    """An event as a line, from all but its hash: what has one form only, so that any change shows."""
    try:
        digest = hashlib.sha256(_canonical(content)).hexdigest()
        line = _canonical({**content, "sha256": digest}) + b"\n"
        event = _parsed(line[:-1])
    except (ValueError, TypeError, RecursionError) as reason:
        event, line, received = None, b"", str(reason)
    else:
        received = f"{len(line):,} bytes" if len(line) > LONGEST else "what does not come back the same"
    if event is None or len(line) > LONGEST:
        raise InvalidSetting(
            "This cannot be written to the log.",
            expected=f"plain text and finite numbers, of at most {LONGEST:,} bytes",
            received=received,
            advice="Say it in fewer words, without characters that are no text.",
        )
    return line, event


def _canonical(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _parsed(line: bytes) -> RegistryEvent | None:
    """The event that a line holds; None where that is not, to the byte, what was written."""
    content = _object(line)
    if content is None or not _fits(content):
        return None
    told = {name: value for name, value in content.items() if name != "sha256"}
    try:
        digest = hashlib.sha256(_canonical(told)).hexdigest()
        same = digest == content["sha256"] and _canonical(content) == line
    except (ValueError, TypeError):
        return None
    return RegistryEvent(**content) if same else None


def _fits(content: Mapping[str, Any]) -> bool:
    """Whether all that an event says is of its kind, and its run the name of a folder beside the log."""
    kinds = {"seq": int, "mended": int, "overridden": list, "evidence": dict}
    if set(content) != set(RegistryEvent._fields):
        return False
    if any(type(content[name]) is not kinds.get(name, str) for name in content):
        return False
    try:
        zoned = datetime.datetime.fromisoformat(content["when"]).tzinfo is not None
    except ValueError:
        return False
    known = content["event"] in ("promote", "approve", "rollback") and content["stage"] in STAGES
    return zoned and known and is_plain_name(content["run"])


def is_plain_name(name: str) -> bool:
    """Whether a name is that of something in a folder, and no path to elsewhere."""
    return name not in ("", ".", "..") and not any(sign in name for sign in "/\\\0")


def _object(text: bytes) -> dict[str, Any] | None:
    """The JSON object of a line; None where it is none."""
    try:
        content = json.loads(text) if len(text) <= LONGEST else None
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _checked(folder: pathlib.Path, content: bytes | None, pointer: bytes | None) -> RegistryLog:
    """The log from what its files hold.

    A dead process may have left an unfinished line, and a pointer that says one event less than there is, never both
    more: whatever else does not fit was changed by someone.
    """
    path = folder / LOG
    *lines, rest = (content or b"").split(b"\n")
    pointed = _pointed(folder / POINTER, pointer, len(lines))
    if len(lines) == pointed.seq + 1 and _object(lines[-1]) is None:
        rest = lines.pop() + b"\n" + rest  # a line whose bytes had not all come to the disk when the host went down
    events: list[RegistryEvent] = []
    head = EMPTY
    for number, line in enumerate(lines, 1):
        event = _parsed(line)
        if event is None:
            _refuse(path, f"Line {number} of `{path}` was changed since it was written.", "text whose hash is another")
        if (event.seq, event.previous) != (number, head.sha256):
            _refuse(
                path,
                f"Line {number} of `{path}` does not follow what stands before it: a line was taken out, put in or "
                "moved.",
                f"event {event.seq}, which follows one with the sha256 {event.previous[:12]}",
                f"event {number}, which follows one with the sha256 {head.sha256[:12]}",
            )
        events.append(event)
        head = Head(number, event.sha256)
        if number == pointed.seq and event.sha256 != pointed.sha256:
            _refuse(
                path,
                f"Line {number} of `{path}` is not the one that was written.",
                f"the sha256 {event.sha256[:12]}",
                f"{pointed.sha256[:12]}, as `{POINTER}` says",
            )
    if not pointed.seq <= len(events) <= pointed.seq + 1:
        cut = len(events) < pointed.seq
        _refuse(
            path,
            f"`{path}` ends after line {len(events)}: its end was cut off."
            if cut
            else f"`{folder / POINTER}` is older than the log from line {pointed.seq + 2} on.",
            f"{len(events)} events",
            f"{pointed.seq}, as `{POINTER}` says" if cut else f"{pointed.seq} or {pointed.seq + 1}, as it says",
        )
    return RegistryLog(path, tuple(events), len(rest))


def _pointed(path: pathlib.Path, text: bytes | None, num_lines: int) -> Head:
    """Where the log ended at least when the pointer was written, which is before its first line."""
    if text is None and num_lines == 0:
        return EMPTY
    content = (None if text is None else _object(text)) or {}
    seq, sha256 = content.get("seq"), content.get("sha256")
    if not (isinstance(seq, int) and seq >= 0 and isinstance(sha256, str)):
        problem = f"There is no `{path}`, which says where the log ends." if text is None else f"`{path}` was changed."
        _refuse(path, problem, "none" if text is None else "something else", "the number and the hash of an event")
    return Head(seq, sha256)


def _refuse(path: pathlib.Path, problem: str, received: str, expected: str = "the line as it was written") -> NoReturn:
    raise CorruptArtifact(
        problem,
        expected=expected,
        received=received,
        advice=f"Nothing was changed now. Restore `{path.parent / LOG}` and `{POINTER}` together from a copy.",
    )


# What is where, as the events leave it.


class InStage(NamedTuple):
    """A run in a stage.

    Attributes:
        run: Its name.
        posterior_sha256: Hash of its posterior when it came there.
        seq: Number of the event that brought it there.
        who: Who did.
        when: When, by the clock of that host.
    """

    run: str
    posterior_sha256: str
    seq: int
    who: str
    when: str


class Stages(NamedTuple):
    """What is in which stage.

    Attributes:
        staging: The candidate; None without one.
        productions: What is in production, last, and what was before it and can be gone back to, the last one last.
    """

    staging: InStage | None
    productions: tuple[InStage, ...]

    @property
    def production(self) -> InStage | None:
        """What is in production; None before anything was."""
        return self.productions[-1] if self.productions else None


def stages_after(events: Sequence[RegistryEvent]) -> Stages:
    """What is in which stage after these events, the first one of the log first.

    A rollback takes back the last promotion to production that was not taken back yet.
    """
    staging: InStage | None = None
    productions: tuple[InStage, ...] = ()
    for one in events:
        held = InStage(one.run, one.posterior_sha256, one.seq, one.who, one.when)
        if one.event == "rollback":
            productions = productions[:-1]
        elif one.event == "promote" and one.stage == "prod":
            productions = (*productions, held)
            staging = None if staging is not None and staging.run == one.run else staging
        elif one.event == "promote":
            staging = held
    return Stages(staging, productions)


def events_until(events: Sequence[RegistryEvent], moment: datetime.datetime) -> tuple[RegistryEvent, ...]:
    """The events up to a moment. Where a clock went back, events count as no earlier than those before them."""
    return tuple(itertools.takewhile(lambda one: datetime.datetime.fromisoformat(one.when) <= moment, events))
