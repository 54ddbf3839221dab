"""Reference values: the weights and their derivatives in mpmath, at some points of a workload."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.baselines import numerators
from benchmarks.implementations import Check, CheckResult

try:
    import mpmath
except ImportError as error:
    raise ImportError("mpmath is missing: pip install mpmath") from error

# mpmath has no type annotations
mp: Any = mpmath.mp
Real = Any
"""A number of mpmath."""

Array = np.ndarray

_DIGITS = 60

# Steps of the central differences, relative to the smaller time constant. With 60 digits the
# derivatives have more digits than float64: the differences err by the square of the step, and
# the 60th digit divided by the step (or by its square, in second derivatives) is smaller still.
_FIRST_STEP, _SECOND_STEP = "1e-15", "1e-13"


def choose_points(count: int, most: int = 100) -> Array:
    """Return indices of points to check: the first ones, near equality, and others evenly."""
    first = np.arange(min(count, most // 2))
    spread = np.linspace(0, count - 1, most // 2).astype(int)
    return np.union1d(first, spread)


def weights(time_constants: list[Array], indices: Array) -> Array:
    """Return the weights at the points of these indices, shape (points, 2, 2)."""

    def entries(weight: int, tau_m: Real, tau_syn: Real) -> list[Real]:
        return [_weight(weight, tau_m, tau_syn)]

    return _evaluate(time_constants, indices, entries, 1).reshape(-1, 2, 2)


def first_derivatives(time_constants: list[Array], indices: Array) -> Array:
    """Return the Jacobian, shape (points, 2, 2, 4).

    It is 0 where a weight does not depend on a time constant.
    """

    def entries(weight: int, tau_m: Real, tau_syn: Real) -> list[Real]:
        step = min(tau_m, tau_syn) * mp.mpf(_FIRST_STEP)
        rise_m = _weight(weight, tau_m + step, tau_syn) - _weight(weight, tau_m - step, tau_syn)
        rise_syn = _weight(weight, tau_m, tau_syn + step) - _weight(weight, tau_m, tau_syn - step)
        m, syn = _dependencies(weight)
        derivatives: list[Real] = [0] * 4
        derivatives[m] = rise_m / (2 * step)
        derivatives[syn] = rise_syn / (2 * step)
        return derivatives

    return _evaluate(time_constants, indices, entries, 4).reshape(-1, 2, 2, 4)


def second_derivatives(time_constants: list[Array], indices: Array) -> Array:
    """Return the ten entries of the Hessian on and below its diagonal, (points, 2, 2, 10)."""

    def entries(weight: int, tau_m: Real, tau_syn: Real) -> list[Real]:
        step = min(tau_m, tau_syn) * mp.mpf(_SECOND_STEP)

        def moved(steps_m: int, steps_syn: int) -> Real:
            return _weight(weight, tau_m + steps_m * step, tau_syn + steps_syn * step)

        center = 2 * moved(0, 0)
        mixed = moved(1, 1) + moved(-1, -1) - moved(1, -1) - moved(-1, 1)
        m, syn = _dependencies(weight)
        derivatives: list[Real] = [0] * 10
        derivatives[_hessian_index(m, m)] = (moved(1, 0) - center + moved(-1, 0)) / step**2
        derivatives[_hessian_index(syn, syn)] = (moved(0, 1) - center + moved(0, -1)) / step**2
        derivatives[_hessian_index(syn, m)] = mixed / (4 * step**2)
        return derivatives

    return _evaluate(time_constants, indices, entries, 10).reshape(-1, 2, 2, 10)


def make_check(reference: Array, indices: Array) -> Check:
    """Return a check of results against reference values at the points of these indices.

    The error is the largest relative one; a number that should be 0 and is not has an infinite
    error. Numbers that are not finite are counted at all points.
    """

    def check(result: Any) -> CheckResult:
        at_all_points = np.asarray(result).reshape(-1, *reference.shape[1:])
        checked = at_all_points[indices].astype(float)
        finite = np.isfinite(checked)
        with np.errstate(divide="ignore", invalid="ignore"):
            errors = np.abs(checked - reference)[finite] / np.abs(reference)[finite]
        # 0/0 is the error of a number that is 0 and should be
        errors = np.nan_to_num(errors, nan=0.0, posinf=np.inf)
        not_finite = np.count_nonzero(~np.isfinite(at_all_points))
        return CheckResult(float(errors.max(initial=0.0)), int(not_finite))

    return check


def _weight(weight: int, tau_m: Real, tau_syn: Real) -> Real:
    """Return numerator / PSP peak of weight 0 to 3: EE, EI, IE, II.

    peak = low exp(q ln q / (1 - q)), q = low / high, with the smaller and the larger time
    constant; its limit at equal time constants is tau / e.
    """
    numerator = mp.mpf(float(numerators("float64")[weight]))
    if tau_m == tau_syn:
        return numerator * mp.e / tau_m
    low, high = min(tau_m, tau_syn), max(tau_m, tau_syn)
    q = low / high
    return numerator / (low * mp.exp(q * mp.log(q) / (1 - q)))


def _dependencies(weight: int) -> tuple[int, int]:
    """Return which of tau_E, tau_I, tau_syn_ex and tau_syn_in a weight depends on."""
    return weight // 2, 2 + weight % 2


def _hessian_index(row: int, column: int) -> int:
    """Return where an entry is in the list of those on and below the diagonal."""
    return row * (row + 1) // 2 + column


def _evaluate(
    time_constants: list[Array],
    indices: Array,
    entries: Callable[[int, Real, Real], list[Real]],
    size: int,
) -> Array:
    """Return the entries of the four weights at the points, shape (points, 4, size)."""
    evaluated = np.empty((len(indices), 4, size))
    with mp.workdps(_DIGITS):
        for row, index in enumerate(indices):
            taus = [mp.mpf(float(values[index])) for values in time_constants]
            for weight in range(4):
                m, syn = _dependencies(weight)
                numbers = entries(weight, taus[m], taus[syn])
                evaluated[row, weight] = [float(number) for number in numbers]
    return evaluated
