"""`RESULTS.md`: each benchmark rewrites its own section and leaves the others."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import re
from collections.abc import Sequence

PAGE = pathlib.Path(__file__).with_name("RESULTS.md")
OPENING = "# Results\n\nWritten by the programs of this folder, one section each; README.md says how to run them.\n"
PACKAGES = ("bayestwin", "jax", "diffrax", "numpyro", "blackjax", "pystan", "pymc", "nutpie")


def write_section(title: str, text: str) -> None:
    """Put `text` under the heading `title`, in place of what stands there."""
    page = PAGE.read_text() if PAGE.is_file() else OPENING
    section = f"## {title}\n\n{text.strip()}\n"
    there = re.compile(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
    page = there.sub(lambda _: section + "\n", page) if there.search(page) else f"{page.rstrip()}\n\n{section}"
    PAGE.write_text(page.rstrip() + "\n")


def earlier(title: str) -> list[str]:
    """The lines that stand under the heading `title` so far; none where there is no such section."""
    page = PAGE.read_text() if PAGE.is_file() else ""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    return found[1].splitlines() if found else []


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def circumstances(device: str) -> str:
    """On what and with what it was measured."""
    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    where = f"{os.cpu_count()} cores ({platform.machine()})" + (", one GPU" if device == "gpu" else "")
    return f"{datetime.date.today()}, {where}, Python {platform.python_version()}, {', '.join(versions)}."


def number(value: float | None) -> str:
    """Three significant digits; nothing where there is no number."""
    if value is None or value != value:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
