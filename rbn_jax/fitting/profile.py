"""Profile-likelihood intervals."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import numpy as np

from rbn_jax.fitting.kernels import minimise_from
from rbn_jax.fitting.objective import Objective
from rbn_jax.parameters.optional import require

if TYPE_CHECKING:
    from rbn_jax.fitting.result import FitResult

# each step is twice as long as the last one
_MAX_BRACKET_STEPS = 60


def profile_interval(
    result: "FitResult", objective: Objective, name: str, level: float
) -> tuple[float, float]:
    """Return the values of a parameter at which the profile chi-square reaches the quantile."""
    index = objective.names.index(name)
    c = objective.coordinates[index]
    value, error = result.values[name], result.stderr[name]
    quantile = _quantile(result, level)
    rise = quantile if result.absolute_sigma else quantile * result.reduced_chi_square
    if not math.isfinite(rise) or error == math.inf:
        return c.low, c.high
    start = objective.from_values(result._best)

    def excess(trial: float) -> float:
        chi_square = _profile_chi_square(objective, start, index, trial)
        # roots, which are nearly linear in the parameter, suit brentq better
        return math.sqrt(max(chi_square - result.chi_square, 0)) - math.sqrt(rise)

    step = error * math.sqrt(quantile)
    if not math.isfinite(step) or step <= 0:
        step = 0.01 * (abs(value) or 1.0)
    return _root(excess, value, -step, c.low), _root(excess, value, step, c.high)


def _quantile(result: "FitResult", level: float) -> float:
    """Return the quantile of chi-square with one degree of freedom, or of F without sigma."""
    stats = require("scipy.stats", "fit")
    if result.absolute_sigma:
        return float(stats.chi2.ppf(level, 1))
    freedom = result.n_data - len(result.names)
    return float(stats.f.ppf(level, 1, freedom)) if freedom > 0 else math.inf


def _profile_chi_square(objective: Objective, start: np.ndarray, index: int, value: float) -> float:
    """Return the lowest chi-square with one parameter held at a value."""
    held = np.full((1, 1, len(start)), np.nan, objective.dtype)
    held[..., index] = value
    with jax.enable_x64(objective.dtype == "float64"):
        row = objective.select_rows(None)
        return 2 * minimise_from(row, start[None, None], held, 100).cost.item()


def _root(excess: Callable[[float], float], value: float, step: float, bound: float) -> float:
    """Return where `excess` becomes positive, from value in the direction of the step.

    The bound is returned where it does not before the bound.
    """
    inner = value
    for _ in range(_MAX_BRACKET_STEPS):
        outer = inner + step
        if (bound - outer) * step <= 0:
            outer = bound
            if not math.isfinite(bound) or excess(bound) < 0:
                return bound
        if excess(outer) >= 0:
            brentq = require("scipy.optimize", "fit").brentq
            return float(brentq(excess, inner, outer, xtol=1e-6 * abs(step), rtol=1e-10))
        inner = outer
        step *= 2
    return bound
