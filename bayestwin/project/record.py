"""`run.json`: what a run was made of, what it did and what came out, as plain JSON beside its files.

With it go the copy of the code that made the run, the lock of its one writer, and its key figures.
"""

import contextlib
import datetime
import hashlib
import importlib.metadata
import io
import json
import math
import os
import pathlib
import platform
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import filelock
import jax
import numpy as np
import pandas as pd
import xarray as xr

from bayestwin._base.files import PACKAGE, source_files, source_sha256
from bayestwin._base.progress import ORDER, Progress
from bayestwin.assess.coverage import kept
from bayestwin.assess.gates import read_chains
from bayestwin.assess.quantities import quantities
from bayestwin.errors import CorruptArtifact, RunLocked
from bayestwin.results.durable import without_locks
from bayestwin.results.schema import quantity_names
from bayestwin.results.store import check_writable, write_bytes_durably, write_text_durably

RECORD = "run.json"

PACKAGES = ("bayestwin", "arviz", "blackjax", "jax", "jaxlib", "numpy", "numpyro", "xarray")

ENVIRONMENT = (
    "BAYESTWIN_COMPILE_CACHE",
    "EQX_GETKEY_SEED",
    "EQX_ON_ERROR",
    "EQX_ON_ERROR_BREAKPOINT_FRAMES",
    "JAX_CPU_ENABLE_ASYNC_DISPATCH",
    "JAX_DEBUG_INFS",
    "JAX_DEBUG_NANS",
    "JAX_DEFAULT_DEVICE",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "JAX_DEFAULT_PRNG_IMPL",
    "JAX_DISABLE_JIT",
    "JAX_DISABLE_MOST_OPTIMIZATIONS",
    "JAX_ENABLE_X64",
    "JAX_NUMPY_DTYPE_PROMOTION",
    "JAX_NUMPY_RANK_PROMOTION",
    "JAX_NUM_CPU_DEVICES",
    "JAX_PLATFORM_NAME",
    "JAX_PLATFORMS",
    "JAX_RANDOM_SEED_OFFSET",
    "JAX_THREEFRY_PARTITIONABLE",
    "OMP_NUM_THREADS",
    "OPENBLAS_CORETYPE",
    "XLA_FLAGS",
    "XLA_PYTHON_CLIENT_ALLOCATOR",
    "XLA_PYTHON_CLIENT_MEM_FRACTION",
    "XLA_PYTHON_CLIENT_PREALLOCATE",
)
"""The only environment variables that are recorded, all that change bits or memory: others may hold secrets, whatever
their names begin with."""


def begin_record(run: pathlib.Path, command: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a run that has just begun, already on disk as `"status": "running"`.

    Args:
        run: Its folder.
        command: What was asked for, e.g. "calibrate".
        inputs: Model, job, seeds and hashes.
    """
    record = {
        "run": run.name,
        "command": command,
        "status": "running",
        "began": _now(),
        **inputs,
        **circumstances(),
    }
    write_record(run, record)
    return record


def circumstances() -> dict[str, dict[str, Any]]:
    """What bits depend on besides inputs and code: packages, environment, and the kind of host."""
    return {
        "versions": {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in PACKAGES},
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        "host": {
            "system": platform.system(),
            "machine": platform.machine(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "device": jax.default_backend(),
        },
    }


def end_record(run: pathlib.Path, record: dict[str, Any], status: str, **outcome: Any) -> dict[str, Any]:
    """Complete a record: its status, what came out, and the hashes of the files in the run folder."""
    done = record | {"status": status, "ended": _now(), **outcome, "outputs": _hashes(run)}
    write_record(run, done)
    return done


def renew_outputs(run: pathlib.Path) -> None:
    """Record the hashes of a run's files anew, after one was added or written again."""
    if record := read_record(run):
        write_record(run, record | {"outputs": _hashes(run)})


def write_record(run: pathlib.Path, record: Mapping[str, Any]) -> None:
    """Write `run.json`, whole or not at all."""
    write_text_durably(run / RECORD, to_json(record))


def read_record(run: pathlib.Path) -> dict[str, Any]:
    """Read `run.json`; empty where there is none.

    Raises:
        CorruptArtifact: If it is no record.
    """
    path = run / RECORD
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(record, dict):
            return record
        reason = f"a {type(record).__name__}"
    except ValueError as failure:
        reason = str(failure)
    raise CorruptArtifact(
        f"`{path}` is damaged.",
        expected="the record of a run: one JSON object",
        received=reason,
        advice="The results beside it may be whole; without the record nothing says what they were made of.",
    )


def files_of(run: pathlib.Path) -> list[str]:
    """Paths of the files of a run, counted from its folder; those whose names begin with a dot are left out."""
    names = [path.relative_to(run) for path in run.rglob("*") if path.is_file()]
    return sorted(name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts))


def timings_of(progress: Progress) -> dict[str, float]:
    """Timings in the order in which they are told, to the millisecond."""
    known = [name for name in ORDER if name in progress.timings]
    names = [*known, *(name for name in progress.timings if name not in ORDER)]
    return {name: round(progress.timings[name], 3) for name in names}


def _processor() -> str:
    """The processor's name; where Linux keeps it, since Python does not know it there."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _hashes(run: pathlib.Path) -> dict[str, str]:
    return {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in files_of(run) if name != RECORD}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


# Results as JSON that every reader takes: plain values, and null where a number is not finite.


def to_json(content: Any) -> str:
    """Content as JSON text.

    Args:
        content: Mappings, sequences, arrays, numbers, text, times and paths, nested in each other.

    Returns:
        The text, with a line end. JSON knows no NaN and no infinity: they become null.
    """
    return json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind == "M":
            return [pd.Timestamp(one).isoformat() for one in np.atleast_1d(value)]
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime.date):
        return value.isoformat()
    return value if value is None or isinstance(value, bool | int | str) else str(value)


# The code that a run was made with: its hash, and a copy of it beside the runs, one for each version of the code.

CODE = ".code"
"""Folder beneath that of all results."""

REQUIREMENTS = "requirements.lock"

MADE = (1980, 1, 1, 0, 0, 0)
"""The time that archives say: the same files give the same bytes."""


def keep_code(results: pathlib.Path) -> str:
    """Make sure that a copy of the code lies beside the runs.

    Args:
        results: Where runs are filed.

    Returns:
        The hash of the code.
    """
    sha256 = source_sha256()
    path = code_path(results, sha256)
    if not path.is_file():
        check_writable(path.parent)
        write_bytes_durably(path, _archive())
    return sha256


def code_path(results: pathlib.Path, sha256: str) -> pathlib.Path:
    """Where the copy of a version of the code lies."""
    return results / CODE / f"{sha256}.zip"


def _archive() -> bytes:
    """The package, what makes its version known without installing it, and the versions of all that it needs."""
    version = importlib.metadata.version("bayestwin")
    metadata = f"Metadata-Version: 2.1\nName: bayestwin\nVersion: {version}\n"
    files = {f"code/bayestwin/{name}": content for name, content in source_files().items()}
    files[f"code/bayestwin-{version}.dist-info/METADATA"] = metadata.encode()
    files[REQUIREMENTS] = _lock()
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, MADE), content, zipfile.ZIP_DEFLATED)
    return body.getvalue()


def _lock() -> bytes:
    """The lock that the clone has, with hashes; else the versions that are installed, without."""
    own = PACKAGE.parent / REQUIREMENTS
    if own.is_file():
        return own.read_bytes()
    found = {dist.metadata["Name"]: dist.version for dist in importlib.metadata.distributions()}
    lines = [f"{name}=={version}\n" for name, version in sorted(found.items()) if name and name != "bayestwin"]
    return "".join(lines).encode()


# One writer a run: a lock that the system drops when its holder dies, so that none is ever stale.

LOCK = ".lock"


@contextlib.contextmanager
def locked(run: pathlib.Path) -> Iterator[None]:
    """Hold the lock of a run.

    Args:
        run: Its folder.

    Raises:
        RunLocked: If another process holds it.
        StorageFailure: If the file system does not lock files.
    """
    path = run / LOCK
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as reason:
        raise RunLocked(
            f"Run `{run.name}` is being written by another process.",
            expected="one writer at a time",
            received=_holder(path),
            advice="Wait until it has ended, or begin a run of your own.",
        ) from reason
    except OSError as reason:
        raise without_locks(run, reason) from reason
    try:
        path.write_text(f"{os.getpid()}\n", encoding="utf-8")  # for people: what counts is the system's lock
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()


def is_locked(run: pathlib.Path) -> bool:
    """Whether a living process is writing a run; where files cannot be locked none has begun to."""
    if not (run / LOCK).is_file():
        return False
    lock = filelock.FileLock(run / LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False


def _holder(path: pathlib.Path) -> str:
    with contextlib.suppress(OSError):
        if text := path.read_text(encoding="utf-8").strip():
            return f"the lock of process {text}"
    return "the lock of another process"


# Key figures of a run and of a forecast, as plain values for JSON.


def summary(covered: xr.Dataset, scored: xr.Dataset | None) -> dict[str, Any]:
    """Coverage and scores by observation; `held_out` says whether they are of data that calibration has not seen."""
    frame = covered["coverage"].to_pandas()
    figures: dict[str, Any] = {
        "held_out": scored is not None,
        "coverage": {str(name): {f"{p:g}": float(v) for p, v in row.items()} for name, row in frame.iterrows()},
    }
    if "failed" in covered:
        figures["failed"] = {
            str(name): float(covered["failed"].sel(observation=name)) for name in covered["observation"].values
        }
    if scored is not None:
        numbers = scored.drop_vars("units", errors="ignore").to_dataframe()
        figures["scores"] = {str(name): {k: float(v) for k, v in row.items()} for name, row in numbers.iterrows()}
    return figures


def promises(covered: xr.Dataset) -> dict[str, dict[str, bool | None]]:
    """Whether each interval kept its promise, by observation and `prob`; None where that cannot be told."""
    return {
        str(name): {f"{prob:g}": kept(covered.sel(observation=name, prob=prob)) for prob in covered["prob"].to_numpy()}
        for name in covered["observation"].to_numpy()
    }


def parameter_figures(posterior: xr.DataTree) -> dict[str, dict[str, Any]]:
    """Mean, sd and 90 % equal-tailed interval of each quantity of a posterior, and its unit."""
    units = {str(name): str(one.attrs.get("units", "")) for name, one in posterior["posterior"].data_vars.items()}
    figures = {}
    for name, draws in read_chains(posterior, "posterior").draws.items():
        low, high = np.quantile(draws, (0.05, 0.95))
        figures[name] = {"mean": float(draws.mean()), "sd": float(draws.std()), "lower": float(low)}
        figures[name] |= {"upper": float(high), "unit": units[name.partition("[")[0]]}
    return figures


MARKS = {True: " ✓", False: " ✗", None: " ?"}
"""Whether an interval kept its promise, behind its coverage."""


def coverage_words(
    covered: Mapping[str, Mapping[str, float | None]],
    prob: str = "0.9",
    good: Mapping[str, Mapping[str, bool | None]] | None = None,
) -> str:
    """The coverage of one interval by observation, from the `coverage` of a summary, as a phrase; may be empty.

    Args:
        covered: Shares by observation and `prob`.
        prob: Of which interval.
        good: What `promises` says of them, to be marked; None where that is not known.
    """
    known = {name: own[prob] for name, own in covered.items() if own.get(prob) is not None}
    marks = {name: MARKS[own.get(prob)] for name, own in (good or {}).items()}
    shares = ((name, share) for name, share in known.items() if share is not None)
    return ", ".join(f"{name} {100 * share:.0f} %{marks.get(name, '')}" for name, share in shares)


def at_own_times(found: xr.Dataset, experiment: str) -> xr.Dataset:
    """Intervals of one of several experiments, at the times that it has."""
    own = found.sel(experiment=experiment, drop=True)
    return own.isel(time=np.flatnonzero(own["median"].notnull().any("observation").to_numpy()))


def quantity_figures(predictions: xr.DataTree) -> dict[str, Any]:
    """Medians and intervals of the quantities of interest, as `bayestwin.quantities` gives them; nothing without any.

    Of several experiments the same of each, by its name. `never` is the share of draws in which a first time does not
    come.
    """
    if not quantity_names(predictions["predictions"].to_dataset()):
        return {}
    found = quantities(predictions)
    if "experiment" in found.dims:
        names = map(str, found["experiment"].to_numpy())
        return {"quantities": {name: _quantity_figures(found.sel(experiment=name)) for name in names}}
    return {"quantities": _quantity_figures(found)}


def _quantity_figures(found: xr.Dataset) -> dict[str, Any]:
    told = {}
    for name in map(str, found["quantity"].to_numpy()):
        own = found.sel(quantity=name)
        ends = {
            f"{prob:g}": {end: float(own[end].sel(prob=prob)) for end in ("lower", "upper")}
            for prob in own["prob"].to_numpy()
        }
        figures = {"unit": own["units"].item(), "kind": own["kind"].item(), "median": float(own["median"])}
        told[name] = figures | {"intervals": ends, "never": float(own["never"]), "unsolved": float(own["unsolved"])}
    return told


def forecast_figures(found: xr.Dataset, zone: str = "") -> dict[str, Any]:
    """Medians and intervals as `bayestwin.intervals` gives them: times once, then lists as long by observation.

    Of several experiments the same of each, by its name, with the times since its first.

    Where draws are not there `failed` is their share.

    Args:
        found: The intervals.
        zone: Zone that was declared for dates, which then carry their offset from UTC; they are in UTC otherwise.
    """
    if "experiment" in found.dims:  # each at its own times, which are elapsed ones
        names = map(str, found["experiment"].to_numpy())
        assets = {name: forecast_figures(at_own_times(found, name)) for name in names}
        return {"kind": found.attrs["kind"], "assets": assets}
    observations = {}
    for name in found["observation"].values:
        own = found.sel(observation=name)
        ends = {
            f"{prob:g}": {end: own[end].sel(prob=prob).values for end in ("lower", "upper")}
            for prob in own["prob"].values
        }
        observations[str(name)] = {"unit": own["units"].item(), "median": own["median"].values, "intervals": ends}
        if "failed" in own:
            observations[str(name)]["failed"] = own["failed"].values
    times = found["time"].values
    if zone and times.dtype.kind == "M":
        times = [one.isoformat() for one in pd.DatetimeIndex(times).tz_localize("UTC").tz_convert(zone)]
    return {"kind": found.attrs["kind"], "time": times, "observations": observations}
