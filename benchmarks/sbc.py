"""Is calibration itself right for models that ship, and how long does it take to know?

Simulation-based calibration of each: seconds by phase, what draws are worth, divergences, and the verdict. The seed is
always the same. `JAX_PLATFORMS=cpu` keeps short chains off a GPU.
"""

# ArviZ, where it is imported before NumPyro, hides one of NumPyro's modules.
import numpyro.distributions  # noqa: F401

# isort: split
import argparse
import os
import pathlib
import time

import numpy as np

import bayestwin as bt
from bayestwin._base.progress import Progress
from bayestwin.assess import failed
from bayestwin.project.model import load_model, load_telemetry

MODELS = pathlib.Path(__file__).parents[1] / "models"
SEED = 0


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--models", nargs="*", default=["lynx_hare", "room"])
    options.add_argument("--num-simulations", type=int, default=500)
    options.add_argument("--seed", type=int, default=SEED)
    asked = options.parse_args()
    for name in asked.models:
        one(name, asked.num_simulations, asked.seed)


def one(name: str, num: int, seed: int) -> None:
    """Check one model, and print what was found."""
    model = load_model(MODELS / name)
    progress, begun, used = Progress(), time.perf_counter(), time.process_time()
    found = bt.sbc(model.twin, load_telemetry(model).calibration, seed=seed, num_simulations=num, progress=progress)
    wall, cpu = time.perf_counter() - begun, time.process_time() - used
    gates = bt.judge_sbc(found)
    rounds = np.bincount(found["rounds"].values)[1:].tolist()
    phases = ", ".join(f"{phase} {seconds:.0f}" for phase, seconds in progress.timings.items())
    print(f"{name}: {found.sizes['simulation']} simulations, {wall:.0f} s ({cpu:.0f} s of CPU, {os.cpu_count()} cores)")
    print(f"  seconds: {phases}")
    print(f"  chains made once, twice, three times: {rounds}; diverging {float(found['diverging'].mean()):.3%}")
    print(f"  {found.attrs['num_draws']} draws are worth {found['ess'].to_series().round().astype(int).to_dict()}")
    print(f"  verdict: {'bands hold' if not failed(gates) else 'bands do not hold'}")
    for gate in gates:
        if not gate.passed:
            print(f"  {gate.severity} {gate.sentence}")


if __name__ == "__main__":
    main()
