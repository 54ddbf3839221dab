"""Workloads of growing size: points, axes of a sweep, cores."""

import functools

import numpy as np

from benchmarks import baselines, pointwise
from benchmarks.implementations import (
    Implementation,
    default_device_kind,
    jax_version,
    no_preparation,
    numpy_version,
    on_every_device,
)
from rbn_jax.sweeps import sweep
from rbn_jax.weights import calculate_RBN_weights


def growing_points(decades: int, dtype: str) -> list[Implementation]:
    """The weights at 1, 10, ..., 10^decades points; for few points, dispatch takes the time."""
    implementations = []
    for exponent in range(decades + 1):
        count = 10**exponent
        inputs = pointwise.random_points(count, dtype)
        by_numpy = functools.partial(pointwise.call_quietly, baselines.numpy_weights, *inputs)
        implementations.append(
            Implementation("NumPy", no_preparation(by_numpy), numpy_version(), points=count)
        )
        implementations += on_every_device(
            "rbn_jax", pointwise.rbn_jax_weights, inputs, points=count
        )
    return implementations


def growing_axes(count: int, dtype: str) -> list[Implementation]:
    """Sweeps of about `count` points over one to four axes.

    A peak depends on two time constants: over more axes, fewer peaks are computed per point.
    """
    implementations = []
    for axis_count in range(1, len(baselines.TIME_CONSTANTS) + 1):
        side = round(count ** (1 / axis_count))
        names = baselines.TIME_CONSTANTS[:axis_count]
        axes = {name: np.linspace(5, 40, side) for name in names}
        by_sweep = functools.partial(
            sweep, calculate_RBN_weights, baselines.EXAMPLE_NETWORK, axes, dtype=dtype
        )
        implementations.append(
            Implementation(
                f"rbn_jax.sweep, axes: {axis_count}",
                no_preparation(by_sweep),
                jax_version(),
                points=side**axis_count,
                device=default_device_kind(),
            )
        )
    return implementations


def growing_cores(count: int, dtype: str) -> list[Implementation]:
    """The weights at `count` points, on the cores that the process may use."""
    inputs = pointwise.random_points(count, dtype)
    return on_every_device("rbn_jax", pointwise.rbn_jax_weights, inputs)
