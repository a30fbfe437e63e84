"""What a verb is given beside a model and its job: options, files that these name, earlier runs that it looks at."""

import hashlib
import pathlib
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from bayestwin.errors import InvalidInput, explain
from bayestwin.project.record import files_of

NONE: Mapping[str, Any] = types.MappingProxyType({})


class Given(NamedTuple):
    """What a run depends on that neither the model folder nor the job says.

    Attributes:
        options: Of the verb, as plain values.
        files: What options name, by option; the run keeps copies.
        runs: Folders of earlier runs of the model; the run keeps their names and the hashes of their results.
    """

    options: Mapping[str, Any] = NONE
    files: Mapping[str, pathlib.Path] = NONE
    runs: Sequence[pathlib.Path] = ()


NOTHING = Given()


def hashes_of(runs: Iterable[pathlib.Path]) -> dict[str, dict[str, str]]:
    """By the name of each run, the hashes of its results by their paths in its folder."""
    return {run.name: {name: sha256_of(run / name) for name in files_of(run) if name.endswith(".nc")} for run in runs}


def used_runs(run: pathlib.Path, record: Mapping[str, Any]) -> list[pathlib.Path]:
    """The folders of the runs that a run looked at: they lie beside it.

    Args:
        run: Its folder.
        record: Its record.

    Raises:
        InvalidInput: If one is not there, or its results have changed since.
    """
    folders = []
    for name, recorded in (record.get("uses") or {}).items():
        folder = run.parent / name
        changed = [file for file, sha256 in recorded.items() if sha256_of(folder / file) != sha256]
        if changed or not folder.is_dir():
            listed = ", ".join(f"`{file}`" for file in changed)
            message = explain(
                f"Run `{run.name}` cannot be made again: it looked at run `{name}`, which is not as it was.",
                expected=f"that run in `{folder}`, with the results that it had then",
                received=f"changed or missing: {listed}" if listed else "no such folder",
                advice=f"Restore it, or do `bayestwin {record.get('command')}` anew.",
            )
            raise InvalidInput(message)
        folders.append(folder)
    return folders


def named_value(option: str, word: str) -> dict[str, float]:
    """`aperture=0` as `{"aperture": 0.0}`.

    Args:
        option: Which it was given by, without its dashes.
        word: What was typed.

    Raises:
        InvalidInput: If it is something else.
    """
    name, _, value = word.partition("=")
    try:
        return {name.strip(): float(value)}
    except ValueError as reason:
        message = explain(
            f"`--{option} {word}` cannot be read.",
            expected=f"a name and a number: `--{option} {name.strip() or 'name'}=0`",
            received=f"`{word}`",
            advice="Give the option once for each name.",
        )
        raise InvalidInput(message) from reason


def sha256_of(path: pathlib.Path) -> str:
    """Hash of a file; empty where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
