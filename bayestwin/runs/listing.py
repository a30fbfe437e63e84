"""Which models there are, without running their code."""

import pathlib


def list_models(root: pathlib.Path) -> list[tuple[pathlib.Path, str]]:
    """Model folders beneath `root`, each with the first line of words on its card."""
    found = sorted(path.parent for path in root.glob("*/twin.py")) if root.is_dir() else []
    return [(folder, _first_words(folder / "card.md")) for folder in found]


def _first_words(card: pathlib.Path) -> str:
    if not card.is_file():
        return "(no card.md)"
    lines = [line.strip() for line in card.read_text(encoding="utf-8").splitlines()]
    return next((line for line in lines if line and not line.startswith("#")), "(empty card.md)")
