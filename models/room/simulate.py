"""Makes `data/room.csv`: 30 days of plausible weather and heating, and a room whose true parameters are known.

Run it with `python models/room/simulate.py` to make the file again, bit for bit.
"""

import pathlib

import numpy as np
import pandas as pd
from twin import twin

import bayestwin as bt

TRUTH = {
    "R_out": 0.015,
    "R_in": 0.003,
    "C_env": 1.2e7,
    "C_in": 1.8e6,
    "envelope_initial": 24.0,
    "indoor_initial": 26.5,
    "indoor_scale": 0.25,
}

STEP_MINUTES, DAYS = 15, 30
GAP = slice("2026-03-09 04:00", "2026-03-09 09:45")


def weather(rng: np.random.Generator, days: np.ndarray) -> np.ndarray:
    """Outdoor temperature in degC: a slow change, a daily cycle, and weather that drifts over about two days."""
    drift = np.zeros(days.size)
    keep = np.exp(-(days[1] - days[0]) / 2.0)
    for i in range(1, days.size):
        drift[i] = keep * drift[i - 1] + np.sqrt(1.0 - keep**2) * 2.5 * rng.standard_normal()
    return 9.0 + 0.08 * days - 4.5 * np.cos(2.0 * np.pi * (days - 2.0 / 24.0)) + drift


def schedule(rng: np.random.Generator, days: np.ndarray) -> np.ndarray:
    """Heater power in W: on in the morning and the evening, now and then at noon, at 1 or 2 kW."""
    hour, day = (days * 24.0) % 24.0, days.astype(int)
    morning = rng.choice([0.0, 1000.0, 2000.0], size=day.max() + 1, p=[0.15, 0.45, 0.4])
    evening = rng.choice([0.0, 1000.0, 2000.0], size=day.max() + 1, p=[0.05, 0.45, 0.5])
    noon = rng.choice([0.0, 2000.0], size=day.max() + 1, p=[0.7, 0.3])
    power = np.where((hour >= 5.5) & (hour < 9.0), morning[day], 0.0)
    power = np.where((hour >= 12.0) & (hour < 13.5), noon[day], power)
    return np.where((hour >= 16.5) & (hour < 22.5), evening[day], power)


def main() -> None:
    """Simulate and write."""
    rng = np.random.default_rng(20260301)
    times = pd.date_range("2026-03-01", periods=DAYS * 24 * 60 // STEP_MINUTES, freq=f"{STEP_MINUTES}min")
    days = np.arange(times.size) * STEP_MINUTES / 1440.0
    table = pd.DataFrame(
        {"outdoor": weather(rng, days).round(2), "heating": schedule(rng, days)}, index=times.rename("time")
    )
    room = bt.simulate(twin, TRUTH, bt.read_telemetry(table), seed=0)
    table["indoor"] = room["indoor"].to_series().round(3)
    table.loc[GAP, "indoor"] = np.nan
    path = pathlib.Path(__file__).parent / "data" / "room.csv"
    table.to_csv(path, date_format="%Y-%m-%dT%H:%M:%SZ")
    missing = int(table["indoor"].isna().sum())
    print(f"{path.name}: {len(table)} rows, {missing} without indoor temperature")


if __name__ == "__main__":
    main()
