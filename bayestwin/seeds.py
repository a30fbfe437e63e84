"""Randomness: one seed in, one independent key for each named use."""

import zlib

import jax
from jax import Array


def key_for(seed: int, use: str) -> Array:
    """The random key of one use, e.g. `key_for(seed, "warmup")`; the same seed and use give the same key."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(use.encode()))
