"""The report: one self-contained HTML page about a calibrated twin. Matplotlib is imported when a page is wanted."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayestwin.report.render import render_report

__all__ = ["render_report"]


def __getattr__(name: str) -> Any:
    if name != "render_report":
        message = f"module 'bayestwin.report' has no attribute '{name}'"
        raise AttributeError(message)
    from bayestwin.report.render import render_report

    return render_report
