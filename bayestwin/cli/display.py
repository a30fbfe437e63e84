"""What commands print, and its style: one kind of table, marked lines, numbers with as many digits as they are worth.

Here stand calibrations, forecasts, checks, validations and runs; the other verbs are in `display_insight`. The verbs
that draw are named for the reader of types alone: showing a calibration loads none of them.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import rich.box
import rich.console
import rich.markup
import rich.padding
import rich.table
import rich.text
import xarray as xr

from bayestwin._base.wording import DO_NOT_RELY_ON, count
from bayestwin.assess import Gate, draws, failed, intervals, quantities
from bayestwin.assess.coverage import kept
from bayestwin.assess.residuals import width_words
from bayestwin.assess.trust import Validated
from bayestwin.check import Finding
from bayestwin.check.finding import where
from bayestwin.project.calibrate import Results
from bayestwin.project.index import Entry
from bayestwin.project.record import at_own_times, coverage_words
from bayestwin.project.run import ASSETS, Carried, results_of
from bayestwin.report.reading import forgotten_words, zone_of
from bayestwin.results.schema import quantity_names
from bayestwin.telemetry import said

if TYPE_CHECKING:
    from bayestwin.project.check import CheckedModel
    from bayestwin.project.diff import Change, RunDifference
    from bayestwin.project.monitor import MonitoredRun
    from bayestwin.project.predict import LaterPredictions
    from bayestwin.project.reproduce import Reproduction
    from bayestwin.project.update import Updated
    from bayestwin.project.watch import WatchedArrival

RELY = f"[red]{DO_NOT_RELY_ON} this result[/red] before the failed gates are understood."

MARKS = {"fail": "[red]FAIL[/red]", "warn": "[yellow]warn[/yellow]", "note": "[dim]note[/dim]"}
"""By severity."""


def table(*columns: str) -> rich.table.Table:
    """An empty table in the one style used: text, then numbers. What is too wide is wrapped, never cut off."""
    made = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        made.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    return made


def show_path(console: rich.console.Console, path: pathlib.Path) -> None:
    """A file on a line of its own, whole, so that it can be copied."""
    console.print(f"  {path}", soft_wrap=True, highlight=False, markup=False)


def show_judged(console: rich.console.Console, run: str, job: str) -> None:
    """Which run what follows is about, and by which job it was made, if not by the usual one."""
    of_job = f" of job {job}" if job not in ("", "job.toml") else ""
    console.print(f"Judged is run {run}{of_job}.", soft_wrap=True, highlight=False, markup=False)


def show_files(console: rich.console.Console, run: pathlib.Path) -> None:
    """The results of a run, a file a line; the pages of a fleet's assets, which may be many, in one line."""
    names = results_of(run)
    pages = [name for name in names if name.startswith(f"{ASSETS}/") and name.endswith(".html")]
    for name in names:
        if name not in pages:
            show_path(console, run / name)
    if pages:
        words = f"{count(len(pages), 'page')}, one an asset, in {run / ASSETS}"
        console.print(f"  {words}", soft_wrap=True, highlight=False, markup=False)


def show_timings(console: rich.console.Console, record: Mapping[str, Any]) -> None:
    """What a run took, in all and by phase."""
    timings = record.get("timings", {})
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in timings.items())
    show_line(console, "", f"{sum(timings.values()):.0f} s: {parts}")


def show_gates(console: rich.console.Console, gates: Sequence[Gate], bad: str = RELY) -> None:
    """Every gate's sentence, the failed ones marked; then `bad`, in rich's markup, where some failed."""
    for gate in gates:
        mark = "[green]pass[/green]" if gate.passed else MARKS[gate.severity]
        show_line(console, mark, gate.sentence)
    if failed(gates):
        console.print(bad)


def show_line(console: rich.console.Console, mark: str, words: str) -> None:
    """A mark and a sentence: with a hanging indent on a terminal, elsewhere as one line, for logs and `grep`."""
    words = rich.markup.escape(words)
    if not console.is_terminal:
        console.print(f"  {mark}  {words}" if mark else f"  {words}", highlight=False, soft_wrap=True)
        return
    grid = rich.table.Table.grid(padding=(0, 2))
    grid.add_row(*([mark, words] if mark else [words]))
    console.print(rich.padding.Padding(grid, (0, 0, 0, 2)), highlight=False)


def moment(value: Any, zone: str = "") -> str:
    """A time of the user's, without digits that say nothing, in the zone that was declared."""
    if isinstance(value, np.datetime64):
        return said(pd.Timestamp(value).floor("s"), zone)
    return f"{float(value):.12g}"


def number(value: float, spread: float) -> str:
    """A number with two significant digits of its spread."""
    if not (np.isfinite(value) and np.isfinite(spread)) or spread <= 0:
        return f"{value:.4g}"
    digits = 1 - int(np.floor(np.log10(spread)))
    value = round(value, digits) + 0.0  # no negative zero
    if value and (abs(value) >= 1e5 or spread < 1e-6):
        size = int(np.floor(np.log10(abs(value))))
        return f"{value:.{max(size + digits, 1)}e}".replace("e+0", "e").replace("e-0", "e-")
    return f"{value:.{min(max(digits, 0), 7)}f}"


# What is printed of calibrations, forecasts and findings.


def show_results(console: rich.console.Console, found: Results) -> None:
    """The summary after a calibration."""
    attrs, posterior = found.posterior.attrs, found.posterior["posterior"].to_dataset()
    console.print(
        f"[bold]{attrs['twin']}[/bold]: {count(len(posterior.data_vars), 'quantity', 'quantities')} calibrated on "
        f"{_calibrated_words(found)}, "
        f"{count(posterior.sizes['chain'], 'chain')} of {count(posterior.sizes['draw'], 'draw')}, "
        f"seed {attrs['seed']}."
    )
    for words in found.split.set_aside.values():
        show_line(console, "[dim]note[/dim]", f"Set aside: {words}")
    if attrs["interrupted"]:
        console.print("[yellow]Interrupted:[/yellow] these are the draws made until then; go on with them by")
        console.print(f"  bayestwin resume {found.run}", soft_wrap=True, highlight=False, markup=False)
    console.print("Posterior, with equal-tailed intervals:")
    console.print(parameter_table(posterior))
    if words := width_words(found.gates):
        show_line(console, "[yellow]![/yellow]", words)
    show_gates(console, found.gates)
    _show_covered(console, found)
    show_files(console, found.run)
    show_timings(console, found.record)


def show_update(console: rich.console.Console, made: Carried[Updated]) -> None:
    """What an update did, and the summary of what came of it."""
    told = made.found.told
    parts = [count(told["readings"], "new reading")] + ([f"{told['revised']:,} revised"] if told["revised"] else [])
    how = (
        f"draws are weighted by them, and {told['effective']:,.0f} count"
        if told["how"] == "weighted"
        else "chains went on over the whole record"
    )
    shape = "not known" if told["pareto_k"] is None else f"{told['pareto_k']:.2f}"
    console.print(
        f"Run {made.found.earlier} with {' and '.join(parts)}: {how} (Pareto k {shape}, weighted up to "
        f"{told['max_k']:g}).",
        soft_wrap=True,
        highlight=False,
    )
    if words := forgotten_words(made.found.results.posterior):
        show_line(console, "", words)
    show_results(console, made.found.results._replace(record=made.record))


def watched_words(one: WatchedArrival) -> rich.text.Text:
    """What became of a file that arrived."""
    color = "red" if one.needs_somebody else "green"
    verdict = f"{one.verdict}: " if one.verdict else ""
    into = f" (run {one.run})" if one.fate == "counted" else ""
    return rich.text.Text.assemble(f"{one.name}  ", (one.fate, color), f"{into}  {verdict}{one.reason}")


def _calibrated_words(found: Results) -> str:
    """How much was calibrated: how many times, from when to when; or how many assets."""
    known = found.posterior["observed_data"].to_dataset()
    if "experiment" in known.dims:
        seen = sum(int(np.isfinite(one.to_numpy().astype(float)).sum()) for one in known.data_vars.values())
        return f"{count(known.sizes['experiment'], 'asset')} with {count(seen, 'observation')}"
    times, zone = known["time"].values, zone_of(found.posterior)
    return f"{count(len(times), 'time')} from {moment(times[0], zone)} to {moment(times[-1], zone)}"


def show_coverage(console: rich.console.Console, found: Results) -> None:
    """Which run is judged; coverage, and scores where something was held out."""
    show_judged(console, found.run.name, str(found.record.get("job_file", "")))
    _show_covered(console, found)


def _show_covered(console: rich.console.Console, found: Results) -> None:
    console.print(held_out_words(found))
    console.print(coverage_table(found.coverage))
    if found.scores is not None:
        console.print(score_table(found.scores))


MOST_ASSETS = 5
"""Assets of which a forecast is printed."""


def show_forecast(console: rich.console.Console, made: LaterPredictions, zone: str = "") -> None:
    """Medians and intervals of a forecast, its times in the zone that was declared, and the file that has them all.

    Before that, how it begins where it starts anew, and the paths that failed.
    """
    found = intervals(made.predictions, prob=(0.5, 0.9))
    console.print(f"Medians and {found.attrs['kind']}s of new observations:")
    names = list(found["experiment"].to_numpy()) if "experiment" in found.dims else []
    for name in names[:MOST_ASSETS] if names else [None]:
        if name is not None:
            console.print(f"Asset {name}, times since its first:", highlight=False, markup=False)
        for one in forecast_tables(found if name is None else at_own_times(found, str(name)), zone):
            console.print(one)
    if len(names) > MOST_ASSETS:
        console.print(f"{len(names) - MOST_ASSETS} more assets: the file has all.", highlight=False)
    if quantity_names(made.predictions["predictions"].to_dataset()):
        console.print("Quantities of interest, over all of these times:")
        console.print(quantity_table(quantities(made.predictions, prob=(0.5, 0.9))))
    if words := draws.start_words(made.predictions):
        show_line(console, "[dim]note[/dim]", words)
    if lost := draws.lost(made.predictions):
        show_line(console, "[yellow]![/yellow]", lost.words)
    for sentence in made.beyond:
        show_line(console, "[yellow]![/yellow]", sentence)
    if made.beyond:
        show_line(console, "", "There the equations alone speak: nothing that was calibrated says whether they hold.")
    show_path(console, made.path)


def quantity_table(found: xr.Dataset) -> rich.table.Table:
    """Medians and intervals of quantities of interest, of each asset where there are several."""
    made = table("", "median", "50 % interval", "90 % interval", "unit", "never")
    assets = [found] if "experiment" not in found.dims else [found.sel(experiment=one) for one in found["experiment"]]
    for asset in assets:
        for name in asset["quantity"].to_numpy():
            own = asset.sel(quantity=name)
            spread = float(own["upper"].sel(prob=0.9) - own["lower"].sel(prob=0.9)) / 3.3
            ends = [[own[end].sel(prob=prob).item() for end in ("lower", "upper")] for prob in (0.5, 0.9)]
            told = [" – ".join(or_later(end, spread) for end in pair) for pair in ends]
            label = f"{name}[{asset['experiment'].item()}]" if "experiment" in asset.coords else str(name)
            never = f"{100 * own['never'].item():.0f} %" if own["kind"].item() == "FirstTime" else ""
            made.add_row(label, or_later(own["median"].item(), spread), *told, str(own["units"].item()), never)
    return made


def or_later(value: float | None, spread: float) -> str:
    """A number; of a time that does not come before the end, also where JSON has null for it, that it is later."""
    if value is None or np.isinf(value):
        return "earlier" if value is not None and value < 0 else "later"
    return number(value, spread if spread > 1e-6 * abs(value) else 0.0)


MOST_OWN = 40
"""Rows of values that assets have of their own, in a table."""


def parameter_table(posterior: xr.Dataset) -> rich.table.Table:
    """Mean, sd and 90 % equal-tailed interval of each quantity, of what each asset has of its own one by one."""
    made = table("", "mean", "sd", "90 % interval", "unit")
    rows = [
        (f"{name}[{one}]", values.sel(experiment=one)) if "experiment" in values.dims else (str(name), values)
        for name, values in posterior.data_vars.items()
        for one in (values["experiment"].to_numpy() if "experiment" in values.dims else ("",))
    ]
    own = sum("experiment" in values.coords for _, values in rows)
    for name, values in rows:
        if own > MOST_OWN and "experiment" in values.coords:
            continue
        low, high = np.quantile(values, [0.05, 0.95])
        spread = float(values.std())
        made.add_row(
            rich.markup.escape(name),
            number(float(values.mean()), spread),
            number(spread, spread),
            f"{number(low, spread)} … {number(high, spread)}",
            str(values.attrs.get("units", "")),
        )
    if own > MOST_OWN:
        made.caption = f"without {own} values that assets have of their own: the report has them"
    return made


def held_out_words(found: Results) -> str:
    """What the coverage table is about."""
    if found.scores is not None:
        return "Coverage of held-out observations (* outside what chance allows, ? too few to tell):"
    return (
        "Coverage of the observations that were calibrated (* outside what chance allows, ? too few to tell); "
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
            + {True: "", False: "*", None: "?"}[kept(row.sel(prob=p))]
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


def forecast_tables(found: xr.Dataset, zone: str = "", most: int = 12) -> Iterable[rich.table.Table]:
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
                moment(own["time"].values[at], zone),
                number(float(own["median"][at]), spread),
                *[f"{number(low, spread)} … {number(high, spread)}" for low, high in zip(lower, upper, strict=True)],
            )
        if len(rows) < found.sizes["time"]:
            made.caption = f"{len(rows)} of {found.sizes['time']:,} times; the file has all"
        yield made


def show_findings(console: rich.console.Console, findings: Sequence[Finding]) -> None:
    """Findings on telemetry, one line each; notes of one kind once, where several experiments have them."""
    for finding, sentence in noted_once(findings):
        show_line(console, MARKS[finding.severity], sentence)


MOST_NAMED = 5
"""Experiments that are named where a note is as much about many others."""


def noted_once(findings: Sequence[Finding]) -> Iterable[tuple[Finding, str]]:
    """Findings with their sentences: of notes of one kind about several experiments the first, and who has them too."""
    alike: dict[Any, list[Finding]] = {}
    for number, one in enumerate(findings):
        together = one.severity == "note" and one.experiment
        alike.setdefault((one.kind, one.column) if together else number, []).append(one)
    for first, *others in alike.values():
        names = [f"`{one.experiment}`" for one in others]
        more = ", ".join(names[:MOST_NAMED]) + (", …" if len(names) > MOST_NAMED else ".")
        yield first, f"{first.sentence} Likewise in {len(names)} more: {more}" if others else first.sentence


# What is printed of a check: a table of findings, the worst first, and where the page lies.


def show_checked(console: rich.console.Console, found: Carried[CheckedModel]) -> None:
    """A table on a terminal, one line a finding elsewhere; then what follows, and the files."""
    findings = found.found.findings
    if console.is_terminal:
        console.print(finding_table(findings))
    else:
        show_findings(console, findings)
    fails = sum(one.severity == "fail" for one in findings)
    warns = sum(one.severity == "warn" for one in findings)
    if fails:
        console.print(f"[red]Do not calibrate yet:[/red] {count(fails, 'finding')} must be understood first.")
    elif warns:
        console.print(f"[yellow]Look at[/yellow] {count(warns, 'warning')} before you rely on a calibration.")
    else:
        console.print("[green]Nothing speaks against a calibration.[/green]")
    show_files(console, found.run)


def finding_table(findings: tuple[Finding, ...]) -> rich.table.Table:
    """Severity, kind, rows and sentence of each."""
    made = table("", "kind", "rows", "what was found")
    for column in made.columns[1:]:
        column.justify = "left"
    made.columns[3].ratio = 1
    for one, sentence in noted_once(findings):
        rows = where(one.evidence).split(" ", 1)[1] if "rows" in one.evidence else ""
        made.add_row(MARKS[one.severity], one.kind, rows, rich.markup.escape(sentence))
    return made


# What is printed of a validation: the verdict, its reasons, and coverage of both kinds of forecasts.


def show_validation(console: rich.console.Console, found: Carried[Validated]) -> None:
    """The verdict first, then what it rests on."""
    verdict = found.found.trust
    show_judged(console, found.found.run, found.found.job)
    colour = {"pass": "green", "warn": "yellow", "fail": "red"}[verdict.status]
    console.print(f"[{colour}]{rich.markup.escape(verdict.headline)}[/{colour}]", soft_wrap=not console.is_terminal)
    for words, mark, sentences in (
        ("What holds:", "[green]+[/green]", verdict.holds),
        ("Where intervals cannot be trusted, and what speaks against them:", "[yellow]![/yellow]", verdict.limits),
        ("What this rests on:", "", verdict.basis),
        ("What was not checked:", "[dim]?[/dim]", verdict.unchecked),
    ):
        if sentences:
            console.print(words)
            for sentence in sentences:
                show_line(console, mark, sentence)
    for part, evidence in found.found.evidence.items():
        console.print(f"Coverage, {part} (* outside what chance allows, ? too few to tell):")
        console.print(coverage_table(evidence.whole))
    show_files(console, found.run)


# What is printed of runs: lists, one run, two held against each other, and one made again.

STATUS = {"finished": "green", "running": "cyan", "interrupted": "yellow"}
ABOUT = {
    "inputs": "Inputs",
    "twin": "Twin",
    "settings": "Settings",
    "environment": "Environment",
    "outcome": "Outcome",
    "gates": "Gates",
}


def show_monitored(console: rich.console.Console, found: MonitoredRun) -> None:
    """Print a verdict on new telemetry, what the evidence is by observation, and what moved."""
    one = found.found
    colour = {"ok": "green", "act": "red"}.get(one.verdict, "yellow")
    show_line(console, f"[{colour}]{one.verdict}[/{colour}]", one.reason)
    if one.observations:
        shown = table("observation", "readings", "bet on", "e-value")
        for name, own in one.observations.items():
            shown.add_row(name, f"{own['readings']:,}", f"{own['trusted']:,}", f"{own['e_value']:.3g}")
        console.print(shown)
    if one.shifts:
        shown = table("if it alone moved", "before", "after", "unit", "z")
        for own in one.shifts:
            before = "–" if own.kind == "sensor" else f"{own.before:.4g}"
            label = f"{own.name} (sensor, off by)" if own.kind == "sensor" else own.name
            shown.add_row(label, before, f"{own.after:.4g}", own.unit, f"{own.z:.1f}")
        console.print(shown)
    for words in one.infrastructure:
        show_line(console, "[yellow]![/yellow]", words)
    show_path(console, found.page)


def show_runs(console: rich.console.Console, entries: Sequence[Entry], total: int) -> None:
    """One line a run."""
    if not entries:
        console.print("No such runs.", highlight=False)
        return
    made = table("run", "model", "command", "status", "seed", "90 % coverage")
    made.columns[0].no_wrap = True  # it is there to be copied
    for entry in entries:
        made.add_row(
            entry.run,
            entry.model or "–",
            entry.command or "–",
            f"[{STATUS.get(entry.status, 'red')}]{entry.status}[/]",
            "–" if entry.seed is None else str(entry.seed),
            coverage_words(entry.coverage) or "–",
        )
    console.print(made)
    if len(entries) < total:
        console.print(f"The newest {len(entries)} of {total}; `--most` shows more.", highlight=False)


def show_run(
    console: rich.console.Console, folder: pathlib.Path, record: Mapping[str, Any], posterior: xr.DataTree | None
) -> None:
    """What its record says, for people, and the posterior where there is one; `--json` prints all of the record."""
    console.print(
        f"[bold]{record.get('model')}[/bold] {record.get('command')}: {record.get('status')}", highlight=False
    )
    lines = {
        "began": record.get("began"),
        "ended": record.get("ended"),
        "error": record.get("error"),
        "twin": str(record.get("twin_sha256") or "")[:12],
        "telemetry": str((record.get("telemetry_sha256") or {}).get("calibration") or "")[:12],
        "code": str(record.get("code_sha256") or "")[:12],
        "settings": json.dumps((record.get("job") or {}).get("calibrate") or {}),
        "versions": ", ".join(f"{name} {version}" for name, version in (record.get("versions") or {}).items()),
        "host": ", ".join(str(value) for value in (record.get("host") or {}).values()),
    }
    for name, value in lines.items():
        if value:
            show_line(console, f"{name:<9}", str(value))
    if posterior is not None:
        console.print("Posterior, with equal-tailed intervals:")
        console.print(parameter_table(posterior["posterior"].to_dataset()))
    covered = coverage_words((record.get("summary") or {}).get("coverage") or {})
    if covered:
        kind = "held-out observations" if record["summary"].get("held_out") else "the observations that were calibrated"
        console.print(f"Inside the 90 % interval, of {kind}: {covered}.", highlight=False)
    for gate in record.get("gates") or ():
        show_line(console, "[green]pass[/green]" if gate["passed"] else MARKS[gate["severity"]], str(gate["sentence"]))
    show_files(console, folder)


def show_difference(
    console: rich.console.Console, first: pathlib.Path, second: pathlib.Path, found: RunDifference
) -> None:
    """What differs, part by part, then how far posteriors agree."""
    console.print(f"From {first.name} to {second.name}:", highlight=False)
    for about, words in ABOUT.items():
        own = [change for change in found.changes if change.about == about]
        if not own:
            continue
        console.print(f"[bold]{words}[/bold]", highlight=False)
        for change in own:
            show_line(console, "", _changed(change))
    if not found.changes:
        console.print("  nothing differs: inputs, settings, environment and outcome are the same", highlight=False)
    if found.agreements:
        console.print("Posteriors, least overlap first (1: the same, 0: apart):", highlight=False)
        made = table("", first.name, second.name, "shift / sd", "overlap", "unit")
        for one in found.agreements:
            pairs = [f"{number(mean, spread)} ± {number(spread, spread)}" for mean, spread in (one.first, one.second)]
            made.add_row(rich.markup.escape(one.name), *pairs, f"{one.shift:+.2f}", f"{one.overlap:.2f}", one.unit)
        console.print(made)
    for run, names in ((first, found.only_first), (second, found.only_second)):
        if names:
            show_line(console, "", f"only in {run.name}: {', '.join(names)}")


def show_kit(console: rich.console.Console, path: pathlib.Path) -> None:
    """The archive, and how it is used."""
    show_path(console, path)
    console.print("Unpacked anywhere, `sh rerun` in its folder makes the run again; so does", highlight=False)
    console.print(f"  bayestwin reproduce {path}", soft_wrap=True, highlight=False, markup=False)


def show_reproduction(console: rich.console.Console, found: Reproduction) -> None:
    """Whether a run came out the same, and what was different about making it."""
    for change in found.changes:
        show_line(console, "[dim]note[/dim]", _changed(change))
    for one in found.files:
        mark = "[green]same[/green]" if found.accepts(one) else "[red]DIFF[/red]"
        show_line(console, mark, one.sentence)
    host = "a host of the same kind" if found.same_host else "another kind of host"
    words = {True: "comes out the same", False: "[red]does not come out the same[/red]"}[found.holds]
    console.print(f"Run {found.run} {words}, on {host}: {count(len(found.files), 'result')} compared.", highlight=False)


def _changed(change: Change) -> str:
    first, second = ("nothing" if value is None else _short(value) for value in (change.first, change.second))
    return f"{change.name}: {first} → {second}"


def _short(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    if len(text) == 64 and set(text) <= set("0123456789abcdef"):
        return text[:12]
    return text if len(text) <= 200 else f"{text[:200]}…"
