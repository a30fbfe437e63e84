"""`bayestwin compare`: the twin with a term and without, on the same telemetry, and which of them predicts better."""

import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from bayestwin._base.progress import Progress
from bayestwin.assess import Gate, coverage, diagnose, failed, scores
from bayestwin.calibrate import with_model_error
from bayestwin.errors import InvalidInput, InvalidTwin
from bayestwin.insight.compare import ablate, compare
from bayestwin.insight.future import leave_future_out
from bayestwin.model.describe import fingerprint
from bayestwin.project.calibrate import calibrate_into, inputs_of
from bayestwin.project.model import Model, Split, check_ready, load_telemetry, population_of
from bayestwin.project.run import CHECKPOINT, Carried, Given, VerbOutcome, carry_out, named_value
from bayestwin.report.reading import Calibrated
from bayestwin.results.store import save

WHOLE = "all terms"
"""The twin as it is, which the others are compared with."""

COMPARED, COMPARISON, FUTURE = "compared", "compare.nc", "leave_future_out.nc"


TERM = {
    "worse": "earns its keep: without it the twin predicts worse",
    "better": "does harm: without it the twin predicts better",
    "alike": "does not show in predictions: with it and without it they are alike",
}
"""What is said of a term, by how the twin without it predicts."""


class Compared(NamedTuple):
    """What was found.

    Attributes:
        loo: As of `bt.compare`, leaving one observation out; None where that says nothing.
        lfo: Likewise leaving the future out; None where that was not asked for.
        why_no_loo: Why there is no `loo`, in words; else empty.
        coverage: Of what was held out, by model; None where nothing is.
        scores: Likewise.
        gates: Of each calibration.
        off: What is switched off, by the name of the model.
        sentences: What it comes to, one for each model but the whole.
    """

    loo: xr.Dataset | None
    lfo: xr.Dataset | None
    why_no_loo: str
    coverage: xr.Dataset | None
    scores: xr.Dataset | None
    gates: Mapping[str, tuple[Gate, ...]]
    off: Mapping[str, Mapping[str, float]]
    sentences: Mapping[str, str]


def compare_model(
    model: Model,
    results: pathlib.Path,
    *,
    off: Sequence[str] = (),
    model_errors: bool = False,
    device: str | None = None,
    progress: Progress | None = None,
) -> Carried[Compared]:
    """Calibrate a twin with all its terms and without some, and compare how well each predicts.

    Args:
        model: The model; its job says whether and how the future is left out.
        results: Where runs are filed.
        off: Each `name=value`, a parameter that is known; by default the model's `ablations`, each by itself.
        model_errors: Whether to calibrate under each of its `model_errors` as well.
        device: `"cpu"`, `"gpu"`, or None for JAX's default.
        progress: Where progress is shown.

    Raises:
        InvalidInput: If there is nothing to compare with, or something does not fit the twin.
    """
    split = load_telemetry(model)
    split.of_one("compare")
    ablations = {word: named_value("off", word) for word in off} if off else model.ablations
    models = variants(model, ablations, model_errors)
    for each in models.values():
        check_ready(each, split, device)
    inputs = inputs_of(model, split) | {
        COMPARED: {name: fingerprint(one.twin) for name, one in models.items()},
        "off": {name: dict(one) for name, one in ablations.items()},
    }

    def work(run: pathlib.Path, shown: Progress) -> VerbOutcome[Compared]:
        found = _found(run, models, ablations, split, inputs["job"], device, shown)
        save(_tree(found), run / COMPARISON)
        bad = any(failed(gates) for gates in found.gates.values())
        return VerbOutcome(found, "failed gates" if bad else "finished", figures(found))

    given = Given({"off": list(off), "model_errors": model_errors})
    return carry_out(model, results, "compare", inputs, work, progress, given)


def variants(model: Model, ablations: Mapping[str, Mapping[str, float]], model_errors: bool) -> dict[str, Model]:
    """The model as it is, without each term, and under each model error that its twin does not have already."""
    models = {WHOLE: model}
    for name, off in ablations.items():
        try:
            models[name] = model._replace(twin=ablate(model.twin, off))
        except InvalidTwin as reason:
            raise reason.within(f"Ablation `{name}` of `{model.folder / 'twin.py'}`") from reason
    for name, error in model.model_errors.items() if model_errors else ():
        other = model._replace(twin=with_model_error(model.twin, error))
        if fingerprint(other.twin) != fingerprint(model.twin):
            models[f"model error {name}"] = other
    if len(models) > 1:
        return models
    raise InvalidInput(
        f"There is nothing to compare `{model.folder}` with.",
        expected="a term to switch off, or model errors by `--model-errors`",
        received="no `--off`, and no variable `ablations` in its `twin.py`",
        advice='Say `--off aperture=0`, or write beneath the twin, say, `ablations = {"no sun": {"aperture": 0.0}}`.',
    )


def _found(
    run: pathlib.Path,
    models: Mapping[str, Model],
    ablations: Mapping[str, Mapping[str, float]],
    split: Split,
    job: dict[str, Any],
    device: str | None,
    shown: Progress,
) -> Compared:
    made: dict[str, Calibrated] = {}
    ahead: dict[str, xr.DataTree] = {}
    for name, one in models.items():
        folder = run / COMPARED / re.sub(r"[^A-Za-z0-9=._+-]", "_", name)
        with shown.part(name) as part:
            made[name] = calibrate_into(folder, one, split, job, device=device, progress=part)
            if made[name][0].attrs["interrupted"]:
                raise KeyboardInterrupt
            (folder / CHECKPOINT).unlink(missing_ok=True)
            if one.job.compare.horizon is not None:
                ahead[name] = _future(one, split, device, part)
                save(ahead[name], folder / FUTURE)
                if ahead[name].attrs["interrupted"]:
                    raise KeyboardInterrupt
    gates = {name: diagnose(posterior, **models[name].job.gates.model_dump()) for name, (posterior, _) in made.items()}
    loo, why = None, ""
    try:
        loo = compare({name: posterior for name, (posterior, _) in made.items()}, reference=WHOLE)
    except InvalidInput as reason:
        why = str(reason)
    lfo = compare(ahead, reference=WHOLE) if ahead else None
    covered, scored = _held_out(made, split)
    sentences = {name: _sentence(name, name in ablations, loo, lfo, gates) for name in models if name != WHOLE}
    return Compared(loo, lfo, why, covered, scored, gates, ablations, sentences)


def _future(model: Model, split: Split, device: str | None, shown: Progress) -> xr.DataTree:
    settings = model.job.calibrate.model_dump(exclude={"predictive_draws"}) | model.job.compare.model_dump()
    settings["population"] = population_of(model)
    gates = model.job.gates.model_dump()
    calibration, _ = split.of_one("compare")
    return leave_future_out(model.twin, calibration, gates=gates, device=device, progress=shown, **settings)


def _held_out(made: Mapping[str, Calibrated], split: Split) -> tuple[xr.Dataset | None, xr.Dataset | None]:
    if split.held_out is None:
        return None, None
    forecasts = {name: forecast for name, (_, forecast) in made.items() if forecast is not None}
    names = xr.DataArray(np.array(list(forecasts)), dims="model", name="model")
    covered = [coverage(forecast, split.held_out) for forecast in forecasts.values()]
    scored = [scores(forecast, split.held_out) for forecast in forecasts.values()]
    joined = [xr.concat(parts, names, combine_attrs="drop_conflicts", join="exact") for parts in (covered, scored)]
    return joined[0], joined[1]


def _sentence(
    name: str, ablated: bool, loo: xr.Dataset | None, lfo: xr.Dataset | None, gates: Mapping[str, tuple[Gate, ...]]
) -> str:
    """Whether the term that is switched off earns its keep, by what was found to be reliable."""
    told = [one.sel(model=name) for one in (loo, lfo) if one is not None]
    bad = [one for one in (WHOLE, name) if failed(gates[one])]
    sure = [str(one["outcome"].item()) for one in told if bool(one["reliable"]) and not bad]
    words = f"The term that `{name}` switches off" if ablated else f"`{name}`"
    if bad:
        return f"{words}: nothing can be said, since the calibration of `{bad[0]}` failed its gates."
    if not sure:
        return f"{words}: nothing can be said that is to be relied on."
    if {"worse", "better"} <= set(sure):
        return f"{words}: leaving one observation out and leaving the future out disagree; see both."
    outcome = next((one for one in sure if one != "alike"), "alike")
    if not ablated:
        return f"{words} predicts {outcome}{'' if outcome == 'alike' else f' than `{WHOLE}`'}."
    return f"{words} {TERM[outcome]}."


def _tree(found: Compared) -> xr.DataTree:
    groups = {
        "leave_one_out": found.loo,
        "leave_future_out": found.lfo,
        "coverage": found.coverage,
        "scores": found.scores,
    }
    tree = xr.DataTree.from_dict({name: one for name, one in groups.items() if one is not None})
    tree.attrs = {"sentences": dict(found.sentences), "why_no_loo": found.why_no_loo}
    return tree


def figures(found: Compared) -> dict[str, Any]:
    """What the record says of a comparison, as plain values."""
    columns = ("elpd", "se", "elpd_diff", "dse", "p", "outcome", "reliable", "verdict")

    def by_model(table: xr.Dataset | None) -> dict[str, Any] | None:
        if table is None:
            return None
        return {
            str(name): {column: table[column].sel(model=name).item() for column in columns}
            for name in table["model"].to_numpy()
        }

    return {
        "leave_one_out": by_model(found.loo) or {"failure": found.why_no_loo},
        "leave_future_out": by_model(found.lfo),
        "gates": {name: [gate._asdict() for gate in gates] for name, gates in found.gates.items()},
        "sentences": dict(found.sentences),
    }
