"""Posteriors to compare engines on: one a file, each with its Stan program beside it under the same name."""

import importlib
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import bayestwin as bt

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
    """

    words: str
    twin: bt.Twin
    telemetry: bt.Telemetry
    stan_data: Mapping[str, Any]
    gold: Mapping[str, Moment] = {}


def load(name: str) -> Posterior:
    """Build the posterior of that name."""
    return importlib.import_module(f"posteriors.{name}").build()


def stan_program(name: str) -> str:
    """The text of its Stan program."""
    return (pathlib.Path(__file__).parent / f"{name}.stan").read_text()
