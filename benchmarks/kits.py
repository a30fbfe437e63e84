"""Run after run, from its kit alone: how many come out the same to the bit?

Each seed's calibration is exported, its kit unpacked, and its one command run. The first kit makes its environment from
its own lock, which takes a minute and a package index; the others, which have the same lock, are lent that environment.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import zipfile

ROOT = pathlib.Path(__file__).parents[1]
COMMAND = [sys.executable, "-c", "from bayestwin.cli import app; app()"]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", default="lynx_hare")
    options.add_argument("--runs", type=int, default=20)
    asked = options.parse_args()
    same = 0
    with tempfile.TemporaryDirectory() as temporary:
        place = pathlib.Path(temporary)
        lock = environment = None
        for seed in range(asked.runs):
            kit = make_kit(ROOT / "models" / asked.model, seed, place)
            if environment is not None:
                assert (kit / "requirements.lock").read_bytes() == lock, "another lock needs another environment"
                (kit / ".venv").symlink_to(environment)
            begun = time.perf_counter()
            done = subprocess.run(["sh", "rerun", "--json"], cwd=kit, capture_output=True, text=True, check=False)
            seconds = time.perf_counter() - begun
            if environment is None:
                lock, environment = (kit / "requirements.lock").read_bytes(), kit / ".venv"
            same += told(seed, done, seconds)
    print(f"{same} of {asked.runs} runs of {asked.model} come out the same to the bit")


def make_kit(model: pathlib.Path, seed: int, place: pathlib.Path) -> pathlib.Path:
    """Calibrate with a seed, export the run, and unpack its kit: the folder with its one command."""
    results = place / "results"
    calibrate = [*COMMAND, "calibrate", model, "--seed", seed, "--results", results, "--json"]
    ran = subprocess.run([str(word) for word in calibrate], capture_output=True, text=True, check=False, cwd=ROOT)
    assert ran.returncode in (0, 1), ran.stderr  # 1: a run that failed its gates comes out the same as well
    run = pathlib.Path(json.loads(ran.stdout)["folder"]).name
    archive = place / f"{seed}.zip"
    export = [*COMMAND, "export", run, "--results", results, "--out", archive]
    subprocess.run([str(word) for word in export], check=True, capture_output=True, cwd=ROOT)
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(place / f"kit {seed}")
    (kit,) = (place / f"kit {seed}").iterdir()
    return kit


def told(seed: int, done: subprocess.CompletedProcess[str], seconds: float) -> bool:
    """Print what became of a run that was made again, and say whether it is the same to the bit."""
    if done.returncode not in (0, 1):
        print(f"seed {seed}: exit {done.returncode}: {done.stderr.strip()[-500:]}", flush=True)
        return False
    found = json.loads(done.stdout)
    bits = found["holds"] and all(one["level"] == "bits" for one in found["files"])
    words = "the same to the bit" if bits else "within its Monte Carlo error" if found["holds"] else "another"
    print(f"seed {seed}: {words} ({len(found['files'])} files, {seconds:.0f} s)", flush=True)
    return bits


if __name__ == "__main__":
    main()
