"""Which twin predicts better: leave-one-out, leave-future-out, and twins with a term switched off."""

from bayestwin.comparison.ablation import ablate
from bayestwin.comparison.compare import compare
from bayestwin.comparison.future import leave_future_out

__all__ = ["ablate", "compare", "leave_future_out"]
