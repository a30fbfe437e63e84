"""Makes `data/epidemic.csv`: daily cases of an epidemic whose true parameters are known.

Run it with `python models/epidemic/simulate.py` to make the file again, bit for bit.
"""

import pathlib

import numpy as np
import pandas as pd
from twin import twin

import bayestwin as bt

TRUTH = {"R0": 1.8, "infectious_days": 5.0, "reported": 0.3, "infectious_initial": 40.0}

DAYS = 150
CONTACTS = {0: 1.0, 4: 0.6, 10: 0.85, 16: 1.0}
"""From this week on → the share of usual contacts around which each week's varies."""


def contacts(rng: np.random.Generator) -> np.ndarray:
    """Share of usual contacts by week, told for each of its days."""
    weeks = np.arange(DAYS // 7 + 1)
    usual = np.array([CONTACTS[max(start for start in CONTACTS if start <= week)] for week in weeks])
    return np.repeat((usual + 0.04 * rng.standard_normal(weeks.size)).round(2), 7)[: DAYS + 1]


def main() -> None:
    """Simulate and write; a row holds what was reported on the day that ends then."""
    rng = np.random.default_rng(20260404)
    days = pd.date_range("2026-01-05", periods=DAYS + 1, freq="D", name="time")
    table = pd.DataFrame({"contacts": contacts(rng)}, index=days)
    town = bt.simulate(twin, TRUTH, bt.read_telemetry(table), seed=0)
    table["cases"] = town["cases"].to_series().astype(int).where(np.arange(DAYS + 1) > 0).astype("Int64")
    path = pathlib.Path(__file__).parent / "data" / "epidemic.csv"
    table.to_csv(path, date_format="%Y-%m-%dT%H:%M:%SZ")
    print(f"{path.name}: {DAYS} days, {table['cases'].sum()} cases")


if __name__ == "__main__":
    main()
