"""What is printed of `identify`, `sensitivity`, `design`, `compare`, `sbc`, `batch`, `fleet` and `scenario`."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import rich.console
import rich.live
import rich.markup
import rich.table
import xarray as xr

from bayestwin._base.wording import NARROW, count, percent
from bayestwin.assess import failed
from bayestwin.cli.display import (
    MARKS,
    moment,
    number,
    or_later,
    show_files,
    show_gates,
    show_line,
    show_path,
    show_timings,
    table,
)
from bayestwin.insight.influence import FINE
from bayestwin.project.batch import Refused, Task, TaskOutcome, doubts
from bayestwin.project.compare import Compared
from bayestwin.project.design import MOST_OPTIONS, Designed
from bayestwin.project.each import EachFound
from bayestwin.project.insight import MOST_POINTS, Identified, Ranked
from bayestwin.project.predict import FleetFound
from bayestwin.project.run import Carried
from bayestwin.project.scenario import ScenarioOutcome, headline


def show_identified(console: rich.console.Console, found: Carried[Identified]) -> None:
    """The table, the verdict, and the files of a run."""
    tree = found.found.tree
    quantities = tree["quantities"].to_dataset()
    console.print(
        f"[bold]{tree.attrs['twin']}[/bold]: {count(quantities.sizes['quantity'], 'quantity', 'quantities')}, "
        f"information at {count(tree['points'].sizes['point'], 'point')}, seed {tree.attrs['seed']}."
    )
    console.print("Spreads (sd; of the logarithm where it says log) and contraction, 0 the prior, 1 known exactly:")
    console.print(contraction_table(tree))
    show_gates(console, found.found.gates)
    show_files(console, found.run)


def contraction_table(tree: xr.DataTree) -> rich.table.Table:
    """Spread of the prior and contraction of each quantity, with the posterior and what is planned beside."""
    group = tree["quantities"].to_dataset()
    columns = {"prior sd": group["prior_sd"], "expected sd": group["expected_sd"]}
    columns["expected contraction"] = group["expected_contraction"]
    if "contraction" in group:
        columns |= {"sd of draws": group["sd"], "contraction of draws": group["contraction"]}
    if "planned" in tree:
        # experiments that are only planned have quantities of their own, which their gate speaks of
        later = tree["planned"].to_dataset().sel(quantity=group["quantity"])
        columns |= {"sd with planned": later["sd_with"], "contraction with planned": later["contraction_with"]}
    made = table("", "scale", *columns)
    for name in group["quantity"].values:
        cells = [_text(title, float(values.sel(quantity=name))) for title, values in columns.items()]
        made.add_row(rich.markup.escape(str(name)), str(group["scale"].sel(quantity=name).item()), *cells)
    return made


def _text(title: str, value: float) -> str:
    return f"{value:.3g}" if "sd" in title else f"{value:.3f}"


# What is printed of sensitivities: indices over all times, what decides each parameter, which observations do.


def show_sensitivity(console: rich.console.Console, carried: Carried[xr.DataTree], posterior_run: str | None) -> None:
    """All tables, with what to make of them, and the files that have more."""
    found = carried.found
    sobol = found["sobol"].to_dataset()
    console.print(f"Shares of the variance of predictions over all times, quantities from the {_origin(found)}:")
    for made in sobol_tables(sobol, found["local"].to_dataset()):
        console.print(made)
    if "joint_sd" in sobol:
        squares = (sobol[["sd", "joint_sd"]] ** 2).sum([dim for dim in sobol["sd"].dims if dim != "observation"])
        for name, times in (squares["sd"] / squares["joint_sd"]).to_series().items():
            words = f"As if independent, they make {times:.2g} times the variance of `{name}` that the posterior does."
            show_line(console, "[dim]note[/dim]", words)
    if sobol.attrs["num_failed"]:
        share = sobol.attrs["num_failed"] / (sobol.attrs["num_failed"] + sobol.attrs["num_rows"])
        words = (
            f"{count(sobol.attrs['num_failed'], 'point')} of the design ({100 * share:.2g} %) could not be solved and"
        )
        show_line(console, "[yellow]warn[/yellow]", f"{words} were left out: indices are those of what is left.")
    for name in sobol["observation"].to_numpy()[~sobol["reliable"].to_numpy()]:
        words = f"The variance of `{name}` hangs on so few points that these shares say little. Take more `num_samples`"
        show_line(console, "[yellow]warn[/yellow]", f"{words}, tighter priors, or the posterior's distribution.")
    if posterior_run is None:
        show_line(console, "", "No posterior was looked at: `bayestwin calibrate` makes one.")
    if "power_scaling" in found.children:
        console.print(f"What decides each parameter in run {posterior_run} (power-scaling):")
        console.print(scaling_table(found["power_scaling"].to_dataset()))
        for sentence in found["power_scaling"]["sentence"].to_numpy()[_odd(found["power_scaling"].to_dataset())]:
            show_line(console, "[yellow]warn[/yellow]", str(sentence))
    if "influence" in found.children:
        points = found["influence"].to_dataset()
        console.print("The observations that move the posterior most when left out:")
        console.print(influence_table(points.isel(point=slice(MOST_POINTS))))
        if not bool(points["reliable"].all()):
            bad = count(int((~points["reliable"]).sum()), "observation")
            words = f"{bad} of {points.sizes['point']:,} with a Pareto k above {points.attrs['max_pareto_k']:.2f}:"
            show_line(console, "[yellow]warn[/yellow]", f"{words} their effect may be far larger than it says.")
        show_line(console, "", points.attrs.get("warning", points.attrs["meaning"]))
    show_files(console, carried.run)


def sobol_tables(sobol: xr.Dataset, local: xr.Dataset) -> Iterator[rich.table.Table]:
    """One table an observation: indices over all times with their intervals, and what one standard deviation does."""
    for observation in sobol["observation"].to_numpy():
        unit = str(sobol["units"].sel(observation=observation).item())
        change_by = f"change by 1 sd ({unit})" if unit else "change by 1 sd"
        made = table(*map(rich.markup.escape, (str(observation), "first order", "total", change_by)))
        own, change = sobol.sel(observation=observation), local["scaled_rms"].sel(observation=observation)
        total = own["overall"].sel(order="total").to_numpy()
        for place in np.argsort(-np.where(np.isfinite(total), total, -np.inf), kind="stable"):
            cells = [_index(own.isel(quantity=place).sel(order=order)) for order in ("first", "total")]
            moved = float(change[place])
            made.add_row(rich.markup.escape(str(own["quantity"].to_numpy()[place])), *cells, number(moved, abs(moved)))
        yield made


def scaling_table(found: xr.Dataset) -> rich.table.Table:
    """Sensitivity of each parameter to powers of prior and likelihood."""
    made = table("quantity", "prior", "likelihood", "diagnosis")
    for name, prior, likelihood, said in zip(
        *(found[key].to_numpy() for key in ("quantity", "prior", "likelihood", "diagnosis")), strict=True
    ):
        made.add_row(rich.markup.escape(str(name)), f"{prior:.3f}", f"{likelihood:.3f}", str(said))
    return made


def influence_table(points: xr.Dataset) -> rich.table.Table:
    """The observations, with the parameter that each moves most and how far."""
    made = table("observation", "time", "value", "moves most", "by (sd)", "Pareto k")
    for place in range(points.sizes["point"]):
        row = points.isel(point=place)
        moved = str(row["most_moved"].item())
        shift = float(row["mean_shift"].sel(quantity=moved))
        name = str(row["observation"].item())
        if "experiment" in row.coords:
            name += f" ({row['experiment'].item()})"
        when = moment(row["time"].to_numpy()[()]) if "time" in row.coords else ""
        k = f"{float(row['pareto_k']):.2f}" + ("" if bool(row["reliable"]) else " !")
        value = f"{float(row['value']):.5g}"
        made.add_row(rich.markup.escape(name), when, value, rich.markup.escape(moved), f"{shift:+.2f}", k)
    return made


def _origin(found: xr.DataTree) -> str:
    kind = found.attrs["distribution"]
    return "prior" if kind == "prior" else "posterior, as if they were independent"


def _index(row: xr.Dataset) -> str:
    value, lower, upper = (float(row[key]) for key in ("overall", "overall_lower", "overall_upper"))
    return f"{value:.2f} [{lower:.2f}, {upper:.2f}]".replace("[", "\\[") if np.isfinite(value) else "cannot be told"


def _odd(found: xr.Dataset) -> np.ndarray:
    """Which quantities are not decided by the data."""
    return found["diagnosis"].to_numpy() != FINE


# What is printed of a design: what to record, what each option would do, and what was simulated; or what came of it.


def show_design(console: rich.console.Console, carried: Carried[Designed]) -> None:
    """What it comes to, the options, and the files."""
    run, tree, told, kept = carried.found
    if kept is not None:
        console.print(f"[bold]{tree.attrs['twin']}[/bold]: what was promised, and what run {run} says:")
        marks = {"kept": "[green]pass[/green]", "narrower": "[green]pass[/green]", "wider": "[red]FAIL[/red]"}
        for outcome, sentence in zip(kept["outcome"].values, told, strict=True):
            show_line(console, marks.get(str(outcome), "[dim]note[/dim]"), sentence)
        show_files(console, carried.run)
        return
    num = tree["options"].sizes["option"]
    console.print(
        f"[bold]{tree.attrs['twin']}[/bold]: {count(num, 'option')}, from run {run}, seed {tree.attrs['seed']}."
    )
    console.print("Standard deviations expected with each by itself, the best first:")
    console.print(options_table(tree))
    for sentence in told:
        show_line(console, "[bold]→[/bold]", sentence)
    show_files(console, carried.run)


def options_table(tree: xr.DataTree) -> rich.table.Table:
    """What each option would do, beside what is known now and what was simulated."""
    now, options = tree["targets"].to_dataset(), tree["options"].to_dataset().isel(option=slice(MOST_OPTIONS))
    simulated = tree["simulated"].to_dataset() if "simulated" in tree else None
    titles = [
        f"{name} ({unit})" if unit else str(name)
        for name, unit in zip(now["target"].values, now["unit"].values, strict=True)
    ]
    made = table("", "cost", *map(rich.markup.escape, titles), *(["simulated"] if simulated is not None else []))
    made.add_row("now", "", *[f"{float(sd):.3g}" for sd in now["sd"].values])
    for name in options["option"].values:
        row = options.sel(option=name)
        cells = [
            f"{float(sd):.3g} (−{100 * float(less):.0f} %)"
            for sd, less in zip(row["sd"], row["narrowing"], strict=True)
        ]
        if simulated is not None:
            cells.append(_simulated(simulated, str(name)))
        made.add_row(rich.markup.escape(str(name)), f"{float(row['cost']):g}", *cells)
    if tree["options"].sizes["option"] > MOST_OPTIONS:
        made.caption = f"the best {MOST_OPTIONS} of {tree['options'].sizes['option']:,}"
    return made


def _simulated(simulated: xr.Dataset, name: str) -> str:
    """Mean standard deviations over simulated calibrations with one option; empty where there are none."""
    if name not in simulated["set"].values:
        return ""
    means = simulated["sd"].sel(set=name).mean("simulation")
    return ", ".join(f"{float(mean):.3g}" for mean in means.values)


# What is printed of a comparison: a table of differences, held-out scores, and what it comes to.

TITLES = {"leave-one-out": "Leaving one observation out:", "leave-future-out": "Leaving the future out:"}


def show_comparison(console: rich.console.Console, carried: Carried[Compared]) -> None:
    """Tables, verdicts and the sentence of each model."""
    found = carried.found
    for one in (found.loo, found.lfo):
        if one is not None:
            console.print(TITLES[one.attrs["kind"]])
            console.print(difference_table(one))
            for verdict, outcome in zip(one["verdict"].to_numpy(), one["outcome"].to_numpy(), strict=True):
                if outcome != "reference":
                    show_line(console, "", str(verdict))
    if found.why_no_loo:
        console.print("There is no leave-one-out:")
        console.print(found.why_no_loo, markup=False, highlight=False, soft_wrap=True)
    if found.scores is not None and found.coverage is not None:
        console.print("What was held out:")
        console.print(held_out_table(found.coverage, found.scores))
    for name, gates in found.gates.items():
        for gate in failed(gates):
            show_line(console, "[red]FAIL[/red]", f"{name}: {gate.sentence}")
    for sentence in found.sentences.values():
        show_line(console, "[bold]→[/bold]", sentence)
    show_files(console, carried.run)


def difference_table(found: xr.Dataset) -> rich.table.Table:
    """Differences to the whole twin, the best first."""
    made = table("", "elpd", "difference", "± se", "parameters", "k too high")
    for name in found["model"].to_numpy():
        row = found.sel(model=name)
        spread, own = float(row["dse"]), float(row["se"])
        high = int((row["pareto_k"] > found.attrs["max_k"]).sum())
        made.add_row(
            rich.markup.escape(str(name)),
            number(float(row["elpd"]), own),
            "0" if row["outcome"] == "reference" else number(float(row["elpd_diff"]), spread),
            "" if row["outcome"] == "reference" else number(spread, spread),
            f"{float(row['p']):.1f}" if row["p"].notnull() else "",
            f"{high} of {row.sizes['point']}",
        )
    return made


def held_out_table(covered: xr.Dataset, scored: xr.Dataset) -> rich.table.Table:
    """Coverage and scores of what was held out, by model and observation."""
    made = table("", "observation", "RMSE", "CRPS", *[f"inside {100 * p:g} %" for p in (0.5, 0.9)])
    for name in scored["model"].to_numpy():
        for observation in scored["observation"].to_numpy():
            row = scored.sel(model=name, observation=observation)
            inside = covered["coverage"].sel(model=name, observation=observation)
            made.add_row(
                rich.markup.escape(str(name)),
                str(observation),
                *[f"{float(row[key]):.4g}" for key in ("rmse", "crps")],
                *[f"{100 * float(inside.sel(prob=p)):.1f} %" for p in (0.5, 0.9)],
            )
    return made


# What is printed of a simulation-based calibration.


def show_ranks(console: rich.console.Console, found: Carried[Ranked]) -> None:
    """The verdict, one sentence a gate, and the files."""
    ranks, gates = found.found
    console.print(
        f"[bold]{ranks.attrs['twin']}[/bold]: ranks of {count(ranks.sizes['quantity'], 'quantity', 'quantities')} in "
        f"{count(ranks.sizes['simulation'], 'simulation')}, {count(ranks.attrs['num_draws'], 'draw')} of each "
        f"posterior, seed {ranks.attrs['seed']}."
    )
    if found.status == "interrupted":
        console.print("[yellow]Interrupted:[/yellow] these are the simulations that were finished by then.")
    bad = "[red]Calibration of this twin is not right[/red]: do not rely on its posteriors."
    show_gates(console, gates, bad)
    show_files(console, found.run)
    show_timings(console, found.record)


# What is printed of a batch: a live table on a terminal, elsewhere a line for each task as it ends.

SHOWN = 30
"""Tasks in the live table: those that have not ended, then the latest that have."""


@contextlib.contextmanager
def live(
    console: rich.console.Console, tasks: Sequence[Task], *, quiet: bool
) -> Iterator[Callable[[TaskOutcome], None]]:
    """Show tasks while they are done; what is yielded is to be told of each outcome."""
    known: dict[str, TaskOutcome] = {}
    if quiet or not console.is_terminal:

        def tell(outcome: TaskOutcome) -> None:
            if not quiet:
                show_line(console, _mark(outcome.status), _words(outcome))

        yield tell
        return
    with rich.live.Live(_table(tasks, known), console=console, refresh_per_second=4) as shown:

        def update(outcome: TaskOutcome) -> None:
            known[outcome.task.key] = outcome
            shown.update(_table(tasks, known))

        yield update


def show_batch(console: rich.console.Console, refused: Sequence[Refused], page: pathlib.Path, words: str) -> None:
    """What could not be done at all, the page, and what became of everything."""
    for one in refused:
        show_line(console, "[red]FAIL[/red]", f"{one.name}: {one.words}")
    show_path(console, page)
    console.print(words, highlight=False)


def phrase(counts: Mapping[str, int], doubts: Mapping[str, int]) -> str:
    """How many tasks ended in which way, in words, and how many of those that finished are in doubt."""
    told, but = (", ".join(f"{number} {what}" for what, number in one.items()) for one in (counts, doubts))
    among = "of those that finished " if len(counts) > 1 else ""
    return (f"{told}; {among}{but}" if but else told) or "nothing to do"


def _table(tasks: Sequence[Task], known: Mapping[str, TaskOutcome]) -> rich.table.Table:
    made = table("task", "outcome", "attempts", "seconds")
    waiting = [task for task in tasks if task.key not in known]
    done = [outcome for outcome in known.values()][-max(SHOWN - len(waiting), 5) :]
    for outcome in done:
        made.add_row(
            rich.markup.escape(outcome.task.name),
            _mark(outcome.status),
            str(outcome.attempts),
            f"{outcome.seconds:.0f}",
        )
    for task in waiting[: SHOWN - len(done)]:
        made.add_row(rich.markup.escape(task.name), "[dim]…[/dim]", "", "")
    made.caption = f"{len(known)} of {len(tasks)} done"
    return made


def _mark(status: str) -> str:
    colour = {"finished": "green", "interrupted": "yellow"}.get(status, "red")
    return f"[{colour}]{status}[/{colour}]"


def _words(outcome: TaskOutcome) -> str:
    took = f"{outcome.seconds:.0f} s" if outcome.attempts else "done before"
    again = f", {outcome.attempts} attempts" if outcome.attempts > 1 else ""
    words = [outcome.words] if outcome.words else []
    against = doubts(outcome)
    words += [f"warned {', '.join(against.warned)}"] if against.warned else []
    words += [f"intervals miss of {', '.join(against.missed)}"] if against.missed else []
    return f"{outcome.task.name} ({took}{again})" + (f": {'; '.join(words)}" if words else "")


def show_each(console: rich.console.Console, found: EachFound) -> None:
    """What did not pass, asset by asset; the rest is counted."""
    for words in found.record["set_aside"].values():
        show_line(console, "[dim]note[/dim]", f"Set aside: {words}")
    assets = found.record["assets"]
    for name, one in assets.items():
        if one["verdict"] != "passed":
            show_line(console, MARKS["fail"], f"{name}: {one['reasons']}")
    passed = sum(one["verdict"] == "passed" for one in assets.values())
    console.print(f"{passed} of {count(len(assets), 'asset')} passed.", highlight=False)
    for path in (found.page, found.table.with_suffix(".json"), found.table):
        if path is not None:
            show_path(console, path)


# What is printed of a fleet: its populations, the assets that did not pass, and the files.


def show_fleet(console: rich.console.Console, found: FleetFound) -> None:
    """Populations as a table; what did not pass, asset by asset; the rest is counted."""
    record = found.record
    if record["populations"]:
        made = table("", "typical", "spread", "variation", "shrinkage", "unit")
        for one in record["populations"]:
            pairs = [one[key] for key in ("typical", "spread")]
            cells = [f"{mean:.3g} ({low:.3g} … {high:.3g})" for mean, low, high in pairs]
            variation = "–" if one["variation"] is None else percent(one["variation"][0]).replace(NARROW, " ")
            made.add_row(one["name"], *cells, variation, f"{100 * one['shrinkage']:.0f} %", one["unit"])
        console.print("Populations, with 90 % equal-tailed intervals:")
        console.print(made)
    for words in record["set_aside"].values():
        show_line(console, "[dim]note[/dim]", f"Set aside: {words}")
    assets = record["assets"]
    for name, one in assets.items():
        if one["verdict"] != "pass":
            show_line(console, MARKS[one["verdict"]], f"{name}: {' '.join(one['reasons'])}")
    passed = sum(one["verdict"] == "pass" for one in assets.values())
    console.print(f"{passed} of {count(len(assets), 'asset')} passed.", highlight=False)
    for path in (found.page, found.page.with_suffix(".json"), found.table):
        show_path(console, path)


def show_scenarios(console: rich.console.Console, outcome: ScenarioOutcome) -> None:
    """A table for each quantity, the expectations, what flipped, and the files."""
    record, scenarios = outcome.record, outcome.record["scenarios"]
    for quantity, first in next(iter(scenarios.values()))["quantities"].items():
        unit = f" ({first['unit']})" if first["unit"] else ""
        console.print(f"{quantity}{unit}, with 90 % intervals, and the difference from the baseline:", highlight=False)
        made = table("", "median", "interval", "difference", "interval", "less")
        for name, one in scenarios.items():
            own = one["quantities"][quantity]
            wide, apart = own["upper"] - own["lower"], own["difference_upper"] - own["difference_lower"]
            ends = [
                or_later(own["median"], wide / 3.3),
                *(or_later(own[key], wide / 3.3) for key in ("lower", "upper")),
            ]
            row = [ends[0], f"{ends[1]} – {ends[2]}"]
            if name != "baseline":
                keys = ("difference", "difference_lower", "difference_upper")
                ends = [or_later(own[key], apart / 3.3) for key in keys]
                row += [ends[0], f"{ends[1]} – {ends[2]}", f"{100 * own['less']:.0f} %"]
            made.add_row(name, *row, *[""] * (5 - len(row)))
        console.print(made)
    if any("best" in one for one in scenarios.values()):
        best = ", ".join(f"{name} {100 * one['best']:.0f} %" for name, one in scenarios.items())
        show_line(console, "", f"Probability of being the best: {best}.")
    for name, one in scenarios.items():
        if "policy" in one:
            show_line(console, "", f"{name}, {one['policy']['goal']}: {'; '.join(one['changes'])}.")
    console.print(headline(record), highlight=False)
    marks = {"met": "[green]met [/green]", "missed": "[red]MISS[/red]", "undecided": "[yellow]?   [/yellow]"}
    for one in record["expectations"]:
        show_line(console, marks[one["verdict"]], f"{one['scenario']}: {one['text']}: {one['words']}")
    for one in record["flipped"]:
        show_line(console, "[yellow]![/yellow]", f"{one['scenario']}: {one['text']} was {one['before']} before")
    for name, one in scenarios.items():
        for words in one["policy"]["warnings"] if "policy" in one else ():
            show_line(console, "[yellow]![/yellow]", f"{name}: {words}")
        for sentence in one["beyond"]["sentences"]:
            show_line(console, "[yellow]![/yellow]", f"{name}: {sentence}")
    for path in (outcome.decision, outcome.page, outcome.table):
        show_path(console, path)
