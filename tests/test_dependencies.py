"""What the package asks for is what it uses, and an oracle of the tests is nothing that a user needs."""

import ast
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

MODULES = {
    "dask": "distributed",
    "excel": "openpyxl",
    "fmi": "fmpy",
    "gpu": "jax",
    "mlflow": "mlflow",
    "mqtt": "paho",
    "nutpie": "nutpie",
    "parquet": "pyarrow",
    "petab": "libsbml",
    "postgres": "psycopg",
    "serve": "fastapi",
}
"""By extra that users can ask for: the module that it brings. `test`, `docs` and `dev` are for those who develop."""

# `nutpie`, `openpyxl` and `pyarrow` are used by PyMC and pandas on our behalf: what asks for them is a word in a call.
ASKED_FOR_BY = {"nutpie": 'nuts_sampler="nutpie"', "pyarrow": "pd.read_parquet(", "openpyxl": 'engine="openpyxl"'}


def name_of(requirement: str) -> str:
    return re.match(r"[A-Za-z0-9_.-]+", requirement)[0]


def texts(folder: str) -> list[str]:
    """All Python of a folder, file by file, but for this one."""
    paths = sorted((ROOT / folder).rglob("*.py"))
    return [path.read_text(encoding="utf-8") for path in paths if path != pathlib.Path(__file__)]


def imported_in(folder: str) -> set[str]:
    """Top-level modules that a folder's Python imports, within functions too."""
    found = set()
    for node in (node for text in texts(folder) for node in ast.walk(ast.parse(text))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).split(".")[0])
    return found


def test_everything_that_is_required_is_used() -> None:
    # a part of ArviZ, `arviz_stats`, is imported for the whole, which users are shown
    used = {name.lower().removesuffix("_stats") for name in imported_in("bayestwin")}
    required = {name_of(one).replace("-", "_").lower() for one in PROJECT["dependencies"]}
    # an engine of xarray's, which is named and not imported; and a reader of files of ours, see test_netcdf4_reads.py
    engines = {"h5netcdf", "netcdf4"}
    assert required - used - engines - {"flatbuffers"} == set()  # by which JAX writes exported programs
    assert ".serialize()" in "".join(texts("bayestwin"))
    assert 'engine="h5netcdf"' in "".join(texts("bayestwin"))
    assert "import netCDF4" in "".join(texts("tests"))


def test_every_extra_has_code_and_a_test_behind_it() -> None:
    extras = set(PROJECT["optional-dependencies"])
    assert extras == {*MODULES, "test", "docs", "dev"}
    code, tests = "".join(texts("bayestwin")), "".join(texts("tests"))
    for extra, module in MODULES.items():
        words = ASKED_FOR_BY.get(module)
        assert module in imported_in("bayestwin") or (words and words in code), extra
        assert module in imported_in("tests") or f'"{module}"' in tests, extra


BLOCKED = """
import sys


class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("diffrax", "equinox", "lineax", "optimistix"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Absent())
import numpy as np
import numpyro.distributions as dist
import pandas as pd

import bayestwin as bt

twin = bt.Twin(
    name="tank",
    vector_field=lambda t, x, p, u: {"level": -p.rate * x.level * abs(x.level) ** 0.5},
    states={"level": bt.State(4.0)},
    parameters={"rate": bt.Parameter(dist.LogNormal(-1.0, 0.5))},
    observations={"level": bt.Observation(bt.Gaussian(0.05))},
)
t = np.linspace(0.0, 5.0, 21)
level = (4.0**-0.5 + 0.5 * 0.3 * t) ** -2.0  # the closed form, at a rate of 0.3
table = pd.DataFrame({"level": level}, index=pd.Index(t, name="time"))
posterior = bt.calibrate(twin, bt.read_telemetry(table), seed=0, num_warmup=100, num_samples=100, num_chains=2)
rate = posterior["posterior/rate"]
assert abs(float(rate.mean()) - 0.3) < 4.0 * float(rate.std()) < 0.1
print(posterior.attrs["solver_choice"]["method"])
"""


def test_without_diffrax_a_twin_is_solved_and_calibrated_as_with_it() -> None:
    done = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["tsit5"]


@pytest.mark.parametrize("folder", ["bayestwin", "models", "notebooks"])
def test_no_code_of_a_user_s_imports_an_oracle(folder: str) -> None:
    assert imported_in(folder) & {"diffrax", "scoringrules"} == set()


ONLY_IN_A_CLONE = re.compile(r"(?<!blob/main/)\bdocs/\w|README shows|`make \w+|models/[a-z]\w*/|benchmarks/")


def test_messages_point_to_nothing_that_only_a_clone_has() -> None:
    """In the code's text, but for comments and docstrings: paths of the repository, and what `make` does."""
    found = []
    for path in sorted((ROOT / "bayestwin").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docs = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                words = ONLY_IN_A_CLONE.findall(node.value)
                found += [f"{path.name}:{node.lineno} {word}" for word in words]
    assert found == []
