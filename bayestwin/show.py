"""What the commands print: short texts and tables for people. Numbers come from elsewhere."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import rich.box
import rich.console
import rich.markup
import rich.table
import xarray as xr

from bayestwin.assess import Finding, Gate, failed
from bayestwin.runs.pipeline import Results


def table(*columns: str) -> rich.table.Table:
    """An empty table in the one style used; the first column is text, the others are numbers."""
    made = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        made.add_column(column, justify="left" if number == 0 else "right")
    return made


def show_results(console: rich.console.Console, found: Results) -> None:
    """The summary after a calibration."""
    attrs, posterior = found.posterior.attrs, found.posterior["posterior"].to_dataset()
    times = found.posterior["observed_data"].to_dataset()["time"].values
    console.print(
        f"[bold]{attrs['twin']}[/bold]: {len(posterior.data_vars)} quantities calibrated on {len(times):,} times "
        f"from {moment(times[0])} to {moment(times[-1])}, {posterior.sizes['chain']} chains of "
        f"{posterior.sizes['draw']:,} draws, seed {attrs['seed']}."
    )
    if attrs["interrupted"]:
        console.print("[yellow]Interrupted:[/yellow] these are the draws made until then.")
    console.print(parameter_table(posterior))
    show_gates(console, found.gates)
    console.print(coverage_words(found))
    console.print(coverage_table(found.coverage))
    if found.scores is not None:
        console.print(score_table(found.scores))
    for path in sorted(p for p in found.run.iterdir() if not p.name.startswith(".")):
        console.print(f"  {path}", soft_wrap=True, highlight=False)
    timings = found.record.get("timings", {})
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in timings.items())
    console.print(f"  {sum(timings.values()):.0f} s: {parts}", highlight=False, soft_wrap=True)


def show_gates(console: rich.console.Console, gates: Sequence[Gate]) -> None:
    """Every gate's sentence, the failed ones marked."""
    bad = failed(gates)
    for gate in gates:
        mark = "[green]pass[/green]" if gate.passed else "[red]FAIL[/red]" if gate in bad else "[yellow]warn[/yellow]"
        console.print(f"  {mark}  {rich.markup.escape(gate.sentence)}", highlight=False, soft_wrap=True)
    if bad:
        console.print("[red]Do not rely on this result[/red] before the failed gates are understood.")


def parameter_table(posterior: xr.Dataset) -> rich.table.Table:
    """Mean, sd and 90 % interval of each quantity."""
    made = table("", "mean", "sd", "90 % equal-tailed interval", "unit")
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
        return "Coverage of held-out observations (* outside the band that chance allows):"
    return (
        "Coverage of the observations that were calibrated (* outside the band that chance allows); "
        "nothing was held out, so this flatters:"
    )


def coverage_table(covered: xr.Dataset) -> rich.table.Table:
    """Share inside each interval, by observation and `prob`."""
    probs = covered["prob"].values
    made = table("observation", *[f"{100 * p:g} %" for p in probs], "of")
    for name in covered["observation"].values:
        row = covered.sel(observation=name)
        cells = [
            f"{100 * float(row['coverage'].sel(prob=p)):.1f} %" + ("" if bool(row["within_band"].sel(prob=p)) else "*")
            for p in probs
        ]
        made.add_row(str(name), *cells, f"{int(row['num'].values[0]):,}")
    return made


def score_table(scored: xr.Dataset) -> rich.table.Table:
    """Errors of the forecast and of persistence."""
    made = table("observation", "RMSE", "MAE", "MAPE", "CRPS", "persistence RMSE", "skill", "unit")
    for name in scored["observation"].values:
        row = {key: float(v) for key, v in scored.sel(observation=name).data_vars.items() if v.dtype != object}
        made.add_row(
            str(name),
            *[f"{row[key]:.4g}" for key in ("rmse", "mae")],
            f"{row['mape']:.2g} %",
            *[f"{row[key]:.4g}" for key in ("crps", "persistence_rmse", "skill")],
            str(scored["units"].sel(observation=name).item()) if "units" in scored.coords else "",
        )
    return made


def forecast_table(found: xr.Dataset, most: int = 12) -> Iterable[rich.table.Table]:
    """Median and intervals of each observation at up to `most` times, evenly spaced."""
    rows = np.unique(np.linspace(0, found.sizes["time"] - 1, most).round().astype(int))
    for name in found["observation"].values:
        own = found.sel(observation=name).isel(time=rows)
        probs = own["prob"].values
        made = table(f"{name} ({own['units'].item()})", "median", *[f"{100 * p:g} % interval" for p in probs])
        for at in range(len(rows)):
            lower, upper = own["lower"].isel(time=at).values, own["upper"].isel(time=at).values
            made.add_row(
                moment(own["time"].values[at]),
                f"{float(own['median'][at]):.4g}",
                *[f"{low:.4g} … {high:.4g}" for low, high in zip(lower, upper, strict=True)],
            )
        yield made


def show_findings(console: rich.console.Console, findings: Sequence[Finding]) -> None:
    """Findings on telemetry, one line each."""
    marks = {"fail": "[red]FAIL[/red]", "warn": "[yellow]warn[/yellow]", "note": "[dim]note[/dim]"}
    for finding in findings:
        console.print(
            f"  {marks[finding.severity]}  {rich.markup.escape(finding.sentence)}",
            highlight=False,
            soft_wrap=True,
        )
    if not findings:
        console.print("  [green]pass[/green]  nothing to say against this telemetry")


def moment(value: Any) -> str:
    """A time of the user's, without digits that say nothing."""
    if isinstance(value, np.datetime64):
        return f"{pd.Timestamp(value):%Y-%m-%d %H:%M}"
    return f"{float(value):g}"


def number(value: float, spread: float) -> str:
    """A number with two significant digits of its spread."""
    if not (np.isfinite(value) and np.isfinite(spread)) or spread <= 0:
        return f"{value:.4g}"
    digits = 1 - int(np.floor(np.log10(spread)))
    if abs(value) >= 1e5 or abs(value) < 1e-5:
        size = int(np.floor(np.log10(abs(value)))) if value else 0
        return f"{value:.{max(size + digits, 1)}e}".replace("e+0", "e").replace("e-0", "e-")
    return f"{value:.{max(digits, 0)}f}"
