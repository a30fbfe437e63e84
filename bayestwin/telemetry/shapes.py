"""Public files that are no tables of rows by time, laid out as such."""

import json
import pathlib

import numpy as np
import pandas as pd


def sbibm_lotka_volterra(path: pathlib.Path) -> pd.DataFrame:
    """Ten values of prey, then ten of predators, from 0 to 18.9; one experiment an observation."""
    return _sbibm(path, np.arange(10) * 2.1, ("prey", "predators"))


def sbibm_sir(path: pathlib.Path) -> pd.DataFrame:
    """Ten counts of infected people out of 1,000, from 0 to 153; one experiment an observation."""
    return _sbibm(path, np.arange(10) * 17.0, ("infected",))


def sir(path: pathlib.Path) -> pd.DataFrame:
    """New infections since the time before, and bacteria, over time."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return pd.DataFrame({name: found[name] for name in ("t", "stoi_hat", "B_hat")})


def soil_carbon(path: pathlib.Path) -> pd.DataFrame:
    """Mean of the evolved CO2 and its standard deviation, over time."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return pd.DataFrame({name: found[name] for name in ("ts", "eCO2mean", "eCO2sd")})


def petab_measurements(path: pathlib.Path) -> pd.DataFrame:
    """The columns of a PEtab table of measurements that say what was observed when."""
    columns = ["observableId", "simulationConditionId", "measurement", "time"]
    return pd.read_csv(path, sep="\t", usecols=columns).loc[:, columns]


def _sbibm(path: pathlib.Path, times: np.ndarray, signals: tuple[str, ...]) -> pd.DataFrame:
    rows = pd.read_csv(path).set_index("num_observation").filter(like="data_")
    blocks = []
    for number, row in rows.iterrows():
        values = row.to_numpy(np.float64).reshape(len(signals), times.size)
        blocks.append(
            pd.DataFrame({"experiment": f"obs{number}", "time": times} | dict(zip(signals, values, strict=True)))
        )
    return pd.concat(blocks, ignore_index=True)
