"""`twin.py` of a model folder: the user's own code, run because the user typed the folder that it is in."""

import contextlib
import importlib.util
import os
import pathlib
import re
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from typing import NamedTuple

from bayestwin.errors import BayestwinError, InvalidTwin, explain
from bayestwin.model.error import ModelError
from bayestwin.model.twin import Twin

SIMPLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""Names that are folders everywhere."""

SPOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _-]*")
"""Names that are, with spaces for which `_` stands."""


class Defined(NamedTuple):
    """What a `twin.py` defines.

    Attributes:
        twin: Its variable `twin`.
        model_errors: Its variable `model_errors`, what the twin is to be compared under; empty without one.
        ablations: Its variable `ablations`, what is to be switched off for a comparison; empty without one.
    """

    twin: Twin
    model_errors: Mapping[str, ModelError | None]
    ablations: Mapping[str, Mapping[str, float]]


def import_model(path: pathlib.Path) -> Defined:
    """Run a `twin.py` and take its variables `twin`, `model_errors` and `ablations`.

    What it prints goes to standard error: standard output belongs to the command, and may be JSON.

    Raises:
        InvalidTwin: If there is no such file, it does not run (naming the line), it defines no twin, or `model_errors`
            or `ablations` is no mapping of simple names to what they should be.
    """
    if not path.is_file():
        raise InvalidTwin(_absent(path))
    name = f"bayestwin_model_{pathlib.Path(os.path.abspath(path)).parent.name}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and inspect look modules up by name
    try:
        with contextlib.redirect_stdout(sys.stderr):
            # Compiled here: no byte code is left in the user's folder, and none older than the source is taken.
            exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    except BayestwinError:
        raise
    except (Exception, SystemExit) as reason:
        message = explain(
            f"`{path}` does not run.",
            expected="Python that assigns `twin = bt.Twin(…)`",
            received=_failure(reason, path),
            advice="Correct that line.",
        )
        raise InvalidTwin(message) from reason
    twin = getattr(module, "twin", None)
    if not isinstance(twin, Twin):
        message = explain(
            f"`{path}` defines no twin.",
            expected="`twin = bt.Twin(…)` at the top level",
            received="no variable `twin`" if twin is None else f"`twin` is a {type(twin).__name__}",
            advice="Assign the twin to the variable `twin`.",
        )
        raise InvalidTwin(message)
    return Defined(twin, _model_errors(module, path), _ablations(module, path))


def _model_errors(module: types.ModuleType, path: pathlib.Path) -> Mapping[str, ModelError | None]:
    found = getattr(module, "model_errors", {})
    fault = _fault(found, SIMPLE, lambda error: error is None or isinstance(error, ModelError))
    if not fault:
        return found
    message = explain(
        f"`model_errors` of `{path}` cannot be used.",
        expected="a mapping of names, of letters, digits, `-` and `_`, to model errors or None",
        received=fault,
        advice='For example `model_errors = {"none": None, "discrepancy": bt.Discrepancy(…)}`.',
    )
    raise InvalidTwin(message)


def _ablations(module: types.ModuleType, path: pathlib.Path) -> Mapping[str, Mapping[str, float]]:
    found = getattr(module, "ablations", {})
    fault = _fault(found, SPOKEN, lambda off: isinstance(off, Mapping) and bool(off))
    if not fault:
        return found
    message = explain(
        f"`ablations` of `{path}` cannot be used.",
        expected="a mapping of names, of letters, digits, spaces, `-` and `_`, to parameters and their values",
        received=fault,
        advice='For example `ablations = {"no sun": {"aperture": 0.0}}`.',
    )
    raise InvalidTwin(message)


def _fault(found: object, named: re.Pattern[str], fits: Callable[[object], bool]) -> str:
    """What is wrong with a mapping of names to something that fits; empty where nothing is."""
    if not isinstance(found, Mapping):
        return f"a {type(found).__name__}"
    if unfit := [name for name in found if not (isinstance(name, str) and named.fullmatch(name))]:
        return f"the name {unfit[0]!r}"
    if unfit := [name for name, one in found.items() if not fits(one)]:
        return f"`{unfit[0]}` is {found[unfit[0]]!r}, a {type(found[unfit[0]]).__name__}"
    if len({name.lower() for name in found}) < len(found):
        return f"names that differ only in capitals: {', '.join(found)}"
    return ""


def _absent(path: pathlib.Path) -> str:
    there = sorted(found.name for found in path.parent.iterdir())
    run = "This is the folder of a run: name that of its model, and the run by `--run`."
    return explain(
        f"Model folder `{path.parent}` has no `{path.name}`.",
        expected="a file that assigns `twin = bt.Twin(…)`",
        received=", ".join(f"`{name}`" for name in there) or "an empty folder",
        advice=run if "run.json" in there else "The README shows one.",
    )


def _failure(reason: BaseException, path: pathlib.Path) -> str:
    """What went wrong, and in which line of the file."""
    lines = [frame.lineno for frame in traceback.extract_tb(reason.__traceback__) if frame.filename == str(path)]
    line = lines[-1] if lines else getattr(reason, "lineno", "?")
    what = reason.msg if isinstance(reason, SyntaxError) else reason
    return f"{type(reason).__name__} in line {line}: {what}"
