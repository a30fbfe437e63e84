"""Scenario files of a model, `scenarios/*.toml`: read, run, and held against what came of them before."""

import datetime
import difflib
import importlib.util
import io
import json
import math
import pathlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pydantic
import xarray as xr

from bayestwin._base.progress import Progress
from bayestwin._base.wording import NARROW, count, percent
from bayestwin.check import read_limits
from bayestwin.errors import BayestwinError, InvalidInput, InvalidJob, InvalidSetting
from bayestwin.insight.expectations import BASELINE
from bayestwin.insight.policies import Control, Policy, optimise, with_draws
from bayestwin.insight.scenarios import InputChange, Scenario, changes_of, scenario
from bayestwin.insight.shares import shares_of
from bayestwin.model.twin import Twin
from bayestwin.project.model import Model, read_model_telemetry
from bayestwin.project.predict import check_own, open_results, split_made_with
from bayestwin.project.record import read_record, renew_outputs, to_json
from bayestwin.project.run import POSTERIOR, find_run
from bayestwin.project.telemetry_sections import Moment, Section
from bayestwin.results.store import load, write_bytes_durably, write_text_durably
from bayestwin.results.support import WORDS
from bayestwin.telemetry import Telemetry

SCENARIOS = "scenarios"
"""The folder of scenario files, and the names of what a run of them leaves, without what follows the dot."""


class InputSection(Section):
    """How an input is changed, as of `bt.InputChange`; with `file` it is replaced by that column of a CSV file.

    Attributes:
        scale: What it is multiplied by.
        shift: What is added then.
        value: What replaces it; `"removed"` of an event.
        file: CSV file with the same times, relative to the scenario file.
        start: The first time at which it is changed.
        end: The first time at which it is not any more.
        daily: Between which times of the day.
        later: How much later everything happens.
    """

    scale: float = 1.0
    shift: float = 0.0
    value: float | Literal["removed"] | None = None
    file: str | None = None
    start: Moment | None = None
    end: Moment | None = None
    daily: list[str] | None = pydantic.Field(default=None, min_length=2, max_length=2)
    later: float | str | None = None


class DistributionSection(Section):
    """What replaces draws: a distribution of NumPyro, by its name and arguments.

    Attributes:
        distribution: For example `"LogNormal"`.
        loc: Its location.
        scale: Its scale.
        low: Its lower end.
        high: Its upper end.
    """

    distribution: str
    loc: float | None = None
    scale: float | None = None
    low: float | None = None
    high: float | None = None


class ControlSection(Section):
    """What a policy chooses, as of `bt.Control`.

    Attributes:
        of: Input, event or parameter.
        between: The least and the largest value.
        by: `"value"`, `"scale"` or `"shift"`.
        start: The first time at which it holds.
        end: The first time at which it does not any more.
        daily: Between which times of the day it does.
        every: How long each stretch of a schedule is.
    """

    of: str
    between: list[float] = pydantic.Field(min_length=2, max_length=2)
    by: Literal["value", "scale", "shift"] = "value"
    start: Moment | None = None
    end: Moment | None = None
    daily: list[str] | None = pydantic.Field(default=None, min_length=2, max_length=2)
    every: float | str | None = None


class PolicySection(Section):
    """A scenario whose changes are chosen, as by `bt.optimise`, so that `expect` is kept.

    Attributes:
        minimise: What is least.
        maximise: Or what is most.
        controls: What is chosen, by name.
    """

    minimise: str | None = None
    maximise: str | None = None
    controls: dict[str, ControlSection] = pydantic.Field(min_length=1)


class ScenarioFile(Section):
    """A scenario file.

    Attributes:
        question: What it answers, in words.
        decision: In `baseline.toml`, the question that all scenarios are about.
        telemetry: Of `baseline.toml`: CSV file with the times and inputs; by default what the run held out.
        start: Likewise, the first time.
        horizon: Likewise, how far ahead: `"7 days"`, or a number in the unit of numeric times.
        loss: Likewise, the quantity that is to be small.
        inputs: By name, also of events that the telemetry tells: a number, text such as `"× 0.8"`, or a table.
        parameters: By name: a number, text such as `"× 2"`, or a distribution.
        initial: By state likewise; in `baseline.toml` where the twin starts anew, as `predict --initial`.
        events: By name: `"removed"`.
        expect: What is expected, as text.
        policy: What is chosen so that this is kept, in place of all changes.
    """

    question: str = ""
    decision: str | None = None
    telemetry: str | None = None
    start: Moment | None = None
    horizon: float | str | None = None
    loss: str | None = None
    inputs: dict[str, float | str | InputSection] = pydantic.Field(default_factory=dict)
    parameters: dict[str, float | str | DistributionSection] = pydantic.Field(default_factory=dict)
    initial: dict[str, float | str | DistributionSection] = pydantic.Field(default_factory=dict)
    events: dict[str, str] = pydantic.Field(default_factory=dict)
    expect: list[str] = pydantic.Field(default_factory=list)
    policy: PolicySection | None = None


class ScenarioOutcome(NamedTuple):
    """What came of the scenarios of a model.

    Attributes:
        run: Folder of the run whose posterior was used.
        found: As of `bt.scenario`.
        record: The content of `scenarios.json`.
        page: The page about them.
        table: The table.
        decision: The page that someone signs.
    """

    run: pathlib.Path
    found: xr.DataTree
    record: dict[str, Any]
    page: pathlib.Path
    table: pathlib.Path
    decision: pathlib.Path

    @property
    def missed(self) -> int:
        """How many expectations are missed."""
        return sum(one["verdict"] == "missed" for one in self.record["expectations"])


def run_scenarios(
    model: Model,
    results: pathlib.Path,
    names: Sequence[str] = (),
    *,
    run: str | None = None,
    draws: int | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> ScenarioOutcome:
    """Compare the scenarios of a model with the posterior of one of its runs, and leave page, table and JSON there.

    Args:
        model: The model.
        results: Where runs are filed.
        names: Which scenarios; by default all.
        run: Name of the run; by default the newest.
        draws: About how many posterior draws, in place of the job's.
        device: `"cpu"`, `"gpu"`, or None for JAX's default.
        progress: Where progress is shown.

    Raises:
        InvalidJob: If a scenario file is wrong.
        InvalidInput: If there are no scenarios, no run, or nothing to predict.
    """
    files = _files(model, names)
    used = find_run(results, model, run)
    posterior = load(used / POSTERIOR)
    check_own(model, used, posterior)
    base = files.pop(BASELINE, None) or ScenarioFile()
    future = _future(model, used, posterior, base)
    initial = {state: _number(state, value) for state, value in base.initial.items()} or None
    settings: dict[str, Any] = model.job.predict.model_dump() | ({} if draws is None else {"draws": draws})
    settings |= {"device": device, "progress": progress, "initial": initial}
    policies = {
        name: _chosen(model, name, one, posterior, future, settings | {"draws": draws})
        for name, one in files.items()
        if one.policy
    }
    scenarios = {name: _made(model, name, one, future) for name, one in files.items() if name not in policies}
    scenarios |= {name: replace(one.scenario, question=files[name].question) for name, one in policies.items()}
    scenarios[BASELINE] = _made(model, BASELINE, base.model_copy(update={"initial": {}}), future)
    if policies:  # what they are worth is told by draws that did not choose them
        posterior = with_draws(posterior, next(iter(policies.values())).judged)
    ordered = {name: scenarios[name] for name in (*files, BASELINE)}
    settings |= {"loss": base.loss, "limits": read_limits(model.folder / "card.md", model.twin)}
    found = scenario(model.twin, posterior, future, ordered, **settings)
    record = _figures(found, ordered, model.twin, used.name)
    for name, policy in policies.items():
        record["scenarios"][name] |= {"changes": list(policy.changes), "policy": _policy_figures(policy)}
    record["flipped"] = _flipped(record, _earlier(model, results, used))
    record["decision"] = _decision(model, found, posterior, record, policies, base, used)
    return _written(found, record, used, model)


def _chosen(
    model: Model, name: str, one: ScenarioFile, posterior: xr.DataTree, future: Telemetry, settings: Mapping[str, Any]
) -> Policy:
    """The policy of a file."""
    assert one.policy is not None
    where = f"In scenario `{name}`"
    try:
        return optimise(
            model.twin,
            posterior,
            future,
            {key: _control(control) for key, control in one.policy.controls.items()},
            minimise=one.policy.minimise,
            maximise=one.policy.maximise,
            subject_to=one.expect,
            **settings,
        )
    except BayestwinError as reason:
        raise reason.within(where) from reason


def _control(section: ControlSection) -> Control:
    told: dict[str, Any] = section.model_dump()
    told |= {end: str(told[end]) for end in ("start", "end") if isinstance(told[end], datetime.date)}
    told |= {key: tuple(told[key]) for key in ("between", "daily") if told[key] is not None}
    return Control(**told)


def _policy_figures(policy: Policy) -> dict[str, Any]:
    keys = ("goal", "value", "lower", "upper", "regret", "regret_lower", "regret_upper", "feasible", "converged")
    plain = {key: getattr(policy, key) for key in keys}
    told = {"controls": dict(policy.controls), "warnings": list(policy.warnings)}
    return plain | told | {"constraints": [one._asdict() for one in policy.constraints]}


def _written(found: xr.DataTree, record: dict[str, Any], run: pathlib.Path, model: Model) -> ScenarioOutcome:
    from bayestwin.report.scenario import render_decision, render_scenarios  # half a second, which a page is worth

    write_text_durably(run / f"{SCENARIOS}.json", to_json(record))
    tables = {"differences": found["comparison"].to_dataset().to_dataframe().reset_index()}
    if record["expectations"]:
        tables["expectations"] = pd.DataFrame(record["expectations"])
    shares = record["decision"]["shares"]
    tables["hangs_on"] = pd.DataFrame({"quantity": list(shares), "share": list(shares.values())})
    table = io.BytesIO()
    tables["differences"].to_csv(table, index=False)
    written = write_bytes_durably(run / f"{SCENARIOS}.csv", table.getvalue())
    if importlib.util.find_spec("openpyxl") is not None:
        sheets = io.BytesIO()
        with pd.ExcelWriter(sheets, engine="openpyxl") as book:
            for name, one in tables.items():
                one.to_excel(book, sheet_name=name, index=False)
        write_bytes_durably(run / f"{SCENARIOS}.xlsx", sheets.getvalue())
    page = write_text_durably(run / f"{SCENARIOS}.html", render_scenarios(found, record, model.twin.name))
    decision = write_text_durably(run / "decision.html", render_decision(found, record, model.twin.name))
    renew_outputs(run)
    return ScenarioOutcome(run, found, record, page, written, decision)


# What is decided: the alternative that is best in one quantity, and keeps what is expected of it.


def _decision(
    model: Model,
    found: xr.DataTree,
    posterior: xr.DataTree,
    record: Mapping[str, Any],
    policies: Mapping[str, Policy],
    base: ScenarioFile,
    run: pathlib.Path,
) -> dict[str, Any]:
    """What the page that someone signs is about, as plain values."""
    names = [name for name in record["scenarios"] if name != BASELINE]
    goals = [one.goal.partition(" ")[::2] for one in policies.values()]
    most, asked = ("least", base.loss) if base.loss else goals[0] if goals else ("", None)
    quantity = (asked or next(iter(model.twin.quantities), "")).partition(".")[0]
    kept = [n for n in (*names, BASELINE) if not _missed(record, n)]
    sign = -1.0 if most == "most" else 1.0
    drawn = {n: found[f"{n}/predictions"][quantity].to_numpy().ravel() for n in (*names, BASELINE)} if quantity else {}
    means = {n: sign * float(np.mean(values)) for n, values in drawn.items()}
    best = min(kept, key=lambda n: means[n]) if most and kept and means else None
    about = best if best not in (None, BASELINE) else next(iter(names), None)
    shares = {}
    if quantity and about is not None:
        group = posterior["posterior"].to_dataset().sel(draw=found[f"{about}/predictions"]["draw"])
        draws = {str(k): own.to_numpy().ravel() for k, own in group.data_vars.items() if own.ndim == 2}
        shares = shares_of(draws, drawn[about] - drawn[BASELINE])
    told = read_record(run)
    return {
        "question": base.decision or "",
        "quantity": quantity,
        "words": model.twin.quantities[quantity].doc if quantity else "",
        "docs": _docs(model),
        "most": most,
        "best": best,
        "about": about,
        "shares": shares,
        "warnings": {n: found.attrs[WORDS].get(n, []) for n in (BASELINE, *names)},
        "status": told.get("status", ""),
        "failed": _said(told, "fail"),
        "warned": _said(told, "warn"),
        "missed": _missed_promises(told, _docs(model)),
        "made_from": {key: told.get(key, "") for key in ("began", "twin_sha256", "job_sha256", "code_sha256")}
        | {"telemetry_sha256": (told.get("telemetry_sha256") or {}).get("calibration", "")}
        | {"version": (told.get("versions") or {}).get("bayestwin", ""), "seed": model.job.predict.seed},
        "draws": int(found[f"{BASELINE}/predictions"].sizes["chain"] * found[f"{BASELINE}/predictions"].sizes["draw"]),
    }


def _missed_promises(run: Mapping[str, Any], docs: Mapping[str, str]) -> list[str]:
    """Observations whose 90 % intervals did not hold what they promise on what the calibration held out, in words."""
    summary = run.get("summary") or {}
    promised = (run.get("promises") or {}) if summary.get("held_out") else {}
    return [
        f"Ranges of {docs.get(name, name)} are not to be trusted: of what came after the calibration, those that were "
        f"to hold 90{NARROW}% held {percent(summary['coverage'][name]['0.9'])}."
        for name, kept in promised.items()
        if kept.get("0.9") is False
    ]


def _said(run: Mapping[str, Any], severity: str) -> list[str]:
    """What the gates of a calibration say that did not pass, of one severity."""
    return [gate["sentence"] for gate in run.get("gates", ()) if not gate["passed"] and gate["severity"] == severity]


def _docs(model: Model) -> dict[str, str]:
    """What names stand for, in words, as far as the twin says so."""
    twin = model.twin
    found = {f"{name}_initial": f"{one.doc or name} at the start" for name, one in twin.states.items()}
    for members in (twin.quantities, twin.inputs, twin.parameters, twin.states, twin.observations):
        found |= {name: one.doc for name, one in members.items() if one.doc}
    return found


def _missed(record: Mapping[str, Any], name: str) -> bool:
    return any(one["scenario"] == name and one["verdict"] == "missed" for one in record["expectations"])


# Scenario files.


def _files(model: Model, names: Sequence[str]) -> dict[str, ScenarioFile]:
    """The scenario files that are wanted, and that of the baseline if there is one, by name."""
    folder = model.folder / SCENARIOS
    there = {path.stem: path for path in sorted(folder.glob("*.toml"))}
    unknown = [name for name in names if name not in there]
    if not there or unknown:
        raise InvalidInput(
            f"There is no scenario `{unknown[0]}`." if unknown else f"Model `{model.folder}` has no scenarios.",
            expected=f"files `{folder}/NAME.toml`" + (f": {', '.join(f'`{n}`' for n in there)}" if there else ""),
            received=", ".join(f"`{name}`" for name in names) or "no such file",
            advice='Write one: a `question`, and what is changed, such as `[parameters]` with `rate = "× 2"`.',
        )
    wanted = [name for name in there if not names or name in names or name == BASELINE]
    return {name: read_scenario(there[name]) for name in wanted}


def read_scenario(path: pathlib.Path) -> ScenarioFile:
    """Read and validate a scenario file.

    Raises:
        InvalidJob: If it is not TOML, or a key is unknown or has the wrong type, naming the key.
    """
    try:
        found = ScenarioFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as reason:
        raise InvalidJob(
            f"Scenario file `{path}` is not valid TOML.",
            expected='lines like `key = "text"` beneath `[tables]`, each key once',
            received=str(reason),
            advice="Correct that line.",
        ) from reason
    except pydantic.ValidationError as reason:
        error = min(reason.errors(), key=lambda one: one["type"] != "extra_forbidden")
        unknown = error["type"] == "extra_forbidden"
        kinds = ("InputSection", "DistributionSection", "float", "str")
        location = [str(part) for part in error["loc"] if part not in kinds]
        deep = ControlSection if len(location) > 3 else PolicySection
        table = {"inputs": InputSection, "policy": deep}.get(location[0], DistributionSection)
        keys = list((ScenarioFile if len(location) == 1 else table).model_fields)
        close = difflib.get_close_matches(location[-1], keys, n=1)
        raise InvalidJob(
            f"Scenario file `{path}` has {'the unknown key' if unknown else 'a wrong value for'} "
            f"`{'.'.join(location)}`.",
            expected=", ".join(f"`{key}`" for key in keys) if unknown else str(error["msg"]),
            received=f"`{location[-1]}`" if unknown else f"`{error['input']}`",
            advice=f"Did you mean `{close[0]}`?" if close and unknown else "Correct it.",
        ) from reason
    only = [key for key in ("decision", "telemetry", "start", "horizon", "loss") if getattr(found, key) is not None]
    if only and path.stem != BASELINE:
        raise InvalidJob(
            f"Scenario file `{path}` says what all scenarios have in common.",
            expected=f"`{only[0]}` in `{BASELINE}.toml`",
            received=f"`{only[0]}` here",
            advice="All scenarios are predicted at the same times, so that their differences are those of pairs.",
        )
    changed = [key for key in ("inputs", "parameters", "initial", "events") if getattr(found, key)]
    if found.policy and (changed or path.stem == BASELINE):
        raise InvalidJob(
            f"Scenario file `{path}` has a policy, and changes something else.",
            expected="`question`, `expect` and `[policy]` alone, in a file that is not the baseline's",
            received=", ".join(f"`{key}`" for key in changed) or f"`[policy]` in `{BASELINE}.toml`",
            advice="Let the policy choose it, or change the baseline.",
        )
    return found


def _future(model: Model, run: pathlib.Path, posterior: xr.DataTree, base: ScenarioFile) -> Telemetry:
    """Times and inputs of the baseline."""
    if base.telemetry is not None:
        path = model.folder / SCENARIOS / base.telemetry
        future = read_model_telemetry(model, path, partly=True, split=split_made_with(posterior))
    else:
        future = open_results(model, run).split.held_out
    if not isinstance(future, Telemetry):
        raise InvalidInput(
            f"There is nothing for the scenarios of `{model.folder}` to be predicted at.",
            expected=f"one telemetry: `telemetry` in `{SCENARIOS}/{BASELINE}.toml`, or a run that held something out",
            received="none" if future is None else "that of several assets",
            advice="Say at which times and inputs.",
        )
    if base.start is not None:
        future = future.between(start=base.start)
    if base.horizon is not None:
        first = future.table.index[0]
        ahead = pd.Timedelta(base.horizon) if future.dated else float(base.horizon)  # type: ignore[arg-type]
        end = first + ahead
        future = future.with_table(future.table.loc[future.table.index <= end])
    return future


def _made(model: Model, name: str, one: ScenarioFile, future: Telemetry) -> Scenario:
    """A scenario from its file; what is wrong is told with its name."""
    where = f"In scenario `{name}`"
    try:
        return Scenario(
            question=one.question,
            inputs={key: _input(model, key, change, future) for key, change in one.inputs.items()},
            parameters={key: _drawn(change) for key, change in one.parameters.items()},
            initial={key: _drawn(change) for key, change in one.initial.items()},
            events={key: _removed(key, words) for key, words in one.events.items()},
            expect=tuple(one.expect),
        )
    except BayestwinError as reason:
        raise reason.within(where) from reason


def _input(model: Model, name: str, change: float | str | InputSection, future: Telemetry) -> Any:
    if not isinstance(change, InputSection):
        return change
    settings: dict[str, Any] = change.model_dump(exclude={"file"})
    settings["daily"] = None if change.daily is None else tuple(change.daily)
    settings["value"] = math.nan if change.value == "removed" else change.value
    for end in ("start", "end"):
        if isinstance(settings[end], datetime.date):
            settings[end] = str(settings[end])
    if change.file is None:
        return InputChange(**settings)
    other = read_model_telemetry(model, model.folder / SCENARIOS / change.file, partly=True)
    assert isinstance(other, Telemetry)
    column: Any = other.table[name].reindex(future.table.index) if name in other.table.columns else None
    if column is None or column.isna().any():
        raise InvalidInput(
            f"`{change.file}` does not say what input `{name}` is at all times.",
            expected=f"a column `{name}` with a value at each of the {len(future.table)} times of the baseline",
            received="no such column" if column is None else f"{int(column.isna().sum())} without",
            advice="Write a row for each of them.",
        )
    return InputChange(**(settings | {"values": column.tolist()}))


def _drawn(change: float | str | DistributionSection) -> Any:
    """A change of draws; a distribution by its name."""
    if not isinstance(change, DistributionSection):
        return change
    kind = getattr(dist, change.distribution, None)
    kind = kind if isinstance(kind, type) and issubclass(kind, dist.Distribution) else None
    given = {key: value for key, value in change.model_dump().items() if value is not None and key != "distribution"}
    try:
        return kind(**given)  # type: ignore[misc]
    except TypeError as reason:
        raise InvalidSetting(
            f"`{change.distribution}` is no distribution with these arguments.",
            expected="one of NumPyro's, such as `Normal` or `LogNormal` with `loc` and `scale`, `Uniform` with `low` "
            "and `high`",
            received=", ".join(f"{key} = {value}" for key, value in given.items()) or "none",
            advice="Correct its name or its arguments.",
        ) from reason


def _removed(name: str, words: str) -> None:
    if words == "removed":
        return
    raise InvalidSetting(
        f"What becomes of event `{name}` cannot be read.",
        expected='`"removed"`; events that the telemetry tells are changed beneath `[inputs]`',
        received=f"`{words}`",
        advice="New events need equations: `bt.Scenario(events={…})`.",
    )


def _number(state: str, value: Any) -> Any:
    if isinstance(value, DistributionSection):
        return _drawn(value)
    if isinstance(value, float):
        return value
    raise InvalidSetting(
        f"Where the baseline starts is not told by `{value}`.",
        expected=f"a number or a distribution for `{state}`",
        received=f"`{value}`",
        advice="Changes from draw to draw belong into other scenarios.",
    )


# What came of them, as plain values, and what flipped since.


def _figures(found: xr.DataTree, scenarios: Mapping[str, Scenario], twin: Twin, run: str) -> dict[str, Any]:
    comparison = found["comparison"].to_dataset()
    told: dict[str, Any] = {}
    for name in map(str, comparison["scenario"].to_numpy()):
        own = comparison.sel(scenario=name)
        quantities = {}
        for quantity in map(str, own["quantity"].to_numpy()):
            one = own.sel(quantity=quantity)
            keys = [str(key) for key, values in comparison.data_vars.items() if "quantity" in values.dims]
            quantities[quantity] = {"unit": one["units"].item(), **{key: float(one[key]) for key in keys}}
        whole = {key: float(own[key]) for key in ("expected_loss", "best", "regret") if key in own}
        about: dict[str, Any] = {"question": scenarios[name].question, "changes": changes_of(scenarios[name], twin)}
        about["beyond"] = {"share": float(own["beyond"]), "sentences": found.attrs[WORDS].get(name, [])}
        told[name] = about | whole | {"quantities": quantities}
    expected: list[dict[str, Any]] = []
    if "expectations" in found.children:
        rows = found["expectations"].to_dataset().to_dataframe()
        expected = [{str(key): value for key, value in row.items()} for row in rows.to_dict("records")]
    return {"run": run, "prob": comparison.attrs["prob"], "scenarios": told, "expectations": expected}


def _earlier(model: Model, results: pathlib.Path, run: pathlib.Path) -> dict[str, Any]:
    """What the scenarios of the same model came to last, in this run or the newest one before; nothing without any."""
    paths = [run / f"{SCENARIOS}.json", *sorted((results / model.name).glob(f"*/{SCENARIOS}.json"), reverse=True)]
    for path in paths:
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
    return {}


def _flipped(record: Mapping[str, Any], before: Mapping[str, Any]) -> list[dict[str, str]]:
    """Expectations whose verdict is another one than before."""
    known = {(one["scenario"], one["text"]): one["verdict"] for one in before.get("expectations", ())}
    return [
        {"scenario": one["scenario"], "text": one["text"], "before": known[key], "now": one["verdict"]}
        for one in record["expectations"]
        if (key := (one["scenario"], one["text"])) in known and known[key] != one["verdict"]
    ]


def headline(record: Mapping[str, Any]) -> str:
    """How many expectations are met, missed and undecided, in words."""
    verdicts = [one["verdict"] for one in record["expectations"]]
    if not verdicts:
        return "Nothing is expected of these scenarios."
    parts = [f"{verdicts.count(kind)} {kind}" for kind in ("met", "missed", "undecided") if kind in verdicts]
    return f"Of {count(len(verdicts), 'expectation')} {', '.join(parts)}."
