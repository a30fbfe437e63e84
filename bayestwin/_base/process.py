"""What must hold of the process while anything is computed: float64, the device asked for, enough memory."""

import contextlib
from collections.abc import Iterator

import jax

from bayestwin.errors import InvalidSetting, OutOfMemory, explain


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


@contextlib.contextmanager
def enough_memory(advice: str) -> Iterator[None]:
    """A context in which running out of memory is an error that says what to do.

    Args:
        advice: What to lower.

    Raises:
        OutOfMemory: In place of what Python, NumPy and XLA raise.
    """
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as reason:
        if not isinstance(reason, MemoryError) and "RESOURCE_EXHAUSTED" not in str(reason):
            raise
        message = explain(
            "There is not enough memory.",
            expected="that what is computed fits into the memory of the device",
            received=(str(reason).strip() or type(reason).__name__).splitlines()[0],
            advice=advice,
        )
        raise OutOfMemory(message) from reason
