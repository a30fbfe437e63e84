"""Is calibration itself right: do posteriors of simulated telemetry hold the truth as often as they say?"""

from bayestwin.simulation_based.sbc import sbc
from bayestwin.simulation_based.verdict import judge_sbc

__all__ = ["judge_sbc", "sbc"]
