"""Draws the pictures of the examples page from finished runs: `python tools/make_gallery.py RESULTS`.

One PNG a model folder that has a run in RESULTS, in `docs/pictures/`: the newest run's bands against the observations.
"""

import pathlib
import sys
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.ticker import MaxNLocator

import bayestwin as bt
from bayestwin.project.model import load_model, load_telemetry

ROOT = pathlib.Path(__file__).parent.parent
COLOUR = "#00796b"
MOST_POINTS = 700


def draw(run: pathlib.Path, picture: pathlib.Path) -> None:
    """One picture of a run: a panel for each observation, what was held out on white, what was calibrated shaded."""
    model = load_model(ROOT / "models" / run.parent.name)
    split = load_telemetry(model)
    posterior = bt.load(run / "posterior.nc")
    parts = [(posterior["posterior_predictive"].to_dataset(), split.calibration.table)]
    if split.held_out is not None:
        forecast = bt.load(run / "predictions.nc")
        parts.append((forecast["predictions"].to_dataset(), split.held_out.table))
    names = list(model.twin.observations)
    figure, panels = plt.subplots(len(names), 1, figsize=(8.0, 1.1 + 1.7 * len(names)), sharex=True, squeeze=False)
    for axes, name in zip(panels[:, 0], names, strict=True):
        for predictive, table in parts:
            _bands(axes, predictive[name])
            axes.plot(table.index, table[name], ".", color="black", markersize=2.5, zorder=3)
        if split.held_out is not None:
            begin, end = split.calibration.table.index[[0, -1]]
            axes.axvspan(begin, end, color="#eceff1", zorder=0, linewidth=0)
        axes.set_ylabel(f"{name} / {model.twin.observations[name].unit}")
        axes.margins(x=0.01)
    last = panels[-1, 0]
    if isinstance(parts[0][1].index, pd.DatetimeIndex):
        locator = AutoDateLocator()
        last.xaxis.set_major_locator(locator)
        last.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    else:
        last.xaxis.set_major_locator(MaxNLocator(integer=True))
        last.set_xlabel(f"time / {model.twin.time_unit}")
    figure.tight_layout()
    figure.savefig(picture, dpi=90, pil_kwargs={"optimize": True})
    plt.close(figure)


def _bands(axes: Axes, values: xr.DataArray) -> None:
    """Bands that hold 50 % and 90 % of the draws, and their median."""
    thinned = values.isel(time=slice(None, None, max(1, values.sizes["time"] // MOST_POINTS)))
    time: Any = thinned["time"].to_numpy()
    levels = np.quantile(thinned.to_numpy(), [0.05, 0.25, 0.5, 0.75, 0.95], axis=(0, 1))
    axes.fill_between(time, levels[0], levels[4], color=COLOUR, alpha=0.22, linewidth=0)
    axes.fill_between(time, levels[1], levels[3], color=COLOUR, alpha=0.4, linewidth=0)
    axes.plot(time, levels[2], color=COLOUR, linewidth=1.0)


def main(results: pathlib.Path) -> None:
    """Draw what there are finished runs of."""
    mpl.use("Agg")
    mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9.0})
    runs = {path.parent.parent.name: path.parent for path in sorted(results.glob("*/*/posterior.nc"))}
    if not runs:
        sys.exit(f"error: {results} holds no finished run.")
    (ROOT / "docs/pictures").mkdir(exist_ok=True)
    for name, run in runs.items():
        draw(run, ROOT / f"docs/pictures/{name}.png")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "results"))
