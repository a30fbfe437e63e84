"""Would a calibration of a model be refused: asked before it begins."""

from bayestwin._base.process import on_device, require_float64
from bayestwin._base.seeds import check_seed
from bayestwin.calibrate import check_settings
from bayestwin.density.bind import bind
from bayestwin.project.model import Model, Split
from bayestwin.project.wording import about_job


def check_ready(model: Model, split: Split, device: str | None = None) -> None:
    """Refuse what would be refused in the middle of a calibration.

    Raises:
        InvalidInput: If the telemetry, its held-out part included, does not fit the twin.
        InvalidSetting: If float64 is off, the device is absent, or a seed makes no sense.
    """
    require_float64()
    on_device(device)
    for seed in (model.job.calibrate.seed, model.job.predict.seed):
        check_seed(seed)
    check_settings(model.twin, model.job.calibrate.model_dump(exclude={"seed"}))
    with about_job():
        bind(model.twin, split.calibration)
    if split.held_out is None:
        return
    with about_job("the part that is held out"):
        bind(model.twin, split.held_out)
