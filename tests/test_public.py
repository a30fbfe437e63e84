"""The public names are these, each importable, and none is loaded before it is used."""

import subprocess
import sys

import pytest

import bayestwin as bt

NAMES = """
    Autocorrelated Biased Binomial Candidate Censored Column Control Discrepancy Event First FirstTime Fmu FromRows
    Gaussian Input InputChange Integral LogNormal LongestWhere Max Mean Min NegativeBinomial NoiseFrom Observation
    Parameter Poisson Policy ProcessNoise Proportional Rounded Scenario Solver State SteadyState StudentT Telemetry
    TimeWhere Twin ablate add_features align backtest calibrate calibrate_each check compare conformalize coverage
    cut_at_gaps datasets delay_line design diagnose errors extrapolation from_numpy identify influence intervals
    joint judge_design judge_sbc leave_assets_out leave_future_out load monitor numpyro_model optimise pit
    population power_scaling predict pymc_model quantities read_doses read_experiments read_petab read_telemetry
    registry render_report save sbc scenario scores sensitivity simulate solve_for uncertainty_shares update
    with_random_walk write_fmu write_petab write_reports
"""


def test_the_public_names_are_these() -> None:
    assert sorted(NAMES.split()) == sorted(bt.__all__) == dir(bt)
    for name in bt.__all__:
        assert getattr(bt, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'bayestwin' has no attribute 'fit'"):
        _ = bt.fit


HEAVY = """
    arviz arviz_stats blackjax diffrax filelock h5py jax jaxlib matplotlib netCDF4 numpy numpyro pandas pint pymc scipy
    xarray
"""

LIGHT = (
    "import bayestwin",
    "import bayestwin.cli",
    "from bayestwin.cli import app; app(['--help'], standalone_mode=False)",
    "from bayestwin.cli import app; app(['calibrate', '--help'], standalone_mode=False)",
)


def loaded_by(program: str) -> set[str]:
    """Top-level modules that are there after a program has run in a process of its own."""
    program = f"import sys; {program}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("program", LIGHT)
def test_nothing_heavy_is_loaded_before_it_is_used(program: str) -> None:
    assert loaded_by(program) & set(HEAVY.split()) == set()


@pytest.mark.thorough
def test_a_calibration_loads_neither_what_draws_nor_what_solves_stiff_twins_nor_another_sampler() -> None:
    program = "import bayestwin.cli.display, bayestwin.project.predict, bayestwin.project.calibrate"
    program += ", bayestwin.project.model"
    loaded = loaded_by(program)
    assert "blackjax" in loaded
    assert loaded & {"matplotlib", "diffrax", "equinox", "pymc", "pytensor", "netCDF4", "arviz", "arviz_plots"} == set()
