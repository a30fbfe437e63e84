"""Pages from templates: one file that needs nothing beside itself, with all text that comes from users escaped."""

import importlib.resources
import re
from collections.abc import Mapping
from typing import Any

import jinja2
from markupsafe import Markup, escape

from bayestwin.report.notation import unit_text
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
    environment.filters["prose"] = _prose
    environment.filters["unit"] = unit_text
    return environment.get_template(template).render({"light": LIGHT, "dark": DARK, **content})


def _read(name: str) -> str:
    return importlib.resources.files("bayestwin.report").joinpath(name).read_text(encoding="utf-8")


def _prose(text: str) -> Markup:
    """Text from a person: escaped, names in backticks as code, blank lines between paragraphs."""
    paragraphs = [block.strip() for block in re.split(r"\n\s*\n", str(text)) if block.strip()]
    marked = [re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(block))) for block in paragraphs]
    return Markup("<br><br>".join(marked))
