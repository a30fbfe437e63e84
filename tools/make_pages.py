"""Writes the pages that are made from other files: `docs/cli.md` from the commands, `docs/examples.md` from `models/`.

Run it after a change of a command, a card or the README's table of models: `make pages`. A test says when one is stale.
`check-site FOLDER` looks instead whether the pages of a built site load anything from elsewhere.
"""

import html.parser
import inspect
import pathlib
import re
import sys
import typing
from collections.abc import Callable
from typing import NamedTuple

from typer.models import ArgumentInfo, OptionInfo

ROOT = pathlib.Path(__file__).parent.parent
PICTURES = "pictures"

CLI_HEAD = """\
<!-- Made by tools/make_pages.py: change the command's help, then `make pages`. -->
# Command line

What `bayestwin VERB --help` says, on one page. `bayestwin --version` prints the version. Exit codes: 0 done, 1 a run
that failed or must not be relied on, 2 bad input, 130 Ctrl-C (the draws made until then are kept).

| command | what it does |
|---|---|
"""

EXAMPLES_HEAD = """\
<!-- Made by tools/make_pages.py from the cards of models/ and the README's table: change those, then `make pages`. -->
# Examples

Each is a folder of `models/`: a twin, a job, telemetry, and a card that says what it assumes and when not to use it.
All but `armadillo` and `lynx_hare` have simulated telemetry, whose known truth stands on the card. In the pictures,
bands hold 50 % and 90 % of what the posterior predicts; on grey is what was calibrated, on white what was held out.
"""


class Option(NamedTuple):
    """An argument or an option of a command, as its signature declares it."""

    written: str
    words: str
    default: str
    is_argument: bool


def cli_page() -> str:
    """The reference of the command line, from what the commands declare: the source of their `--help` as well."""
    from bayestwin.cli import app

    commands = {command.callback.__name__: command.callback for command in app.registered_commands}
    rows = [f"| [`{name}`](#{name}) | {_words(command)[0]} |" for name, command in commands.items()]
    sections = [_section(name, command) for name, command in commands.items()]
    return "\n".join([CLI_HEAD + "\n".join(rows), "", *sections])


def _words(command: Callable[..., None]) -> list[str]:
    return (inspect.getdoc(command) or "").splitlines()


def _section(name: str, command: Callable[..., None]) -> str:
    """One command: its words, its example as code, and a table of its arguments and options."""
    options = [option for item in inspect.signature(command).parameters.values() if (option := _option(item))]
    usage = " ".join(["bayestwin", name, *(option.written for option in options if option.is_argument), "[OPTIONS]"])
    words = [re.sub(r"^Example: (.+)$", r"```sh\n\1\n```", line) for line in _words(command)]
    rows = [f"| {_code(option.written)} | {option.words} | {option.default} |" for option in options]
    table = ["| argument, option | | default |", "|---|---|---|", *rows]
    return "\n".join([f"## {name}", "", f"`{usage}`", "", *words, "", *table, ""])


def _code(written: str) -> str:
    return ", ".join(f"`{part}`" for part in written.split(", "))


def _option(item: inspect.Parameter) -> Option | None:
    """What one argument of a command's function declares; None where it is hidden."""
    takes, *extra = typing.get_args(item.annotation)
    (declared,) = (one for one in extra if isinstance(one, ArgumentInfo | OptionInfo))
    if declared.hidden:
        return None
    words = " ".join((declared.help or "").split()).replace("|", "\\|")
    required = item.default is inspect.Parameter.empty
    kinds = [kind for kind in typing.get_args(takes) or (takes,) if kind is not type(None)]
    several = typing.get_origin(takes) is list or any(typing.get_origin(kind) is list for kind in kinds)
    if isinstance(declared, ArgumentInfo):
        written = item.name.upper() + (" …" if several else "")
        return Option(written if required else f"[{written}]", words, "required" if required else "", is_argument=True)
    # In `Annotated`, the first of the flags arrives where a default would stand.
    flags = [flag for flag in (declared.default, *(declared.param_decls or ())) if isinstance(flag, str)]
    flags = flags or [f"--{item.name.replace('_', '-')}"]
    value = "" if takes is bool else f" {item.name.upper()}" + (" …" if several else "")
    default = "required" if required else _default(item.default)
    return Option(", ".join(flag + value for flag in flags), words, default, is_argument=False)


def _default(value: object) -> str:
    """What holds where it is left out; nothing is said of switches and of what has no default."""
    return "" if value is None or isinstance(value, bool) or value in ((), []) else f"`{value}`"


def examples_page() -> str:
    """One entry a model folder: the sentence of its card, what it shows, a picture where there is one, the command."""
    folders = sorted(path.parent for path in (ROOT / "models").glob("*/twin.py"))
    return "\n".join([EXAMPLES_HEAD, *(_example(folder) for folder in folders)])


def _example(folder: pathlib.Path) -> str:
    card = (folder / "card.md").read_text(encoding="utf-8")
    sentence = " ".join(card.split("\n\n")[1].split())
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| `{folder.name}` \| (.+) \| (.+) \| (\d+) \|$", readme, flags=re.MULTILINE)
    if row is None:
        message = f"the README's table of models has no row for `{folder.name}`"
        raise SystemExit(message)
    what, shows, inferred = row.groups()
    picture = f"{PICTURES}/{folder.name}.png"
    about = what[0].upper() + what[1:]
    lines = [f"## {folder.name}", "", sentence, "", f"**Shows** {shows}. {inferred} quantities are inferred."]
    if (ROOT / "docs" / picture).exists():
        lines += ["", f"![{about}: observations and what the posterior predicts]({picture})"]
    return "\n".join([*lines, "", "```sh", f"bayestwin calibrate models/{folder.name}", "```", ""])


class _Loaded(html.parser.HTMLParser):
    """Collects what a page loads by itself, as opposed to what it links to."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "link" and given.get("rel") in {"canonical", "next", "prev"}:
            return
        loads = [given.get("src", ""), given.get("data", "")] + ([given.get("href", "")] if tag == "link" else [])
        self.addresses += [address for address in loads if re.match(r"(?i)(https?:)?//", address)]


def loaded_from_elsewhere(site: pathlib.Path) -> list[str]:
    """What pages and style sheets of a built site load from another host, each with the file that does."""
    found = []
    for path in sorted(site.rglob("*.html")):
        page = _Loaded()
        page.feed(path.read_text(encoding="utf-8"))
        found += [f"{path.relative_to(site)}: {address}" for address in page.addresses]
    for path in sorted(site.rglob("*.css")):
        sheet = path.read_text(encoding="utf-8")
        urls = re.findall(r"(?:url\(|@import\s+)[\"']?((?:https?:)?//[^\"')\s]+)", sheet)
        found += [f"{path.relative_to(site)}: {address}" for address in urls]
    return found


PAGES = {"cli.md": cli_page, "examples.md": examples_page}


def main(arguments: list[str]) -> None:
    """Write the pages, or look at a built site."""
    if arguments[:1] == ["check-site"]:
        site = pathlib.Path(arguments[1])
        if not (site / "index.html").is_file():
            sys.exit(f"error: {site} holds no site.")
        if loaded := loaded_from_elsewhere(site):
            sys.exit("error: pages load something from elsewhere.\n  " + "\n  ".join(loaded))
        return
    for name, page in PAGES.items():
        (ROOT / "docs" / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
