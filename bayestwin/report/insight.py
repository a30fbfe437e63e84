"""What other verbs found about a twin, as sections of its validation page: sentences and pictures."""

from collections.abc import Callable

import numpy as np
import xarray as xr

from bayestwin._base.wording import count
from bayestwin.assess import Gate
from bayestwin.insight.identify_verdict import verdict
from bayestwin.insight.power_scaling import FINE
from bayestwin.insight.verdict import judge_sbc
from bayestwin.report.comparison_plot import comparison_plot
from bayestwin.report.found import Content, Found, Section, key_figures
from bayestwin.report.identifiability import contraction_plot, profile_plot
from bayestwin.report.ranks import rank_plot
from bayestwin.report.sensitivity import sobol_plot
from bayestwin.report.style import Picture, drawing


def _drawn(
    words: Callable[[xr.DataTree], list[str]], *draw: Callable[[xr.DataTree], Picture | None]
) -> Callable[[Found], Content]:
    """A builder of sections: sentences about a result, and its pictures; without one what the record says."""

    def build(found: Found) -> Content:
        if found.tree is None:
            return key_figures(found)
        try:
            with drawing():
                pictures = [picture for one in draw if (picture := one(found.tree)) is not None]
            return Content(words=tuple(words(found.tree)), pictures=tuple(pictures))
        except (KeyError, ValueError):  # as another version laid it out
            told = key_figures(found)
            return told._replace(words=(f"The file of run {found.run} is that of another version.", *told.words))

    return build


def _told(gates: tuple[Gate, ...]) -> list[str]:
    """What did not pass; or that all did."""
    wrong = [gate.sentence for gate in gates if not gate.passed]
    return wrong or [f"All {count(len(gates), 'check')} passed."]


def _ranked(tree: xr.DataTree) -> list[str]:
    found = tree.to_dataset()
    words = f"{found.sizes['simulation']:,} telemetries were simulated and calibrated."
    return [words, *_told(judge_sbc(found))]


def _identified(tree: xr.DataTree) -> list[str]:
    return [gate.sentence for gate in verdict(tree)]


def _sensitive(tree: xr.DataTree) -> list[str]:
    sobol = tree["sobol"].to_dataset()
    origin = "posterior, each quantity by itself" if sobol.attrs.get("distribution") == "posterior" else "prior"
    unsure = [str(name) for name in sobol["observation"].to_numpy()[~sobol["reliable"].to_numpy()]]
    words = [f"Shares of the variance of predictions, the quantities varying as in the {origin}."]
    if unsure:
        words.append(f"Those of {', '.join(f'`{name}`' for name in unsure)} hang on few points and say little.")
    if "power_scaling" in tree.children:
        scaled = tree["power_scaling"].to_dataset()
        words += [str(one) for one in scaled["sentence"].to_numpy()[scaled["diagnosis"].to_numpy() != FINE]]
    return words


def _compared(tree: xr.DataTree) -> list[str]:
    sentences = tree.attrs.get("sentences") or {}
    said = [str(one) for one in (sentences.values() if isinstance(sentences, dict) else sentences)]
    return said + ([str(tree.attrs["why_no_loo"])] if tree.attrs.get("why_no_loo") else [])


def _comparisons(tree: xr.DataTree) -> Picture | None:
    found = [tree[name].to_dataset() for name in ("leave_one_out", "leave_future_out") if name in tree.children]
    known = [one for one in found if np.isfinite(one["elpd_diff"]).any()]
    return comparison_plot(known) if known else None


SECTIONS = (
    Section(
        "sbc",
        "Simulation-based calibration",
        "Does the calibration find truths again, as often as it says, where they are known?",
        _drawn(_ranked, lambda tree: rank_plot(tree.to_dataset())),
    ),
    Section(
        "identify",
        "Identifiability",
        "Which parameters can the data tell, and which only together with others?",
        _drawn(_identified, contraction_plot, profile_plot),
    ),
    Section(
        "sensitivity",
        "Sensitivity",
        "Which uncertain quantities do the predictions depend on?",
        _drawn(_sensitive, lambda tree: sobol_plot(tree["sobol"].to_dataset())),
    ),
    Section(
        "compare",
        "Comparison with other models",
        "Does another model predict better?",
        _drawn(_compared, _comparisons),
    ),
)
"""A row a verb, in the order of the page."""
