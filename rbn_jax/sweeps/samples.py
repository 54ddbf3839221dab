"""Samples of several parameters at once, as axes of a sweep that vary together."""

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np

from rbn_jax.parameters.checks import is_number, to_whole_number, unknown_name_error
from rbn_jax.parameters.optional import require
from rbn_jax.parameters.spacing import sobol_points

if TYPE_CHECKING:
    import xarray

Method = Literal["sobol", "latin_hypercube", "uniform"]
METHODS = get_args(Method)


def sample(
    method: Method, ranges: Mapping[str, Sequence[Any]], n: int, *, seed: int = 0
) -> "dict[str, xarray.DataArray]":
    """Draw n samples of the parameters in ranges, as axes for `sweep`, or as some of them.

    A point u of the unit cube gives each parameter low (1 - u) + high u, or low^(1 - u) high^u
    on a logarithmic scale; the points come from the method.

    Args:
        method: "sobol" (scrambled; a warning unless n is a power of 2), "latin_hypercube",
            both from `scipy.stats.qmc`, or "uniform", independent random numbers.
        ranges: (low, high) by parameter name, or (low, high, "log") for values that are even
            on a logarithmic scale; in the parameter's unit.
        n: the number of samples.
        seed: the same seed gives the same samples.

    Returns:
        An `xarray.DataArray` of n values along the dimension "sample" by parameter name.

    Raises:
        ValueError: an unknown method; ranges that are empty, not finite, or not from low to
            high, above 0 on a logarithmic scale; n is no whole number >= 1, or seed none >= 0.
        ImportError: SciPy or xarray is missing.

    >>> axes = sample("sobol", {"tau_E": (5, 40), "tau_syn_ex": (0.5, 20, "log")}, 1024)
    >>> axes["tau_E"].sizes["sample"], round(axes["tau_E"].mean().item(), 1)
    (1024, 22.5)
    """
    if method not in METHODS:
        raise unknown_name_error(method, METHODS, "sampler")
    n = to_whole_number("n", n, 1)
    seed = to_whole_number("seed", seed, 0)
    if not isinstance(ranges, Mapping) or not ranges:
        raise ValueError(f"ranges={ranges!r}: must map parameter names to (low, high)")
    scales = {name: _read_range(name, limits) for name, limits in ranges.items()}
    unit_cube = _unit_cube(method, len(ranges), n, seed)
    xr = require("xarray", "sweep")
    axes = {}
    for (name, scale), column in zip(scales.items(), unit_cube.T, strict=True):
        axes[name] = xr.DataArray(scale.values_at(column), dims="sample")
    return axes


class _Scale(NamedTuple):
    low: float
    high: float
    is_log: bool

    def values_at(self, u: np.ndarray) -> np.ndarray:
        """Return the values at u in [0, 1); no step overflows, whatever the range."""
        if self.is_log:
            values = self.low ** (1 - u) * self.high**u
        else:
            values = self.low * (1 - u) + self.high * u
        # rounding may leave the range
        return np.clip(values, self.low, self.high)


def _read_range(name: str, limits: Sequence[Any]) -> _Scale:
    is_range = isinstance(limits, tuple | list) and list(limits[2:]) in ([], ["log"])
    if not is_range or len(limits) < 2 or not all(map(is_number, limits[:2])):
        raise ValueError(
            f"{name}={limits!r}: must be (low, high) or (low, high, 'log'), finite numbers"
        )
    scale = _Scale(float(limits[0]), float(limits[1]), len(limits) == 3)
    if scale.low >= scale.high:
        raise ValueError(f"{name}={limits!r}: low must be below high")
    if scale.is_log and scale.low <= 0:
        raise ValueError(f"{name}={limits!r}: low must be > 0 on a log scale")
    return scale


def _unit_cube(method: Method, dims: int, n: int, seed: int) -> np.ndarray:
    """Return (n, dims) samples in [0, 1)."""
    if method == "uniform":
        return np.random.default_rng(seed).uniform(size=(n, dims))
    if method == "latin_hypercube":
        qmc = require("scipy.stats", "sweep").qmc
        return qmc.LatinHypercube(dims, rng=seed).random(n)
    if n & (n - 1):
        below = 1 << (n.bit_length() - 1)
        text = f"{n} points of a Sobol sequence are not balanced: take {below} or {2 * below}"
        warnings.warn(text, UserWarning, stacklevel=3)
    return sobol_points(n, dims, seed, "sweep")
