"""What is printed of a simulation-based calibration."""

import rich.console

from bayestwin._base.wording import count
from bayestwin.cli.text import show_files, show_gates, show_timings
from bayestwin.project.carrying import Carried
from bayestwin.project.sbc import Ranked


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
