"""Makes `data/dosing.csv`: tablets twice a day, one forgotten, and blood samples of a patient whose truth is known.

Run it with `python models/dosing/simulate.py` to make the file again, bit for bit.
"""

import pathlib

import numpy as np
import pandas as pd
from twin import twin

import bayestwin as bt

TRUTH = {"absorption": 1.57, "clearance": 2.76, "volume": 31.5, "concentration_scale": 0.12}

DAYS = 10
FORGOTTEN = 84.0  # h
SAMPLED = np.array([0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 11.5, 14.0, 18.0, 23.5])
"""Hours after the first dose of a day at which blood is taken."""


def main() -> None:
    """Simulate and write."""
    doses = pd.Series(200.0, index=12.0 * np.arange(2 * DAYS))
    doses = doses.drop(FORGOTTEN)
    doses.iloc[0] = 400.0  # loading dose
    taken = (24.0 * np.arange(DAYS)[:, None] + SAMPLED).ravel()
    table = pd.DataFrame({"dose": doses}, index=pd.Index(np.union1d(doses.index, taken), name="time"))
    patient = bt.simulate(twin, TRUTH, bt.read_telemetry(table), seed=0)
    sampled = patient["concentration"].to_series().round(3)
    table["concentration"] = sampled.where(table.index.isin(taken))
    path = pathlib.Path(__file__).parent / "data" / "dosing.csv"
    table.to_csv(path)
    print(f"{path.name}: {len(doses)} doses, {table['concentration'].count()} samples")


if __name__ == "__main__":
    main()
