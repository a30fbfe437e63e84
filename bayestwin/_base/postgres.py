"""Connections to PostgreSQL, and to what speaks its protocol: the address, the session, and what goes wrong in words.

A password never stands in an address, since addresses are recorded: libpq takes it from `PGPASSWORD`, a password file
or a service file. Nothing is imported before something is asked.
"""

import contextlib
import datetime
import importlib.util
import re
import urllib.parse
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from bayestwin._base.files import without_password
from bayestwin.errors import InvalidInput, InvalidSetting, Unreachable

_POSTGRES, _MQTT = "`PGPASSWORD`, or a password file", "`MQTT_PASSWORD`"

SCHEMES = {"postgresql://": _POSTGRES, "postgres://": _POSTGRES, "mqtt://": _MQTT, "mqtts://": _MQTT}
"""How addresses of servers begin, and where a password for each belongs."""

PATIENCE = 10
"""Seconds after which a server that says nothing counts as away, where the address has no `connect_timeout`."""

SECRETS = {"password", "sslpassword"}
"""Keys of an address that hold one."""


def is_database(text: object) -> bool:
    """Whether something is the address of a PostgreSQL database."""
    return isinstance(text, str) and text.lower().startswith(("postgresql://", "postgres://"))


def check_address(address: str) -> None:
    """Refuse an address that nobody should write down, or that is none.

    Raises:
        InvalidInput: If it holds a password, which no message repeats, or names no server.
    """
    try:
        keys = urllib.parse.parse_qs(urllib.parse.urlsplit(address).query).keys()
    except ValueError:  # it is no address, as its reader will say
        keys = ()
    if re.search(r"//[^@]*:[^@]*@", address) or SECRETS & {key.lower() for key in keys}:
        scheme, environment = next(one for one in SCHEMES.items() if address.lower().startswith(one[0]))
        raise InvalidInput(
            "The address of a server holds a password, which would be recorded with every run.",
            expected=f"an address without one, such as `{scheme}ann@host/plant`",
            received=f"`{without_password(address).partition('?')[0]}`",
            advice=f"Take it out, and put it into the environment: {environment}. In a name, write @ as %40.",
        )


def shown(address: str) -> str:
    """An address as messages and records have it: server and database, without the user and without settings."""
    bare = re.sub(r"//[^@/]*@", "//", without_password(address))
    return bare.partition("?")[0].rstrip("/")


@contextlib.contextmanager
def connected(address: str, *, timezone: str | None = None, read_only: bool = True) -> Iterator[Any]:
    """A connection of psycopg, in a transaction that sees one state of the database; kept where nothing is raised.

    Args:
        address: Such as `postgresql://ann@host:5432/plant?sslmode=verify-full`.
        timezone: On whose clock times without an offset are, in parameters and in functions of the server; by default
            in UTC.
        read_only: Whether the server refuses whatever would change anything.

    Raises:
        InvalidInput: If the address holds a password, or is none.
        InvalidSetting: If psycopg is not installed.
        Unreachable: If the server does not answer, does not let this user in, or goes away meanwhile.
    """
    check_address(address)
    if importlib.util.find_spec("psycopg") is None:
        raise InvalidSetting(
            f"`{shown(address)}` is a PostgreSQL database, and nothing that is installed can ask one.",
            expected="psycopg, an optional extra",
            received="no `psycopg`",
            advice='Install it: `pip install "bayestwin[postgres]"`.',
        )
    import psycopg  # pyright: ignore[reportMissingImports]
    from psycopg.conninfo import conninfo_to_dict  # pyright: ignore[reportMissingImports]

    try:
        parts = conninfo_to_dict(address)
    except psycopg.ProgrammingError as reason:
        raise InvalidInput(
            f"`{shown(address)}` is no address of a PostgreSQL database.",
            expected="an address such as `postgresql://ann@host:5432/plant`",
            received=str(reason).strip(),
            advice="Correct it.",
        ) from reason
    settings: dict[str, Any] = {"connect_timeout": PATIENCE, "application_name": "bayestwin", "client_encoding": "UTF8"}
    try:
        with psycopg.connect(**(settings | parts)) as connection:
            connection.read_only = read_only
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.execute("SELECT set_config('TimeZone', %s, false)", [_zone_of_session(timezone)])
            yield connection
    except psycopg.OperationalError as reason:
        raise Unreachable(
            f"The database `{shown(address)}` does not answer.",
            expected="a server that lets this user in, by a password from the environment where it asks for one",
            received=in_a_line(reason),
            advice="Check server, port, database and user; `psql` with the same address says whether it is the server.",
        ) from reason


def in_a_line(reason: Exception) -> str:
    """What the server, or psycopg, says was wrong, without the statement that it was wrong in."""
    told = getattr(getattr(reason, "diag", None), "message_primary", None) or str(reason)
    return " ".join(str(told).split()) or type(reason).__name__


def _zone_of_session(timezone: str | None) -> str:
    """A zone as PostgreSQL takes it; offsets count the other way round there, and are said with a name of their own."""
    offset = re.fullmatch(r"(?:UTC)?([+-])(\d\d):?(\d\d)", timezone or "")
    if offset is None:
        return timezone or "UTC"
    sign, hours, minutes = offset.groups()
    return f"<{sign}{hours}{minutes}>{'-' if sign == '+' else '+'}{hours}:{minutes}"


# Rows of an answer as columns of pandas, a batch at a time, so that memory holds little beside the numbers themselves.

BATCH = 10_000
"""Rows that come at once."""

_WHOLE, _REAL, _ZONED, _DATED = {20, 21, 23}, {16, 700, 701, 1700}, {1184}, {1082, 1114}
"""By which numbers the protocol knows types: whole ones; others that are numbers; moments with a zone; without."""


def column_of(values: list[Any], kind: int) -> np.ndarray:
    """A part of a column: numbers with NaN for NULL, dates in UTC or without zone, text with None for NULL; shape (n,).

    Args:
        values: As psycopg gives them.
        kind: Number of their type.
    """
    if kind in _WHOLE and None not in values:
        return np.array(values, dtype=np.int64)
    if kind in _WHOLE | _REAL:
        return np.array([np.nan if value is None else float(value) for value in values], dtype=np.float64)
    if kind in _ZONED:
        values = [value and value.astimezone(datetime.UTC).replace(tzinfo=None) for value in values]
    if kind in _ZONED | _DATED:
        return np.array(values, dtype="datetime64[us]")
    found = np.empty(len(values), dtype=object)
    found[:] = [None if value is None or value == "" else str(value) for value in values]
    return found


def table_of(batches: list[list[np.ndarray]], names: list[str], types: list[int]) -> pd.DataFrame:
    """A table from the columns of its batches, with one column for each name and type."""
    columns = []
    for place, kind in enumerate(types):
        column = pd.Series(np.concatenate([column_of([], kind), *(batch[place] for batch in batches)]))
        columns.append(column.dt.tz_localize("UTC") if kind in _ZONED else column)
    table = pd.concat(columns, axis="columns") if columns else pd.DataFrame()
    return table.set_axis(names, axis="columns")
