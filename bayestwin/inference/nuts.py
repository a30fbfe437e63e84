"""NUTS from the starts of the ladder: a short warm-up, draws, and what is done by itself when something goes wrong.

Warm-up has three windows: step size; step size, and then a metric corrected by the window's draws; step size again.
A chain that sticks is started once more from the ladder. While transitions diverge, the draws are thrown away and made
again with smaller steps. Both are recorded.

M. D. Hoffman & A. Gelman (2014), jmlr.org/papers/v15/hoffman14a.html.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bayestwin._base.interruption import deferred_interrupts
from bayestwin._base.progress import Phase, Progress
from bayestwin._base.seeds import key_for
from bayestwin.inference.method import Checkpoint, Draws, Problem, Settings
from bayestwin.inference.modes import Mode
from bayestwin.inference.sensitivities import choose_sensitivities
from bayestwin.inference.starts import Starts, disperse, find_starts, in_batches
from bayestwin.inference.transitions import Engine, Team
from bayestwin.inference.whitening import Whitening, rescale, whitening_of

HIGHER_TARGETS = (0.9, 0.95, 0.99)
"""Target acceptances that are tried in turn, beyond the one asked for, while transitions diverge."""

DRAWING = 3
"""Number of the window in which draws are kept; those before it warm up."""


def nuts(problem: Problem) -> Draws:
    """Draw by NUTS, from the starts that the ladder finds."""
    density, settings, seed, progress, checkpoint = problem
    starts = find_starts(density, settings.num_chains, seed, progress)
    mode = {"mode": "forward", "reason": "asked for"}
    if settings.sensitivities == "auto":
        density, mode = choose_sensitivities(density, starts, seed, progress)
    drawn = sample_nuts(density, starts, settings=settings, seed=seed, progress=progress, checkpoint=checkpoint)
    return drawn._replace(record={"starts": starts.record, "sensitivities": mode} | dict(drawn.record))


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
        with progress.phase("draws", "drawing", settings.num_samples) as phase:
            try:
                march.walk(phase)
            except KeyboardInterrupt:
                march.leave()
                if not march.drawn:
                    raise
                return march.draws(interrupted=True)
        if not (march.raise_target() or march.restart_stuck()):
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
        self.whitening = whitening_of(mode.z, mode.scale @ mode.scale.T)
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
        key = key_for(self.seed, f"window {self.window} of attempt {len(self.events)}")
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
        self._open_window(self.window + 1, z[-1], [team.step_size for team in self.teams])

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
        fresh = disperse(in_batches(self.log_density), self.starts.modes[:1], len(z), self.seed, attempt=2)
        z[stuck] = fresh[stuck]
        where = "draws" if self.drawn else "warm-up"
        chains = [int(c) for c in np.flatnonzero(stuck)]
        self.events.append({"what": "restarted stuck chains", "chains": chains, "found_in": where})
        self._begin_anew(z)
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
        return Draws(
            stats.pop("z"), stats, {"sampling": record, "num_warmup": sum(self.lengths[:DRAWING])}, interrupted
        )

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
        empty = {"directions": np.zeros((self.z.shape[1], 0)), "stretch": np.zeros(0)}  # of a diagonal metric
        leaves = {name: state.get(f"whitening_{name}", empty.get(name)) for name in Whitening._fields}
        self.whitening = Whitening(**{name: jnp.asarray(leaf) for name, leaf in leaves.items()})
        self._open_window(words["window"], np.asarray(state["z"]), words["step_sizes"])
        drawn = {name.removeprefix("drawn_"): v for name, v in state.items() if name.startswith("drawn_")}
        if drawn:
            blank = self.engine.begin(self.z, self.whitening, self.step_sizes)
            leaves = [jnp.asarray(state[f"team_{n}"]) for n in range(len(jax.tree.leaves(blank)))]
            self._take(jax.tree.unflatten(jax.tree.structure(blank), leaves), drawn)


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
