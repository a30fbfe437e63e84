"""The page about assets that were calibrated one by one: the verdict on each, and their quantities side by side."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from bayestwin._base.wording import Scale, count, fixed, number, percent, scale_for
from bayestwin.report.page import Picture, fill
from bayestwin.report.prose import Verdict, listed

MOST_COLUMNS = 6
"""Quantities that have a column in the table."""

RANKS = {"failed": ("fail", 0), "failed gates": ("fail", 1), "warn": ("warn", 2), "passed": ("pass", 3)}
"""By verdict, its mark and its place in a sorted table."""


class AloneRow(NamedTuple):
    """One asset in the table of the page; `rank` is what verdicts are sorted by."""

    name: str
    status: str
    rank: int
    reasons: str
    observed: str
    covered: str
    good: bool | None
    values: list[str]


def render_each(
    name: str, version: str, told: Mapping[str, Any], picture: Picture | None, *, provenance: Mapping[str, str]
) -> str:
    """Write the page, which needs nothing beside itself; all text from users is escaped.

    Args:
        name: Of the twin.
        version: Of this package.
        told: Content of `fleet.json`.
        picture: The quantities of all, side by side; None where there are none.
        provenance: What the page says about where it comes from.
    """
    assets = told["assets"]
    columns = _columns(assets)
    page = {
        "name": name,
        "version": version,
        "verdict": _verdict(told),
        "prob": percent(0.9),
        "heads": [(f"{quantity}: mean", scale.unit or "1") for quantity, scale in columns.items()],
        "assets": [_row(asset, one, columns) for asset, one in assets.items()],
        "picture": picture,
        "set_aside": list(told["set_aside"].values()),
        "provenance": list(provenance.items()),
    }
    return fill("each.html", page)


def _verdict(told: Mapping[str, Any]) -> Verdict:
    """How many passed, and which did not."""
    assets = told["assets"]
    bad = [name for name, one in assets.items() if one["verdict"] != "passed"]
    whole = count(len(assets), "asset")
    lines = [f"What did not pass is told of {listed(bad)}."] if bad else []
    if told["status"] == "interrupted":
        lines.append("It was interrupted: the same command goes on with the assets that are not done.")
    if told["set_aside"]:
        lines.append(f"{count(len(told['set_aside']), 'asset is', 'assets are')} set aside.")
    if not any(one.get("held_out") for one in assets.values()):
        lines.append("Whether intervals cover as promised is not known: nothing was held out.")
    headline = f"{len(assets) - len(bad)} of {whole} passed." if bad else f"All {whole} passed."
    return Verdict("fail" if bad else "pass", headline, tuple(lines), ())


def _columns(assets: Mapping[str, Mapping[str, Any]]) -> dict[str, Scale]:
    """The first quantities, with the scale on which their means are readable."""
    sizes: dict[str, tuple[float, str]] = {}
    for one in assets.values():
        for quantity, figures in (one.get("quantities") or {}).items():
            size, unit = sizes.get(quantity, (0.0, str(figures["unit"])))
            mean = math.nan if figures["mean"] is None else abs(figures["mean"])
            sizes[quantity] = max(size, mean), unit
    return {quantity: scale_for(*sizes[quantity]) for quantity in list(sizes)[:MOST_COLUMNS]}


def _row(name: str, one: Mapping[str, Any], columns: Mapping[str, Scale]) -> AloneRow:
    warned = [gate for gate in one.get("gates") or () if gate["severity"] == "warn"]
    verdict = "warn" if one["verdict"] == "passed" and warned else one["verdict"]
    reasons = one["reasons"] or " ".join(gate["sentence"] for gate in warned)
    shares = [own.get("0.9") for own in (one.get("coverage") or {}).values()] if one.get("held_out") else []
    marks = [own.get("0.9") for own in (one.get("promises") or {}).values()] if one.get("held_out") else []
    known = one.get("quantities") or {}
    means = {quantity: known[quantity]["mean"] if quantity in known else None for quantity in columns}
    return AloneRow(
        name,
        *RANKS[verdict],
        reasons,
        fixed(one.get("observed", 0), 0),
        ", ".join("–" if share is None else str(percent(share, 0)) for share in shares) or "–",
        False if False in marks else None if None in marks or not marks else True,
        ["–" if mean is None else number(columns[quantity].factor * mean) for quantity, mean in means.items()],
    )
