"""Stable special functions of two time constants, and the one home of their derivatives.

Everything about one event on an exponential synapse follows from two functions of the
time constants a and b, smooth and symmetric through a = b:

    L(a, b) = (ln b - ln a) / (b - a)                the slope of the logarithm's chord
    T(a, b) = (atanh(z)/z - 1) / z^2,  z = (b - a)/(a + b),  from 1/3 upwards

With p = a/(a + b), q = b/(a + b) the event peaks at t* = a b L and reaches F = a exp(-a L),
F's elasticities are e_a = q (1 - 2 p z T) and e_b = p (1 + 2 q z T), e_a + e_b = 1, and with
dl = da/a - db/b the derivatives up to the second are products and sums of one sign:

    dF   = F (e_a da/a + e_b db/b)         d(F_a, F_b)   = F (e_a e_b + 2 p q T) (-dl/a, dl/b)
    dt*  = (b/a) e_b da + (a/b) e_a db     d(t*_a, t*_b) = (1 - 4 p q T) (-q dl, p dl)

Higher derivatives are JAX's, of these. Inputs are arrays of one floating dtype, NaN outside
the domain (see `positive`); NaN stays NaN in every value and derivative.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

F = TypeVar("F", bound=Callable[..., Any])

_SCALED = 0.201  # the largest |z| of two numbers scaled by a power of two towards each other
_NEAR = 0.4  # |z| below which T is summed as a series


def jit(function: F) -> F:
    """jax.jit that keeps the function's type for those who call it."""
    return cast(F, jax.jit(function))


def as_floats(*values: ArrayLike) -> tuple[Array, ...]:
    """Arrays of the common floating dtype; integers alone become JAX's default float."""
    arrays = [jnp.asarray(value) if isinstance(value, list | tuple) else value for value in values]
    dtype = jnp.result_type(*arrays)
    if not jnp.issubdtype(dtype, jnp.floating):
        dtype = jnp.result_type(float)
    return tuple(jnp.asarray(value, dtype) for value in arrays)


def where_else_nan(inside: Array, x: Array) -> Array:
    """x where it is inside its domain; elsewhere NaN, and with it every derivative in x."""
    return x * jnp.where(inside, jnp.ones_like(x), jnp.nan)


def positive(x: Array) -> Array:
    """x where it is a positive finite number that is not subnormal, NaN elsewhere."""
    return where_else_nan((x >= jnp.finfo(x.dtype).tiny) & (x < jnp.inf), x)


def _atanh_series(w: Array, start: int, bound: float) -> Array:
    """sum_k w^k / (2 k + start) for 0 <= w <= bound, to the precision of w's dtype."""
    terms = math.ceil(math.log(jnp.finfo(w.dtype).eps) / math.log(bound))
    return _horner(w, [1 / (2 * k + start) for k in range(terms)])


def _exp_unit(x: Array) -> Array:
    """exp(x) for -1 <= x <= 0: a Taylor polynomial about -1/2, no range to reduce."""
    eps = float(jnp.finfo(x.dtype).eps)
    terms = next(n for n in range(99) if 0.5**n / math.factorial(n) < eps / 8)
    return _horner(x + 0.5, [math.exp(-0.5) / math.factorial(k) for k in range(terms)])


def _horner(x: Array, coefficients: list[float]) -> Array:
    *rest, last = coefficients
    total = jnp.full_like(x, last)
    for coefficient in reversed(rest):
        total = total * x + coefficient
    return total


@jax.custom_jvp
def log_slope(a: Array, b: Array) -> Array:
    """L(a, b) = (ln b - ln a) / (b - a), and 1/a at b = a.

    b is scaled by the power of two 2^-k that brings it within a factor 1.51 of a: exact, by
    arithmetic on the exponent bits. Then ln(b/a) = k ln 2 + 2 atanh(z'), z' = (b' - a)/(b' + a),
    and at k = 0 the factor b - a cancels in closed form. No logarithm is called, and the
    quotient comes last: XLA keeps it for all its users instead of computing it for each.
    """
    info = jnp.finfo(a.dtype)
    integer = jnp.dtype(f"int{info.bits}")
    bits_a, bits_b = (lax.bitcast_convert_type(x, integer) for x in (a, b))
    k = (bits_b - bits_a + 2 ** (info.nmant - 1)) >> info.nmant
    scaled = lax.bitcast_convert_type(bits_b - (k << info.nmant), a.dtype)
    z = (scaled - a) / (scaled + a)
    series = _atanh_series(z * z, 1, _SCALED**2)
    far = k.astype(a.dtype) * (math.log(2) / 2) + z * series
    return jnp.where(k == 0, series, far) / (jnp.where(k == 0, a + b, b - a) / 2)


@log_slope.defjvp
def _(primals, tangents):
    (a, b), (da, db) = primals, tangents
    share_a, share_b = _shares(a, b)
    return log_slope(a, b), -(share_a * da + share_b * db) / (a * b)


def _remainder(a: Array, b: Array) -> tuple[Array, Array]:
    """(T, z T): a series near a = b, the definition elsewhere."""
    total, gap = a + b, b - a
    near = jnp.abs(gap) < _NEAR * total
    w = jnp.where(near, gap / total, 0.0) ** 2
    series = _atanh_series(w, 3, _NEAR**2)
    far = total * (total / 2 * log_slope(a, b) - 1)
    zt = jnp.where(near, gap * series, far) / jnp.where(near, total, gap)
    return jnp.where(near, series, zt * total / jnp.where(near, 1.0, gap)), zt


def _shares(a: Array, b: Array) -> tuple[Array, Array]:
    """(e_a, e_b): how the peak's sensitivity is shared between the two time constants."""
    total, (_, zt) = a + b, _remainder(a, b)
    share_a = b * (total - 2 * a * zt) / (total * total)
    share_b = a * (total + 2 * b * zt) / (total * total)
    return share_a, share_b


def _one_sign(a: Array, b: Array, da: Array, db: Array) -> tuple[Array, Array, Array, Array]:
    """p, q, 2 p q T and dl, the parts that the second derivatives are made of."""
    p, q = a / (a + b), b / (a + b)
    return p, q, 2 * p * q * _remainder(a, b)[0], da / a - db / b


@jax.custom_jvp
def peak(a: Array, b: Array) -> Array:
    """F(a, b) = max over t of a b (exp(-t/b) - exp(-t/a)) / (b - a).

    The derivative vanishes at the peak, so F = a exp(-t*/b) = b exp(-t*/a); the smaller of
    a and b in front keeps the exponent in [-1, 0), where a polynomial serves as exp.
    """
    smaller = jnp.where(b < a, b, a)
    return smaller * _exp_unit(-smaller * log_slope(a, b))


@jax.custom_jvp
def _peak_slopes(a: Array, b: Array) -> tuple[Array, Array]:
    """(dF/da, dF/db)."""
    value, (share_a, share_b) = peak(a, b), _shares(a, b)
    return value * share_a / a, value * share_b / b


@peak.defjvp
def _(primals, tangents):
    slope_a, slope_b = _peak_slopes(*primals)
    return peak(*primals), slope_a * tangents[0] + slope_b * tangents[1]


@_peak_slopes.defjvp
def _(primals, tangents):
    (a, b), (share_a, share_b) = primals, _shares(*primals)
    _, _, pqt, dl = _one_sign(*primals, *tangents)
    bend = peak(a, b) * (share_a * share_b + pqt) * dl
    return _peak_slopes(a, b), (-bend / a, bend / b)


@jax.custom_jvp
def time_of_peak(a: Array, b: Array) -> Array:
    """t* = a b L(a, b), where exp(-t/b) - exp(-t/a) is farthest from 0."""
    return a * (b * log_slope(a, b))


@jax.custom_jvp
def _time_slopes(a: Array, b: Array) -> tuple[Array, Array]:
    """(dt*/da, dt*/db)."""
    share_a, share_b = _shares(a, b)
    return b / a * share_b, a / b * share_a


@time_of_peak.defjvp
def _(primals, tangents):
    slope_a, slope_b = _time_slopes(*primals)
    return time_of_peak(*primals), slope_a * tangents[0] + slope_b * tangents[1]


@_time_slopes.defjvp
def _(primals, tangents):
    p, q, pqt, dl = _one_sign(*primals, *tangents)
    bend = (1 - 2 * pqt) * dl
    return _time_slopes(*primals), (-q * bend, p * bend)


def difference_of_exponentials(t: Array, a: Array, b: Array) -> Array:
    """a b (exp(-t/b) - exp(-t/a)) / (b - a) for t >= 0, and 0 before.

    Where d = t (1/a - 1/b) / 2 is small the value is t exp(-t (1/a + 1/b) / 2) sinh(d)/d,
    even and entire in d.
    """
    t = jnp.where(t < 0, 0.0, t)
    half = t * (b - a) / (2 * a * b)
    near = jnp.abs(half) < 1
    half = jnp.where(near, half, 0.0)
    sinhc = _horner(half * half, [1 / math.factorial(2 * k + 1) for k in range(10)])
    gap = jnp.where(near, 1.0, b - a)
    return jnp.where(
        near,
        t * jnp.exp(-t * (a + b) / (2 * a * b)) * sinhc,
        a * (b / gap) * (jnp.exp(-t / b) - jnp.exp(-t / a)),
    )
