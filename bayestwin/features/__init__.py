"""Features: columns made of others, each of which is known from its own past alone. Public: all names below.

What looks ahead is refused: leads, windows around a time, statistics of the whole record, functions that a check by
construction finds out.
"""

from bayestwin.features.adding import add_features, check_causal
from bayestwin.features.base import Feature
from bayestwin.features.derived import Expression, Function, Standardized
from bayestwin.features.past import Difference, Lag, Rolling
from bayestwin.features.regimes import Bins, Calendar, Switch

__all__ = [
    "Bins",
    "Calendar",
    "Difference",
    "Expression",
    "Feature",
    "Function",
    "Lag",
    "Rolling",
    "Standardized",
    "Switch",
    "add_features",
    "check_causal",
]
