"""Makes `data/battery.csv`: pulses of current, and the voltage of a cell whose true parameters are known.

Run it with `python models/battery/simulate.py` to make the file again, bit for bit.
"""

import pathlib

import numpy as np
import pandas as pd
from twin import twin

import bayestwin as bt

TRUTH = {
    "capacity": 0.82,
    "R0": 0.074,
    "R1": 0.047,
    "tau1": 33.0,
    "R2": 0.05,
    "tau2": 222.0,
    "soc_initial": 0.93,
    "voltage_scale": 0.003,
}

STEP, ROWS = 10.0, 400  # s


def pulses(rng: np.random.Generator) -> np.ndarray:
    """Current in A: discharge of 2 to 5 min at 0.5 to 1.7 A, short charging, and rest between."""
    current = []
    while len(current) < ROWS:
        current += [float(rng.choice([0.5, 0.85, 1.2, 1.7]))] * int(rng.integers(12, 31))
        current += [0.0] * int(rng.integers(12, 40))
        current += [-0.4] * int(rng.choice([0, 9]))
    return np.array(current[:ROWS])


def main() -> None:
    """Simulate and write."""
    rng = np.random.default_rng(20260401)
    times = pd.Index(STEP * np.arange(ROWS), name="time")
    table = pd.DataFrame({"current": pulses(rng)}, index=times)
    cell = bt.simulate(twin, TRUTH, bt.read_telemetry(table), seed=0)
    table["voltage"] = cell["voltage"].to_series().round(4)
    path = pathlib.Path(__file__).parent / "data" / "battery.csv"
    table.to_csv(path)
    print(f"{path.name}: {len(table)} rows, state of charge down to {float(cell['soc_state'].min()):.2f}")


if __name__ == "__main__":
    main()
