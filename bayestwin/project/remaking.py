"""How each verb's run is made again from what its record says: with the same job, options, files and earlier runs."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

from bayestwin._base.progress import Progress
from bayestwin.project.beside import BESIDE
from bayestwin.project.calibrate import calibrate_model
from bayestwin.project.check import check_model
from bayestwin.project.compare import compare_model
from bayestwin.project.identify import Asked, identify_model
from bayestwin.project.inputs import recorded_file
from bayestwin.project.model import Model
from bayestwin.project.sbc import check_calibration
from bayestwin.project.sensitivity import run_sensitivity
from bayestwin.project.validate import validate_model


class Remake(NamedTuple):
    """What a run is made again with.

    Attributes:
        model: As the run kept it.
        results: Where the new run is filed; the earlier runs that it looks at lie there.
        run: The folder of the run that is made again.
        record: Its record.
        device: As it was made with.
        progress: Where progress is shown.
    """

    model: Model
    results: pathlib.Path
    run: pathlib.Path
    record: dict[str, Any]
    device: str | None
    progress: Progress

    @property
    def options(self) -> dict[str, Any]:
        """Of the verb, as recorded."""
        return self.record.get("options") or {}


def _calibrate(again: Remake) -> pathlib.Path:
    beside = BESIDE in again.record
    return calibrate_model(
        again.model, again.results, compare_model_errors=beside, device=again.device, progress=again.progress
    ).run


def _check(again: Remake) -> pathlib.Path:
    held_out = recorded_file(again.run, "held_out")
    return check_model(again.model, again.results, held_out, progress=again.progress).run


def _validate(again: Remake) -> pathlib.Path:
    run, backtest = again.options["run"], again.options["backtest"]
    return validate_model(again.model, again.results, run, with_backtest=backtest, progress=again.progress).run


def _sbc(again: Remake) -> pathlib.Path:
    return check_calibration(again.model, again.results, device=again.device, progress=again.progress).run


def _identify(again: Remake) -> pathlib.Path:
    told = again.options
    planned = recorded_file(again.run, "planned")
    asked = Asked(told["profile"], told["profile_prior"], planned, told["run"])
    return identify_model(again.model, again.results, asked, device=again.device, progress=again.progress).run


def _compare(again: Remake) -> pathlib.Path:
    return compare_model(again.model, again.results, **again.options, device=again.device, progress=again.progress).run


def _sensitivity(again: Remake) -> pathlib.Path:
    carried, _ = run_sensitivity(
        again.model, again.results, **again.options, device=again.device, progress=again.progress
    )
    return carried.run


REMAKE: dict[str, Callable[[Remake], pathlib.Path]] = {
    "calibrate": _calibrate,
    "check": _check,
    "validate": _validate,
    "sbc": _sbc,
    "identify": _identify,
    "compare": _compare,
    "sensitivity": _sensitivity,
}
"""By verb: makes its run again, and gives the new folder."""
