"""A drug taken by mouth again and again: one compartment with first-order absorption and elimination."""

import math

import numpyro.distributions as dist

import bayestwin as bt


def vector_field(t, x, p, u):
    """The gut empties into the blood, and the blood is cleared."""
    absorbed = p.absorption * x.gut
    return {"gut": -absorbed, "blood": absorbed - p.clearance / p.volume * x.blood}


def swallow(t, x, p, u):
    """A dose arrives in the gut at once."""
    return {"gut": x.gut + u.dose}


def about(centre, spread):
    """A positive quantity near `centre`; `spread` is the standard deviation of its logarithm."""
    return dist.LogNormal(math.log(centre), spread)


twin = bt.Twin(
    name="dosing",
    vector_field=vector_field,
    states={
        "gut": bt.State(initial=0.0, unit="mg", doc="drug that is not yet absorbed; none before the first dose"),
        "blood": bt.State(initial=0.0, unit="mg", doc="drug in the compartment; none before the first dose"),
    },
    parameters={
        "absorption": bt.Parameter(about(1.5, 0.7), unit="1/h", doc="rate constant of absorption"),
        "clearance": bt.Parameter(about(3.0, 0.5), unit="L/h", doc="clearance over bioavailability"),
        "volume": bt.Parameter(about(32.0, 0.3), unit="L", doc="volume of distribution over bioavailability"),
    },
    observations={
        "concentration": bt.Observation(
            noise=bt.LogNormal(scale=dist.HalfNormal(0.3)),
            of=lambda t, x, p, u: x.blood / p.volume,
            unit="mg/L",
            doc="concentration in the plasma",
        ),
    },
    events={
        "dose": bt.Event(effect=swallow, unit="mg", doc="a dose that is swallowed, whenever the telemetry has one")
    },
    quantities={
        "exposure": bt.Integral("concentration", unit="mg*h/L", doc="area under the concentration"),
        "lowest": bt.Min("concentration", unit="mg/L", doc="lowest concentration"),
        "below_5": bt.TimeWhere(lambda t, x, p, u: x.blood / p.volume < 5.0, doc="time below 5 mg/L"),
        "below_5_at_a_stretch": bt.LongestWhere(
            lambda t, x, p, u: x.blood / p.volume < 5.0, doc="longest time below 5 mg/L"
        ),
    },
    time_unit="h",
    doc="Theophylline in one adult who takes tablets twice a day.",
)
