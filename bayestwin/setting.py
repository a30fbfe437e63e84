"""What must hold of the process before anything is computed: float64 on, and the device that was asked for."""

import contextlib

import jax

from bayestwin.errors import InvalidSetting, explain


def require_float64() -> None:
    """Stop where JAX computes in single precision.

    Raises:
        InvalidSetting: With the way to switch float64 on.
    """
    if jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        return
    message = explain(
        "JAX computes in float32 here: adaptive solvers and their derivatives lose their way in it.",
        expected="float64",
        received="jax_enable_x64 = False",
        advice='Call `jax.config.update("jax_enable_x64", True)` before anything else, or unset JAX_ENABLE_X64.',
    )
    raise InvalidSetting(message)


def on_device(device: str | None) -> contextlib.AbstractContextManager:
    """A context in which JAX computes on a device.

    Args:
        device: `"cpu"`, `"gpu"`, or None for JAX's default.

    Raises:
        InvalidSetting: If there is no such device; nothing falls back silently.
    """
    if device is None:
        return contextlib.nullcontext()
    try:
        return jax.default_device(jax.devices(device)[0])
    except RuntimeError as reason:
        there = ", ".join(sorted({d.platform for d in jax.devices()}))
        message = explain(
            f"There is no device `{device}` here.",
            expected="a device that JAX finds",
            received=f"`{device}`; found: {there}",
            advice='Install `bayestwin[gpu]` on a machine with a GPU, or pass `device="cpu"`.',
        )
        raise InvalidSetting(message) from reason
