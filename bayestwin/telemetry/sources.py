"""Where telemetry comes from: CSV, Parquet and netCDF files, databases, tables and datasets in memory, as they stand.

Files are local and never run code; nothing is judged here but whether the file is what it is taken for.
"""

import io
import os
import pathlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import h5py
import pandas as pd
import xarray as xr

from bayestwin._base.files import local_path, refuse_reaching_out, without_password
from bayestwin._base.postgres import is_database
from bayestwin.errors import InvalidSetting, InvalidTelemetry
from bayestwin.telemetry.columns import of_dataset, of_table
from bayestwin.telemetry.selecting import ALL, Selection, as_written, parquet_rows, query_rows

_HDF5, _NETCDF3, _PARQUET = b"\x89HDF\r\n\x1a\n", b"CDF", b"PAR1"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_PACKED = {".gz", ".bz2", ".xz", ".zst", ".zip"}
_SEPARATORS = {",": "','", ";": "';'", "\t": "'\\t'", "|": "'|'"}


class Rows(NamedTuple):
    """A table as it came, before anything is judged.

    Attributes:
        table: One row a row of the source.
        source: Where it came from.
        units: Units that the source itself states, by column.
        notices: What had to be done to read it.
    """

    table: pd.DataFrame
    source: str
    units: dict[str, str]
    notices: tuple[str, ...] = ()


type SkippedRows = int | Sequence[int]
"""How many lines at the beginning of a CSV file are left out, or the numbers of those that are, counted from 1."""


def read_source(
    data: Any,
    separator: str = ",",
    decimal: str = ".",
    skip_rows: SkippedRows = 0,
    text: str = "",
    chosen: Selection = ALL,
) -> Rows:
    """A file, a table, a dataset or the answer of a database as rows of one's own.

    Args:
        data: Path of a CSV, Parquet or netCDF file, told apart by their first bytes, or of a folder of Parquet files;
            a pandas table; a dataset; the address of a database.
        separator: Between the columns of a CSV file.
        decimal: Decimal sign of a CSV file.
        skip_rows: Lines of a CSV file that are left out.
        text: Column of a CSV file that holds names, of which `007` is one.
        chosen: Which rows of a database or of Parquet files are meant.

    Raises:
        InvalidTelemetry: If it is none of these, or does not read.
        UnsafeArtifact: If it is the address of something else that is remote, or a netCDF file that reaches out of
            itself.
        InvalidSetting: If nothing is installed that reads it.
        Unreachable: If a database does not answer.
    """
    if is_database(data):
        return Rows(*query_rows(str(data), chosen), {})
    path = local_path(data) if isinstance(data, str | os.PathLike) else None
    if chosen.query is not None or chosen.parameters:
        raise _misplaced("query" if chosen.query is not None else "parameters", "the address of a database", data)
    narrowed = chosen.columns is not None or bool(chosen.filters)
    if path is not None and (path.is_dir() or (narrowed and path.is_file() and _is_parquet(path))):
        return Rows(*parquet_rows(path, chosen), {})
    if narrowed:
        raise _misplaced("filters" if chosen.filters else "columns", "a Parquet file or a folder of them", data)
    if isinstance(data, pd.DataFrame):
        table, units = of_table(data.copy())
        return Rows(table, "pandas table", units)
    if isinstance(data, xr.Dataset):
        dataset, units = of_dataset(data)
        return Rows(dataset.to_dataframe(), "xarray dataset", units)
    if path is None or not path.is_file():
        raise InvalidTelemetry(
            f"There is no telemetry file `{path}`." if path else "Telemetry comes from something else.",
            expected=f"the path of a {_named('CSV', *FORMATS)} file, a pandas table or an xarray dataset",
            received=f"`{path}`" if path else type(data).__name__,
            advice="Check the path; it is taken from the current folder.",
        )
    with path.open("rb") as file:
        head = file.read(1024)
    for kind in FORMATS.values():
        if kind.fits(path, head):
            return kind.read(path)
    if b"\0" in head and not head.startswith(_UTF16) and path.suffix.lower() not in _PACKED:
        raise _unreadable(path, f"bytes that are no text: {head[:8]!r}", "Export it as CSV, Parquet or netCDF.")
    encoding = "utf-16" if head.startswith(_UTF16) else "utf-8-sig"
    return _read_csv(path, separator, decimal, encoding, _lines(skip_rows), text)


def _is_parquet(path: pathlib.Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_PARQUET)) == _PARQUET


def _misplaced(argument: str, expected: str, data: Any) -> InvalidTelemetry:
    return InvalidTelemetry(
        f"`{argument}` does not go with this telemetry.",
        expected=expected,
        received=f"`{without_password(os.fspath(data))}`"
        if isinstance(data, str | os.PathLike)
        else type(data).__name__,
        advice=f"Leave `{argument}` out.",
    )


def _lines(skip_rows: SkippedRows) -> int | list[int]:
    """Lines as pandas counts them, from 0."""
    numbers = [skip_rows] if isinstance(skip_rows, int) else list(skip_rows)
    least = 0 if isinstance(skip_rows, int) else 1
    if any(isinstance(one, bool) or not isinstance(one, int) or one < least for one in numbers):
        raise InvalidTelemetry(
            "`skip_rows` names no lines.",
            expected="how many lines stand before the names of the columns, or a list of line numbers from 1 on",
            received=f"{skip_rows!r}",
            advice="Write `skip_rows=3` for three lines before the names, `skip_rows=[2]` for units beneath them.",
        )
    return skip_rows if isinstance(skip_rows, int) else [one - 1 for one in numbers]


def _named(*kinds: str) -> str:
    """Kinds of files, as a sentence lists them."""
    return f"{', '.join(kinds[:-1])} or {kinds[-1]}"


def _read_csv(
    path: pathlib.Path, separator: str, decimal: str, encoding: str, skipped: int | list[int], text: str
) -> Rows:
    layout: dict[str, Any] = {"comment": "#", "skipinitialspace": True, "encoding": encoding, "skiprows": skipped}
    try:
        header = pd.read_csv(path, sep="\x01", nrows=0, **layout).columns[0]
        _check_separator(path, str(header), separator)
        with warnings.catch_warnings():
            # pandas would take values without a name for labels of rows, or drop them and warn
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(path, sep=separator, decimal=decimal, index_col=False, dtype={text: str}, **layout)
    except UnicodeDecodeError as reason:
        if encoding == "cp1252":
            raise _unreadable(path, str(reason), "Save it as UTF-8.") from reason
        rows = _read_csv(path, separator, decimal, "cp1252", skipped, text)
        notice = f"`{path.name}` is not UTF-8 and was read as Windows-1252: check names that are not plain letters."
        return rows._replace(notices=(notice,))
    except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError, UnicodeError) as reason:
        advice = "Where numbers have a decimal comma, columns need another separator: `separator=';'`, `decimal=','`."
        raise _unreadable(
            path,
            str(reason),
            f"{advice} Lines before the names of columns: `skip_rows=3`. Other layouts read with "
            "pandas, and pass the table.",
        ) from reason
    return Rows(table, path.name, {})


def _check_separator(path: pathlib.Path, header: str, separator: str) -> None:
    """A header that has other separators, and more of them, was written with these."""
    others = {sign: header.count(sign) for sign in _SEPARATORS if sign != separator}
    most = max(others, key=lambda sign: others[sign])
    if separator in _SEPARATORS and others[most] > header.count(separator):
        decimal = " and, where numbers have a decimal comma, `decimal=','`" if most != "," else ""
        advice = f"Pass `separator={_SEPARATORS[most]}`{decimal}."
        raise _unreadable(path, f"the header `{header}`", advice, f"columns apart by {_SEPARATORS[separator]}")


def _unreadable(
    path: pathlib.Path, received: str, advice: str, expected: str = "text with one header line, then one row a time"
) -> InvalidTelemetry:
    problem = f"`{path}` does not read as a CSV file."
    return InvalidTelemetry(problem, expected=expected, received=received, advice=advice)


def _read_parquet(path: pathlib.Path) -> Rows:
    try:
        return Rows(pd.read_parquet(path), path.name, {})
    except ImportError as reason:
        raise InvalidSetting(
            f"`{path}` is a Parquet file, which nothing that is installed can read.",
            expected="pyarrow, an optional extra",
            received="no pyarrow",
            advice='Install it: `pip install "bayestwin[parquet]"`. Or pass the table, or a CSV file.',
        ) from reason
    except (OSError, ValueError) as reason:
        raise _damaged(path, "Parquet", reason) from reason


def _read_netcdf(path: pathlib.Path) -> Rows:
    """All variables of the root group; the bytes that were checked are those that are read."""
    data = path.read_bytes()
    hdf5 = data.startswith(_HDF5)
    try:
        if hdf5:
            with h5py.File(io.BytesIO(data), "r") as file:
                refuse_reaching_out(file, path, size=len(data))
        loaded = xr.load_dataset(io.BytesIO(data), engine="h5netcdf" if hdf5 else "scipy")
        dataset, units = of_dataset(loaded)
        table = as_written(dataset.to_dataframe(), loaded)
    except (OSError, RuntimeError, ValueError, LookupError, TypeError) as reason:
        raise _damaged(path, "netCDF", reason) from reason
    return Rows(table, path.name, units)


def _damaged(path: pathlib.Path, kind: str, reason: Exception) -> InvalidTelemetry:
    return InvalidTelemetry(
        f"`{path}` does not read as a {kind} file.",
        expected=f"a whole {kind} file with one row a time",
        received=f"{type(reason).__name__}: {reason}",
        advice="Restore it from a copy, or read it with another program and pass the table.",
    )


# Kinds of files: each once, with all that others must know of it. What is none of them is taken for CSV.


class Format(NamedTuple):
    """A kind of file that telemetry is read from.

    Attributes:
        suffixes: How such files usually end.
        fits: Whether a file, of which the first bytes are given, is of this kind.
        read: Its rows as they stand, and the units that it states itself.
    """

    suffixes: tuple[str, ...]
    fits: Callable[[pathlib.Path, bytes], bool]
    read: Callable[[pathlib.Path], Rows]


FORMATS: dict[str, Format] = {
    "Parquet": Format((".parquet",), lambda _, head: head.startswith(_PARQUET), _read_parquet),
    "netCDF": Format((".nc",), lambda _, head: head.startswith((_HDF5, _NETCDF3)), _read_netcdf),
}
"""By name, in the order in which they are tried."""


def usual_suffixes() -> set[str]:
    """How files with telemetry usually end."""
    return {".csv", *(suffix for kind in FORMATS.values() for suffix in kind.suffixes)}
