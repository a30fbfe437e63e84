"""A service and its queue as a fluid: what the load leaves unserved waits, and some of it gives up."""

import math

import numpyro.distributions as dist

import bayestwin as bt


def vector_field(t, x, p, u):
    """Requests come, are served, or give up; the service slows down only where its workers run idle."""
    served = p.capacity * x.backlog / (p.workers + x.backlog)
    return {"backlog": u.load - served - x.backlog / p.patience}


def latency(t, x, p, u):
    """Time from request to answer in ms, by Little's law."""
    return 1000.0 * (p.workers + x.backlog) / p.capacity


def about(centre, spread):
    """A positive quantity near `centre`; `spread` is the standard deviation of its logarithm."""
    return dist.LogNormal(math.log(centre), spread)


twin = bt.Twin(
    name="queue",
    vector_field=vector_field,
    states={
        "backlog": bt.State(
            initial=bt.SteadyState(20.0), unit="count", positive=True, doc="requests that wait or are being served"
        ),
    },
    parameters={
        "capacity": bt.Parameter(about(100.0, 0.5), unit="count/s", doc="requests served at full load"),
        "workers": bt.Parameter(about(10.0, 0.7), unit="count", doc="backlog at which half of that is served"),
        "patience": bt.Parameter(about(60.0, 1.0), unit="s", doc="mean time after which a request is given up"),
    },
    inputs={"load": bt.Input(unit="count/s", hold="linear", doc="requests that arrive")},
    observations={
        "backlog": bt.Observation(
            noise=bt.LogNormal(scale=dist.HalfNormal(0.3)), unit="count", doc="requests in the system"
        ),
        "latency": bt.Observation(
            noise=bt.LogNormal(scale=dist.HalfNormal(0.3)), of=latency, unit="ms", doc="mean latency of the answers"
        ),
    },
    quantities={
        "slowest": bt.Max("latency", unit="ms", doc="longest latency"),
        "slow": bt.TimeWhere(lambda t, x, p, u: latency(t, x, p, u) > 500.0, doc="time with a latency above 500 ms"),
        "given_up": bt.Integral(lambda t, x, p, u: x.backlog / p.patience, unit="count", doc="requests given up"),
    },
    time_unit="s",
    doc="A web service behind a queue, pushed beyond its capacity now and then.",
)
