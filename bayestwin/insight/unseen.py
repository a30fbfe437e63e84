"""Leaving assets out: does a population say what an asset that it has never seen will do?

Each asset is predicted by what all others have taught, and held against what was observed of it.
"""

import dataclasses
from typing import Any

import xarray as xr

from bayestwin import errors
from bayestwin._base.process import seed_for
from bayestwin._base.progress import Progress, computing
from bayestwin.assess import diagnose, failed
from bayestwin.calibrate import calibrate, experiment_attributes, root_attributes, with_model_error
from bayestwin.density.bind import Experiments
from bayestwin.model.twin import Twin
from bayestwin.predict import predict
from bayestwin.telemetry import Telemetry

LOWER = "Lower `draws`, or leave out assets of fewer rows."


def leave_assets_out(
    twin: Twin,
    telemetry: Experiments,
    *,
    seed: int,
    folds: int | None = None,
    draws: int | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> xr.DataTree:
    """Predict each asset by a calibration of others, as if it had never been seen.

    The assets are dealt out to folds; the twin is calibrated without those of a fold, and they are predicted as unseen
    ones: what all share comes from the posterior, what each has of its own from its prior, or from the population.
    `bt.coverage(found, telemetry)` and `bt.intervals(found)` then tell whether the intervals hold, and how wide they
    are. They are about assets like these: what all of them have in common, no fold is without.

    Ctrl-C returns the assets that are done, with the attribute `interrupted`.

    Args:
        twin: The twin.
        telemetry: That of each asset, by its name.
        seed: Determines everything random; the same whatever was done before.
        folds: How many times to calibrate; by default once for each asset, and 2 at least.
        draws: About how many draws predict, as in `predict`.
        progress: Where progress is shown; by default on a terminal only.
        **settings: Those of `calibrate`.

    Returns:
        As of `predict`: `predictions` and `predictions_constant_data` of all assets, and `leave_assets_out` with
        `fold`, the number of the calibration that each was left out of, and `failed_gates` of that one, in words.

    Raises:
        InvalidSetting: If there are fewer than two folds or more than assets, or as in `calibrate`.
        InvalidTelemetry: If it is of one asset, or does not fit the twin.
    """
    twin = with_model_error(twin, settings.pop("model_error", ...))
    names, folds = _dealt(telemetry, folds)
    parts: list[xr.DataTree] = []
    bad: list[str] = []
    computation = computing(LOWER, seed=seed, progress=progress)
    with computation as shown, shown.phase("leave assets out", "leaving out", folds) as phase:
        for fold in range(folds):
            out = names[fold::folds]
            known = {name: own for name, own in telemetry.items() if name not in out}
            own_seed = seed_for(seed, f"leave assets out {fold}")
            try:
                posterior = calibrate(twin, known, seed=own_seed, progress=Progress(show=False), **settings)
            except KeyboardInterrupt:
                break
            if posterior.attrs["interrupted"]:
                break
            left = {name: telemetry[name] for name in out}
            bare, quiet = dataclasses.replace(twin, quantities={}), Progress(show=False)
            parts.append(predict(bare, posterior, left, seed=own_seed, draws=draws, progress=quiet))
            bad += [", ".join(gate.name for gate in failed(diagnose(posterior)))] * len(out)
            phase.advance(1, ", ".join(out))
    if not parts:
        raise KeyboardInterrupt
    done = {name: telemetry[name] for fold in range(len(parts)) for name in names[fold::folds]}
    job = {"folds": folds, "draws": draws} | settings
    attributes = root_attributes(twin, done, seed, job)
    own = xr.Dataset(
        {
            "fold": ("experiment", [names.index(name) % folds for name in done], {"long_name": "number of the fold"}),
            "failed_gates": ("experiment", bad, {"long_name": "gates that its calibration did not pass"}),
        },
        {"experiment": list(done)},
    )
    groups = {name: _joined(parts, name, attributes) for name in ("predictions", "predictions_constant_data")}
    tree = xr.DataTree.from_dict({**groups, "leave_assets_out": own})
    tree.attrs = attributes | {"unseen": list(done), "interrupted": len(parts) < folds}
    return tree


def _dealt(telemetry: Any, folds: int | None) -> tuple[list[str], int]:
    """Names of the assets, and the number of folds to which they are dealt out in turn."""
    if isinstance(telemetry, Telemetry) or len(telemetry) < 2:
        raise errors.InvalidTelemetry(
            "There is nothing to leave out of one asset.",
            expected="the telemetry of several assets, by name",
            received="one",
            advice="`bt.backtest` leaves the end of a record out.",
        )
    names = list(telemetry)
    num = len(names) if folds is None else folds
    if not isinstance(num, int) or not 2 <= num <= len(names):
        raise errors.InvalidSetting(
            "`folds` makes no sense.",
            expected=f"a whole number from 2 to {len(names)}, the number of assets",
            received=repr(folds),
            advice="Leave it out to leave out one asset at a time.",
        )
    return names, num


def _joined(parts: list[xr.DataTree], group: str, attributes: dict[str, Any]) -> xr.Dataset:
    """One group of all assets; times that only others have are missing."""
    whole = xr.concat(
        [part[group].to_dataset() for part in parts],
        "experiment",
        join="outer",
        combine_attrs="override",
        coords="minimal",
        compat="override",
    )
    return whole.assign_coords(experiment=whole["experiment"].assign_attrs(experiment_attributes(attributes)))
