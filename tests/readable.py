"""What keeps somebody from reading a page: read off its HTML, and told in words."""

import re
from html.parser import HTMLParser


class Reader(HTMLParser):
    """Headings, landmarks, tables and pictures of a page, in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.landmarks: list[str] = []
        self.pictures: list[str] = []
        self.tables: list[dict[str, list]] = []
        self.lang = ""
        self._into: list[str] | None = None
        self._cell: dict | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "html":
            self.lang = found.get("lang") or ""
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag in ("main", "nav", "header", "footer"):
            self.landmarks.append(tag)
        if tag == "svg":
            self.pictures.append(found.get("aria-label") or "")
        if tag == "table":
            self.tables.append({"caption": [], "rows": [], "class": found.get("class")})
        if tag == "caption":
            self._into = self.tables[-1]["caption"]
        if tag == "tr":
            self.tables[-1]["rows"].append([])
        if tag in ("th", "td"):
            cell = {"tag": tag, "text": "", "scope": found.get("scope"), "class": found.get("class") or ""}
            cell |= {"unit": found.get("data-unit"), "value": found.get("data-value")}
            self.tables[-1]["rows"][-1].append(cell)
            self._cell = cell

    def handle_endtag(self, tag: str) -> None:
        if tag == "caption":
            self._into = None
        if tag in ("th", "td"):
            self._cell = None

    def handle_data(self, data: str) -> None:
        if self._into is not None:
            self._into.append(data)
        elif self._cell is not None:
            self._cell["text"] += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def faults(page: str) -> list[str]:
    """What keeps somebody from reading a page."""
    found, reader = [], read(page)
    if reader.lang != "en" or reader.headings.count(1) != 1 or reader.headings[0] != 1:
        found.append("no language, or not one `h1` in front")
    steps = zip(reader.headings, reader.headings[1:], strict=False)
    found += [f"h{high} follows h{low}" for low, high in steps if high > low + 1]
    found += [
        f"{name} {reader.landmarks.count(name)} times" for name in ("main", "nav") if reader.landmarks.count(name) < 1
    ]
    found += [f"no numbers: {words}" for words in reader.pictures if len(re.findall(r"\d+(?:\.\d+)?", words)) < 2]
    for table in reader.tables:
        caption = "".join(table["caption"])
        found += [] if len(caption) > 5 else ["a table without a caption"]
        if table["class"] != "facts":
            found += _columns(caption, table["rows"])
        found += [
            f"no scope: {cell['text']}"
            for row in table["rows"]
            for cell in row
            if cell["tag"] == "th" and not cell["scope"]
        ]
    return found


def _columns(caption: str, rows: list[list[dict]]) -> list[str]:
    """Numbers without a unit, and intervals that do not say which."""
    heads, found = rows[0], []
    names = [cell["text"].strip() for cell in heads]
    for place, head in enumerate(heads):
        numbers = [row[place] for row in rows[1:] if "n" in row[place]["class"].split()]
        if numbers and not head["unit"]:
            found.append(f"numbers without a unit: {caption}: {head['text']}")
        if head["unit"] == "unit of the row" and "unit" not in names:
            found.append(f"no column with the unit: {caption}")
    words = " ".join([caption, *names])
    if re.search(r"interval", words) and not re.search(r"equal-tailed|HDI|bootstrap", words):
        found.append(f"intervals of no kind: {caption}")
    if re.search(r"interval", words) and not re.search(r"prob\b|\d\u202f%", words):
        found.append(f"intervals of no prob: {caption}")
    if re.search(r"interval", words) and not re.search(r"[Pp]osterior|predictive", words):
        found.append(f"intervals of what: {caption}")
    return found
