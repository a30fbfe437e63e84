"""Is telemetry ready to be calibrated: findings with rows, times and a severity, before anything is sampled."""

from bayestwin.readiness.card import Limit, read_limits
from bayestwin.readiness.checking import check, record_for
from bayestwin.readiness.finding import KINDS, Finding, wrong_kinds
from bayestwin.readiness.thresholds import Thresholds

__all__ = ["KINDS", "Finding", "Limit", "Thresholds", "check", "read_limits", "record_for", "wrong_kinds"]
