"""A fleet whose assets know nothing of each other, calibrated one by one: by processes, by a cluster, or in shards.

What becomes of an asset depends on its name, its telemetry and the job alone, so that it is the same to the bit
wherever and in whatever order it is done; each is a folder, whose last file says that it is done.
"""

import functools
import io
import pathlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from bayestwin._base.progress import Progress
from bayestwin.assess import coverage, diagnose, scores
from bayestwin.assess.each import calibrate_asset, check_alone
from bayestwin.errors import InvalidInput, InvalidSetting
from bayestwin.predict import predict
from bayestwin.project.batch import ASSET, Limits, Task, TaskOutcome, carry_out, ended, read_asset, side_by_side
from bayestwin.project.calibrate import inputs_of, mark_by_card
from bayestwin.project.model import Model, Split, check_ready, load_telemetry, population_of
from bayestwin.project.predict import attributes_of, fleet_table
from bayestwin.project.record import (
    RECORD,
    begin_record,
    end_record,
    locked,
    parameter_figures,
    promises,
    read_record,
    summary,
    to_json,
    write_record,
)
from bayestwin.project.run import ASSETS, ENDED, POSTERIOR, PREDICTIONS, keep_inputs, new_run, recorded_model
from bayestwin.project.telemetry import known_attributes
from bayestwin.results.store import save, write_bytes_durably, write_text_durably

COMMAND = "fleet"
"""What records of such runs say."""

type Shard = tuple[int, int]
"""Its number, from 1, and of how many."""


class EachFound(NamedTuple):
    """What a run of assets one by one left.

    Attributes:
        run: Its folder.
        status: `"finished"`, `"failed gates"` where an asset did not pass, or `"interrupted"`.
        record: Content of `fleet.json`.
        page: The page about all, or None of a shard.
        table: A row an asset.
    """

    run: pathlib.Path
    status: str
    record: dict[str, Any]
    page: pathlib.Path | None
    table: pathlib.Path


def shard_of(word: str | None) -> Shard | None:
    """`2/8` as `(2, 8)`; None where nothing was said.

    Raises:
        InvalidSetting: If it is something else.
    """
    if word is None:
        return None
    found = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", word)
    if found is None:
        raise InvalidSetting(
            f"`--shard {word}` cannot be read.",
            expected="part and number of parts, as in `--shard 2/8`",
            received=f"`{word}`",
            advice="In an array job the number of its task comes first.",
        )
    return int(found[1]), int(found[2])


def check_fitting(model: Model, options: Sequence[str]) -> None:
    """Refuse options that are for the other kind of fleet.

    Args:
        model: The model.
        options: Those that were given and do not fit.

    Raises:
        InvalidSetting: If there are any.
    """
    if options:
        pool = model.job.fleet is None or model.job.fleet.pool
        raise InvalidSetting(
            f"{', '.join(f'`{option}`' for option in options)} does not go with this fleet.",
            expected="a job with `pool = false` in `[fleet]`" if pool else "a job that calibrates all assets together",
            received=f"one that calibrates {'all assets together' if pool else 'each asset by itself'}",
            advice="What is shared between assets ties their posteriors together: they are one calibration."
            if pool
            else "Leave it out: assets are done by processes on CPUs, and the table is CSV.",
        )


def calibrate_assets(
    model: Model,
    results: pathlib.Path,
    *,
    shard: Shard | None = None,
    dask: str | None = None,
    workers: int | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> EachFound:
    """Calibrate each asset of a fleet by itself; a run of the same that was interrupted is gone on with.

    Args:
        model: The model, whose job says `pool = false`.
        results: Where runs are filed.
        shard: Which part of the assets; None for all.
        dask: Address of a scheduler of dask.distributed, whose workers see the same files; None for processes here.
        workers: How many processes at once; by default half the cores.
        limits: What one asset may take; only processes here are held to it.
        progress: Where progress is shown.

    Raises:
        InvalidInput: If the job is not of a fleet without a population, or something in the twin is pooled.
        InvalidSetting: If a shard makes no sense, or nothing is installed that speaks to a cluster.
    """
    split = load_telemetry(model)
    check_alone(model.twin, split.calibration)
    check_ready(model, split)
    names = list(split.calibration)  # type: ignore[arg-type]
    mine = _names_of(shard, names)
    inputs = inputs_of(model, split) | ({} if shard is None else {"shard": list(shard)})
    run = _same(model, results, inputs) or new_run(results, model, shard and f"shard-{shard[0]}-of-{shard[1]}")
    with locked(run):
        record = read_record(run) or keep_inputs(run, model, begin_record(run, COMMAND, inputs))
        write_record(run, record)
        tasks = [_task(model, run, names.index(name), name) for name in mine]
        with (progress or Progress()).phase("assets", "calibrating", len(tasks)) as phase:
            outcomes = _done(tasks, dask, workers, limits or Limits(), lambda one: phase.advance(1, one.task.name))
        return _end(model, run, record, split, {one.task.asset: one for one in outcomes})


def gather_shards(model: Model, results: pathlib.Path) -> EachFound:
    """Put shards together that have been calibrated: what comes out is what one run of all would have left.

    Args:
        model: The model.
        results: Where all shards are filed.

    Raises:
        InvalidInput: If one is missing, or has not come to its end.
    """
    split = load_telemetry(model)
    inputs = inputs_of(model, split)
    parts = _shards(model, results, inputs)
    names = list(split.calibration)  # type: ignore[arg-type]
    run = new_run(results, model)
    with locked(run):
        gathered = [part.name for part in parts.values()]
        record = keep_inputs(run, model, begin_record(run, COMMAND, inputs | {"gathered": gathered}))
        for number, part in parts.items():
            for name in _names_of((number, len(parts)), names):
                folder = _folder(part, names.index(name), name)
                for file in sorted(folder.glob("*")):
                    write_bytes_durably(_folder(run, names.index(name), name) / file.name, file.read_bytes())
        return _end(model, run, record, split, {})


def _names_of(shard: Shard | None, names: Sequence[str]) -> list[str]:
    """Every so manieth asset."""
    if shard is None:
        return list(names)
    number, of = shard
    if 1 <= number <= of <= len(names):
        return list(names[number - 1 :: of])
    raise InvalidSetting(
        "There is no such shard.",
        expected=f"`i/n` with i from 1 to n, and n up to {len(names)}, the number of assets",
        received=f"`{number}/{of}`",
        advice="Number the tasks of an array job from 1.",
    )


def _same(model: Model, results: pathlib.Path, inputs: Mapping[str, Any]) -> pathlib.Path | None:
    """The newest run of the same assets, twin and job; None where there is none."""
    for path in sorted((results / model.name).glob(f"*/{RECORD}"), reverse=True):
        if _alike(read_record(path.parent), inputs):
            return path.parent
    return None


def _alike(record: Mapping[str, Any], inputs: Mapping[str, Any]) -> bool:
    names = ("job", "twin_sha256", "telemetry_sha256", "shard", "gathered")
    return record.get("command") == COMMAND and all(record.get(name) == inputs.get(name) for name in names)


def _shards(model: Model, results: pathlib.Path, inputs: Mapping[str, Any]) -> dict[int, pathlib.Path]:
    """The run of each shard of a whole, by number: of that which was begun last."""
    found: dict[int, dict[int, pathlib.Path]] = {}
    newest = 0
    for path in sorted((results / model.name).glob(f"*/{RECORD}")):
        record = read_record(path.parent)
        shard = record.get("shard")
        if shard and _alike(record, {**inputs, "shard": shard}):
            number, newest = shard
            found.setdefault(newest, {})[number] = path.parent
    parts = found.get(newest, {})
    open_ones = [n for n in range(1, newest + 1) if n not in parts or read_record(parts[n])["status"] not in ENDED]
    if newest and not open_ones:
        return dict(sorted(parts.items()))
    raise InvalidInput(
        f"The shards of `{model.folder}` are not complete.",
        expected="runs of `bayestwin fleet --shard i/n` for each i, with the job, twin and telemetry as they are now",
        received=f"of {newest}, without {', '.join(f'`{n}/{newest}`' for n in open_ones)}" if newest else "none",
        advice="Run what is missing; a shard that was interrupted is gone on with.",
    )


def _task(model: Model, run: pathlib.Path, number: int, name: str) -> Task:
    folder = _folder(run.absolute(), number, name)
    return Task(name, str(model.folder), model.job_path.name, "", str(run.parents[1]), folder.name, str(folder), name)


def _folder(run: pathlib.Path, number: int, name: str) -> pathlib.Path:
    """Of an asset: its number, which tells it from all others, and of its name what every system takes."""
    return run / ASSETS / f"{number + 1:05d}-{re.sub(r'[^A-Za-z0-9]+', '-', name)[:40].strip('-')}".rstrip("-")


def do_here(task: Task) -> TaskOutcome:
    """Calibrate the asset of a task in this process, which a cluster replaces where it is lost."""
    from dask import config  # pyright: ignore[reportMissingImports]

    begun = time.perf_counter()
    with config.set(scheduler="threads"):  # else xarray asks the cluster for a lock on a file in memory
        work_on_asset(task)
    status = ended(task)
    assert status is not None
    return TaskOutcome(task, status, task.folder, 1, time.perf_counter() - begun, "")


def _done(
    tasks: Sequence[Task],
    dask: str | None,
    workers: int | None,
    limits: Limits,
    told: Callable[[TaskOutcome], None],
) -> tuple[TaskOutcome, ...]:
    if dask is None:
        return carry_out(tasks, limits, workers=workers, told=told)
    try:
        from distributed import Client  # pyright: ignore[reportMissingImports]
    except ImportError as reason:
        raise InvalidSetting(
            "Nothing that is installed speaks to a cluster.",
            expected="dask.distributed, an optional extra",
            received="no module `distributed`",
            advice='Install it: `pip install "bayestwin[dask]"`. Or leave `--dask` out.',
        ) from reason
    with Client(dask, set_as_default=False) as client:
        return carry_out(tasks, limits, executor=client.get_executor(pure=False), work=do_here, told=told)


# One asset, in whatever process: calibrate, predict, judge, and say at the end that it is done.


def work_on_asset(task: Task) -> str:
    """Calibrate the asset of a task, unless that was done; its verdict.

    Raises:
        KeyboardInterrupt: If it was interrupted, which leaves nothing.
    """
    folder = pathlib.Path(task.folder)
    if (known := read_asset(folder)) is not None:
        return str(known["verdict"])
    model, split, population = _opened(str(folder.parents[1]))
    settings = model.job.calibrate.model_dump()
    asset = calibrate_asset(
        model.twin,
        task.asset,
        split.calibration[task.asset],  # type: ignore[index]
        population=population,
        **{name: value for name, value in settings.items() if (name, value) != ("predictive_draws", None)},
    )
    told: dict[str, Any] = {"name": task.asset}
    if asset.posterior is not None:
        if asset.posterior.attrs["interrupted"]:
            raise KeyboardInterrupt
        asset, judged = _judged(model, split, task.asset, asset, folder)
        save(asset.posterior, folder / POSTERIOR)
        told |= judged | {"quantities": parameter_figures(asset.posterior)}
    told |= {"verdict": asset.verdict, "reasons": asset.reasons}
    write_text_durably(folder / ASSET, to_json(told))
    return asset.verdict


@functools.lru_cache(1)
def _opened(run: str) -> tuple[Model, Split, xr.DataTree | None]:
    """Model, telemetry and other assets' posterior that a run kept, once for all assets of a process."""
    folder = pathlib.Path(run)
    model = recorded_model(folder, read_record(folder))
    return model, load_telemetry(model), population_of(model)


def _judged(model: Model, split: Split, name: str, asset: Any, folder: pathlib.Path) -> tuple[Any, dict[str, Any]]:
    """The asset with gates that know what was held out of it, and figures of that; its forecast is saved."""
    limits = model.job.gates.model_dump()
    held_out: Any = (split.held_out or {}).get(name)  # type: ignore[union-attr]
    if held_out is None:
        covered, scored, forecast = coverage(asset.posterior, split.calibration[name]), None, None  # type: ignore[index]
        gates = diagnose(asset.posterior, **limits)
    else:
        settings = model.job.predict.model_dump()
        forecast = predict(model.twin, asset.posterior, held_out, progress=Progress(show=False), **settings)
        mark_by_card(model, asset.posterior, forecast)
        covered, scored = coverage(forecast, held_out), scores(forecast, held_out)
        gates = diagnose(asset.posterior, **limits, covered=covered, predictions=forecast)
        save(forecast, folder / PREDICTIONS)
    figures = summary(covered, scored) | {"promises": promises(covered)}
    figures["observed"] = int(sum(np.isfinite(v).sum() for v in asset.posterior["observed_data"].data_vars.values()))
    figures["gates"] = [gate._asdict() for gate in gates if not gate.passed]
    return asset._replace(gates=gates), figures


# All assets: figures, a table and a page.


def _end(
    model: Model, run: pathlib.Path, record: dict[str, Any], split: Split, outcomes: Mapping[str, TaskOutcome]
) -> EachFound:
    """Write what is known of all assets, and complete the record of the run."""
    shard = record.get("shard")
    names: list[str] = list(split.calibration)  # type: ignore[arg-type]
    assets: dict[str, Any] = {}
    for name in _names_of(tuple(shard) if shard else None, names):  # type: ignore[arg-type]
        known = read_asset(_folder(run, names.index(name), name))
        assets[name] = known or {"name": name, "verdict": "failed", "reasons": _why(outcomes.get(name))}
    stopped = any(outcome.status == "interrupted" for outcome in outcomes.values())
    bad = any(one["verdict"] != "passed" for one in assets.values())
    status = "interrupted" if stopped else "failed gates" if bad else "finished"
    figures = {"assets": assets, "populations": [], "set_aside": dict(split.set_aside)}
    told = {"run": run.name, "status": status, **figures}
    write_text_durably(run / f"{COMMAND}.json", to_json(told))
    table = io.StringIO()
    known = known_attributes(model.job, model.folder, model.job_path)
    fleet_table(assets, attributes_of(known)).to_csv(table)
    write_text_durably(run / f"{COMMAND}.csv", table.getvalue())
    page = None if shard else _page(model, run, told, record)
    end_record(run, record, status, verdicts=_counts(assets))
    return EachFound(run, status, told, page, run / f"{COMMAND}.csv")


def _why(outcome: TaskOutcome | None) -> str:
    return "It was not begun." if outcome is None else f"{outcome.status}: {outcome.words}"


def _counts(assets: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    verdicts = [one["verdict"] for one in assets.values()]
    return {word: verdicts.count(word) for word in ("passed", "failed gates", "failed")}


def _page(model: Model, run: pathlib.Path, told: Mapping[str, Any], record: Mapping[str, Any]) -> pathlib.Path:
    from bayestwin.report.each import render_each  # half a second, which only a page is worth

    names = ("run", "began", "job_file", "twin_sha256", "gathered")
    known = {name: str(record[name]) for name in names if name in record}
    picture = side_by_side({name: one.get("quantities") or {} for name, one in told["assets"].items()})
    page = render_each(model.twin.name, str(record["versions"]["bayestwin"]), told, picture, provenance=known)
    return write_text_durably(run / f"{COMMAND}.html", page)
