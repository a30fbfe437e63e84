"""Quantities that all settings of a comparison share: how far they move, how much wider they become, and a picture."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from bayestwin._base.wording import decimals_for, fixed, number, percent
from bayestwin.report import words as spoken
from bayestwin.report.forest import Line, Panel, draw_forest
from bayestwin.report.model_errors import Setting, capital
from bayestwin.report.quantities import PROB, Quantity
from bayestwin.report.style import Picture, picture

FAR = 1.0
"""Quantities that move by more standard deviations are named."""

WIDER = 1.25
"""Quantities whose standard deviation grows by this factor are named; chance is far below it."""

MOST_NAMED = 6


class Marginal(NamedTuple):
    """One quantity in one setting, in the unit of `Shared.quantity`."""

    setting: Setting
    mean: float
    sd: float
    lower: float
    upper: float


class Shared(NamedTuple):
    """One quantity in all settings; `quantity` is that of the page's own, which says name and unit."""

    quantity: Quantity
    marginals: tuple[Marginal, ...]


class SharedRow(NamedTuple):
    """One line of the table of quantities."""

    name: str
    unit: str
    setting: Setting
    mean: str
    sd: str
    lower: str
    upper: str


def shared_quantities(settings: Sequence[Setting]) -> tuple[Shared, ...]:
    """All quantities that every setting has."""
    own = next(setting for setting in settings if setting.own)
    names = [name for name in own.quantities if all(name in setting.quantities for setting in settings)]
    return tuple(Shared(own.quantities[n], tuple(_marginal(s, n, own.quantities[n]) for s in settings)) for n in names)


def shared_words(shared: Sequence[Shared]) -> list[str]:
    """Which quantities move far between settings, and which become much wider than in the first setting."""
    if not shared:
        return ["There is no quantity that all settings share."]
    return [_moves(shared), *_wider(shared)]


def shared_rows(shared: Sequence[Shared]) -> list[SharedRow]:
    """The table of quantities by setting; each number shows two digits of its own sd."""
    rows = []
    for quantity, marginals in shared:
        for setting, mean, sd, lower, upper in marginals:
            texts = (fixed(value, decimals_for(sd)) for value in (mean, sd, lower, upper))
            rows.append(SharedRow(quantity.name, quantity.scale.unit or "–", setting, *texts))
    return rows


def forest(shared: Sequence[Shared]) -> Picture | None:
    """Mean and interval of each shared quantity, one line a setting; None where nothing is shared."""
    if not shared:
        return None
    panels = [
        Panel(
            quantity.label, tuple(Line(m.setting.label, m.mean, m.lower, m.upper, own=m.setting.own) for m in marginals)
        )
        for quantity, marginals in shared
    ]
    drawn = draw_forest(panels)
    names = ", ".join(quantity.name for quantity, _ in shared)
    told = spoken.listed(
        f"{quantity.label}, {m.setting.label}: {number(m.mean)} ({number(m.lower)} to {number(m.upper)})"
        for quantity, marginals in shared
        for m in marginals
    )
    alt = f"Mean and {percent(PROB)} equal-tailed interval of {names} under each setting of model error. {told}."
    caption = (
        f"Marks: posterior means. Lines: {percent(PROB)} equal-tailed intervals. Blue, with a diamond: the setting "
        "that this report is about. What lies apart is told by the model error, not by the data alone."
    )
    return picture(drawn, "forest", alt, caption)


def _marginal(setting: Setting, name: str, own: Quantity) -> Marginal:
    """Of one setting, in the unit of the page's own: each posterior chooses its powers of ten by itself."""
    found = setting.quantities[name]
    factor = own.scale.factor / found.scale.factor
    return Marginal(setting, *(factor * value for value in (found.mean, found.sd, found.lower, found.upper)))


def _moves(shared: Sequence[Shared]) -> str:
    """Quantities that move far, each with the two settings that it lies farthest apart in."""
    found = []
    for quantity, marginals in shared:
        apart = [(_apart(one, other), one, other) for one, other in itertools.combinations(marginals, 2)]
        shift, one, other = max(apart, key=lambda pair: pair[0])
        if shift > FAR:
            between = f" ({one.setting.phrase} vs {other.setting.phrase})" if len(marginals) > 2 else ""
            found.append((shift, f"`{quantity.name}` by {number(shift, 2)}{between}"))
    if not found:
        return "No quantity moves by more than one posterior standard deviation between settings."
    listed = _listed([words for _, words in sorted(found, key=lambda pair: -pair[0])])
    return f"Between settings these move by more than one posterior standard deviation (the wider one's): {listed}."


def _apart(one: Marginal, other: Marginal) -> float:
    """How many standard deviations, of the wider one, two means lie apart; 0 where that cannot be told."""
    wide = max(one.sd, other.sd)
    apart = abs(one.mean - other.mean) / wide if wide > 0 else 0.0
    return apart if math.isfinite(apart) else 0.0


def _wider(shared: Sequence[Shared]) -> list[str]:
    """One sentence for each setting but the first: what becomes wider than there, and by how much."""
    words = []
    first, *others = (marginal.setting for marginal in shared[0].marginals)
    for place, setting in enumerate(others, start=1):
        growth = [(quantity.name, _growth(marginals[0], marginals[place])) for quantity, marginals in shared]
        grown = sorted((pair for pair in growth if pair[1] >= WIDER), key=lambda pair: -pair[1])
        start = capital(setting.phrase)
        if grown:
            listed = _listed([f"`{name}` {number(factor, 2)} times" for name, factor in grown])
            words.append(f"{start}, standard deviations are larger than {first.phrase}: {listed}.")
        else:
            words.append(f"{start}, no standard deviation is much larger than {first.phrase}.")
    return words


def _growth(first: Marginal, other: Marginal) -> float:
    """By what factor the standard deviation grows; 0 where that cannot be told."""
    return other.sd / first.sd if first.sd > 0 else 0.0


def _listed(words: Sequence[str]) -> str:
    """At most `MOST_NAMED` of them."""
    more = len(words) - MOST_NAMED
    return ", ".join(words[:MOST_NAMED]) + (f", and {more} more" if more > 0 else "")
