"""A heated room: two thermal masses, the envelope and the indoor air (2R2C)."""

import numpyro.distributions as dist

import bayestwin as bt


def vector_field(t, x, p, u):
    """Heat balance of the envelope and of the indoor air."""
    envelope = (u.outdoor - x.envelope) / (p.R_out * p.C_env) + (x.indoor - x.envelope) / (p.R_in * p.C_env)
    indoor = (x.envelope - x.indoor) / (p.R_in * p.C_in) + u.heating / p.C_in
    return {"envelope": envelope, "indoor": indoor}


twin = bt.Twin(
    name="room",
    vector_field=vector_field,
    states={
        "envelope": bt.State(initial=dist.Normal(25.0, 7.0), unit="degC", doc="temperature of walls and roof"),
        "indoor": bt.State(initial=dist.Normal(27.0, 1.0), unit="degC", doc="temperature of the air"),
    },
    parameters={
        "R_out": bt.Parameter(dist.LogNormal(-4.0, 1.0), unit="K/W", doc="resistance, envelope to outdoor"),
        "R_in": bt.Parameter(dist.LogNormal(-6.0, 1.0), unit="K/W", doc="resistance, indoor to envelope"),
        "C_env": bt.Parameter(dist.LogNormal(16.0, 1.0), unit="J/K", doc="heat capacity of the envelope"),
        "C_in": bt.Parameter(dist.LogNormal(14.0, 1.0), unit="J/K", doc="heat capacity of the air and furniture"),
    },
    inputs={
        "outdoor": bt.Input(unit="degC", hold="linear", doc="outdoor temperature"),
        "heating": bt.Input(unit="W", hold="previous", doc="power of the heater"),
    },
    observations={
        "indoor": bt.Observation(noise=bt.Gaussian(scale=dist.HalfNormal(0.5)), unit="degC", doc="indoor temperature"),
    },
    quantities={
        "energy": bt.Integral("heating", unit="kWh", doc="electricity that the heater takes"),
        "coldest": bt.Min("indoor", unit="degC", doc="lowest indoor temperature"),
        "below_16": bt.TimeWhere(lambda t, x, p, u: x.indoor < 16.0, unit="h", doc="time below 16 °C indoors"),
        "mean": bt.Mean("indoor", unit="degC", doc="mean indoor temperature"),
    },
    time_unit="s",
    doc="One room behind a heavy envelope, with an electric heater; sun and people are not in it.",
)
