"""What does a week of one asset cost, out of ten million rows of PostgreSQL? `python benchmarks/databases.py`

It starts a server of its own, fills a table with 100 assets, and in a process each reads a week, a year and all of one
asset by a query; the week is calibrated. It prints rows, seconds, and peak memory of the process that reads.
"""

# ArviZ, where it is imported before NumPyro, hides one of NumPyro's modules.
import numpyro.distributions as dist

# isort: split
import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import time

import bayestwin as bt
from results_page import circumstances, markdown, number, write_section

TITLE = "A week out of ten million rows"

MAKE = """
CREATE TABLE readings AS
SELECT timestamptz '2024-01-01Z' + n * interval '10 minutes' AS time, 'asset-' || a AS asset,
    20 + 10 * sin(n * pi() / 72) AS ambient,
    20 + 10 / sqrt(1 + w * w) * sin(n * pi() / 72 - atan(w))
        + 0.2 * sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random()) AS inside
FROM generate_series(0, {last}) AS n, generate_series(1, 100) AS a,
    LATERAL (SELECT (2 + a / 50.0) * pi() / 12 AS w) AS one
ORDER BY n
"""
"""A time constant of (2 + asset / 50) hours under an ambience of one sine a day, and noise of 0.2: the closed form."""

QUERY = "SELECT time, ambient, inside FROM readings WHERE asset = %(asset)s AND time >= %(start)s AND time < %(end)s"

SPANS = {"a week": "2024-11-11", "a year": "2025-11-04", "all": "2100-01-01"}
ASSET, START, TRUTH = "asset-40", "2024-11-04", 2.8

TWIN = bt.Twin(
    name="store",
    vector_field=lambda t, x, p, u: {"inside": (u.ambient - x.inside) / p.tau},
    states={"inside": bt.State(dist.Normal(20.0, 10.0), unit="degC")},
    parameters={"tau": bt.Parameter(dist.LogNormal(1.0, 1.0), unit="h")},
    inputs={"ambient": bt.Input(unit="degC")},
    observations={"inside": bt.Observation(bt.Gaussian(dist.HalfNormal(0.5)), unit="degC")},
    time_unit="h",
)


def peak() -> float:
    """Largest resident memory so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(address: str, span: str) -> dict[str, object]:
    """Read a span in this process, and calibrate a week; figures as plain values."""
    bt.Telemetry, bt.calibrate  # noqa: B018 (names are imported when they are first used)
    found: dict[str, object] = {"span": span, "peak before": peak()}
    begun = time.perf_counter()
    asked = {"asset": ASSET, "start": "2000-01-01" if span == "all" else START, "end": SPANS[span]}
    telemetry = bt.read_telemetry(address, query=QUERY, parameters=asked, units={"ambient": "degC", "inside": "degC"})
    found |= {"rows": len(telemetry.table), "seconds": time.perf_counter() - begun, "peak read": peak()}
    if span == "a week":
        begun = time.perf_counter()
        posterior = bt.calibrate(TWIN, telemetry, seed=0, progress=None)
        tau = posterior["posterior"]["tau"]
        z = abs(float(tau.mean()) - TRUTH) / float(tau.std())
        found |= {"calibrated": time.perf_counter() - begun, "peak calibrated": peak(), "z": z}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000, help="of the table")
    parser.add_argument("--dry", action="store_true", help="leave RESULTS.md as it is")
    parser.add_argument("--measure", nargs=2, metavar=("ADDRESS", "SPAN"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*options.measure)))
        return
    sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))
    from servers import PASSWORD, running_postgres

    rows = []
    with running_postgres() as server:
        begun = time.perf_counter()
        server.execute(
            MAKE.format(last=options.rows // 100 - 1), "CREATE INDEX ON readings (asset, time)", "ANALYZE readings"
        )
        print(f"filled in {time.perf_counter() - begun:.0f} s", flush=True)
        for span in SPANS:
            command = [sys.executable, __file__, "--measure", server.address, span]
            done = subprocess.run(
                command, env=os.environ | {"PGPASSWORD": PASSWORD}, stdout=subprocess.PIPE, text=True, check=True
            )
            found = json.loads(done.stdout.splitlines()[-1])
            names = ("peak before", "seconds", "peak read", "calibrated", "peak calibrated", "z")
            rows.append([span, f"{found['rows']:,}", *(number(found.get(name)) for name in names)])
            print(rows[-1], flush=True)
    header = (
        "read",
        "rows",
        "MiB before",
        "query and reading, s",
        "MiB then",
        "calibration, s",
        "MiB then",
        "z of the truth",
    )
    table = markdown(header, rows)
    print(table)
    if not options.dry:
        words = f"{circumstances('cpu')} `databases.py --rows {options.rows}`: memory of the process that reads."
        write_section(TITLE, f"{words}\n\n{table}")


if __name__ == "__main__":
    main()
