"""What is printed of identifiability: a table of contractions, and the verdict."""

import rich.console
import rich.table
import xarray as xr

from bayestwin._base.wording import count
from bayestwin.cli.text import show_files, show_gates, table
from bayestwin.project.carrying import Carried
from bayestwin.project.identify import Identified


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
        made.add_row(str(name), str(group["scale"].sel(quantity=name).item()), *cells)
    return made


def _text(title: str, value: float) -> str:
    return f"{value:.3g}" if "sd" in title else f"{value:.3f}"
