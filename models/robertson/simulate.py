"""Makes `data/robertson.csv`: a stiff reaction whose true rates are known, sampled evenly in the logarithm of time.

Run it with `python models/robertson/simulate.py` to make the file again, bit for bit.
"""

import pathlib

import numpy as np
import pandas as pd
from twin import twin

import bayestwin as bt

TRUTH = {"k1": 0.04, "k2": 3e7, "k3": 1e4, "A_scale": 0.01, "B_micro_scale": 1.0, "C_scale": 0.01}

ROWS = 120


def main() -> None:
    """Simulate and write; the first row says when the reaction begins, and has no sample."""
    rounded = [float(f"{time:.4g}") for time in np.geomspace(1e-3, 1e5, ROWS)]
    table = pd.DataFrame(index=pd.Index([0.0, *rounded], name="time"))
    vessel = bt.simulate(twin, TRUTH, bt.read_telemetry(table), seed=0)
    digits = {"A": 4, "B_micro": 2, "C": 4}
    for name, number in digits.items():
        table[name] = vessel[name].to_series().round(number).where(table.index > 0.0)
    path = pathlib.Path(__file__).parent / "data" / "robertson.csv"
    table.to_csv(path)
    print(f"{path.name}: {ROWS} samples, from {rounded[0]:g} to {rounded[-1]:g} s")


if __name__ == "__main__":
    main()
