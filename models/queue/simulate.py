"""Makes `data/queue.csv`: load with surges, and a service whose true parameters are known.

Run it with `python models/queue/simulate.py` to make the file again, bit for bit.
"""

import pathlib

import numpy as np
import pandas as pd
from twin import twin

import bayestwin as bt

TRUTH = {"capacity": 120.0, "workers": 8.0, "patience": 45.0, "backlog_scale": 0.12, "latency_scale": 0.08}

STEP, ROWS = 5.0, 300  # s
SURGES = {20: 12, 75: 8, 130: 15, 190: 10, 225: 14, 270: 9}
"""Row at which a surge begins → how many rows it lasts."""


def loads(rng: np.random.Generator) -> np.ndarray:
    """Requests a second: a slow swing that jitters, and surges beyond the capacity."""
    rows = np.arange(ROWS)
    load = 80.0 + 25.0 * np.sin(2.0 * np.pi * rows / 170.0) + 4.0 * rng.standard_normal(ROWS)
    for start, length in SURGES.items():
        load[start : start + length] += rng.uniform(40.0, 70.0)
    return load.round(1)


def main() -> None:
    """Simulate and write."""
    rng = np.random.default_rng(20260406)
    table = pd.DataFrame({"load": loads(rng)}, index=pd.Index(STEP * np.arange(ROWS), name="time"))
    service = bt.simulate(twin, TRUTH, bt.read_telemetry(table), seed=1)
    table["backlog"] = service["backlog"].to_series().round(1)
    table["latency"] = service["latency"].to_series().round(1)
    path = pathlib.Path(__file__).parent / "data" / "queue.csv"
    table.to_csv(path)
    print(f"{path.name}: {len(table)} rows, {int((table['load'] > TRUTH['capacity']).sum())} of them overloaded")


if __name__ == "__main__":
    main()
