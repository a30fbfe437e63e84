"""What requests say and answers hold, as the OpenAPI document has it; numbers that JSON cannot have are a code."""

from typing import Annotated, Any, Literal

import numpy as np
import pydantic

MOST_ALTERNATIVES, MOST_PROBS, MOST_COLUMNS = 8, 10, 256
"""Of one request."""

LONGEST_NAME = 200

NOT_A_NUMBER = "NaN"
"""In the place of a number that is not known, as of a path that could not be solved: JSON has no such number."""

Name = Annotated[str, pydantic.Field(min_length=1, max_length=LONGEST_NAME)]
Finite = Annotated[float, pydantic.Field(allow_inf_nan=False)]
Column = Annotated[list[Finite | None], pydantic.Field(description="A value for each time; null where there is none.")]
Number = float | Literal["NaN"]
Prob = Annotated[float, pydantic.Field(gt=0.0, lt=1.0, allow_inf_nan=False)]


class _Body(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=False)


class RowsBody(_Body):
    """Times, and what the twin is driven by at each of them."""

    times: list[Annotated[str, pydantic.Field(max_length=64)] | Finite] = pydantic.Field(
        min_length=1,
        description="Dates in ISO 8601, or numbers in the unit of the record's times; after the record's end.",
    )
    inputs: dict[Name, Column] = pydantic.Field(
        default_factory=dict, max_length=MOST_COLUMNS, description="By input or event, in its unit: see `GET /models`."
    )
    units: dict[Name, Annotated[str, pydantic.Field(max_length=64)]] = pydantic.Field(
        default_factory=dict, max_length=MOST_COLUMNS, description="By input, where its values are in another unit."
    )


class DrawsBody(RowsBody):
    """How a forecast is asked for."""

    draws: int = pydantic.Field(1000, ge=1, description="About how many draws of the posterior are used.")
    seed: int = pydantic.Field(0, ge=0, lt=2**63, description="Determines the noise of new observations.")
    prob: list[Prob] = pydantic.Field([0.5, 0.9], min_length=1, max_length=MOST_PROBS, description="Of the intervals.")


class ForecastBody(DrawsBody):
    """What is asked of `forecast`."""


class ScenarioBody(DrawsBody):
    """What is asked of `scenario`: the inputs as planned, and alternatives to them at the same times."""

    alternatives: dict[Name, dict[Name, Column]] = pydantic.Field(
        min_length=1, max_length=MOST_ALTERNATIVES, description="By alternative, the inputs that are others in it."
    )


class UpdateBody(RowsBody):
    """What was observed since."""

    observations: dict[Name, Column] = pydantic.Field(
        min_length=1, max_length=MOST_COLUMNS, description="By observation, in its unit."
    )
    calibrate: bool = pydantic.Field(
        True, description="Whether `bayestwin update` is started; if not, they are only held against the forecast."
    )


class PromoteBody(_Body):
    """Which run is to come where."""

    run: Name | None = pydantic.Field(None, description="By default as `bayestwin promote` has it.")
    to: Literal["staging", "prod"] = "prod"
    why: Annotated[str, pydantic.Field(max_length=2000)] = ""


class Version(pydantic.BaseModel):
    """What an answer was made from."""

    model: str
    run: str
    event: int = pydantic.Field(description="Number of the event in the registry's log that brought it to production.")
    posterior_sha256: str
    forecast_sha256: str


class Series(pydantic.BaseModel):
    """One signal over time."""

    unit: str
    mean: list[Number]
    median: list[Number]
    lower: dict[str, list[Number]] = pydantic.Field(description="By probability of the equal-tailed interval.")
    upper: dict[str, list[Number]]


class ForecastAnswer(pydantic.BaseModel):
    """New observations, with all uncertainty."""

    version: Version
    times: list[str | float]
    draws: int
    seed: int
    observations: dict[str, Series]
    failed: list[int] = pydantic.Field(description="How many draws could not be solved up to each time.")
    warnings: list[str] = pydantic.Field(description="What lies beyond what was calibrated.")


class Alternative(pydantic.BaseModel):
    """One alternative."""

    observations: dict[str, Series]
    differences: dict[str, Series] = pydantic.Field(
        description="To the plan, of the same draws, without noise; their units are those of differences."
    )
    failed: list[int]
    warnings: list[str]


class ScenarioAnswer(ForecastAnswer):
    """The plan, and what is different in each alternative."""

    alternatives: dict[str, Alternative]


class WorkAnswer(pydantic.BaseModel):
    """What became of an update or a promotion, which goes on after the answer."""

    id: str
    kind: Literal["update", "promote"]
    state: Literal["running", "finished", "failed"]
    began: str
    ended: str | None = None
    message: str = ""


class HeldPoint(pydantic.BaseModel):
    """A reading that was held against the forecast."""

    time: str | float
    observation: str
    value: float
    pit: Number = pydantic.Field(description="Share of the draws below it.")


class UpdateAnswer(pydantic.BaseModel):
    """What came of readings."""

    version: Version
    held: list[HeldPoint]
    work: WorkAnswer | None


class ErrorAnswer(pydantic.BaseModel):
    """What is wrong, in four parts."""

    problem: str
    expected: str | None = None
    received: str | None = None
    advice: str | None = None


class Failure(pydantic.BaseModel):
    """Every answer that is none."""

    error: ErrorAnswer


def numbers(array: np.ndarray) -> list[Any]:
    """Numbers as JSON has them, and the code in place of those that it does not have."""
    found = array.tolist()
    if np.isfinite(array).all():
        return found
    return [one if np.isfinite(one) else NOT_A_NUMBER for one in found]


def series(drawn: np.ndarray, unit: str, prob: list[float]) -> dict[str, Any]:
    """A signal, whose draws are in rows, as `Series` has it; draws that failed are left out.

    Quantiles are those of `numpy.quantile`; draws are sorted once for all of them.
    """
    ordered = np.sort(np.ascontiguousarray(drawn.T), axis=1)  # NaN come last
    there = np.isfinite(ordered).sum(axis=1)
    if (there == ordered.shape[1]).all():
        mean = ordered.mean(axis=1)
    else:
        total = np.where(np.isfinite(ordered), ordered, 0.0).sum(axis=1)
        mean = np.divide(total, there, out=np.full(len(there), np.nan), where=there > 0)

    def quantile(q: float) -> list[Any]:
        place = q * np.maximum(there - 1, 0)
        below = np.floor(place).astype(int)
        above = np.minimum(below + 1, np.maximum(there - 1, 0))
        rows = np.arange(len(ordered))
        low, high = ordered[rows, below], ordered[rows, above]
        return numbers(np.where(there > 0, low + (high - low) * (place - below), np.nan))

    ends = {f"{one:g}": ((1.0 - one) / 2.0, (1.0 + one) / 2.0) for one in prob}
    return {
        "unit": unit,
        "mean": numbers(mean),
        "median": quantile(0.5),
        "lower": {name: quantile(low) for name, (low, _) in ends.items()},
        "upper": {name: quantile(high) for name, (_, high) in ends.items()},
    }
