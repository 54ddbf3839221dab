"""Stable special functions of two time constants, and the one home of their derivatives.

Everything about one event on an exponential synapse follows from two functions of the
time constants a and b, smooth and symmetric through a = b:

    L(a, b) = (ln b - ln a) / (b - a)                the slope of the logarithm's chord
    T(a, b) = (atanh(z)/z - 1) / z^2,  z = (b - a)/(a + b),  from 1/3 upwards

With p = a/(a + b), q = b/(a + b) the event peaks at t* = a b L and reaches F = a exp(-a L),
F's elasticities are e_a = q (1 - 2 p z T) and e_b = p (1 + 2 q z T), e_a + e_b = 1, and with
dl = da/a - db/b and B = 2 p q T the derivatives up to the second are products and sums in which
nothing cancels:

    dF   = F (e_a da/a + e_b db/b)         d(F_a, F_b)   = F (e_a e_b + B) (-dl/a, dl/b)
    dt*  = (b/a) e_b da + (a/b) e_a db     d(t*_a, t*_b) = (1 - 2 B) (-q dl, p dl)
    d ln F = e_a da/a + e_b db/b           d(ln F)_a     = -((ln F)_a da + B dl) / a

and for 1/F, of which the weights are multiples, (1/F)_aa = (e_a^2 + e_a + B) / (a^2 F) and
(1/F)_ab = p q (1 - 2 B (2 + z^2 T)) / (a b F). Higher derivatives are JAX's, of these.
Inputs are arrays of one floating dtype; a result is NaN, with all derivatives, where an input is
NaN or no time constant from 2e-31 to 4e37 ms (float32; 2e-292 to 2e307 in float64).
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from rbn_jax.numerics.arrays import nan_unless

# near-minimax coefficients, by Chebyshev interpolation: 2 atanh(y/2) / y in y^2 up to 0.402^2,
# of two numbers scaled by a power of two towards each other, and exp(x - 1/2), |x| <= 1/2
_LOG = {
    "float64": (
        *(1.0, 0.08333333333334501, 0.01249999999848385, 0.0022321429319877755),
        *(0.00043402596681841487, 8.880213120398551e-05, 1.8608914105719577e-05),
        4.702590493500765e-06,
    ),
    "float32": (1.0, 0.08333382253134618, 0.012484948899959294, 0.0023790678891335904),
}
_EXP = {
    "float64": (
        *(0.6065306597126334, 0.6065306597126333, 0.3032653298563167, 0.10108844328544739),
        *(0.02527211082136033, 0.005054422164000439, 0.0008424036940259399),
        *(0.00012034338858639082, 1.504292337374757e-05, 1.67141109149772e-06),
        *(1.6714181868801803e-07, 1.527420048841299e-08, 1.2719039650810423e-09),
    ),
    "float32": (
        *(0.6065306592510028, 0.6065306596613929, 0.3032653889399188, 0.10108844984376317),
        *(0.025270929702258773, 0.005054291048025305, 0.0008499539478017739),
        0.00012118171938534863,
    ),
}
# T in z^2 up to 0.5^2
_REST = {
    "float64": (
        *(0.3333333333333333, 0.20000000000000864, 0.14285714285490106, 0.11111111133938968),
        *(0.09090907881509189, 0.07692345940270638, 0.06665886352701884),
        *(0.05893099692590042, 0.05160769881147162, 0.05441915418234587),
        *(0.012292448728540531, 0.13557903913692299, -0.14450491183414468, 0.21098097885975797),
    ),
    "float32": (
        *(0.33333333437307106, 0.19999959336215828, 0.14288286042811285),
        *(0.11050830395223991, 0.09751940865741168, 0.040916230718241735),
        0.1562916538185637,
    ),
}
_NEAR = 0.5  # |z| below which T is that polynomial


def _limits(dtype: Any) -> tuple[float, float]:
    """Between which time constants neither a difference is subnormal nor a sum overflows."""
    info = jnp.finfo(dtype)
    return float(2 * info.tiny / info.eps), float(info.max / 8)


def time_constant(x: Array) -> Array:
    """x where it is a number between the limits, NaN elsewhere."""
    low, high = _limits(x.dtype)
    return nan_unless((x >= low) & (x <= high), x)


def _polynomial(x: Array, coefficients: Sequence[float]) -> Array:
    """sum_k c_k x^k by Estrin's scheme: pairs at once, where Horner's waits for each product."""
    terms: list[Any] = [jnp.full_like(x, c) for c in coefficients]
    while len(terms) > 1:
        last = terms[len(terms) - len(terms) % 2 :]
        terms = [a + b * x for a, b in zip(terms[::2], terms[1::2], strict=False)] + last
        x = x * x
    return terms[0]


@jax.custom_jvp
def log_slope(a: Array, b: Array) -> Array:
    """L(a, b) = (ln b - ln a) / (b - a), and 1/a at b = a.

    b is scaled by the power of two 2^-k that brings it within a factor 1.51 of a: exact, by
    arithmetic on the exponent bits. Then ln(b/a) = k ln 2 + y P(y^2), the logarithm of
    (1 + y/2)/(1 - y/2), y = 2 (b' - a)/(b' + a), and at k = 0 the factor b - a cancels in
    closed form. No logarithm is called.
    """
    k, scaled = _scaled_towards(a, b)
    # a product that several use is computed for each by XLA, in one pass; a quotient is stored
    y = (scaled - a) / (scaled + a) * 2
    series = _polynomial(y * y, _LOG[a.dtype.name])
    near = k == 0
    return jnp.where(near, series, k * math.log(2) + y * series) / jnp.where(
        near, (a + b) / 2, b - a
    )


def _scaled_towards(a: Array, b: Array) -> tuple[Array, Array]:
    """k and b 2^-k, within a factor 1.51 of a: all without sign, which is fast for 64 bits."""
    info = jnp.finfo(a.dtype)
    bits_a, bits_b = (lax.bitcast_convert_type(x, f"uint{info.bits}") for x in (a, b))
    digits, half, top = (
        np.array(x, bits_a.dtype) for x in (info.nmant, 2 ** (info.nmant - 1), 2 ** (info.bits - 1))
    )
    raised = (bits_b - bits_a + half + top) >> digits  # k + top 2^-digits, above 0
    scaled = lax.bitcast_convert_type(bits_b - (raised << digits) + top, a.dtype)
    # the last bits of a number from 2^digits to 2^(digits + 1) count units
    origin = np.array(2.0**info.nmant, a.dtype)
    count = lax.bitcast_convert_type(raised | origin.view(bits_a.dtype), a.dtype)
    return count - (origin + a.dtype.type(2 ** (info.bits - 1 - info.nmant))), scaled


@log_slope.defjvp
def _(primals, tangents):
    (a, b), (da, db) = primals, tangents
    slope_a, slope_b = _log_slopes(a, b)
    return log_slope(a, b), -(slope_a / b * da + slope_b / a * db)


def _remainder(a: Array, b: Array) -> tuple[Array, Array, Array, Array]:
    """2 p, 2 q, z T and T: a polynomial near a = b, the definition elsewhere.

    The smaller of p and q is the one quotient, so that neither loses digits at any ratio, and
    z = q - p none that count: near a = b it is added to 1 or squared.
    """
    less = b < a
    small = jnp.where(less, b, a) / (a + b) * 2  # doubled as in log_slope
    p2, q2 = jnp.where(less, 2 - small, small), jnp.where(less, small, 2 - small)
    z = (q2 - p2) / 2
    near = jnp.abs(z) < _NEAR
    series = _polynomial(jnp.where(near, z * z, 0), _REST[a.dtype.name])
    other = jnp.where(near, 1, z)
    zt = jnp.where(near, z * series, ((a + b) / 2 * log_slope(a, b) - 1) / other)
    return p2, q2, zt, jnp.where(near, series, zt / other)


@jax.custom_jvp
def _log_slopes(a: Array, b: Array) -> tuple[Array, Array]:
    """(d ln F/da, d ln F/db) = (e_a/a, e_b/b)."""
    p2, q2, zt, _ = _remainder(a, b)
    return q2 * (1 - p2 * zt) / (2 * a), p2 * (1 + q2 * zt) / (2 * b)


@_log_slopes.defjvp
def _(primals, tangents):
    (a, b), (da, db), (slope_a, slope_b) = primals, tangents, _log_slopes(*primals)
    bend, dl = _bend(a, b), da / a - db / b
    return (slope_a, slope_b), (-(slope_a * da + bend * dl) / a, (bend * dl - slope_b * db) / b)


def _bend(a: Array, b: Array) -> Array:
    """B = 2 p q T = -d^2 ln F / (d ln a d ln b)."""
    p2, q2, _, rest = _remainder(a, b)
    return p2 * q2 / 2 * rest


@jax.custom_jvp
def peak(a: Array, b: Array) -> Array:
    """F(a, b) = max over t of a b (exp(-t/b) - exp(-t/a)) / (b - a).

    The derivative vanishes at the peak, so F = a exp(-t*/b) = b exp(-t*/a); the smaller of
    a and b in front keeps the exponent in [-1, 0), where a polynomial serves as exp. NaN, with
    all derivatives, unless a, b and a + b are within the limits.
    """
    smaller = _smaller(a, b)
    return smaller * _polynomial(0.5 - smaller * log_slope(a, b), _EXP[a.dtype.name])


def _smaller(a: Array, b: Array) -> Array:
    """min(a, b) inside the domain, NaN outside."""
    low, high = _limits(a.dtype)
    inside = (a >= low) & (b >= low) & (a + b <= high)
    return jnp.where(inside, jnp.where(b < a, b, a), jnp.nan)


@jax.custom_jvp
def _peak_slopes(a: Array, b: Array) -> tuple[Array, Array]:
    """(dF/da, dF/db)."""
    value, (slope_a, slope_b) = peak(a, b), _log_slopes(a, b)
    return value * slope_a, value * slope_b


@peak.defjvp
def _(primals, tangents):
    slope_a, slope_b = _peak_slopes(*primals)
    return peak(*primals), slope_a * tangents[0] + slope_b * tangents[1]


@_peak_slopes.defjvp
def _(primals, tangents):
    (a, b), (da, db), (slope_a, slope_b) = primals, tangents, _log_slopes(*primals)
    share = a * slope_a * (b * slope_b)
    bend = peak(a, b) * (share + _bend(a, b)) * (da / a - db / b)
    return _peak_slopes(a, b), (-bend / a, bend / b)


@jax.custom_jvp
def inverse_peak(a: Array, b: Array) -> Array:
    """1 / F(a, b) = exp(smaller L) / smaller."""
    smaller, scaled = _smaller(a, b), [math.e * c for c in _EXP[a.dtype.name]]
    return _polynomial(smaller * log_slope(a, b) - 0.5, scaled) / smaller


@jax.custom_jvp
def _inverse_slopes(a: Array, b: Array) -> tuple[Array, Array]:
    """(d (1/F)/da, d (1/F)/db)."""
    value, (slope_a, slope_b) = inverse_peak(a, b), _log_slopes(a, b)
    return -value * slope_a, -value * slope_b


@inverse_peak.defjvp
def _(primals, tangents):
    slope_a, slope_b = _inverse_slopes(*primals)
    return inverse_peak(*primals), slope_a * tangents[0] + slope_b * tangents[1]


@_inverse_slopes.defjvp
def _(primals, tangents):
    (a, b), (slope_a, slope_b) = primals, _log_slopes(*primals)
    value, share_a, share_b = inverse_peak(a, b), a * slope_a, b * slope_b
    da, db = tangents[0] / a, tangents[1] / b
    p2, q2, zt, rest = _remainder(a, b)
    pq = p2 * q2 / 4
    bend, mixed = 2 * pq * rest, pq * (1 - 4 * pq * rest * (2 + (q2 - p2) / 2 * zt))
    left = (share_a * share_a + share_a + bend) * da + mixed * db
    right = (share_b * share_b + share_b + bend) * db + mixed * da
    return _inverse_slopes(a, b), (value * left / a, value * right / b)


@jax.custom_jvp
def time_of_peak(a: Array, b: Array) -> Array:
    """t* = a b L(a, b), where exp(-t/b) - exp(-t/a) is farthest from 0."""
    low, high = jnp.where(b < a, b, a), jnp.where(b < a, a, b)
    return low * (high * log_slope(a, b))


@jax.custom_jvp
def _time_slopes(a: Array, b: Array) -> tuple[Array, Array]:
    """(dt*/da, dt*/db)."""
    slope_a, slope_b = _log_slopes(a, b)
    return b / a * (b * slope_b), a / b * (a * slope_a)


@time_of_peak.defjvp
def _(primals, tangents):
    slope_a, slope_b = _time_slopes(*primals)
    return time_of_peak(*primals), slope_a * tangents[0] + slope_b * tangents[1]


@_time_slopes.defjvp
def _(primals, tangents):
    (a, b), (da, db) = primals, tangents
    bend = (1 - 2 * _bend(a, b)) * (da / a - db / b)
    return _time_slopes(a, b), (-(b / (a + b)) * bend, a / (a + b) * bend)


def difference_of_exponentials(t: Array, a: Array, b: Array) -> Array:
    """a b (exp(-t/b) - exp(-t/a)) / (b - a) for t >= 0, and 0 before.

    Where d = t (1/a - 1/b) / 2 is small the value is t exp(-t (1/a + 1/b) / 2) sinh(d)/d,
    even and entire in d.
    """
    t = jnp.where(t < 0, 0.0, t)
    half = t / a * ((b - a) / b) / 2
    near = jnp.abs(half) < 1
    half = jnp.where(near, half, 0.0)
    sinhc = _polynomial(half * half, [1 / math.factorial(2 * k + 1) for k in range(10)])
    gap = jnp.where(near, 1.0, b - a)
    return jnp.where(
        near,
        t * jnp.exp(-(t / a + t / b) / 2) * sinhc,
        a * (b / gap) * (jnp.exp(-t / b) - jnp.exp(-t / a)),
    )
