"""Which quantities can telemetry tell at all, how well, and what more of it would do; before anything is sampled."""

from bayestwin.identifiability.identify import identify
from bayestwin.identifiability.verdict import verdict

__all__ = ["identify", "verdict"]
