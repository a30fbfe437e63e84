"""Shadow: a candidate predicts the same rows as what is in production, and is held against it by CRPS.

Nothing that is in use changes. What is found lies in the folder of the candidate, for the gate of that name.
"""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import scipy.fft
import scipy.stats
import xarray as xr

from bayestwin._base.progress import Progress
from bayestwin._base.units import convert
from bayestwin.assess import crps, draws
from bayestwin.assess.coverage import frequencies
from bayestwin.errors import InvalidInput, InvalidSetting, InvalidTelemetry
from bayestwin.model.describe import fingerprint
from bayestwin.predict import predict
from bayestwin.project.model import Model, load_model, read_model_telemetry
from bayestwin.project.predict import split_made_with
from bayestwin.project.record import read_record, renew_outputs, to_json
from bayestwin.project.run import POSTERIOR, recorded_model, sha256_of
from bayestwin.registry.evidence import SHADOW, open_promotable
from bayestwin.registry.log import InStage, stages_after
from bayestwin.registry.production import check_unchanged, runs_of
from bayestwin.registry.shared import current_log
from bayestwin.results.store import load, write_text_durably
from bayestwin.telemetry import Telemetry

PROB = 0.95
"""Probability of the interval of a difference."""

FEWEST = 4
"""Observations below which nothing is said of their difference."""


class PredictedRows(NamedTuple):
    """What a run predicts of some rows.

    Attributes:
        dataset: The group `predictions`.
        observed: The observations that it can be held against, by name.
    """

    dataset: xr.Dataset
    observed: dict[str, draws.ObservedPoints]


class Shadowed(NamedTuple):
    """A candidate held against what is in production.

    Attributes:
        run: Folder of the candidate.
        path: The file that has the record.
        record: What was found, as plain values: hashes of both posteriors and of the telemetry, its first and last
            time and `span_seconds`, and by observation `num`, `num_effective` (as many independent ones would be worth
            as much), mean CRPS of the `candidate` and of `production` in its unit, their `difference` (negative where
            the candidate is better), `standard_error`, and `lower` and `upper` end of its 95 % interval. NaN where that
            is not known, as of draws that were not solved.
    """

    run: pathlib.Path
    path: pathlib.Path
    record: dict[str, Any]

    @property
    def verdicts(self) -> dict[str, str]:
        """By observation: `"better"`, `"worse"`, `"no difference seen"` or `"cannot be told"`."""
        return {name: _verdict(one) for name, one in self.record["observations"].items()}


def shadow(
    model: str | pathlib.Path,
    results: str | pathlib.Path = "results",
    *,
    telemetry: str | pathlib.Path,
    run: str | None = None,
    job: str = "job.toml",
    progress: Progress | None = None,
) -> Shadowed:
    """Let a candidate and what is in production predict the same rows, and compare their CRPS.

    Args:
        model: The model folder.
        results: Where runs are filed.
        telemetry: File of rows that neither was calibrated on, with their inputs and observations.
        run: Name of the candidate; by default the run in staging.
        job: Name of the job file, whose `[predict]` says how both predict.
        progress: Where progress is shown.

    Returns:
        What was found, which lies as `shadow.json` in the folder of the candidate as well.

    Raises:
        InvalidInput: There is no candidate, nothing in production, or they predict nothing in common.
        InvalidTelemetry: Rows that one of them was calibrated on, or that do not fit.
        CorruptArtifact: One of the posteriors was changed since, or the log was.
    """
    own = load_model(pathlib.Path(model), job)
    runs = runs_of(model, results)
    now = stages_after(current_log(runs).events)
    candidate = open_promotable(runs, _candidate(runs, run, now.staging))
    production = now.production
    if production is None or production.run == candidate.name:
        raise InvalidInput(
            f"There is no production of `{runs.name}` that `{candidate.name}` could be compared with.",
            expected="another run in production",
            received="nothing in production" if production is None else "the same run",
            advice="The first production has nothing to be compared with; name a candidate by `--run`.",
        )
    check_unchanged(runs, production)
    found = [_predicted(own, runs / one, pathlib.Path(telemetry), progress) for one in (candidate.name, production.run)]
    ours, theirs = (one for one, _ in found)
    rows = found[0][1]
    observations = _compared(ours, theirs, candidate.name, production.run)
    times = rows.table.index[np.unique(np.concatenate([one.positions for one in ours.observed.values()]))]
    record = {
        "run": candidate.name,
        "production": production.run,
        "posterior_sha256": candidate.posterior_sha256,
        "production_posterior_sha256": production.posterior_sha256,
        "telemetry": {"file": pathlib.Path(telemetry).name, "sha256": sha256_of(pathlib.Path(telemetry))},
        "first": times[0],
        "last": times[-1],
        "span_seconds": _seconds(times[-1] - times[0], rows, own),
        "prob": PROB,
        "observations": observations,
    }
    path = write_text_durably(candidate.folder / SHADOW, to_json(record))
    renew_outputs(candidate.folder)
    return Shadowed(candidate.folder, path, record)


def _candidate(runs: pathlib.Path, run: str | None, staging: InStage | None) -> str:
    if run is not None:
        return run
    if staging is not None:
        return staging.run
    raise InvalidInput(
        f"There is no candidate of `{runs.name}`.",
        expected="a run in staging, or `--run`",
        received="neither",
        advice=f"Promote one: `bayestwin promote {runs.name} --to staging`.",
    )


def _predicted(
    own: Model, run: pathlib.Path, telemetry: pathlib.Path, progress: Progress | None
) -> tuple[PredictedRows, Telemetry]:
    """What a run predicts of the rows of a file, and these: with the twin that it was calibrated with."""
    posterior = load(run / POSTERIOR)
    same = posterior.attrs["twin_sha256"] == fingerprint(own.twin)
    model = own if same else recorded_model(run, read_record(run))
    rows = read_model_telemetry(model, telemetry, split=split_made_with(posterior))
    if not isinstance(rows, Telemetry):
        raise InvalidInput(
            f"`shadow` is of one asset, and `{run.name}` is of several.",
            expected="runs of one asset",
            received=f"{len(rows)} assets",
            advice="Compare each asset by a job of its own.",
        )
    tree = predict(model.twin, posterior, rows, progress=progress, **own.job.predict.model_dump())
    _, dataset = draws.predictive(tree)
    return PredictedRows(dataset, draws.pairs(tree, dataset, rows)), rows


def _compared(ours: PredictedRows, theirs: PredictedRows, run: str, production: str) -> dict[str, dict[str, Any]]:
    """What is told of each observation that both predict."""
    units = [{name: str(one.dataset[name].attrs.get("units", "")) for name in one.observed} for one in (ours, theirs)]
    if units[0] != units[1] or not np.array_equal(ours.dataset["time"], theirs.dataset["time"]):
        raise InvalidInput(
            f"`{run}` and `{production}` do not predict the same.",
            expected="the same observations, in the same units, at the same times",
            received=f"{units[0]} and {units[1]}",
            advice="Their CRPS can be compared by `bayestwin compare` alone.",
        )
    found = {}
    for name, points in ours.observed.items():
        scored = [crps(draws.samples(one.dataset, name)[points.positions], points.values) for one in (ours, theirs)]
        means = {"candidate": float(scored[0].mean()), "production": float(scored[1].mean())}
        found[name] = {"unit": units[0][name]} | means | mean_difference(scored[0] - scored[1])
    return found


def mean_difference(differences: np.ndarray) -> dict[str, float]:
    """The mean of differences that depend on those before them, and how well it is known.

    With V the variance of the mean from the squares of ν cosine transforms at the lowest frequencies, as in
    `assess.coverage` (Müller 2007, doi:10.1016/j.jeconom.2007.01.019), `num_effective = variance / V`, not more than
    there are, `standard_error = √(variance / num_effective)`, and the interval is that of Student's t with ν degrees of
    freedom. Nothing is taken for independent: errors of a forecast are not.

    Args:
        differences: In the order of time, shape (n,).
    """
    num = differences.size
    told = {"num": num, "difference": float(differences.mean()) if num else np.nan}
    if num < FEWEST or not np.isfinite(differences).all():
        return told | dict.fromkeys(("num_effective", "standard_error", "lower", "upper"), np.nan)
    rest = differences - told["difference"]
    freedom = frequencies(differences, np.arange(num), num)
    waves = np.asarray(scipy.fft.dct(rest))[1 : freedom + 1] / 2  # SciPy's is twice the sum
    variance, of_mean = float(np.mean(rest**2)), float(2.0 * np.mean(waves**2) / num**2)
    effective = min(float(num), variance / of_mean) if of_mean > 0 else float(num)
    error = float(np.sqrt(variance / effective))
    reach = float(scipy.stats.t.ppf((1 + PROB) / 2, freedom)) * error
    ends = {"lower": told["difference"] - reach, "upper": told["difference"] + reach}
    return told | {"num_effective": effective, "standard_error": error} | ends


def _verdict(one: Mapping[str, float]) -> str:
    if not (np.isfinite(one["lower"]) and np.isfinite(one["upper"])):
        return "cannot be told"
    return "worse" if one["lower"] > 0 else "better" if one["upper"] < 0 else "no difference seen"


def _seconds(span: Any, rows: Telemetry, model: Model) -> float:
    """How long rows last: dates say it, numbers in the unit of the telemetry's times."""
    if rows.dated:
        return float(span.total_seconds())
    unit = rows.units.get("time") or model.twin.time_unit
    try:
        return float(convert(np.asarray(float(span)), unit, "s", "time", InvalidTelemetry))
    except InvalidTelemetry as reason:
        raise InvalidSetting(
            f"How long `{rows.source}` lasts cannot be told in days.",
            expected="dates, or times in a unit of time",
            received=f"times in `{unit}`",
            advice='State the unit of the times: `units = { time = "h" }` in `[telemetry]`.',
        ) from reason
