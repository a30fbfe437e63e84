"""A real test house: envelope and indoor air (2R2C), whose envelope is disturbed by what the equations leave out."""

import numpyro.distributions as dist

import bayestwin as bt


def vector_field(t, x, p, u):
    """Heat balance of the envelope and of the indoor air."""
    envelope = (u.outdoor - x.envelope) / (p.R_out * p.C_env) + (x.indoor - x.envelope) / (p.R_in * p.C_env)
    indoor = (x.envelope - x.indoor) / (p.R_in * p.C_in) + u.heating / p.C_in
    return {"envelope": envelope, "indoor": indoor}


twin = bt.Twin(
    name="armadillo",
    vector_field=vector_field,
    states={
        "envelope": bt.State(initial=dist.Normal(25.0, 7.0), unit="degC", doc="temperature of walls and roof"),
        "indoor": bt.State(initial=26.7, unit="degC", doc="temperature of the air"),
    },
    parameters={
        "R_out": bt.Parameter(dist.LogNormal(-4.0, 1.0), unit="K/W", doc="resistance, envelope to outdoor"),
        "R_in": bt.Parameter(dist.LogNormal(-6.0, 1.0), unit="K/W", doc="resistance, indoor to envelope"),
        "C_env": bt.Parameter(dist.LogNormal(5.0, 1.0), unit="W*d/K", doc="heat capacity of the envelope"),
        "C_in": bt.Parameter(dist.LogNormal(3.0, 1.0), unit="W*d/K", doc="heat capacity of the air and furniture"),
    },
    inputs={
        "outdoor": bt.Input(unit="degC", hold="linear", doc="outdoor temperature"),
        "heating": bt.Input(unit="W", hold="linear", doc="power of the heater"),
    },
    observations={
        "indoor": bt.Observation(noise=bt.Gaussian(scale=dist.HalfNormal(0.5)), unit="degC", doc="indoor temperature"),
    },
    time_unit="d",
    doc="One unoccupied room behind a heavy envelope, disturbed by sun and wind, which are not in the equations.",
    model_error=bt.ProcessNoise(
        scale={"envelope": dist.HalfNormal(1.0)}, initial_scale={"envelope": 0.1, "indoor": 0.1}
    ),
)

# For `bayestwin calibrate --compare-model-errors`. The air settles within an hour, the envelope within three days: sun
# and wind, for a quarter to half a day at a time, lie between.
model_errors = {
    "none": None,
    "discrepancy": bt.Discrepancy(scale={"indoor": dist.HalfNormal(0.5)}, length={"indoor": dist.LogNormal(-1.0, 0.3)}),
}
