"""Results as JSON that every reader takes: plain values, and null where a number is not finite."""

import datetime
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd


def to_json(content: Any) -> str:
    """Content as JSON text.

    Args:
        content: Mappings, sequences, arrays, numbers, text, times and paths, nested in each other.

    Returns:
        The text, with a line end. JSON knows no NaN and no infinity: they become null.
    """
    return json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind == "M":
            return [pd.Timestamp(one).isoformat() for one in np.atleast_1d(value)]
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime.date):
        return value.isoformat()
    return value if value is None or isinstance(value, bool | int | str) else str(value)
