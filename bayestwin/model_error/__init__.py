"""How a twin's equations may be wrong, as data: what a twin takes as `model_error=`."""

from bayestwin.model_error.base import ModelError
from bayestwin.model_error.discrepancy import Discrepancy
from bayestwin.model_error.process_noise import ProcessNoise

__all__ = ["Discrepancy", "ModelError", "ProcessNoise"]
