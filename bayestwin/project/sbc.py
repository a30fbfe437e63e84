"""The verb `sbc`: a run with the ranks of a simulation-based calibration, its verdict and a page about it."""

import pathlib
from typing import NamedTuple

import xarray as xr

from bayestwin._base.progress import Progress
from bayestwin.assess import Gate, failed
from bayestwin.insight.sbc import judge_sbc, sbc
from bayestwin.project.calibrate import inputs_of
from bayestwin.project.model import Model, load_telemetry
from bayestwin.project.run import Carried, VerbOutcome, carry_out
from bayestwin.results.store import save, write_text_durably

RANKS, PAGE = "sbc.nc", "sbc.html"


class Ranked(NamedTuple):
    """Ranks, and the verdict on them."""

    ranks: xr.Dataset
    gates: tuple[Gate, ...]


def check_calibration(
    model: Model,
    results: pathlib.Path,
    *,
    device: str | None = None,
    progress: Progress | None = None,
) -> Carried[Ranked]:
    """Run a model's simulation-based calibration: simulate, draw, rank, judge, and write it all down.

    Args:
        model: The model folder; what its job calibrates on gives times and inputs.
        results: Where runs are filed.
        device: `"cpu"`, `"gpu"`, or None for JAX's default.
        progress: Where progress is shown.
    """
    split, asked = load_telemetry(model), model.job.sbc

    def work(run: pathlib.Path, shown: Progress) -> VerbOutcome[Ranked]:
        found = sbc(model.twin, split.calibration, **asked.model_dump(), device=device, progress=shown)
        with shown.timed("report"):
            from bayestwin.report.insight import render_ranks  # half a second, which only a page is worth

            gates = judge_sbc(found)
            save(xr.DataTree(found), run / RANKS)
            write_text_durably(run / PAGE, render_ranks(found, gates))
        status = "interrupted" if found.attrs["interrupted"] else "failed gates" if failed(gates) else "finished"
        figures = {"gates": [gate._asdict() for gate in gates]}
        return VerbOutcome(Ranked(found, gates), status, figures)

    return carry_out(model, results, "sbc", inputs_of(model, split), work, progress)
