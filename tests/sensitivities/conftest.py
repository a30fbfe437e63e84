"""A posterior whose every change has a closed form."""

import pytest
import xarray as xr
from twins import known_decay_posterior


@pytest.fixture
def known_posterior() -> xr.DataTree:
    """Of an unknown level that decays at a known rate; read it, and leave it as it is."""
    return known_decay_posterior()
