"""Futures of shipped twins, drawn from their posteriors: what a monitor takes for nothing new, or with a change."""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import xarray as xr
from shipped_models import MODELS

import bayestwin as bt
from bayestwin._base.progress import Progress
from bayestwin.insight.scenarios import anew
from bayestwin.project.model import load_model, load_telemetry

STRETCH = 60
"""Rows of the record's own inputs that follow each other, before others do."""


@dataclasses.dataclass(frozen=True)
class World:
    """A shipped twin, calibrated, whose future is drawn.

    Attributes:
        twin: The twin.
        posterior: Of the record that it ships with, or of its end.
    """

    twin: bt.Twin
    posterior: xr.DataTree

    @functools.cached_property
    def draws(self) -> Mapping[str, np.ndarray]:
        """Of all sites of a twin that starts at the end of the calibration, by name."""
        paths = self.posterior["posterior_predictive"].to_dataset()
        group = self.posterior["posterior"].to_dataset().sel(draw=paths["draw"])
        sites = {s.name: group[s.name].values.ravel() for s in self.twin.sites() if s.kind != "initial"}
        ends = {f"{n}_initial": paths[f"{n}_state"].isel(time=-1) for n in self.twin.states}
        return sites | {name: own.transpose("chain", "draw").values.ravel() for name, own in ends.items()}

    def shifted(self, name: str, value: float, sds: float) -> float:
        """A value moved by posterior standard deviations, on the scale without limits."""
        (site,) = (one for one in self.twin.sites() if one.name == name)
        there = dist.biject_to(site.prior.support)
        z = np.asarray(there.inv(self.draws[name]))
        return float(there(there.inv(value) + sds * z.std()))

    def future(self, seed: int, num: int, moved: tuple[str, float] | None = None) -> bt.Telemetry:
        """Rows after the calibration by one draw, of which a quantity may have moved by so many standard deviations."""
        rng = np.random.default_rng([seed, num])
        pick = int(rng.integers(len(next(iter(self.draws.values())))))
        values = {name: float(own[pick]) for name, own in self.draws.items()}
        if moved is not None:
            values[moved[0]] = self.shifted(moved[0], values[moved[0]], moved[1])
        known = self.posterior["constant_data"].to_dataset()
        last, before = (known["time"].values[place] for place in (-1, -2))
        table = pd.DataFrame(index=pd.Index(last + (last - before) * np.arange(num + 1), name="time"))
        for name, own in known.data_vars.items():
            series = [own.values[-1:]]
            while sum(map(len, series)) <= num:
                begin = int(rng.integers(len(own) - STRETCH))
                series.append(own.values[begin : begin + STRETCH])
            table[str(name)] = np.concatenate(series)[: num + 1]
        units = {n: one.unit for n, one in (self.twin.inputs | self.twin.observations).items() if one.unit}
        units |= {} if isinstance(table.index, pd.DatetimeIndex) else {"time": self.twin.time_unit}
        driven = {name: unit for name, unit in units.items() if name not in self.twin.observations}
        start = dataclasses.replace(anew(self.twin), quantities={})
        drawn = bt.simulate(start, values, bt.read_telemetry(table.reset_index(), units=driven), seed=seed)
        for name in self.twin.observations:
            table[name] = np.round(drawn[name].values, self._decimals(name))
        return bt.read_telemetry(table.iloc[1:].reset_index(), units=units)

    def _decimals(self, name: str) -> int:
        """With how many a sensor reads."""
        values = self.posterior["observed_data"][name].dropna("time").values
        return next(k for k in range(16) if np.allclose(values, np.round(values, k), rtol=0.0, atol=1e-9))

    def monitored(self, telemetry: bt.Telemetry, **settings: object) -> object:
        """The verdict over a future."""
        return bt.monitor(self.twin, self.posterior, telemetry, seed=0, progress=Progress(show=False), **settings)


@functools.cache
def world(name: str) -> World:
    """A shipped twin with its posterior; of the room that of the last five days."""
    model = load_model(MODELS / name)
    record = load_telemetry(model).calibration
    if name == "room":
        table = record.table.iloc[-480:]
        record = record.with_table(table, t0=table.index[0])
    return World(model.twin, bt.calibrate(model.twin, record, seed=0, progress=Progress(show=False)))
