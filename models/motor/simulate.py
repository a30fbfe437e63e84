"""Makes `data/motor.csv`: steps of voltage, and a motor whose true parameters are known.

Run it with `python models/motor/simulate.py` to make the file again, bit for bit.
"""

import pathlib

import numpy as np
import pandas as pd
from twin import twin

import bayestwin as bt

TRUTH = {
    "resistance": 1.15,
    "inductance": 2.4e-3,
    "constant": 0.052,
    "inertia": 1.4e-4,
    "viscous": 8e-5,
    "dry": 0.015,
    "current_scale": 0.08,
    "speed_scale": 0.6,
}

STEP, ROWS, HOLD = 0.004, 320, 16  # s, rows, rows at one voltage


def main() -> None:
    """Simulate and write."""
    rng = np.random.default_rng(20260408)
    voltage = np.repeat(rng.uniform(-9.0, 9.0, ROWS // HOLD).round(1), HOLD)
    table = pd.DataFrame({"voltage": voltage}, index=pd.Index((STEP * np.arange(ROWS)).round(3), name="time"))
    motor = bt.simulate(twin, TRUTH, bt.read_telemetry(table), seed=0)
    table["current"] = motor["current"].to_series().round(3)
    table["speed"] = motor["speed"].to_series().round(2)
    path = pathlib.Path(__file__).parent / "data" / "motor.csv"
    table.to_csv(path)
    print(f"{path.name}: {len(table)} rows, up to {float(abs(motor['speed_state']).max()):.0f} rad/s")


if __name__ == "__main__":
    main()
