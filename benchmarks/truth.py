"""The weights and their derivatives in mpmath, at some points of a workload."""

import functools
from typing import Any

import numpy as np

from benchmarks.plain import charges
from rbn_jax.parameters.optional import require

_DIGITS = 60


def some(n: int, most: int = 100) -> np.ndarray:
    """Points at which a result is checked: the first ones, near equality, and others."""
    return np.unique(np.r_[: min(n, most // 2), np.linspace(0, n - 1, most // 2).astype(int)])


def _weight(i: int, a: Any, b: Any) -> Any:
    mp = require("mpmath", "bench")

    if a == b:
        return mp.mpf(float(charges("float64")[i])) * mp.e / a
    q = min(a, b) / max(a, b)
    return mp.mpf(float(charges("float64")[i])) / (min(a, b) * mp.exp(q * mp.log(q) / (1 - q)))


def _place(i: int) -> tuple[int, int]:
    """Which of the four time constants the weight i depends on."""
    return i // 2, 2 + i % 2


def values(x: list[np.ndarray], points: np.ndarray) -> np.ndarray:
    """(points, 2, 2)."""
    return _each(x, points, lambda i, a, b: [_weight(i, a, b)], 1).reshape(-1, 2, 2)


def slopes(x: list[np.ndarray], points: np.ndarray) -> np.ndarray:
    """(points, 2, 2, 4), 0 where a weight does not depend on a time constant."""

    def one(i: int, a: Any, b: Any) -> list[Any]:
        found: list[Any] = [0] * 4
        step = min(a, b) * _tiny(15)
        for k, (da, db) in zip(_place(i), ((step, 0), (0, step)), strict=True):
            found[k] = (_weight(i, a + da, b + db) - _weight(i, a - da, b - db)) / (2 * step)
        return found

    return _each(x, points, one, 4).reshape(-1, 2, 2, 4)


def curvatures(x: list[np.ndarray], points: np.ndarray) -> np.ndarray:
    """(points, 2, 2, 10), the entries on and below the diagonal."""

    def one(i: int, a: Any, b: Any) -> list[Any]:
        found: list[Any] = [0] * 10
        step = min(a, b) * _tiny(13)
        at = functools.partial(_weight, i)
        m, s = _place(i)
        middle = 2 * at(a, b)
        found[m * (m + 1) // 2 + m] = (at(a + step, b) - middle + at(a - step, b)) / step**2
        found[s * (s + 1) // 2 + s] = (at(a, b + step) - middle + at(a, b - step)) / step**2
        mixed = at(a + step, b + step) + at(a - step, b - step)
        mixed -= at(a + step, b - step) + at(a - step, b + step)
        found[s * (s + 1) // 2 + m] = mixed / (4 * step**2)
        return found

    return _each(x, points, one, 10).reshape(-1, 2, 2, 10)


def _tiny(digits: int) -> Any:
    mp = require("mpmath", "bench")

    return mp.mpf(10) ** -digits


def _each(x: list[np.ndarray], points: np.ndarray, one: Any, size: int) -> np.ndarray:
    mp = require("mpmath", "bench")

    found = np.empty((len(points), 4, size))
    with mp.workdps(_DIGITS):
        for k, point in enumerate(points):
            tau = [mp.mpf(float(v[point])) for v in x]
            for i in range(4):
                m, s = _place(i)
                found[k, i] = [float(y) for y in one(i, tau[m], tau[s])]
    return found


def checker(truth: np.ndarray, points: np.ndarray) -> Any:
    """A function that gives the largest relative error of a result there.

    And how many numbers in all are not finite. What should be 0 and is not has an infinite error.
    """

    def check(result: Any) -> tuple[float, int]:
        whole = np.asarray(result).reshape(-1, *truth.shape[1:])
        found = whole[points].astype(float)
        good = np.isfinite(found)
        with np.errstate(divide="ignore", invalid="ignore"):
            error = np.abs(found - truth)[good] / np.abs(truth)[good]
        error = np.nan_to_num(error, nan=0.0, posinf=np.inf)  # 0/0: as it should be
        return float(error.max(initial=0.0)), int((~np.isfinite(whole)).sum())

    return check
