"""Bayesian calibration of digital twins: from an ODE model and telemetry to intervals that hold what they promise.

Everything public is listed in `__init__.pyi` and imported when it is first used, so that `import bayestwin` costs next
to nothing. A verb stays the function when the module of its name is imported: `lazy_loader` sees to it.
"""

import importlib
import os
import sys
from typing import Any

import lazy_loader

_import_public, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def _prefer_float64() -> None:
    """Switch float64 on, unless the user has switched it off: then every verb stops and says so."""
    if "JAX_ENABLE_X64" in os.environ:
        return
    os.environ["JAX_ENABLE_X64"] = "1"
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_enable_x64", True)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("bayestwin")
    if name not in __all__:
        message = f"module 'bayestwin' has no attribute '{name}'"
        raise AttributeError(message)
    return _import_public(name)


_prefer_float64()
