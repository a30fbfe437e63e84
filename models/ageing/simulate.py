"""Makes `data/ageing.csv`: four years of cycles and seasons, and a cell whose true parameters are known.

Run it with `python models/ageing/simulate.py` to make the file again, bit for bit.
"""

import pathlib

import numpy as np
import pandas as pd
from twin import twin

import bayestwin as bt

TRUTH = {"new": 2.28, "fade": 0.09, "exponent": 0.55, "activation": 57.0, "capacity_scale": 0.008}

WEEKS = 208


def temperatures(rng: np.random.Generator, years: np.ndarray) -> np.ndarray:
    """Temperature of the cell in degC: seasons, and weeks that are warmer or colder than they should be."""
    return 22.0 - 11.0 * np.cos(2.0 * np.pi * (years - 0.05)) + 2.5 * rng.standard_normal(years.size)


def usage(rng: np.random.Generator, years: np.ndarray) -> np.ndarray:
    """Full equivalent cycles a day: 1 to 3, and a few weeks in which the cell rests."""
    busy = rng.uniform(1.0, 3.0, years.size)
    return np.where(rng.uniform(size=years.size) < 0.1, 0.1, busy)


def main() -> None:
    """Simulate and write."""
    rng = np.random.default_rng(20260405)
    times = pd.date_range("2022-01-03", periods=WEEKS, freq="7D", name="time")
    years = np.arange(WEEKS) * 7.0 / 365.25
    table = pd.DataFrame(
        {"cycles": usage(rng, years).round(2), "temperature": temperatures(rng, years).round(1)}, times
    )
    cell = bt.simulate(twin, TRUTH, bt.read_telemetry(table), seed=0)
    table["capacity"] = cell["capacity"].to_series().round(4)
    path = pathlib.Path(__file__).parent / "data" / "ageing.csv"
    table.to_csv(path, date_format="%Y-%m-%d")
    print(f"{path.name}: {len(table)} weeks, {float(table['cycles'].sum() * 7.0):.0f} cycles")


if __name__ == "__main__":
    main()
