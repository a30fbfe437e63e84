"""NumPyro's NUTS on our log density, by `bt.numpyro_model`: what our sampler and its starts are worth by themselves."""

import bayestwin as bt
from engines import Run, Settings
from engines.numpyro_nuts import sample
from posteriors import Posterior


def run(posterior: Posterior, settings: Settings) -> Run:
    """Warm up and sample."""
    return sample(bt.numpyro_model(posterior.twin, posterior.telemetry), posterior, settings)
