"""A forecast held against what was held out: coverage and scores, or why there are none."""

import xarray as xr

from bayestwin import errors
from bayestwin.assess import coverage, scores
from bayestwin.telemetry import Telemetry


def held_out(
    forecast: xr.DataTree | None, validation: Telemetry | None
) -> tuple[xr.Dataset | None, xr.Dataset | None, str]:
    """Coverage and scores, or why there are none."""
    if validation is None:
        start = "There is a forecast, but no" if forecast is not None else "No"
        reason = (
            f"{start} telemetry was held out: whether the intervals keep their promise is not known. Leave the "
            "last part of the record out of the calibration, predict it, and hold the forecast against it."
        )
        return None, None, reason
    if forecast is None:
        reason = (
            "Telemetry was held out, but nothing was predicted for it: whether the intervals keep their promise "
            "is not known. Predict at the held-out times, and make this report again with that forecast."
        )
        return None, None, reason
    try:
        return coverage(forecast, validation), scores(forecast, validation), ""
    except errors.InvalidInput as reason:
        return None, None, f"The forecast cannot be held against the held-out telemetry. {reason}"
