"""A PEtab problem as a twin with its experiments, how probable its measurements are, and a model folder made of it."""

import dataclasses
import hashlib
import json
import linecache
import math
import pathlib
import re
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bayestwin.density.bind import Bound, Experiments, bind_all
from bayestwin.density.density import Density, build_density
from bayestwin.dynamics.grid import Grid
from bayestwin.model.checks import check_name
from bayestwin.model.components import Solver
from bayestwin.model.twin import Twin
from bayestwin.petab.formulas import comment, require_packages
from bayestwin.petab.sbml import Refusals, read_sbml
from bayestwin.petab.tables import PetabTables, read_tables
from bayestwin.petab.twin_source import WrittenTwin, write_twin
from bayestwin.results.durable import check_free, write_model_folder
from bayestwin.telemetry import Telemetry
from bayestwin.telemetry.reading import read_experiments

CLOSE = Solver("rodas5p", rtol=1e-10, atol=1e-12, max_steps=20_000)
"""How a problem is solved where its likelihood is compared with that of others."""


class PetabProblem(NamedTuple):
    """What `read_petab` returns.

    Attributes:
        twin: The twin.
        experiments: Telemetry of each experiment, by the id of its condition.
        nominal: Values of the parameters that are estimated, as the parameter table has them, on the linear scale.
    """

    twin: Twin
    experiments: dict[str, Telemetry]
    nominal: dict[str, float]


def read_petab(path: str | pathlib.Path) -> PetabProblem:
    """Read a PEtab problem of version 1, whose model is in SBML.

    Each simulation condition that was measured becomes an experiment. What conditions and rows of measurements set
    becomes a parameter that each experiment knows; pre-equilibration becomes `bt.SteadyState(…, under=…)`. A parameter
    without an objective prior has its bounds as a uniform prior on its scale.

    Args:
        path: The problem's YAML file.

    Returns:
        Twin, experiments and nominal values, which `bt.calibrate(twin, experiments, seed=0)` takes.

    Raises:
        InvalidInput: If a file is missing, or something of the problem is not supported: all of it in one error, by
            file and id.
        InvalidSetting: If the extra `petab` is not installed.
    """
    written, _ = translate(pathlib.Path(path))
    twin, nominal = run_source(written.source)
    return PetabProblem(twin, telemetry_of(written), nominal)


def translate(path: pathlib.Path) -> tuple[WrittenTwin, PetabTables]:
    """What a problem becomes as source and table, and its tables; arguments and errors as of `read_petab`."""
    require_packages()
    refused = Refusals()
    tables = read_tables(path, refused)
    before = any(one.before for one in tables.measurements)
    columns = {name for one in tables.conditions.values() for name in one}
    model = read_sbml(tables.sbml, refused, frozenset(columns) if before else frozenset())
    return write_twin(tables, model, refused), tables


def run_source(source: str) -> tuple[Twin, dict[str, float]]:
    """The twin and the nominal values of source that `write_twin` wrote."""
    name = f"petab_{hashlib.sha256(source.encode()).hexdigest()[:12]}"
    file = f"<{name}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)  # so that reports show it
    module = types.ModuleType(name)
    exec(compile(source, file, "exec"), module.__dict__)
    return module.twin, module.nominal


def telemetry_of(written: WrittenTwin) -> dict[str, Telemetry]:
    """The measurements of each experiment."""
    return read_experiments(written.table, by="experiment", time="time", t0=0.0, duplicates="all")


def log_likelihood(twin: Twin, experiments: Experiments, values: Mapping[str, float], solver: Solver = CLOSE) -> float:
    """Log likelihood of all measurements at given values, solved to close tolerances.

    Args:
        twin: The twin.
        experiments: Its telemetry, by experiment.
        values: Of each parameter that has a prior.
        solver: How to solve.

    Returns:
        −∞ where the twin cannot be solved.
    """
    density = closely(twin, experiments, solver)
    return float(jax.jit(lambda own: likelihood_at(density, own))(_as_arrays(values)))


def closely(twin: Twin, experiments: Experiments, solver: Solver = CLOSE) -> Density:
    """The density of a twin that is solved to close tolerances."""
    solved = dataclasses.replace(twin, solver=solver)
    return build_density(solved, bind_all(solved, experiments))


def likelihood_at(density: Density, values: Mapping[str, Any]) -> Any:
    """Log likelihood at values of all sites, as JAX traces it: of one experiment after the other.

    Side by side each of them would take the steps of the one that needs most.
    """
    if not density.experiments:
        return _likelihood_of_one(density, values)

    def one(arrays: tuple[Bound, Grid]) -> Array:
        bound, grid = arrays
        return _likelihood_of_one(dataclasses.replace(density, bound=bound, grid=grid, experiments=()), values)

    bound, grid = jax.tree.map(jnp.asarray, (density.bound._replace(labels=density.bound.times), density.grid))
    return jax.lax.map(one, (bound, grid)).sum()


def _likelihood_of_one(density: Density, values: Mapping[str, Any]) -> Array:
    predicted = density.predict(values)
    terms = density.log_likelihood(values, predicted)
    total = jnp.stack([term.sum() for term in terms.values()]).sum()
    return jnp.where(predicted.solved & jnp.isfinite(total), total, -jnp.inf)


def _as_arrays(values: Mapping[str, float]) -> dict[str, np.ndarray]:
    return {name: np.asarray(value, float) for name, value in values.items()}


# A model folder: `twin.py`, job, card, measurements, and where all of it came from.

MEASUREMENTS, ORIGIN = "data/measurements.csv", "data/petab.json"


class ImportedModel(NamedTuple):
    """What `import_petab` made.

    Attributes:
        folder: The model folder.
        log_likelihood: Of the measurements at the nominal values; None where a value has none.
        experiments: Their names.
        notices: What a reader should know.
    """

    folder: pathlib.Path
    log_likelihood: float | None
    experiments: tuple[str, ...]
    notices: tuple[str, ...]


def import_petab(path: pathlib.Path, folder: pathlib.Path) -> ImportedModel:
    """Write a model folder from a PEtab problem; what runs later is its `twin.py`, never the problem.

    Args:
        path: The problem's YAML file.
        folder: The folder to make, such as `models/NAME`.

    Raises:
        InvalidInput: As `read_petab`, or if something lies under the folder's path.
        StorageFailure: If the folder cannot be written.
    """
    written, tables = translate(path)
    check_name(folder.name, "the model")
    check_free(folder, "Choose another name.")
    source = re.sub(r"(\n    name=)'[^']*'", rf"\1{folder.name!r}", written.source, count=1)
    twin, nominal = run_source(source)
    sites = {site.name for site in twin.sites()}
    found = log_likelihood(twin, telemetry_of(written), nominal) if sites <= set(nominal) else None
    hashes = {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in tables.files}
    texts: dict[str | pathlib.Path, str] = {
        "twin.py": source,
        "job.toml": _job(written),
        "card.md": _card(folder.name, written, tables, hashes, found),
        MEASUREMENTS: _csv(written),
        ORIGIN: _origin(tables.name, hashes, nominal, found),
    }
    write_model_folder(folder, texts, "Choose a folder of your own.")
    return ImportedModel(folder, found, written.experiments, written.notices)


def _csv(written: WrittenTwin) -> str:
    table = written.table if len(written.experiments) > 1 else written.table.drop(columns="experiment")
    return table.to_csv(index=False, lineterminator="\n")


def _job(written: WrittenTwin) -> str:
    several = len(written.experiments) > 1
    again = written.table.duplicated(["experiment", "time"]).any()
    lines = ["[telemetry]", f'file = "{MEASUREMENTS}"', 'time = "time"', "t0 = 0.0"]
    if again:
        lines.append('duplicates = "all"   # replicates: each of them counts')
    if several:
        lines += ["", "[fleet]", 'by = "experiment"   # a condition of the PEtab problem each']
    return "\n".join([*lines, "", "[calibrate]", "seed = 0", ""])


def _card(name: str, written: WrittenTwin, tables: PetabTables, hashes: Mapping[str, str], found: float | None) -> str:
    estimated = [one for one in tables.parameters.values() if one.estimated]
    bounded = [one.name for one in estimated if one.prior in ("", "parameterScaleUniform")]
    experiments, readings = len(written.experiments), len(tables.measurements)
    words = [
        f"# {name}",
        "",
        f"Written by `bayestwin import petab` from the PEtab problem `{comment(tables.name)}`: {readings:,} "
        f"measurements in {experiments} experiment{'s' if experiments != 1 else ''}, {len(estimated)} parameters that "
        "are inferred.",
        "",
        "## What it assumes",
        "- The equations are those of the model in SBML, and noise is as the observable table says.",
        "- Units are not checked: the twin counts everything as the problem does.",
    ]
    if bounded:
        words.append(
            f"- {len(bounded)} parameters have no prior in the problem. Their bounds, which are for optimisers, are "
            "taken as a uniform prior on their scale: look whether they say what you know."
        )
    words += [f"- {one}" for one in written.notices]
    told = "is not known: a parameter has no nominal value" if found is None else f"is {found:.6f}"
    words += [
        "",
        "## The telemetry",
        f"`{MEASUREMENTS}` has the measurements as the problem has them. The log likelihood ",
    ]
    words[-1] += f"at the nominal values {told}."
    words += [
        "",
        f"`{ORIGIN}` has the nominal values and the hashes of the files:",
        "",
        "| file | SHA-256 |",
        "|---|---|",
    ]
    words += [f"| `{comment(file)}` | `{sha256}` |" for file, sha256 in hashes.items()]
    words += [
        "",
        "## Operating range",
        "Not known: the problem does not state one. Say here where the twin may be used.",
        "",
        "## Do not use when",
        "- nobody has looked at the priors: see above.",
        "",
        "## Source of the equations",
        f"`{comment(tables.sbml.name)}`. Cite who made the model.",
        "",
    ]
    return "\n".join(words)


def _origin(problem: str, hashes: Mapping[str, str], nominal: Mapping[str, float], found: float | None) -> str:
    known = found if found is not None and math.isfinite(found) else None
    content = {
        "problem": problem,
        "log_likelihood": known,
        "nominal": nominal,
        "files": hashes,
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
