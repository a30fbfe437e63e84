"""Finished runs in an MLflow tracking store, for those who look at theirs there; nothing else here knows of MLflow."""

import datetime
import hashlib
import importlib.util
import logging
import math
import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from bayestwin.errors import InvalidInput, InvalidSetting, StorageFailure
from bayestwin.project.record import RECORD, files_of, read_record
from bayestwin.project.run import POSTERIOR
from bayestwin.results.store import load

STORE, ARTIFACTS = "mlflow.db", ".mlflow"
"""Where everything goes by default, beside the runs."""

STATUS = {"finished": "FINISHED", "failed gates": "FAILED", "failed": "FAILED", "interrupted": "KILLED"}
"""What MLflow calls what became of a run."""

RUN, DONE = "bayestwin.run", "bayestwin.record_sha256"
"""Tags: which run it is, and, written last, the hash of the record that was logged."""

AT_ONCE = 100
"""Entries that a store takes in one call."""

LONGEST = 5000
"""Characters of a parameter or tag: MLflow refuses much longer ones."""


class Tracked(NamedTuple):
    """What became of one run.

    Attributes:
        run: Its id.
        store: The store that has it.
        id: What MLflow calls it.
        new: Whether it was logged now; else it was there already, as it is.
    """

    run: str
    store: str
    id: str
    new: bool


def track(results: pathlib.Path, run: pathlib.Path, store: str | None = None) -> Tracked:
    """Log a run: settings as parameters, figures as metrics, hashes and versions as tags, and its files.

    The experiment is the model. A run that is there as it is now is left alone; one that has changed since, or of which
    logging was cut off, takes the place of what is there.

    Args:
        results: Where runs are filed.
        run: Its folder.
        store: Address of a tracking store, as MLflow takes it; by default an SQLite file in `results`.

    Raises:
        InvalidInput: If the run has not ended.
        InvalidSetting: If MLflow is not installed.
        StorageFailure: If the store does not take it.
    """
    record = read_record(run)
    if record.get("status") not in STATUS:
        raise InvalidInput(
            f"Run `{run.name}` cannot be tracked.",
            expected=f"a run that has ended: {', '.join(STATUS)}",
            received=f"the status “{record.get('status')}”" if record else "no record",
            advice="Wait until it has ended; `bayestwin resume` goes on with one that was killed.",
        )
    client, failure = opened_store(store or default_store(results))
    place = None if store else (results / ARTIFACTS / str(record["model"])).absolute().as_uri()
    try:
        return _logged(client, run, record, store or str(results / STORE), place)
    except failure as reason:
        raise StorageFailure(
            f"Run `{run.name}` could not be logged.",
            expected="a tracking store that takes it",
            received=str(reason),
            advice="Check the store; the same call goes on where this one ended.",
        ) from reason


def default_store(results: pathlib.Path) -> str:
    """Address of the store beside runs, where nobody names another one."""
    return f"sqlite:///{(results / STORE).absolute()}"


def opened_store(address: str) -> tuple[Any, type[Exception]]:
    """A client of MLflow, which says nothing to anyone else, and what it raises.

    Raises:
        InvalidSetting: If MLflow is not installed.
        StorageFailure: If the store cannot be opened.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise InvalidSetting(
            "MLflow is not installed.",
            expected="mlflow-skinny with SQLAlchemy, an optional extra",
            received="no `mlflow`",
            advice='Install it: `pip install "bayestwin[mlflow]"`.',
        )
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow.exceptions import MlflowException  # type: ignore[import-not-found]
    from mlflow.tracking import MlflowClient  # type: ignore[import-not-found]

    for name in ("mlflow", "alembic"):  # each line of its own migrations
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        return MlflowClient(tracking_uri=address), MlflowException
    except (MlflowException, ImportError) as reason:
        raise StorageFailure(
            f"The tracking store `{address}` cannot be opened.",
            expected="an address that MLflow takes, such as `sqlite:///runs.db` or `http://localhost:5000`",
            received=str(reason),
            advice="Correct `--store`.",
        ) from reason


def _logged(client: Any, run: pathlib.Path, record: Mapping[str, Any], store: str, place: str | None) -> Tracked:
    sha256 = hashlib.sha256((run / RECORD).read_bytes()).hexdigest()
    name = str(record["model"])
    experiment = client.get_experiment_by_name(name)
    number = experiment.experiment_id if experiment else client.create_experiment(name, artifact_location=place)
    for found in client.search_runs([number], filter_string=f"tags.`{RUN}` = '{run.name}'"):
        if found.data.tags.get(DONE) == sha256:
            return Tracked(run.name, store, found.info.run_id, new=False)
        client.delete_run(found.info.run_id)
    made = client.create_run(number, start_time=_stamp(record["began"]), tags={RUN: run.name}, run_name=run.name)
    own = made.info.run_id
    for key, value in _settings(record):
        client.log_param(own, key, value)
    from mlflow.entities import Metric  # type: ignore[import-not-found]

    moment = _stamp(record["ended"])
    metrics = [Metric(key, value, moment, 0) for key, value in _figures(run, record)]
    for start in range(0, len(metrics), AT_ONCE):
        client.log_batch(own, metrics=metrics[start : start + AT_ONCE])
    for key, value in _about(record):
        client.set_tag(own, key, value)
    for file in files_of(run):
        folder = pathlib.PurePosixPath(file).parent.as_posix()
        client.log_artifact(own, str(run / file), None if folder == "." else folder)
    client.set_tag(own, DONE, sha256)
    client.set_terminated(own, STATUS[str(record["status"])], moment)
    return Tracked(run.name, store, own, new=True)


def _settings(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Parameters: the job and what else the verb was asked."""
    asked = {"command": record.get("command"), "job": record.get("job"), "settings": record.get("settings")}
    for key, value in _leaves(asked):
        yield key, str(value)[:LONGEST]


def _figures(run: pathlib.Path, record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Metrics: gates, coverage and scores, moments of the posterior, seconds; finite numbers alone."""
    found: list[tuple[str, Any]] = []
    for gate in record.get("gates") or ():
        found += [(f"gate.{gate['name']}", gate["value"]), (f"gate.{gate['name']}.passed", float(gate["passed"]))]
    found += list(_leaves({"summary": record.get("summary"), "seconds": record.get("timings")}))
    if (run / POSTERIOR).is_file():
        for name, values in load(run / POSTERIOR)["posterior"].data_vars.items():
            if set(values.dims) == {"chain", "draw"}:
                found += [
                    (f"posterior.{name}.mean", values.mean().item()),
                    (f"posterior.{name}.sd", values.std().item()),
                ]
    for key, value in found:
        if isinstance(value, int | float) and math.isfinite(value):
            yield _plain(key), float(value)


def _about(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Tags: what it was made of and where."""
    names = ("status", "twin", "twin_sha256", "telemetry_sha256", "job_sha256", "code_sha256", "inputs", "selected")
    names += ("outputs", "versions", "host", "environment", "error")
    for key, value in _leaves({name: record.get(name) for name in names}):
        yield f"bayestwin.{key}", str(value)[:LONGEST]


def _leaves(value: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """What nested tables hold, by keys joined by dots; lists are leaves, but for tables in them."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _leaves(one, f"{before}.{key}" if before else str(key))
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        for row, one in enumerate(value):
            yield from _leaves(one, f"{before}.{row}")
    elif value is not None:
        yield _plain(before), value


def _plain(key: str) -> str:
    """A name that MLflow takes."""
    return re.sub(r"[^\w\-./ ]", "_", key, flags=re.ASCII)[:250]


def _stamp(moment: str) -> int:
    """Milliseconds since 1970, as MLflow counts."""
    return int(datetime.datetime.fromisoformat(moment).timestamp() * 1000)
