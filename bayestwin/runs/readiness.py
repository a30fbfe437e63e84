"""Is a model ready to be calibrated: findings on its telemetry, and what its priors say of the data."""

import jax
import numpy as np

from bayestwin.assess import Finding, check
from bayestwin.bind import bind
from bayestwin.calibration import check_settings
from bayestwin.compilation import keep_compiled
from bayestwin.density import Density, build_density
from bayestwin.errors import InvalidTelemetry
from bayestwin.inference.failure import blame_state
from bayestwin.predictive import Predictor
from bayestwin.progress import Progress
from bayestwin.runs.model import Model, Split, load_telemetry
from bayestwin.seeds import check_seed, key_for
from bayestwin.setting import on_device, require_float64
from bayestwin.telemetry import Telemetry

PRIOR_DRAWS = 200


def check_model(model: Model) -> tuple[Finding, ...]:
    """Check a model's telemetry and its prior predictive; nothing is sampled from the posterior.

    Returns:
        Findings, those on the telemetry first.
    """
    split = load_telemetry(model)
    check_ready(model, split)
    telemetry = split.calibration
    columns = [*model.twin.observations, *model.twin.inputs]
    keep_compiled()
    density = build_density(model.twin, bind(model.twin, telemetry))
    return (*_reading_findings(telemetry, model), *check(telemetry, columns), *_prior_findings(density))


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
    bind(model.twin, split.calibration)
    if split.held_out is None:
        return
    try:
        bind(model.twin, split.held_out)
    except InvalidTelemetry as reason:
        message = f"In the part that is held out: {reason}"
        raise InvalidTelemetry(message) from reason


def _reading_findings(telemetry: Telemetry, model: Model) -> list[Finding]:
    """What was done to the telemetry when it was read, and which units were not stated."""
    found = [Finding("note", "", sentence, {"source": telemetry.source}) for sentence in telemetry.notices]
    for name, member in {**model.twin.observations, **model.twin.inputs}.items():
        if name not in telemetry.units and member.unit:
            sentence = f"`{name}` comes without a unit and was taken to be in {member.unit}, the twin's."
            found.append(Finding("note", name, sentence, {"unit": member.unit}))
    return found


def _prior_findings(density: Density) -> tuple[Finding, ...]:
    """How many prior draws can be solved, and how much of the data the prior predictive reaches."""
    keys = jax.random.split(key_for(0, "check"), PRIOR_DRAWS)
    values, _ = density.draw_prior(keys)
    with Progress() as progress, progress.phase("check", "predicting from the prior", PRIOR_DRAWS) as phase:
        found = Predictor(density)(values, key_for(0, "check predictive"), phase)
    solved = found["solved"]
    num = int(solved.sum())
    share = num / PRIOR_DRAWS
    sentence = f"{num} of {PRIOR_DRAWS} draws from the prior can be solved."
    if num == 0:
        first = {name: float(v[0]) for name, v in values.items()}
        sentence = f"Not one draw from the prior can be solved: {blame_state(density, first)}."
    severity = "fail" if num == 0 else "warn" if share < 0.5 else "note"
    findings = [Finding(severity, "prior", sentence, {"solved": num, "drawn": PRIOR_DRAWS})]
    if num == 0:
        return tuple(findings)
    for name, observed in density.bound.observations.items():
        present = np.isfinite(observed)
        drawn = found[name][solved][:, present]
        low, high = np.nanquantile(drawn, [0.005, 0.995], axis=0)
        inside = float(np.mean((observed[present] >= low) & (observed[present] <= high)))
        sentence = f"{100 * inside:.0f} % of `{name}` lie inside the prior's 99 % equal-tailed interval."
        if inside < 0.9:
            sentence += " The prior hardly expects such data: check units and priors."
        findings.append(Finding("warn" if inside < 0.9 else "note", name, sentence, {"inside": inside}))
    return tuple(findings)
