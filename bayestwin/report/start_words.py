"""How the starts of chains were found, and what the engine did by itself, in words."""

import xarray as xr

from bayestwin._base.wording import count, percent
from bayestwin.assess.recorded import record


def start_words(posterior: xr.DataTree) -> list[str]:
    """How the chains' starts were found, in sentences; empty where nothing was recorded."""
    starts = record(posterior, "starts")
    if not starts:
        return []
    drawn, failed = int(starts.get("drawn", 0)), int(starts.get("failed", 0))
    words = [f"{count(drawn, 'point was', 'points were')} drawn from the prior; {failed:,} could not be solved."]
    if "optimised" in starts:
        optimised, converged = int(starts["optimised"]), int(starts.get("converged", 0))
        words.append(f"The best {optimised:,} were optimised, and {converged:,} converged.")
    modes = int(starts.get("modes", 0))
    if modes == 1:
        words.append("One mode holds all but a negligible share of the posterior (Laplace's approximation).")
    elif modes > 1:
        shares = ", ".join(percent(float(weight)) for weight in starts.get("weights", ()))
        held = f" ({shares} by Laplace's approximation)" if shares else ""
        words.append(
            f"{modes} modes share the posterior{held}: "
            "look whether more than one makes sense for this asset; a prior can exclude those that do not."
        )
    return words + _engine_words(posterior)


MODES = {
    "reverse": (
        "Derivatives were computed backwards through steps of fixed lengths, which is faster for this twin; whether "
        "such steps are exact enough is what the gate `tolerance` says"
    ),
    "exact": "Derivatives were computed backwards through exact steps: the twin needs no solver",
}
"""How derivatives were taken, where it was not forward."""


def _engine_words(posterior: xr.DataTree) -> list[str]:
    """What the engine chose, and what it did by itself while sampling, in sentences."""
    words = []
    if choice := record(posterior, "solver_choice"):
        words.append(
            "The solver was chosen by a trial on draws from the prior, with fewer steps allowed than later: "
            f"{choice.get('reason', choice.get('method'))}."
        )
    if mode := record(posterior, "sensitivities"):
        forward = f"Derivatives were computed along with each solve, step by step ({mode.get('reason')})"
        words.append(f"{MODES.get(str(mode.get('mode')), forward)}.")
    sampling = record(posterior, "sampling")
    for event in sampling.get("events", ()):
        if event["what"] == "raised target acceptance":
            words.append(
                f"A transition diverged after {event['after_draws']:,} draws: all were made again with smaller steps, "
                f"aiming at an acceptance of {event['to']:g}."
            )
        else:
            chains = ", ".join(str(chain) for chain in event["chains"])
            words.append(f"Chain {chains} stuck in {event['found_in']} and was started again from the ladder.")
    return words
