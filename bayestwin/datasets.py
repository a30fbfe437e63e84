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
    """

    url: str
    file: str
    sha256: str
    licence: str
    words: str
    time: str
    units: Mapping[str, str]


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
    return read_telemetry(path, time=source.time, units=source.units, rename=rename)


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
