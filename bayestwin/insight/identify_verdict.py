"""The verdict on identifiability: gates with sentences for people who have never heard of Fisher information."""

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr

from bayestwin.assess.gates import Gate

MIN_CONTRACTION = 0.1
"""Contraction below which the data have hardly narrowed a quantity."""

MAX_CORRELATION = 0.95
"""Correlation above which two quantities trade off against each other."""

WORTH_TELLING = 0.05
"""Share of its width by which planned data must narrow a quantity to be named."""


def verdict(found: xr.DataTree) -> tuple[Gate, ...]:
    """The verdict on what `identify` returned.

    Args:
        found: The result, fresh or loaded.

    Returns:
        Gates `structure` (fails where quantities cannot be told apart whatever the data), `telemetry`, `contraction`
        and `trade_off` (which warn), and as far as they were asked for `profile` and `planned`.
    """
    quantities = found["quantities"].to_dataset()
    rows = (
        [found["ties"].to_dataset().isel(tie=n) for n in range(found["ties"].sizes["tie"])] if "ties" in found else []
    )
    gates = [*_structure(found, rows), *_telemetry(rows), _contraction(quantities, rows), _trade_off(quantities, rows)]
    if "profile" in found:
        gates += _profiles(found["profile"].to_dataset())
    if "planned" in found:
        gates.append(_planned(found["planned"].to_dataset()))
    return tuple(gates)


def _structure(found: xr.DataTree, rows: Sequence[xr.Dataset]) -> list[Gate]:
    along = found["points"].to_dataset()["information"].values
    good = int(np.isfinite(along).all(axis=1).sum())
    if good < 2:
        sentence = (
            f"What the equations leave open cannot be told: the twin could be differentiated at {good} of {len(along)} "
            "points. Look at the priors, or at the solver's tolerances."
        )
        return [Gate("structure", False, math.nan, 0.0, sentence)]
    structural = [row for row in rows if row["kind"].item() == "structural"]
    if not structural:
        sentence = f"At all of {good} points the observations react to every quantity, each in its own way."
        if rows:
            sentence = "The equations themselves tie no quantities together."
        return [Gate("structure", True, 0.0, 0.0, sentence)]
    return [Gate("structure", False, float(row["num_null"]), 0.0, _tie_words(row)) for row in structural]


def _telemetry(rows: Sequence[xr.Dataset]) -> list[Gate]:
    """Ties that other inputs, or more observations, would undo."""
    return [
        Gate("telemetry", False, float(row["num_null"]), 0.0, _tie_words(row), "warn")
        for row in rows
        if row["kind"].item() == "telemetry"
    ]


def _members(row: xr.Dataset) -> list[str]:
    return [str(name) for name in row["quantity"].values[row["member"].values == 1]]


def _tie_words(row: xr.Dataset) -> str:
    names, form, determined = _members(row), row["form"].item(), row["determined"].item()
    here = row["kind"].item() == "telemetry"
    rest = " Other inputs, or an observation at more times, would change that." if here else ""
    where = "In these data " if here else ""
    if form == "unused":
        words = f"`{names[0]}` leaves no trace in these data: its posterior will be its prior."
        return words + (rest or " Fix it, or observe something that depends on it.")
    several = _listed([f"`{name}`" for name in names])
    if form == "unknown":
        words = f"{where}{several} can be changed together so that no observation changes"
        ending = ": the data cannot tell them apart."
    else:
        words = f"{where}{several} appear only as {_shape(determined, names)}"
        ending = ": the data cannot tell them apart."
    open_ = int(row["num_null"])
    fix = "one" if open_ == 1 else f"{open_} of them"
    advice = f" Fix {fix}, or give {fix} an informative prior."
    return words + ending + (rest or advice)


def _shape(determined: str, names: Sequence[str]) -> str:
    """What is determined, in a word where there is one for it."""
    for sign, word in ((" · ", "product"), (" / ", "ratio"), (" + ", "sum"), (" − ", "difference")):
        if determined == sign.join(names):
            return f"their {word} `{determined}`"
    return _listed([f"`{one}`" for one in determined.split(", ")])


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _measured(quantities: xr.Dataset, what: str) -> tuple[xr.DataArray, str]:
    """What draws say, where there are some; else what is expected."""
    return (quantities[what], what) if what in quantities else (quantities[f"expected_{what}"], f"expected {what}")


def _contraction(quantities: xr.Dataset, rows: Sequence[xr.Dataset]) -> Gate:
    found, word = _measured(quantities, "contraction")
    names, values = [str(name) for name in found["quantity"].values], found.values
    if not np.isfinite(values).all():
        sentence = "How far posteriors contract cannot be computed: information or draws are not finite."
        return Gate("contraction", False, math.nan, MIN_CONTRACTION, sentence, "warn")
    tied = {name for row in rows for name in _members(row)}
    rest = sorted((float(v), n) for n, v in zip(names, values, strict=True) if n not in tied)
    low = [f"`{name}` ({value:.2f})" for value, name in rest if value < MIN_CONTRACTION]
    least = f"`{rest[0][1]}` ({word} {_share(rest[0][0])})" if rest else ""
    if not rest:
        sentence = "These data tell no quantity by itself."
    elif low:
        sentence = (
            f"These data hardly narrow {_listed(low)} ({word}; 0 is the prior, 1 is known exactly). Give informative "
            "priors that you stand by, or record what reacts to them."
        )
    elif len(rest) == 1:
        sentence = f"{'The other' if tied else 'The one'} quantity is identifiable: {least}."
    else:
        sentence = f"{'The other' if tied else 'All'} {len(rest)} quantities are identifiable; least so {least}."
    lowest = rest[0][0] if rest else math.nan
    return Gate("contraction", bool(rest) and not low, lowest, MIN_CONTRACTION, sentence, "warn")


def _share(value: float) -> str:
    """A contraction that is not rounded up to known exactly."""
    return "above 0.99" if value > 0.99 else f"{value:.2f}"


def _trade_off(quantities: xr.Dataset, rows: Sequence[xr.Dataset]) -> Gate:
    found, _ = _measured(quantities, "correlation")
    names, values = [str(name) for name in found["quantity"].values], found.values
    if not np.isfinite(values).all():
        sentence = "Whether quantities trade off against each other cannot be computed."
        return Gate("trade_off", False, math.nan, MAX_CORRELATION, sentence, "warn")
    together = [set(_members(row)) for row in rows]
    pairs = [
        (float(values[i, j]), names[i], names[j])
        for i in range(len(names))
        for j in range(i)
        if not any({names[i], names[j]} <= some for some in together)
    ]
    strongest = max((abs(pair[0]) for pair in pairs), default=0.0)
    high = sorted((pair for pair in pairs if abs(pair[0]) > MAX_CORRELATION), key=lambda pair: -abs(pair[0]))
    if not high:
        sentence = f"No two quantities trade off strongly against each other (largest correlation {strongest:.2f})."
        return Gate("trade_off", True, strongest, MAX_CORRELATION, sentence, "warn")
    told = [f"`{b}` and `{a}` ({value:+.3f})".replace("-", "−") for value, a, b in high[:4]]
    more = f", and {len(high) - 4} more pairs" if len(high) > 4 else ""
    sentence = (
        f"Trade-offs: {_listed(told)}{more}: the data tell what they do together better than each by itself "
        "(+: a higher value of one goes with a higher value of the other)."
    )
    return Gate("trade_off", False, strongest, MAX_CORRELATION, sentence, "warn")


def _profiles(found: xr.Dataset) -> list[Gate]:
    gates = []
    prior = "with the prior" if found.attrs["prior"] else "of the likelihood alone, without the prior"
    for name in found["profiled"].values:
        row = found.sel(profiled=name)
        ends, reach = row["interval"].values, row["followed"].values
        unit = f" {row['unit'].item()}".rstrip()
        open_ = [bool(np.isinf(end)) for end in ends]
        if np.isnan(ends).any():
            words = f"The profile of `{name}` cannot be computed."
        elif all(open_):
            words = (
                f"The profile of `{name}` ({prior}) is flat: from {reach[0]:.4g} to {reach[1]:.4g}{unit} all values "
                "explain the data about as well."
            )
        elif any(open_):
            side, bound, far = ("below", ends[1], reach[0]) if open_[0] else ("above", ends[0], reach[1])
            other = "above" if open_[0] else "below"
            words = (
                f"The profile of `{name}` ({prior}) has no bound {side}: values as far as {far:.4g}{unit} explain the "
                f"data about as well; {other} it ends at {bound:.4g}{unit}."
            )
        else:
            words = (
                f"The profile of `{name}` ({prior}) gives {ends[0]:.4g} … {ends[1]:.4g}{unit} "
                f"({100 * found.attrs['prob']:.4g} % interval)."
            )
        passed = bool(np.isfinite(ends).all())
        gates.append(Gate("profile", passed, float(sum(open_)), 0.0, words, "warn"))
    return gates


def _planned(found: xr.Dataset) -> Gate:
    narrower = found["narrowing"]
    values = narrower.values
    if not np.isfinite(values).all():
        sentence = "What the planned observations would tell cannot be computed."
        return Gate("planned", False, math.nan, WORTH_TELLING, sentence, "warn")
    ranked = sorted(
        ((float(v), str(n)) for n, v in zip(narrower["quantity"].values, values, strict=True)), reverse=True
    )
    told = [f"`{name}` by {100 * value:.0f} %" for value, name in ranked if value >= WORTH_TELLING]
    what = f"Adding the {found.attrs['times']:,} planned times ({found.attrs['span']}) is expected to narrow"
    if not told:
        sentence = f"{what} no quantity by more than {100 * WORTH_TELLING:.0f} %."
    else:
        rest = "" if len(told) == len(ranked) else f", the others by less than {100 * WORTH_TELLING:.0f} %"
        sentence = f"{what} {_listed(told)}{rest}."
    return Gate("planned", bool(told), ranked[0][0], WORTH_TELLING, sentence, "warn")
