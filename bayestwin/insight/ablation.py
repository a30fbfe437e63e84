"""A twin with a term switched off: the parameters that carry it are known, and are zero, say."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from bayestwin.errors import InvalidTwin, explain
from bayestwin.model.twin import Twin


def ablate(twin: Twin, off: Mapping[str, float]) -> Twin:
    """The twin with some parameters known, so that a term is switched off, or held at a value from a data sheet.

    The values may lie outside the priors: a gain that is positive where the term is there is 0 where it is not.

    Args:
        twin: The twin.
        off: Parameters and their values, in the twin's units: `{"aperture": 0.0}`.

    Raises:
        InvalidTwin: If one is no parameter that is inferred, a value is no finite number, or the twin has nothing left
            to infer.
    """
    inferred = [name for name, one in twin.parameters.items() if not isinstance(one.prior, int | float)]
    unfit = [f"`{name}` is no parameter that is inferred" for name in off if name not in inferred]
    unfit += [f"{name} = {value!r} is no finite number" for name, value in off.items() if not _is_number(value)]
    if unfit or not off:
        message = explain(
            f"This cannot be switched off in twin `{twin.name}`: {unfit[0] if unfit else 'nothing is named'}.",
            expected=f"any of {', '.join(f'`{name}`' for name in inferred) or 'no parameter'}, each with a number",
            received=", ".join(f"{name} = {value!r}" for name, value in off.items()) or "an empty mapping",
            advice="A term is switched off by the parameter that it is multiplied by: "
            "where there is none, give the equations one with the value 1.",
        )
        raise InvalidTwin(message)
    known = {name: dataclasses.replace(twin.parameters[name], prior=float(value)) for name, value in off.items()}
    found = dataclasses.replace(twin, parameters={**twin.parameters, **known})
    if not found.sites():
        message = explain(
            f"Twin `{twin.name}` has nothing left to infer.",
            expected="a prior on at least one parameter, initial state or noise parameter",
            received=", ".join(f"{name} = {v!r}" for name, v in off.items()),
            advice="Switch off less.",
        )
        raise InvalidTwin(message)
    return found


def _is_number(value: object) -> bool:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return number and math.isfinite(float(value))  # type: ignore[arg-type]
