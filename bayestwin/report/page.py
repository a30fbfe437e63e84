"""Pages from templates, and how they look: one file that needs nothing beside itself, its palette, figures as SVG.

Every page extends `base.html`, and what its policy lets run is the one script and the one style sheet that stand there;
all text that comes from users is escaped. Colours are drawn as those of `LIGHT` and then replaced by CSS variables, so
that the page can change them.
"""

import ast
import base64
import hashlib
import importlib.resources
import io
import math
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import jinja2
import matplotlib.style
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from bayestwin._base.wording import Written, unit_text

# Told apart by lightness as well as by hue, for colour-blind readers and for grey print.
LIGHT = {
    "ink": "#1b2530",
    "muted": "#5d6975",
    "rule": "#d5dbe1",
    "paper": "#fffffe",
    "panel": "#f5f7f9",
    "calibrated": "#2a6496",
    "heldout": "#b25216",
    "shade": "#f2f3f5",
    "prior": "#8d97a1",
    "pass": "#22734d",
    "warn": "#8a5a00",
    "fail": "#b02a26",
    "chain1": "#2c6ba0",
    "chain2": "#d27d25",
    "chain3": "#3f9277",
    "chain4": "#b0548f",
    "chain5": "#8a7a1f",
    "chain6": "#5b5fb0",
}
DARK = {
    "ink": "#e4e9ee",
    "muted": "#9eabb7",
    "rule": "#3a444e",
    "paper": "#161b21",
    "panel": "#1e252c",
    "calibrated": "#6db1e8",
    "heldout": "#f0955a",
    "shade": "#20272e",
    "prior": "#8893a0",
    "pass": "#63c296",
    "warn": "#e5b454",
    "fail": "#f2827c",
    "chain1": "#6aaee6",
    "chain2": "#efa45a",
    "chain3": "#6cc7a8",
    "chain4": "#dd8dc0",
    "chain5": "#c9b955",
    "chain6": "#9ea2ee",
}
CHAINS = tuple(colour for name, colour in LIGHT.items() if name.startswith("chain"))

WIDTH = 9.6
"""Width of every figure in inches: what the page's column takes at its natural size."""

SETTINGS = {
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.labelcolor": LIGHT["muted"],
    "axes.titlecolor": LIGHT["ink"],
    "axes.edgecolor": LIGHT["muted"],
    "axes.facecolor": "none",
    "axes.linewidth": 0.6,
    "axes.xmargin": 0.01,
    "axes.ymargin": 0.08,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "axes.formatter.use_mathtext": False,
    "axes.formatter.limits": (-4, 6),
    "figure.facecolor": "none",
    "figure.autolayout": False,
    "grid.color": LIGHT["rule"],
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.labelcolor": LIGHT["ink"],
    "lines.linewidth": 1.2,
    "patch.linewidth": 0,
    "svg.fonttype": "none",
    "svg.hashsalt": "bayestwin",
    "text.color": LIGHT["ink"],
    "text.parse_math": False,
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
}


class Picture(NamedTuple):
    """A drawing for the page: its SVG, what it shows (for those who cannot see it) and its caption."""

    svg: Markup
    alt: str
    caption: str


def drawing() -> AbstractContextManager[None]:
    """Matplotlib's settings for the time that pictures are drawn; the user's own come back afterwards."""
    return matplotlib.style.context(SETTINGS, after_reset=True)


def figure(height: float, width: float = WIDTH, *, roomy: bool = True) -> Figure:
    """An empty figure of `width` × `height` inches that makes room for its labels by itself if `roomy`."""
    return Figure(figsize=(width, height), layout="constrained" if roomy else None)


def fitting(text: str, room: float, most: float) -> float:
    """Font size up to `most` at which a text fits into `room` points; letters are 0.62 of their size wide."""
    return max(4.5, min(most, room / (0.62 * max(len(text), 1))))


def marker(many: int) -> tuple[float, float]:
    """Size in points and opacity of the dots of one axes, when there are so many."""
    if many < 100:
        return 3.6, 1.0
    return (2.2, 1.0) if many < 500 else (1.2, 0.6)


def dots(
    axes: Axes, x: np.ndarray, y: np.ndarray, size: float, opacity: float, colour: str, *, square: bool = False
) -> None:
    """Draw points (x, y), both shaped (n,), as one path: some 15 bytes a point, where markers take 80.

    A stroke of no length with round ends is a disc, and with projecting ones a square; NaN are left out.
    """
    seen = np.isfinite(y)
    if not seen.any():
        return
    places = np.column_stack([x[seen], y[seen]])
    path = Path(np.repeat(places, 2, axis=0), np.tile([Path.MOVETO, Path.LINETO], len(places)))
    path.should_simplify = False
    axes.add_patch(
        PathPatch(
            path,
            fill=False,
            edgecolor=colour,
            linewidth=size,
            capstyle="projecting" if square else "round",
            alpha=opacity,
            zorder=3,
        )
    )
    axes.update_datalim(places)
    axes.autoscale_view()


def picture(drawn: Figure, name: str, alt: str, caption: str = "") -> Picture:
    """Turn a figure into inline SVG without scripts, metadata or addresses.

    Args:
        drawn: The figure.
        name: Unique on the page; prefixes every id inside the SVG.
        alt: What the picture shows, for screen readers.
        caption: What stands below it.
    """
    buffer = io.StringIO()
    # `savefig` would draw everything once more, only to find its size.
    FigureCanvasSVG(drawn).print_svg(buffer)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r"font-family: [^;]*; | transform=\"rotate\(-0 [^\"]*\"", "", text)
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", text)
    text = re.sub(r'(url\(|href=")#', rf"\1#{name}-", text)
    text = re.sub(r'\bd="[^"]*"', _round, text)
    text = re.sub(r"<path [^>]*stroke-linecap: square[^>]*>", _stretch, text)
    for colour, value in LIGHT.items():
        text = re.sub(rf"(:\s*){value}", rf"\1var(--{colour})", text)
    box = re.search(r'viewBox="[^"]*"', text)
    opening = f'<svg role="img" aria-label="{escape(alt)}" {box.group() if box else ""}>'
    body = re.sub(r"\s*\n\s*", "\n", text[text.index(">") + 1 :])
    return Picture(Markup(opening + body), alt, caption)


def _stretch(squares: re.Match[str]) -> str:
    """A stroke of no length and square ends shows on a screen and not on paper: PDF draws such ones with round ends."""
    return re.sub(r"M (\S+ \S+)L\1(?![\d.])", r"M \1h.02", squares.group())


def _round(attribute: re.Match[str]) -> str:
    """Path data to a hundredth of a point, on one line."""
    rounded = re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number.group()):.2f}", attribute.group())
    return re.sub(r"\s+", " ", rounded).replace(" L ", "L").replace('d=" ', 'd="')


# Pages.


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
