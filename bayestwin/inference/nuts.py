"""NUTS from the starts of the ladder: its metric, its transitions, and the windows of warm-up and sampling.

Warm-up has three windows: step size; step size, and then a metric corrected by the window's draws; step size again.
A chain that sticks is started once more from the ladder. While transitions diverge, the draws are thrown away and made
again with smaller steps. Where there are too few draws to judge, more are made. All three are recorded.

M. D. Hoffman & A. Gelman (2014), jmlr.org/papers/v15/hoffman14a.html.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from arviz_stats.sampling_diagnostics import ess, rhat
from blackjax.adaptation.step_size import DualAveragingAdaptationState, dual_averaging_adaptation
from blackjax.mcmc.hmc import HMCState
from jax import Array, lax

from bayestwin._base.compilation import Program
from bayestwin._base.process import deferred_interrupts, key_for, num_cores, side_by_side
from bayestwin._base.progress import Phase, Progress
from bayestwin.density.survey import as_pytree
from bayestwin.inference.centring import choose_centring
from bayestwin.inference.climb import Mode, shares_of
from bayestwin.inference.method import (
    EXTENDED,
    FAR_APART,
    LEAST_EXTENDED,
    MIN_ESS_PER_CHAIN,
    Checkpoint,
    Draws,
    Problem,
    Settings,
    rhat_limit,
)
from bayestwin.inference.metric import Metric, first_metric, read_metric, rescale
from bayestwin.inference.solver import choose_sensitivities
from bayestwin.inference.starts import Starts, disperse, find_starts, gradients

# Transitions of NUTS, many a call: chains in lock-step within a team, teams side by side on the cores.
#
# Chains in lock-step wait for the one with the longest trajectory, and on a CPU a wider batch costs nearly as much as
# the chains one by one; so chains are dealt out to as many teams as there are cores. Each team has a step size.
#
# M. D. Hoffman & A. Gelman (2014), jmlr.org/papers/v15/hoffman14a.html; kernel and step-size adaptation by blackjax.

CHUNK = 100
"""Most transitions a call."""

SECONDS = 1.0
"""About how long a call takes: between two calls progress is shown and Ctrl-C is heard."""


class Team(NamedTuple):
    """Chains in lock-step: where they are, and their search for a step size."""

    states: HMCState
    averaging: DualAveragingAdaptationState

    @property
    def step_size(self) -> float:
        """The step size found so far."""
        return float(np.exp(self.averaging.log_step_size_avg))


class Engine:
    """Makes transitions of all chains; compiled once, for warm-up and draws alike."""

    def __init__(self, log_density: Callable[[Array], Array], num_chains: int, num_teams: int | None = None) -> None:
        """Prepare; nothing is compiled yet.

        Args:
            log_density: (d,) → scalar; −inf where it is not defined.
            num_chains: Number of chains.
            num_teams: A divisor of that; by default as many as there are cores.
        """
        self.num_teams = num_teams or _num_teams(num_chains)
        self.members = np.arange(num_chains).reshape(self.num_teams, -1)
        self._log_density = as_pytree(log_density)
        self._compiled = False
        self._seconds_each = 0.0

    def begin(self, z: np.ndarray, whitening: Metric, step_sizes: Sequence[float]) -> tuple[Team, ...]:
        """Teams at z, shape (c, d), with a fresh search for their step sizes."""
        value, gradient = gradients(self._log_density, z)
        w = np.stack([whitening.whiten(point) for point in z])
        slope = np.stack([whitening.along(one) for one in gradient])
        states: list[Any] = [HMCState(w[own], value[own], slope[own]) for own in self.members]  # type: ignore[arg-type]
        return tuple(Team(own, searching_from(step)) for own, step in zip(states, step_sizes, strict=True))

    def length(self, most: int) -> int:
        """How many transitions to make in the next call: few at first, then as many as fit into `SECONDS`."""
        fitting = SECONDS / self._seconds_each if self._seconds_each else 5
        return int(np.clip(fitting, 1, min(CHUNK, most)))

    def run(
        self,
        teams: tuple[Team, ...],
        whitening: Metric,
        key: Array,
        first: int,
        length: int,
        target: float | None,
    ) -> tuple[tuple[Team, ...], dict[str, np.ndarray]]:
        """Make transitions `first` to `first + length − 1` of all chains.

        What comes out does not depend on how transitions are divided into calls.

        Args:
            teams: Where they stand.
            whitening: The metric.
            key: Randomness, together with the number of the transition and of the chain.
            first: Number of the first transition.
            length: How many; at most `CHUNK`.
            target: Mean acceptance at which the adapting step size aims; None to leave it as it is.

        Returns:
            Where the teams stand then, and by name what was found; shape (length, c, …) each.
        """
        numbers = tuple(np.asarray(number) for number in (first, length, target is not None, target or 0.5))
        jobs = [(team, whitening, key, members, *numbers) for team, members in zip(teams, self.members, strict=True)]
        if not self._compiled:  # ahead of the threads, which would each compile it
            _make(self._log_density, *jobs[0][:5], np.asarray(0), *jobs[0][6:])
            self._compiled = True
        begun = time.perf_counter()

        def work(job: tuple) -> tuple[Team, dict[str, np.ndarray]]:
            team, found = _make(self._log_density, *job)
            return team, {name: np.asarray(values)[:length] for name, values in found.items()}

        results = side_by_side(work, jobs)
        self._seconds_each = (time.perf_counter() - begun) / length
        found = {name: np.concatenate([f[name] for _, f in results], axis=1) for name in results[0][1]}
        return tuple(team for team, _ in results), found


def _num_teams(num_chains: int) -> int:
    """The largest divisor of the number of chains that is no more than the cores; one team where a GPU computes."""
    device = jax.config.jax_default_device  # type: ignore[attr-defined]
    if getattr(device, "platform", jax.default_backend()) != "cpu":
        return 1
    return max(n for n in range(1, num_chains + 1) if num_chains % n == 0 and n <= num_cores())


def searching_from(step_size: float) -> DualAveragingAdaptationState:
    """The state of a search for a step size that has not begun: as blackjax's, but for an average that is known."""
    log_step = np.log(step_size)
    begun: list[Any] = [np.asarray(one) for one in (log_step, log_step, 1.0, 0.0, np.log(10.0 * step_size))]
    return DualAveragingAdaptationState(*begun)


KEPT = {"lp": float, "diverging": bool, "solver_failed": bool, "n_steps": int, "tree_depth": int} | dict.fromkeys(
    ("acceptance_rate", "step_size", "energy"), float
)
"""What is kept of each transition of a chain, beside where it led."""


@Program
def _make(
    log_density: Callable[[Array], Array],
    team: Team,
    whitening: Metric,
    key: Array,
    members: Array,
    first: Array,
    length: Array,
    adapting: Array,
    target: Array,
) -> tuple[Team, dict[str, Array]]:
    """Make transitions; arguments as of `Engine.run`, of one team. There is room for `CHUNK` of them in the result."""
    kernel = blackjax.nuts.build_kernel()
    _, update, _ = dual_averaging_adaptation(target)  # type: ignore[arg-type]
    unit = jnp.ones(whitening.centre.shape[0])

    def transition(team: Team, number: Array) -> tuple[Team, dict[str, Array]]:
        states, averaging = team
        step_size = jnp.exp(jnp.where(adapting, averaging.log_step_size, averaging.log_step_size_avg))

        def one(member: Array, state: HMCState) -> tuple:
            own = jax.random.fold_in(jax.random.fold_in(key, number), member)
            return kernel(own, state, lambda w: log_density(whitening.unwhiten(w)), step_size, unit)

        states, info = jax.vmap(one)(members, states)
        updated = update(averaging, jnp.nan_to_num(info.acceptance_rate).mean())
        averaging = jax.tree.map(lambda new, old: jnp.where(adapting, new, old), updated, averaging)
        return Team(states, averaging), _found(states, info, step_size, whitening)

    blank = {name: jnp.zeros((CHUNK, len(members)), dtype) for name, dtype in KEPT.items()}
    blank["z"] = jnp.zeros((CHUNK, *team.states.position.shape))  # type: ignore[union-attr]

    def body(number: Array, loop: tuple[Team, dict[str, Array]]) -> tuple[Team, dict[str, Array]]:
        team, kept = loop
        team, found = transition(team, first + number)
        return team, jax.tree.map(lambda all_, new: all_.at[number].set(new), kept, found)

    return lax.fori_loop(0, length, body, (team, blank))


def _found(states: HMCState, info: Any, step_size: Array, whitening: Metric) -> dict[str, Array]:
    """What is kept of one transition of each chain; shape (c, …) each."""
    # a trajectory ends at its first failed solve, so that one is at an edge of it
    edges = (info.trajectory_leftmost_state.logdensity, info.trajectory_rightmost_state.logdensity)
    failed = ~(jnp.isfinite(edges[0]) & jnp.isfinite(edges[1]))
    return {
        "z": jax.vmap(whitening.unwhiten)(jnp.asarray(states.position)),
        "lp": jnp.asarray(states.logdensity),
        "diverging": info.is_divergent & ~failed,
        "solver_failed": failed,
        "n_steps": info.num_integration_steps,
        "tree_depth": info.num_trajectory_expansions,
        "acceptance_rate": info.acceptance_rate,
        "step_size": jnp.full(failed.shape, step_size),
        "energy": info.energy,
    }


MANY, TURNED, LONGER = 200, 1.04, 1.2
"""Dimensions from which on all turn at once, in a metric that fits; how far beyond that it is certain to be seen; and
how much longer steps may become so that it is."""


def off_resonance(step_size: float, dim: int) -> float:
    """A step size whose trajectories are seen to turn, close to one at which they are not.

    In many dimensions that a metric has made alike all of them turn after half a period, π. Of trajectories of 1, 3, 7,
    15 … steps one may end just before that, and the next, twice as long, just after a whole period, where it is back
    and seems to go ahead: a draw then costs two or four times the steps. HMC is about as efficient over a wide range of
    acceptances (A. Beskos et al. 2013, doi:10.3150/12-BEJ414), so that steps a little longer lose little.

    Args:
        step_size: In coordinates in which the posterior looks like a unit normal.
        dim: Dimensions.
    """
    if dim <= MANY:
        return step_size
    seen = (TURNED * np.pi / (2**doublings - 1) for doublings in range(2, 10))
    return next((float(one) for one in seen if one / LONGER < step_size < one), step_size)


HIGHER_TARGETS = (0.9, 0.95, 0.99)
"""Target acceptances that are tried in turn, beyond the one asked for, while transitions diverge."""

DRAWING = 3
"""Number of the window in which draws are kept; those before it warm up."""


def nuts(problem: Problem) -> Draws:
    """Draw by NUTS, from the starts that the ladder finds."""
    density, settings, seed, progress, checkpoint = problem
    density, starts = choose_centring(density, find_starts(density, settings.num_chains, seed, progress), seed)
    mode = {"mode": "forward", "reason": "asked for"}
    if settings.sensitivities == "auto":
        density, mode = choose_sensitivities(density, starts, seed, progress)
    drawn = sample_nuts(density, starts, settings=settings, seed=seed, progress=progress, checkpoint=checkpoint)
    visited = shares_of(starts.modes, drawn.z.reshape(-1, drawn.z.shape[-1]))
    record = {"starts": starts.record | {"visited": visited}, "sensitivities": mode}
    return drawn._replace(record=record | dict(drawn.record))


def sample_nuts(
    log_density: Callable[[Array], Array],
    starts: Starts,
    *,
    settings: Settings,
    seed: int,
    progress: Progress,
    checkpoint: Checkpoint | None = None,
) -> Draws:
    """Draw from a log density by NUTS.

    Args:
        log_density: (d,) → scalar; −inf where it is not defined.
        starts: Starts and modes; the heaviest mode's Laplace approximation is the first metric.
        settings: Lengths of warm-up and chains, and the target acceptance.
        seed: Determines every draw.
        progress: Shows the phases "warmup" and "draws".
        checkpoint: Where the state is left from time to time; what was left there before is gone on from.
    """
    march = _March(log_density, starts, settings, seed, checkpoint)
    while True:
        if march.window < DRAWING:
            with progress.phase("warmup", "warming up", sum(march.lengths[:DRAWING])) as phase:
                try:
                    while march.window < DRAWING:
                        march.walk(phase)
                        march.close_window()
                except KeyboardInterrupt:
                    march.leave()
                    raise
            if march.restart_stuck():
                continue
        with progress.phase("draws", "drawing", march.lengths[DRAWING]) as phase:
            try:
                march.walk(phase)
            except KeyboardInterrupt:
                march.leave()
                if not march.drawn:
                    raise
                return march.draws(interrupted=True)
        if not (march.raise_target() or march.restart_stuck() or march.extend()):
            if checkpoint and checkpoint.due():
                march.leave()
            return march.draws()


class _March:
    """All chains on their way through the windows; everything that is needed to go on is in `_state`."""

    def __init__(
        self,
        log_density: Callable[[Array], Array],
        starts: Starts,
        settings: Settings,
        seed: int,
        checkpoint: Checkpoint | None,
    ) -> None:
        self.starts, self.settings, self.seed, self.checkpoint = starts, settings, seed, checkpoint
        self.log_density = log_density
        quarter = settings.num_warmup // 4
        self.lengths = [max(1, n) for n in (quarter, 2 * quarter, settings.num_warmup - 3 * quarter)]
        self.lengths.append(settings.num_samples)
        left = checkpoint.load() if checkpoint else None
        words = {} if left is None else json.loads(np.asarray(left["words"]).tobytes())
        # where it was begun there may have been more cores, and chains in other teams draw other numbers
        self.engine = Engine(log_density, settings.num_chains, words.get("teams"))
        self._begin_anew(starts.z)
        self.target = settings.target_acceptance
        self.events: list[dict[str, Any]] = []
        # what was left by draws that were not exact enough is of no use to those that are made instead
        if left is not None and words["sensitivities"] == settings.sensitivities:
            self._go_on(left, words)

    def _begin_anew(self, z: np.ndarray) -> None:
        mode = self.starts.modes[0]
        self.whitening = first_metric(mode.z, mode.scale, getattr(self.log_density, "arrow", None))
        self._open_window(0, z, [1.0 / z.shape[1] ** 0.25] * self.engine.num_teams)

    def _open_window(self, window: int, z: np.ndarray, step_sizes: list[float]) -> None:
        """Stand at z, shape (c, d), at the beginning of a window."""
        self.window, self.z, self.step_sizes = window, z, step_sizes
        self.teams: tuple[Team, ...] = ()
        self.drawn: list[dict[str, np.ndarray]] = []
        self.done = self.divergent = self.failed = 0

    def _take(self, teams: tuple[Team, ...], found: dict[str, np.ndarray]) -> None:
        """Stand where transitions of this window have led."""
        self.teams, self.drawn, self.done = teams, [*self.drawn, found], self.done + len(found["lp"])
        self.divergent += int(found["diverging"].sum())
        self.failed += int(found["solver_failed"].sum())

    def walk(self, phase: Phase) -> None:
        """Make what is missing of this window; draws end early at a divergence that smaller steps may cure."""
        if not self.teams:
            self.teams = self.engine.begin(self.z, self.whitening, self.step_sizes)
        adapting = self.window < DRAWING
        # an extension is the same attempt: its draws are those of chains that were to be as long from the beginning
        attempt = sum(event["what"] != EXTENDED for event in self.events)
        key = key_for(self.seed, f"window {self.window} of attempt {attempt}")
        phase.advance(self.done)
        while (missing := self.lengths[self.window] - self.done) > 0 and not self._curable():
            length = self.engine.length(missing)
            target = self.target if adapting else None
            with deferred_interrupts():
                teams, found = self.engine.run(self.teams, self.whitening, key, self.done, length, target)
                self._take(teams, found)
            phase.advance(length, self._note())
            if self.checkpoint and self.checkpoint.due():
                self.leave()

    def close_window(self) -> None:
        """Go from a window of the warm-up to the next one; the middle one's draws correct the metric."""
        z = np.concatenate([chunk["z"] for chunk in self.drawn])
        if self.window == 1:
            self.whitening = rescale(self.whitening, z)
        self._last = np.concatenate([chunk["lp"] for chunk in self.drawn])
        step_sizes = [team.step_size for team in self.teams]
        if self.window + 1 == DRAWING:
            step_sizes = [off_resonance(step, z.shape[-1]) for step in step_sizes]
        self._open_window(self.window + 1, z[-1], step_sizes)

    def _curable(self) -> bool:
        return self.window == DRAWING and self.divergent > 0 and self._higher_target() is not None

    def _higher_target(self) -> float | None:
        return next((target for target in HIGHER_TARGETS if target > self.target), None)

    def raise_target(self) -> bool:
        """After a divergence: aim at a higher acceptance, find the step size for it, and draw again."""
        if not self._curable():
            return False
        diverging = np.concatenate([chunk["diverging"] for chunk in self.drawn])
        first = int(np.flatnonzero(diverging.any(axis=1))[0])
        self.target = self._higher_target() or self.target
        self.events.append({"what": "raised target acceptance", "to": self.target, "after_draws": first})
        self._open_window(DRAWING - 1, self.z, self.step_sizes)
        return True

    def restart_stuck(self) -> bool:
        """After the warm-up or the draws: give stuck chains a new start from the ladder, once, and begin anew."""
        if any(event["what"] == "restarted stuck chains" for event in self.events):
            return False
        lp = np.concatenate([c["lp"] for c in self.drawn]) if self.drawn else self._last
        stuck = stuck_chains(lp, self.starts.modes)
        if not stuck.any():
            return False
        z = np.asarray(self.drawn[-1]["z"][-1] if self.drawn else self.z).copy()
        fresh = disperse(self.log_density, self.starts.modes[:1], len(z), self.seed, attempt=2)
        z[stuck] = fresh[stuck]
        where = "draws" if self.drawn else "warm-up"
        chains = [int(c) for c in np.flatnonzero(stuck)]
        self.events.append({"what": "restarted stuck chains", "chains": chains, "found_in": where})
        self._begin_anew(z)
        return True

    def extend(self) -> bool:
        """After the draws: go on by as many again where they do not suffice to be judged, and more are what helps."""
        number = sum(event["what"] == EXTENDED for event in self.events)
        if number == self.settings.max_extensions or self.settings.num_samples < LEAST_EXTENDED:
            return False
        if not more_would_help(np.concatenate([chunk["z"] for chunk in self.drawn])):
            return False
        self.lengths[DRAWING] += self.settings.num_samples
        self.events.append({"what": EXTENDED, "to": self.lengths[DRAWING]})
        return True

    def draws(self, *, interrupted: bool = False) -> Draws:
        """The draws made so far."""
        stats = {n: np.concatenate([c[n] for c in self.drawn]).swapaxes(0, 1) for n in self.drawn[0]}
        record = {
            "metric": self.whitening.kind,
            "target_acceptance": self.target,
            "teams": self.engine.num_teams,
            "events": self.events,
        }
        centring = getattr(self.log_density, "centring", {})
        words = {"sampling": record, "num_warmup": sum(self.lengths[:DRAWING])}
        return Draws(stats.pop("z"), stats, words, interrupted, centring)

    def _note(self) -> str:
        step = min(team.step_size for team in self.teams)
        return f"{self.divergent} divergences, {self.failed} failed solves, step size {step:.3g}"

    def leave(self) -> None:
        """Leave everything that is needed to go on from here."""
        if self.checkpoint:
            drawing = self.window == DRAWING and self.drawn
            self.checkpoint.leave(self._state(), self.draws() if drawing else None)

    def _state(self) -> dict[str, np.ndarray]:
        words = {
            "sensitivities": self.settings.sensitivities,
            "teams": self.engine.num_teams,
            "window": self.window,
            "target": self.target,
            "events": self.events,
            "step_sizes": self.step_sizes,
        }
        state = {"words": np.frombuffer(json.dumps(words).encode(), np.uint8), "z": self.z}
        state |= {f"whitening_{name}": np.asarray(leaf) for name, leaf in self.whitening._asdict().items()}
        for number, leaf in enumerate(jax.tree.leaves(self.teams)):
            state[f"team_{number}"] = np.asarray(leaf)
        names = self.drawn[0] if self.drawn else ()
        return state | {f"drawn_{name}": np.concatenate([c[name] for c in self.drawn]) for name in names}

    def _go_on(self, state: Mapping[str, np.ndarray], words: Mapping[str, Any]) -> None:
        self.target, self.events = words["target"], words["events"]
        self.lengths[DRAWING] = max([e["to"] for e in self.events if e["what"] == EXTENDED], default=self.lengths[-1])
        prefix = "whitening_"
        leaves = {name.removeprefix(prefix): np.asarray(v) for name, v in state.items() if name.startswith(prefix)}
        self.whitening = read_metric(leaves, self.z.shape[1])
        self._open_window(words["window"], np.asarray(state["z"]), words["step_sizes"])
        drawn = {name.removeprefix("drawn_"): v for name, v in state.items() if name.startswith("drawn_")}
        if drawn:
            blank = self.engine.begin(self.z, self.whitening, self.step_sizes)
            leaves = [np.asarray(state[f"team_{n}"]) for n in range(len(jax.tree.leaves(blank)))]
            self._take(jax.tree.unflatten(jax.tree.structure(blank), leaves), drawn)


def more_would_help(z: np.ndarray) -> bool:
    """Whether draws of chains that agree by and large are too few for the gates on R̂ and ESS.

    Both look at ranks, so that it is the same in the unconstrained space.

    Args:
        z: Draws; shape (s, c, d).
    """
    chains = np.moveaxis(z, -1, 0).swapaxes(1, 2)
    if not np.isfinite(z).all() or (np.ptp(z, axis=0) == 0.0).any():
        return False
    num, enough = z.shape[1], MIN_ESS_PER_CHAIN * z.shape[1]
    bulk = [float(ess(one)) for one in chains]
    few = min(bulk) < enough or any(float(ess(one, method="tail", prob=(0.05, 0.95))) < enough for one in chains)
    if num == 1:
        return few
    apart = [float(rhat(one)) for one in chains]
    limits = [rhat_limit(len(chains), num, own) for own in bulk]
    return max(apart) <= FAR_APART and (few or any(own > most for own, most in zip(apart, limits, strict=True)))


def stuck_chains(lp: np.ndarray, modes: tuple[Mode, ...]) -> np.ndarray:
    """Chains that do not move, or that move where there is next to no posterior mass.

    Such a chain's log density lies far below that of the best chain, and far below what is usual around any mode that
    the ladder knows: a chain in a second mode is not stuck.

    Args:
        lp: Log densities; shape (s, c).
        modes: What the ladder found.

    Returns:
        Whether each chain is stuck; shape (c,).
    """
    dim = modes[0].z.size
    far = 10.0 + 5.0 * np.sqrt(dim / 2.0)
    usual = np.median(lp, axis=0)
    lowest = min(mode.log_density for mode in modes) - dim / 2.0
    still = (len(lp) > 10) & (np.ptp(lp, axis=0) == 0.0)
    return still | ((usual < usual.max() - far) & (usual < lowest - far))
