"""Rows that are chosen where they lie: those of a query of PostgreSQL, and those of Parquet files that fit a filter.

What does not fit never comes here, and what comes is counted, so that memory is bounded whatever server or files hold.
Rows that came are written down as they are, with their hash: a run keeps them.
"""

import datetime as dt
import hashlib
import pathlib
import re
from collections.abc import Generator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from bayestwin._base.postgres import BATCH, column_of, connected, in_a_line, shown, table_of
from bayestwin.errors import InvalidSetting, InvalidTelemetry
from bayestwin.telemetry.record import time_in

MAX_CELLS = 20_000_000
"""Values that may come: 160 MB as numbers, and more than any calibration looks at."""

OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "in", "not in")
"""How a filter compares a column with a value."""

PARAMETERS = (bool, int, float, str, dt.date)
"""Kinds of values that are bound to a query; moments are dates."""


class Selection(NamedTuple):
    """What is chosen, and on whose clock moments in it are; arguments of `read_telemetry`.

    Attributes:
        query: A SELECT of PostgreSQL.
        parameters: What is bound to the names in it.
        filters: What rows of Parquet files must fulfil, all together: column, operator, value.
        columns: Which of their columns are read; None for all.
        timezone: Zone of moments without an offset.
    """

    query: str | None = None
    parameters: Mapping[str, Any] | None = None
    filters: Sequence[Sequence[Any]] | None = None
    columns: Sequence[str] | None = None
    timezone: str | None = None


ALL = Selection()


# A query.


def query_rows(address: str, chosen: Selection) -> tuple[pd.DataFrame, str]:
    """The answer to a query, and what it is an answer of.

    Args:
        address: Of the database, without a password.
        chosen: Has the query.

    Raises:
        InvalidTelemetry: If there is no query, it is no SELECT, the server refuses it, or more comes than is read.
        InvalidInput: If the address holds a password, or is none.
        InvalidSetting: If psycopg is not installed.
        Unreachable: If the server does not answer.
    """
    if not (chosen.query or "").strip():
        raise InvalidTelemetry(
            f"`{shown(address)}` is a database, and no query says which of its rows are meant.",
            expected="`query='SELECT time, … FROM … WHERE …'` with it",
            received="no query",
            advice="Choose the rows of one asset and the time that is needed: what is not read costs nothing.",
        )
    names: list[str] = []
    types: list[int] = []
    batches = []
    for described, rows in answer_of(address, str(chosen.query), chosen.parameters or {}, chosen.timezone):
        if not names:
            names, types = [one.name for one in described], [one.type_code for one in described]
        batches.append([column_of([row[place] for row in rows], kind) for place, kind in enumerate(types)])
        _check_size(sum(len(batch[0]) for batch in batches), len(names), "The answer to the query")
    return table_of(batches, names, types), f"query of {shown(address)}"


def answer_of(
    address: str, query: str, parameters: Mapping[str, Any], timezone: str | None, more: Any = None
) -> Generator[tuple[Any, list[tuple[Any, ...]]]]:
    """The answer to a query, a batch at a time: what its columns are, and rows; once without rows if there are none.

    A cursor of the server takes one SELECT and nothing that changes anything, and values are bound, never written
    into the query.

    Args:
        address: Of the database.
        query: One SELECT; `%(name)s` stands for the parameter `name`.
        parameters: By name.
        timezone: Zone of the session.
        more: Makes of the query what is asked in its place, as psycopg composes SQL; by default the query itself.

    Raises:
        InvalidTelemetry: If the server refuses it, or a value cannot be bound.
    """
    strange = [name for name, value in parameters.items() if not isinstance(value, PARAMETERS)]
    if strange:
        raise InvalidTelemetry(
            f"`parameters` has a value for `{strange[0]}` that cannot be bound to a query.",
            expected="a number, text, a date or a moment",
            received=type(parameters[strange[0]]).__name__,
            advice="Give each value a name of its own.",
        )
    with connected(address, timezone=timezone) as connection:
        import psycopg  # pyright: ignore[reportMissingImports]

        try:
            with connection.cursor(name="bayestwin") as cursor:
                plain = query.strip().rstrip(";")
                cursor.execute(plain if more is None else more(plain), dict(parameters) or None)
                rows = cursor.fetchmany(BATCH)
                yield cursor.description, rows
                while rows := cursor.fetchmany(BATCH):
                    yield cursor.description, rows
        except psycopg.OperationalError:
            raise
        except psycopg.Error as reason:
            raise InvalidTelemetry(
                f"`{shown(address)}` does not answer the query.",
                expected="one SELECT, with `%(name)s` for each of its `parameters` and, beside these, `%%` for %",
                received=in_a_line(reason),
                advice="Try it by `psql` first. Nothing can be changed by it: it is read in a transaction that only "
                "reads.",
            ) from reason


def refuse_open_order(chosen: Any, duplicates: str, ambiguous: str | None) -> None:
    """Refuse settings that go by the order of rows where a query leaves that open.

    Args:
        chosen: Has the query.
        duplicates: As in `read_telemetry`.
        ambiguous: Likewise.

    Raises:
        InvalidTelemetry: Naming the setting.
    """
    if chosen.query is None or re.search(r"\border\s+by\b", chosen.query, re.IGNORECASE):
        return
    told = [("duplicates", duplicates)] if duplicates in ("first", "last") else []
    told += [("ambiguous", ambiguous)] if ambiguous == "infer" else []
    if told:
        name, value = told[0]
        raise InvalidTelemetry(
            f"`{name}='{value}'` goes by the order of rows, which the query leaves open.",
            expected="a query with ORDER BY",
            received="one without: a server may answer in another order each time",
            advice="Add ORDER BY and the column that says which row comes first.",
        )


# Parquet: a file, or a folder of them, of which folders such as `asset=pump-7` may be a part.


def parquet_rows(path: pathlib.Path, chosen: Selection) -> tuple[pd.DataFrame, str]:
    """The rows of Parquet files that fit the filters; of files and row groups that cannot, nothing is read.

    Args:
        path: A file or a folder of them.
        chosen: Has filters and columns.

    Raises:
        InvalidTelemetry: If there are no such files or columns, a filter makes no sense, or more fits than is read.
        InvalidSetting: If pyarrow is not installed.
    """
    try:
        import pyarrow as pa  # pyright: ignore[reportMissingImports]
        import pyarrow.dataset as ds  # pyright: ignore[reportMissingImports]
    except ImportError as reason:
        raise InvalidSetting(
            f"`{path}` holds Parquet files, which nothing that is installed can read.",
            expected="pyarrow, an optional extra",
            received="no pyarrow",
            advice='Install it: `pip install "bayestwin[parquet]"`.',
        ) from reason
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*.parquet") if one.name[0] not in "._")
    if not files:
        raise InvalidTelemetry(
            f"Folder `{path}` has no Parquet file.",
            expected="files that end with `.parquet`, perhaps in folders such as `asset=pump-7`",
            received=", ".join(f"`{one.name}`" for one in sorted(path.iterdir())[:5]) or "an empty folder",
            advice="Name a file, or the folder that holds such files.",
        )
    try:
        found = ds.dataset(
            [str(one) for one in files], format="parquet", partitioning="hive", partition_base_dir=str(path)
        )
        wanted = _columns(found.schema, chosen.columns)
        condition = None
        for one in chosen.filters or ():
            term = _term(found.schema, one, chosen.timezone, ds, pa)
            condition = term if condition is None else condition & term
        # one batch is read ahead, so that memory does not hold files that are still to come
        scanner = found.scanner(
            columns=wanted, filter=condition, batch_size=1 << 16, batch_readahead=1, fragment_readahead=1
        )
        num, batches = 0, []
        for batch in scanner.to_batches():
            num += batch.num_rows
            _check_size(num, len(wanted), f"What fits in `{path.name}`")
            batches.append(batch)
        table = pa.Table.from_batches(batches, schema=scanner.projected_schema).to_pandas()
    except (pa.ArrowException, OSError, ValueError) as reason:
        raise InvalidTelemetry(
            f"`{path}` does not read as Parquet.",
            expected="whole Parquet files with the same columns, and filters whose values are of the kind of these",
            received=" ".join(str(reason).split())[:300],
            advice="Correct `filters`, or restore the file that is named.",
        ) from reason
    return table.reset_index() if table.index.name else table, path.name


def _columns(schema: Any, columns: Sequence[str] | None) -> list[str]:
    # labels of rows without a name are no column
    there = [name for name in schema.names if not name.startswith("__index_level_")]
    if columns is None:
        return there
    if strange := [name for name in columns if name not in there]:
        raise InvalidTelemetry(
            f"`columns` names `{strange[0]}`, which the Parquet files do not have.",
            expected=", ".join(f"`{name}`" for name in there),
            received=f"`{strange[0]}`",
            advice="Correct the name.",
        )
    return [*columns]


def _term(schema: Any, one: Sequence[Any], timezone: str | None, ds: Any, pa: Any) -> Any:
    """One filter as pyarrow has it."""
    well = isinstance(one, Sequence) and not isinstance(one, str) and len(one) == 3
    name, sign, value = one if well else ("", "", None)
    several = isinstance(value, list | tuple)
    if sign not in OPERATORS or name not in schema.names or several != (sign in ("in", "not in")):
        raise InvalidTelemetry(
            "`filters` has an entry that is no comparison of a column with a value.",
            expected=f"column, operator and value: a column of {', '.join(f'`{n}`' for n in _columns(schema, None))}, "
            f"one of {' '.join(OPERATORS)}, and a value, or a list of values for `in` and `not in`",
            received=f"{one!r}",
            advice="For example `['asset', '==', 'pump-7']`.",
        )
    kind = schema.field(name).type
    literals = [_literal(each, kind, timezone, pa) for each in (value if several else [value])]
    if several:
        fits = ds.field(name).isin(pa.array([each.as_py() for each in literals], kind))
        return fits if sign == "in" else ~fits
    compared = {"==": "__eq__", "!=": "__ne__", "<": "__lt__", "<=": "__le__", ">": "__gt__", ">=": "__ge__"}
    return getattr(ds.field(name), compared[sign])(literals[0])


def _literal(value: Any, kind: Any, timezone: str | None, pa: Any) -> Any:
    """A value as a column has it; a moment on the clock of the telemetry, or as it stands where the column has none."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not pa.types.is_timestamp(kind):
        return pa.scalar(value).cast(kind)
    if not isinstance(value, str | dt.date | np.datetime64):
        raise InvalidTelemetry(
            "`filters` compares times with something else.",
            expected="a date or a moment, such as `2026-03-01` or `2026-03-01 13:00+01:00`",
            received=f"{value!r}",
            advice="Correct the value.",
        )
    moment = time_in(value, pd.DatetimeIndex([]), timezone, "filters")
    if kind.tz is None:  # on the clock of the data
        moment = moment if timezone is None else moment.tz_localize("UTC").tz_convert(timezone).tz_localize(None)
        return pa.scalar(moment.to_pydatetime()).cast(kind)
    return pa.scalar(moment.tz_localize("UTC").to_pydatetime(), pa.timestamp("us", "UTC")).cast(kind)


def _check_size(num: int, num_columns: int, what: str) -> None:
    if num * num_columns > MAX_CELLS:
        raise InvalidTelemetry(
            f"{what} is more than is read into memory.",
            expected=f"at most {MAX_CELLS:,} values",
            received=f"more than {num:,} rows of {num_columns} columns",
            advice="Choose less: one asset, less time, the columns that the twin has, or means over longer steps.",
        )


# What came, written down.


def rows_sha256(table: pd.DataFrame) -> str:
    """Hash of the rows of a table, in whatever order they and the columns stand: the same rows give the same hash."""
    names = sorted(map(str, table.columns))
    columns = [_in_bytes(table.iloc[:, table.columns.get_loc(name)]) for name in names]
    digest = hashlib.sha256("\0".join([str(len(table)), *names]).encode())
    for row in sorted(b"\0".join(cells) for cells in zip(*columns, strict=True)):
        digest.update(b"\n" + row)
    return digest.hexdigest()


def _in_bytes(column: pd.Series) -> list[bytes]:
    """Cells as text that is the same for the same value, in bytes."""
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        column = column.dt.tz_convert("UTC")
    counts = getattr(column.dtype, "kind", "O") in "iufb"
    texts = ("" if pd.isna(cell) else repr(float(cell)) if counts else str(cell) for cell in column)
    return [text.encode() for text in texts]


ROW = "bayestwin row"
"""Dimension of rows that were written down."""

ZONED = "bayestwin_utc"
"""Attribute of times that were written down in UTC and had an offset: without it they would have none."""


def written(table: pd.DataFrame) -> bytes:
    """Rows as a netCDF file that reads as the same rows, everywhere and without any extra.

    Raises:
        InvalidTelemetry: If a column has a name that netCDF does not have.
    """
    variables = {}
    for place, name in enumerate(map(str, table.columns)):
        column, attributes = table.iloc[:, place], {}
        if "/" in name or name in variables or not name.strip():
            raise InvalidTelemetry(
                f"A column is called `{name}`, and cannot be written down.",
                expected="names without `/`, each once",
                received=", ".join(f"`{one}`" for one in table.columns),
                advice="Name it in the query: `SELECT … AS name`.",
            )
        if isinstance(column.dtype, pd.DatetimeTZDtype):
            column, attributes = column.dt.tz_convert("UTC").dt.tz_localize(None), {ZONED: 1}
        dated = pd.api.types.is_datetime64_any_dtype(column.dtype)
        if not dated and not pd.api.types.is_numeric_dtype(column.dtype):
            column = pd.Series(["" if pd.isna(cell) else str(cell) for cell in column], dtype=object)
        values = column.to_numpy("datetime64[us]" if dated else None)
        encoding = {"units": "microseconds since 1970-01-01", "dtype": "int64"} if dated else {}
        variables[name] = xr.Variable((ROW,), values, attributes, encoding)
    content = xr.Dataset(variables).to_netcdf(engine="h5netcdf")
    assert content is not None
    return bytes(content)


def as_written(table: pd.DataFrame, dataset: xr.Dataset) -> pd.DataFrame:
    """A table that netCDF gave, with what netCDF does not have: offsets of times, and text that is missing."""
    if ROW not in dataset.sizes:
        return table
    for name in dataset.data_vars:
        if ZONED in dataset[name].attrs:
            table[name] = table[name].dt.tz_localize("UTC")
        elif table[name].dtype.kind == "O" or isinstance(table[name].dtype, pd.StringDtype):
            table[name] = table[name].astype(object).where(table[name] != "", None)
    return table.reset_index(drop=True)
