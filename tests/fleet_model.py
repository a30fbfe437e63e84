"""The model folder of a fleet of leaking cells, which is quickly calibrated, as a long table, files and Parquet."""

import pathlib
from collections.abc import Mapping

import numpy as np
import pandas as pd

TWIN = '''"""A leaking cell; the rate of the leak comes from a population, the capacity from the table of attributes."""

import numpyro.distributions as dist

import bayestwin as bt

twin = bt.Twin(
    name="cell",
    vector_field=lambda t, x, p, u: {"charge": -p.rate * x.charge},
    states={"charge": bt.State(bt.First("capacity"), unit="A*h", doc="what is left")},
    parameters={"rate": bt.Parameter(dist.LogNormal(-1.0, 0.5), unit="1/d", pooled=dist.HalfNormal(0.5))},
    observations={"charge": bt.Observation(bt.Gaussian(0.05), unit="A*h")},
    time_unit="d",
)
'''

JOB = """
[telemetry]
file = "{file}"
time = "day"
units = {{ capacity = "A*h", charge = "A*h" }}

[fleet]
by = "asset"
attributes = "data/assets.csv"

[split]
hold_out_from = 6.0

[calibrate]
num_warmup = 100
num_samples = 100
num_chains = 2
predictive_draws = 60

[predict]
draws = 60

[gates]
max_rhat = 1.2
min_ess_per_chain = 5
"""

RATES = {"001": 0.30, "2": 0.33, "10": 0.27, "b 4": 0.36, "<i>5": 0.31}
CAPACITIES = {"001": 5.0, "2": 4.0, "10": 6.0, "b 4": 5.5, "<i>5": 4.5}


def records(rates: Mapping[str, float] = RATES, num: int = 21) -> dict[str, pd.DataFrame]:
    """Ten days of each cell."""
    rng = np.random.default_rng(5)
    days = np.linspace(0.0, 10.0, num)
    return {
        name: pd.DataFrame(
            {"day": days, "charge": np.round(CAPACITIES[name] * np.exp(-rate * days) + 0.05 * rng.normal(size=num), 4)}
        )
        for name, rate in rates.items()
    }


def long(parts: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One table of all."""
    return pd.concat([one.assign(asset=name) for name, one in parts.items()], ignore_index=True)


def write_fleet(folder: pathlib.Path, layout: str = "table", rates: Mapping[str, float] = RATES) -> pathlib.Path:
    """Write the model folder, with telemetry as a `table`, as `files` or as `parquet`."""
    data = folder / "data"
    data.mkdir(parents=True)
    parts = records(rates)
    if layout == "table":
        long(parts).to_csv(data / "cells.csv", index=False)
    elif layout == "files":
        (data / "cells").mkdir()
        for name, one in parts.items():
            one.to_csv(data / "cells" / f"{name}.csv", index=False)
    else:
        long(parts).to_parquet(data / "cells", partition_cols=["asset"])
    table = pd.DataFrame({"asset": list(rates), "capacity": [CAPACITIES[name] for name in rates]})
    table.to_csv(data / "assets.csv", index=False)
    (folder / "twin.py").write_text(TWIN, encoding="utf-8")
    file = "data/cells.csv" if layout == "table" else "data/cells"
    (folder / "job.toml").write_text(JOB.format(file=file), encoding="utf-8")
    (folder / "card.md").write_text("# cells\n\nCells that leak.\n", encoding="utf-8")
    return folder
