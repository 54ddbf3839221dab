"""Stable special functions of two time constants, and all of their derivatives.

Everything about one event on an exponential synapse follows from two functions of the
time constants a and b, smooth and symmetric through a = b:

    L(a, b) = (ln b - ln a) / (b - a)                the slope of the logarithm's chord
    T(a, b) = (atanh(z)/z - 1) / z^2,  z = (b - a)/(a + b),  from 1/3 upwards

With p = a/(a + b), q = b/(a + b) the event peaks at t* = a b L and reaches F = a exp(-a L).
The elasticities of F are e_a = q (1 - 2 p z T) and e_b = p (1 + 2 q z T), e_a + e_b = 1. With
dl = da/a - db/b, B = 2 p q T and K = e_a e_b + B the derivatives up to the second are products and
sums in which nothing cancels:

    dF   = F (e_a da/a + e_b db/b)         d(F_a, F_b)   = F K (-dl/a, dl/b)
    dt*  = (b/a) e_b da + (a/b) e_a db     d(t*_a, t*_b) = (1 - 2 B) (-q dl, p dl)
    d ln F = e_a da/a + e_b db/b           d(ln F)_a     = -((ln F)_a da + B dl) / a

The weights are multiples of 1/F, for which (1/F)_aa = (e_a^2 + e_a + B) / (a^2 F) and
(1/F)_ab = p q (1 - 2 B (2 + z^2 T)) / (a b F). For R = F/b = exp(-t*/a), dR = R e_a dl,
R_aa = -R K / a^2, R_ab = R (B - e_a^2) / (a b) and R_bb = R (e_a^2 + q (1 - 2 B)) / b^2.

Inputs are arrays of one floating dtype. A result is NaN, with all derivatives, where an input is
NaN or no time constant from 2e-31 to 4e37 ms (float32; 2e-292 to 2e307 in float64). For all others,
at any ratio, values and derivatives up to the second are exact to a few roundings of their largest
term. Where a derivative is above 8e37 (4e307), which those of 1/F and R may be at small time
constants, others of its order may be NaN. JAX differentiates these formulas for higher derivatives,
which have no such promise: third ones were within 100 roundings up to a ratio of 1e18.
"""

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from rbn_jax.numerics.arrays import nan_unless
from rbn_jax.numerics.coefficients import ATANH_LARGEST_Z, ATANH_REMAINDER, EXP, LOG_RATIO

Pair = tuple[Array, Array]
"""Two arrays: the time constants a and b, their tangents, or derivatives in both."""
Triple = tuple[Array, Array, Array]
"""The same with one more argument before a and b."""


def _limits(dtype: np.dtype) -> tuple[float, float]:
    """Between which time constants neither a difference is subnormal nor a sum overflows."""
    info = jnp.finfo(dtype)
    return float(2 * info.tiny / info.eps), float(info.max / 8)


def valid_time_constant(tau: Array) -> Array:
    """Return tau where it is a number between the limits, NaN elsewhere."""
    low, high = _limits(tau.dtype)
    return nan_unless((tau >= low) & (tau <= high), tau)


def polynomial(x: Array, coefficients: Sequence[float]) -> Array:
    """Return sum_k c_k x^k by Estrin's scheme.

    It combines pairs of terms, which are independent of each other; in Horner's scheme each
    product waits for the one before.
    """
    # by functions of lax: JAX takes several times as long to trace an operator of arrays
    terms = [lax.full_like(x, coefficient) for coefficient in coefficients]
    while len(terms) > 1:
        pairs = []
        for low, high in zip(terms[::2], terms[1::2], strict=False):
            pairs.append(lax.add(low, lax.mul(high, x)))
        if len(terms) % 2:
            pairs.append(terms[-1])
        terms = pairs
        x = lax.mul(x, x)
    return terms[0]


def _define_jvp(function: jax.custom_jvp[Array], slopes: Callable[..., tuple[Array, ...]]) -> None:
    """Define the derivative of a function by its slopes in all arguments."""

    @function.defjvp
    def _(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> Pair:
        products = []
        for slope, argument_tangent in zip(slopes(*primals), tangents, strict=True):
            products.append(slope * argument_tangent)
        return function(*primals), functools.reduce(operator.add, products)


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
    series = polynomial(y * y, getattr(LOG_RATIO, a.dtype.name))
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
    series = polynomial(z_squared, getattr(ATANH_REMAINDER, a.dtype.name))
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
    return smaller * polynomial(exponent, getattr(EXP, a.dtype.name))


def _valid_minimum(a: Array, b: Array) -> Array:
    """min(a, b) inside the domain, NaN outside."""
    low, high = _limits(a.dtype)
    inside = (a >= low) & (b >= low) & (a + b <= high)
    return jnp.where(inside, jnp.where(b < a, b, a), jnp.nan)


def _reciprocal(x: Array) -> Array:
    """1/x for x > 0, as a factor that the compiler keeps.

    XLA makes x / (a b) of (x / a) / b and of (x / a) (1 / b), in which a b may overflow. It does
    not look into a select.
    """
    return jnp.where(x > 0, 1 / x, jnp.nan)


class _Factors(NamedTuple):
    """The factors of all derivatives.

    per_a, per_b, r: 1/a, 1/b and 1/(a + b). Where p = a r or q = b r is divided by a or b it is
    written as r, since the smaller of p and q may underflow
    eps_a, eps_b: e_a/q and e_b/p
    kappa: (e_a e_b + B) / (p q) = eps_a eps_b + 2 T
    """

    per_a: Array
    per_b: Array
    r: Array
    p: Array
    q: Array
    eps_a: Array
    eps_b: Array
    z_t: Array
    t: Array

    @property
    def kappa(self) -> Array:
        return self.eps_a * self.eps_b + 2 * self.t


def _factors(a: Array, b: Array) -> _Factors:
    p2, q2, z_t, t = _atanh_terms(a, b)
    return _Factors(
        _reciprocal(a),
        _reciprocal(b),
        _reciprocal(a + b),
        p=p2 / 2,
        q=q2 / 2,
        eps_a=1 - p2 * z_t,
        eps_b=1 + q2 * z_t,
        z_t=z_t,
        t=t,
    )


@jax.custom_jvp
def _peak_slopes(a: Array, b: Array) -> Pair:
    """(dF/da, dF/db)."""
    value = peak(a, b)
    factors = _factors(a, b)
    slope_a = value * factors.per_a * (factors.q * factors.eps_a)
    return slope_a, value * factors.per_b * (factors.p * factors.eps_b)


_define_jvp(peak, _peak_slopes)


@_peak_slopes.defjvp
def _peak_slopes_jvp(primals: Pair, tangents: Pair) -> tuple[Pair, Pair]:
    a, b = primals
    da, db = tangents
    factors = _factors(a, b)
    r, kappa = factors.r, factors.kappa
    value = peak(a, b)
    mixed = value * r * (r * kappa)
    curvature_a = value * factors.per_a * r * (factors.q * kappa)
    curvature_b = value * factors.per_b * r * (factors.p * kappa)
    return _peak_slopes(a, b), (mixed * db - curvature_a * da, mixed * da - curvature_b * db)


@jax.custom_jvp
def decay_to_peak(e: Array, a: Array, b: Array) -> Array:
    """E(e, a, b) = e F(a, b) / b = e exp(-t*/a), what is left at t* of a decay from e.

    Derivatives of a quotient of F and b would subtract nearly equal numbers. e is an argument,
    since those of F/b overflow as 1/b^2, and e = 0 times infinity would be NaN.
    """
    return e * (peak(a, b) / b)


@jax.custom_jvp
def _decay_slopes(e: Array, a: Array, b: Array) -> Triple:
    """(dE/de, dE/da, dE/db)."""
    value = peak(a, b)
    factors = _factors(a, b)
    change = factors.r * factors.eps_a
    return value / b, e * (value * factors.per_a * change), -e * (value * factors.per_b * change)


_define_jvp(decay_to_peak, _decay_slopes)


@_decay_slopes.defjvp
def _decay_slopes_jvp(primals: Triple, tangents: Triple) -> tuple[Triple, Triple]:
    e, a, b = primals
    de, da, db = tangents
    per_a, per_b, r, p, q, eps_a, _, _, t = factors = _factors(a, b)
    value = peak(a, b)
    by_a = value * per_a
    by_b = value * per_b
    slope_a = by_a * (r * eps_a)
    slope_b = -by_b * (r * eps_a)
    q_eps_squared = q * eps_a * eps_a
    curvature_a = -e * by_a * r * (r * factors.kappa)
    # by_a + by_b is F/(a b r)
    mixed = e * (by_a + by_b) * r * (r * (2 * p * t - q_eps_squared))
    curvature_b = e * by_b * r * (per_b * (q_eps_squared + (1 - 4 * p * q * t)))
    changes = (
        slope_a * da + slope_b * db,
        slope_a * de + curvature_a * da + mixed * db,
        slope_b * de + mixed * da + curvature_b * db,
    )
    return _decay_slopes(e, a, b), changes


@jax.custom_jvp
def inverse_peak(a: Array, b: Array) -> Array:
    """1 / F(a, b) = exp(smaller L) / smaller."""
    return _scaled_inverse_peak(a, b) / _valid_minimum(a, b)


def _scaled_inverse_peak(a: Array, b: Array) -> Array:
    """min(a, b) / F(a, b), from 1 to e."""
    # the polynomial is exp(x - 1/2), the exponential x + 1/2
    scaled = [math.e * coefficient for coefficient in getattr(EXP, a.dtype.name)]
    return polynomial(_valid_minimum(a, b) * log_slope(a, b) - 0.5, scaled)


@jax.custom_jvp
def _inverse_peak_slopes(a: Array, b: Array) -> Pair:
    """(d (1/F)/da, d (1/F)/db)."""
    p2, q2, z_t, _ = _atanh_terms(a, b)
    value = _scaled_inverse_peak(a, b)
    b_is_smaller = b < a
    # The slope in a is -(1/F) q eps_a / a. Where b is the smaller, q/F is value / (a + b), in
    # which q, that may underflow, is left out. There is one quotient, whose divisor overflows
    # only where the slope underflows, and underflows only where the slope is above 1/tiny. More
    # quotients took several passes over the data, and five times as long in all.
    factor_a = value * (1 - p2 * z_t) * jnp.where(b_is_smaller, 1, q2 / 2)
    factor_b = value * (1 + q2 * z_t) * jnp.where(b_is_smaller, p2 / 2, 1)
    slope_a = -factor_a / (a * jnp.where(b_is_smaller, a + b, a))
    return slope_a, -factor_b / (b * jnp.where(b_is_smaller, b, a + b))


_define_jvp(inverse_peak, _inverse_peak_slopes)


@_inverse_peak_slopes.defjvp
def _inverse_peak_slopes_jvp(primals: Pair, tangents: Pair) -> tuple[Pair, Pair]:
    a, b = primals
    da, db = tangents
    p2, q2, z_t, t = _atanh_terms(a, b)
    value = _scaled_inverse_peak(a, b)
    p = p2 / 2
    q = q2 / 2
    eps_a = 1 - p2 * z_t
    eps_b = 1 + q2 * z_t
    b_is_smaller = b < a
    # quotients as in the slopes
    factor_a = value * (q * eps_a * eps_a + eps_a + p2 * t) * jnp.where(b_is_smaller, 1, q)
    factor_b = value * (p * eps_b * eps_b + eps_b + q2 * t) * jnp.where(b_is_smaller, p, 1)
    curvature_a = factor_a / (a * (a * jnp.where(b_is_smaller, a + b, a)))
    curvature_b = factor_b / (b * (b * jnp.where(b_is_smaller, b, a + b)))
    factor_ab = value * (1 - p2 * q2 * t * (2 + (q - p) * z_t))
    mixed = factor_ab / (jnp.where(b_is_smaller, b, a) * (a + b) * (a + b))
    changes = (curvature_a * da + mixed * db, mixed * da + curvature_b * db)
    return _inverse_peak_slopes(a, b), changes


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
    p2, q2, z_t, _ = _atanh_terms(a, b)
    return q2 / 2 * (1 + q2 * z_t), p2 / 2 * (1 - p2 * z_t)


_define_jvp(time_of_peak, _time_slopes)


@_time_slopes.defjvp
def _time_slopes_jvp(primals: Pair, tangents: Pair) -> tuple[Pair, Pair]:
    a, b = primals
    da, db = tangents
    factors = _factors(a, b)
    size = 1 - 4 * factors.p * factors.q * factors.t
    change_a = size * (factors.r * db - factors.q * factors.per_a * da)
    change_b = size * (factors.r * da - factors.p * factors.per_b * db)
    return _time_slopes(a, b), (change_a, change_b)


def difference_of_exponentials(t: Array, a: Array, b: Array) -> Array:
    """V(t, a, b) = a b (exp(-t/b) - exp(-t/a)) / (b - a) for t >= 0, and 0 before the event.

    It is 0, too, with all derivatives, from `_longest_time` times the larger of a and b on.
    """
    larger = jnp.where(b < a, a, b)
    # not t / larger: the compiler would need a second division, as t is replaced before the first
    is_over = t * (1 / _longest_time(t.dtype)) > larger
    # The potential is 0 at t = 0, which replaces these times. The formulas would multiply 0 by
    # infinity at t = inf.
    return _potential(jnp.where((t < 0) | is_over, 0, t), a, b)


def _longest_time(dtype: np.dtype) -> float:
    """The x at which exp(-x/2) is the smallest normal number: 175 in float32, 1417 in float64."""
    return -2 * math.log(float(jnp.finfo(dtype).tiny))


class _Terms(NamedTuple):
    """What the potential at a time t and its derivatives are products and sums of.

    With m and M the smaller and the larger time constant, x = t/M, y = t/m and delta = y - x the
    potential is a mean of exponentials, and so are its derivatives:

        V = t exp(-x) I_00,  I_jk = int_0^1 (1 - s)^j s^k exp(-delta s) ds,
        d(exp(-x) I_jk) = -exp(-x) (I_{j+1,k} dx + I_{j,k+1} dy)

    All I_jk are positive, so sums of them have all digits at any ratio of the time constants.
    Where delta is large they fall as 1/D^(k+1), D = delta; these powers are taken out of them and
    divide x, y and t, as y/D = M/(M - m) cannot overflow. Where it is small D is 1.

    b_is_smaller: whether b is m
    smaller, larger: m and M
    root: exp(-x/2). Two factors reach results that are normal numbers where exp(-x) is not
    half_decay: exp(-delta/2), for the same reason
    x, y: as above; y is wrong where half_decay is 0
    t_d, x_d, y_d: t/D, x/D, y/D
    i00, ...: D^(k+1) I_jk
    """

    b_is_smaller: Array
    smaller: Array
    larger: Array
    root: Array
    half_decay: Array
    x: Array
    y: Array
    t_d: Array
    x_d: Array
    y_d: Array
    i00: Array
    i10: Array
    i01: Array
    i20: Array
    i11: Array
    i02: Array


def _terms(t: Array, a: Array, b: Array) -> _Terms:
    b_is_smaller = b < a
    smaller = jnp.where(b_is_smaller, b, a)
    larger = jnp.where(b_is_smaller, a, b)
    difference = larger - smaller
    x = t / larger
    half_delta = t / smaller * (difference / larger) / 2
    root = jnp.exp(-x / 2)
    half_decay = jnp.exp(-half_delta)
    # Operands of the formula that is not used are replaced: its NaN would reach derivatives.
    is_near = half_delta < 1
    # near: with d = delta/2 and A = sinh(d)/d, exp(d) I_jk are sums of A and its derivatives
    # A' and A'', by their Taylor series: the first terms left out are below 2e-20
    d = jnp.where(is_near, half_delta, 0)
    d_squared = d * d
    sinh_ratio = polynomial(d_squared, _SINH_RATIO)
    slope = d * polynomial(d_squared, _SINH_RATIO_SLOPE)
    curvature = polynomial(d_squared, _SINH_RATIO_CURVATURE)
    near_i00 = half_decay * sinh_ratio
    near_i10 = half_decay * (sinh_ratio + slope) / 2
    near_i01 = half_decay * (sinh_ratio - slope) / 2
    near_i20 = half_decay * (sinh_ratio + 2 * slope + curvature) / 4
    near_i11 = half_decay * (sinh_ratio - curvature) / 4
    near_i02 = half_decay * (sinh_ratio - 2 * slope + curvature) / 4
    # far: from delta = 2 on no difference below loses more than two bits
    delta = jnp.where(is_near, 2, 2 * half_delta)
    far_ratio = larger / jnp.where(is_near, larger, difference)
    decay = half_decay * half_decay
    # infinity times 0 would be NaN
    finite_delta = jnp.where(half_decay > 0, 2 * half_delta, 0)
    far_i00 = 1 - decay
    far_i10 = 1 - far_i00 / delta
    far_i01 = 1 - decay * (1 + finite_delta)
    far_i02 = 2 - decay * (2 + finite_delta * (2 + finite_delta))
    return _Terms(
        b_is_smaller,
        smaller,
        larger,
        root,
        half_decay,
        x,
        y=finite_delta + x,
        t_d=jnp.where(is_near, t, smaller * far_ratio),
        x_d=jnp.where(is_near, x, smaller / larger * far_ratio),
        y_d=jnp.where(is_near, finite_delta + x, far_ratio),
        i00=jnp.where(is_near, near_i00, far_i00),
        i10=jnp.where(is_near, near_i10, far_i10),
        i01=jnp.where(is_near, near_i01, far_i01),
        i20=jnp.where(is_near, near_i20, 1 - 2 * far_i10 / delta),
        i11=jnp.where(is_near, near_i11, far_i01 - far_i02 / delta),
        i02=jnp.where(is_near, near_i02, far_i02),
    )


_TERM_ORDERS = range(10)
_SINH_RATIO = [1 / math.factorial(2 * k + 1) for k in _TERM_ORDERS]
_SINH_RATIO_SLOPE = [(2 * k + 2) / math.factorial(2 * k + 3) for k in _TERM_ORDERS]
_SINH_RATIO_CURVATURE = [
    (2 * k + 2) * (2 * k + 1) / math.factorial(2 * k + 3) for k in _TERM_ORDERS
]


@jax.custom_jvp
def _potential(t: Array, a: Array, b: Array) -> Array:
    """V(t, a, b) at times within 0 and the longest one."""
    terms = _terms(t, a, b)
    return terms.t_d * terms.i00 * terms.root * terms.root


@jax.custom_jvp
def _potential_slopes(t: Array, a: Array, b: Array) -> Triple:
    """(dV/dt, dV/da, dV/db)."""
    terms = _terms(t, a, b)
    root, decay = terms.root, terms.half_decay * terms.half_decay
    # the form of dV/dt that subtracts the terms that are as small as possible
    slope_t = (decay - terms.x_d * terms.i00) * root * root
    slope_larger = terms.x * terms.x_d * terms.i10 * root * root
    slope_smaller = terms.y_d * terms.y_d * terms.i01 * root * root
    slope_a = jnp.where(terms.b_is_smaller, slope_larger, slope_smaller)
    slope_b = jnp.where(terms.b_is_smaller, slope_smaller, slope_larger)
    return slope_t, slope_a, slope_b


_define_jvp(_potential, _potential_slopes)


@_potential_slopes.defjvp
def _potential_slopes_jvp(primals: Triple, tangents: Triple) -> tuple[Triple, Triple]:
    b_is_smaller, m, larger, root, half_decay, x, y, *quotients, i00, i10, i01, i20, i11, i02 = (
        _terms(*primals)
    )
    _, x_d, y_d = quotients
    # The order of the factors keeps products of them normal numbers. exp(-delta) and exp(-x) come
    # as two factors, between which is what may be large; and x is not divided, since XLA makes
    # t / (M M) of (t / M) / M, which overflows.
    x_d_larger = x_d / larger
    y_d_larger = y_d / larger
    y_decay = y * half_decay
    decay_sum = half_decay / m * half_decay + half_decay / larger * half_decay
    tt = (x_d_larger * i00 - decay_sum) * root
    t_larger = x_d_larger * (i00 - x * i10) * root
    t_smaller = (y_decay * (half_decay / m) - y_d * y_d_larger * i01) * root
    larger_larger = x * x_d_larger * (x * i20 - 2 * i10) * root
    smaller_larger = y_d * (x * y_d_larger) * i11 * root
    # y/M is x/m
    rise = y_d * (y_d * y_d_larger) * i02
    smaller_smaller = (rise - y_decay * (y_decay / m)) * root
    ta = jnp.where(b_is_smaller, t_larger, t_smaller)
    tb = jnp.where(b_is_smaller, t_smaller, t_larger)
    aa = jnp.where(b_is_smaller, larger_larger, smaller_smaller)
    bb = jnp.where(b_is_smaller, smaller_smaller, larger_larger)
    dt, da, db = (tangent * root for tangent in tangents)
    change_t = tt * dt + ta * da + tb * db
    change_a = ta * dt + aa * da + smaller_larger * db
    change_b = tb * dt + smaller_larger * da + bb * db
    return _potential_slopes(*primals), (change_t, change_a, change_b)
