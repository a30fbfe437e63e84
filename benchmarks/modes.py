"""Is the best mode found where there are many? `python benchmarks/modes.py` counts the seeds in which it is.

An undamped oscillator of unknown frequency, whose prior is log-normal with standard deviation 1, seen for 19 periods by
61 points, and for 38 periods by 121; the noise is a twentieth, a fifth or half of the amplitude. The best mode is found
where a climb ends no lower than one that starts at the truth. Where it is missed, the gate `modes` should say that it
may be.
"""

import argparse
import time
from typing import NamedTuple

import numpy as np
import numpyro.distributions as dist
import pandas as pd

import bayestwin as bt
from bayestwin._base.progress import Progress
from bayestwin.assess.recorded import RARELY
from bayestwin.density.bind import bind
from bayestwin.density.density import Density, build_density
from bayestwin.dynamics.choice import with_method
from bayestwin.inference.method import NEGLIGIBLE
from bayestwin.inference.starts import climb_all, find_starts


def swing(t, x, p, u):
    """A mass on a spring."""
    return {"position": x.velocity, "velocity": -(p.frequency**2) * x.position}


def bound_attractor(t, x, p, u):
    """FitzHugh–Nagumo."""
    return {
        "voltage": p.rate * (x.voltage - x.voltage**3 / 3.0 + x.recovery),
        "recovery": -(x.voltage - p.shift + p.slope * x.recovery) / p.rate,
    }


OSCILLATOR = bt.Twin(
    name="oscillator",
    vector_field=swing,
    states={"position": bt.State(dist.Normal(0.0, 2.0)), "velocity": bt.State(dist.Normal(0.0, 2.0))},
    parameters={"frequency": bt.Parameter(dist.LogNormal(0.0, 1.0))},
    observations={"position": bt.Observation(bt.Gaussian(dist.HalfNormal(0.5)))},
)
NERVE = bt.Twin(
    name="nerve",
    vector_field=bound_attractor,
    states={"voltage": bt.State(-1.0), "recovery": bt.State(1.0)},
    parameters={
        "shift": bt.Parameter(dist.LogNormal(-1.0, 1.0)),
        "slope": bt.Parameter(dist.LogNormal(-1.0, 1.0)),
        "rate": bt.Parameter(dist.LogNormal(1.0, 1.0)),
    },
    observations={name: bt.Observation(bt.Gaussian(dist.HalfNormal(0.5))) for name in ("voltage", "recovery")},
)


class Case(NamedTuple):
    """A twin, its true values, the times, the noise, and how many seeds."""

    twin: bt.Twin
    truth: dict[str, float]
    times: np.ndarray
    noise: float
    seeds: int


def oscillator(periods: int, num: int, noise: float, seeds: int) -> Case:
    truth = {"frequency": 1.0, "position_initial": 1.0, "velocity_initial": 0.0}
    # irregular, so that no other frequency gives the same values at all of them
    times = np.sort(np.random.default_rng(0).uniform(0.0, 2.0 * np.pi * periods, num))
    return Case(OSCILLATOR, truth, times, noise, seeds)


CASES = {
    "19 periods, noise 0.05": oscillator(19, 61, 0.05, 20),
    "19 periods, noise 0.2": oscillator(19, 61, 0.2, 20),
    "19 periods, noise 0.5": oscillator(19, 61, 0.5, 20),
    "38 periods, noise 0.2": oscillator(38, 121, 0.2, 20),
    "38 periods, noise 0.5": oscillator(38, 121, 0.5, 20),
    "FitzHugh–Nagumo": Case(NERVE, {"shift": 0.2, "slope": 0.2, "rate": 3.0}, np.linspace(0.0, 20.0, 41), 0.1, 12),
}


def density_of(case: Case, seed: int) -> Density:
    """The density of a record that is simulated with this seed."""
    rng = np.random.default_rng(seed)
    blank = bt.read_telemetry(pd.DataFrame({"time": case.times}), t0=0.0)
    values = case.truth | {f"{name}_scale": case.noise for name in case.twin.observations}
    said = bt.simulate(case.twin, values, blank, seed=0)
    columns = {
        n: said[f"{n}_noise_free"].values + case.noise * rng.normal(size=len(case.times))
        for n in case.twin.observations
    }
    telemetry = bt.read_telemetry(pd.DataFrame({"time": case.times, **columns}), t0=0.0)
    exact = "exact" if case.twin is OSCILLATOR else "tsit5"
    return build_density(with_method(case.twin, exact), bind(case.twin, telemetry)).filled


def looked_for(case: Case, seed: int) -> tuple[bool, bool, int, int, float]:
    """Whether the best mode was found, whether the gate would warn, climbs at the highest and all, and seconds."""
    density = density_of(case, seed)
    truth = case.truth | {f"{name}_scale": case.noise for name in case.twin.observations}
    best = climb_all(density, np.asarray(density.unconstrain(truth))[None])[0].log_density[0]
    begun = time.process_time()
    record = find_starts(density, 4, seed, Progress(show=False)).record
    seconds = time.process_time() - begun
    warns = record["modes"] > 1 or record["highest"] < RARELY * record["optimised"]
    return record["log_density"][0] > best - NEGLIGIBLE, warns, record["highest"], record["optimised"], seconds


def main() -> None:
    """Count, case by case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, help="of each case, instead of all")
    asked = parser.parse_args()
    for name, case in CASES.items():
        found = [looked_for(case, seed) for seed in range(asked.seeds or case.seeds)]
        hits, silent = sum(one[0] for one in found), sum(not one[0] and not one[1] for one in found)
        false = sum(one[0] and one[1] for one in found)
        shares = sorted(f"{one[2]}/{one[3]}{'' if one[0] else ' missed'}" for one in found)
        print(
            f"{name}: found {hits} of {len(found)}; missed in silence {silent}; warned though found {false}; "
            f"{np.median([one[4] for one in found]):.2f} CPU s; {', '.join(shares)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
