"""Log likelihoods of the published PEtab problems: ours at the nominal values, and that of what others simulated.

`python benchmarks/petab_problems.py FOLDER` goes through the folder of problems, each in a process of its own, and
prints a table: the log likelihood by this package, how far it lies from that of the simulations that are kept beside
most problems and, where libroadrunner is installed, from what that finds; how far ours moves when it is solved a
hundred times more closely; and how far its gradient lies from central differences, as a share of its largest entry.
What is refused has its one error in the last column.
"""

import argparse
import importlib.util
import json
import math
import os
import pathlib
import subprocess
import sys
import time

from results_page import circumstances, markdown, write_section

PARTS, STEPS = 12, (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)
"""In how many parameters a gradient is compared, and by how much of itself each may be moved."""


def difference(value) -> float:
    """A derivative at 0 by central differences, extrapolated, with the first step at which two of them agree."""
    found = []
    for step in STEPS:
        once, twice = ((value(h) - value(-h)) / (2.0 * h) for h in (step, 2.0 * step))
        if math.isfinite(once) and math.isfinite(twice):
            found.append((abs(once - twice), (4.0 * once - twice) / 3.0))
            if abs(once - twice) <= 1e-3 * abs(once):
                break  # smaller steps drown in rounding
    return min(found)[1] if found else math.nan


def reference(path: pathlib.Path) -> float:
    """The log likelihood of the simulations that are kept beside a problem, whoever made them; NaN without any.

    Nothing of the model is asked: formulas of noise that need its states have none.
    """
    import pandas as pd
    import sympy

    from bayestwin.petab.sbml import Refusals
    from bayestwin.petab.tables import placeholders, read_tables
    from petab_roadrunner import log_probability

    files = sorted(path.parent.glob("simulat*.tsv"))
    tables = read_tables(path, Refusals())
    if len(files) != 1:
        return math.nan
    # by what row it is: files list rows in orders of their own
    simulated = pd.read_csv(files[0], sep="\t", dtype=str, keep_default_na=False).to_dict("records")
    known = {key_of(row): float(row["simulation"]) for row in simulated if row.get("simulation")}
    nominal = {sympy.Symbol(name): sympy.Float(one.nominal) for name, one in tables.parameters.items()}
    total = 0.0
    for one in tables.measurements:
        row = {"observableId": one.observable, "simulationConditionId": one.condition, "time": str(one.time)}
        row |= {"preequilibrationConditionId": one.before}
        row |= {"observableParameters": ";".join(map(str, one.observable_parameters))}
        if key_of(row) not in known:
            return math.nan
        observable, value = tables.observables[one.observable], known[key_of(row)]
        told = placeholders(observable, one)
        noise = (
            observable.noise.xreplace(told)
            .xreplace(nominal)
            .xreplace({sympy.Symbol(one.observable): sympy.Float(value)})
        )
        if not noise.is_number:
            return math.nan
        total += log_probability(observable, one.value, value, float(noise))
    return float(total)


def key_of(row: dict) -> tuple:
    """What a simulation is of."""
    told = [one for one in row.get("observableParameters", "").split(";") if one]
    numbers = tuple(f"{float(one):.8g}" if one[0] in "-.0123456789" else one for one in told)
    before = row.get("preequilibrationConditionId", "")
    time = f"{float(row.get('time', 'nan')):.8g}"
    return row.get("observableId"), row.get("simulationConditionId"), "" if before == "nan" else before, time, numbers


def compare(path: pathlib.Path, gradient: bool) -> dict:
    """All figures of one problem; printed as soon as they are known."""
    import dataclasses

    import jax
    import numpy as np

    import bayestwin as bt
    from bayestwin.dynamics.steppers import Precision
    from bayestwin.petab.problem import closely, likelihood_at

    begun = time.perf_counter()
    found: dict = {"reference": reference(path)}
    problem = bt.read_petab(path)
    density = closely(problem.twin, problem.experiments)
    values = {name: np.asarray(value, float) for name, value in problem.nominal.items()}
    found |= {"states": len(problem.twin.states), "experiments": len(problem.experiments), "parameters": len(values)}

    def tell(**more: float) -> None:
        found.update(more, seconds=time.perf_counter() - begun)
        print(json.dumps(found), flush=True)

    def at(own, precision):
        grid = density.grid._replace(precision=precision)
        return likelihood_at(dataclasses.replace(density, grid=grid), own)

    def to(rtol: float, atol: float):
        kept = density.grid.precision
        given = Precision(rtol, atol, 100_000)
        return jax.tree.map(lambda one, new: np.full(np.shape(one), new, np.asarray(one).dtype), kept, given)

    value = jax.jit(at)
    tell(ours=float(value(values, to(1e-10, 1e-12))))
    tell(closer=float(value(values, to(1e-12, 1e-14))))
    if gradient:
        close = to(1e-12, 1e-14)
        slopes = jax.jit(jax.grad(at))(values, close)
        free = [name for name, own in values.items() if own != 0.0]
        free = [free[n] for n in np.random.default_rng(0).permutation(len(free))[:PARTS]]

        def moved(name: str, share: float) -> float:
            return float(value({**values, name: values[name] * (1.0 + share)}, close))

        ours = np.array([float(slopes[name] * values[name]) for name in free])
        theirs = np.array([difference(lambda share, n=n: moved(n, share)) for n in free])
        tell(gradient=float(np.max(np.abs(ours - theirs)) / max(np.max(np.abs(theirs)), 1.0)))
    return found


def run(path: pathlib.Path, limit: float, gradient: bool) -> dict:
    """The figures of a problem from a process of its own; what it found until it was stopped."""
    command = [sys.executable, __file__, str(path), "--one"] + ([] if gradient else ["--no-gradient"])
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
        out, err = done.stdout, done.stderr
    except subprocess.TimeoutExpired as stopped:
        out, err = (stopped.stdout or b"").decode(), f"stopped after {limit:g} s"
    lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    found = (lines[-1] if lines else {}) | ({"error": err.strip()} if err.strip() else {})
    return found | {"roadrunner": by_roadrunner(path, limit)}


def by_roadrunner(path: pathlib.Path, limit: float) -> float:
    """The log likelihood by another reader of SBML and another solver; NaN where it is not installed, or fails."""
    if importlib.util.find_spec("roadrunner") is None:
        return math.nan
    command = [sys.executable, str(pathlib.Path(__file__).with_name("petab_roadrunner.py")), str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=True)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        return math.nan
    return float(done.stdout)


def shown(value: float | None, digits: str = ".6f") -> str:
    return "" if value is None or math.isnan(value) else format(value, digits)


def row_of(name: str, found: dict) -> list[str]:
    """One line of the table."""
    ours, other = found.get("closer", found.get("ours")), found.get("reference", math.nan)
    difference, second = (None if ours is None else ours - one for one in (other, found.get("roadrunner", math.nan)))
    moved = None if "closer" not in found else found["closer"] - found["ours"]
    error = " ".join(found.get("error", "").split()).replace("|", "/")
    cells = [name, str(found.get("states", "")), str(found.get("experiments", "")), shown(ours), shown(other)]
    cells += [shown(one, ".1e") for one in (difference, second, moved, found.get("gradient"))]
    return [*cells, shown(found.get("seconds"), ".0f"), error[:400]]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("folder", type=pathlib.Path)
    options.add_argument("--one", action="store_true")
    options.add_argument("--no-gradient", action="store_true")
    options.add_argument("--limit", type=float, default=600.0)
    options.add_argument("--only", nargs="*", default=[])
    options.add_argument("--write", action="store_true", help="keep the table in RESULTS.md")
    told = options.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    if told.one:
        from bayestwin.errors import BayestwinError

        try:
            compare(told.folder, not told.no_gradient)
        except BayestwinError as reason:
            print(str(reason), file=sys.stderr)
        return
    rows = []
    for folder in sorted(one for one in told.folder.iterdir() if one.is_dir()):
        if told.only and folder.name not in told.only:
            continue
        problems = sorted(folder.glob("*.yaml"), key=lambda one: (one.stem != folder.name, one.name))
        found = run(problems[0], told.limit, not told.no_gradient) if problems else {"error": "no problem file"}
        rows.append(row_of(folder.name, found))
        print("| " + " | ".join(rows[-1]) + " |", flush=True)
    if told.write:
        write_section(TITLE, f"{circumstances('cpu')}\n\n{markdown(HEADER, rows)}\n\n{WORDS}")


TITLE = "Published PEtab problems"
HEADER = [
    "problem",
    "states",
    "experiments",
    "ours",
    "kept beside it",
    "difference",
    "libroadrunner",
    "closer",
    "gradient",
    "s",
    "",
]
WORDS = """\
`ours` is the log likelihood at the nominal values, `kept beside it` that of the simulations in the same folder,
whoever made them, `libroadrunner` how far ours lies from what that reader of SBML and CVODE find at a relative
tolerance of 1e-12, `closer` how far ours moves from relative tolerances of 1e-10 to 1e-12, and `gradient` how far its
entries, by the logarithms of parameters, lie from extrapolated central differences, as a share of the largest."""


if __name__ == "__main__":
    main()
