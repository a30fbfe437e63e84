"""Stan through PyStan, with its defaults: 1,000 warm-up transitions, diagonal metric, random starts within ±2."""

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import stan

from bayestwin.density.bind import bind
from engines import Run, Settings
from engines.clock import Clock
from posteriors import Posterior, stan_program

NUM_WARMUP = 1000
FIRST_STEP = 0.01
"""Where the search for a step size begins for chains with starts: from the slope of a narrow posterior Stan's own 1
leads to values at which one solve takes hours."""

ELAPSED = re.compile(r"([\d.]+) seconds \((Warm-up|Sampling)\)")


def run(posterior: Posterior, settings: Settings) -> Run:
    """Build the program of the posterior's name and sample from it, the chains in processes of their own."""
    clock = Clock()
    twin = posterior.twin
    times = bind(twin, posterior.telemetry).times
    data = dict(posterior.stan_data) | {
        "n": times.size,
        "times": times.tolist(),
        "rtol": twin.solver.rtol,
        "atol": twin.solver.atol,
    }
    with clock.phase("build"):
        model = stan.build(stan_program(settings.posterior), data=data, random_seed=settings.seed + 1)
    own: dict[str, Any] = {} if settings.target is None else {"delta": settings.target}
    if settings.starts:
        own["init"] = [_start(settings.starts, chain) for chain in range(settings.chains)]
        own["stepsize"] = FIRST_STEP
    with clock.phase("sampling"):
        fit = model.sample(
            num_chains=settings.chains, num_samples=settings.draws, num_warmup=settings.warmup or NUM_WARMUP, **own
        )
    share = _warmup_share(fit)
    seconds = clock.seconds | {"warmup": share * clock.seconds["sampling"]}
    seconds["sampling"] -= seconds["warmup"]
    # `vector[3] k` comes as k.1, k.2, k.3; the twin's names are k1, k2, k3
    flat = {name.replace(".", ""): name for name in fit.constrained_param_names}
    table = fit.to_frame()
    draws = {
        site.name: table[flat[site.name]].to_numpy().reshape(settings.draws, settings.chains).T for site in twin.sites()
    }
    divergences, steps = table["divergent__"].to_numpy().sum(), table["n_leapfrog__"].to_numpy().mean()
    return Run(draws, int(divergences), seconds, float(steps))


def _start(starts: Mapping[str, np.ndarray], chain: int) -> dict[str, Any]:
    """Where a chain starts, under every name that a program may have for a quantity; Stan takes those it knows.

    `k1, k2, k3` are `vector[3] k` or `vector[3] log_k`, and `R_out` may be `log_R_out`.
    """
    found: dict[str, Any] = {name: float(values[chain]) for name, values in starts.items()}
    numbered = sorted((m[1], int(m[2]), name) for name in starts if (m := re.fullmatch(r"(.*\D)(\d+)", name)))
    for stem, _, name in numbered:
        found.setdefault(stem, []).append(float(starts[name][chain]))
    positive = {name: value for name, value in found.items() if np.all(np.asarray(value) > 0.0)}
    return found | {f"log_{name}": np.log(value).tolist() for name, value in positive.items()}


def _warmup_share(fit: Any) -> float:
    """Share of warm-up in the chains' own times, which Stan writes into their output."""
    found = {"Warm-up": 0.0, "Sampling": 0.0}
    for output in fit.stan_outputs:
        for line in output.splitlines():
            for value in map(str, json.loads(line).get("values", ())):
                if match := ELAPSED.search(value):
                    found[match[2]] += float(match[1])
    total = sum(found.values())
    return found["Warm-up"] / total if total > 0.0 else float(np.nan)
