"""A congested link: flows that share it send faster until packets are lost, and the queue before it is latency."""

import math

import numpyro.distributions as dist

import bayestwin as bt


def round_trip(x, p):
    """Time to the other end and back in s: the empty path, and the queue."""
    return p.path + x.queue / p.capacity


def sent(x, p):
    """Packets a second that leave the link, as of an M/M/1 queue: an empty queue sends nothing."""
    return p.capacity * x.queue / (1.0 + x.queue)


def vector_field(t, x, p, u):
    """A window grows by a packet a round trip and is halved by a loss; losses follow the smoothed queue (RED)."""
    trip = round_trip(x, p)
    loss = p.loss * x.smoothed
    return {
        "window": 1.0 / trip - 0.5 * loss * x.window**2 / trip,
        "queue": u.flows * x.window / trip - sent(x, p),
        "smoothed": (x.queue - x.smoothed) / p.memory,
    }


def about(centre, spread):
    """A positive quantity near `centre`; `spread` is the standard deviation of its logarithm."""
    return dist.LogNormal(math.log(centre), spread)


twin = bt.Twin(
    name="network",
    vector_field=vector_field,
    states={
        "window": bt.State(initial=1.0, unit="count", positive=True, doc="packets that a flow has under way"),
        "queue": bt.State(
            initial=1.0, unit="count", positive=True, doc="packets that wait for the link; idle at first"
        ),
        "smoothed": bt.State(initial=1.0, unit="count", positive=True, doc="queue as the router averages it"),
    },
    parameters={
        "capacity": bt.Parameter(about(1000.0, 0.3), unit="count/s", doc="packets a second that the link carries"),
        "path": bt.Parameter(about(0.05, 0.5), unit="s", doc="round trip over the empty path"),
        "loss": bt.Parameter(
            about(3e-4, 0.7), unit="1/count", doc="loss probability, per packet in the smoothed queue"
        ),
        "memory": bt.Parameter(about(0.3, 0.7), unit="s", doc="time over which the router averages its queue"),
    },
    inputs={"flows": bt.Input(unit="count", hold="previous", doc="flows that share the link")},
    observations={
        "latency": bt.Observation(
            noise=bt.LogNormal(scale=dist.HalfNormal(0.2)),
            of=lambda t, x, p, u: 1000.0 * round_trip(x, p),
            unit="ms",
            doc="round-trip time",
        ),
        "throughput": bt.Observation(
            noise=bt.LogNormal(scale=dist.HalfNormal(0.2)),
            of=lambda t, x, p, u: sent(x, p),
            unit="count/s",
            doc="packets that left the link",
        ),
    },
    time_unit="s",
    doc="A 12 Mbit/s link with random early detection, shared by a changing number of TCP flows.",
)
