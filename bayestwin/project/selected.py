"""The rows that a job chooses where they lie, in a database or in Parquet files: asked for once, and kept by the run.

What came is a file from then on, which the run copies as it copies every other: it is made again from that, without the
server. Its record has the query, how many rows came, and their hash, by which it can be asked whether they still would.
"""

import dataclasses
import pathlib
import re
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from typing import Any

from bayestwin._base.postgres import shown
from bayestwin.errors import BayestwinError
from bayestwin.project.telemetry_sections import ReadingSection, TelemetrySection
from bayestwin.telemetry.selecting import Selection, parquet_rows, query_rows, rows_sha256, written


@dataclasses.dataclass(frozen=True, eq=False)
class KeptRows:
    """Rows that came, in a file that goes with this.

    Attributes:
        path: The file.
        told: What was asked, how many rows came, and their hash, as plain values.
    """

    path: pathlib.Path
    told: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Have the folder removed once nothing needs it any more, and in the end."""
        weakref.finalize(self, shutil.rmtree, self.path.parent, ignore_errors=True)


def selected_file(section: ReadingSection, path: pathlib.Path) -> pathlib.Path:
    """The file of the rows that a table of a job chooses.

    Args:
        section: The table, which keeps them: whoever reads it again reads the same rows.
        path: The file or folder that it names, if it does.

    Raises:
        InvalidTelemetry: If rows cannot be chosen so, or cannot be written down.
        InvalidSetting: If what asks for them is not installed.
        Unreachable: If the database does not answer.
    """
    if (known := section.kept.get(str(path))) is not None:
        return known.path
    chosen = Selection(**{name: getattr(section, name) for name in Selection._fields})
    if section.database is None:
        (table, _), name, asked = parquet_rows(path, chosen), path.stem, {"file": section.file}
    else:
        (table, _), name = query_rows(section.database, chosen), shown(section.database).rpartition("/")[2]
        asked = {"database": section.database}
    words = section.model_dump(mode="json", include={"query", "parameters", "filters", "columns"})
    told = asked | {key: value for key, value in words.items() if value} | {"rows": len(table)}
    file = (
        pathlib.Path(tempfile.mkdtemp(prefix="bayestwin-rows-"))
        / f"{re.sub(r'[^A-Za-z0-9_-]+', '-', name) or 'rows'}.nc"
    )
    file.write_bytes(written(table))
    section.kept[str(path)] = KeptRows(file, told | {"sha256": rows_sha256(table)})
    return file


def selections(section: TelemetrySection) -> dict[str, Mapping[str, Any]]:
    """What was chosen so far, by the name of its source; of the only one by that of the table."""
    every = section.sources or {"telemetry": section}
    return {name: kept.told for name, one in every.items() for kept in one.kept.values()}


def selections_now(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the databases of a run answer now to what they were asked then: hash and number of rows, or why not.

    Args:
        record: Of the run.
    """
    found = {}
    telemetry = (record.get("job") or {}).get("telemetry") or {}
    every = telemetry.get("sources") or {"telemetry": telemetry}
    for name, then in (record.get("selected") or {}).items():
        if "database" not in then:  # files stand where only the job knows
            continue
        try:
            asked = Selection(then["query"], then.get("parameters"), timezone=every[name].get("timezone"))
            table, _ = query_rows(then["database"], asked)
            found[name] = {"rows": len(table), "sha256": rows_sha256(table)}
        except BayestwinError as reason:
            found[name] = {"rows": f"not asked: {reason.summary}"}
    return found
