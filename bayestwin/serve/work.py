"""Updates and promotions that were asked for over HTTP: commands of `bayestwin`, each in a process of its own.

The server imports no code of a model; these processes do. An update leaves a new run, and promotes nothing.
"""

import collections
import csv
import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from bayestwin._base.units import convert
from bayestwin.errors import InvalidInput, InvalidTelemetry, RunLocked
from bayestwin.exported import ExportedForecast
from bayestwin.serve.answers import moment, times_of
from bayestwin.telemetry import Telemetry

COMMAND = (sys.executable, "-c", "from bayestwin.cli import app; app()")

MOST_KEPT, LONGEST_MESSAGE = 100, 2000
"""Works that are remembered, and characters of what a failed one said."""


class Works:
    """What was begun, and what became of it; one at a time of each model.

    Attributes:
        models: The folder with the model folders; None where there is none, and nothing can be begun.
        results: Where runs are filed.
    """

    def __init__(self, models: pathlib.Path | None, results: pathlib.Path) -> None:
        """Nothing runs yet."""
        self.models, self.results = models, results
        self._known: collections.OrderedDict[str, dict[str, Any]] = collections.OrderedDict()
        self._busy: dict[str, str] = {}
        self._lock = threading.Lock()

    def find(self, model: str, identifier: str) -> dict[str, Any] | None:
        """What became of one; None where that is not known."""
        with self._lock:
            found = self._known.get(identifier)
            return None if found is None or found["model"] != model else _told(found)

    def folder_of(self, model: str) -> pathlib.Path:
        """The folder of a model.

        Raises:
            InvalidInput: It is not known here.
        """
        folder = None if self.models is None else self.models / model
        if folder is not None and folder.is_dir():
            return folder
        raise InvalidInput(
            f"The model folder of `{model}` is not known to this server.",
            expected="`bayestwin serve --models FOLDER`, with the folder of this model in it",
            received="no `--models`" if self.models is None else "none of that name",
            advice="Do it by hand on the host that has it, or start the server with that option.",
        )

    def begin(
        self, kind: str, model: str, arguments: Sequence[str], made: tempfile.TemporaryDirectory[str] | None = None
    ) -> dict[str, Any]:
        """Begin a command, and answer at once.

        Args:
            kind: `"update"` or `"promote"`, the command.
            model: Name of the model.
            arguments: Those after the model folder.
            made: A folder that is removed when it has ended.

        Raises:
            InvalidInput: The model folder is not known.
            RunLocked: Another one of this model is running.
        """
        call = [*COMMAND, kind, str(self.folder_of(model)), "--results", str(self.results), "--json", *arguments]
        with self._lock:
            if model in self._busy:
                raise RunLocked(
                    f"`{model}` is being worked on already.",
                    expected="one update or promotion of a model at a time",
                    received=f"`{self._busy[model]}`, which is running",
                    advice="Ask for its state, and try again when it has ended.",
                )
            one = {"id": uuid.uuid4().hex, "kind": kind, "model": model, "state": "running", "began": moment()}
            self._busy[model], self._known[one["id"]] = one["id"], one
            while len(self._known) > MOST_KEPT:
                self._known.popitem(last=False)
        threading.Thread(target=self._carry_out, args=(one, call, made), daemon=True).start()
        return _told(one)

    def _carry_out(self, one: dict[str, Any], call: list[str], made: tempfile.TemporaryDirectory[str] | None) -> None:
        try:
            ended = subprocess.run(call, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
            state = {0: "finished"}.get(ended.returncode, "failed")
            message = _run_of(ended.stdout) if state == "finished" else ended.stderr.strip()[-LONGEST_MESSAGE:]
        except OSError as reason:
            state, message = "failed", str(reason)
        finally:
            if made is not None:
                made.cleanup()
        with self._lock:
            one.update(state=state, message=message, ended=moment())
            self._busy.pop(one["model"], None)


def _told(one: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in one.items() if key != "model"}


def _run_of(text: str) -> str:
    """What a command that succeeded says it left."""
    try:
        told = json.loads(text)
    except ValueError:
        return ""
    event = told.get("event")
    return f"run {told.get('run')}" if not isinstance(event, dict) else f"event {event.get('seq')}"


def write_rows(forecast: ExportedForecast, rows: Telemetry, job: Mapping[str, Any], path: pathlib.Path) -> pathlib.Path:
    """Write rows as a file that the job of the run reads: with its columns, and in its units.

    Raises:
        InvalidTelemetry: The job reads several sources, of which one file is none.
    """
    told = job.get("telemetry") or {}
    if told.get("sources"):
        raise InvalidTelemetry(
            "The job reads its telemetry from several sources, and rows over HTTP are one.",
            expected="a job with one file of telemetry",
            received=", ".join(f"`{name}`" for name in told["sources"]),
            advice="Update it by `bayestwin update` on the host.",
        )
    own = {**forecast.twin.inputs, **forecast.twin.events, **forecast.twin.observations}
    names = {new: old for old, new in (told.get("rename") or {}).items()}
    units, columns = told.get("units") or {}, {}
    for name in map(str, rows.table.columns):
        column = names.get(name, name)
        values, unit = rows.in_unit(name, own[name].unit), units.get(column, units.get(name))
        columns[column] = convert(values, own[name].unit, unit, name, InvalidTelemetry) if unit else values
    sign, comma = str(told.get("separator") or ","), told.get("decimal") == ","
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=sign)
        writer.writerow([str(told.get("time") or "time"), *columns])
        for label, *cells in zip(times_of(rows.table.index.to_numpy()), *columns.values(), strict=True):
            written = ["" if cell != cell else repr(float(cell)) for cell in cells]  # NaN is not itself
            first = label if isinstance(label, str) else repr(label)
            row = [first, *written]
            writer.writerow([cell.replace(".", ",") for cell in row] if comma else row)
    return path
