"""Settings that every test runs under: float64, no silent broadcast of arrays of unequal rank, and Ctrl-C heard.

Those of JAX are set in this process, not in its environment: a program that a test starts runs as it does for a user.
"""

import signal

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Started in the background of a shell, a process ignores Ctrl-C, and so does all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
