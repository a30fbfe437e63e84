"""Makes `data/network.csv`: flows that come and go, and a link whose true parameters are known.

Run it with `python models/network/simulate.py` to make the file again, bit for bit.
"""

import pathlib

import numpy as np
import pandas as pd
from twin import twin

import bayestwin as bt

TRUTH = {
    "capacity": 1050.0,
    "path": 0.04,
    "loss": 2e-4,
    "memory": 0.5,
    "latency_scale": 0.05,
    "throughput_scale": 0.03,
}

STEP, ROWS, HOLD = 0.25, 320, 16  # s, rows, rows with one number of flows


def main() -> None:
    """Simulate and write."""
    rng = np.random.default_rng(20260407)
    flows = np.repeat(rng.integers(4, 41, ROWS // HOLD), HOLD).astype(float)
    table = pd.DataFrame({"flows": flows}, index=pd.Index(STEP * np.arange(ROWS), name="time"))
    link = bt.simulate(twin, TRUTH, bt.read_telemetry(table), seed=0)
    table["latency"] = link["latency"].to_series().round(1)
    table["throughput"] = link["throughput"].to_series().round(1)
    path = pathlib.Path(__file__).parent / "data" / "network.csv"
    table.to_csv(path)
    print(f"{path.name}: {len(table)} rows, {flows.min():.0f} to {flows.max():.0f} flows")


if __name__ == "__main__":
    main()
