"""Stable special functions of two time constants, and all of their derivatives.

Everything about one event on an exponential synapse follows from two functions of the
time constants a and b, smooth and symmetric through a = b:

    L(a, b) = (ln b - ln a) / (b - a)                the slope of the logarithm's chord
    T(a, b) = (atanh(z)/z - 1) / z^2,  z = (b - a)/(a + b),  from 1/3 upwards

With p = a/(a + b), q = b/(a + b) the event peaks at t* = a b L and reaches F = a exp(-a L).
The elasticities of F are e_a = q (1 - 2 p z T) and e_b = p (1 + 2 q z T), e_a + e_b = 1. With
dl = da/a - db/b and B = 2 p q T the derivatives up to the second are products and sums in which
nothing cancels:

    dF   = F (e_a da/a + e_b db/b)         d(F_a, F_b)   = F (e_a e_b + B) (-dl/a, dl/b)
    dt*  = (b/a) e_b da + (a/b) e_a db     d(t*_a, t*_b) = (1 - 2 B) (-q dl, p dl)
    d ln F = e_a da/a + e_b db/b           d(ln F)_a     = -((ln F)_a da + B dl) / a

The weights are multiples of 1/F, for which (1/F)_aa = (e_a^2 + e_a + B) / (a^2 F) and
(1/F)_ab = p q (1 - 2 B (2 + z^2 T)) / (a b F). JAX differentiates these for higher derivatives.

Inputs are arrays of one floating dtype. A result is NaN, with all derivatives, where an input is
NaN or no time constant from 2e-31 to 4e37 ms (float32; 2e-292 to 2e307 in float64).
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from rbn_jax.numerics.arrays import nan_unless
from rbn_jax.numerics.coefficients import ATANH_LARGEST_Z, ATANH_REMAINDER, EXP, LOG_RATIO

Pair = tuple[Array, Array]
"""Two arrays: the time constants a and b, their tangents, or derivatives in both."""


def _limits(dtype: np.dtype) -> tuple[float, float]:
    """Between which time constants neither a difference is subnormal nor a sum overflows."""
    info = jnp.finfo(dtype)
    return float(2 * info.tiny / info.eps), float(info.max / 8)


def valid_time_constant(tau: Array) -> Array:
    """Return tau where it is a number between the limits, NaN elsewhere."""
    low, high = _limits(tau.dtype)
    return nan_unless((tau >= low) & (tau <= high), tau)


def _polynomial(x: Array, coefficients: Sequence[float]) -> Array:
    """Return sum_k c_k x^k by Estrin's scheme.

    It combines pairs of terms, which are independent of each other; in Horner's scheme each
    product waits for the one before.
    """
    terms = [jnp.full_like(x, coefficient) for coefficient in coefficients]
    while len(terms) > 1:
        pairs = []
        for low, high in zip(terms[::2], terms[1::2], strict=False):
            pairs.append(low + high * x)
        if len(terms) % 2:
            pairs.append(terms[-1])
        terms = pairs
        x = x * x
    return terms[0]


def _define_jvp(function: jax.custom_jvp, slopes: Callable[[Array, Array], Pair]) -> None:
    """Define the derivative of function(a, b) by (d function/da, d function/db)."""

    @function.defjvp
    def _(primals: Pair, tangents: Pair) -> Pair:
        slope_a, slope_b = slopes(*primals)
        return function(*primals), slope_a * tangents[0] + slope_b * tangents[1]


@jax.custom_jvp
def log_slope(a: Array, b: Array) -> Array:
    """L(a, b) = (ln b - ln a) / (b - a), and 1/a at b = a.

    b is scaled by the power of two 2^-k that brings it within a factor 1.5 of a. Then
    ln(b/a) = k ln 2 + y P(y^2), the logarithm of (1 + y/2)/(1 - y/2), y = 2 (b' - a)/(b' + a),
    and at k = 0 the factor b - a cancels in closed form. No logarithm is called: that of XLA
    takes most of the time in float64.
    """
    k, scaled = _scale_towards(a, b)
    # the factor 2 comes after the quotient: XLA recomputes a product for each of its uses, in
    # one pass over the data, but stores a quotient, which takes a second pass
    y = (scaled - a) / (scaled + a) * 2
    series = _polynomial(y * y, getattr(LOG_RATIO, a.dtype.name))
    is_unscaled = k == 0
    numerator = jnp.where(is_unscaled, series, k * math.log(2) + y * series)
    return numerator / jnp.where(is_unscaled, (a + b) / 2, b - a)


def _scale_towards(a: Array, b: Array) -> Pair:
    """Return k and b 2^-k, which is exact and within a factor 1.5 of a.

    The bits of a positive number, read as an integer, are its exponent, then its mantissa. So
    the difference of the bits of b and a, rounded to a multiple of the exponent's last bit, is
    k. All integers are unsigned, for which XLA has vector instructions in 64 bits.
    """
    info = jnp.finfo(a.dtype)
    unsigned = np.dtype(f"uint{info.bits}")
    bits_a = lax.bitcast_convert_type(a, unsigned)
    bits_b = lax.bitcast_convert_type(b, unsigned)
    mantissa_bits = np.array(info.nmant, unsigned)
    half = np.array(2 ** (info.nmant - 1), unsigned)
    # added to the difference, so that it is not below 0
    offset = np.array(2 ** (info.bits - 1), unsigned)
    k_with_offset = (bits_b - bits_a + half + offset) >> mantissa_bits
    bits_scaled = bits_b - (k_with_offset << mantissa_bits) + offset
    scaled = lax.bitcast_convert_type(bits_scaled, a.dtype)
    # conversion to a float, also without sign: the last bits of a number from 2^mantissa_bits
    # to twice that count units
    origin = np.array(2.0**info.nmant, a.dtype)
    count = lax.bitcast_convert_type(k_with_offset | origin.view(unsigned), a.dtype)
    return count - (origin + a.dtype.type(2 ** (info.bits - 1 - info.nmant))), scaled


@log_slope.defjvp
def _log_slope_jvp(primals: Pair, tangents: Pair) -> Pair:
    a, b = primals
    da, db = tangents
    slope_a, slope_b = _log_peak_slopes(a, b)
    return log_slope(a, b), -(slope_a / b * da + slope_b / a * db)


def _atanh_terms(a: Array, b: Array) -> tuple[Array, Array, Array, Array]:
    """2 p, 2 q, z T and T: T is a polynomial near a = b, and its definition elsewhere.

    The smaller of p and q is the one quotient, so that neither loses digits at any ratio.
    z = q - p loses digits near a = b, where they do not count: z is added to 1 or squared.
    """
    b_is_smaller = b < a
    # doubled after the quotient, as in `log_slope`
    smaller = jnp.where(b_is_smaller, b, a) / (a + b) * 2
    p2 = jnp.where(b_is_smaller, 2 - smaller, smaller)
    q2 = jnp.where(b_is_smaller, smaller, 2 - smaller)
    z = (q2 - p2) / 2
    z_is_small = jnp.abs(z) < ATANH_LARGEST_Z
    # operands of the formula that is not used are replaced: its NaN would reach derivatives
    z_squared = jnp.where(z_is_small, z * z, 0)
    series = _polynomial(z_squared, getattr(ATANH_REMAINDER, a.dtype.name))
    divisor = jnp.where(z_is_small, 1, z)
    definition = ((a + b) / 2 * log_slope(a, b) - 1) / divisor
    z_t = jnp.where(z_is_small, z * series, definition)
    return p2, q2, z_t, jnp.where(z_is_small, series, z_t / divisor)


@jax.custom_jvp
def _log_peak_slopes(a: Array, b: Array) -> Pair:
    """(d ln F/da, d ln F/db) = (e_a/a, e_b/b)."""
    p2, q2, z_t, _ = _atanh_terms(a, b)
    return q2 * (1 - p2 * z_t) / (2 * a), p2 * (1 + q2 * z_t) / (2 * b)


@_log_peak_slopes.defjvp
def _log_peak_slopes_jvp(primals: Pair, tangents: Pair) -> tuple[Pair, Pair]:
    a, b = primals
    da, db = tangents
    slope_a, slope_b = _log_peak_slopes(a, b)
    curvature = _log_peak_curvature(a, b)
    dl = da / a - db / b
    change_a = -(slope_a * da + curvature * dl) / a
    change_b = (curvature * dl - slope_b * db) / b
    return (slope_a, slope_b), (change_a, change_b)


def _log_peak_curvature(a: Array, b: Array) -> Array:
    """B = 2 p q T = -d^2 ln F / (d ln a d ln b)."""
    p2, q2, _, t = _atanh_terms(a, b)
    return p2 * q2 / 2 * t


@jax.custom_jvp
def peak(a: Array, b: Array) -> Array:
    """F(a, b) = max over t of a b (exp(-t/b) - exp(-t/a)) / (b - a).

    The derivative vanishes at the peak, so F = a exp(-t*/b) = b exp(-t*/a). The smaller of
    a and b in front keeps the exponent in [-1, 0), where a polynomial serves as exp. NaN, with
    all derivatives, unless a, b and a + b are within the limits.
    """
    smaller = _valid_minimum(a, b)
    exponent = 0.5 - smaller * log_slope(a, b)
    return smaller * _polynomial(exponent, getattr(EXP, a.dtype.name))


def _valid_minimum(a: Array, b: Array) -> Array:
    """min(a, b) inside the domain, NaN outside."""
    low, high = _limits(a.dtype)
    inside = (a >= low) & (b >= low) & (a + b <= high)
    return jnp.where(inside, jnp.where(b < a, b, a), jnp.nan)


@jax.custom_jvp
def _peak_slopes(a: Array, b: Array) -> Pair:
    """(dF/da, dF/db)."""
    value = peak(a, b)
    slope_a, slope_b = _log_peak_slopes(a, b)
    return value * slope_a, value * slope_b


_define_jvp(peak, _peak_slopes)


@_peak_slopes.defjvp
def _peak_slopes_jvp(primals: Pair, tangents: Pair) -> tuple[Pair, Pair]:
    a, b = primals
    da, db = tangents
    slope_a, slope_b = _log_peak_slopes(a, b)
    elasticities = a * slope_a * (b * slope_b)
    curvature = elasticities + _log_peak_curvature(a, b)
    change = peak(a, b) * curvature * (da / a - db / b)
    return _peak_slopes(a, b), (-change / a, change / b)


@jax.custom_jvp
def inverse_peak(a: Array, b: Array) -> Array:
    """1 / F(a, b) = exp(smaller L) / smaller."""
    smaller = _valid_minimum(a, b)
    # the polynomial is exp(x - 1/2), the exponential x + 1/2
    scaled = [math.e * coefficient for coefficient in getattr(EXP, a.dtype.name)]
    return _polynomial(smaller * log_slope(a, b) - 0.5, scaled) / smaller


@jax.custom_jvp
def _inverse_peak_slopes(a: Array, b: Array) -> Pair:
    """(d (1/F)/da, d (1/F)/db)."""
    value = inverse_peak(a, b)
    slope_a, slope_b = _log_peak_slopes(a, b)
    return -value * slope_a, -value * slope_b


_define_jvp(inverse_peak, _inverse_peak_slopes)


@_inverse_peak_slopes.defjvp
def _inverse_peak_slopes_jvp(primals: Pair, tangents: Pair) -> tuple[Pair, Pair]:
    a, b = primals
    relative_a = tangents[0] / a
    relative_b = tangents[1] / b
    slope_a, slope_b = _log_peak_slopes(a, b)
    value = inverse_peak(a, b)
    e_a = a * slope_a
    e_b = b * slope_b
    p2, q2, z_t, t = _atanh_terms(a, b)
    pq = p2 * q2 / 4
    curvature = 2 * pq * t
    mixed = pq * (1 - 4 * pq * t * (2 + (q2 - p2) / 2 * z_t))
    change_a = (e_a * e_a + e_a + curvature) * relative_a + mixed * relative_b
    change_b = (e_b * e_b + e_b + curvature) * relative_b + mixed * relative_a
    return _inverse_peak_slopes(a, b), (value * change_a / a, value * change_b / b)


@jax.custom_jvp
def time_of_peak(a: Array, b: Array) -> Array:
    """t* = a b L(a, b), where exp(-t/b) - exp(-t/a) is farthest from 0."""
    b_is_smaller = b < a
    smaller = jnp.where(b_is_smaller, b, a)
    larger = jnp.where(b_is_smaller, a, b)
    # a b could overflow; larger L is at least 1, and a logarithm
    return smaller * (larger * log_slope(a, b))


@jax.custom_jvp
def _time_slopes(a: Array, b: Array) -> Pair:
    """(dt*/da, dt*/db)."""
    slope_a, slope_b = _log_peak_slopes(a, b)
    return b / a * (b * slope_b), a / b * (a * slope_a)


_define_jvp(time_of_peak, _time_slopes)


@_time_slopes.defjvp
def _time_slopes_jvp(primals: Pair, tangents: Pair) -> tuple[Pair, Pair]:
    a, b = primals
    da, db = tangents
    change = (1 - 2 * _log_peak_curvature(a, b)) * (da / a - db / b)
    return _time_slopes(a, b), (-(b / (a + b)) * change, a / (a + b) * change)


def difference_of_exponentials(t: Array, a: Array, b: Array) -> Array:
    """a b (exp(-t/b) - exp(-t/a)) / (b - a) for t >= 0, and 0 before.

    Where d = t (1/a - 1/b) / 2 is small the value is t exp(-t (1/a + 1/b) / 2) sinh(d)/d,
    even and entire in d.
    """
    t = jnp.where(t < 0, 0.0, t)
    d = t / a * ((b - a) / b) / 2
    d_is_small = jnp.abs(d) < 1
    d = jnp.where(d_is_small, d, 0.0)
    # the Taylor series in d^2: the first term left out is 2e-20
    sinh_ratio = _polynomial(d * d, [1 / math.factorial(2 * k + 1) for k in range(10)])
    difference = jnp.where(d_is_small, 1.0, b - a)
    return jnp.where(
        d_is_small,
        t * jnp.exp(-(t / a + t / b) / 2) * sinh_ratio,
        a * (b / difference) * (jnp.exp(-t / b) - jnp.exp(-t / a)),
    )
