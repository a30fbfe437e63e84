"""Which models there are, without running their code."""

import pathlib

from bayestwin.errors import InvalidInput, explain


def list_models(root: pathlib.Path) -> list[tuple[pathlib.Path, str]]:
    """Model folders beneath `root`, each with the first line of words on its card.

    Raises:
        InvalidInput: If there is no such folder.
    """
    if not root.is_dir():
        message = explain(
            f"There is no folder `{root}`.",
            expected="a folder that holds model folders",
            received="a file" if root.exists() else "nothing under that path",
            advice="Start where `models/` is, or name the folder: `bayestwin models FOLDER`.",
        )
        raise InvalidInput(message)
    found = sorted(path.parent for path in root.glob("*/twin.py"))
    return [(folder, _first_words(folder / "card.md")) for folder in found]


def _first_words(card: pathlib.Path) -> str:
    if not card.is_file():
        return "(no card.md)"
    lines = [line.strip() for line in card.read_text(encoding="utf-8", errors="replace").splitlines()]
    return next((line for line in lines if line and not line.startswith("#")), "(empty card.md)")
