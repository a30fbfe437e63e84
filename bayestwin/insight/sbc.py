"""Simulation-based calibration of a twin: is the posterior that calibration draws from the right one?

Telemetry is simulated with values from the prior, each is calibrated, and the ranks of the truth among the draws are
judged.
"""

import importlib.metadata
from collections.abc import Callable, Mapping
from types import EllipsisType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array, lax

from bayestwin import errors
from bayestwin._base.files import source_sha256
from bayestwin._base.process import (
    key_for,
    seed_for,
)
from bayestwin._base.progress import Phase, Progress, computing
from bayestwin.assess.gates import Gate
from bayestwin.assess.pit import simultaneous_band, transform
from bayestwin.calibrate import check_settings, root_attributes, with_model_error
from bayestwin.density.bind import Experiments, bind_all
from bayestwin.density.density import Density, build_density
from bayestwin.inference.many import Lengths, autocorrelation, draw_many, given
from bayestwin.inference.solver import choose, choose_at
from bayestwin.model.error import ModelError
from bayestwin.model.twin import Twin
from bayestwin.telemetry import Telemetry

LOWER = "Lower `num_simulations` or `num_draws`, or take a shorter telemetry."

SAMPLERS = ("blackjax", "jax", "jaxlib", "numpyro")


def sbc(
    twin: Twin,
    telemetry: Telemetry | Experiments,
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
        telemetry: Gives times, inputs and which observations are missing; what was observed is not looked at. Or that
            of each experiment, by name: then their populations are drawn from the prior as well.
        seed: Determines everything random.
        num_simulations: Number of simulated data sets; hundreds take minutes.
        num_draws: Draws of each posterior.
        level: Probability that all bands together hold all curves if everything is right.
        model_error: As in `calibrate`.
        device: `"cpu"`, `"gpu"`, or None for JAX's default; short chains one by one are a task for a CPU.
        progress: Where progress is shown.

    Returns:
        `rank` (quantity, simulation), from 0 to 1; `ecdf`, `band_lower` and `band_upper` (quantity, z), `within_band`
        (quantity); `ess`, `diverging` and `rounds` (simulation). Quantities are those of the posterior, `k[first]` what
        experiment `first` has of its own, then `log_likelihood`, and `<observation>_squared_error`. Attributes bind it
        to twin, telemetry, settings, versions and `code_sha256`, the code of this package; `not_solved` counts prior
        draws that were drawn anew. It is stored by `bt.save(xarray.DataTree(found), "sbc.nc")`.

    Raises:
        InvalidSetting: If a setting makes no sense.
        InvalidTelemetry: If the telemetry does not fit the twin.
        InvalidTwin: If there is nothing to infer.
        NoValidStart: If the twin cannot be simulated at most draws of its prior.
        OutOfMemory: If draws do not fit into memory.
    """
    computation = computing(LOWER, seed=seed, device=device, progress=progress)
    _check(num_simulations, num_draws, level)
    twin = with_model_error(twin, model_error)
    check_settings(twin, {})
    with computation as shown:
        density, choice = choose(build_density(twin, bind_all(twin, telemetry)), seed, shown)
        with shown.phase("simulations", "simulating", num_simulations) as phase:
            simulated = simulate_many(density, num_simulations, seed, phase)
        lengths = Lengths(num_draws=num_draws)
        with shown.phase("posteriors", "drawing posteriors", num_simulations) as phase:
            dataset = rank(density, simulated, seed=seed, lengths=lengths, level=level, phase=phase)
    asked = {"num_simulations": num_simulations, "num_draws": num_draws, "level": level}
    return dataset.assign_attrs(
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
        raise errors.InvalidSetting(f"`{name}` makes no sense.", expected=expected, received=received, advice=advice)


# Telemetry simulated with values drawn from the prior, and what is asked of each: its truth among draws.

FEWEST_SOLVED = 0.25
"""Share of the prior draws that must be solved."""


class Simulated(NamedTuple):
    """Data sets drawn from prior and twin, those that can be solved.

    Attributes:
        density: That of the twin which simulated them.
        values: The truth by site; shape (n,) each, or (n, E) where each of E experiments has its own.
        z: The same, unconstrained; shape (n, d).
        observations: By name, missing where the telemetry misses them; shape (n, times) each, or (n, E, times).
        num_failed: How many draws of the prior cannot be solved, and were replaced.
    """

    density: Density
    values: Mapping[str, np.ndarray]
    z: np.ndarray
    observations: Mapping[str, np.ndarray]
    num_failed: int

    def first(self, num: int) -> "Simulated":
        """The first `num` of them."""
        values, z, observations = jax.tree.map(lambda rows: rows[:num], (self.values, self.z, self.observations))
        return self._replace(values=values, z=z, observations=observations)


def simulate_many(density: Density, num: int, seed: int, phase: Phase) -> Simulated:
    """Draw data sets from prior and twin.

    Args:
        density: Says what is observed when.
        num: Number of data sets.
        seed: Determines them.
        phase: Told of each data set.

    Raises:
        NoValidStart: If too few draws of the prior can be solved.
    """
    simulate = jax.jit(jax.vmap(_simulator(density)))
    parts: list[tuple[dict, np.ndarray, dict]] = []
    solved = drawn = 0
    while solved < num:
        if drawn * FEWEST_SOLVED >= num:
            raise _unsolved(density, solved, drawn)
        priors, noises = (jax.random.split(key_for(seed, f"sbc {use} {drawn}"), num) for use in ("prior", "noise"))
        values, z = density.draw_prior(priors)
        made, good = simulate(values, noises)
        good = np.flatnonzero(good)
        parts.append(jax.tree.map(lambda rows, kept=good: np.asarray(rows)[kept], (values, z, made)))
        phase.advance(min(num - solved, good.size))
        solved, drawn = solved + good.size, drawn + num
    values, z, made = jax.tree.map(lambda *rows: np.concatenate(rows)[:num], *parts)
    return Simulated(density, values, z, made, drawn - solved)


def quantities_of(simulated: Simulated, z: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What is asked of each data set and its draws: sites, the log likelihood, and squared errors.

    Both the likelihood and what is observed are those of the simulation: what the density that was drawn from leaves
    out or takes for something else would otherwise be wrong on both sides, and not be seen.

    Args:
        simulated: n data sets.
        z: Draws of the posterior of each; shape (n, s, d).

    Returns:
        By name: of the draws, shape (n, s), and of the truth, shape (n,). `log_likelihood`, and for each observation
        `<name>_squared_error`, the sum of squared differences between what was observed and what is without noise,
        which goes past the code of log densities.
    """
    drawn = jax.jit(jax.vmap(jax.vmap(simulated.density.constrain)))(jnp.asarray(z))
    found = {}
    for name, truth in simulated.values.items():
        draws = np.asarray(drawn[name])
        if truth.ndim == 1:
            found[name] = draws, truth
        else:
            own = enumerate(simulated.density.experiments)
            found |= {f"{name}[{experiment}]": (draws[..., number], truth[:, number]) for number, experiment in own}

    def told(observed: Mapping[str, Array], z: Array) -> dict[str, Array]:
        own = given(simulated.density, observed)
        expected = own.predict(own.constrain(z)).noise_free
        errors = {name: jnp.where(jnp.isnan(seen), 0.0, seen - expected[name]) for name, seen in observed.items()}
        sums = {f"{name}_squared_error": jnp.sum(error**2) for name, error in errors.items()}
        return {"log_likelihood": own.parts(z)[1]} | sums

    both = jnp.concatenate([jnp.asarray(simulated.z)[:, None], jnp.asarray(z)], axis=1)
    each = jax.vmap(told, in_axes=(None, 0))
    rows = jax.jit(lambda *rows: lax.map(lambda row: each(*row), rows))(simulated.observations, both)
    return found | {name: (np.asarray(row)[:, 1:], np.asarray(row)[:, 0]) for name, row in rows.items()}


def _simulator(density: Density) -> Callable[[Mapping[str, Array], Array], tuple[dict[str, Array], Array]]:
    present = {name: np.isfinite(observed) for name, observed in density.bound.observations.items()}
    unseen = given(density, {})

    def simulate(values: Mapping[str, Array], key: Array) -> tuple[dict[str, Array], Array]:
        """Observations, and whether there are all that are to be there."""
        drawn = unseen.draw(key, values, unseen.predict(values))
        made = {name: jnp.where(there, drawn[name], jnp.nan) for name, there in present.items()}
        complete = [jnp.isfinite(drawn[name]) | ~there for name, there in present.items()]
        return made, jnp.stack([one.all() for one in complete]).all()

    return simulate


def _unsolved(density: Density, solved: int, drawn: int) -> errors.NoValidStart:
    return errors.NoValidStart(
        f"Twin `{density.twin.name}` cannot be simulated at most draws of its prior.",
        expected=f"a solution, and observations that can occur, at {FEWEST_SOLVED:.0%} of them at least",
        received=f"{solved} of {drawn}",
        advice="Narrow the priors to what is plausible: `bayestwin check` shows what they say about the telemetry.",
    )


# Ranks of the truth among the draws of its posterior, and the distribution they have, with simultaneous bands.

STEPS = 50
"""The distribution of ranks is looked at in as many steps from 0 to 1."""

TRIED = 32
"""Truths from which it is learnt how to differentiate."""


def rank(
    density: Density, simulated: Simulated, *, seed: int, lengths: Lengths, level: float, phase: Phase
) -> xr.Dataset:
    """Draw the posteriors of simulated data sets, and rank the truth in each.

    Args:
        density: The log density as calibration has it; the one that simulated may have been another.
        simulated: Data sets and their truth.
        seed: Determines the draws, ties and bands.
        lengths: Of the chains.
        level: Probability of all bands together.
        phase: Told of each data set.

    Returns:
        As `sbc`.
    """
    density, sensitivities = choose_at(density, simulated.z[:TRIED])
    found = draw_many(
        density, simulated.observations, simulated.z, key=key_for(seed, "sbc"), lengths=lengths, phase=phase
    )
    quantities = quantities_of(simulated.first(len(found.z)), found.z)
    rng = np.random.default_rng(seed_for(seed, "ties"))
    ranks = np.stack([transform(draws, truth, rng) for draws, truth in quantities.values()])
    rho = np.stack([autocorrelation(draws.T).mean() for draws, _ in quantities.values()])
    worth = lengths.num_draws * (1.0 - rho) / (1.0 + rho)
    single = ("simulation",)
    chains = xr.Dataset(
        {
            "autocorrelation": (
                single,
                found.autocorrelation,
                {"long_name": "largest lag-one autocorrelation of the draws of a posterior"},
            ),
            "ess": ("quantity", worth, {"long_name": "effective number of draws, typical of a posterior"}),
            "diverging": (single, found.diverging, {"long_name": "share of the transitions that diverged"}),
            "rounds": (single, found.rounds, {"long_name": "how often the chain was made, each time longer"}),
        },
        attrs={
            "num_draws": lengths.num_draws,
            "not_solved": simulated.num_failed,
            "interrupted": found.interrupted,
            "sensitivities": dict(sensitivities),
        },
    )
    return chains.merge(curves(ranks, list(quantities), level, seed), combine_attrs="no_conflicts")


def curves(ranks: np.ndarray, names: list[str], level: float, seed: int) -> xr.Dataset:
    """The distribution of ranks, shape (k, n) of k quantities, and the bands that hold all of them at a level.

    Bands are as wide as if quantities were independent (Šidák 1967, doi:10.1080/01621459.1967.10482935), which holds
    the level where they depend on each other too, nearly always with room to spare.
    """
    num = ranks.shape[1]
    at = np.arange(1, STEPS) / STEPS
    lower, upper = simultaneous_band(num, at, level ** (1.0 / len(names)), seed_for(seed, "bands"))
    # a rank that cannot be computed is nowhere, and its curve stays below 1
    ecdf = (ranks[:, :, None] <= at).mean(axis=1)
    known = np.isfinite(ranks).all(axis=1)
    curve = ("quantity", "z")
    rows = (len(names), 1)
    return xr.Dataset(
        {
            "rank": (("quantity", "simulation"), ranks, {"long_name": "rank of the truth among draws, from 0 to 1"}),
            "ecdf": (curve, ecdf, {"long_name": "share of the simulations whose rank is at most z"}),
            "band_lower": (curve, np.tile(lower, rows), {"long_name": "lower end of the band of all quantities"}),
            "band_upper": (curve, np.tile(upper, rows), {"long_name": "upper end of the band of all quantities"}),
            "within_band": ("quantity", known & ((lower <= ecdf) & (ecdf <= upper)).all(axis=1)),
        },
        coords={"quantity": names, "z": at, "simulation": np.arange(num)},
        attrs={"level": level},
    )


# The verdict on ranks: which quantity is off, in which way, and what that usually means.

MAX_DIVERGING = 0.01
"""Share of all transitions."""

MAX_REPLACED = 0.05
"""Share of all prior draws that may be impossible to solve before a person should look at the prior."""

CLEAR = 2.0
"""Standard errors by which mean or spread of the ranks must differ from a uniform distribution's to give it a name."""

SHAPES = {
    "too narrow": "truths lie in the tails too often: the posterior is too narrow. Usually the log density takes the "
    "noise for smaller than it is, counts something twice, or chains do not get around",
    "too wide": "truths lie in the middle too often: the posterior is too wide. Usually the log density takes the "
    "noise for larger than it is, or leaves observations out",
    "too high": "truths rank too low: the posterior lies too high. Usually simulation and log density differ in times, "
    "inputs, units or priors, or a change of variables has no or a wrong Jacobian",
    "too low": "truths rank too high: the posterior lies too low. Usually simulation and log density differ in times, "
    "inputs, units or priors, or a change of variables has no or a wrong Jacobian",
    "uneven": "ranks are uneven, without a shape that has a name. Look at the picture, and at the chains",
}

OF_DATA = {
    "too high": "draws agree with the data better than the truth does. Usually the log density takes the noise for "
    "smaller than it is, or counts something twice",
    "too low": "draws agree with the data worse than the truth does. Usually the log density leaves observations out, "
    "or has them at other times or with other noise than the simulation",
}
"""What a shift means of the log likelihood; of squared errors it means the opposite."""


def judge_sbc(found: xr.Dataset | xr.DataTree) -> tuple[Gate, ...]:
    """Judge the ranks of a simulation-based calibration.

    Args:
        found: What `sbc` returned, or the tree that `load` made of it.

    Returns:
        A gate for each quantity, `sbc <quantity>`, whose value is the largest distance of its curve from a uniform
        distribution's, and whose limit is the band there; if all is right, all of them pass with the probability
        `level`. Then warnings: `chains` (are draws nearly independent), `divergences`, and `prior` (can it be solved).
    """
    dataset = found.to_dataset() if isinstance(found, xr.DataTree) else found
    names = [str(name) for name in dataset["quantity"].values]
    return (*(_quantity(dataset.sel(quantity=name), name) for name in names), *_chains(dataset))


def shape_of(ranks: np.ndarray) -> str:
    """The name of what is wrong with ranks, shape (n,), that are not uniform: a key of `SHAPES`."""
    num = len(ranks)
    shift = (ranks.mean() - 0.5) * np.sqrt(12.0 * num)
    spread = (ranks.var() - 1.0 / 12.0) * np.sqrt(180.0 * num)  # about their own mean: a shift is not a spread
    if max(abs(shift), abs(spread)) < CLEAR:
        return "uneven"
    if abs(shift) >= abs(spread):
        return "too low" if shift > 0 else "too high"
    return "too narrow" if spread > 0 else "too wide"


def _quantity(one: xr.Dataset, name: str) -> Gate:
    ranks, at, ecdf = one["rank"].values, one["z"].values, one["ecdf"].values
    lower, upper = one["band_lower"].values, one["band_upper"].values
    if not np.isfinite(ranks).all():
        bad = int((~np.isfinite(ranks)).sum())
        sentence = f"`{name}` has no rank in {bad} of {ranks.size} simulations: draws or truth are not finite."
        return Gate(f"sbc {name}", False, float("nan"), 0.0, sentence)
    # how far a curve is from z, as a share of the way to the band; the worst place is told
    room = np.where(ecdf >= at, upper - at, at - lower)
    worst = int(np.argmax(np.abs(ecdf - at) / np.maximum(room, 1e-12)))
    value, limit = float(abs(ecdf - at)[worst]), float(room[worst])
    passed = bool(one["within_band"])
    facts = f"{ecdf[worst]:.0%} of the ranks lie below {at[worst]:.2f}, the band goes from {lower[worst]:.0%} to "
    facts += f"{upper[worst]:.0%}"
    words = f"`{name}` is calibrated as far as {ranks.size} simulations can tell: {facts}."
    if not passed:
        words = f"`{name}`: {_meaning(name, shape_of(ranks))}. {facts[0].upper()}{facts[1:]}."
    return Gate(f"sbc {name}", passed, value, limit, words)


def _meaning(name: str, shape: str) -> str:
    if name == "log_likelihood":
        return OF_DATA.get(shape, SHAPES[shape])
    if name.endswith("_squared_error"):
        return OF_DATA.get({"too high": "too low", "too low": "too high"}.get(shape, shape), SHAPES[shape])
    return SHAPES[shape]


def _chains(found: xr.Dataset) -> tuple[Gate, ...]:
    ess, num_draws, num = found["ess"].values, int(found.attrs["num_draws"]), found.sizes["simulation"]
    weakest, least = found["quantity"].values[int(np.argmin(ess))], float(np.min(ess))
    diverging, replaced = float(found["diverging"].mean()), int(found.attrs["not_solved"])
    share, some = replaced / (replaced + num), int((found["diverging"] > 0).sum())
    return (
        _warning(
            "chains",
            -least,
            -num_draws / 3.0,
            f"{num_draws} draws of `{weakest}` are worth {least:.0f} independent ones, and of others more.",
            "Draws that remember each other make posteriors look too narrow.",
        )._replace(value=least, limit=num_draws / 3.0),
        _warning(
            "divergences",
            diverging,
            MAX_DIVERGING,
            f"{diverging:.2%} of the transitions diverged, in {some} of {num} posteriors.",
            "Parts of these may be missing.",
        ),
        _warning(
            "prior",
            share,
            MAX_REPLACED,
            f"{replaced} of {replaced + num} prior draws could not be solved, and were replaced.",
            "The prior that is checked is cut to where the twin can be solved: look at it.",
        ),
    )


def _warning(name: str, value: float, limit: float, sentence: str, otherwise: str) -> Gate:
    """A gate that stops nothing: passed where the value is not above its limit."""
    passed = bool(value <= limit)
    return Gate(name, passed, value, limit, sentence if passed else f"{sentence} {otherwise}", "warn")
