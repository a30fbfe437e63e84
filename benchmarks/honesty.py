"""Is a wrong number ever said in silence? `python benchmarks/honesty.py` asks 200 random twins whose truth is known.

Each twin is one of nine kinds, with numbers, scales, times and a truth of its own drawn by its seed. The truth comes
from the prior, so that intervals must hold it as often as they say. Each is simulated at the truth and held against
SciPy at 1e-11, and calibrated by default settings from noisy values. `--write` puts the table into RESULTS.md.
"""

import argparse
import functools
import itertools
import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import scipy.integrate
import scipy.stats

import bayestwin as bt
from bayestwin._base.progress import Progress
from bayestwin.assess import diagnose, failed
from results_page import circumstances, markdown, number, write_section

NUM_TIMES = 24
SPREAD = 0.4
"""Standard deviation of each log-normal prior."""

EXACT = 1e-6
"""Largest difference of a simulation from SciPy, as a share of the largest value of that state."""

CERTAIN = 0.999
"""Probability of the interval outside which a truth is called missed."""

NOISES = (0.02, 0.1)
"""Standard deviation of the noise, as a share of the mean size of what is observed."""


# The kinds: vector fields that run on NumPy as on JAX, with `xp` either of them.


def exchanging(xp: Any, t: Any, x: Any, p: Any, u: Any) -> dict[str, Any]:
    """Two compartments, fed from outside: linear."""
    across = p.over * x.first - p.back * x.second
    return {"first": u.feed - across - p.out * x.first, "second": across}


def saturating(xp: Any, t: Any, x: Any, p: Any, u: Any) -> dict[str, Any]:
    """Elimination by Michaelis and Menten."""
    return {"level": u.feed - p.most * x.level / (p.half + x.level)}


def overflowing(xp: Any, t: Any, x: Any, p: Any, u: Any) -> dict[str, Any]:
    """A vessel that overflows above a brim, and is fed: a bend where a state crosses a parameter."""
    return {"level": u.feed - p.leak * x.level - p.over * xp.maximum(x.level - p.brim, 0.0)}


def setting_in(xp: Any, t: Any, x: Any, p: Any, u: Any) -> dict[str, Any]:
    """A rate that sets in at an unknown time: a jump where the time crosses a parameter."""
    return {"level": xp.where(t > p.onset, p.rate, 0.0) - p.loss * x.level}


def pulsed(xp: Any, t: Any, x: Any, p: Any, u: Any) -> dict[str, Any]:
    """A short pulse at a known time."""
    return {"level": p.height * xp.where((t > p.begins) & (t < p.ends), p.rate, 0.0) - p.loss * x.level}


def peaked(xp: Any, t: Any, x: Any, p: Any, u: Any) -> dict[str, Any]:
    """The same with smooth edges."""
    return {"level": p.height * xp.exp(-0.5 * ((t - p.middle) / p.width) ** 2) - p.loss * x.level}


def stiff(xp: Any, t: Any, x: Any, p: Any, u: Any) -> dict[str, Any]:
    """A fast state that follows a slow one."""
    return {"slow": u.feed - p.loss * x.fast, "fast": p.quick * (p.share * x.slow - x.fast)}


def oscillating(xp: Any, t: Any, x: Any, p: Any, u: Any) -> dict[str, Any]:
    """A damped oscillator."""
    return {"position": x.velocity, "velocity": -p.stiffness * x.position - p.damping * x.velocity}


class Kind(NamedTuple):
    """A vector field and the numbers that go with it.

    Attributes:
        field: With `xp` first.
        centres: By inferred parameter, the median of its prior where the unit of time is a fifth of the record and
            states are about one; `known` ones, and `initial` states, are numbers.
        powers: By parameter, the powers of the units of time and of state by which its centre is multiplied.
        known: Makes known parameters from the generator.
        initial: By state.
        observed: Which state is observed.
        fed: Whether there is an input.
        stops: Makes the times at which SciPy is stopped, from all parameters.
        scaled: Whether states are scaled by 1e-12 to 1e12, instead of about one.
    """

    field: Callable[..., dict[str, Any]]
    centres: Mapping[str, float]
    powers: Mapping[str, tuple[int, int]]
    initial: Mapping[str, float]
    observed: str
    known: Callable[[np.random.Generator], dict[str, float]] = lambda rng: {}
    fed: bool = False
    stops: Callable[[Mapping[str, float]], list[float]] = lambda p: []
    scaled: bool = False


def _pulse(rng: np.random.Generator) -> dict[str, float]:
    begins, width = rng.uniform(0.3, 3.0), 10.0 ** rng.uniform(-4.0, -0.5)
    return {"begins": begins, "ends": begins + width, "rate": 3.0 / width}


def _peak(rng: np.random.Generator) -> dict[str, float]:
    return {"middle": rng.uniform(0.5, 3.0), "width": 10.0 ** rng.uniform(-3.0, -0.5)}


RATE, AMOUNT, FLOW, TIME = (-1, 0), (0, 1), (-1, 1), (1, 0)

LINEAR = Kind(
    exchanging,
    {"over": 1.0, "back": 0.5, "out": 0.3},
    dict.fromkeys(("over", "back", "out"), RATE),
    {"first": 2.0, "second": 0.5},
    "second",
    fed=True,
)

KINDS = {
    "linear": LINEAR,
    "scaled": LINEAR._replace(scaled=True),
    "saturating": Kind(
        saturating, {"most": 1.5, "half": 1.0}, {"most": FLOW, "half": AMOUNT}, {"level": 4.0}, "level", fed=True
    ),
    "bending": Kind(
        overflowing,
        {"leak": 0.3, "over": 3.0, "brim": 1.0},
        {"leak": RATE, "over": RATE, "brim": AMOUNT},
        {"level": 0.5},
        "level",
        fed=True,
    ),
    "setting in": Kind(
        setting_in,
        {"rate": 1.0, "loss": 0.5, "onset": 2.0},
        {"rate": FLOW, "loss": RATE, "onset": TIME},
        {"level": 2.0},
        "level",
        stops=lambda p: [p["onset"]],
    ),
    "pulsed": Kind(
        pulsed,
        {"height": 1.0, "loss": 0.7},
        {"height": (0, 0), "loss": RATE, "begins": TIME, "ends": TIME, "rate": FLOW},
        {"level": 0.0},
        "level",
        known=_pulse,
        stops=lambda p: [p["begins"], p["ends"]],
    ),
    "peaked": Kind(
        peaked,
        {"height": 3.0, "loss": 0.7},
        {"height": FLOW, "loss": RATE, "middle": TIME, "width": TIME},
        {"level": 1.0},
        "level",
        known=_peak,
        stops=lambda p: [p["middle"] + k * p["width"] for k in (-8, -3, 0, 3, 8)],
    ),
    "stiff": Kind(
        stiff,
        {"loss": 0.8, "share": 1.0},
        {"loss": RATE, "share": (0, 0), "quick": RATE},
        {"slow": 3.0, "fast": 0.0},
        "fast",
        known=lambda rng: {"quick": 10.0 ** rng.uniform(3.0, 6.0)},
        fed=True,
    ),
    "oscillating": Kind(
        oscillating,
        {"stiffness": 12.0, "damping": 0.3},
        {"stiffness": (-2, 0), "damping": RATE},
        {"position": 1.0, "velocity": 0.0},
        "position",
    ),
}


class Problem(NamedTuple):
    """One random twin: what is calibrated, and what is right.

    Attributes:
        twin: The twin, its priors around numbers of its own.
        truth: By site.
        telemetry: Times, the input and the noisy observation.
        states: All states by SciPy, by name.
    """

    twin: bt.Twin
    truth: dict[str, float]
    telemetry: bt.Telemetry
    states: dict[str, np.ndarray]


def problem_of(name: str, seed: int) -> Problem:
    """The twin of that kind and seed."""
    kind, rng = KINDS[name], np.random.default_rng([list(KINDS).index(name), seed])
    second = 10.0 ** rng.uniform(-3.0, 6.0)
    unit = 10.0 ** (rng.uniform(-12.0, 12.0) if kind.scaled else rng.uniform(-1.0, 1.0))
    factor = {key: second**a * unit**b for key, (a, b) in kind.powers.items()}
    centres = {k: v * np.exp(0.3 * rng.normal()) * factor[k] for k, v in kind.centres.items()}
    known = {key: value * factor[key] for key, value in kind.known(rng).items()}
    drawn = {key: value * np.exp(SPREAD * rng.normal()) for key, value in centres.items()}
    times = np.concatenate([[0.0], np.sort(rng.uniform(0.05, 5.0, NUM_TIMES - 1))]) * second
    feed = rng.choice([0.0, 0.5, 1.0], NUM_TIMES) * unit / second if kind.fed else np.zeros(NUM_TIMES)
    # a rate of change has the unit of the state; of an oscillator it is one of a velocity as well
    initial = {s: v * unit / (second if s == "velocity" else 1.0) for s, v in kind.initial.items()}
    states = solved_by_scipy(kind, drawn | known, initial, times, feed)
    size = np.abs(states[kind.observed]).mean()
    centre = rng.choice(NOISES) * size
    scale = centre * np.exp(SPREAD * rng.normal())
    observed = states[kind.observed] + scale * rng.normal(size=NUM_TIMES)
    # what is known comes with the record: numbers that a twin is written with would be compiled into its programs
    brought = known | {f"{s}_begin": v for s, v in initial.items()}
    twin = bt.Twin(
        name=name.replace(" ", "_"),
        vector_field=_on_jax(name),
        states={s: bt.State(bt.First(f"{s}_begin")) for s in initial},
        parameters={k: bt.Parameter(dist.LogNormal(np.log(v), SPREAD)) for k, v in centres.items()}
        | {k: bt.Parameter(bt.First(k)) for k in known},
        inputs={"feed": bt.Input(hold="previous")} if kind.fed else {},
        observations={kind.observed: bt.Observation(bt.Gaussian(dist.LogNormal(np.log(centre), SPREAD)))},
    )
    columns = {"time": times, kind.observed: observed, **brought} | ({"feed": feed} if kind.fed else {})
    truth = drawn | {f"{kind.observed}_scale": scale}
    return Problem(twin, truth, bt.read_telemetry(pd.DataFrame(columns)), states)


@functools.cache
def _on_jax(name: str) -> Callable[..., dict[str, Any]]:
    """The vector field of a kind: one function, so that all its twins share their programs."""
    field = KINDS[name].field
    return lambda t, x, p, u: field(jnp, t, x, p, u)


def solved_by_scipy(
    kind: Kind, p: Mapping[str, float], initial: Mapping[str, float], times: np.ndarray, feed: np.ndarray
) -> dict[str, np.ndarray]:
    """All states at all times, from stop to stop, in units in which each is about one."""
    second, unit = times[-1] / 5.0, np.array([max(abs(v), 1e-300) for v in initial.values()])
    unit = np.where(unit > 1e-299, unit, max(unit.max(), 1e-299) if unit.max() > 1e-299 else 1.0)
    said, names = SimpleNamespace(**p), list(initial)

    def slope(t: float, y: np.ndarray, flow: float) -> np.ndarray:
        x = SimpleNamespace(**dict(zip(names, y * unit, strict=True)))
        made = kind.field(np, t * second, x, said, SimpleNamespace(feed=flow))
        return np.array([made[n] for n in names]) / unit * second

    edges = np.unique([*times, *(t for t in kind.stops(p) if 0.0 < t < times[-1])])
    y = np.array(list(initial.values())) / unit
    found = {edges[0]: y}
    for start, end in itertools.pairwise(edges):
        flow = float(feed[np.searchsorted(times, start, side="right") - 1])
        # a comparison with a stop is that of the middle of what lies between two of them
        inner = functools.partial(slope, flow=flow)
        span = (np.nextafter(start / second, np.inf), np.nextafter(end / second, -np.inf))
        method = "Radau" if kind.field is stiff else "DOP853"
        done = scipy.integrate.solve_ivp(inner, span, y, method=method, rtol=1e-11, atol=1e-13)
        assert done.success, done.message
        found[end] = y = done.y[:, -1]
    table = np.stack([found[t] for t in times]) * unit
    return dict(zip(names, table.T, strict=True))


class Outcome(NamedTuple):
    """What became of one twin.

    Attributes:
        error: Largest difference of the simulation from SciPy, by the size of the state.
        ranks: By site, the share of the draws below the truth; empty where calibration ended in an error.
        missed: Sites whose truth lies outside the interval of `CERTAIN`.
        gates: Names of the gates that failed, or the error.
        seconds: CPU time of the calibration.
    """

    error: float
    ranks: dict[str, float]
    missed: tuple[str, ...]
    gates: tuple[str, ...]
    seconds: float


def outcome_of(name: str, seed: int) -> Outcome:
    """Simulate and calibrate the twin of that kind and seed."""
    twin, truth, telemetry, states = problem_of(name, seed)
    begun = time.process_time()
    try:
        said = bt.simulate(twin, truth, telemetry, seed=0)
        each = [np.abs(said[f"{s}_state"].to_numpy() - v).max() / np.abs(v).max() for s, v in states.items()]
        posterior = bt.calibrate(twin, telemetry, seed=seed, progress=Progress(show=False))
    except bt.errors.BayestwinError as error:
        return Outcome(np.nan, {}, (), (type(error).__name__,), time.process_time() - begun)
    seconds = time.process_time() - begun
    draws = {site: posterior["posterior"][site].to_numpy().ravel() for site in truth}
    ranks = {site: float((values < truth[site]).mean()) for site, values in draws.items()}
    tail = (1.0 - CERTAIN) / 2.0
    missed = tuple(site for site, rank in ranks.items() if not tail <= rank <= 1.0 - tail)
    return Outcome(max(each), ranks, missed, tuple(gate.name for gate in failed(diagnose(posterior))), seconds)


def sweep(num: int, kinds: list[str], shown: Callable[[str], None] = print) -> dict[str, list[Outcome]]:
    """`num` twins, as evenly of each kind as can be."""
    found: dict[str, list[Outcome]] = {name: [] for name in kinds}
    for place in range(num):
        name = kinds[place % len(kinds)]
        outcome = outcome_of(name, place // len(kinds))
        found[name].append(outcome)
        words = ", ".join(outcome.gates) or "all gates pass"
        missed = f"; outside: {', '.join(outcome.missed)}" if outcome.missed else ""
        shown(f"{name} {place // len(kinds)}: error {outcome.error:.1e}, {words}{missed}, {outcome.seconds:.1f} s")
    return found


def band(num: int, prob: float) -> tuple[int, int]:
    """Between how many of `num` independent truths lie inside, with a probability of 99 %."""
    low, high = scipy.stats.binom.ppf((0.005, 0.995), num, prob)
    return int(low), int(high)


def one_site(outcomes: list[Outcome]) -> list[float]:
    """The rank of one quantity of each twin: those of one twin depend on each other."""
    return [list(one.ranks.values())[place % len(one.ranks)] for place, one in enumerate(outcomes) if one.ranks]


def inside(ranks: list[float], prob: float) -> int:
    """How many truths lie in the equal-tailed interval."""
    return sum(abs(rank - 0.5) <= prob / 2.0 for rank in ranks)


def silent(outcomes: list[Outcome]) -> int:
    """How many quantities lie outside `CERTAIN` though every gate passes."""
    return sum(len(one.missed) for one in outcomes if not one.gates)


def main() -> None:
    """Ask them, and print a table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--num", type=int, default=200)
    options.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    options.add_argument("--write", action="store_true")
    asked = options.parse_args()
    found = sweep(asked.num, asked.kinds)
    found |= {"all": [one for some in found.values() for one in some]}
    rows = []
    for name, some in found.items():
        ranks = one_site(some)
        errors = [one.error for one in some if np.isfinite(one.error)]
        rows.append(
            [
                name,
                str(len(some)),
                f"{max(errors, default=np.nan):.1e}",
                str(sum(not one.error <= EXACT for one in some)),
                str(sum(not one.gates for one in some)),
                *(f"{inside(ranks, p)} ({band(len(ranks), p)[0]}–{band(len(ranks), p)[1]})" for p in (0.5, 0.9)),
                str(silent(some)),
                number(float(np.median([one.seconds for one in some]))),
            ]
        )
    header = ["kind", "twins", "worst simulation", f"beyond {EXACT:g}", "all gates pass"]
    header += ["truth in 50 % (99 % band)", "truth in 90 %", f"outside {100 * CERTAIN:g} % in silence", "CPU s, median"]
    table = markdown(header, rows)
    print(table)
    if asked.write:
        write_section("Random twins whose truth is known", f"{circumstances('cpu')}\n\n{table}")


if __name__ == "__main__":
    main()
