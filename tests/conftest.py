"""Settings that every test runs under: float64, no silent broadcast of arrays of unequal rank, and Ctrl-C heard.

Those of JAX are set in this process, not in its environment: a program that a test starts runs as it does for a user,
but for the user's cache. All tests of one session share a cache of their own, which is empty when the session begins.
"""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator

import jax
import pytest
from servers import PASSWORD, Database, running_postgres

from bayestwin._base import progress
from bayestwin._base.compilation import keep_compiled

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")

# on a busy machine commands may take long enough to say what they are at, which is none of their answer
progress.PATIENCE = float("inf")

# Started in the background of a shell, a process ignores Ctrl-C, and so does all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # workers of pytest-xdist inherit the environment
        os.environ["BAYESTWIN_CACHE_DIR"] = tempfile.mkdtemp(prefix="bayestwin-tests-")
        os.environ.pop("BAYESTWIN_COMPILE_CACHE", None)


def pytest_sessionstart() -> None:
    keep_compiled()  # what one worker has traced and compiled the other one reads


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ["BAYESTWIN_CACHE_DIR"], ignore_errors=True)


@pytest.fixture(scope="session")
def database() -> Iterator[Database]:
    """A real PostgreSQL server, with its password in the environment."""
    with running_postgres() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSWORD", PASSWORD)
        yield server
