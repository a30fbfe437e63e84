"""What is printed of a check: a table of findings, the worst first, and where the page lies."""

import rich.console
import rich.markup
import rich.table

from bayestwin._base.wording import count
from bayestwin.check import Finding
from bayestwin.check.finding import where
from bayestwin.cli.results import show_findings
from bayestwin.cli.text import MARKS, show_files, table
from bayestwin.project.carrying import Carried
from bayestwin.project.check import Checked


def show_checked(console: rich.console.Console, found: Carried[Checked]) -> None:
    """A table on a terminal, one line a finding elsewhere; then what follows, and the files."""
    findings = found.found.findings
    if console.is_terminal:
        console.print(finding_table(findings))
    else:
        show_findings(console, findings)
    fails = sum(one.severity == "fail" for one in findings)
    warns = sum(one.severity == "warn" for one in findings)
    if fails:
        console.print(f"[red]Do not calibrate yet:[/red] {count(fails, 'finding')} must be understood first.")
    elif warns:
        console.print(f"[yellow]Look at[/yellow] {count(warns, 'warning')} before you rely on a calibration.")
    else:
        console.print("[green]Nothing speaks against a calibration.[/green]")
    show_files(console, found.run)


def finding_table(findings: tuple[Finding, ...]) -> rich.table.Table:
    """Severity, kind, rows and sentence of each."""
    made = table("", "kind", "rows", "what was found")
    for column in made.columns[1:]:
        column.justify = "left"
    made.columns[3].ratio = 1
    for one in findings:
        rows = where(one.evidence).split(" ", 1)[1] if "rows" in one.evidence else ""
        made.add_row(MARKS[one.severity], one.kind, rows, rich.markup.escape(one.sentence))
    return made
