"""`uncertainty_shares`: which part of the predictive variance comes from which source, at each time.

Sources are drawn anew one group at a time, given the others; the shares are Shapley effects.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from types import EllipsisType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr
from jax import Array

from bayestwin._base.process import (
    key_for,
    seed_for,
)
from bayestwin._base.progress import Phase, Progress, computing
from bayestwin.calibrate import check_belongs, root_attributes, thinned, with_model_error
from bayestwin.density.ahead import density_ahead
from bayestwin.density.bind import Bound, elapsed
from bayestwin.density.density import Density
from bayestwin.errors import InvalidInput, InvalidSetting
from bayestwin.model.error import ModelError, ProcessNoise
from bayestwin.model.noise.families import Noise
from bayestwin.model.twin import Twin
from bayestwin.telemetry import Telemetry
from bayestwin.telemetry.times import paired

# Mean and variance of new observations for given values of everything else, many draws at a time.

BATCH = 100
"""Draws solved in one call; the last batch is padded, so that there is one compilation."""

SAMPLES = 64
"""New observations from which moments are estimated where a noise model has no formula for them."""

type Moments = dict[str, tuple[np.ndarray, np.ndarray]]
"""By observation: means and variances over the noise; shape (n, times) each."""


class Evaluator:
    """The twin under each of the inputs that it may be driven by; compiled once where that is possible."""

    def __init__(self, densities: Sequence[Density]) -> None:
        """Prepare for one density for each member of the ensemble of inputs, alike in everything else."""
        first = densities[0]
        self.density, self.num_members = first, len(densities)
        if len(densities) == 1 or isinstance(first.twin.model_error, ProcessNoise) or not _alike(densities):
            self._members = [jax.jit(jax.vmap(functools.partial(_moments, one))) for one in densities]
            return
        grids = [one.grid for one in densities]

        def driven(coefficients: Array, inputs: Array, z: Array, keys: Array) -> dict:
            grid = first.grid._replace(coefficients=coefficients, inputs=inputs)
            return jax.vmap(functools.partial(_moments, dataclasses.replace(first, grid=grid)))(z, keys)

        shared = jax.jit(driven)
        self._members = [functools.partial(shared, g.coefficients, g.inputs) for g in grids]

    def __call__(self, z: np.ndarray, members: np.ndarray, key: Array, phase: Phase) -> Moments:
        """Evaluate.

        Args:
            z: Unconstrained coordinates; shape (n, d).
            members: Which inputs drive each; shape (n,).
            key: Randomness of the model error.
            phase: Told of each draw.
        """
        keys = np.asarray(jax.random.key_data(jax.random.split(key, len(z))))
        means: dict[str, np.ndarray] = {}
        variances: dict[str, np.ndarray] = {}
        for number, member in enumerate(self._members):
            own = np.flatnonzero(members == number)
            for begin in range(0, len(own), BATCH):
                rows = own[begin : begin + BATCH]
                padded = np.resize(rows, BATCH)
                for name, pair in member(z[padded], keys[padded]).items():
                    for table, values in zip((means, variances), pair, strict=True):
                        values = np.asarray(values)[: len(rows)]
                        table.setdefault(name, np.full((len(z), values.shape[1]), np.nan))[rows] = values
                phase.advance(len(rows))
        return {name: (means[name], variances[name]) for name in means}


def _alike(densities: Sequence[Density]) -> bool:
    """Whether the solver stops at the same times, so that only what drives the twin differs."""
    edges = [one.grid.edges for one in densities]
    return (
        not densities[0].twin.delayed
        and all(np.array_equal(edges[0], one) for one in edges[1:])
        and densities[0].discrepancies is None
    )


def _moments(density: Density, z: Array, bits: Array) -> dict[str, tuple[Array, Array]]:
    key = jax.random.wrap_key_data(bits)
    values = density.constrain(z)
    predicted = density.predict(values)
    found = density.draw(key, values, predicted)
    moments = {}
    for number, name in enumerate(density.twin.observations):
        noise, given = density.noise(name, values, predicted._replace(scales=None))
        value = found[f"{name}_noise_free"] + found.get(f"{name}_discrepancy", 0.0)
        moments[name] = moments_of(noise, value, jnp.asarray(density.bound.times), given, number)
    return moments


def moments_of(
    noise: Noise, value: Array, times: Array, given: Mapping[str, Array], number: int = 0
) -> tuple[Array, Array]:
    """Mean and variance of new observations around these values; shape (n,) each.

    Where the noise model has no formula, from samples with the same random numbers for every value.
    """
    try:
        scattered = noise.distribution(value, times, **given)
        mean, variance = jnp.asarray(scattered.mean, float), jnp.asarray(scattered.variance, float)
    except NotImplementedError:
        sample: Callable[[Array], Array] = functools.partial(noise.sample, value=value, times=times, **given)
        drawn = jax.vmap(lambda key: sample(key))(jax.random.split(jax.random.key(number), SAMPLES))
        mean, variance = drawn.mean(axis=0), drawn.var(axis=0, ddof=1)
    known = jnp.isfinite(value)
    return jnp.where(known, mean, jnp.nan), jnp.where(known, variance, jnp.nan)


# Shares of a variance by source, from pairs of evaluations that have some sources in common.
#
# Shapley effects are well defined where sources depend on each other, are not negative, and add up to the variance:
# E. Song, B. L. Nelson, J. Staum (2016), doi:10.1137/15M1048070; A. B. Owen, C. Prieur (2017), doi:10.1137/16M1097717.

type Coalition = frozenset[str]


def coalitions(players: Sequence[str]) -> list[Coalition]:
    """All groups of players but the empty one, the smallest first."""
    sizes = range(1, len(players) + 1)
    return [frozenset(group) for size in sizes for group in itertools.combinations(players, size)]


def correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The share of a variance that two evaluations have in common, shape (times,), within 0 and 1.

    Both have the same distribution, so that both means and variances are pooled, which makes the estimate efficient:
    A. Janon et al. (2014), doi:10.1051/ps/2013040.

    Args:
        first: Shape (n, times).
        second: Likewise, from the same values of what they have in common.
    """
    middle = 0.5 * (first.mean(axis=0) + second.mean(axis=0))
    first, second = first - middle, second - middle
    variance = 0.5 * ((first**2).mean(axis=0) + (second**2).mean(axis=0))
    shared = (first * second).mean(axis=0)
    return np.clip(np.divide(shared, variance, out=np.zeros_like(shared), where=variance > 0), 0.0, 1.0)


def shapley(players: Sequence[str], explained: Mapping[Coalition, np.ndarray]) -> dict[str, np.ndarray]:
    """What each player adds to a group on average over all orders in which they can join.

    Args:
        players: Names.
        explained: Variance explained by each group, shape (times,); that of the empty one is 0.

    Returns:
        By player, shape (times,); not negative, and together the variance that all explain. Where the Monte Carlo
        error makes one negative it is 0, at the expense of the others.
    """
    everyone = explained[frozenset(players)]
    found = {player: np.zeros_like(everyone) for player in players}
    for player in players:
        others = [one for one in players if one != player]
        for size in range(len(others) + 1):
            weight = math.factorial(size) * math.factorial(len(others) - size) / math.factorial(len(players))
            for group in itertools.combinations(others, size):
                before = explained[frozenset(group)] if group else 0.0
                found[player] = found[player] + weight * (explained[frozenset((*group, player))] - before)
    found = {player: np.maximum(value, 0.0) for player, value in found.items()}
    total = sum(found.values())
    factor = np.divide(everyone, total, out=np.zeros_like(everyone), where=np.asarray(total) > 0)
    return {player: value * factor for player, value in found.items()}


MOST_PLAYERS = 8
"""Of more quantities than that, those that go with a variance least are left out of its shares."""


def shares_of(draws: Mapping[str, np.ndarray], values: np.ndarray) -> dict[str, float]:
    """Shapley effects of what is inferred on a number that is known for each draw, without another solve.

    What a group of quantities explains is the adjusted R² of a regression on them, their squares and products, so that
    the effects are exact where the number is a polynomial of second degree: U. Grömping (2007),
    doi:10.1198/000313007X188252.

    Args:
        draws: By name, shape (n,) each.
        values: Shape (n,); draws for which it is not finite are left out.

    Returns:
        Shares of the variance by name, the largest first; what is missing to 1 is explained by none of them. Nothing
        where the number does not vary.
    """
    there = np.isfinite(values)
    values = values[there] - values[there].mean() if there.any() else values[there]
    known = {name: own[there] for name, own in draws.items() if there.any() and np.ptp(own[there]) > 0.0}
    if values.size < 20 or np.ptp(values) <= 1e-9 * np.abs(values).max(initial=0.0):
        return {}
    scaled = {name: (own - own.mean()) / own.std() for name, own in known.items()}
    alone = {name: _explained([own], values) for name, own in scaled.items()}
    players = sorted(alone, key=lambda name: -alone[name])[:MOST_PLAYERS]
    groups = {
        group: np.array([_explained([scaled[one] for one in sorted(group)], values)]) for group in coalitions(players)
    }
    found = shapley(players, groups) if players else {}
    return dict(sorted(((name, float(own[0])) for name, own in found.items()), key=lambda one: -one[1]))


def _explained(columns: Sequence[np.ndarray], values: np.ndarray) -> float:
    """The adjusted R² of a regression of second degree."""
    products = [one * other for one, other in itertools.combinations_with_replacement(columns, 2)]
    design = np.column_stack([np.ones(values.size), *columns, *products])
    left = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    free = max(values.size - design.shape[1], 1)
    return float(np.clip(1.0 - (left @ left) / free / (values @ values) * (values.size - 1), 0.0, 1.0))


# Draws of some quantities given others: what a posterior says of initial states if parameters are known, and so on.
#
# In unconstrained coordinates each is a linear function of the others, and a residual that is independent of them.
# That is exact for a normal posterior; residuals are those of the draws, so that these need not be normal.


class Redraw(NamedTuple):
    """Draws of all coordinates, of which some can be drawn anew given the others.

    Attributes:
        draws: Shape (n, d).
        groups: Positions of the coordinates of each group, by its name.
    """

    draws: np.ndarray
    groups: dict[str, np.ndarray]

    def given(self, kept: frozenset[str], rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draws that agree with those of `rows` in the groups that are kept, and are new in the others.

        Args:
            kept: Names of groups.
            rows: Numbers of draws; shape (k,).
            rng: Randomness.

        Returns:
            Shape (k, d).
        """
        fixed = self._positions(kept)
        new = np.setdiff1d(np.arange(self.draws.shape[1]), fixed)
        found = self.draws[rows].copy()
        others = rng.permutation(len(self.draws))[np.arange(len(rows)) % len(self.draws)]
        if not fixed.size:
            return self.draws[others]
        if new.size:
            design = np.column_stack([np.ones(len(self.draws)), self.draws[:, fixed]])
            slopes = np.linalg.lstsq(design, self.draws[:, new], rcond=None)[0]
            residuals = self.draws[:, new] - design @ slopes
            found[:, new] = design[rows] @ slopes + residuals[others]
        return found

    def _positions(self, names: frozenset[str]) -> np.ndarray:
        parts = [positions for name, positions in self.groups.items() if name in names]
        return np.sort(np.concatenate(parts)).astype(int) if parts else np.empty(0, int)


def uncertainty_shares(
    twin: Twin,
    posterior: xr.DataTree,
    future: Telemetry,
    *,
    seed: int,
    inputs: Sequence[Telemetry] | None = None,
    model_error: ModelError | EllipsisType | None = ...,
    draws: int = 1000,
    device: str | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Split the variance of new observations into what each source of uncertainty contributes, at each time.

    By the law of total variance, first the noise of observations is split off (the variance that is left if everything
    else is known), then that of the model error (what is left if parameters, initial states and inputs are known). What
    remains is shared among parameters, initial states and inputs by their Shapley effects (doi:10.1137/15M1048070,
    doi:10.1137/16M1097717): what each explains on average over all orders in which they could become known. These add
    up and are well defined although parameters and initial states depend on each other in the posterior. For that, one
    is drawn given the other as a linear function of it and a residual, in unconstrained coordinates, which is exact for
    a normal posterior and an approximation else.

    Noise parameters, a bias for instance, and those of the model error count as parameters; states that a model error
    integrates out (`initial_scale`) as model error.

    Args:
        twin: The twin that was calibrated.
        posterior: As `calibrate` returned it, of one telemetry.
        future: Times and inputs, as for `predict`.
        seed: Determines everything random.
        inputs: An ensemble of equally likely futures that take the place of `future`, with the same times: weather
            forecasts for instance. Without it inputs are taken to be known.
        model_error: As in `calibrate`.
        draws: About how many posterior draws are used. The twin is solved for as many, times 1 where parameters or
            initial states alone are uncertain, 3 for both, 7 with inputs as well, and once more with model error.
        device: `"cpu"`, `"gpu"`, or None for JAX's default.
        progress: Where progress is shown; by default on a terminal only.

    Returns:
        Over (observation, time, source): `share`, which adds up to 1, its Monte Carlo standard error `share_error`, and
        `variance` in the squared unit of the observation. The coordinate `horizon` is the time since the last
        observation of the calibration, in the twin's unit. NaN where more than 5 % of the draws cannot be solved.

    Raises:
        InvalidArtifact: If the posterior belongs to another twin.
        InvalidInput: If several experiments were calibrated.
        InvalidTelemetry: If a future does not fit the twin or the calibration.
        InvalidSetting: If the ensemble is empty or its members have different times.
        OutOfMemory: If the evaluations do not fit into memory.
    """
    computation = computing("Lower `draws`, or take fewer times at once.", seed=seed, device=device, progress=progress)
    twin = with_model_error(twin, model_error)
    check_belongs(twin, posterior)
    _check_one_experiment(posterior)
    futures = _check_ensemble(future, inputs)
    ahead = [density_ahead(twin, posterior, one) for one in futures]
    shifted, bound, density = ahead[0]
    assert isinstance(shifted, Telemetry)
    with computation as shown:
        known, rows = _draws_of(density, posterior, draws)
        found = evaluate([one for *_, one in ahead], known, rows, seed, shown)
    # with model error the twin is led through the calibration: only the times that were asked for are told
    places = paired(pd.Index(bound.times), pd.Index(density.bound.times))
    parts = [variances(found, name, places) for name in twin.observations]
    coords = {
        "time": bound.labels,
        "source": list(found.sources),
        "horizon": ("time", _horizon(twin, posterior, shifted, bound)),
    }
    attributes = root_attributes(twin, shifted, seed, {"draws": draws}) | {
        "posterior_telemetry_sha256": posterior.attrs["telemetry_sha256"],
        "posterior_seed": posterior.attrs["seed"],
        "input_members": len(futures),
    }
    return _dataset(
        twin, coords, np.stack([pair[0] for pair in parts]), np.stack([pair[1] for pair in parts])
    ).assign_attrs(attributes)


def _dataset(twin: Twin, coords: Mapping[str, Any], variance: np.ndarray, error: np.ndarray) -> xr.Dataset:
    """Variances and errors of shares, shape (observation, source, time), as a result."""
    dims = ("observation", "source", "time")
    units = [observation.unit for observation in twin.observations.values()]
    total = variance.sum(axis=1, keepdims=True)
    share = np.divide(variance, total, out=np.full_like(variance, np.nan), where=total > 0)
    dataset = xr.Dataset(
        {
            "share": (dims, share, {"units": "", "long_name": "share of the variance of a new observation"}),
            "share_error": (dims, error, {"units": "", "long_name": "Monte Carlo standard error of the share"}),
            "variance": (dims, variance, {"long_name": "variance of a new observation, in its squared unit"}),
        },
        coords={"observation": list(twin.observations), **coords, "units": ("observation", units)},
    )
    dataset["horizon"].attrs = {
        "units": twin.time_unit,
        "long_name": "time since the last observation that was calibrated",
    }
    return dataset.transpose("observation", "time", "source")


def _horizon(twin: Twin, posterior: xr.DataTree, shifted: Telemetry, bound: Bound) -> np.ndarray:
    """Time since the last observation of the calibration, in the twin's unit; shape (time,)."""
    past = posterior["observed_data"].to_dataset()
    seen = np.any([past[name].notnull().to_numpy() for name in twin.observations], axis=0)
    last = pd.Index(past["time"].to_numpy()[seen][-1:])
    return bound.times - elapsed(last, shifted.t0, shifted.units.get("time", twin.time_unit), twin.time_unit)


def _draws_of(density: Density, posterior: xr.DataTree, wanted: int) -> tuple[Redraw, np.ndarray]:
    """All draws in unconstrained coordinates, by source, and the numbers of those to use."""
    group = posterior["posterior"].to_dataset()
    chains, num = group.sizes["chain"], group.sizes["draw"]
    values = {site.name: group[site.name].transpose("chain", "draw").values.ravel() for site in density.sites}
    z = np.asarray(jax.jit(jax.vmap(density.unconstrain))(values))
    initial = np.array([site.kind == "initial" for site in density.sites])
    groups = {"parameters": np.flatnonzero(~initial), "initial_state": np.flatnonzero(initial)}
    rows = np.arange(chains)[:, None] * num + thinned(chains, num, wanted)
    return Redraw(z, groups), rows.ravel()


def _check_one_experiment(posterior: xr.DataTree) -> None:
    if "experiment" in posterior["observed_data"].coords:
        raise InvalidInput(
            "Shares of uncertainty are of one telemetry.",
            expected="a posterior of one telemetry",
            received="one of several experiments",
            advice="Calibrate the experiment that you ask about by itself.",
        )


def _check_ensemble(future: Telemetry, inputs: Sequence[Telemetry] | None) -> list[Telemetry]:
    """The futures that are equally likely.

    Raises:
        InvalidSetting: If there are none, or their times differ.
    """
    if inputs is None:
        return [future]
    times = future.table.index
    other = [number for number, one in enumerate(inputs) if not one.table.index.equals(times)]
    if len(inputs) >= 2 and not other:
        return list(inputs)
    raise InvalidSetting(
        "`inputs` is no ensemble of futures.",
        expected=f"at least 2 telemetries with the {len(times)} times of `future`",
        received=f"{len(inputs)} telemetries; with other times: {', '.join(map(str, other)) or 'none'}",
        advice="Interpolate all members to the same times, or leave `inputs` out where they are known.",
    )


# Evaluations of a twin with some sources in common, and the shares of the variance that follow from them.

SOURCES = ("parameters", "initial_state", "model_error", "inputs", "noise")
"""In the order in which they are stacked."""

BLOCKS = 10
"""Blocks of draws whose scatter says how exact the shares are."""

MAX_FAILED = 0.05
"""Share of the draws that may fail to be solved; what the others say would else be about another posterior."""


class Evaluations(NamedTuple):
    """What the twin says of new observations.

    Attributes:
        players: The sources that Shapley effects are of: those that can be known beforehand, alone or together.
        disturbed: Whether there is a model error.
        base: For each posterior draw.
        pairs: The same with only a group of players kept, and everything else, the model error included, drawn anew.
    """

    players: tuple[str, ...]
    disturbed: bool
    base: Moments
    pairs: Mapping[Coalition, Moments]

    @property
    def sources(self) -> tuple[str, ...]:
        """Those that there are."""
        there = {*self.players, "noise"} | ({"model_error"} if self.disturbed else set())
        return tuple(source for source in SOURCES if source in there)


def evaluate(
    densities: Sequence[Density], known: Redraw, rows: np.ndarray, seed: int, progress: Progress
) -> Evaluations:
    """Solve the twin as often as the shares need it.

    Args:
        densities: Of the future, one for each member of the ensemble of inputs.
        known: The posterior draws, and which coordinates belong to which source.
        rows: Which of them to use; shape (n,).
        seed: Determines everything random.
        progress: Shows the phase "shares".
    """
    evaluator, num = Evaluator(densities), len(densities)
    players = tuple(name for name, positions in known.groups.items() if positions.size)
    players += ("inputs",) if num > 1 else ()
    disturbed = densities[0].twin.model_error is not None
    groups = [group for group in coalitions(players) if disturbed or len(group) < len(players)]
    rng = np.random.default_rng(seed_for(seed, "shares"))
    members = rng.permutation(len(rows)) % num
    with progress.phase("shares", "attributing uncertainty", (1 + len(groups)) * len(rows)) as phase:
        base = evaluator(known.draws[rows], members, key_for(seed, "shares"), phase)
        pairs = {}
        for group in groups:
            z = known.given(group, rows, rng)
            driven = members if "inputs" in group else rng.permutation(len(rows)) % num
            pairs[group] = evaluator(z, driven, key_for(seed, f"shares {'+'.join(sorted(group))}"), phase)
    return Evaluations(players, disturbed, base, pairs)


def variances(found: Evaluations, name: str, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variance of one observation by source, and the standard errors of the shares; shape (source, times) each.

    Args:
        found: The evaluations.
        name: The observation.
        places: Which of their times are asked for.
    """
    tables = [found.base[name], *(pair[name] for pair in found.pairs.values())]
    means, spreads = (np.stack([table[part][:, places] for table in tables]) for part in (0, 1))
    solved = np.isfinite(means).all(axis=(0, 2)) & np.isfinite(spreads).all(axis=(0, 2))
    if solved.mean() < 1 - MAX_FAILED:
        nothing = np.full((len(found.sources), len(places)), np.nan)
        return nothing, nothing
    means, spreads = means[:, solved], spreads[:, solved]
    blocks = np.array_split(np.arange(means.shape[1]), BLOCKS)
    shares = np.stack([_shares(_by_source(found, means[:, rows], spreads[:, rows])) for rows in blocks])
    return _by_source(found, means, spreads), shares.std(axis=0, ddof=1) / np.sqrt(BLOCKS)


def _shares(by_source: np.ndarray) -> np.ndarray:
    total = by_source.sum(axis=0)
    return np.divide(by_source, total, out=np.full_like(by_source, np.nan), where=total > 0)


def _by_source(found: Evaluations, means: np.ndarray, spreads: np.ndarray) -> np.ndarray:
    """Variance by source, shape (source, times).

    Args:
        found: The evaluations.
        means: Over the noise, of the base and all pairs, shape (1 + pairs, n, times).
        spreads: Variances over the noise, likewise.
    """
    # all evaluations have the same distribution: together they tell its variance better than one
    variance = means.var(axis=1, ddof=1).mean(axis=0)
    explained = {
        group: variance * correlation(means[0], pair) for group, pair in zip(found.pairs, means[1:], strict=True)
    }
    everyone = frozenset(found.players)
    explained.setdefault(everyone, variance)
    for group in coalitions(found.players):  # knowing more explains no less
        for less in coalitions(found.players):
            if less < group:
                explained[group] = np.maximum(explained[group], explained[less])
    parts = shapley(found.players, explained)
    parts["model_error"] = np.maximum(variance - explained[everyone], 0.0)
    parts["noise"] = spreads.mean(axis=(0, 1))
    return np.stack([parts[source] for source in found.sources])
