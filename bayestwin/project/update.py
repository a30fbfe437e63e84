"""Updating a run: what was observed since, added to the posterior of a calibration, or of an update of one."""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from bayestwin._base.progress import Progress
from bayestwin.errors import InvalidInput
from bayestwin.project.calibrate import Results, inputs_of, judge, write_report
from bayestwin.project.model import Model, Split, read_model_telemetry
from bayestwin.project.predict import check_own, split_made_with
from bayestwin.project.record import parameter_figures, read_record, summary
from bayestwin.project.run import POSTERIOR, Carried, Given, VerbOutcome, carry_out, find_run
from bayestwin.results.store import load, save
from bayestwin.telemetry import Telemetry
from bayestwin.update import UPDATES, check_follows, check_updatable, counting_rows, half_life_of, update, whole_record


class Updated(NamedTuple):
    """What became of an update.

    Attributes:
        results: The new posterior and the verdict on it; nothing of it is held out.
        earlier: The run that was updated.
    """

    results: Results
    earlier: str

    @property
    def told(self) -> Mapping[str, Any]:
        """What the update did: see `bt.update`."""
        return self.results.posterior.attrs[UPDATES][-1]


def update_model(
    model: Model,
    results: pathlib.Path,
    telemetry: pathlib.Path,
    run: str | None = None,
    *,
    device: str | None = None,
    progress: Progress | None = None,
) -> Carried[Updated]:
    """Add what was observed since to the posterior of a run, as a new run: the earlier one stays as it is.

    Args:
        model: The model.
        results: Where runs are filed.
        telemetry: File with the new rows; those that are known already do no harm.
        run: Name of the run that is updated; by default the newest with a posterior.
        device: `"cpu"`, `"gpu"`, or None for JAX's default.
        progress: Where progress is shown.

    Raises:
        InvalidArtifact: If the posterior belongs to another twin, is of several experiments, or has no chains.
        InvalidInput: If there is no such run.
        InvalidTelemetry: If the telemetry does not fit, or has nothing new.
    """
    earlier = find_run(results, model, run)
    posterior = load(earlier / POSTERIOR)
    check_own(model, earlier, posterior)
    check_updatable(posterior)
    half_life_of(model.twin, model.job.update.forget)
    new = read_model_telemetry(model, telemetry, partly=True, split=split_made_with(posterior))
    if not isinstance(new, Telemetry):
        raise InvalidInput(
            f"`{telemetry}` is of a fleet, and one record is updated at a time.",
            expected="a job without `[fleet]`",
            received=f"{len(new)} assets",
            advice="Calibrate the fleet on all telemetry together.",
        )
    whole = whole_record(model.twin, posterior, new)  # what is wrong with it is told before a run begins
    check_follows(model.twin, posterior, new)

    def work(folder: pathlib.Path, shown: Progress) -> VerbOutcome[Updated]:
        settings = model.job.update.model_dump()
        job = read_record(folder)["job"]
        found = update(model.twin, posterior, new, device=device, progress=shown, job=job, **settings)
        with shown.timed("save"):
            save(found, folder / POSTERIOR)
        with shown.timed("report"):
            counted = counting_rows(model.twin, found, whole)
            judged = judge(model, folder, found, None, Split(counted, None), read_record(folder))
            write_report(judged)
        figures = {
            "gates": [gate._asdict() for gate in judged.gates],
            "summary": summary(judged.coverage, judged.scores),
            "parameters": parameter_figures(found),
            "update": found.attrs[UPDATES][-1],
        }
        return VerbOutcome(Updated(judged, earlier.name), judged.status, figures)

    given = Given({"run": earlier.name}, {"telemetry": telemetry}, [earlier])
    return carry_out(model, results, "update", inputs_of(model, Split(whole, None)), work, progress, given)
