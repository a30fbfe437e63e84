"""`bt.calibrate` with its defaults, and the posterior saved, as a user runs it."""

import pathlib
import tempfile
import time
from typing import Any

import numpy as np

import bayestwin as bt
from bayestwin._base.progress import Progress
from engines import Run, Settings
from posteriors import Posterior


def run(posterior: Posterior, settings: Settings) -> Run:
    """Calibrate and save.

    Predicting from the prior and the posterior, and saving, are part of what `calibrate` is for but not of sampling:
    they are listed and not counted. A version that does not time compiling apart has it within `warmup`.
    """
    progress = Progress(show=False)
    own: dict[str, Any] = {} if settings.warmup is None else {"num_warmup": settings.warmup}
    tree = bt.calibrate(
        posterior.twin,
        posterior.telemetry,
        seed=settings.seed,
        num_samples=settings.draws,
        num_chains=settings.chains,
        device=settings.device,
        progress=progress,
        **own,
    )
    seconds = dict(progress.timings)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        bt.save(tree, pathlib.Path(folder) / "posterior.nc")
        seconds["save"] = time.perf_counter() - begun
    seconds["build"] = seconds.pop("compile", 0.0)
    seconds["warmup"] = seconds.pop("ladder", 0.0) + seconds.get("warmup", 0.0)
    seconds["sampling"] = seconds.pop("draws", 0.0)
    stats = tree["sample_stats"]
    return Run(
        {str(name): np.asarray(values) for name, values in tree["posterior"].data_vars.items()},
        int(np.asarray(stats["diverging"]).sum()),
        seconds,
        float(np.asarray(stats["n_steps"]).mean()) if "n_steps" in stats else float("nan"),
    )
