"""Makes `data/tanks.csv`: a pump that changes its voltage, and tanks whose true parameters are known.

Run it with `python models/tanks/simulate.py` to make the file again, bit for bit.
"""

import pathlib

import numpy as np
import pandas as pd
from twin import twin

import bayestwin as bt

TRUTH = {
    "outlet_upper": 0.2,
    "outlet_lower": 0.25,
    "pump_gain": 5.0,
    "caught": 0.6,
    "upper_initial": 3.0,
    "lower_initial": 2.5,
    "lower_scale": 0.05,
}

STEP, ROWS, HOLD = 5.0, 400, 12  # s, rows, rows at one voltage


def voltages(rng: np.random.Generator) -> np.ndarray:
    """Voltage of the pump in V, a new level each minute; above 5.6 V the upper tank overflows."""
    return np.repeat(rng.uniform(2.0, 7.5, -(-ROWS // HOLD)), HOLD)[:ROWS].round(2)


def main() -> None:
    """Simulate and write."""
    rng = np.random.default_rng(20260402)
    table = pd.DataFrame({"pump": voltages(rng)}, index=pd.Index(STEP * np.arange(ROWS), name="time"))
    tanks = bt.simulate(twin, TRUTH, bt.read_telemetry(table), seed=0)
    table["lower"] = tanks["lower"].to_series().round(3)
    path = pathlib.Path(__file__).parent / "data" / "tanks.csv"
    table.to_csv(path)
    over = int((tanks["upper_state"] > 10.0).sum())
    print(f"{path.name}: {len(table)} rows, the upper tank overflows in {over}")


if __name__ == "__main__":
    main()
