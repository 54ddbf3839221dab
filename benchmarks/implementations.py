"""An implementation of a workload, and rbn_jax as an implementation on every device."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# the class jax.Device has no type annotations
Device = Any

Call = Callable[[], object]
"""Computes the workload once, and returns when the result is complete."""


class CheckResult(NamedTuple):
    """The largest error of a result, and the count of its numbers that are not finite."""

    error: float
    not_finite: int


Check = Callable[[Any], CheckResult]


@dataclasses.dataclass
class Implementation:
    """One implementation of a workload.

    name: the label of the row in the table
    prepare: returns the call; compiling and copying data to a device belong here
    version: the package that computes, and its version
    scale: size of the workload, divided by the size of what the call computes
    check: compares a result with reference values; None if there are none
    device: "cpu", or the kind of accelerator that it runs on
    points: points of this implementation, if those of a workload differ in size
    partial: it computes less than the workload, and is shown for comparison
    """

    name: str
    prepare: Callable[[], Call]
    version: str
    scale: float = 1.0
    check: Check | None = None
    device: str = "cpu"
    points: int | None = None
    partial: bool = False


def no_preparation(call: Call) -> Callable[[], Call]:
    """Return the `prepare` of an implementation that has nothing to prepare."""
    return lambda: call


def numpy_version() -> str:
    """Return the entry of the column "version" for NumPy."""
    return f"NumPy {np.__version__}"


def jax_version() -> str:
    """Return the entry of the column "version" for rbn_jax, whose speed is that of JAX."""
    return f"JAX {jax.__version__}"


def devices() -> list[tuple[str, Device]]:
    """Return kind and device of the CPU, and of the first accelerator if there is one."""
    kinds_and_devices = [("cpu", jax.devices("cpu")[0])]
    if jax.default_backend() != "cpu":
        accelerator = jax.devices()[0]
        kinds_and_devices.append((accelerator.device_kind, accelerator))
    return kinds_and_devices


def default_device_kind() -> str:
    """Return the kind of the device on which JAX computes by default."""
    (device,) = jnp.zeros(()).devices()
    return "cpu" if device.platform == "cpu" else device.device_kind


def on_every_device(
    name: str,
    function: Callable[..., Any],
    inputs: Sequence[np.ndarray],
    check: Check | None = None,
    *,
    points: int | None = None,
    partial: bool = False,
) -> list[Implementation]:
    """Return a function that JAX compiles, as one implementation for each device."""
    implementations = []
    for kind, device in devices():
        implementation = Implementation(
            name,
            _compile_for(function, inputs, device),
            jax_version(),
            check=check,
            device=kind,
            points=points,
            partial=partial,
        )
        implementations.append(implementation)
    return implementations


def _compile_for(
    function: Callable[..., Any], inputs: Sequence[np.ndarray], device: Device
) -> Callable[[], Call]:
    def prepare() -> Call:
        inputs_on_device = jax.device_put(list(inputs), device)
        program = jax.jit(function).lower(*inputs_on_device).compile()
        return lambda: jax.block_until_ready(program(*inputs_on_device))

    return prepare
