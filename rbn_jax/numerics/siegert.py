"""Siegert's integral I in logarithms, with its derivatives.

tau_m sqrt(pi) I is the mean passage time of a leaky neuron in noise from reset to threshold. With
y = (V_th - mu)/sigma + shift and h = (V_th - V_r)/sigma the integral is

    I = int_{y-h}^{y} erfcx(-u) du
      = 2 int_{max(y-h, 0)}^{max(y, 0)} exp(u^2) du + G(|y-h|) - G(|y|),
    G(x) = int_0^x erfcx = log(1 + 4 e^gamma x^2) / (2 sqrt(pi)) + a smooth remainder.

The factor exp(max(y, 0)^2) is taken out of all terms, so that nothing overflows. A difference of
G is the logarithm of a ratio plus a divided difference of the remainder; this keeps its digits
where y and h differ by orders of magnitude. The smooth functions are Chebyshev series, each in a
variable that maps 0..infinity to -1..1; float32 uses the first terms of the same series.

Where a formula has a case for x > 0 and one for x <= 0, the value at 0 and its slope are those of
the second, in every function here: mixed choices would give wrong derivatives at 0.
"""

import math
from collections.abc import Iterable
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero

from rbn_jax.numerics.arrays import same_rank
from rbn_jax.numerics.coefficients import (
    DAWSON,
    DAWSON_MIDDLE,
    ERFCX,
    ERFCX_INTEGRAL_REMAINDER,
    ERFCX_REMAINDER,
    MIDDLE,
    Series,
)

SHIFT = 1.4603545088095868 / math.sqrt(2)
"""|zeta(1/2)| / sqrt(2): the limits of the integral are shifted by it times sqrt(tau_syn/tau_m)."""
_LOG_FACTOR = 4 * math.exp(0.5772156649015329)  # 4 e^gamma, gamma is Euler's constant
_GAUSS_NODES, _GAUSS_WEIGHTS = np.polynomial.legendre.leggauss(8)


def log_siegert_integral(v: Array, gap: Array, sigma: Array, shift: Array) -> tuple[Array, Array]:
    """ln of I with y = v/sigma + shift and h = gap/sigma, as two terms: max(y, 0)^2 and the rest.

    v is V_th - mu, gap is V_th - V_r; gap and sigma > 0, one dtype.
    """
    mean = v / sigma
    top = _positive_part(mean + shift)
    # the rounding error e of top changes its square by 2 top e; it is added to the second term
    error = lax.stop_gradient(shift - (top - mean))
    log_scaled = _log_scaled_integral(*same_rank(v, gap, sigma, shift))
    return top * top, log_scaled + jnp.where(top > 0, 2 * top * error, 0)


@jax.custom_jvp
def _log_scaled_integral(v: Array, gap: Array, sigma: Array, shift: Array) -> Array:
    """ln(I exp(-max(y, 0)^2))."""
    return jnp.log(_scaled_integral(v / sigma + shift, gap / sigma))


def _log_scaled_integral_jvp(
    primals: tuple[Array, ...], tangents: tuple[object, ...]
) -> tuple[Array, Array]:
    v, gap, sigma, shift = primals
    y = v / sigma + shift
    value = _log_scaled_integral(*primals)
    at_reset, increment, moment_increment = _boundary_terms(y, gap / sigma)
    inverse = jnp.exp(-value)
    factor_slope = 2 * _positive_part(y)  # of max(y, 0)^2, the logarithm of the factor taken out
    d_v = (increment * inverse - factor_slope) / sigma
    d_limits = (shift * increment - moment_increment) * inverse
    d_sigma = (d_limits + factor_slope * (v / sigma)) / sigma
    d_gap = at_reset * inverse / sigma
    return value, tangent((d_v, d_gap, d_sigma, d_v * sigma), tangents)


# symbolic_zeros: arguments that are not differentiated add no terms
_log_scaled_integral.defjvp(_log_scaled_integral_jvp, symbolic_zeros=True)


def tangent(slopes: Iterable[Array], tangents: Iterable[object]) -> Array:
    """Return the sum of slopes times tangents, without those that are SymbolicZero."""
    products = []
    for slope, argument_tangent in zip(slopes, tangents, strict=True):
        if not isinstance(argument_tangent, SymbolicZero):
            products.append(slope * cast(Array, argument_tangent))
    return cast(Array, sum(products))


def _positive_part(x: Array) -> Array:
    """max(x, 0)."""
    return jnp.where(x > 0, x, 0)


def _absolute(x: Array) -> Array:
    """|x|."""
    return jnp.where(x > 0, x, -x)


def _scaled_integral(y: Array, h: Array) -> Array:
    """I exp(-max(y, 0)^2)."""
    reset = y - h
    top = _positive_part(y)
    distance_reset = _absolute(reset)
    distance_y = _absolute(y)
    # |y - h| - |y|, without a difference of numbers that are nearly equal
    difference = jnp.where(y <= 0, h, jnp.where(reset >= 0, -h, distance_reset - distance_y))
    excess = _LOG_FACTOR * difference * (distance_reset + distance_y)
    log_ratio = jnp.log1p(excess / (1 + _LOG_FACTOR * distance_y * distance_y))
    r_y = _nearness(distance_y)
    r_reset = _nearness(distance_reset)
    remainder = _divided_difference(ERFCX_INTEGRAL_REMAINDER, 1 - r_reset, 1 - r_y)
    step = difference * r_y * r_reset / (2 * MIDDLE)
    difference_of_g = log_ratio / (2 * math.sqrt(math.pi)) + step * remainder
    return 2 * _exp_square_integral(y, h) + jnp.exp(-top * top) * difference_of_g


def _exp_square_integral(y: Array, h: Array) -> Array:
    """int exp(u^2 - top^2) du from max(y - h, 0) to top = max(y, 0)."""
    top = _positive_part(y)
    width = _positive_width(y, h)
    by_dawson = _dawson(top) - _decay(y, h) * _dawson(_positive_part(y - h))
    # over a short interval, Gauss-Legendre quadrature: a difference of Dawson's integrals
    # would lose digits
    is_short = top * width < 1
    short_width = jnp.where(is_short, width, 0)
    terms = []
    for node, weight in zip(_GAUSS_NODES.tolist(), _GAUSS_WEIGHTS.tolist(), strict=True):
        depth = short_width * (1 + node) / 2
        terms.append(weight * jnp.exp(-depth * (2 * top - depth)))
    return jnp.where(is_short, short_width / 2 * sum(terms), by_dawson)


def _positive_width(y: Array, h: Array) -> Array:
    """max(y, 0) - max(y - h, 0), without a difference of numbers that are nearly equal."""
    return jnp.where(y - h > 0, h, _positive_part(y))


def _decay(y: Array, h: Array) -> Array:
    """exp(max(y - h, 0)^2 - max(y, 0)^2)."""
    return jnp.exp(-_positive_width(y, h) * (_positive_part(y) + _positive_part(y - h)))


def _boundary_terms(y: Array, h: Array) -> tuple[Array, Array, Array]:
    """The integrand and its increments from the reset u = y - h to the threshold u = y.

    They have the same factor as the scaled integral: erfcx(-u) at the reset, the increment of
    erfcx(-u) and that of u erfcx(-u).
    """
    reset = y - h
    at_top = _scaled_erfcx(y)
    at_reset = _decay(y, h) * _scaled_erfcx(reset)
    increment_below, moment_increment_below = _increments(_absolute(y), _absolute(reset), h)
    increment = jnp.where(y <= 0, increment_below, at_top - at_reset)
    moment_increment = jnp.where(y <= 0, moment_increment_below, y * at_top - reset * at_reset)
    return at_reset, increment, moment_increment


def _increments(near: Array, far: Array, h: Array) -> tuple[Array, Array]:
    """Increments of erfcx(x) and -x erfcx(x) from x = far = near + h down to x = near.

    With r and t = 1 - r of `_nearness`, erfcx = r S(t) with the series S = ERFCX, and
    1/sqrt(pi) - x erfcx(x) = r^2 R(t) with R = ERFCX_REMAINDER. A difference of values would lose
    digits at small h. So it is the step in t times divided differences of S and R.
    """
    r_near = _nearness(near)
    r_far = _nearness(far)
    t_near = 1 - r_near
    t_far = 1 - r_far
    step = h * r_near * r_far / (2 * MIDDLE)
    increment = _series(ERFCX, t_far) - r_near * _divided_difference(ERFCX, t_far, t_near)
    remainder = (r_near + r_far) * _series(ERFCX_REMAINDER, t_far)
    remainder -= r_near * r_near * _divided_difference(ERFCX_REMAINDER, t_far, t_near)
    return step * increment, step * remainder


def _scaled_erfcx(y: Array) -> Array:
    """erfcx(-y) exp(-max(y, 0)^2)."""
    r = _nearness(_absolute(y))
    top = _positive_part(y)
    mirrored = r * _series(ERFCX, 1 - r)  # erfcx(|y|)
    return jnp.where(y > 0, 2 - jnp.exp(-top * top) * mirrored, mirrored)


def _dawson(x: Array) -> Array:
    """exp(-x^2) int_0^x exp(u^2) du for x >= 0."""
    r = _nearness(x * x, DAWSON_MIDDLE)
    return x * r * _series(DAWSON, 1 - r)


def _nearness(x: Array, middle: float = MIDDLE) -> Array:
    """r = 2 at 0, 1 at middle, 0 at infinity: t = 1 - r maps 0..infinity to -1..1."""
    return 2 * middle / (x + middle)


def _coefficients(series: Series, dtype: np.dtype) -> tuple[float, ...]:
    return series.float64 if dtype == np.float64 else series.float32


# The recurrences below are written with functions of lax. JAX takes several times as long to trace
# an operator of arrays, and there are hundreds of operations.


def _series(series: Series, t: Array) -> Array:
    """Return the value of a Chebyshev series at t, by Clenshaw's recurrence.

    b_k = c_k + 2 t b_(k+1) - b_(k+2), and the value is c_0 + t b_1 - b_2.
    """
    constant, *others = _coefficients(series, t.dtype)
    current = following = lax.full_like(t, 0)
    double_t = lax.add(t, t)
    for coefficient in reversed(others):
        current, following = _clenshaw_step(coefficient, double_t, current, following), current
    return constant + t * current - following


def _divided_difference(series: Series, s: Array, t: Array) -> Array:
    """(f(s) - f(t)) / (s - t) of a Chebyshev series f, also at s = t.

    The recurrence of this quotient is the divided difference of Clenshaw's,
    d_k = 2 (s d_(k+1) + b_(k+1)) - d_(k+2), with b_k at t.
    """
    current = following = slope = following_slope = lax.full_like(t, 0)
    double_t = lax.add(t, t)
    for coefficient in reversed(_coefficients(series, t.dtype)[1:]):
        half = lax.add(lax.mul(s, slope), current)
        slope, following_slope = lax.sub(lax.add(half, half), following_slope), slope
        current, following = _clenshaw_step(coefficient, double_t, current, following), current
    return current + s * slope - following_slope


def _clenshaw_step(coefficient: float, double_t: Array, current: Array, following: Array) -> Array:
    product = lax.mul(double_t, current)
    return lax.sub(lax.add(lax.full_like(product, coefficient), product), following)
