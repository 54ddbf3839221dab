"""Samples of several parameters at once, as axes of a sweep that vary together."""

import numbers
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from rbn_jax.parameters import checks
from rbn_jax.parameters.optional import require

METHODS = ("sobol", "latin_hypercube", "uniform")


def sample(method: str, ranges: Mapping[str, Any], n: int, *, seed: int = 0) -> dict[str, Any]:
    """n samples of the parameters in ranges, to be passed to `sweep` as axes, or as some of them.

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
            high, above 0 on a logarithmic scale; n no whole number >= 1, seed none >= 0.
        ImportError: SciPy or xarray is missing.

    >>> axes = sample("sobol", {"tau_E": (5, 40), "tau_syn_ex": (0.5, 20, "log")}, 1024)
    >>> axes["tau_E"].sizes["sample"], round(axes["tau_E"].mean().item(), 1)
    (1024, 22.5)
    """
    if method not in METHODS:
        raise checks.unknown_name_error(str(method), METHODS, "sampler")
    _check_whole("n", n, 1)
    _check_whole("seed", seed, 0)
    if not isinstance(ranges, Mapping) or not ranges:
        raise ValueError(f"ranges={ranges!r}: must map parameter names to (low, high)")
    scales = {name: _scale(name, limits) for name, limits in ranges.items()}
    unit = _unit_cube(method, len(ranges), n, seed).T
    array = require("xarray", "sweep").DataArray
    return {
        name: array(_between(low, high, log, column), dims="sample")
        for (name, (low, high, log)), column in zip(scales.items(), unit, strict=True)
    }


def _check_whole(name: str, value: Any, least: int) -> None:
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < least:
        raise ValueError(f"{name}={value!r}: must be a whole number >= {least}")


def _scale(name: str, limits: Any) -> tuple[float, float, bool]:
    """low, high and whether the scale is logarithmic."""
    is_range = isinstance(limits, tuple | list) and list(limits[2:]) in ([], ["log"])
    if not is_range or len(limits) < 2 or not all(map(checks.is_number, limits[:2])):
        raise ValueError(
            f"{name}={limits!r}: must be (low, high) or (low, high, 'log'), finite numbers"
        )
    low, high, log = float(limits[0]), float(limits[1]), len(limits) == 3
    if low >= high:
        raise ValueError(f"{name}={limits!r}: low must be below high")
    if log and low <= 0:
        raise ValueError(f"{name}={limits!r}: low must be > 0 on a log scale")
    return low, high, log


def _unit_cube(method: str, dims: int, n: int, seed: int) -> np.ndarray:
    """(n, dims) samples in [0, 1)."""
    if method == "uniform":
        return np.random.default_rng(seed).uniform(size=(n, dims))
    qmc = require("scipy.stats", "sweep").qmc
    engine = qmc.Sobol if method == "sobol" else qmc.LatinHypercube
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # said in our words
        points = engine(dims, rng=seed).random(n)
    if method == "sobol" and n & (n - 1):
        below = 1 << (int(n).bit_length() - 1)
        text = f"{n} points of a Sobol sequence are not balanced: take {below} or {2 * below}"
        warnings.warn(text, UserWarning, stacklevel=3)
    return points


def _between(low: float, high: float, log: bool, unit: np.ndarray) -> np.ndarray:
    """Values at unit of the way from low to high; no step overflows, whatever the range."""
    values = low ** (1 - unit) * high**unit if log else low * (1 - unit) + high * unit
    return np.clip(values, low, high)  # rounding must not leave the range
