"""What is printed of a comparison: a table of differences, held-out scores, and what it comes to."""

import rich.console
import rich.table
import xarray as xr

from bayestwin.assess import failed
from bayestwin.cli.text import number, show_files, show_line, table
from bayestwin.project.carrying import Carried
from bayestwin.project.compare import Compared

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
            str(name),
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
                str(name),
                str(observation),
                *[f"{float(row[key]):.4g}" for key in ("rmse", "crps")],
                *[f"{100 * float(inside.sel(prob=p)):.1f} %" for p in (0.5, 0.9)],
            )
    return made
