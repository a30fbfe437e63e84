"""Engines side by side: each on each posterior, in turn, each run in a process of its own.

Prints a table and writes it, with a picture, into RESULTS.md. `--help` lists the options; `rows.py` says what the
columns mean.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from rich.console import Console
from rich.table import Table

import bayestwin  # noqa: F401 (switches float64 on, for the processes too)
import engines
import posteriors
import results_page
from rows import HEADER, MEANING, Row, agreement, make_rows

WORKER = pathlib.Path(__file__).with_name("worker.py")


def run(asked: dict[str, Any], limit: float, cache: str) -> dict[str, Any]:
    """One run in a new process; whoever takes longer than `limit` seconds is ended.

    Args:
        asked: What the worker is to do.
        limit: Seconds from the start of the process to its end.
        cache: Folder in which the engine may keep what it compiles: empty before the first seed.
    """
    places = {"XDG_CACHE_HOME": cache, "BAYESTWIN_CACHE_DIR": cache, "PYTENSOR_FLAGS": f"base_compiledir={cache}"}
    platforms = {"JAX_PLATFORMS": "cpu" if asked["device"] == "cpu" else "cuda,cpu"}
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, str(WORKER), json.dumps(asked)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | places | platforms,
    )
    try:
        output, complaints = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        return {"status": "gave up", "reason": f"gave up after {limit:g} s"}
    finally:
        _end(process)
    try:
        found = json.loads(output.splitlines()[-1])
    except (IndexError, ValueError):
        last = (complaints.strip().splitlines() or ["no output"])[-1]
        return {"status": "failed", "reason": f"ended with {process.returncode}: {last[:120]}"}
    return found | {"process": time.perf_counter() - begun}


def _end(process: subprocess.Popen) -> None:
    """End a run and the processes that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def options() -> argparse.Namespace:
    """What was asked on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posteriors", nargs="+", choices=posteriors.NAMES, default=posteriors.NAMES)
    parser.add_argument("--engines", nargs="+", choices=engines.NAMES, default=engines.NAMES)
    parser.add_argument("--seeds", type=int, default=1, help="runs of each engine on each posterior")
    parser.add_argument("--draws", type=int, default=1000, help="draws kept of each of 4 chains")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds that one run may take")
    parser.add_argument(
        "--warmup", type=int, help="warm-up of every engine instead of its own: to try this program out"
    )
    parser.add_argument("--dry", action="store_true", help="print, and leave RESULTS.md as it is")
    return parser.parse_args()


def main() -> None:
    """Run everything, then print and write."""
    asked, console = options(), Console()
    if not console.is_terminal:
        console = Console(width=240)
    # so that whoever ends this program ends the run under way with it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rows: list[Row] = []
    for posterior in asked.posteriors:
        found = {}
        for engine in asked.engines:
            with tempfile.TemporaryDirectory() as cache:
                found[engine] = []
                for seed in range(asked.seeds):
                    job = {"engine": engine, "posterior": posterior, "seed": seed}
                    job |= {"draws": asked.draws, "chains": 4, "device": asked.device, "warmup": asked.warmup}
                    found[engine].append(run(job, asked.limit, cache))
                    last = found[engine][-1]
                    console.print(f"{posterior} · {engine} · seed {seed}: {last.get('reason') or last['status']}")
                    if last["status"] in ("not installed", "CPU only"):
                        break
        rows += make_rows(posterior, found)
    _show(rows, console)
    if not asked.dry:
        _write(rows, asked)


def _show(rows: list[Row], console: Console) -> None:
    table = Table(*HEADER)
    for row in rows:
        table.add_row(*row.cells())
    console.print(table)
    for line in agreement(rows):
        console.print(line)


def _write(rows: list[Row], asked: argparse.Namespace) -> None:
    from figures import draw_rates

    title = "Engines side by side" + (" on a GPU" if asked.device == "gpu" else "")
    picture = f"compare-{asked.device}.svg"
    draw_rates(rows, WORKER.with_name(picture))
    limits = f"4 chains × {asked.draws} draws, {asked.seeds} seed(s), at most {asked.limit:g} s a run."
    parts = [
        f"{results_page.circumstances(asked.device)} {limits}",
        f"![Effective draws a second by posterior and engine]({picture})",
        results_page.markdown(HEADER, [row.cells() for row in rows]),
        MEANING,
        "\n".join(f"- {line}" for line in agreement(rows)),
    ]
    results_page.write_section(title, "\n\n".join(parts))


if __name__ == "__main__":
    main()
