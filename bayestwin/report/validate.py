"""The page that `validate` writes, laid out in `validation.html`, and its pictures."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from bayestwin._base.wording import count, duration, fixed, labelled, percent, span_for
from bayestwin.assess import draws, intervals
from bayestwin.assess.evidence import Evidence
from bayestwin.assess.trust import BACKTEST, HELD_OUT, Validated, group_names
from bayestwin.density.bind import sha256_of
from bayestwin.report import coverage, prose, validation_tables
from bayestwin.report.insight import SECTIONS, Content, Found, VerbSection
from bayestwin.report.page import LIGHT, WIDTH, Picture, dots, drawing, figure, fill, fitting, marker, picture
from bayestwin.report.reading import as_numbers, time_axis, zone_of
from bayestwin.report.series import dress_time
from bayestwin.report.validation_tables import SHORT, SIMPLE, conformal_words, moment
from bayestwin.telemetry import Telemetry


def render_validation(
    found: Validated, others: Mapping[str, Found], *, folder: str, provenance: Mapping[str, str]
) -> str:
    """Write the page about a validation.

    The page needs nothing beside itself, and all text that comes from users is escaped.

    Args:
        found: What was found.
        others: The newest run of each other verb about the same twin, by verb.
        folder: The model folder, as the user typed it.
        provenance: What the page says about where it comes from, beside hashes and seeds.

    Returns:
        The page as text, to be written as UTF-8.
    """
    unit, prob = found.time_unit, found.prob
    names = list(dict.fromkeys(name for one in found.evidence.values() for name in one.by))
    widths = _widths(found)
    with drawing():
        pictures = _pictures(found)
        groups = [
            (
                "how far ahead" if dim == "horizon" else dim,
                coverage_by(by_tables(found.both, found.evidence, dim, prob), dim, prob, unit),
                validation_tables.group_rows(found.evidence, dim, prob, unit),
            )
            for dim in names
        ]
        sections = [(section, _section(section, others)) for section in SECTIONS]
    baselines = validation_tables.baselines_of(found.scores)
    page = {
        "name": found.posterior.attrs.get("twin", ""),
        "version": found.posterior.attrs.get("bayestwin_version", ""),
        "verdict": found.trust,
        "prob": percent(prob),
        "level": percent(float(found.held_out.whole.attrs["level"])),
        "coverage": validation_tables.coverage_rows(found.evidence),
        "groups": groups,
        "group_notes": _group_notes(found),
        "conformal": [] if widths is None else validation_tables.conformal_rows(found.both[HELD_OUT].whole, widths),
        "conformal_words": _conformal(found, widths),
        "conformal_reach": _conformal_reach(found),
        "no_conformal": _no_conformal(found),
        "scores": validation_tables.score_rows(found.scores, prob),
        "baselines": [(f"RMSE of {SHORT[skill]}", "row") for skill in baselines],
        "period": _period_words(found),
        "settings": validation_tables.setting_rows(found.settings, unit),
        "backtest_words": _backtest_words(found),
        "origins": [] if found.backtest is None else validation_tables.origin_rows(found.backtest),
        "gates": found.gates,
        "others": sections,
        "other_sections": [(section.command, section.title) for section in SECTIONS],
        "folder": folder,
        "pictures": pictures,
        "provenance": _provenance(found, provenance),
    }
    return fill("validation.html", page)


def _pictures(found: Validated) -> dict[str, Picture | None]:
    return {
        "coverage": coverage.coverage_plot(found.held_out.whole),
        "conformal": side_by_side(found.posterior, found.intervals, found.telemetry, found.prob)
        if isinstance(found.telemetry, Telemetry)
        else None,
        "pit": pit_plot(found.pit),
        "skill": skill_plot(found.scores),
        "fans": None if found.backtest is None else fans(found.backtest, found.prob),
    }


def _section(section: VerbSection, others: Mapping[str, Found]) -> Content | None:
    """What is to be shown of another verb; None where it has not been run."""
    if section.command not in others:
        return None
    found = others[section.command]
    began = str(found.record.get("began", ""))[:16].replace("T", " ")
    words = [f"Run `{found.run}`" + (f", begun {began} UTC." if began else ".")]
    if found.same_data is False:
        words.append("It is about other telemetry than this validation.")
    if found.trouble:
        return Content(words=(*words, f"Its file cannot be read. {found.trouble}"))
    content = section.build(found)
    return content._replace(words=(*words, *content.words))


def _widths(found: Validated) -> xr.Dataset | None:
    if HELD_OUT not in found.both or not isinstance(found.telemetry, Telemetry):
        return None
    row = draws.axis(found.predictions)
    places = {name: pair.positions for name, pair in draws.pairs(found.predictions, row, found.telemetry).items()}
    return validation_tables.mean_widths(found.intervals, places)


def _conformal(found: Validated, widths: xr.Dataset | None) -> list[str]:
    if widths is None or found.correction is None:
        return []
    own = {part: one.whole.sel(prob=found.prob, method="nearest") for part, one in found.both.items()}
    at = {"prob": found.prob, "method": "nearest"}
    return conformal_words(own, widths.sel(**at), found.correction.sel(**at))


def _conformal_reach(found: Validated) -> str:
    """A warning where what was held out lies further ahead than the backtest looked."""
    if found.backtest is None:
        return ""
    ahead = float(np.max(draws.horizons(found.predictions, draws.axis(found.predictions))))
    seen = float(np.max(draws.horizons(found.backtest, draws.axis(found.backtest))))
    if ahead <= 1.01 * seen:
        return ""
    return f", nor is it known further ahead than the backtest looked ({duration(seen, found.time_unit)})"


def _no_conformal(found: Validated) -> str:
    """Why there is no conformal interval at all."""
    if found.backtest is None:
        return "Without a backtest there is nothing that conformal intervals could be made from."
    return "The backtest has too few errors to make conformal intervals from."


def _period_words(found: Validated) -> str:
    return f"A period is {duration(found.period, found.time_unit)}." if found.period else ""


def _group_notes(found: Validated) -> list[str]:
    if any("horizon" in evidence.by for evidence in found.evidence.values()):
        return [
            "What was held out is one forecast: its horizons are also times, and what differs between them may be the "
            "time. A backtest has several forecasts for each horizon."
        ]
    return []


def _backtest_words(found: Validated) -> list[str]:
    words = [
        "The backtest uses what was calibrated alone, so that what was held out stays unseen by the "
        "conformal intervals."
    ]
    if found.trial.evidence is None and found.trial.failures:
        words.append(f"It gave no forecast at all: {found.trial.failures[0]}")
    if found.settings.get("method") not in (None, found.posterior.attrs.get("method")):
        words.append(
            f"Its posteriors are by `{found.settings['method']}`, which is quick; the run itself by "
            f"`{found.posterior.attrs.get('method')}`. `method` in `[validate]` says which."
        )
    return words


def _provenance(found: Validated, told: Mapping[str, str]) -> list[tuple[str, str]]:
    attrs, telemetry = found.posterior.attrs, found.telemetry
    source = telemetry.source if isinstance(telemetry, Telemetry) else count(len(telemetry), "asset")
    return [
        *told.items(),
        ("bayestwin of the posterior", str(attrs.get("bayestwin_version", "not recorded"))),
        ("seed of the posterior", str(attrs.get("seed", "not recorded"))),
        ("SHA-256 of the twin", str(attrs.get("twin_sha256", "not recorded"))),
        ("SHA-256 of the telemetry calibrated", str(attrs.get("telemetry_sha256", "not recorded"))),
        ("source of what was held out", source),
        ("SHA-256 of what was held out", sha256_of(telemetry)),
    ]


# Pictures of a validation: coverage by horizon and regime, ranks of the observations, skill against simple methods.

COLOURS = {"raw": LIGHT["heldout"], "conformal": LIGHT["calibrated"]}
PARTS = {HELD_OUT: LIGHT["heldout"], BACKTEST: LIGHT["calibrated"]}
MARKERS = {HELD_OUT: "o", BACKTEST: "s"}
LOWEST_SKILL = -1.0
MOST_DRAWN = 30
"""More groups than that stand in the table alone."""


type GroupShares = dict[str, xr.Dataset]
"""Coverage in groups (dim, observation, prob) by kind of intervals: raw ones, as the table has them, and conformal."""


def coverage_by(tables: Mapping[str, GroupShares], dim: str, prob: float, time_unit: str) -> Picture | None:
    """Coverage of the interval of probability `prob` in groups: a row an observation, a column a kind of forecasts.

    Args:
        tables: See `by_tables`.
        dim: What is told apart.
        prob: As above.
        time_unit: Unit of horizons.
    """
    if not tables or max(one.sizes[dim] for own in tables.values() for one in own.values()) > MOST_DRAWN:
        return None
    names = [str(name) for name in next(iter(tables.values()))["raw"]["observation"].to_numpy()]
    drawn = figure(1.1 + 2.0 * len(names))
    grid = drawn.subplots(len(names), len(tables), squeeze=False)
    kinds = list(dict.fromkeys(kind for own in tables.values() for kind in own))
    for column, (part, own) in enumerate(tables.items()):
        labels = group_names(own["raw"], dim, time_unit)
        for axes, name in zip(grid[:, column], names, strict=True):
            shown = {kind: one.sel(observation=name).sel(prob=prob, method="nearest") for kind, one in own.items()}
            _groups(axes, shown, labels, prob, 0.85 * 72 * WIDTH / len(tables))
            title = f"{name}, {part}"
            axes.set_title(title, fontsize=fitting(title, 300 / len(tables) * 2, 9))
    for axes in grid[:, 0]:
        axes.set_ylabel("observations inside")
    for axes in grid[-1]:
        axes.set_xlabel("how far ahead" if dim == "horizon" else dim)
    handles: list[Artist] = [
        Line2D([], [], linestyle="", marker="o", color=COLOURS[k], label=f"{k} interval{side}")
        for k, side in zip(kinds, (" (left)", " (right)") if len(kinds) > 1 else ("",), strict=True)
    ]
    handles += coverage.legend(LIGHT["ink"])
    handles.append(Patch(facecolor=LIGHT["prior"], alpha=0.45, label="band of all that is compared"))
    drawn.legend(handles=handles, loc="outside upper left", ncols=3)
    caption = (
        f"Share of observations inside their {percent(prob)} interval; the dashed line is what was promised. Raw "
        "intervals are those of the table, bands likewise."
    )
    told = _grouped(tables, names, dim, prob, time_unit)
    alt = f"Coverage of the raw {percent(prob)} equal-tailed interval by {dim}. {told}."
    return picture(drawn, f"by-{names_safe(dim)}", alt, caption + _fewer(tables, prob))


def _fewer(tables: Mapping[str, GroupShares], prob: float) -> str:
    """Of how many forecasts conformal shares are, where these are fewer than the raw ones."""
    told = []
    for part, own in tables.items():
        if "conformal" not in own:
            continue
        counts = [one["num"].sel(prob=prob, method="nearest").sum(str(one["num"].dims[0])) for one in own.values()]
        told += [
            f" Conformal ones of {name}, {part}, are of {int(fewer):,} of {int(all_):,} forecasts: those from origins "
            "at which enough errors were known."
            for name, all_, fewer in zip(own["raw"]["observation"].to_numpy(), *counts, strict=True)
            if fewer < all_
        ]
    return "".join(told)


def _grouped(tables: Mapping[str, GroupShares], names: list[str], dim: str, prob: float, time_unit: str) -> str:
    """Coverage of each group in words, of raw intervals."""
    told = []
    for part, tables_of_kinds in tables.items():
        table = tables_of_kinds["raw"]
        own = table.sel(prob=prob, method="nearest")
        for name in names:
            pairs = zip(group_names(table, dim, time_unit), own["coverage"].sel(observation=name).values, strict=True)
            known = [f"{label} {percent(float(share))}" for label, share in pairs if np.isfinite(share)]
            told.append(f"{name}, {part}: " + (", ".join(known) or "nothing observed"))
    return prose.listed(told)


def names_safe(text: str) -> str:
    """Text as part of an id."""
    return "".join(letter if letter.isascii() and letter.isalnum() else f"-{ord(letter)}-" for letter in text)


def pit_plot(tables: Mapping[str, xr.Dataset]) -> Picture:
    """How far the distribution of PITs lies from a uniform one: a panel for each observation and kind of forecasts."""
    names = [str(name) for name in next(iter(tables.values()))["observation"].to_numpy()]
    drawn = figure(0.75 + 1.7 * len(names))
    grid = drawn.subplots(len(names), len(tables), squeeze=False, sharex=True)
    for column, (part, table) in enumerate(tables.items()):
        at = table["z"].to_numpy()
        for axes, name in zip(grid[:, column], names, strict=True):
            own = table.sel(observation=name)
            axes.fill_between(at, own["band_lower"] - at, own["band_upper"] - at, color=LIGHT["prior"], alpha=0.35)
            colour, dash = (LIGHT["pass"], "-") if bool(own["within_band"]) else (LIGHT["fail"], "--")
            axes.plot(at, own["ecdf"] - at, color=colour, linestyle=dash, linewidth=1.4)
            axes.axhline(0, color=LIGHT["muted"], linewidth=0.6)
            axes.set_title(f"{name}, {part} (n = {int(own['num']):,})")
            axes.grid(axis="y")
    for axes in grid[-1]:
        axes.set_xlabel("PIT")
    for axes in grid[:, 0]:
        axes.set_ylabel("share below − PIT")
    handles = [
        Line2D([], [], color=LIGHT["pass"], label="inside its band"),
        Line2D([], [], color=LIGHT["fail"], linestyle="--", label="outside"),
        Patch(facecolor=LIGHT["prior"], alpha=0.35, label="95 % simultaneous band"),
    ]
    drawn.legend(handles=handles, loc="outside upper left", ncols=3)
    caption = (
        "The PIT of an observation is the share of the predictive draws below it. If the forecast is right, all values "
        "are equally likely and the curve stays in the band. Above the line throughout: forecasts are too high; below: "
        "too low. Above at the left and below at the right: intervals are too narrow; the reverse: too wide."
    )
    told = []
    for part, table in tables.items():
        for name in names:
            own = table.sel(observation=name)
            far = float(np.abs(own["ecdf"] - own["z"]).max())
            where = "inside" if bool(own["within_band"]) else "outside"
            told.append(f"{name}, {part}: {where} its band, at most {fixed(far, 3)} away, n = {int(own['num']):,}")
    alt = f"PIT against a uniform distribution, with bands. {prose.listed(told)}."
    return picture(drawn, "pit", alt, caption)


def skill_plot(tables: Mapping[str, xr.Dataset]) -> Picture | None:
    """Skill of each observation against each simple method; None where there is none to compare with."""
    rows = [
        (str(name), words, {part: float(table[skill].sel(observation=name)) for part, table in tables.items()})
        for name in next(iter(tables.values()))["observation"].to_numpy()
        for skill, words in SIMPLE.items()
        if all(skill in table for table in tables.values())
    ]
    rows = [row for row in rows if np.isfinite(list(row[2].values())).any()]
    if not rows:
        return None
    drawn = figure(0.85 + 0.3 * len(rows))
    axes = drawn.subplots()
    for place, (_, _, skills) in enumerate(rows):
        for part, skill in skills.items():
            if np.isfinite(skill):
                marker = "<" if skill < LOWEST_SKILL else MARKERS[part]
                axes.plot([max(skill, LOWEST_SKILL)], [place], marker=marker, color=PARTS[part], clip_on=False)
    axes.axvline(0, color=LIGHT["ink"], linewidth=0.8)
    axes.set_yticks(range(len(rows)), [f"{name}, against {words}" for name, words, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(LOWEST_SKILL, 1.0)
    axes.set_xlabel("skill (1 − RMSE / RMSE of the simple method)")
    axes.grid()
    handles = [Line2D([], [], linestyle="", marker=MARKERS[part], color=PARTS[part], label=part) for part in tables]
    drawn.legend(handles=handles, loc="outside upper left", ncols=2)
    caption = (
        "Right of the line the twin comes closer than the simple method: 1 is perfect, 0 no better. Arrows at the left "
        "edge are worse than −1."
    )
    told = prose.listed(
        f"{name}, {part}, against {words}: {fixed(skill, 2)}"
        for name, words, skills in rows
        for part, skill in skills.items()
    )
    return picture(drawn, "skill", f"Skill of the twin against simple methods. {told}.", caption)


def by_tables(
    evidences: Mapping[str, Evidence], raw: Mapping[str, Evidence], dim: str, prob: float
) -> dict[str, GroupShares]:
    """Coverage in groups by kind of forecasts: of raw intervals, and of conformal ones where there are such at `prob`.

    Conformal intervals of a backtest exist at fewer points than raw ones, which are those of the table all the same.
    """
    datasets = {}
    for part, evidence in raw.items():
        if dim not in evidence.by:
            continue
        datasets[part] = {"raw": evidence.by[dim]}
        both = evidences.get(part)
        if both is not None and dim in both.by and both.by[dim].indexes[dim].equals(evidence.by[dim].indexes[dim]):
            conformal = both.by[dim].sel(kind="conformal")
            if bool((conformal["num"].sel(prob=prob, method="nearest") > 0).any()):
                datasets[part]["conformal"] = conformal
    return datasets


def _groups(axes: Axes, shown: GroupShares, labels: list[str], prob: float, room: float) -> None:
    """One panel, `room` points wide: bands and shares of each kind, for each group."""
    for shift, (kind, one) in zip(np.linspace(-0.15, 0.15, 2) if len(shown) > 1 else [0.0], shown.items(), strict=True):
        for place in range(len(labels)):
            group = one.isel({one["num"].dims[0]: place})
            if int(group["num"]):
                coverage.mark_share(axes, place + shift, group, COLOURS[kind])
    axes.axhline(prob, color=LIGHT["muted"], linewidth=0.7, dashes=(4, 3))
    texts = [label.replace(" to ", " to\n") for label in labels]
    longest = max((line for text in texts for line in text.split("\n")), key=len)
    axes.set_xticks(range(len(labels)), texts, fontsize=fitting(longest, 0.9 * room / len(labels), 8))
    axes.set_xlim(-0.6, len(labels) - 0.4)
    axes.set_ylim(min(0.5, axes.get_ylim()[0]), 1.02)
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
    seen = [tick for tick in ticks if tick >= axes.get_ylim()[0]]
    axes.set_yticks(seen, [percent(tick) for tick in seen])
    axes.grid(axis="y")


# Pictures of forecasts over time: raw and conformal intervals of what was held out, and fans of a backtest.

MOST_FANS = 4
MOST_TIMES = 2000


def side_by_side(posterior: xr.DataTree, found: xr.Dataset, telemetry: Telemetry, prob: float) -> Picture:
    """Raw intervals as a band and conformal ones as lines, over what was held out, and some time before."""
    names = [str(name) for name in found["observation"].to_numpy()]
    drawn = figure(0.9 + 2.3 * len(names))
    grid = drawn.subplots(len(names), 1, squeeze=False, sharex=True)[:, 0]
    own = found.sel(prob=prob, method="nearest")
    stride = -(-own.sizes["time"] // MOST_TIMES)
    kinds = "kind" in own.dims and bool(np.isfinite(own["lower"].sel(kind="conformal")).any())
    past = posterior["observed_data"].to_dataset()
    x = as_numbers(own["time"])
    start = x[0] - 0.3 * (x[-1] - x[0])
    last = as_numbers(past["time"])[-1]
    follows = last < x[0]  # and is no other recording
    for axes, name in zip(grid, names, strict=True):
        one = own.sel(observation=name).isel(time=slice(None, None, stride))
        at, raw = as_numbers(one["time"]), one.sel(kind="raw") if "kind" in one.dims else one
        axes.fill_between(at, raw["lower"], raw["upper"], color=LIGHT["heldout"], alpha=0.25)
        axes.plot(at, one["median"], color=LIGHT["heldout"])
        if kinds:
            for end in ("lower", "upper"):
                axes.plot(at, one[end].sel(kind="conformal"), color=LIGHT["calibrated"], linewidth=0.9)
        unit = str(own["units"].sel(observation=name).item())
        values = draws.observed(own.drop_vars("kind", errors="ignore"), telemetry, name, unit)
        dots(axes, x[values.positions], values.values, *marker(len(values.values)), LIGHT["ink"])
        if follows:
            before, known = as_numbers(past["time"]), past[name].to_numpy()
            late = before >= start
            dots(axes, before[late], known[late], *marker(len(values.values)), LIGHT["muted"])
            axes.axvline((last + x[0]) / 2, color=LIGHT["muted"], linewidth=0.8, dashes=(4, 3))
        axes.set_title(labelled(name, unit))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="y")
    dress_time(grid[-1], time_axis(posterior))
    handles = [
        Line2D([], [], linestyle="", marker="o", markersize=3.4, color=LIGHT["muted"], label="calibrated"),
        Line2D([], [], linestyle="", marker="o", markersize=3.4, color=LIGHT["ink"], label="held out"),
        Line2D([], [], color=LIGHT["heldout"], label="median"),
        Patch(facecolor=LIGHT["heldout"], alpha=0.25, label=f"raw {percent(prob)} interval"),
    ]
    if kinds:
        handles.append(
            Line2D([], [], color=LIGHT["calibrated"], label=f"ends of the conformal {percent(prob)} interval")
        )
    drawn.legend(handles=handles, loc="outside upper left", ncols=len(handles))
    conformal = " Lines: the same, corrected by the errors of the backtest." if kinds else ""
    caption = f"Band: the {percent(prob)} interval of a new observation as the posterior says it.{conformal}"
    alt = f"{percent(prob)} equal-tailed intervals over what was held out. {_in_words(own, names, kinds=kinds)}."
    return picture(drawn, "conformal", alt, caption)


def fans(backtest: xr.DataTree, prob: float) -> Picture | None:
    """Forecasts from some of the origins of a backtest, and what came; None where no origin gave any."""
    origins = backtest["origins"].to_dataset()
    good = [place for place, words in enumerate(origins["failure"].to_numpy()) if not str(words)]
    if not good:
        return None
    chosen = [good[place] for place in np.unique(np.linspace(0, len(good) - 1, MOST_FANS).round().astype(int))]
    bands = intervals(backtest, (0.5, prob) if prob != 0.5 else (0.5,))
    observed = backtest["observed_data"].to_dataset()
    span = span_for(float(bands["horizon"].max()), str(backtest.attrs.get("time_unit", "")))
    names = [str(name) for name in bands["observation"].to_numpy()]
    drawn = figure(0.9 + 1.9 * len(names))
    grid = drawn.subplots(len(names), len(chosen), squeeze=False, sharey="row")
    for row, name in zip(grid, names, strict=True):
        for axes, place in zip(row, chosen, strict=True):
            own = bands.sel(observation=name).isel(origin=place)
            seen = ~own["time"].isnull().to_numpy()
            own = own.isel(horizon=np.flatnonzero(seen))
            x = span.factor * own["horizon"].to_numpy()
            for level, opacity in zip(own["prob"].to_numpy(), (0.42, 0.2), strict=False):
                ends = own.sel(prob=level)
                axes.fill_between(x, ends["lower"], ends["upper"], color=LIGHT["calibrated"], alpha=opacity)
            axes.plot(x, own["median"], color=LIGHT["calibrated"])
            values = observed[name].isel(origin=place, horizon=np.flatnonzero(seen)).to_numpy()
            dots(axes, x, values, *marker(len(values)), LIGHT["ink"])
            title = f"from {moment(origins['origin'].to_numpy()[place], zone_of(backtest))}"
            axes.set_title(title, fontweight="normal", fontsize=fitting(title, 0.85 * 72 * WIDTH / len(chosen), 9))
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.yaxis.set_major_locator(MaxNLocator(5))
            axes.grid(axis="y")
        row[0].set_ylabel(labelled(name, str(bands["units"].sel(observation=name).item())))
    for axes in grid[-1]:
        axes.set_xlabel(f"{span.unit} ahead")
    handles = [
        Line2D([], [], linestyle="", marker="o", markersize=3.4, color=LIGHT["ink"], label="what came"),
        Line2D([], [], color=LIGHT["calibrated"], label="median"),
        *(
            Patch(facecolor=LIGHT["calibrated"], alpha=opacity, label=f"{percent(float(level))} interval")
            for level, opacity in zip(bands["prob"].to_numpy(), (0.42, 0.2), strict=False)
        ),
    ]
    drawn.legend(handles=handles, loc="outside upper left", ncols=len(handles))
    more = (
        f"{len(chosen)} of {len(origins['origin'])} origins are shown. " if len(chosen) < len(origins["origin"]) else ""
    )
    caption = f"{more}Each forecast knows only what was observed until its origin, and the inputs of the time ahead."
    told = prose.listed(_fan(bands.sel(observation=name).isel(origin=chosen), name) for name in names)
    return picture(drawn, "fans", f"Backtest forecasts from {len(chosen)} origins. {told}.", caption)


def _in_words(own: xr.Dataset, names: list[str], *, kinds: bool) -> str:
    """Mean widths of intervals in words, by observation and kind."""
    told = []
    for name in names:
        for kind in ("raw", "conformal") if kinds else ("raw",):
            one = own.sel(observation=name)
            one = one.sel(kind=kind) if "kind" in one.dims else one
            unit = str(one["units"].item())
            told.append(f"{name}, {kind}: {prose.size(float((one['upper'] - one['lower']).mean()), unit)} wide")
    return "On average, " + prose.listed(told)


def _fan(own: xr.Dataset, name: str) -> str:
    """Width of the widest interval at the first and the last horizon, in words."""
    wide = (own["upper"] - own["lower"]).isel(prob=-1).mean("origin").to_numpy()
    wide = wide[np.isfinite(wide)]
    unit = str(own["units"].item())
    ends = (f"{prose.size(float(wide[place]), unit)} wide" for place in (0, -1)) if wide.size else ("not known",)
    return f"{name}: the {percent(float(own['prob'][-1]))} interval is " + " at first and ".join(ends) + " at last"
