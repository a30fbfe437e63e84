"""Simulation-based calibration of a twin: is the posterior that calibration draws from the right one?"""

import importlib.metadata
from types import EllipsisType

import xarray as xr

from bayestwin import errors
from bayestwin._base.compilation import keep_compiled
from bayestwin._base.process import enough_memory, on_device, require_float64
from bayestwin._base.progress import Progress
from bayestwin._base.seeds import check_seed
from bayestwin._base.source import source_sha256
from bayestwin.calibrate import check_settings, root_attributes, with_model_error
from bayestwin.density.bind import bind
from bayestwin.density.density import build_density
from bayestwin.inference.many import Lengths
from bayestwin.inference.solver import choose
from bayestwin.insight.ranks import rank
from bayestwin.insight.simulated import simulate_many
from bayestwin.model.error import ModelError
from bayestwin.model.twin import Twin
from bayestwin.telemetry import Telemetry

LOWER = "Lower `num_simulations` or `num_draws`, or take a shorter telemetry."

SAMPLERS = ("blackjax", "jax", "jaxlib", "numpyro")


def sbc(
    twin: Twin,
    telemetry: Telemetry,
    *,
    seed: int,
    num_simulations: int = 200,
    num_draws: int = 63,
    level: float = 0.95,
    model_error: ModelError | EllipsisType | None = ...,
    device: str | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Check that calibration is right: that of this twin, at these times, with these inputs.

    Values of all quantities are drawn from the prior, telemetry is simulated with each, and its posterior is drawn
    from. If priors, twin, noise, log density and sampler fit together, the rank of the truth among the draws is
    uniform: for every quantity, and for what depends on the data as well, the log likelihood and squared errors,
    which see what single quantities do not (observations that are left out, for instance). Bands hold the
    distributions of all ranks together with probability `level`, if all is right; `judge_sbc` puts it into words.

    What it does not see: whether the twin fits the asset (`coverage` on held-out telemetry does); what simulation and
    inference have in common, such as a wrong equation or an inexact solver; and how chains of `calibrate` find their
    starts, since here they begin at the mode next to the truth. A posterior with another mode far from the truth can
    pass unvisited. Prior draws that cannot be solved are drawn anew: what is checked is the prior cut to
    where the twin can be solved, and the posterior, in which what cannot be solved has no density, is cut alike.

    S. Talts and others (2018), arXiv:1804.06788; M. Modrák and others (2023), doi:10.1214/23-BA1404; T. Säilynoja and
    others (2022), doi:10.1007/s11222-022-10090-6.

    Each chain is short: it is thinned, made again three times as long where its draws are not nearly independent
    (lag-one autocorrelation above 0.4), and with smaller steps where transitions diverged; at most three times.

    Ctrl-C while posteriors are drawn returns what there is, with the attribute `interrupted`.

    Args:
        twin: The twin.
        telemetry: Gives times, inputs and which observations are missing; what was observed is not looked at.
        seed: Determines everything random.
        num_simulations: Number of simulated data sets; hundreds take minutes.
        num_draws: Draws of each posterior.
        level: Probability that all bands together hold all curves if everything is right.
        model_error: As in `calibrate`.
        device: `"cpu"`, `"gpu"`, or None for JAX's default; short chains one by one are a task for a CPU.
        progress: Where progress is shown.

    Returns:
        `rank` (quantity, simulation), from 0 to 1; `ecdf`, `band_lower` and `band_upper` (quantity, z), `within_band`
        (quantity); `ess`, `diverging` and `rounds` (simulation). Quantities are those of the posterior, then
        `log_likelihood`, and `<observation>_squared_error`. Attributes bind it to twin, telemetry, settings, versions
        and `code_sha256`, the code of this package; `not_solved` counts prior draws that were drawn anew. It is
        stored by `bt.save(xarray.DataTree(found), "sbc.nc")`.

    Raises:
        InvalidSetting: If a setting makes no sense.
        InvalidTelemetry: If the telemetry does not fit the twin, or is that of several experiments.
        InvalidTwin: If there is nothing to infer.
        NoValidStart: If the twin cannot be simulated at most draws of its prior.
        OutOfMemory: If draws do not fit into memory.
    """
    require_float64()
    check_seed(seed)
    _check(num_simulations, num_draws, level)
    _check_single(telemetry)
    twin = with_model_error(twin, model_error)
    check_settings(twin, {})
    keep_compiled()
    with enough_memory(LOWER), on_device(device), progress or Progress() as shown:
        density, choice = choose(build_density(twin, bind(twin, telemetry)), seed, shown)
        with shown.phase("simulations", "simulating", num_simulations) as phase:
            simulated = simulate_many(density, num_simulations, seed, phase)
        lengths = Lengths(num_draws=num_draws)
        with shown.phase("posteriors", "drawing posteriors", num_simulations) as phase:
            found = rank(density, simulated, seed=seed, lengths=lengths, level=level, phase=phase)
    asked = {"num_simulations": num_simulations, "num_draws": num_draws, "level": level}
    return found.assign_attrs(
        root_attributes(twin, telemetry, seed, asked)
        | {
            "code_sha256": source_sha256(),
            "versions": {name: importlib.metadata.version(name) for name in SAMPLERS},
            "solver_choice": {"method": choice.method, "reason": choice.reason, **choice.evidence},
            "lengths": lengths._asdict(),
        }
    )


def _check(num_simulations: int, num_draws: int, level: float) -> None:
    whole = {"num_simulations": (num_simulations, 20), "num_draws": (num_draws, 15)}
    faults = [
        (name, f"a whole number, at least {least}", repr(value))
        for name, (value, least) in whole.items()
        if not isinstance(value, int) or isinstance(value, bool) or value < least
    ]
    if not (isinstance(level, float) and 0.0 < level < 1.0):
        faults.append(("level", "a number between 0 and 1", repr(level)))
    for name, expected, received in faults:
        advice = "Leave it out for the default."
        message = errors.explain(f"`{name}` makes no sense.", expected=expected, received=received, advice=advice)
        raise errors.InvalidSetting(message)


def _check_single(telemetry: object) -> None:
    if isinstance(telemetry, Telemetry):
        return
    message = errors.explain(
        "Simulation-based calibration is of one experiment.",
        expected="a bt.Telemetry",
        received=type(telemetry).__name__,
        advice="Check each experiment by itself.",
    )
    raise errors.InvalidTelemetry(message)
