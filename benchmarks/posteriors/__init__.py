"""Posteriors to compare engines on: one a file, beside it its Stan program and its reference moments of the same name.

`reference.py` writes the moments.
"""

import importlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

import bayestwin as bt
from bayestwin.model.describe import prior_text

NAMES = ("lynx_hare", "room", "robertson", "compartments", "pendulum")


class Moment(NamedTuple):
    """What is known of one quantity's posterior: its mean, and the Monte Carlo standard error of that."""

    mean: float
    mcse: float


class Posterior(NamedTuple):
    """One posterior, in the terms of every engine.

    Attributes:
        words: What it is, in one line.
        twin: Model and priors; the JAX engines take both from here.
        telemetry: The data.
        stan_data: The data of the Stan program, beside times and tolerances.
        gold: Reference moments by quantity; empty where there are none.
        source: Where those come from, in words.
    """

    words: str
    twin: bt.Twin
    telemetry: bt.Telemetry
    stan_data: Mapping[str, Any]
    gold: Mapping[str, Moment] = {}
    source: str = ""


def load(name: str) -> Posterior:
    """Build the posterior of that name, with the moments that are kept of it where it knows none better.

    Raises:
        ValueError: If the moments are those of another posterior.
    """
    posterior = importlib.import_module(f"posteriors.{name}").build()
    file = reference_file(name)
    if posterior.gold or not file.is_file():
        return posterior
    kept = json.loads(file.read_text())
    if not _same(kept["of"], identity(posterior)):
        message = f"{file} is of another posterior: priors or data have changed. Run reference.py --posteriors {name}."
        raise ValueError(message)
    gold = {site: Moment(found["mean"], found["mcse"]) for site, found in kept["moments"].items()}
    return posterior._replace(gold=gold, source=_words(kept))


def reference_file(name: str) -> pathlib.Path:
    """Where the reference moments of a posterior are."""
    return pathlib.Path(__file__).parent / f"{name}.json"


def identity(posterior: Posterior) -> dict[str, Any]:
    """What tells one posterior from another: priors in words, mean and standard deviation of each signal.

    Not the bits of the data: simulated ones differ in the last digits from machine to machine.
    """
    table = posterior.telemetry.table
    return {
        "priors": {site.name: prior_text(site.prior) for site in posterior.twin.sites()},
        "data": {name: [float(table[name].mean()), float(table[name].std())] for name in sorted(table.columns)},
    }


def stan_program(name: str) -> str:
    """The text of its Stan program."""
    return (pathlib.Path(__file__).parent / f"{name}.stan").read_text()


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    names = one["data"].keys()
    same = one["priors"] == other["priors"] and names == other["data"].keys()
    return same and all(np.allclose(one["data"][n], other["data"][n], rtol=1e-6) for n in names)


def _words(kept: Mapping[str, Any]) -> str:
    versions = " and ".join(f"{package} {version}" for package, version in kept["versions"].items())
    draws = f"{kept['settings']['chains']} × {kept['settings']['draws']:,} draws by {versions}"
    return draws + (f", {kept['divergences']} of them divergent" if kept["divergences"] else "")
