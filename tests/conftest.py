"""Settings of JAX that every test runs under: float64, and no silent broadcast of arrays of unequal rank.

They are set in this process, not in its environment: a program that a test starts runs as it does for a user.
"""

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
