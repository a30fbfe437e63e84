"""What is printed of calibrations, forecasts and findings."""

import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
import rich.console
import rich.table
import xarray as xr

from bayestwin._base.wording import count
from bayestwin.check import Finding
from bayestwin.cli.text import (
    MARKS,
    moment,
    number,
    show_files,
    show_gates,
    show_judged,
    show_line,
    show_path,
    show_timings,
    table,
)
from bayestwin.project.calibrate import Results


def show_results(console: rich.console.Console, found: Results) -> None:
    """The summary after a calibration."""
    attrs, posterior = found.posterior.attrs, found.posterior["posterior"].to_dataset()
    times = found.posterior["observed_data"].to_dataset()["time"].values
    console.print(
        f"[bold]{attrs['twin']}[/bold]: {count(len(posterior.data_vars), 'quantity', 'quantities')} calibrated on "
        f"{count(len(times), 'time')} from {moment(times[0])} to {moment(times[-1])}, "
        f"{count(posterior.sizes['chain'], 'chain')} of {count(posterior.sizes['draw'], 'draw')}, "
        f"seed {attrs['seed']}."
    )
    if attrs["interrupted"]:
        console.print("[yellow]Interrupted:[/yellow] these are the draws made until then; go on with them by")
        console.print(f"  bayestwin resume {found.run}", soft_wrap=True, highlight=False, markup=False)
    console.print("Posterior, with equal-tailed intervals:")
    console.print(parameter_table(posterior))
    show_gates(console, found.gates)
    _show_covered(console, found)
    show_files(console, found.run)
    show_timings(console, found.record)


def show_coverage(console: rich.console.Console, found: Results) -> None:
    """Which run is judged; coverage, and scores where something was held out."""
    show_judged(console, found.run.name, str(found.record.get("job_file", "")))
    _show_covered(console, found)


def _show_covered(console: rich.console.Console, found: Results) -> None:
    console.print(coverage_words(found))
    console.print(coverage_table(found.coverage))
    if found.scores is not None:
        console.print(score_table(found.scores))


def show_forecast(console: rich.console.Console, found: xr.Dataset, path: pathlib.Path) -> None:
    """Medians and intervals of a forecast, and the file that has them all."""
    console.print(f"Medians and {found.attrs['kind']}s of new observations:")
    for made in forecast_tables(found):
        console.print(made)
    show_path(console, path)


def parameter_table(posterior: xr.Dataset) -> rich.table.Table:
    """Mean, sd and 90 % equal-tailed interval of each quantity."""
    made = table("", "mean", "sd", "90 % interval", "unit")
    for name, values in posterior.data_vars.items():
        low, high = np.quantile(values, [0.05, 0.95])
        spread = float(values.std())
        made.add_row(
            str(name),
            number(float(values.mean()), spread),
            number(spread, spread),
            f"{number(low, spread)} … {number(high, spread)}",
            str(values.attrs.get("units", "")),
        )
    return made


def coverage_words(found: Results) -> str:
    """What the coverage table is about."""
    if found.scores is not None:
        return "Coverage of held-out observations (* outside what chance allows):"
    return (
        "Coverage of the observations that were calibrated (* outside what chance allows); "
        "nothing was held out (`calibrate --hold-out-from TIME` does that), so this flatters:"
    )


def coverage_table(covered: xr.Dataset) -> rich.table.Table:
    """Share inside each interval, by observation and `prob`."""
    probs = covered["prob"].values
    made = table("observation", *[f"{100 * p:g} %" for p in probs], "of")
    for name in covered["observation"].values:
        row = covered.sel(observation=name)
        cells = [
            f"{100 * float(row['coverage'].sel(prob=p)):.1f} %"
            + ("" if bool(row["within_joint_band"].sel(prob=p)) else "*")
            for p in probs
        ]
        made.add_row(str(name), *cells, f"{int(row['num'].values[0]):,}")
    return made


def score_table(scored: xr.Dataset) -> rich.table.Table:
    """Errors of the forecast and of persistence."""
    made = table("observation", "RMSE", "MAE", "MAPE", "CRPS", "persistence\nRMSE", "skill")
    for name in scored["observation"].values:
        row = {key: float(v) for key, v in scored.sel(observation=name).data_vars.items() if v.dtype != object}
        unit = str(scored["units"].sel(observation=name).item()) if "units" in scored.coords else ""
        made.add_row(
            f"{name} ({unit})" if unit else str(name),
            *[f"{row[key]:.4g}" for key in ("rmse", "mae")],
            f"{row['mape']:.0f} %" if row["mape"] >= 10 else f"{row['mape']:.2g} %",
            *[f"{row[key]:.4g}" for key in ("crps", "persistence_rmse", "skill")],
        )
    return made


def forecast_tables(found: xr.Dataset, most: int = 12) -> Iterable[rich.table.Table]:
    """Median and intervals of each observation at up to `most` times, evenly spaced."""
    rows = np.unique(np.linspace(0, found.sizes["time"] - 1, most).round().astype(int))
    for name in found["observation"].values:
        own = found.sel(observation=name).isel(time=rows)
        unit = f" ({own['units'].item()})" if own["units"].item() else ""
        made = table(f"{name}{unit}", "median", *[f"{100 * p:g} % interval" for p in own["prob"].values])
        for at in range(len(rows)):
            lower, upper = own["lower"].isel(time=at).values, own["upper"].isel(time=at).values
            spread = float(upper[-1] - lower[-1]) / 4.0
            made.add_row(
                moment(own["time"].values[at]),
                number(float(own["median"][at]), spread),
                *[f"{number(low, spread)} … {number(high, spread)}" for low, high in zip(lower, upper, strict=True)],
            )
        if len(rows) < found.sizes["time"]:
            made.caption = f"{len(rows)} of {found.sizes['time']:,} times; the file has all"
        yield made


def show_findings(console: rich.console.Console, findings: Sequence[Finding]) -> None:
    """Findings on telemetry, one line each."""
    for finding in findings:
        show_line(console, MARKS[finding.severity], finding.sentence)
