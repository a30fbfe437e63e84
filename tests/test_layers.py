"""Imports go one way: a module imports only from the layers above its own, and nothing imports itself in a circle."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "bayestwin"

# From the model as data down to the command line; a module may import from every line above its own, and from no
# other. A folder stands for all of its modules, which may import each other.
LAYERS = (
    ("errors",),
    ("_base",),
    ("model",),
    ("telemetry",),
    ("dynamics",),
    ("density",),
    ("inference",),
    ("ppl",),
    ("results",),
    ("calibrate", "simulate"),
    ("predict",),
    ("petab",),
    ("fmi",),
    ("exported",),
    ("update",),
    ("assess",),
    ("check",),
    ("insight",),
    ("monitor",),
    ("report",),
    ("project",),
    ("registry",),
    ("serve",),
    ("cli",),
)
LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}

type Imports = dict[str, set[str]]
"""By module, as `report.parts`: the modules of the package that it imports."""


def read_imports(package: Path) -> Imports:
    """All imports between the modules of a package, those inside functions and for type checkers included.

    The package's own `__init__.py` is left out: it imports nothing until it is asked, see `test_public.py`.
    """
    files = {".".join(path.relative_to(package).with_suffix("").parts): path for path in package.rglob("*.py")}
    files = {name.removesuffix(".__init__"): path for name, path in files.items() if name != "__init__"}
    return {name: imported(path, files, name) for name, path in files.items()}


def imported(path: Path, files: dict[str, Path], importer: str) -> set[str]:
    """The modules that one file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"`{importer}` has a relative import: line {node.lineno}"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        inside = [name.removeprefix("bayestwin.") for name in names if name.split(".")[0] == "bayestwin"]
        for name in inside:
            # what is imported is a module, or something in one
            module = name if name in files else name.rpartition(".")[0]
            assert module in files, f"`{importer}` imports `{name}` from the package, not from the module that has it"
            found.add(module)
    return found


def wrong(imports: Imports) -> list[str]:
    """What is against the rules: modules outside the table, imports that do not go up, circles, folders too deep."""
    found = [f"`{name}` is in no layer" for name in imports if name.split(".")[0] not in LAYER_OF]
    found += [f"`{name}` lies too deep" for name in imports if name.count(".") > 1 + name.startswith("model.noise.")]
    for importer, modules in imports.items():
        for module in modules:
            ours, theirs = importer.split(".")[0], module.split(".")[0]
            if ours != theirs and LAYER_OF.get(theirs, -1) >= LAYER_OF.get(ours, len(LAYERS)):
                found.append(f"`{importer}` imports `{module}`, which does not lie above it")
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as reason:
        found.append("a circle: " + " → ".join(f"`{name}`" for name in reason.args[1]))
    return found


def test_imports_go_one_way() -> None:
    assert wrong(read_imports(PACKAGE)) == []


def test_the_table_lists_what_there_is() -> None:
    assert set(LAYER_OF) == {name.split(".")[0] for name in read_imports(PACKAGE)}


@pytest.mark.parametrize(
    ("path", "line", "found"),
    [
        ("density/density.py", "from bayestwin.calibrate import calibrate", "`density.density` imports `calibrate`"),
        ("model/twin.py", "import bayestwin.telemetry", "`model.twin` imports `telemetry`"),
        ("_base/units.py", "def f():\n    from bayestwin.model import twin", "`_base.units` imports `model.twin`"),
        ("inference/method.py", "from bayestwin.inference.nuts import nuts", "a circle: "),
        ("dynamics/deep/er.py", "", "`dynamics.deep.er` lies too deep"),
        ("helpers.py", "", "`helpers` is in no layer"),
    ],
)
def test_a_planted_fault_is_found(tmp_path: Path, path: str, line: str, found: str) -> None:
    for source in PACKAGE.rglob("*.py"):
        copy = tmp_path / source.relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    planted = tmp_path / path
    planted.parent.mkdir(exist_ok=True)
    before = planted.read_text(encoding="utf-8") if planted.exists() else ""
    planted.write_text(f"{before}\n{line}\n", encoding="utf-8")
    assert any(found in fault for fault in wrong(read_imports(tmp_path)))


def test_a_name_imported_from_the_package_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("from bayestwin import calibrate")
    with pytest.raises(AssertionError, match="not from the module that has it"):
        read_imports(tmp_path)
