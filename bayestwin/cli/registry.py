"""`promote`, `rollback`, `history`, `shadow`: which run of a model is in use, on what evidence, and who decided it."""

import datetime
import pathlib
from typing import TYPE_CHECKING, Annotated, Any, Literal

import rich.console
import rich.markup
import typer

from bayestwin.cli.frame import AsJson, JobName, ModelPath, ResultsPath, advise, explained, print_json

if TYPE_CHECKING:
    from bayestwin.registry.log import RegistryEvent, Stages
    from bayestwin.registry.shadowing import Shadowed

AnyModel = Annotated[str, typer.Argument(help="Name of a model, or its folder.")]
Person = Annotated[str | None, typer.Option("--by", help="Name of who decides; by default that of this user.")]

MARKS = {"passed": "[green]pass[/green]", "failed": "[red]FAIL[/red]", "missing": "[red]none[/red]"}


def promote(
    model: ModelPath,
    run: Annotated[
        str | None, typer.Option(help="Name of the run; by default the newest, for prod the one in staging.")
    ] = None,
    to: Annotated[
        Literal["staging", "prod"] | None, typer.Option(help="Into which stage; by default the next one of the run.")
    ] = None,
    why: Annotated[str, typer.Option(help="The reason, which the log keeps.")] = "",
    by: Person = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overrule gates that do not pass; needs `--why`, and the log keeps both.")
    ] = False,
    approve: Annotated[
        bool, typer.Option("--approve", help="Say that you approve of the run for that stage, and promote nothing.")
    ] = False,
    job: JobName = "job.toml",
    results: ResultsPath = pathlib.Path("results"),
    as_json: AsJson = False,
) -> None:
    """Bring a run into staging, and from there into production, if all gates that the job names pass.

    Example: bayestwin promote models/room --to staging --why "a year more of telemetry"
    """
    with explained() as console:
        from bayestwin.registry import promotion

        if approve:
            event = promotion.approve(model, results, run=run, to=to or "prod", why=why, by=by)
            if as_json:
                print_json({"event": event._asdict()})
            else:
                _say(console, f"{event.who} approves of run {event.run} for {event.stage}: event {event.seq}.")
            return
        found = promotion.promote(model, results, run=run, to=to, why=why, by=by, force=force, job=job)
        if as_json:
            print_json(promotion.plain(found))
        else:
            for gate in found.gates:
                words = f"{gate.name}: {gate.sentence}" + (f" ({gate.file})" if gate.file else "")
                console.print(f"  {MARKS[gate.verdict]}  {rich.markup.escape(words)}", soft_wrap=True)
            if found.event is not None:
                over = ", ".join(found.event.overridden)
                _say(console, f"Run {found.run} is in {found.stage}: event {found.event.seq}." + _overruled(over))
        if found.event is None:
            names = ", ".join(gate.name for gate in found.stopped_by)
            advise(f"Run {found.run} does not come into {found.stage}: {names} did not pass. Nothing was changed.")
            raise typer.Exit(1)


def rollback(
    model: AnyModel,
    why: Annotated[str, typer.Option(help="The reason, which the log keeps.")],
    by: Person = None,
    results: ResultsPath = pathlib.Path("results"),
    as_json: AsJson = False,
) -> None:
    """Go back to what was in production before, whose posterior must be the one that it was then.

    Example: bayestwin rollback room --why "the new sensor reads 2 K too high"
    """
    with explained() as console:
        from bayestwin.registry.production import rollback as go_back

        event = go_back(model, results, why=why, by=by)
        if as_json:
            print_json({"event": event._asdict()})
        else:
            _say(console, f"Run {event.run} is in prod again, and {event.replaces} no more: event {event.seq}.")


def history(
    model: AnyModel,
    at: Annotated[
        str | None, typer.Option(help="Say what was in production then: a date or time, in UTC without an offset.")
    ] = None,
    results: ResultsPath = pathlib.Path("results"),
    as_json: AsJson = False,
) -> None:
    """List all that was done with the runs of a model, after its log was verified; or what was in production then.

    Example: bayestwin history room --at 2026-04-01
    """
    with explained() as console:
        from bayestwin.registry.production import history as events_of
        from bayestwin.registry.production import stages as stages_at

        moment = None if at is None else _moment(at)
        now = stages_at(model, results, at=moment)
        events = events_of(model, results) if at is None else ()
        if as_json:
            staged = {"production": _plain(now.production), "staging": _plain(now.staging)}
            print_json({"events": [one._asdict() for one in events], "at": moment, **staged})
            return
        for one in events:
            _say(console, _line_of(one))
        _show_stages(console, now, moment)
        if events:
            _say(console, f"The log is whole, and ends with event {events[-1].seq}: sha256 {events[-1].sha256}.")


def shadow(
    model: ModelPath,
    telemetry: Annotated[
        pathlib.Path, typer.Option(help="File of rows with observations, which neither was calibrated on.")
    ],
    run: Annotated[str | None, typer.Option(help="Name of the candidate; by default the run in staging.")] = None,
    job: JobName = "job.toml",
    results: ResultsPath = pathlib.Path("results"),
    as_json: AsJson = False,
) -> None:
    """Hold a candidate against what is in production by how well both predict the same rows.

    Example: bayestwin shadow models/room --telemetry april.csv
    """
    with explained() as console:
        from bayestwin.registry.shadowing import shadow as compare

        found = compare(model, results, telemetry=telemetry, run=run, job=job)
        if as_json:
            print_json({"folder": found.run, **found.record, "verdicts": found.verdicts})
        else:
            _show_shadow(console, found)
        if set(found.verdicts.values()) & {"worse", "cannot be told"}:
            raise typer.Exit(1)


def _show_shadow(console: rich.console.Console, found: "Shadowed") -> None:
    record = found.record
    days = f"{record['span_seconds'] / 86_400:.3g} days"
    _say(console, f"Candidate {record['run']} against {record['production']}, which is in production, on {days}:")
    for name, one in record["observations"].items():
        unit = f" {one['unit']}" if one["unit"] else ""
        _say(
            console,
            f"  {name}: {found.verdicts[name]}. CRPS {one['candidate']:.4g}{unit} against "
            f"{one['production']:.4g}{unit}, difference {one['difference']:+.2g} ± {one['standard_error']:.2g} "
            f"(standard error; {one['num']:,} observations, worth {one['num_effective']:.0f} independent ones).",
        )
    console.print(f"  {found.path}", soft_wrap=True, highlight=False, markup=False)


def _show_stages(console: rich.console.Console, now: "Stages", moment: datetime.datetime | None) -> None:
    when = "" if moment is None else f" at {moment.isoformat()}"
    for words, one in (("In production", now.production), ("In staging", now.staging)):
        what = f"run {one.run}, by {one.who}, event {one.seq}" if one else "nothing"
        _say(console, f"{words}{when}: {what}.")


def _line_of(one: "RegistryEvent") -> str:
    done = {"promote": f"{one.run} to {one.stage}", "rollback": f"to {one.run} from {one.replaces}"}
    told = done.get(one.event, f"{one.run} for {one.stage}")
    why = f": {' '.join(one.why.split())}" if one.why else "."
    return f"{one.seq:>4}  {one.when}  {one.event} {told} by {one.who}{why}{_overruled(', '.join(one.overridden))}"


def _overruled(names: str) -> str:
    return f" [overruled: {names}]" if names else ""


def _plain(one: Any) -> dict[str, Any] | None:
    return None if one is None else one._asdict()


def _say(console: rich.console.Console, words: str) -> None:
    console.print("".join(sign if sign.isprintable() else "?" for sign in words), soft_wrap=True, markup=False)


def _moment(text: str) -> datetime.datetime:
    from bayestwin.errors import InvalidSetting

    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError as reason:
        raise InvalidSetting(
            "`--at` cannot be read.",
            expected="a date such as `2026-04-01`, for its first moment, or a time such as `2026-04-01T12:00+02:00`",
            received=f"`{text}`",
            advice="Without an offset it is taken for UTC.",
        ) from reason
    return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)
