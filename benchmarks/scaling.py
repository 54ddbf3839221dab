"""Workloads of a size that grows: points, axes, cores."""

import functools
from typing import Any

import jax
import numpy as np

from benchmarks import plain
from benchmarks.timing import Way
from benchmarks.values import at, default_device, ours, points, quiet
from rbn_jax.sweeps import sweep
from rbn_jax.weights import calculate_RBN_weights


def points_of(decades: int, dtype: str, _: bool) -> list[Way]:
    """The weights of 1, 10, ... points: at the left it is dispatch that costs."""
    found = []
    for n in (10**k for k in range(decades + 1)):
        x = points(n, dtype)
        call = functools.partial(quiet, plain.weights, *x)
        found.append(Way("NumPy", lambda call=call: call, f"NumPy {np.__version__}", points=n))
        found += ours("rbn_jax", at, x, None, points=n)
    return found


def axes(n: int, dtype: str, _: bool) -> list[Way]:
    """Sweeps of about n points over one axis and more: what is separable costs less."""
    found = []
    for count in range(1, len(plain.TAUS) + 1):
        side = round(n ** (1 / count))
        grid = {name: np.linspace(5, 40, side) for name in plain.TAUS[:count]}

        def swept(grid: Any = grid) -> Any:
            return sweep(calculate_RBN_weights, plain.NET, grid, dtype=dtype)

        name = f"rbn_jax.sweep, axes: {count}"
        own = {"points": side**count, "device": default_device()}
        found.append(Way(name, lambda call=swept: call, f"JAX {jax.__version__}", **own))
    return found


def cores(n: int, dtype: str, _: bool) -> list[Way]:
    """The weights on as many cores as the process is given."""
    return ours("rbn_jax", at, points(n, dtype), None)
