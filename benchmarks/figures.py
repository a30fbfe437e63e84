"""The pictures of RESULTS.md: small, and readable in black and white."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from rows import Row

MARKERS = {"ours": "o", "stan": "s", "numpyro_diffrax": "^", "numpyro_ours": "v", "pymc_nutpie": "D"}
STYLE: Any = {"svg.hashsalt": "bayestwin", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def draw_rates(rows: Sequence[Row], path: pathlib.Path) -> None:
    """Effective draws a second by posterior: filled without build, hollow with it."""
    names = list(dict.fromkeys(row.posterior for row in rows))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 0.8 + 0.55 * len(names)), layout="constrained")
        axes = figure.subplots()
        for number, (engine, marker) in enumerate(MARKERS.items()):
            mine = [row for row in rows if row.engine == engine and row.rate]
            if not mine:
                continue
            at = [len(names) - 1 - names.index(row.posterior) - 0.12 * (number - 1.5) for row in mine]
            axes.plot([row.rate or 0.0 for row in mine], at, marker, color=f"C{number}", label=engine)
            hollow = [row.rate_with_build or 0.0 for row in mine]
            axes.plot(hollow, at, marker, color=f"C{number}", fillstyle="none")
        axes.set(xscale="log", xlabel="effective draws a second (hollow: build included)")
        axes.set_yticks(range(len(names)), names[::-1])
        axes.grid(axis="x", alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
        figure.savefig(path, metadata={"Date": None})


def draw_curves(curves: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]], path: pathlib.Path) -> None:
    """Seconds a gradient against size, both logarithmic.

    Args:
        curves: By axis, then by device: pairs of size and seconds.
        path: Where the picture goes.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.0, 2.4), layout="constrained")
        for axes, (name, by_device) in zip(np.ravel(figure.subplots(1, len(curves))), curves.items(), strict=True):
            for device, points in by_device.items():
                if points:
                    sizes, seconds = zip(*points, strict=True)
                    axes.plot(sizes, 1e3 * np.asarray(seconds), "o-", markersize=4, label=device)
            axes.set(xscale="log", yscale="log", xlabel=name)
            axes.grid(alpha=0.3)
        figure.axes[0].set_ylabel("ms a gradient")
        if any(len(by_device) > 1 for by_device in curves.values()):
            figure.axes[0].legend(frameon=False)
        figure.savefig(path, metadata={"Date": None})
