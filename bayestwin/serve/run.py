"""The process that listens: one, with JAX on its processor, and a log of its own in place of the server's."""

import logging
import pathlib
from collections.abc import Mapping

import jax
import uvicorn

from bayestwin._base.compilation import keep_compiled
from bayestwin.serve.app import RequestLimits, make_app


def run(
    results: pathlib.Path,
    host: str,
    port: int,
    *,
    models: pathlib.Path | None,
    tokens: pathlib.Path | None,
    limits: Mapping[str, int],
    private: bool,
) -> None:
    """Listen until Ctrl-C.

    Args:
        results: As of `make_app`, like all that follow but two.
        host: Address.
        port: 0 for a free one.
        models: As of `make_app`.
        tokens: Likewise.
        limits: Likewise, by name.
        private: Likewise.
    """
    jax.config.update("jax_platforms", "cpu")
    keep_compiled()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    app = make_app(results, models=models, tokens=tokens, limits=RequestLimits(**limits), private=private)
    # the server's own lines have what follows a `?`, where a token may stand
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False, server_header=False)
