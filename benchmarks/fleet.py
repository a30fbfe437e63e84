"""What does one more asset cost? `python benchmarks/fleet.py` calibrates fleets of growing size, each by itself.

Cells in cases: two states, 50 rows each, two parameters pooled and one that all share. It prints wall time, CPU
seconds, peak memory and assets a second, and how much more four times the assets cost. With `--device gpu` the same
fleets are calibrated on the CPU as well, to tell from which size on a GPU pays; where there is none it says so.
"""

# ArviZ, where it is imported before NumPyro, hides one of NumPyro's modules.
import numpyro.distributions as dist

# isort: split
import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

import bayestwin as bt
from bayestwin.assess import failed
from results_page import circumstances, markdown, number, write_section

NUM_ROWS = 50
TITLE = "Fleets"


def field(t, x, p, u):
    """A cell heats its case, and that the air."""
    within = (x.cell - x.case) / p.r_in
    return {"cell": p.gain * u.power - within, "case": within / 2.0 + (u.ambient - x.case) / p.r_out}


TWIN = bt.Twin(
    name="cells",
    vector_field=field,
    states={"cell": bt.State(20.0), "case": bt.State(20.0)},
    parameters={
        "r_in": bt.Parameter(dist.LogNormal(0.0, 0.5)),
        "r_out": bt.Parameter(dist.LogNormal(jnp.log(4.0), 0.5), pooled=dist.HalfNormal(0.4)),
        "gain": bt.Parameter(dist.LogNormal(0.0, 0.5), pooled=dist.HalfNormal(0.4)),
    },
    inputs={"power": bt.Input(hold="previous"), "ambient": bt.Input()},
    observations={"cell": bt.Observation(bt.Gaussian(dist.HalfNormal(0.5)))},
    time_unit="h",
)


def fleet(num: int) -> dict[str, bt.Telemetry]:
    """Simulated telemetry, by SciPy and not by our solver: matrices step what is affine exactly."""
    from scipy.linalg import expm

    rng, times, found = np.random.default_rng(0), np.arange(NUM_ROWS) * 0.25, {}
    for asset in range(num):
        r_in, r_out, gain = 1.2, 4.0 * np.exp(0.3 * rng.normal()), np.exp(0.3 * rng.normal())
        power, ambient = 5.0 * (rng.random(NUM_ROWS) < 0.5), 18.0 + rng.normal()
        rates = np.array([[-1.0 / r_in, 1.0 / r_in], [0.5 / r_in, -0.5 / r_in - 1.0 / r_out]])
        step, path = expm(rates * 0.25), [np.array([20.0, 20.0])]
        for row in range(NUM_ROWS - 1):
            rest = np.linalg.solve(rates, -np.array([gain * power[row], ambient / r_out]))
            path.append(rest + step @ (path[-1] - rest))
        seen = np.array(path)[:, 0] + 0.2 * rng.normal(size=NUM_ROWS)
        table = pd.DataFrame({"time": times, "power": power, "ambient": ambient, "cell": seen})
        found[f"asset {asset}"] = bt.read_telemetry(table)
    return found


def one(num: int, method: str, device: str) -> dict[str, Any]:
    """Calibrate one fleet, and say what it took."""
    telemetry = fleet(num)
    begun, used = time.perf_counter(), time.process_time()
    posterior = bt.calibrate(TWIN, telemetry, seed=0, method=method, device=device)
    wall, cpu = time.perf_counter() - begun, time.process_time() - used
    spread, gates = posterior["posterior"]["gain_spread"], bt.diagnose(posterior)
    told = {gate.name: gate.value for gate in gates}
    return {
        "wall": wall,
        "cpu": cpu,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "spread": f"{float(spread.mean()):.3f} ± {float(spread.std()):.3f}",
        "rhat": f"{told['rhat']:.4f}" if "rhat" in told else "",
        "failed": ", ".join(gate.name for gate in failed(gates)) or "none",
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sizes", type=int, nargs="*", default=[64, 256, 1024])
    options.add_argument("--method", default="laplace")
    options.add_argument("--device", default="cpu", choices=("cpu", "gpu"))
    options.add_argument("--limit", type=float, default=1200.0, help="seconds after which a size is given up")
    options.add_argument("--write", action="store_true", help="keep the table in RESULTS.md")
    options.add_argument("--alone", type=int, help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.alone is not None:
        print(json.dumps(one(asked.alone, asked.method, asked.device)))
        return
    devices = ["cpu"]
    if asked.device == "gpu":
        if any(device.platform == "gpu" for device in jax.devices()):
            devices.append("gpu")
        else:
            print("There is no GPU here: the CPU alone is measured.")
    header = ["assets", "device", "wall, s", "CPU s", "GiB", "assets / s", "times the CPU s of the size before"]
    header += ["spread of `gain` (0.3)", "largest R̂", "gates that fail"]
    rows = []
    for device in devices:
        before = None
        for num in asked.sizes:
            command = [sys.executable, __file__, "--alone", str(num), "--method", asked.method, "--device", device]
            try:
                done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=asked.limit)
            except subprocess.TimeoutExpired:
                rows.append([str(num), device, f"> {asked.limit:g}", *[""] * 7])
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            grown = "" if before is None else number(found["cpu"] / before)
            told = [found["wall"], found["cpu"], found["memory"], num / found["wall"]]
            known = [found[name] for name in ("spread", "rhat", "failed")]
            rows.append([str(num), device, *map(number, told), grown, *known])
            before = found["cpu"]
            print(markdown(header, rows[-1:]).splitlines()[-1], flush=True)
    table = f"{circumstances(devices[-1])} `fleet.py --method {asked.method}`.\n\n{markdown(header, rows)}"
    print(table)
    if asked.write:
        write_section(TITLE, table)


if __name__ == "__main__":
    main()
