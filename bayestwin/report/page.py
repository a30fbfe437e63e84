"""Pages from templates: one file that needs nothing beside itself, with all text that comes from users escaped.

Every page extends `base.html`, and what its policy lets run is the one script and the one style sheet that stand there.
"""

import ast
import base64
import hashlib
import importlib.resources
import math
import re
from collections.abc import Mapping
from typing import Any

import jinja2
from markupsafe import Markup, escape

from bayestwin._base.wording import Written, unit_text
from bayestwin.report.style import DARK, LIGHT


def fill(template: str, content: Mapping[str, Any]) -> str:
    """Fill in a template of this package.

    Args:
        template: Its name, `template.html` for instance.
        content: What it shows, by name.

    Returns:
        The page as text, to be written as UTF-8.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_read),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["function"] = function_alone
    environment.filters["prose"] = _prose
    environment.filters["unit"] = unit_text
    environment.filters["value"] = _value
    colours = {"light": LIGHT, "dark": DARK}
    allowed = {
        kind: _hash(environment.get_template(name).render(colours))
        for kind, name in (("style-src-elem", "style.html"), ("script-src", "script.html"))
    }
    # Attributes hold what matplotlib says about each line; they can name colours, and load nothing.
    rules = ["default-src 'none'", "base-uri 'none'", "form-action 'none'", "style-src-attr 'unsafe-inline'"]
    policy = "; ".join([*rules, *(f"{kind} '{known}'" for kind, known in allowed.items())])
    return environment.get_template(template).render({**colours, "policy": Markup(policy), "version": "", **content})


def function_alone(text: str) -> str:
    """A lambda without what stands around it in its line of source; text with none, or with several, as it is."""
    starts = [found.start() for found in re.finditer(r"\blambda\b", text)]
    if len(starts) != 1 or text.startswith(("def ", "@")):
        return text
    for end in range(len(text), starts[0], -1):
        part = text[starts[0] : end]
        try:
            tree = ast.parse(part, mode="eval").body
        except SyntaxError:
            continue
        first = tree.elts[0] if isinstance(tree, ast.Tuple) else tree
        return ast.get_source_segment(part, first) or text
    return text


def _hash(element: str) -> str:
    """What a Content-Security-Policy calls the content of a `<script>` or `<style>`."""
    content = element[element.index(">") + 1 : element.rindex("</")]
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


def _value(text: object) -> str | None:
    """The number that a text shows, with all its digits; None where it shows none."""
    if not isinstance(text, Written):
        return None
    if math.isfinite(text.value):
        return repr(text.value).removesuffix(".0")
    return "NaN" if math.isnan(text.value) else "Infinity" if text.value > 0 else "-Infinity"


def _read(name: str) -> str:
    return importlib.resources.files("bayestwin.report").joinpath("templates", name).read_text(encoding="utf-8")


def _with_units(text: str) -> str:
    """Units after a number as headings have them: 3 degC → 3 °C, 2 m**3/s → 2 m³/s, 5 kW*h → 5 kW·h."""
    units = r"(?<=\d )(?:delta_)?deg[CF]\b\S*|(?<=\d )[A-Za-z]+[\w/]*(?:(?:\*\*|\^)-?\d|\*[A-Za-z])\S*"
    return re.sub(units, lambda found: unit_text(found[0]), text)


def _prose(text: str) -> Markup:
    """Text from a person: escaped, names in backticks as code, blank lines between paragraphs."""
    paragraphs = [block.strip() for block in re.split(r"\n\s*\n", str(text)) if block.strip()]
    marked = [re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(_with_units(block)))) for block in paragraphs]
    return Markup("<br><br>".join(marked))
