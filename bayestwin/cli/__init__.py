"""The command line: parsing and printing. Each command does one thing; the work is done elsewhere.

Heavy modules are imported inside the commands, so that `--help` and mistyped options answer at once.
"""

import importlib.metadata
from typing import Annotated

import typer

from bayestwin.cli import (
    batch,
    calibrating,
    comparing,
    earlier,
    folders,
    identifying,
    ledger,
    sensitivities,
    tracking,
    trusting,
    validating,
)

app = typer.Typer(
    help="Bayesian calibration of digital twins: telemetry in, posterior and checked intervals out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS = (
    calibrating.calibrate,
    calibrating.resume,
    batch.batch,
    earlier.predict,
    earlier.coverage,
    earlier.report,
    validating.validate,
    identifying.identify,
    sensitivities.sensitivity,
    comparing.compare,
    trusting.sbc,
    folders.check,
    folders.models,
    ledger.runs,
    ledger.show,
    ledger.diff,
    ledger.doctor,
    ledger.export,
    ledger.reproduce,
    tracking.track,
)
"""In the order in which the help lists them."""

for command in COMMANDS:
    app.command()(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"bayestwin {importlib.metadata.version('bayestwin')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """Bayesian calibration of digital twins: telemetry in, posterior and checked intervals out."""
