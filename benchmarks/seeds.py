"""Our engine, seed after seed: for how many seeds is the posterior right?

Each posterior has a process of its own, in which every seed has its own solver choice, ladder, chains and audit, as in
`bt.calibrate`, without predictions. Right is R-hat up to 1.01, no divergence, and means within 4 combined Monte Carlo
standard errors of a long run of another engine. `--help` lists the options.
"""

# ArviZ, where it is imported before NumPyro, hides one of NumPyro's modules.
import numpyro.distributions  # noqa: F401

# isort: split
import argparse
import datetime
import json
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np

import bayestwin  # noqa: F401 (switches float64 on)
import posteriors
import results_page
from bayestwin._base.compilation import keep_compiled
from bayestwin._base.progress import Progress
from bayestwin.calibrate import draw
from bayestwin.density.bind import bind
from bayestwin.density.density import Density, build_density
from bayestwin.inference.method import Problem, Settings, exact_enough
from bayestwin.inference.solver import choose
from posteriors import Moment, Posterior
from results_page import number
from rows import MOST_RHAT, MOST_Z

TITLE = "Seed after seed"
HEADER = (
    "posterior",
    "reference",
    "seeds",
    "R̂ ≤ 1.01",
    "no divergence",
    "means within 4 MCSE",
    "all three",
    "worst R̂",
    "largest z",
    "z of all seeds",
    "solver exact",
    "chains restarted",
    "target raised",
    "s a seed",
    "date",
)
MEANING = """R̂ and z are the worst over all quantities: R̂ of ranks and of folded ranks, z the difference of posterior
means in combined Monte Carlo standard errors; `z of all seeds` is that of the mean over seeds, which has next to no
error of its own and shows a bias that every seed shares. `solver exact` counts the seeds whose tolerance audit passed;
`chains restarted` and `target raised` those in which the engine helped itself. `s a seed` is the median without
compiling and without predictions. Among thousands of quantities and seeds a few z beyond 3 are expected of a perfect
sampler; the error of the reference is the same for all seeds."""

type Found = dict[str, Any]
"""What became of one seed."""


def once(solved: dict[str, Density], density: Density, seed: int) -> Found:
    """Calibrate for one seed.

    Args:
        solved: By method, the density so solved; kept from seed to seed, so that what is traced is traced once.
        density: The density.
        seed: The seed.
    """
    progress = Progress(show=False)
    chosen, choice = choose(density, seed, progress)
    chosen = solved.setdefault(choice.method, chosen)
    drawn, audit = draw("nuts", Problem(chosen, Settings(), seed, progress))
    values = jax.vmap(jax.vmap(density.constrain))(jnp.asarray(drawn.z))
    draws = {name: np.asarray(value) for name, value in values.items()}
    events = [event["what"] for event in drawn.record["sampling"]["events"]]
    return {
        "seed": seed,
        "rhat": {name: float(az.rhat(d)) for name, d in draws.items()},
        "moments": {name: (float(d.mean()), float(az.mcse(d))) for name, d in draws.items()},
        "divergences": int(drawn.stats["diverging"].sum()),
        "exact": exact_enough(audit["tolerance_audit"]),
        "restarted": sum("restarted" in what for what in events),
        "raised": sum("raised" in what for what in events),
        "seconds": sum(seconds for phase, seconds in progress.timings.items() if phase != "compile"),
        "compile": progress.timings.get("compile", 0.0),
        "steps": float(drawn.stats["n_steps"].mean()),
    }


def judged(found: Found, gold: Mapping[str, Moment]) -> Found:
    """The worst R-hat and, where there is a reference, the largest z, each with its quantity."""
    if "error" in found:
        return found
    rhat = found["rhat"]
    z = {
        name: (found["moments"][name][0] - m.mean) / np.hypot(found["moments"][name][1], m.mcse)
        for name, m in gold.items()
    }
    worst = max(rhat, key=lambda name: np.nan_to_num(rhat[name], nan=np.inf))  # NaN where nothing moves
    farthest = max(z, key=lambda name: abs(z[name]), default="")
    return found | {"rhat": rhat[worst], "worst": worst, "z": z.get(farthest), "farthest": farthest}


def together(done: Sequence[Found], gold: Mapping[str, Moment]) -> str:
    """The largest z of the means over seeds, with its quantity; nothing where there are too few seeds to say."""
    if len(done) < 2 or not gold:
        return ""
    z = {}
    for name, moment in gold.items():
        means = np.array([found["moments"][name][0] for found in done])
        z[name] = (means.mean() - moment.mean) / np.hypot(means.std(ddof=1) / np.sqrt(len(means)), moment.mcse)
    worst = max(z, key=lambda name: abs(z[name]))
    return f"{abs(z[worst]):.2f} ({worst})"


def work(name: str, seeds: Sequence[int], minutes: float) -> None:
    """All seeds of one posterior in this process, each a line of JSON on standard output."""
    keep_compiled()
    posterior = posteriors.load(name)
    density = build_density(posterior.twin, bind(posterior.twin, posterior.telemetry))
    solved: dict[str, Density] = {}
    begun = time.perf_counter()
    for seed in seeds:
        if time.perf_counter() - begun > 60.0 * minutes:
            return
        try:
            found = once(solved, density, seed)
        except Exception as reason:  # whatever goes wrong with one seed is a result, and the next one goes on
            found = {"seed": seed, "error": f"{type(reason).__name__}: {str(reason).partition(chr(10))[0]}"}
        print(json.dumps(found), flush=True)


def run(name: str, asked: argparse.Namespace) -> Iterator[Found]:
    """All seeds of one posterior, those that are kept first, the others in a process of their own."""
    kept = asked.keep / f"{name}.jsonl" if asked.keep else None
    there = [json.loads(line) for line in kept.read_text().splitlines()] if kept and kept.is_file() else []
    wanted = range(asked.first, asked.first + asked.seeds)
    yield from (found for found in there if found["seed"] in wanted)
    missing = sorted(set(wanted) - {found["seed"] for found in there})
    if not missing:
        return
    command = [sys.executable, str(pathlib.Path(__file__)), "--work", json.dumps([name, missing, asked.minutes])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if kept:
                with kept.open("a") as file:
                    file.write(line)
            yield json.loads(line)
    if process.returncode:
        yield {"seed": None, "error": f"the process ended with {process.returncode}"}


def faults(found: Found) -> list[str]:
    """What is wrong with one seed; empty where all is well."""
    if "error" in found:
        return [found["error"]]
    said = []
    if not found["rhat"] <= MOST_RHAT:
        said.append(f"R̂ of {found['worst']} is {found['rhat']:.4f}")
    if found["divergences"]:
        said.append(f"{found['divergences']} divergences")
    if found["z"] is not None and not abs(found["z"]) <= MOST_Z:
        said.append(f"the mean of {found['farthest']} is off by {found['z']:.1f} standard errors")
    if not found["exact"]:
        said.append("the error of the solver matters")
    return said


def row(name: str, posterior: Posterior, all_found: Sequence[Found]) -> list[str]:
    """The line of one posterior."""
    source = posterior.source
    done, total = [found for found in all_found if "error" not in found], len(all_found)
    if not done:
        return [name, source, f"{total}", *["0"] * 4, *[""] * 7, str(datetime.date.today())]

    def passed(*tests: Any) -> str:
        return f"{sum(all(test(found) for test in tests) for found in done)} of {total}"

    mixed, smooth = (lambda f: f["rhat"] <= MOST_RHAT), (lambda f: f["divergences"] == 0)
    near = lambda f: abs(f["z"]) <= MOST_Z  # noqa: E731
    return [
        name,
        source or "none",
        str(total),
        passed(mixed),
        passed(smooth),
        passed(near) if source else "",
        passed(mixed, smooth, near) if source else "",
        f"{max(f['rhat'] for f in done):.4f}",
        f"{max(abs(f['z']) for f in done):.2f}" if source else "",
        together(done, posterior.gold),
        passed(lambda f: f["exact"]),
        str(sum(f["restarted"] > 0 for f in done)),
        str(sum(f["raised"] > 0 for f in done)),
        number(statistics.median(f["seconds"] for f in done)),
        str(datetime.date.today()),
    ]


def write(name: str, line: Sequence[str], said: Sequence[str]) -> None:
    """Put a posterior's line, and what went wrong, into RESULTS.md; the lines of others stay."""
    there = [old for old in results_page.earlier(TITLE) if not old.startswith((f"| {name} |", f"- {name}, "))]
    kept = [old for old in there if old.startswith(tuple(f"| {other} |" for other in posteriors.NAMES))]
    kept.append(results_page.markdown(line, ()).splitlines()[0])
    order = sorted(kept, key=lambda old: posteriors.NAMES.index(old.split("|")[1].strip()))
    table = "\n".join([results_page.markdown(HEADER, ()), *order])
    wrong = [old for old in there if old.startswith("- ")] + [f"- {name}, {words}" for words in said]
    text = [results_page.circumstances("cpu"), table, MEANING, "\n".join(sorted(wrong)) or "No seed failed."]
    results_page.write_section(TITLE, "\n\n".join(text))


def options() -> argparse.Namespace:
    """What was asked on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posteriors", nargs="+", choices=posteriors.NAMES, default=posteriors.NAMES)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--minutes", type=float, default=1e6, help="after these, begin no further seed")
    parser.add_argument("--dry", action="store_true", help="print, and leave RESULTS.md as it is")
    parser.add_argument("--keep", type=pathlib.Path, help="folder for what was found: its seeds are not run again")
    parser.add_argument("--work", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Every posterior in turn; exit 1 where a seed failed."""
    asked = options()
    if asked.work:
        return work(*asked.work)
    failed = False
    for name in asked.posteriors:
        posterior, all_found = posteriors.load(name), []
        for found in run(name, asked):
            found = judged(found, posterior.gold)
            all_found.append(found)
            print(
                f"{name}, seed {found['seed']}: {'; '.join(faults(found)) or 'right'}  {json.dumps(found)}", flush=True
            )
        said = [f"seed {found['seed']}: {'; '.join(wrong)}" for found in all_found if (wrong := faults(found))]
        line = row(name, posterior, all_found)
        failed |= bool(said)
        print(results_page.markdown(HEADER, [line]))
        if not asked.dry:
            write(name, line, said)
    return sys.exit(int(failed))


if __name__ == "__main__":
    main()
