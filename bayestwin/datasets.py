"""Public telemetry by name: from a local folder, else the user's cache, else its public source; hash-checked.

Nothing here ships with the package; each entry says where it comes from and under which licence.
"""

import hashlib
import http.client
import os
import pathlib
import secrets
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from bayestwin.cache import cache_folder
from bayestwin.errors import InvalidTelemetry, StorageFailure, explain
from bayestwin.telemetry import Telemetry, read_telemetry


class Source(NamedTuple):
    """Where a dataset comes from.

    Attributes:
        url: Public address of the file, at one commit.
        file: Name under `<folder>/<dataset>/`.
        sha256: Hash of the file.
        licence: Licence of the data.
        words: What it is.
        time: Column with the times.
        units: Unit of each column.
        skip: Lines of the file that hold neither names nor values, counted from 0.
    """

    url: str
    file: str
    sha256: str
    licence: str
    words: str
    time: str
    units: Mapping[str, str]
    skip: tuple[int, ...] = ()


REGISTRY: Mapping[str, Source] = {
    "armadillo": Source(
        url="https://raw.githubusercontent.com/locie/pySIP/da70d25619add47e6d16b75d95a662d2630f5547/data/armadillo/armadillo_data_H2.csv",
        file="armadillo.csv",
        sha256="87cafaf39e414a4f732c4ed01c8c74cc69c3cbad43ab439e68a40f39b9236a16",
        licence="MIT (locie/pySIP)",
        words="unoccupied test house, 233 samples of 30 min: outdoor and indoor temperature, heating, sun",
        time="Time",
        units={"Time": "s", "T_ext": "degC", "P_hea": "W", "I_sol": "W/m^2", "T_int": "degC"},
    ),
    "darkgreybox": Source(
        url="https://raw.githubusercontent.com/czagoni/darkgreybox/280a7cd5849ad1c109c7aca8b68c52f09f1ca3f3/docs/tutorials/data/demo_data.csv",
        file="house.csv",
        sha256="d462f1cfde5841a7f17fc2a37e1ad26eb1dccd528761303d088d6d7ec7e1363c",
        licence="MIT (czagoni/darkgreybox)",
        words="occupied, school-like building, 792 hours: heating, indoor, outdoor and water temperature",
        time="Unnamed: 0",
        units={"Ph": "kW", "Ti": "degC", "Ta": "degC", "Th": "degC"},
    ),
    "nab": Source(
        url="https://raw.githubusercontent.com/numenta/NAB/ea702d75cc2258d9d7dd35ca8e5e2539d71f3140/data/realKnownCause/machine_temperature_system_failure.csv",
        file="machine_temperature_system_failure.csv",
        sha256="92bf5b87fc7f9bba8ca0b7ec63ccaac8cb4a1371a258e8c29a10ae9c018d82a4",
        licence="MIT (numenta/NAB)",
        words="temperature of a large machine that fails, 22,695 samples of 5 min; one clock change, so sort by time",
        time="timestamp",
        units={},
    ),
    "ucl_wall": Source(
        url="https://raw.githubusercontent.com/AllenDowney/ModSimPy/fd52a3c6cf4f58eba6840ad6055c9d73134c419a/data/DataOWall.csv",
        file="wall.csv",
        sha256="c7d0b6002a689f579ff04686177c6f00c5415b1fff55303266e35e3e9921e89a",
        licence="MIT (AllenDowney/ModSimPy)",
        words="solid wall of a dwelling, 864 samples of 5 min: heat flux and temperature on both sides",
        time="Unnamed: 0",
        units={"Q_in": "W/m^2", "Q_out": "W/m^2", "T_int": "degC", "T_ext": "degC"},
        skip=(1, 2),
    ),
}


def load(name: str, *, rename: Mapping[str, str] | None = None) -> Telemetry:
    """Load a dataset as telemetry.

    Args:
        name: One of `datasets.REGISTRY`.
        rename: Columns → names in a twin.

    Raises:
        InvalidTelemetry: If the name is unknown or the file is not the one that was published.
        StorageFailure: If the file is nowhere and cannot be downloaded.
    """
    path = find(name)
    source = REGISTRY[name]
    table = pd.read_csv(path, skiprows=list(source.skip)) if source.skip else path
    return read_telemetry(table, time=source.time, units=source.units, rename=rename)


def find(name: str) -> pathlib.Path:
    """Path of a dataset's file, downloaded first where it has to be.

    Looks under `BAYESTWIN_DATA_DIR`, then in the user's cache (`BAYESTWIN_CACHE_DIR`, by default the system's place
    for caches); errors are those of `load`.
    """
    if name not in REGISTRY:
        message = explain(
            f"There is no dataset `{name}`.",
            expected=", ".join(f"`{known}`" for known in REGISTRY),
            received=f"`{name}`",
            advice="Read your own files with `bt.read_telemetry`.",
        )
        raise InvalidTelemetry(message)
    source = REGISTRY[name]
    own = os.environ.get("BAYESTWIN_DATA_DIR")
    folders = [pathlib.Path(own)] if own else []
    folders.append(cache_folder())
    for folder in folders:
        path = folder / name / source.file
        if path.is_file():
            _check_hash(path.read_bytes(), source, str(path))
            return path
    data = _download(name, source)
    _check_hash(data, source, source.url)
    path = folders[-1] / name / source.file
    _keep(data, path)
    return path


def _check_hash(data: bytes, source: Source, where: str) -> None:
    received = hashlib.sha256(data).hexdigest()
    if received != source.sha256:
        message = explain(
            f"`{where}` is not the file that was published.",
            expected=f"sha256 {source.sha256}",
            received=f"sha256 {received}",
            advice="It was changed or damaged on the way: remove it to have it downloaded again.",
        )
        raise InvalidTelemetry(message)


def _download(name: str, source: Source) -> bytes:
    try:
        with urllib.request.urlopen(source.url, timeout=30) as response:
            return response.read()
    except (OSError, http.client.HTTPException) as reason:
        if isinstance(reason, urllib.error.HTTPError):
            reason.close()
        message = explain(
            f"Dataset `{name}` is not on this machine and cannot be downloaded.",
            expected=f"`{name}/{source.file}` under BAYESTWIN_DATA_DIR or in `{cache_folder()}`",
            received=f"{getattr(reason, 'reason', None) or reason or type(reason).__name__}",
            advice=f"Download {source.url} yourself and put it there.",
        )
        raise StorageFailure(message) from reason


def _keep(data: bytes, path: pathlib.Path) -> None:
    """Put a download into the cache, under its name only once it is whole."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as reason:
        message = explain(
            f"The download cannot be kept as `{path}`.",
            expected="a folder that can be written to",
            received=reason.strerror or str(reason),
            advice="Name another by BAYESTWIN_CACHE_DIR.",
        )
        raise StorageFailure(message) from reason
