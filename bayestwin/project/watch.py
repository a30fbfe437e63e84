"""`watch`: telemetry that arrives is held against the newest posterior, and taken in where it is as forecast.

Each arrival that counts is an update, a run of its own. `watch.json` says what became of each, and which run is the
newest of them; it is written after that run. Whatever dies in between, the run is found again by what it was made of.
"""

import contextlib
import functools
import hashlib
import json
import pathlib
import re
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import pandas as pd
import xarray as xr

from bayestwin._base.progress import Progress
from bayestwin.errors import CorruptArtifact, InvalidInput, InvalidTelemetry, NothingNew, RunLocked, Unreachable
from bayestwin.model.describe import fingerprint
from bayestwin.project.model import Model
from bayestwin.project.monitor import monitor_run, read_since
from bayestwin.project.record import RECORD, locked, read_record, to_json
from bayestwin.project.run import ENDED, OPTIONS, POSTERIOR, find_run, sha256_of
from bayestwin.project.sections import WatchSection
from bayestwin.project.update import update_model
from bayestwin.results.store import load, write_bytes_durably, write_text_durably
from bayestwin.telemetry import Telemetry

WATCH, ARRIVED = "watch", "arrived"
"""Name of the folder beside the runs, and in it that of the arrivals that are not in a run yet."""

KINDS = (".csv", ".parquet", ".nc")
"""What the files of a folder end with that are telemetry."""

NUMBER = "number"
"""Key of a mark that counts arrivals: their names are made of it."""

type Fate = Literal["counted", "known", "held", "refused"]


# Where telemetry comes from. Another source is a class with these two members, and an entry of the command.

type SourceMark = Mapping[str, Any]
"""Up to where what has come was passed on, as a source says it: plain values, and nothing before anything was."""

NO_MARK: SourceMark = types.MappingProxyType({})


class Arrival(NamedTuple):
    """Telemetry that has come whole, as one file.

    Attributes:
        name: Of the file; arrivals of one name take the place of each other.
        content: Its bytes.
        mark: Where the source stands after it.
        said: What is to be said of it beside what becomes of it.
        mendable: Whether it can be mended where it comes from, and comes again until it can be read.
    """

    name: str
    content: bytes
    mark: SourceMark = NO_MARK
    said: str = ""
    mendable: bool = True

    @property
    def sha256(self) -> str:
        """Hash of the content."""
        return hashlib.sha256(self.content).hexdigest()


class TelemetrySource(Protocol):
    """Where telemetry arrives."""

    @property
    def place(self) -> str:
        """What `watch.json` calls it; a watch goes on with the same one."""
        ...

    def arrivals(self, mark: SourceMark, last: Callable[[], Any]) -> Iterator[Arrival]:
        """What has come, or come anew, in the order that counts; at first all that is there.

        Args:
            mark: Where `watch.json` says that the source stands.
            last: Gives the last time of the record that the newest posterior knows: a date in UTC, or a number.

        Raises:
            Unreachable: If the source does not answer; it is asked again.
        """
        ...


class FolderSource:
    """Files of a folder, in the order of their names, numbers in these by value.

    A file is whole once its size and its time of change have stayed the same for a while by a clock that never goes
    back. Whoever writes files slowly gives them another name until they are whole, such as `monday.csv.part`.
    """

    def __init__(self, folder: pathlib.Path, settle: float) -> None:
        """A folder, and for how many seconds a file must have stayed the same.

        Raises:
            InvalidInput: If there is no such folder.
        """
        if not folder.is_dir():
            raise InvalidInput(
                f"There is no folder `{folder}`.",
                expected="a folder in which files of telemetry arrive",
                received="a file" if folder.exists() else "nothing of that name",
                advice="Correct `--source`.",
            )
        self._folder, self._settle = folder, settle
        self._passed: dict[str, tuple[int, ...]] = {}

    @property
    def place(self) -> str:
        """Its path."""
        return str(self._folder.resolve())

    def arrivals(self, mark: SourceMark, last: Callable[[], Any]) -> Iterator[Arrival]:  # noqa: ARG002 (files are known by their hashes)
        """Files that are new or another one than before."""
        before = self._found()
        if before == self._passed:
            return
        time.sleep(self._settle)
        now = self._found()
        for name in sorted(now, key=_by_numbers):
            if now[name] == before.get(name) != self._passed.get(name):
                with contextlib.suppress(FileNotFoundError):
                    content = (self._folder / name).read_bytes()
                    self._passed[name] = now[name]
                    yield Arrival(name, content)

    def _found(self) -> dict[str, tuple[int, ...]]:
        """Size, time of change and number on the disk of each file, by name; none while the folder is not there."""
        found = {}
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            if path.suffix in KINDS and not path.name.startswith("."):
                with contextlib.suppress(FileNotFoundError):
                    told = path.stat()
                    found[path.name] = (told.st_size, told.st_mtime_ns, told.st_ino)
        return found


def _by_numbers(name: str) -> list[Any]:
    parts = re.split(r"(\d+)", name)
    return [*(int(part) if place % 2 else part for place, part in enumerate(parts)), name]


# What became of each arrival, and where a watch stands.


class WatchedArrival(NamedTuple):
    """What became of an arrival.

    Attributes:
        name: Of its file.
        sha256: Hash of that.
        fate: `"counted"`: a run has taken it in; `"known"`: it holds nothing new; `"held"`: it was looked at, and waits
            for somebody to decide, or for what belongs before it; `"refused"`: it cannot be read.
        verdict: Of the monitor, as in `bt.monitor`; empty where there was nothing to look at.
        cause: Likewise.
        parameter: Likewise.
        reason: One sentence.
        run: The run that was the newest, and that it was held against; where it counted, the one that has taken it in.
        alpha: Probability of a false alarm that this look could spend; None without a look.
    """

    name: str
    sha256: str
    fate: Fate
    verdict: str
    cause: str
    parameter: str | None
    reason: str
    run: str
    alpha: float | None

    @property
    def needs_somebody(self) -> bool:
        """Whether it will not be taken in by itself."""
        return self.fate in ("held", "refused") or self.verdict == "act"


class WatchState(NamedTuple):
    """Where a watch stands.

    Attributes:
        begun: The run that it was begun with.
        newest: The run that has taken in all that counted.
        looks: How often arrivals were held against a posterior.
        arrived: What became of each, by name.
        source: Where they come from.
        twin_sha256: Fingerprint of the twin.
        mark: Up to where the source was passed on.
    """

    begun: str
    newest: str
    looks: int
    arrived: Mapping[str, WatchedArrival]
    source: str
    twin_sha256: str
    mark: SourceMark = NO_MARK

    def held(self) -> list[str]:
        """Names of the arrivals that wait, in the order in which they came."""
        return [name for name, one in self.arrived.items() if one.fate == "held"]

    def with_arrival(self, one: WatchedArrival, newest: str, looks: int) -> "WatchState":
        """The place after an arrival; one that came before under that name is forgotten."""
        others = {name: known for name, known in self.arrived.items() if name != one.name}
        return self._replace(newest=newest, looks=looks, arrived={**others, one.name: one})


def write_state(folder: pathlib.Path, place: WatchState) -> None:
    """Write `watch.json` into a folder, whole or not at all, with its own hash."""
    told = place._asdict() | {"arrived": {name: one._asdict() for name, one in place.arrived.items()}}
    body = json.loads(to_json(told))
    write_text_durably(folder / f"{WATCH}.json", to_json(body | {"sha256": _hash_of(body)}))


def read_state(folder: pathlib.Path) -> WatchState | None:
    """Read `watch.json` from a folder; None where there is none.

    Raises:
        CorruptArtifact: If it is not what was written.
    """
    path = folder / f"{WATCH}.json"
    if not path.is_file():
        return None
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        told = body.pop("sha256")
        if told == _hash_of(body):
            arrived = {name: WatchedArrival(**one) for name, one in body["arrived"].items()}
            return WatchState(**(body | {"arrived": arrived}))
        received = "another hash than its content has"
    except (ValueError, KeyError, AttributeError, TypeError) as reason:
        received = str(reason)
    raise CorruptArtifact(
        f"`{path}` is not what a watch wrote.",
        expected="JSON with the hash of all else in it",
        received=received,
        advice="Restore it; or move it away and begin anew by `--run`: rows that a run knows are not counted again.",
    )


def _hash_of(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


# A watch.


def watch_model(
    model: Model,
    results: pathlib.Path,
    source: TelemetrySource,
    run: str | None = None,
    *,
    once: bool = False,
    told: Callable[[WatchedArrival], None] = lambda _: None,
    away: Callable[[Unreachable], None] = lambda _: None,
    device: str | None = None,
    progress: Progress | None = None,
) -> WatchState:
    """Follow a source: hold each arrival against the newest posterior, and take it in where the verdict allows it.

    It promotes nothing. Ctrl-C, and any death, lose nothing: the same call goes on.

    Args:
        model: The model, whose job says in `[watch]` how.
        results: Where runs are filed.
        source: Where telemetry arrives.
        run: The run to begin with, by default the newest; one that the watch was not begun with begins it anew, and
            what was held is looked at again.
        once: Whether to end once all that is there was looked at.
        told: Called with what became of each arrival, once that is on the disk.
        away: Called once when the source does not answer, which is waited for.
        device: `"cpu"`, `"gpu"`, or None for JAX's default.
        progress: Where progress is shown.

    Returns:
        Where it stands, if `once`; else it goes on until something ends it.

    Raises:
        RunLocked: If the model is watched already.
        CorruptArtifact: If `watch.json` was changed.
        InvalidArtifact: If the twin was changed since.
        InvalidInput: If there is no such run, or the watch follows another source.
        Unreachable: If the source does not answer, if `once`.
    """
    folder = results / model.name / WATCH
    with contextlib.ExitStack() as stack:
        _hold(stack, model, folder)
        state, again = _begin(model, results, folder, source.place, run)
        watch = _Watch(model, results, folder, device, progress)
        for number, name in enumerate(again):
            arrival = Arrival(name, (folder / ARRIVED / name).read_bytes())
            state = watch.take(state, arrival, told, later=again[number + 1 :])
        answers = True
        while True:
            before = state.mark
            try:
                for arrival in source.arrivals(before, functools.partial(watch.known_until, state.newest)):
                    known = state.arrived.get(arrival.name)
                    if known is None or known.sha256 != arrival.sha256:
                        state = watch.take(state, arrival, told)
                answers = True
            except Unreachable as reason:
                if once:
                    raise
                if answers:
                    away(reason)
                answers = False
            if state.mark != before:
                continue  # there may be more
            if once:
                return state
            time.sleep(model.job.watch.every.total_seconds())


def _hold(stack: contextlib.ExitStack, model: Model, folder: pathlib.Path) -> None:
    """Hold the lock of a watch as long as the stack lives."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        stack.enter_context(locked(folder))
    except RunLocked as reason:
        raise RunLocked(
            f"`{model.folder}` is watched already.",
            expected="one watch of a model at a time",
            received=str(reason.received),
            advice="Stop the other one first; it loses nothing.",
        ) from reason


def _begin(
    model: Model, results: pathlib.Path, folder: pathlib.Path, source: str, run: str | None
) -> tuple[WatchState, list[str]]:
    """Where a watch goes on, and the names of those held that are to be looked at again."""
    state, twin_sha256 = read_state(folder), fingerprint(model.twin)
    if state is None or (run is not None and run != state.begun):
        begun = find_run(results, model, run).name
        earlier = {} if state is None else state.arrived
        looks = 0 if state is None else state.looks
        # the posterior may be one that does not know what was passed on; the names of what was are not used again
        mark = {} if state is None else {name: one for name, one in state.mark.items() if name == NUMBER}
        state = WatchState(begun, begun, looks, earlier, source, twin_sha256, mark)
        again = state.held()
        write_state(folder, state)
    else:
        again = []
    if state.source != source:
        raise InvalidInput(
            f"The watch of `{model.folder}` follows another source.",
            expected=f"`{state.source}`",
            received=f"`{source}`",
            advice="Name that one, or begin anew by `--run` with a run that it was not begun with.",
        )
    return state, again


class _Watch(NamedTuple):
    """A watch at work; see `watch_model`."""

    model: Model
    results: pathlib.Path
    folder: pathlib.Path
    device: str | None
    progress: Progress | None

    @property
    def settings(self) -> WatchSection:
        return self.model.job.watch

    def known_until(self, newest: str) -> Any:
        """The last time of the record that a run knows: a date in UTC without zone, or a number."""
        posterior = load(self.results / self.model.name / newest / POSTERIOR)
        return pd.Index(posterior["observed_data"]["time"].to_numpy())[-1]

    def take(
        self,
        state: WatchState,
        arrival: Arrival,
        told: Callable[[WatchedArrival], None],
        later: Sequence[str] = (),
    ) -> WatchState:
        """Look at an arrival, take it in if that is right, and write down what became of it.

        What waits is looked at and taken in with it, but for those `later` ones whose turn comes.
        """
        path = write_bytes_durably(self.folder / ARRIVED / arrival.name, arrival.content)
        waiting = [self.folder / ARRIVED / name for name in state.held() if name not in (arrival.name, *later)]
        one, newest, looks = self._become(state, arrival, path, waiting)
        one = one._replace(reason=" ".join(filter(None, (arrival.said, one.reason))))
        after = state.with_arrival(one, newest, looks)
        if one.fate != "refused" or not arrival.mendable:
            after = after._replace(mark=arrival.mark or state.mark)
        if one.fate == "counted":  # those that waited are in the runs before it
            taken = {p.name: state.arrived[p.name]._replace(fate="counted", run=newest) for p in waiting}
            after = after._replace(arrived={**after.arrived, **taken})
        write_state(self.folder, after)
        for done in (own for own in (*waiting, path) if after.arrived[own.name].fate != "held"):
            done.unlink(missing_ok=True)
        told(one)
        return after

    def _become(
        self, state: WatchState, arrival: Arrival, path: pathlib.Path, waiting: Sequence[pathlib.Path]
    ) -> tuple[WatchedArrival, str, int]:
        """What becomes of an arrival, the newest run after it, and the number of looks."""
        newest = state.newest
        one = WatchedArrival(arrival.name, arrival.sha256, "refused", "", "", None, "", newest, None)
        run = find_run(self.results, self.model, newest)
        posterior = load(run / POSTERIOR)
        try:
            self._read(posterior, path)
        except InvalidTelemetry as reason:
            return one._replace(reason=reason.line), newest, state.looks
        alpha = alpha_at(self.settings.alpha, state.looks)
        own: dict[str, Any] = {"alpha": alpha, "device": self.device, "progress": self.progress}
        one = one._replace(fate="held")
        try:
            found = monitor_run(self.model, run, path, earlier=waiting, **own).found
        except InvalidTelemetry as reason:  # it does not follow what is known, as where rows between are not there yet
            return one._replace(reason=reason.line), newest, state.looks
        told = {name: getattr(found, name) for name in ("verdict", "cause", "parameter", "reason")}
        one, looks = one._replace(**told, alpha=alpha), state.looks + 1
        if found.verdict not in self.settings.update_on:
            return one, newest, looks
        for own_path in self._in_order(posterior, [*waiting, path]):
            try:
                taken, status = self._taken_in(newest, own_path)
            except NothingNew:
                continue
            except InvalidTelemetry as reason:
                return one._replace(reason=reason.line), state.newest, looks
            if status != "finished":
                words = f"Run {taken} has taken it in, and fails its gates: it is not gone on with."
                return one._replace(fate="held", reason=words), state.newest, looks
            newest = taken
        fate: Fate = "known" if newest == state.newest else "counted"
        return one._replace(fate=fate, run=newest), newest, looks

    def _read(self, posterior: xr.DataTree, path: pathlib.Path) -> Telemetry:
        """A file as the monitor reads it.

        Raises:
            InvalidInput: If it is of a fleet.
            InvalidTelemetry: If it cannot be read.
        """
        found = read_since(self.model, posterior, [path])
        if isinstance(found, Telemetry):
            return found
        raise InvalidInput(
            f"The telemetry of `{self.model.folder}` is of a fleet.",
            expected="a job of one asset",
            received=f"{len(found)} assets",
            advice="Watch assets one by one, each with a model folder of its own.",
        )

    def _in_order(self, posterior: xr.DataTree, paths: Sequence[pathlib.Path]) -> list[pathlib.Path]:
        """Files by their first times: inputs have to be known up to each."""
        read = {path: self._read(posterior, path) for path in paths}
        return sorted(paths, key=lambda path: read[path].table.index[0])

    def _taken_in(self, newest: str, path: pathlib.Path) -> tuple[str, str]:
        """The run that has taken a file in, and its status: the one that is there, or a new one."""
        for path_of in sorted((self.results / self.model.name).glob(f"*/{RECORD}")):
            record = read_record(path_of.parent)
            if self._is_update(record, newest, path):
                return path_of.parent.name, str(record["status"])
        made = update_model(self.model, self.results, path, newest, device=self.device, progress=self.progress)
        return made.run.name, made.status

    def _is_update(self, record: Mapping[str, Any], run: str, path: pathlib.Path) -> bool:
        """Whether a run has taken this very file into that very run, as would be done now, and come to its end."""
        used = {run: {POSTERIOR: sha256_of(self.results / self.model.name / run / POSTERIOR)}}
        ours = {"command": "update", "twin_sha256": fingerprint(self.model.twin)}
        kept = (record.get("inputs") or {}).get(f"{OPTIONS}/telemetry/{path.name}")
        theirs = {name: {POSTERIOR: one.get(POSTERIOR)} for name, one in (record.get("uses") or {}).items()}
        alike = (record.get("job") or {}).get("update") == self.model.job.update.model_dump(
            mode="json", exclude_none=True
        )
        done = record.get("status") in ENDED and ours.items() <= record.items()
        return done and alike and theirs == used and kept == sha256_of(path)


def alpha_at(alpha: float, looks: int) -> float:
    """What the look after so many may spend: `alpha / ((n + 1) (n + 2))`, so that all looks ever spend `alpha`."""
    return alpha / ((looks + 1) * (looks + 2))
