"""One page about a batch: what became of each task, with links to the reports of the runs."""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jinja2

from bayestwin.batch.attempt import Outcome
from bayestwin.batch.tasks import Refused
from bayestwin.errors import CorruptArtifact
from bayestwin.report.style import DARK, LIGHT
from bayestwin.runs.figures import coverage_words
from bayestwin.runs.folder import REPORT
from bayestwin.runs.record import read_record
from bayestwin.store import write_text_durably

TEMPLATE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Batch: {{ words }}</title>
<style>
:root { {% for name, colour in light.items() %}--{{ name }}: {{ colour }}; {% endfor %}}
@media screen and (prefers-color-scheme: dark) { :root { {% for name, colour in dark.items() %}--{{ name }}: {{ colour }}; {% endfor %}} }
body { margin: 2rem auto; max-width: 1240px; padding: 0 1.5rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
.n { text-align: right; }
.pass { color: var(--pass); } .fail { color: var(--fail); }
a { color: inherit; } .why { color: var(--muted); white-space: pre-wrap; overflow-wrap: anywhere; }
</style>
</head>
<body>
<main>
<h1>Batch: {{ words }}</h1>
<table>
<thead><tr><th scope="col">task</th><th scope="col">outcome</th><th scope="col" class="n">attempts</th><th scope="col" class="n">seconds</th><th scope="col">coverage of 90 % intervals</th><th scope="col">gates failed</th><th scope="col">run</th></tr></thead>
<tbody>
{% for row in rows %}
<tr><th scope="row">{{ row.name }}</th><td class="{{ "pass" if row.status == "finished" else "fail" }}">{{ "✓" if row.status == "finished" else "✗" }} {{ row.status }}{% if row.why %}<div class="why">{{ row.why }}</div>{% endif %}</td><td class="n">{{ row.attempts }}</td><td class="n">{{ row.seconds }}</td><td>{{ row.coverage }}</td><td>{{ row.gates }}</td><td>{% if row.link %}<a href="{{ row.link }}">{{ row.run }}</a>{% else %}{{ row.run }}{% endif %}</td></tr>
{% endfor %}
</tbody>
</table>
<p class="why">Coverage is that of held-out observations where something was held out, and else of the calibration’s own. An attempt is one process; 0 says that an earlier call had finished the task.</p>
</main>
</body>
</html>
"""  # noqa: E501


def write_page(path: pathlib.Path, outcomes: Sequence[Outcome], refused: Sequence[Refused], words: str) -> pathlib.Path:
    """Write the page.

    Args:
        path: The file; links are counted from its folder.
        outcomes: What became of the tasks.
        refused: What could not be one.
        words: What became of all, in one phrase.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    rows = [_row(outcome, path.parent) for outcome in outcomes]
    rows += [
        {"name": one.name, "status": "bad input", "why": one.words, "attempts": 0, "seconds": "–"}
        | dict.fromkeys(("coverage", "gates", "run", "link"), "")
        for one in refused
    ]
    page = environment.from_string(TEMPLATE).render(rows=rows, words=words, light=LIGHT, dark=DARK)
    return write_text_durably(path, page)


def _row(outcome: Outcome, folder: pathlib.Path) -> dict[str, Any]:
    run = pathlib.Path(outcome.run) if outcome.run else None
    record = _record(run)
    gates = record.get("gates") or ()
    report = run / REPORT if run is not None else None
    return {
        "name": outcome.task.name,
        "status": outcome.status,
        "why": outcome.words,
        "attempts": outcome.attempts,
        "seconds": f"{outcome.seconds:.0f}" if outcome.attempts else "–",
        "coverage": coverage_words((record.get("summary") or {}).get("coverage") or {}),
        "gates": ", ".join(gate["name"] for gate in gates if not gate["passed"] and gate["severity"] == "fail"),
        "run": "" if run is None else run.name,
        "link": os.path.relpath(report, folder) if report is not None and report.is_file() else "",
    }


def _record(run: pathlib.Path | None) -> dict[str, Any]:
    try:
        return {} if run is None else read_record(run)
    except (CorruptArtifact, json.JSONDecodeError):
        return {}
