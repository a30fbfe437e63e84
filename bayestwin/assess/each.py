"""Assets that know nothing of each other: each calibrated by itself, with a verdict of its own."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from bayestwin import errors
from bayestwin._base.process import seed_for
from bayestwin._base.progress import Progress, computing
from bayestwin.assess.diagnose import diagnose
from bayestwin.assess.gates import Gate, failed, read_chains
from bayestwin.calibrate import calibrate, root_attributes, with_model_error
from bayestwin.density.bind import Experiments, check_experiments
from bayestwin.model.twin import Twin
from bayestwin.telemetry import Telemetry

LOWER = "Lower `num_samples` or `predictive_draws`, or calibrate fewer assets at once: what is found does not change."

STORED = 100
"""Draws of each asset whose trajectories are stored by default."""

NOT_OF_AN_ASSET = (errors.InvalidSetting, errors.InvalidTwin)
"""What is wrong with all of them alike, which is no reason to go on with the next one."""


class Asset(NamedTuple):
    """What became of one asset.

    Attributes:
        posterior: As of `calibrate`; None where that failed.
        gates: The verdict on it; whoever knows all that it is to be judged by fills them in.
        failure: Why there is no posterior, in words.
    """

    posterior: xr.DataTree | None
    gates: tuple[Gate, ...] = ()
    failure: str = ""

    @property
    def verdict(self) -> str:
        """`"passed"`, `"failed gates"` or `"failed"`."""
        if self.posterior is None:
            return "failed"
        return "failed gates" if failed(self.gates) else "passed"

    @property
    def reasons(self) -> str:
        """What did not pass, in words."""
        return self.failure or " ".join(gate.sentence for gate in failed(self.gates))


def calibrate_each(
    twin: Twin, telemetry: Experiments, *, seed: int, progress: Progress | None = None, **settings: Any
) -> xr.DataTree:
    """Calibrate each of many assets by itself, one after the other: what was compiled for the first serves the others.

    The draws of an asset are, to the bit, those of `calibrate(twin, telemetry[name], seed=seed_of_asset(seed, name))`:
    they depend on nothing that the others are. An asset that cannot be calibrated fails alone. Where assets are alike
    and data are few, `pooled=` and `calibrate` say more of each.

    Ctrl-C returns the assets that are done, with the attribute `interrupted`.

    Args:
        twin: The twin; nothing in it is pooled.
        telemetry: That of each asset, by its name.
        seed: Determines everything random.
        progress: Where progress is shown; by default on a terminal only.
        **settings: Those of `calibrate`; 100 draws of each have their trajectories stored unless it says otherwise.

    Returns:
        `assets`, with a node of the name of each that was calibrated, as `calibrate` returns it; and `summary`: by
        `experiment` the `verdict` (`"passed"`, `"failed gates"` or `"failed"`) with `reasons`, and by `quantity` as
        well `mean`, `sd` and the ends `lower` and `upper` of the 90 % equal-tailed interval.

    Raises:
        InvalidTelemetry: If it is that of one asset, or names cannot be used.
        InvalidTwin: If something is pooled, or as in `calibrate`.
        InvalidSetting: If a setting makes no sense.
    """
    twin = with_model_error(twin, settings.pop("model_error", ...))
    check_alone(twin, telemetry)
    found: dict[str, Asset] = {}
    computation = computing(LOWER, seed=seed, progress=progress)
    with computation as shown, shown.phase("assets", "calibrating", len(telemetry)) as phase:
        for name, one in telemetry.items():
            try:
                own = calibrate_asset(twin, name, one, seed=seed, **settings)
            except KeyboardInterrupt:
                break
            if own.posterior is not None and own.posterior.attrs["interrupted"]:
                break
            found[name] = own if own.posterior is None else own._replace(gates=diagnose(own.posterior))
            phase.advance(1, name)
    if not found:
        raise KeyboardInterrupt
    nodes = {f"assets/{name}": one.posterior for name, one in found.items() if one.posterior is not None}
    tree = xr.DataTree.from_dict({"summary": summary_of(found)})
    for place, posterior in nodes.items():
        tree[place] = posterior
    done = {name: telemetry[name] for name in found}
    attributes = root_attributes(twin, done, seed, settings)
    tree.attrs = attributes | {"interrupted": len(found) < len(telemetry)}
    return tree


def calibrate_asset(twin: Twin, name: str, telemetry: Telemetry, *, seed: int, **settings: Any) -> Asset:
    """One asset of many, not judged yet; what is wrong with its telemetry is what became of it.

    Args:
        twin: The twin.
        name: Of the asset.
        telemetry: Its own.
        seed: Of all assets.
        **settings: Those of `calibrate`.
    """
    settings = {"predictive_draws": STORED, "progress": Progress(show=False)} | settings
    try:
        posterior = calibrate(twin, telemetry, seed=seed_of_asset(seed, name), **settings)
    except NOT_OF_AN_ASSET:
        raise
    except errors.BayestwinError as reason:
        return Asset(None, failure=f"{type(reason).__name__}: {reason}")
    return Asset(posterior)


def seed_of_asset(seed: int, name: str) -> int:
    """The seed of one asset of many, which its name decides and not its place."""
    return seed_for(seed, f"asset {name}")


def check_alone(twin: Twin, telemetry: Any) -> None:
    """Refuse what cannot be calibrated asset by asset.

    Raises:
        InvalidTelemetry: If it is that of one asset, or names cannot be used.
        InvalidTwin: If something is pooled.
    """
    if isinstance(telemetry, Telemetry) or any("/" in str(name) for name in telemetry):
        raise errors.InvalidTelemetry(
            "There are no assets to calibrate one by one.",
            expected="the telemetry of each, by a name without `/`",
            received="one telemetry"
            if isinstance(telemetry, Telemetry)
            else ", ".join(f"`{name}`" for name in telemetry if "/" in str(name)),
            advice="`bt.calibrate` calibrates one.",
        )
    check_experiments(telemetry)
    if pooled := [site.name for site in twin.sites() if site.pooled]:
        raise errors.InvalidTwin(
            f"Twin `{twin.name}` pools {', '.join(map('`{}`'.format, pooled))}, and assets alone have no population.",
            expected="priors without `pooled=`",
            received="a population of assets",
            advice="Leave `pooled=` out, or calibrate all together by `bt.calibrate`.",
        )


def summary_of(found: Mapping[str, Asset]) -> xr.Dataset:
    """Verdicts and figures of all assets; NaN where there is no posterior."""
    drawn = {
        name: {} if one.posterior is None else read_chains(one.posterior, "posterior").draws
        for name, one in found.items()
    }
    quantities = list(dict.fromkeys(label for own in drawn.values() for label in own))
    figures = {key: np.full((len(found), len(quantities)), np.nan) for key in ("mean", "sd", "lower", "upper")}
    for row, own in enumerate(drawn.values()):
        for label, values in own.items():
            told = values.mean(), values.std(), *np.quantile(values, (0.05, 0.95))
            for key, value in zip(figures, told, strict=True):
                figures[key][row, quantities.index(label)] = value
    words = {"verdict": [one.verdict for one in found.values()], "reasons": [one.reasons for one in found.values()]}
    data: dict[str, Any] = {key: (("experiment", "quantity"), values) for key, values in figures.items()}
    data |= {key: ("experiment", told) for key, told in words.items()}
    return xr.Dataset(data, {"experiment": list(found), "quantity": quantities})
