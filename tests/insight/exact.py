"""Independent draws of a normal posterior, with everything that prior, likelihood and left-out data do to it."""

import numpy as np
import xarray as xr
from twins import decay_telemetry, known_decay

from bayestwin.model.describe import describe, fingerprint

SHAPE, NOISE, RATE = (4, 1000), 0.3, 0.8
PRIOR_MEAN, PRIOR_PRECISION = 5.0, 1.0

TELEMETRY = decay_telemetry()
TIMES = TELEMETRY.table.index.to_numpy(float)
OBSERVED = TELEMETRY.table["level"].to_numpy().copy()
OBSERVED[3] += 1.2  # one that lies far off
FACTOR = np.exp(-RATE * TIMES)
SEEN = FACTOR**2 / NOISE**2
"""What each observation adds to the precision of the level at the start."""


def normal(prior: float = 1.0, keep: np.ndarray | float = 1.0) -> tuple[float, float]:
    """Mean and standard deviation, with the prior to a power and each observation's likelihood to one; shape (n,)."""
    keep = np.broadcast_to(keep, TIMES.shape)
    precision = prior * PRIOR_PRECISION + (keep * SEEN).sum()
    mean = (prior * PRIOR_PRECISION * PRIOR_MEAN + (keep * FACTOR * OBSERVED / NOISE**2).sum()) / precision
    return mean, precision**-0.5


def posterior(seed: int) -> xr.DataTree:
    """As `calibrate` would return it, but of draws that are independent."""
    mean, sd = normal()
    level = mean + sd * np.random.default_rng(seed).standard_normal(SHAPE)
    misfit = (OBSERVED - level[..., None] * FACTOR) / NOISE
    terms = -0.5 * misfit**2 - np.log(NOISE * np.sqrt(2.0 * np.pi))
    dims = ("chain", "draw")
    tree = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset({"level_initial": (dims, level)}, coords={"chain": np.arange(4)}),
            "log_likelihood": xr.Dataset({"level": ((*dims, "time"), terms)}, coords={"time": TIMES}),
            "observed_data": xr.Dataset({"level": ("time", OBSERVED, {"units": "m"})}, coords={"time": TIMES}),
        }
    )
    twin = known_decay()
    tree.attrs = {"twin": twin.name, "twin_sha256": fingerprint(twin), "description": describe(twin), "seed": seed}
    return tree
