"""One engine on one posterior in this process; the result as JSON on the last line of standard output.

`compare.py` starts it; by hand: `python benchmarks/worker.py '{"engine": "ours", "posterior": "room", "seed": 0}'`.
"""

import json
import sys
import traceback
from typing import Any

# ArviZ, where it is imported before NumPyro, hides one of NumPyro's modules.
import numpyro.distributions  # noqa: F401

# isort: split
import arviz as az
import numpy as np

import bayestwin  # noqa: F401 (switches float64 on)
import engines
import posteriors


def measured(run: engines.Run) -> dict[str, Any]:
    """What is kept of a run: worst diagnostics over all quantities, and the moments of each."""
    draws = {name: np.asarray(values, float) for name, values in run.draws.items()}
    return {
        "status": "done",
        "seconds": dict(run.seconds),
        "gradients": run.gradients,
        "divergences": run.divergences,
        "bulk": min(float(az.ess(d, method="bulk")) for d in draws.values()),
        "tail": min(float(az.ess(d, method="tail", prob=(0.05, 0.95))) for d in draws.values()),
        "rhat": max(float(az.rhat(d)) for d in draws.values()),
        "moments": {name: (float(d.mean()), float(az.mcse(d))) for name, d in draws.items()},
    }


def work(asked: dict[str, Any]) -> dict[str, Any]:
    """Run what is asked, and say what became of it."""
    asked = {"draws": 1000, "chains": 4, "device": "cpu"} | asked
    engine = asked.pop("engine")
    settings = engines.Settings(**asked)
    if settings.device == "gpu" and engine not in engines.ON_GPU:
        return {"status": "CPU only"}
    posterior = posteriors.load(settings.posterior)
    try:
        run = engines.load(engine)
    except ModuleNotFoundError as reason:
        return {"status": "not installed", "reason": f"not installed: {reason.name}"}
    try:
        found = measured(run(posterior, settings))
    except Exception as reason:  # whatever a peer raises is a result of the comparison
        traceback.print_exc()
        return {"status": "failed", "reason": f"{type(reason).__name__}: {str(reason).splitlines()[0][:120]}"}
    return found | {"gold": posterior.gold, "source": posterior.source}


if __name__ == "__main__":
    print(json.dumps(work(json.loads(sys.argv[1]))), flush=True)
