"""What is printed of a simulation-based calibration."""

import rich.console

from bayestwin.assess import failed
from bayestwin.report.notation import count
from bayestwin.runs.carrying import Carried
from bayestwin.runs.record import files_of
from bayestwin.runs.self_check import Ranked
from bayestwin.show.text import show_line, show_path


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
    bad = failed(gates)
    for gate in gates:
        mark = "[green]pass[/green]" if gate.passed else "[red]FAIL[/red]" if gate in bad else "[yellow]warn[/yellow]"
        show_line(console, mark, gate.sentence)
    if bad:
        console.print("[red]Calibration of this twin is not right[/red]: do not rely on its posteriors.")
    for name in files_of(found.run):
        show_path(console, found.run / name)
    timings = found.record.get("timings", {})
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in timings.items())
    show_line(console, "", f"{sum(timings.values()):.0f} s: {parts}")
