"""The report: one self-contained HTML page about a calibrated twin."""

from bayestwin.report.render import render_report

__all__ = ["render_report"]
