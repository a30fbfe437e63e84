"""The command line: parsing and printing. Each command does one thing; the work is done elsewhere.

Heavy modules are imported inside the commands, so that `--help` and mistyped options answer at once.
"""

import importlib.metadata
from typing import Annotated

import typer

from bayestwin.cli import calibrate, insight, models, predict, registry, runs, serve

app = typer.Typer(
    help="Bayesian calibration of digital twins: telemetry in, posterior and checked intervals out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS = (
    models.new,
    models.models,
    models.import_model,
    calibrate.calibrate,
    calibrate.resume,
    calibrate.update,
    calibrate.batch,
    predict.predict,
    predict.coverage,
    predict.report,
    predict.fleet,
    predict.validate,
    predict.monitor,
    predict.watch,
    insight.scenario,
    insight.identify,
    insight.sensitivity,
    insight.design,
    insight.compare,
    insight.sbc,
    models.check,
    registry.promote,
    registry.rollback,
    registry.history,
    registry.shadow,
    serve.serve,
    serve.token,
    runs.runs,
    runs.show,
    runs.diff,
    runs.doctor,
    runs.export,
    runs.reproduce,
    runs.track,
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
