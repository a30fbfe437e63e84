"""The FMU of the tests, built once, where FMPy and a compiler are there."""

import pathlib

import pytest
from fmus import build_fmu

pytest.importorskip("fmpy", reason="the extra `fmi` is not installed")


@pytest.fixture(scope="session")
def oscillator(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The file of the small FMU."""
    return build_fmu(tmp_path_factory.mktemp("fmu") / "van_der_pol.fmu")
