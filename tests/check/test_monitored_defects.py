"""Defects of telemetry that a monitor looks at are called data, in shipped twins whose future is drawn."""

import types

import numpy as np
import pytest
from defects import DEFECTS
from futures import world


@pytest.mark.slow
@pytest.mark.parametrize("name", ["room", "tanks"])
def test_planted_defects_are_called_data(name: str) -> None:
    one = world(name)
    sensor = list(one.twin.observations)[-1]
    seen = one.posterior["observed_data"][sensor].values
    far = 3.0 * np.nanmax(seen) - 3.0 * np.nanmin(seen)
    limits = {sensor: {"low": float(np.nanmin(seen) - far), "high": float(np.nanmax(seen) + far)}}
    real = types.SimpleNamespace(observed=sensor, shift=0.5, limits=limits)
    right = num = 0
    for k in range(4):
        clean = one.future(5000 + k, {"room": 480, "tanks": 300}[name])
        for plant in DEFECTS.values():
            planted = plant(real, clean, clean.table[sensor].to_numpy().copy())[0]
            right += one.monitored(planted, limits=limits).cause == "data"
            num += 1
    assert right >= 0.95 * num
