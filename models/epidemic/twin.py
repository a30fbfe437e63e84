"""An epidemic in a closed town: susceptible, infectious, recovered, seen through daily counts of reported cases."""

import math

import numpyro.distributions as dist

import bayestwin as bt

PEOPLE = 200_000.0


def vector_field(t, x, p, u):
    """Infections by contact, recovery at a constant rate; a share of the new cases is reported."""
    recovery = 1.0 / p.infectious_days
    infections = u.contacts * p.R0 * recovery * x.susceptible * x.infectious / PEOPLE
    return {
        "susceptible": -infections,
        "infectious": infections - recovery * x.infectious,
        "cases": p.reported * infections,
    }


def about(centre, spread):
    """A positive quantity near `centre`; `spread` is the standard deviation of its logarithm."""
    return dist.LogNormal(math.log(centre), spread)


twin = bt.Twin(
    name="epidemic",
    vector_field=vector_field,
    states={
        "susceptible": bt.State(initial=PEOPLE, unit="count", positive=True, doc="people who can be infected: all"),
        "infectious": bt.State(initial=about(50.0, 1.0), unit="count", positive=True, doc="people who infect others"),
        "cases": bt.State(initial=0.0, unit="count", doc="cases reported since midnight"),
    },
    parameters={
        "R0": bt.Parameter(about(2.0, 0.4), doc="people whom one infects, all susceptible, contacts as usual"),
        "infectious_days": bt.Parameter(about(5.0, 0.4), unit="day", doc="mean time for which one is infectious"),
        "reported": bt.Parameter(dist.Beta(2.0, 3.0), doc="share of infections that are reported"),
    },
    inputs={"contacts": bt.Input(hold="previous", doc="contacts between people, as a share of the usual")},
    observations={"cases": bt.Observation(noise=bt.Poisson(), unit="count", doc="cases reported on the day that ends")},
    events={
        "midnight": bt.Event(
            effect=lambda t, x, p, u: {"cases": 0.0},
            at=tuple(float(day) for day in range(1, 366)),
            doc="the day's count is told, and the next begins",
        ),
    },
    quantities={
        "infected": bt.Integral(
            lambda t, x, p, u: u.contacts * p.R0 / p.infectious_days * x.susceptible * x.infectious / PEOPLE,
            unit="count",
            doc="people who are infected",
        ),
        "peak": bt.Max("infectious", unit="count", doc="most people who are infectious at once"),
        "below_2000_at": bt.FirstTime(
            lambda t, x, p, u: x.infectious < 2000.0, doc="when fewer than 2000 are infectious"
        ),
    },
    time_unit="day",
    doc="A wave of influenza in a town of 200 000, counted day by day.",
)
