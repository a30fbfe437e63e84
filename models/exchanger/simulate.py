"""Makes `data/exchanger.csv`, an exchanger whose true parameters are known, and `data/later.csv`, how March went on.

Run it with `python models/exchanger/simulate.py` to make the files again, bit for bit.
"""

import pathlib

import numpy as np
import pandas as pd
from twin import twin

import bayestwin as bt

TRUTH = {
    "fouling": 0.012,
    "lag": 0.8,
    "cold_flow": 3.2,
    "hot_out_initial": 54.0,
    "cold_out_initial": 41.0,
    "hot_out_scale": 0.25,
    "cold_out_scale": 0.2,
}

BEGIN, END, STEP = pd.Timestamp("2026-03-01"), pd.Timestamp("2026-04-01"), pd.Timedelta("1h")

CHANGES = {pd.Timestamp("2026-03-18 06:00"): 0.0135, pd.Timestamp("2026-03-26"): TRUTH["fouling"]}
"""What `fouling` is from then on, K/kW: sludge comes in, and is flushed out."""


def swing(rng: np.random.Generator, rows: int, hours: float) -> np.ndarray:
    """A standard normal process that forgets where it was within so many hours; shape (rows,)."""
    kept = np.exp(-1.0 / hours)
    pushed = np.sqrt(1.0 - kept**2) * rng.standard_normal(rows)
    path = np.empty(rows)
    path[0] = rng.standard_normal()
    for row in range(1, rows):
        path[row] = kept * path[row - 1] + pushed[row]
    return path


def inputs(rng: np.random.Generator) -> pd.DataFrame:
    """Flow and inlet temperatures: they swing with the plant and with the day."""
    times = pd.date_range(BEGIN, END, freq=STEP, inclusive="left", name="time")
    day = 2.0 * np.pi * ((times - BEGIN) / pd.Timedelta("1D"))
    table = pd.DataFrame(index=times)
    table["flow"] = (2.3 + 0.25 * swing(rng, len(times), 6.0)).clip(1.5, 3.0).round(3)
    table["hot_in"] = (80.0 + 3.0 * swing(rng, len(times), 12.0)).round(2)
    table["cold_in"] = (15.0 + 2.0 * np.sin(day - 2.0) + 1.0 * swing(rng, len(times), 24.0)).round(2)
    return table


def main() -> None:
    """Simulate and write."""
    table = inputs(np.random.default_rng(20260301))
    starts, fouling, ends = [BEGIN, *CHANGES], [TRUTH["fouling"], *CHANGES.values()], {}
    for start, stop, now in zip(starts, [*CHANGES, END], fouling, strict=True):
        part = bt.read_telemetry(table[start:stop])  # with the first row after it, in which the next one starts
        made = bt.simulate(twin, TRUTH | ends | {"fouling": now}, part, seed=starts.index(start))
        ends = {f"{name}_initial": float(made[f"{name}_noise_free"][-1]) for name in twin.observations}
        for name in twin.observations:
            table.loc[start:stop, name] = made[name].to_series().round(2)
    folder, sludge = pathlib.Path(__file__).parent / "data", starts[1]
    for name, part in {"exchanger": table[: sludge - STEP], "later": table[sludge:]}.items():
        part.to_csv(folder / f"{name}.csv")
        print(f"{name}.csv: {len(part)} rows")


if __name__ == "__main__":
    main()
