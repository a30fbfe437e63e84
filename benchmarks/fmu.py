"""Calibrating FMUs: 2,000 solves in one process, and what an effective draw of the van der Pol oscillator costs.

`python benchmarks/fmu.py FMI2 FMI3` takes `VanDerPol.fmu` of the reference FMUs from both folders, where they were
built for FMI 2 and 3. The damping and the scale of the noise are inferred from 41 rows over 20 s; a prior of the
damping that is wide has 95 % of its values between 6e-5 and 2e4, where many of them cannot be solved.
"""

import argparse
import pathlib
import time

import numpy as np
import numpyro.distributions as dist
import pandas as pd

import bayestwin as bt
from results_page import circumstances, markdown, write_section

TIMES = np.linspace(0.0, 20.0, 41)
PRIORS = {"usual": dist.LogNormal(0.0, 1.0), "wide": dist.LogNormal(0.0, 5.0)}
SOLVES, SEEDS = 2000, (0, 1, 2)


def twin_of(path: pathlib.Path, prior: str) -> bt.Twin:
    fmu = bt.Fmu(path, {"mu": bt.Parameter(PRIORS[prior])}, outputs=["x0"])
    return fmu.twin({"x0": bt.Observation(bt.Gaussian(scale=dist.HalfNormal(0.5)))})


def resident(pid: int) -> float:
    """MiB that a process holds."""
    pages = int(pathlib.Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 2**20


def solved_again(path: pathlib.Path) -> dict[str, object]:
    """Time and memory of many solves in one process."""
    box = twin_of(path, "usual").black_box
    grid = TIMES, np.zeros((len(TIMES) - 1, 1, 0)), np.arange(len(TIMES))
    box.solve(np.array([0.1]), *grid)
    worker = box._process._worker.pid
    before, begun = resident(worker), time.perf_counter()
    for number in range(SOLVES - 1):
        box.solve(np.array([0.5 + 1e-3 * number]), *grid)
    seconds = time.perf_counter() - begun
    told = box.tally
    growth = resident(worker) - before
    return {"solves": told["solves"], "processes": told["processes"], "failed": told["failed"],
            "ms a solve": f"{1e3 * seconds / (SOLVES - 1):.2f}", "MiB more": f"{growth:.1f}"}  # fmt: skip


def calibrated(path: pathlib.Path, prior: str, seed: int) -> dict[str, object]:
    """What one calibration took, and whether its gates pass."""
    twin = twin_of(path, prior)
    empty = bt.read_telemetry(pd.DataFrame({"x0": 0.0 * TIMES}, index=pd.Index(TIMES, name="time")))
    made = bt.simulate(twin, {"mu": 1.3, "x0_scale": 0.1}, empty, seed=0)
    table = pd.DataFrame({"x0": made["x0"].to_numpy()}, index=pd.Index(TIMES, name="time"))
    begun = time.perf_counter()
    found = bt.calibrate(twin, bt.read_telemetry(table), seed=seed)
    told, draws = found.attrs["black_box"], found["posterior/mu"]
    failing = [gate.name for gate in bt.diagnose(found) if not gate.passed]
    return {
        "prior": prior, "seed": seed, "solves": told["solves"], "failed": told["failed"],
        "for each effective draw": f"{told['solves_per_effective_draw']:.1f}",
        "mu": f"{float(draws.mean()):.4f} ± {float(draws.std()):.4f}",
        "s": f"{time.perf_counter() - begun:.0f}", "gates that fail": ", ".join(failing) or "none",
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs=2, type=pathlib.Path)
    parser.add_argument("--write", action="store_true", help="keep the tables in RESULTS.md")
    told = parser.parse_args()
    paths = {f"FMI {n}": folder / "VanDerPol.fmu" for n, folder in zip((2, 3), told.folders, strict=True)}
    again = [{"FMU": name} | solved_again(path) for name, path in paths.items()]
    rows = [
        {"FMU": name} | calibrated(path, prior, seed)
        for name, path in paths.items()
        for prior in PRIORS
        for seed in (SEEDS if name == "FMI 2" else SEEDS[:1])
    ]
    tables = [markdown([*one[0]], [[str(cell) for cell in row.values()] for row in one]) for one in (again, rows)]
    print("\n\n".join(tables))
    if told.write:
        write_section(TITLE, "\n\n".join([circumstances("cpu"), *tables]))


TITLE = "FMUs"


if __name__ == "__main__":
    main()
