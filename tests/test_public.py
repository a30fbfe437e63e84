"""The public names are these, each importable, and none is loaded before it is used."""

import subprocess
import sys

import pytest

import bayestwin as bt

NAMES = """
    Gaussian Input LogNormal Observation Parameter Poisson Solver State StudentT Telemetry Twin calibrate coverage
    datasets diagnose errors intervals load numpyro_model predict read_telemetry render_report save scores simulate
"""


def test_the_public_names_are_these() -> None:
    assert sorted(NAMES.split()) == sorted(bt.__all__) == dir(bt)
    for name in bt.__all__:
        assert getattr(bt, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'bayestwin' has no attribute 'fit'"):
        _ = bt.fit


def test_importing_the_package_loads_nothing_heavy() -> None:
    program = "import sys, bayestwin; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"jax", "numpyro", "blackjax", "diffrax", "arviz", "matplotlib", "xarray", "pandas", "numpy", "scipy"}
    assert heavy & set(loaded) == set()
