"""Is telemetry ready to be calibrated: findings with rows, times and a severity, before anything is sampled."""

from bayestwin.check.card import Limit, read_limits
from bayestwin.check.check import check, record_for
from bayestwin.check.finding import KINDS, Finding, wrong_kinds
from bayestwin.check.thresholds import Thresholds

__all__ = ["KINDS", "Finding", "Limit", "Thresholds", "check", "read_limits", "record_for", "wrong_kinds"]
