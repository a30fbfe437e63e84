"""Telemetry: what was recorded, with its own times and units. It is bound to a twin in `density`.

A table has one row a time and one column a signal; NaN is a missing value. Times are dates (kept in UTC) or numbers.
"""

from bayestwin.telemetry import datasets
from bayestwin.telemetry.aligning import align
from bayestwin.telemetry.reading import ReadingSettings, read_rows, read_telemetry, rows_by, signals_of
from bayestwin.telemetry.record import Telemetry, Zone, said, time_in
from bayestwin.telemetry.sources import Rows, read_source

__all__ = [
    "ReadingSettings",
    "Rows",
    "Telemetry",
    "Zone",
    "align",
    "datasets",
    "read_rows",
    "read_source",
    "read_telemetry",
    "rows_by",
    "said",
    "signals_of",
    "time_in",
]
