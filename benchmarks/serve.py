"""Latency of `bayestwin serve` under load, and whether any answer differs from `bt.predict`, also while promoting.

Four clients, each a process of its own, ask a server over loopback for forecasts of the room of `models/room` as fast
as they are answered, and then again while another run comes to production. They ask for four futures with four seeds
each; all answers are compared with quantiles of `bt.predict` afterwards.

    python benchmarks/serve.py [--requests 2000] [--clients 4] [--draws 1000] [--times 96]

Last: the figures, and `wrong`, the number of answers that differ by more than 1e-10 or were none.
"""

import argparse
import http.client
import json
import multiprocessing
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

SEEDS, FUTURES = 4, 4


def prepare(root: pathlib.Path, model: pathlib.Path) -> None:
    """Two runs of one model, the first in production, the second in staging."""
    shutil.copytree(model, root / "models" / model.name)
    job = root / "models" / model.name / "job.toml"
    job.write_text(job.read_text() + '\n[promote.prod]\nrequires = ["diagnostics"]\n')
    command = [sys.executable, "-c", "from bayestwin.cli import app; app()"]
    folder, results = str(job.parent), ["--results", str(root / "results")]
    subprocess.run([*command, "calibrate", folder, *results], check=True)
    subprocess.run([*command, "promote", folder, "--to", "staging", *results], check=True)
    subprocess.run([*command, "promote", folder, "--to", "prod", *results], check=True)
    job.write_text(job.read_text().replace("seed = 0", "seed = 1"))
    subprocess.run([*command, "calibrate", folder, *results], check=True)
    subprocess.run([*command, "promote", folder, "--to", "staging", *results], check=True)


def promote(root: pathlib.Path, run: str, stage: str) -> None:
    """Bring a run of the room there."""
    call = [sys.executable, "-c", "from bayestwin.cli import app; app()", "promote", str(root / "models" / "room")]
    subprocess.run([*call, "--run", run, "--to", stage, "--results", str(root / "results")], check=True)


def stage_other(root: pathlib.Path) -> str:
    """The run that is not in production, in staging; where the folder was kept it may have left it."""
    runs = root / "results" / "room"
    events = [json.loads(line) for line in (runs / "registry.jsonl").read_text().splitlines()]
    last = {one["stage"]: one["run"] for one in events if one["event"] == "promote"}
    other = next(path.parent.name for path in sorted(runs.glob("*/run.json")) if path.parent.name != last["prod"])
    if last["staging"] != other:
        promote(root, other, "staging")
    return other


def bodies(times: int, draws: int) -> list[dict[str, Any]]:
    """Futures with the seeds that each is asked for."""
    rng = np.random.default_rng(0)
    hours = np.arange(times) / 4.0
    start = np.datetime64("2026-03-21T00:00")
    stamps = [f"{start + np.timedelta64(15 * n, 'm')}Z" for n in range(times)]
    found = []
    for number in range(FUTURES):
        outdoor = 5.0 + number + 4.0 * np.sin(2 * np.pi * (hours - 9.0) / 24.0) + rng.normal(0.0, 0.2, times)
        heating = 1000.0 * (rng.uniform(size=times) < 0.4)
        inputs = {"outdoor": outdoor.tolist(), "heating": heating.tolist()}
        found += [{"times": stamps, "inputs": inputs, "draws": draws, "seed": seed} for seed in range(SEEDS)]
    return found


def ask(port: int, asked: list[str], num: int, first: int, queue: Any) -> None:
    """One client: seconds, status and answer of each request, one after the other over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    found = []
    for number in range(num):
        which = (first + number) % len(asked)
        began = time.perf_counter()
        connection.request("POST", "/models/room/forecast", asked[which], {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read()
        found.append((time.perf_counter() - began, response.status, which, text))
    queue.put(found)


def load(port: int, asked: list[str], num: int, clients: int, promoting: Any = None) -> list[tuple]:
    """All answers of all clients; `promoting` is called once they have begun."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    each = [context.Process(target=ask, args=(port, asked, num // clients, 5 * n, queue)) for n in range(clients)]
    for one in each:
        one.start()
    if promoting is not None:
        promoting()
    found = [row for _ in each for row in queue.get()]
    for one in each:
        one.join()
    return found


def expected(root: pathlib.Path, runs: set[str], asked: list[dict[str, Any]]) -> dict[tuple[str, int], dict[str, Any]]:
    """Quantiles of `bt.predict` by run and request."""
    import pandas as pd

    import bayestwin as bt
    from bayestwin.project.model import load_model

    twin = load_model(root / "models" / "room").twin
    found = {}
    for run in sorted(runs):
        posterior = bt.load(root / "results" / "room" / run / "posterior.nc")
        for number, body in enumerate(asked):
            table = pd.DataFrame({"time": body["times"], **body["inputs"]})
            units = {"outdoor": "degC", "heating": "W"}
            future = bt.read_telemetry(table, units=units)
            tree = bt.predict(twin, posterior, future, seed=body["seed"], draws=body["draws"])
            drawn = tree["predictions"]["indoor"].to_numpy().reshape(-1, len(body["times"]))
            found[run, number] = {
                "median": np.quantile(drawn, 0.5, axis=0),
                "lower": np.quantile(drawn, 0.05, axis=0),
                "upper": np.quantile(drawn, 0.95, axis=0),
                "mean": drawn.mean(axis=0),
            }
    return found


def worst(answers: list[tuple], known: dict[tuple[str, int], dict[str, Any]]) -> tuple[float, int]:
    """The largest difference, and how many answers are wrong."""
    most, wrong = 0.0, 0
    for _, status, which, text in answers:
        if status != 200:
            wrong += 1
            continue
        told = json.loads(text)
        own, series = known[told["version"]["run"], which], told["observations"]["indoor"]
        apart = max(
            float(np.abs(np.array(series["median"]) - own["median"]).max()),
            float(np.abs(np.array(series["mean"]) - own["mean"]).max()),
            float(np.abs(np.array(series["lower"]["0.9"]) - own["lower"]).max()),
            float(np.abs(np.array(series["upper"]["0.9"]) - own["upper"]).max()),
        )
        most = max(most, apart)
        wrong += apart > 1e-10
    return most, wrong


def serve(root: pathlib.Path, port: int) -> subprocess.Popen:
    """A server that is ready."""
    call = [sys.executable, "-c", "from bayestwin.cli import app; app()", "serve", "--port", str(port)]
    process = subprocess.Popen([*call, "--results", str(root / "results")], stderr=subprocess.DEVNULL)
    for _ in range(600):
        time.sleep(0.5)
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/ready")
            if connection.getresponse().status == 200:
                return process
        except OSError:
            continue
    process.kill()
    raise SystemExit("the server did not become ready")


def told(words: str, answers: list[tuple]) -> None:
    seconds = 1e3 * np.array([one[0] for one in answers])
    runs = sorted({json.loads(text)["version"]["run"] for _, status, _, text in answers if status == 200})
    middle, late = np.quantile(seconds, [0.5, 0.95])
    print(
        f"{words}: {len(answers)} requests, median {middle:.1f} ms, p95 {late:.1f} ms, "
        f"max {seconds.max():.1f} ms; answered by {', '.join(runs)}; load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--times", type=int, default=96)
    parser.add_argument("--root", type=pathlib.Path, help="where runs are kept, and found again")
    given = parser.parse_args()
    root = given.root or pathlib.Path(tempfile.mkdtemp(prefix="bayestwin-serve-"))
    if not (root / "results").is_dir():
        prepare(root, pathlib.Path(__file__).parents[1] / "models" / "room")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    other = stage_other(root)
    asked = bodies(given.times, given.draws)
    texts = [json.dumps(body) for body in asked]
    process = serve(root, port)
    try:
        load(port, texts, 40, given.clients)
        steady = load(port, texts, given.requests, given.clients)
        told("steady", steady)

        moving = load(port, texts, given.requests, given.clients, lambda: promote(root, other, "prod"))
        told("while promoting", moving)
    finally:
        process.terminate()
    runs = {json.loads(text)["version"]["run"] for _, status, _, text in (*steady, *moving) if status == 200}
    known = expected(root, runs, asked)
    for words, answers in (("steady", steady), ("while promoting", moving)):
        most, wrong = worst(answers, known)
        print(f"{words}: largest difference to bt.predict {most:.1e}, {wrong} wrong")


if __name__ == "__main__":
    main()
