"""Randomness: one seed in, one independent key for each named use."""

import zlib

import jax
import numpy as np
from jax import Array

from bayestwin.errors import InvalidSetting, explain


def check_seed(seed: object) -> None:
    """Refuse what is not a seed: `None` or a float would be a different run each time, or an error far from here.

    Raises:
        InvalidSetting: If it is not an integer from 0 to 2⁶³ − 1.
    """
    if isinstance(seed, int | np.integer) and not isinstance(seed, bool) and 0 <= seed < 2**63:
        return
    message = explain(
        "`seed` cannot be used.",
        expected="an integer from 0 to 2**63 - 1",
        received=f"{seed!r}",
        advice="Any will do, e.g. `seed=0`; the same one gives the same result.",
    )
    raise InvalidSetting(message)


def key_for(seed: int, use: str) -> Array:
    """The random key of one use, e.g. `key_for(seed, "warmup")`; the same seed and use give the same key."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(use.encode()))


def seed_for(seed: int, use: str) -> int:
    """The seed of one use, for what takes a seed and is done many times over."""
    return int(np.random.SeedSequence([seed, zlib.crc32(use.encode())]).generate_state(1, np.uint64)[0] >> np.uint64(1))
