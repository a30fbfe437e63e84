"""What is printed of sensitivities: indices over all times, what decides each parameter, which observations do."""

from collections.abc import Iterator

import numpy as np
import rich.console
import rich.markup
import rich.table
import xarray as xr

from bayestwin._base.wording import count
from bayestwin.cli.text import moment, number, show_files, show_line, table
from bayestwin.insight.power_scaling import FINE
from bayestwin.project.carrying import Carried
from bayestwin.project.sensitivity import MOST_POINTS


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
