"""Reference moments of posteriors, by long runs of another engine; each is written beside its posterior, as JSON.

Chains start around the modes that our ladder finds; solver, metric, warm-up and draws are the other engine's.
`--help` lists the options.
"""

# ArviZ, where it is imported before NumPyro, hides one of NumPyro's modules.
import numpyro.distributions  # noqa: F401

# isort: split
import argparse
import datetime
import importlib.metadata
import json
import sys
import time
from typing import Any

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np

import bayestwin  # noqa: F401 (switches float64 on)
import engines
import posteriors
from bayestwin._base.compilation import keep_compiled
from bayestwin._base.progress import Progress
from bayestwin.density.bind import bind
from bayestwin.density.density import build_density
from bayestwin.inference.starts import find_starts
from rows import MOST_RHAT

PACKAGES = {
    "stan": ("pystan",),
    "numpyro_diffrax": ("numpyro", "diffrax", "jax"),
    "numpyro_ours": ("numpyro", "bayestwin", "jax"),
}
CHAINS = 4


def starts_of(posterior: posteriors.Posterior, seed: int) -> dict[str, np.ndarray]:
    """By quantity, where each chain starts: over-dispersed around the modes; shape (chains,)."""
    density = build_density(posterior.twin, bind(posterior.twin, posterior.telemetry))
    found = find_starts(density, CHAINS, seed, Progress(show=False))
    return {name: np.asarray(values) for name, values in jax.vmap(density.constrain)(jnp.asarray(found.z)).items()}


def moments(draws: np.ndarray) -> dict[str, float]:
    """What is kept of one quantity's draws, shape (chains, draws)."""
    found = {
        "mean": draws.mean(),
        "mcse": az.mcse(draws),
        "sd": draws.std(ddof=1),
        "ess_bulk": az.ess(draws, method="bulk"),
        "ess_tail": az.ess(draws, method="tail", prob=(0.05, 0.95)),
        "rhat": az.rhat(draws),
    }
    return {name: float(f"{float(value):.8g}") for name, value in found.items()}


def refusal(reference: dict[str, Any]) -> str:
    """Why a run is no reference; empty where it is one."""
    worst = max(found["rhat"] for found in reference["moments"].values())
    if not worst <= MOST_RHAT:
        return f"its own R-hat is {worst:.4f}, above {MOST_RHAT:g}: draw longer, or warm up longer"
    return ""


def refer(name: str, asked: argparse.Namespace) -> dict[str, Any]:
    """A long run of the engine on one posterior, as it is stored."""
    posterior = posteriors.load(name)
    solver = posterior.twin.solver
    starts = starts_of(posterior, asked.seed)
    settings = engines.Settings(
        asked.seed, asked.draws, CHAINS, "cpu", name, warmup=asked.warmup, target=asked.target, starts=starts
    )
    begun = time.perf_counter()
    run = engines.load(asked.engine)(posterior, settings)
    return {
        "engine": asked.engine,
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES[asked.engine]},
        "date": str(datetime.date.today()),
        "settings": {
            "chains": CHAINS,
            "draws": asked.draws,
            "warmup": asked.warmup,
            "target_acceptance": asked.target,
            "seed": asked.seed,
            "rtol": solver.rtol,
            "atol": solver.atol,
            "starts": "over-dispersed around the modes found by bayestwin's ladder",
        },
        "seconds": round(time.perf_counter() - begun),
        "gradients_a_draw": round(run.gradients, 1),
        "divergences": run.divergences,
        "of": posteriors.identity(posterior),
        "moments": {site.name: moments(np.asarray(run.draws[site.name])) for site in posterior.twin.sites()},
    }


def options() -> argparse.Namespace:
    """What was asked on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posteriors", nargs="+", choices=posteriors.NAMES, default=posteriors.NAMES)
    parser.add_argument("--engine", choices=tuple(PACKAGES), default="stan")
    parser.add_argument("--draws", type=int, default=2000, help="draws kept of each of 4 chains")
    parser.add_argument("--warmup", type=int, default=1000)
    parser.add_argument("--target", type=float, default=0.95, help="acceptance that NUTS aims at")
    parser.add_argument("--seed", type=int, default=20_000, help="none of those that are compared with the reference")
    parser.add_argument("--dry", action="store_true", help="print, and store nothing")
    return parser.parse_args()


def main() -> None:
    """Run, check and store; exit 1 where a run is no reference."""
    asked, refused = options(), False
    keep_compiled()
    for name in asked.posteriors:
        reference = refer(name, asked)
        print(json.dumps(reference, indent=1))
        reason = refusal(reference)
        refused |= bool(reason)
        if reason:
            print(f"{name}: not stored, for {reason}", file=sys.stderr)
        elif not asked.dry:
            posteriors.reference_file(name).write_text(json.dumps(reference, indent=1) + "\n")
    sys.exit(int(refused))


if __name__ == "__main__":
    main()
