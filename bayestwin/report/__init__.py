"""The report: one self-contained HTML page about a calibrated twin. Matplotlib is imported when a page is wanted."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayestwin.report.calibrate import render_report
    from bayestwin.report.experiments import write_reports

__all__ = ["render_report", "write_reports"]


def __getattr__(name: str) -> Any:
    if name == "render_report":
        from bayestwin.report.calibrate import render_report

        return render_report
    if name == "write_reports":
        from bayestwin.report.experiments import write_reports

        return write_reports
    message = f"module 'bayestwin.report' has no attribute '{name}'"
    raise AttributeError(message)
