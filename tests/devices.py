"""Devices that tests ask for and that are not there."""

import jax


def absent_device() -> str:
    """A kind of device that this machine does not have."""
    here = {device.platform for device in jax.devices()}
    return next(kind for kind in ("gpu", "tpu") if not {kind, {"gpu": "cuda"}.get(kind, kind)} & here)
