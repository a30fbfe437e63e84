"""Is telemetry ready to be calibrated: findings with rows, times and a severity, before anything is sampled."""

from bayestwin.check.check import check, record_for, register, unregister
from bayestwin.check.finding import KINDS, Finding, Limit, Thresholds, read_limits, wrong_kinds

__all__ = [
    "KINDS",
    "Finding",
    "Limit",
    "Thresholds",
    "check",
    "read_limits",
    "record_for",
    "register",
    "unregister",
    "wrong_kinds",
]
