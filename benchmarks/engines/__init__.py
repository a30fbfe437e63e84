"""Engines to compare, all of one shape: a file each, with `run(posterior, settings)` → `Run`."""

import importlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from posteriors import Posterior

NAMES = ("ours", "stan", "numpyro_diffrax", "numpyro_ours", "pymc_nutpie")
ON_GPU = ("ours", "numpyro_diffrax", "numpyro_ours")


class Settings(NamedTuple):
    """What is the same for all engines; warm-up is each engine's own.

    Attributes:
        seed: Determines everything random.
        draws: Draws kept of each chain.
        chains: Number of chains.
        device: `"cpu"` or `"gpu"`.
        posterior: Name of the posterior.
        warmup: Warm-up transitions, to try the benchmark out; None for what each engine recommends.
        target: Acceptance that NUTS aims at, for a reference run; None for what each engine recommends.
        starts: By quantity, where each chain starts, for a reference run; None for each engine's own starts.
    """

    seed: int
    draws: int
    chains: int
    device: str
    posterior: str
    warmup: int | None = None
    target: float | None = None
    starts: Mapping[str, np.ndarray] | None = None


class Run(NamedTuple):
    """What an engine found.

    Attributes:
        draws: By quantity, named as in the twin; shape (chains, draws) each.
        divergences: Divergent transitions among the draws.
        seconds: Wall seconds by phase: `build` (all compiling), `warmup` (whatever precedes the first draw that is
            kept), `sampling`, and phases that only this engine has, which no rate counts.
        gradients: Gradients that a kept draw took on average; NaN where the engine does not say.
    """

    draws: Mapping[str, np.ndarray]
    divergences: int
    seconds: Mapping[str, float]
    gradients: float


def load(name: str) -> Callable[[Posterior, Settings], Run]:
    """The engine of that name.

    Raises:
        ModuleNotFoundError: If its packages are not installed.
    """
    return importlib.import_module(f"engines.{name}").run
