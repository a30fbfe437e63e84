"""Do the tests notice planted bugs? `python benchmarks/mutants.py --num 60 --seed 0 bayestwin/assess/coverage.py`.

Each mutant is the package with one small change, in a copy of this project. The fast tests of `tests/<layer>/` that
reach the changed lines run on it, those first that are named after its file, until one fails: then it is killed. What
reaches what is measured once by coverage.py, each file of tests in a process of its own, and kept in `.cache/mutants`.
Our own, since the others do not fit: mutmut 3 forks after the imports, with which JAX hangs, and wraps functions whose
sources and signatures are read here; cosmic-ray 8 changes the working tree, runs one command on all, draws no samples.
"""

import argparse
import ast
import difflib
import hashlib
import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import coverage

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDERS = ("bayestwin/assess", "bayestwin/density", "bayestwin/dynamics")
FAST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow and not wheel")
KILLED, SURVIVED, TIMED_OUT, UNREACHED = "killed", "survived", "timed out", "not reached"
BAD_CALL, ALL_SLOW = 4, 5
"""What pytest exits with where a test is not there, and where no test is fast."""

SYMBOLS = {
    **{ast.Lt: "< <= >=", ast.LtE: "<= < >", ast.Gt: "> >= <=", ast.GtE: ">= > <", ast.Eq: "== !=", ast.NotEq: "!= =="},
    **{ast.Add: "+ -", ast.Sub: "- +", ast.Mult: "* /", ast.Div: "/ *", ast.Pow: "** *", ast.FloorDiv: "// *"},
    **{ast.Mod: "% *", ast.BitAnd: "& |", ast.BitOr: "| &", ast.And: "and or", ast.Or: "or and"},
    **{ast.Is: "is is_not", ast.IsNot: "is_not is", ast.In: "in not_in", ast.NotIn: "not_in in"},
}
"""How each operator is written, and what stands in its place."""
PAIRS = (("min", "max"), ("minimum", "maximum"), ("any", "all"), ("sum", "mean"), ("argmin", "argmax"))
NAMES = {one: other for pair in PAIRS for one, other in (pair, pair[::-1])}

type Change = tuple[int, int, str]
"""The bytes from one place to another are replaced by a text."""


class Mutant(NamedTuple):
    """A file with one change."""

    path: str
    line: int
    lines: tuple[int, ...]
    """Tests that run one of these may see the change."""
    change: Change

    def source(self, old: bytes) -> bytes:
        begin, end, text = self.change
        return old[:begin] + text.encode() + old[end:]

    def diff(self) -> list[str]:
        old = (ROOT / self.path).read_bytes()
        texts = (one.decode().splitlines() for one in (old, self.source(old)))
        return [line for line in list(difflib.unified_diff(*texts, n=0, lineterm=""))[2:] if line[0] in "+-"]


class Result(NamedTuple):
    mutant: Mutant
    outcome: str
    seconds: float
    by: str
    """The test that failed."""


def planted(path: str, old: str, new: str) -> Mutant:
    """The mutant of a file in which `old`, which stands there once, is `new`."""
    before, *after = (ROOT / path).read_text(encoding="utf-8").split(old)
    if len(after) != 1:
        raise ValueError(f"`{old}` stands in {path} {len(after)} times. Expected: once. Plant the bug elsewhere.")
    line, begin = before.count("\n") + 1, len(before.encode())
    return Mutant(path, line, tuple(range(line, line + old.count("\n") + 1)), (begin, begin + len(old.encode()), new))


def mutants_of(path: str) -> list[Mutant]:
    """All mutants of a file that can be compiled."""
    source, kept = (ROOT / path).read_bytes(), []
    tree = ast.parse(source)
    bodies = [
        range(one.body[0].lineno, one.end_lineno or 0) for one in ast.walk(tree) if isinstance(one, ast.FunctionDef)
    ]
    lines = tuple(sorted({line for body in bodies for line in body}))  # any function may use what stands outside of all
    for one in dict.fromkeys(Mutant(path, *parts) for parts in Changes(source).of(tree, lines)):
        try:
            compile(one.source(source), path, "exec", dont_inherit=True)
        except SyntaxError:
            continue
        kept.append(one)
    return kept


class Changes:
    """Walks through a source, but not through texts, annotations and what refuses, and says what can be changed."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.starts = list(itertools.accumulate(map(len, source.splitlines(keepends=True)), initial=0))

    def span(self, node: Any) -> tuple[int, int]:
        return self.starts[node.lineno - 1] + node.col_offset, self.starts[node.end_lineno - 1] + node.end_col_offset

    def of(
        self, node: Any, lines: tuple[int, ...], inside: bool = False
    ) -> Iterator[tuple[int, tuple[int, ...], Change]]:
        if isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr) or getattr(node, "arg", "") == "strict":
            return
        if isinstance(node, ast.FunctionDef):
            lines, inside = tuple(range(node.body[0].lineno, node.end_lineno + 1)), True
        elif isinstance(node, ast.stmt) and inside:
            last = node.body[0].lineno - 1 if hasattr(node, "body") else node.end_lineno
            lines = tuple(range(node.lineno, max(last, node.lineno) + 1))
        for change in self.changes(node):
            yield self.source[: change[0]].count(b"\n") + 1, lines, change
        for name, value in ast.iter_fields(node):
            if name not in ("annotation", "returns", "decorator_list"):
                for child in value if isinstance(value, list) else [value]:
                    yield from self.of(child, lines, inside) if isinstance(child, ast.AST) else ()

    def changes(self, node: Any) -> Iterator[Change]:
        match node:
            case ast.Compare():
                for left, symbol, right in zip(
                    [node.left, *node.comparators], node.ops, node.comparators, strict=False
                ):
                    yield from self.between(left, symbol, right)
            case ast.BinOp():
                yield from self.between(node.left, node.op, node.right)
            case ast.BoolOp():
                yield from self.between(node.values[0], node.op, node.values[1])
            case ast.AugAssign():
                yield from self.between(node.target, node.op, node.value)
            case ast.Constant(value=bool() as value):
                yield *self.span(node), str(not value)
            case ast.Constant(value=int() | float() as value):
                other = 1 - value if value in (0, 1) else value + 1 if isinstance(value, int) else 2 * value
                yield *self.span(node), str(other)
            case ast.UnaryOp():
                yield self.span(node)[0], self.span(node.operand)[0], ""
            case ast.If() | ast.IfExp() | ast.While() if isinstance(node.test, ast.Name | ast.Attribute | ast.Call):
                begin, end = self.span(node.test)
                yield begin, end, f"(not {self.source[begin:end].decode()})"
            case ast.Return() if node.value is not None:
                yield *self.span(node), "return None"
            case ast.Expr(value=ast.Call()):
                yield *self.span(node), "pass"
            case ast.Call():
                name, end = getattr(node.func, "attr", getattr(node.func, "id", "")), self.span(node.func)[1]
                if name in NAMES:
                    yield end - len(name), end, NAMES[name]
                # without one of its named arguments, each of which goes with the comma before it
                for before, one in itertools.pairwise(sorted([*node.args, *node.keywords], key=self.span)):
                    if isinstance(one, ast.keyword) and one.arg != "strict":
                        yield self.span(before)[1], self.span(one)[1], ""

    def between(self, left: Any, symbol: Any, right: Any) -> Iterator[Change]:
        begin, end = self.span(left)[1], self.span(right)[0]
        own, *others = (word.replace("_", " ") for word in SYMBOLS.get(type(symbol), "@").split())
        at = begin + self.source[begin:end].find(own.encode())
        for other in others if at >= begin else ():
            yield at, at + len(own), other


class Workshop:
    """A copy of this project in which mutants are tried, and what its tests reach."""

    def __init__(self, folder: pathlib.Path, tests: Sequence[str] = ()) -> None:
        self.tests = tests
        self.copy, self.compiled = folder / "copy", folder / "compiled"
        self.copy.mkdir()
        for part in ("bayestwin", "tests", "models", "pyproject.toml"):
            (shutil.copytree if (ROOT / part).is_dir() else shutil.copy)(ROOT / part, self.copy / part)
        patterns = ("bayestwin/**/*.py", "tests/*.py", "tests/*/conf*.py")
        found = (path for pattern in patterns for path in self.copy.glob(pattern))
        shared = [path for path in found if not path.name.startswith("test_")]
        self.shared = b"".join(path.read_bytes() for path in sorted(shared))
        self.reached: dict[str, dict[str, Any]] = {}
        self.tried = 0

    def run(self, *arguments: str, limit: float) -> tuple[int | None, float, str]:
        """What Python exits with (None beyond the limit), its seconds, and what it printed."""
        own = {"PYTHONPATH": str(self.copy), "JAX_COMPILATION_CACHE_DIR": str(self.compiled)}
        own |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.05"}
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
        begun = time.perf_counter()
        with subprocess.Popen([sys.executable, *arguments], cwd=self.copy, env=os.environ | own, **pipes) as child:
            try:
                words, code = child.communicate(timeout=limit)[0], child.returncode
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)  # with what the tests started
                words, code = child.communicate()[0], None
        return code, time.perf_counter() - begun, words

    def reach(self, test: str) -> dict[str, Any]:
        """Seconds of a file of tests, and the lines that it runs, by file."""
        key = hashlib.sha256(self.shared + (self.copy / test).read_bytes()).hexdigest()
        kept = ROOT / ".cache" / "mutants" / f"{key}.json"
        if kept.exists():
            return json.loads(kept.read_text())
        data = self.copy / "reached"
        code, seconds, words = self.run("-m", "coverage", "run", f"--data-file={data}", *FAST, test, limit=1800)
        if code not in (0, ALL_SLOW):
            raise RuntimeError(f"{test} fails without a mutant:\n{words[-3000:]}")
        ran = coverage.CoverageData(str(data))
        ran.read()
        lines = {str(pathlib.Path(one).relative_to(self.copy)): ran.lines(one) for one in ran.measured_files()}
        found = {"seconds": seconds, "lines": {} if code == ALL_SLOW else lines}
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(found))
        return found

    def tests_of(self, mutant: Mutant) -> tuple[list[str], float]:
        """Files of tests that reach it, and their seconds together."""
        path, lines = pathlib.Path(mutant.path), set(mutant.lines)
        mirror = pathlib.Path("tests", *path.parts[1:-1])
        tests = self.tests or sorted(str(mirror / one.name) for one in (self.copy / mirror).glob("test_*.py"))
        self.reached |= {test: self.reach(test) for test in tests if test not in self.reached}
        runs = {test: set(self.reached[test]["lines"].get(mutant.path, ())) for test in tests}
        found = {test: self.reached[test]["seconds"] for test in tests if lines & runs[test]}
        return sorted(found, key=lambda test: (path.stem not in test, found[test])), sum(found.values())

    def judge(self, mutant: Mutant, *named: str) -> Result:
        """Do the tests that reach a mutant notice it, or those named?"""
        tests, seconds = (named, 300.0) if named else self.tests_of(mutant)
        if not tests:
            return Result(mutant, UNREACHED, 0.0, "")
        place = self.copy / mutant.path
        old, self.tried = place.read_bytes(), self.tried + 1
        place.write_bytes(mutant.source(old))
        os.utime(place, (self.tried, self.tried))  # byte code is told apart by time and size alone
        code, taken, words = self.run(*FAST, "-x", *tests, limit=60 + 3 * seconds)
        place.write_bytes(old)
        if code == BAD_CALL and not words.startswith("ImportError while loading conftest"):
            raise RuntimeError(f"pytest did not run {' '.join(tests)}:\n{words[-3000:]}")
        failed = [line.split()[1] for line in words.splitlines() if line.startswith(("FAILED ", "ERROR "))]
        return Result(mutant, TIMED_OUT if code is None else KILLED if code else SURVIVED, taken, (failed or [""])[0])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("paths", nargs="*", default=FOLDERS, help="files and folders of the package")
    options.add_argument("--num", type=int, default=60, help="mutants in the sample")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--tests", nargs="*", default=(), help="only these files, not all of the layer's folder")
    options.add_argument("--json", type=pathlib.Path, help="file for the results")
    asked = options.parse_args()
    places = [pathlib.Path(one).resolve() for one in asked.paths]
    files = [str(file.relative_to(ROOT)) for one in places for file in (sorted(one.rglob("*.py")) or [one])]
    every = [one for file in files for one in mutants_of(file)]
    sample = sorted(random.Random(asked.seed).sample(every, min(asked.num, len(every))))
    print(f"{len(sample)} of {len(every)} mutants of {len(files)} files, seed {asked.seed}", flush=True)
    counts, records = Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        workshop = Workshop(pathlib.Path(folder), asked.tests)
        for mutant in sample:
            _, outcome, seconds, by = workshop.judge(mutant)
            words = f"{outcome:11} {seconds:4.0f} s  {mutant.path}:{mutant.line}  {by}"
            print(words, *mutant.diff(), sep="\n    ", flush=True)
            counts[mutant.path, outcome] += 1
            named = {"path": mutant.path, "line": mutant.line, "diff": mutant.diff()}
            records.append(named | {"outcome": outcome, "seconds": round(seconds, 1), "by": by})
            if asked.json:
                asked.json.write_text(json.dumps(records, indent=1))
    for (path, outcome), num in sorted(counts.items()):
        print(f"{path:40} {num:4} {outcome}")


if __name__ == "__main__":
    main()
