"""Profile-likelihood intervals."""

import math
from typing import Any

import jax
import numpy as np

from rbn_jax.fitting import kernels as s
from rbn_jax.fitting.objective import Data, Problem
from rbn_jax.parameters.optional import require


def interval(result: Any, problem: Problem, data: Data, name: str, level: float) -> Any:
    """The two values of a parameter at which the least chi-square has risen by the quantile."""
    i = problem.names.index(name)
    rise = _rise(result, level)
    low, high = data.coordinates[i].low, data.coordinates[i].high
    if not math.isfinite(rise) or result.stderr[name] == math.inf:
        return low, high
    start = start_at(problem, data, result._best)
    best = result.chi_square

    def beyond(value: float) -> float:
        return math.sqrt(max(_least(problem, data, start, i, value) - best, 0)) - math.sqrt(rise)

    step = result.stderr[name] * math.sqrt(rise / _scale(result))
    if not math.isfinite(step) or step <= 0:
        step = 0.01 * (abs(result.values[name]) or 1.0)
    return tuple(_end(beyond, result.values[name], sign * step, low, high) for sign in (-1, 1))


def start_at(problem: Problem, data: Data, x: np.ndarray) -> np.ndarray:
    """The coordinates of parameters, those on a bound a little inside."""
    pairs = zip(data.coordinates, np.asarray(x, float), strict=True)
    return np.array([float(c.from_user(value)) for c, value in pairs], problem.dtype)


def _scale(result: Any) -> float:
    return 1.0 if result.absolute_sigma else result.reduced_chi_square


def _rise(result: Any, level: float) -> float:
    stats = require("scipy.stats", "fit")
    if result.absolute_sigma:
        return float(stats.chi2.ppf(level, 1))
    dof = result.n_data - len(result.names)
    return float(stats.f.ppf(level, 1, dof)) * _scale(result) if dof > 0 else math.inf


def _least(problem: Problem, data: Data, start: np.ndarray, i: int, value: float) -> float:
    """The least chi-square with one parameter at a value."""
    pinned = np.full((1, 1, len(start)), np.nan, problem.dtype)
    pinned[..., i] = value
    with jax.enable_x64(problem.dtype == "float64"):
        return 2 * s.solve(problem, data.rows(None), start[None, None], pinned, 100)[2].item()


def _end(beyond: Any, value: float, step: float, low: float, high: float) -> float:
    """Where `beyond` changes its sign, away from value in the direction of the step."""
    near, bound = value, low if step < 0 else high
    for _ in range(60):
        far = near + step
        if (far <= low) or (far >= high):
            far = bound
            if not math.isfinite(bound) or beyond(bound) < 0:
                return bound
        if beyond(far) >= 0:
            brentq = require("scipy.optimize", "fit").brentq
            return float(brentq(beyond, near, far, xtol=1e-6 * abs(step), rtol=1e-10))
        near, step = far, 2 * step
    return bound
