"""What is served: the forecast of each model's production, loaded beside the one before and put in its place at once.

What is in production is looked up in the registry's log for each request. Where its files are not the ones that were
promoted nothing is answered: an answer that nobody could make again from what is on the disk is none.
"""

import hashlib
import pathlib
import threading
from typing import Any, NamedTuple

from bayestwin.errors import BayestwinError, CorruptArtifact, InvalidInput, NothingInProduction, NotReady
from bayestwin.exported import FORECAST, ExportedForecast, read_forecast
from bayestwin.project.record import read_record
from bayestwin.registry.log import LOG, POINTER, InStage, RegistryEvent, is_plain_name, read_log, stages_after
from bayestwin.registry.production import POSTERIOR, check_unchanged
from bayestwin.results.store import load

type FileMark = tuple[tuple[int, int, int], ...]
"""By file: its size, its time in ns and its number; all are 0 where there is none."""


class InService(NamedTuple):
    """A production that is ready to answer.

    Attributes:
        held: What the log says of it.
        forecast: Its forecast.
        forecast_sha256: Hash of that file.
        mark: Of its files when they were verified.
    """

    held: InStage
    forecast: ExportedForecast
    forecast_sha256: str
    mark: FileMark

    @property
    def version(self) -> dict[str, Any]:
        """What says of an answer what it was made from."""
        return {
            "run": self.held.run,
            "event": self.held.seq,
            "posterior_sha256": self.held.posterior_sha256,
            "forecast_sha256": self.forecast_sha256,
        }


class ServedModel:
    """One model: what is in production, and what answers for it.

    Attributes:
        runs: Where its runs are filed.
    """

    def __init__(self, runs: pathlib.Path) -> None:
        """Nothing is read before it is asked for."""
        self.runs = runs
        self._lock = threading.Lock()
        self._events: tuple[RegistryEvent, ...] = ()
        self._log_mark: FileMark | None = None
        self._serving: InService | None = None
        self._failed: tuple[int, FileMark, BayestwinError] | None = None
        self._loading: threading.Thread | None = None

    @property
    def name(self) -> str:
        """Of the model."""
        return self.runs.name

    def events(self) -> tuple[RegistryEvent, ...]:
        """The log, which is read and verified anew where its files are others.

        Raises:
            CorruptArtifact: It was changed by someone.
        """
        with self._lock:
            mark = mark_of(self.runs / LOG, self.runs / POINTER)
            if mark != self._log_mark:
                self._events, self._log_mark = read_log(self.runs).events, mark
            return self._events

    def production(self) -> InStage | None:
        """What is in production."""
        return stages_after(self.events()).production

    def now(self) -> InService:
        """What answers now: production, or the one before for as long as a new one is being loaded.

        Raises:
            NotReady: Nothing is in production, or it is being loaded and there was none before.
            CorruptArtifact: Its files are not the ones that were promoted; or the log was changed.
            BayestwinError: There is no forecast of it that could be served.
        """
        held = self.production()
        if held is None:
            raise NothingInProduction(
                f"Nothing of `{self.name}` is in production.",
                expected="a run that was promoted to prod",
                received="none",
                advice=f"Promote one: `bayestwin promote {self.name} --to prod`.",
            )
        serving = self._serving
        if serving is not None and serving.held.seq == held.seq and serving.mark == self._files(held):
            return serving
        self._begin(held)
        failed, serving = self._failed, self._serving
        if failed is not None and failed[:2] == (held.seq, self._files(held)):
            raise failed[2]
        if serving is None or serving.held.seq == held.seq:
            raise NotReady(
                f"Run `{held.run}` of `{self.name}` is being verified and loaded.",
                expected="some seconds of patience",
                received="a request before it was ready",
                advice="Ask again; `GET /ready` says when.",
            )
        if serving.mark != self._files(serving.held):
            raise _changed(self.runs / serving.held.run)
        return serving

    def wait(self, seconds: float = 300.0) -> None:
        """Wait until what is being loaded is there."""
        with self._lock:
            loading = self._loading
        if loading is not None:
            loading.join(seconds)

    def _files(self, held: InStage) -> FileMark:
        return mark_of(self.runs / held.run / POSTERIOR, self.runs / held.run / FORECAST)

    def _begin(self, held: InStage) -> None:
        """Begin to load a production, unless that is under way or was tried with these files."""
        with self._lock:
            tried = self._failed is not None and self._failed[:2] == (held.seq, self._files(held))
            if tried or (self._loading is not None and self._loading.is_alive()):
                return
            self._loading = threading.Thread(target=self._load, args=(held, self._events), daemon=True)
            self._loading.start()

    def _load(self, held: InStage, events: tuple[RegistryEvent, ...]) -> None:
        mark = self._files(held)
        try:
            serving = verified(self.runs, held, events)
            serving.forecast.prepare()
        except BayestwinError as reason:
            self._failed = (held.seq, mark, reason)
            return
        except Exception as reason:  # of any kind: else each request would begin anew what cannot succeed
            self._failed = (held.seq, mark, _unusable(self.runs / held.run, reason))
            return
        # one assignment: a request has the one before or this one
        self._serving, self._failed = serving._replace(mark=mark), None


def mark_of(*paths: pathlib.Path) -> FileMark:
    """What tells without reading files whether they are still the same."""
    found = []
    for path in paths:
        try:
            told = path.stat()
            found.append((told.st_size, told.st_mtime_ns, told.st_ino))
        except OSError:
            found.append((0, 0, 0))
    return tuple(found)


def verified(runs: pathlib.Path, held: InStage, events: tuple[RegistryEvent, ...]) -> InService:
    """A production whose posterior and forecast are the ones that were promoted.

    Args:
        runs: Where the runs of the model are filed.
        held: What is in production.
        events: The log, which knows the hash of the forecast; of one that was exported later the run does.

    Raises:
        CorruptArtifact: A file is missing, or another one.
        InvalidInput: The run has no forecast.
    """
    check_unchanged(runs, held)
    run = runs / held.run
    path = run / FORECAST
    promoted = [one for one in events if (one.event, one.stage, one.run) == ("promote", "prod", held.run)]
    evidence = promoted[-1].evidence if promoted else {}
    known = (evidence.get("documents") or {}).get(FORECAST) or (read_record(run).get("outputs") or {}).get(FORECAST)
    if known is None:
        reason = evidence.get("not_served") or "it was promoted by an earlier version"
        raise InvalidInput(
            f"Run `{held.run}` of `{runs.name}` has no exported forecast: {reason}",
            expected=f"a file `{FORECAST}` in the folder of the run, which a promotion to prod writes",
            received="none",
            advice="`bayestwin serve --models FOLDER` exports what can be; else `bayestwin predict` forecasts.",
        )
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
    if found != known:
        raise _changed(run, known, found)
    forecast = read_forecast(load(path), str(path))
    return InService(held, forecast, found, ())


def _changed(run: pathlib.Path, expected: str = "", received: str = "") -> CorruptArtifact:
    return CorruptArtifact(
        f"`{run / FORECAST}` is not the file that was promoted.",
        expected=f"the sha256 {expected[:12]}" if expected else "files as they were verified",
        received=received[:12] or "changed ones",
        advice="Nothing is answered from it. Restore it from a copy, promote another run, or go back by "
        f"`bayestwin rollback {run.parent.name}`.",
    )


def _unusable(run: pathlib.Path, reason: Exception) -> CorruptArtifact:
    return CorruptArtifact(
        f"`{run / FORECAST}` cannot be computed with.",
        expected="programs that this version of JAX compiles",
        received=f"{type(reason).__name__}: {str(reason).strip().splitlines()[0] if str(reason).strip() else ''}",
        advice="Remove the file, and call `bayestwin serve --models FOLDER`, which exports it anew.",
    )


class Served:
    """All models that have a log of promotions, found as they come.

    Attributes:
        results: Where runs are filed.
    """

    def __init__(self, results: pathlib.Path) -> None:
        """Nothing is read before it is asked for."""
        self.results = results
        self._models: dict[str, ServedModel] = {}

    def models(self) -> list[ServedModel]:
        """All of them, by name."""
        names = sorted(path.parent.name for path in self.results.glob(f"*/{LOG}"))
        return [self._models.setdefault(name, ServedModel(self.results / name)) for name in names]

    def model(self, name: str) -> ServedModel | None:
        """One of them; None where there is none of that name."""
        if name not in self._models and (not is_plain_name(name) or not (self.results / name / LOG).is_file()):
            return None
        return self._models.setdefault(name, ServedModel(self.results / name))
