"""What does a second record cost? `python benchmarks/again.py` measures CPU seconds and compiled programs.

Each row runs in a process of its own, on one CPU's worth of work at a time: a first calibration without and with the
user's cache of compiled code; further records of the same length and other numbers in the same process; a backtest; all
files of a batch; and experiments together. `--against FOLDER` measures another version beside this one, from a clone of
its own, and `--write` puts the table into RESULTS.md.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from results_page import circumstances, markdown, number, write_section

ROOT = pathlib.Path(__file__).parents[1]

BEGINNING = """
import json, pathlib, resource, shutil, subprocess, tempfile, time
import jax
from jax import monitoring
compiled = []
def heard(event, seconds, **words):
    if event == "/jax/core/compile/backend_compile_duration":
        compiled.append(words.get("fun_name"))
monitoring.register_event_duration_secs_listener(heard)
import numpy as np
import pandas as pd
import bayestwin as bt
import importlib.util, sys
jax.config.update("jax_enable_x64", True)
MODELS = pathlib.Path(bt.__file__).parents[1] / "models"
def twin_of(name):
    spec = importlib.util.spec_from_file_location(name, MODELS / name / "twin.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.twin
RECORDS = {
    "lynx_hare": ("hudson_bay.csv", {"time": "year", "units": {"hare": "thousand", "lynx": "thousand"}}),
    "room": ("room.csv", {"units": {"outdoor": "degC", "heating": "W", "indoor": "degC"}}),
}
def record(name, seed):
    file, settings = RECORDS[name]
    telemetry = bt.read_telemetry(MODELS / name / "data" / file, **settings)
    table, rng = telemetry.table.copy(), np.random.default_rng(seed)
    for column in twin_of(name).observations:
        table[column] *= np.exp(0.01 * rng.normal(size=len(table)))
    return telemetry.with_table(table)
def spent():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)
def measured(work):
    before, begun = len(compiled), spent()
    work()
    return {"seconds": spent() - begun, "programs": len(compiled) - before}
def batch_of(num):
    folder = pathlib.Path(tempfile.mkdtemp())
    shutil.copytree(MODELS / "lynx_hare", folder / "lynx_hare")
    own = pd.read_csv(MODELS / "lynx_hare" / "data" / "hudson_bay.csv", comment="#")
    for number in range(num):
        rng = np.random.default_rng(number)
        own.assign(hare=own.hare * np.exp(0.01 * rng.normal(size=len(own)))).to_csv(folder / f"{number}.csv")
    begin = [sys.executable, "-c", "from bayestwin.cli import app; app()"]
    program = [*begin, "batch", folder / "lynx_hare", "--telemetry", f"{folder}/*.csv"]
    done = subprocess.run([*program, "--workers", "1", "--results", folder / "results"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    shutil.rmtree(folder)
found = []
"""

MEASURES = {
    "first record, lynx_hare": """
found = [measured(lambda: bt.calibrate(twin_of("lynx_hare"), record("lynx_hare", 0), seed=0))]
""",
    "first record, room": """
found = [measured(lambda: bt.calibrate(twin_of("room"), record("room", 0), seed=0))]
""",
    "second record, lynx_hare": """
for seed in range(2):
    found.append(measured(lambda: bt.calibrate(twin_of("lynx_hare"), record("lynx_hare", seed), seed=seed)))
found = found[-1:]
""",
    "tenth record, lynx_hare": """
for seed in range(10):
    found.append(measured(lambda: bt.calibrate(twin_of("lynx_hare"), record("lynx_hare", seed), seed=seed)))
found = found[-1:]
""",
    "backtest of 10 origins, lynx_hare": """
found = [measured(lambda: bt.backtest(twin_of("lynx_hare"), record("lynx_hare", 0), origins=10, horizon=2.0, seed=0))]
""",
    "batch of 50 files, lynx_hare": """
found = [measured(lambda: batch_of(50))]
""",
    "8 experiments, lynx_hare": """
several = {str(seed): record("lynx_hare", seed) for seed in range(8)}
found = [measured(lambda: bt.calibrate(twin_of("lynx_hare"), several, seed=0, num_samples=200))]
""",
}
for _name in ("tanks", "armadillo"):
    MEASURES[f"first record, {_name}"] = f"""
from bayestwin.project.model import load_model, load_telemetry
model = load_model(MODELS / "{_name}")
telemetry = load_telemetry(model).calibration
found = [measured(lambda: bt.calibrate(model.twin, telemetry, seed=0))]
"""

PADDING = """
from bayestwin.density.bind import bind
from bayestwin.density.density import build_density
rows = []
for name, num in (("lynx_hare", 13), ("room", 121), ("room", 481)):
    telemetry = record(name, 0)
    table = telemetry.table.iloc[:num]
    whole = build_density(twin_of(name), bind(twin_of(name), telemetry.with_table(table)))
    z = whole.draw_prior(jax.random.split(jax.random.key(0), 16))[1]
    step = jax.jit(lambda density, z: jax.vmap(jax.value_and_grad(density))(z))
    times = {"whole": [], "filled": []}
    for turn in range(41):
        for key, density in (("whole", whole), ("filled", whole.filled)):
            begun = time.perf_counter()
            jax.block_until_ready(step(density, z))
            times[key].append(time.perf_counter() - begun)
    one, other = (float(np.median(times[key][1:])) for key in ("whole", "filled"))
    rows.append([name, len(whole.grid.edges), len(whole.filled.grid.edges), one * 1e3, other * 1e3, other / one])
found = [rows]
"""
"""Gradients of densities as they are and with room, side by side, at lengths that leave the most room."""

WARM = ("first record, lynx_hare", "first record, room")


def run(program: str, root: pathlib.Path, cache: str | None) -> Any:
    """What a program finds in a process of its own; `cache` is the user's folder of compiled code."""
    folder = {"BAYESTWIN_CACHE_DIR": cache} if cache else {"BAYESTWIN_COMPILE_CACHE": "off"}
    done = subprocess.run(
        [sys.executable, "-c", BEGINNING + program + "\nprint(json.dumps(found[0]))"],
        cwd=root,  # what runs is what lies there
        env=os.environ | {"PYTHONPATH": str(root)} | folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def measure(root: pathlib.Path, repeats: int, only: str) -> dict[str, dict[str, float]]:
    """By what is measured, the median seconds of CPU and the programs that were compiled."""
    rows: dict[str, list[dict[str, float]]] = {}
    for _ in range(repeats):
        for name, program in MEASURES.items():
            if only not in name:
                continue
            rows.setdefault(name, []).append(run(program, root, None))
            if name in WARM:
                with tempfile.TemporaryDirectory() as cache:
                    run(program, root, cache)
                    rows.setdefault(f"{name}, compiled before", []).append(run(program, root, cache))
    return {
        name: {key: statistics.median(one[key] for one in found) for key in found[0]} for name, found in rows.items()
    }


def main() -> None:
    """Measure, and print a table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--against", type=pathlib.Path, help="another clone, measured beside this one")
    options.add_argument("--repeats", type=int, default=1)
    options.add_argument("--only", default="", help="measures whose name has this in it")
    options.add_argument("--write", action="store_true")
    asked = options.parse_args()
    here = measure(ROOT, asked.repeats, asked.only)
    there = measure(asked.against.resolve(), asked.repeats, asked.only) if asked.against else {}
    header = ["", "CPU s", "programs", *(["before: CPU s", "programs", "ratio"] if there else [])]
    rows = []
    for name, one in here.items():
        row = [name, number(one["seconds"]), f"{one['programs']:.0f}"]
        if other := there.get(name):
            row += [number(other["seconds"]), f"{other['programs']:.0f}", number(one["seconds"] / other["seconds"])]
        rows.append(row)
    table = markdown(header, rows)
    header = ["", "stops", "with room", "gradients, ms", "with room, ms", "ratio"]
    padding = [[name, f"{a}", f"{b}", *map(number, times)] for name, a, b, *times in run(PADDING, ROOT, None)]
    table += "\n\nWhat room for more times costs: 16 gradients at once, medians of 40.\n\n" + markdown(header, padding)
    print(table)
    if asked.write:
        words = "CPU seconds without imports, and programs that were compiled or read from the user's cache."
        write_section("A second record", f"{circumstances('cpu')}\n\n{words}\n\n{table}")


if __name__ == "__main__":
    main()
