"""The verdict in plain words: what stands first in the report."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from bayestwin._base.wording import count, percent
from bayestwin.assess import Gate, failed

PROB = 0.9
MISSES = 4.0
"""How many times as often as promised intervals of probability `PROB` must miss to be sure to be noticed."""


class Verdict(NamedTuple):
    """What a reader must know first.

    Attributes:
        status: `pass`, `warn` or `fail`.
        headline: One sentence.
        lines: What else matters, one sentence each.
        gates: Those that failed, then those that warn.
    """

    status: str
    headline: str
    lines: tuple[str, ...]
    gates: tuple[Gate, ...]


def verdict(gates: Sequence[Gate], covered: xr.Dataset | None, *, interrupted: bool) -> Verdict:
    """Judge a result from its gates, and from the coverage on held-out telemetry where there is one."""
    bad = failed(gates)
    warned = tuple(gate for gate in gates if gate.severity == "warn" and not gate.passed)
    misses = [] if covered is None else _misses(covered)
    lines = ["Sampling was interrupted: the result holds only the draws taken until then."] if interrupted else []
    if covered is None:
        lines.append("Whether intervals cover as promised is not known: no held-out telemetry was predicted.")
    elif misses:
        lines.append(f"On held-out telemetry, {'; '.join(misses)}.")
    else:
        lines.append(f"On held-out telemetry, all intervals cover as promised ({_observed(covered)}).{_few(covered)}")
    status = "fail" if bad else "warn" if warned or misses or interrupted or not gates else "pass"
    return Verdict(status, _headline(gates, bad, warned, bool(misses)), tuple(lines), bad + warned)


def interrupted(found: xr.DataTree | xr.Dataset) -> bool:
    """Whether a result was cut short: a truth value in memory, text in a file that was opened without `load`."""
    return str(found.attrs.get("interrupted", False)).lower() in ("true", "1")


def _headline(gates: Sequence[Gate], bad: Sequence[Gate], warned: Sequence[Gate], misses: bool) -> str:
    names = ", ".join(gate.name for gate in [*bad, *warned])
    if bad:
        others = f", {len(warned)} warned" if warned else ""
        return f"Do not rely on this result: {len(bad)} of {count(len(gates), 'gate')} failed{others} ({names})."
    if not gates:
        return "Nothing was judged: there are no gates."
    if warned:
        return f"No gate failed, but {len(warned)} of {len(gates)} warned ({names})."
    if misses:
        return f"All {len(gates)} gates passed, but not all intervals cover as promised."
    return f"All {len(gates)} gates passed."


def _misses(covered: xr.Dataset) -> list[str]:
    """Which intervals do not keep their promise, one text for each observation that has some."""
    texts = []
    for name in covered["observation"].to_numpy():
        own = covered.sel(observation=name)
        probs = own["prob"].to_numpy()[~own["within_joint_band"].to_numpy()]
        shares = [float(own["coverage"].sel(prob=prob)) for prob in probs]
        if not shares:
            continue
        if not np.isfinite(shares).all():
            texts.append(f"{name} was never observed, and its intervals cannot be judged")
            continue
        above = [share > prob for share, prob in zip(shares, probs, strict=True)]
        word = "too wide" if all(above) else "off" if any(above) else "too narrow"
        pairs = zip(probs, shares, strict=True)
        found = ", ".join(f"{percent(share)} inside the {percent(float(prob))} interval" for prob, share in pairs)
        texts.append(f"intervals of {name} are {word}: {found}")
    return texts


def _observed(covered: xr.Dataset) -> str:
    return ", ".join(
        f"{name}: {count(int(num), 'observation')}"
        for name, num in zip(covered["observation"].to_numpy(), covered["num"].isel(prob=0).to_numpy(), strict=True)
    )


def _few(covered: xr.Dataset) -> str:
    """Which observations are too few, or follow each other too closely, for that to mean much."""
    own = covered.sel(prob=PROB, method="nearest")
    names = [
        str(name)
        for name, lower in zip(own["observation"].to_numpy(), own["joint_lower"].to_numpy(), strict=True)
        if not lower >= 1 - MISSES * (1 - float(own["prob"]))
    ]
    if not names:
        return ""
    return (
        f" Of {', '.join(names)} that says little: so few, or errors that follow each other so closely, would look the "
        "same if intervals missed much more often."
    )
