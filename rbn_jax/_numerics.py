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
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

F = TypeVar("F", bound=Callable[..., Any])

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
    return _polynomial(w, [1 / (2 * k + start) for k in range(terms)])


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
    a and b in front keeps the exponent in [-1, 0), where a polynomial serves as exp. NaN, with
    all derivatives, unless a and b are positive, not subnormal, and their sum is finite.
    """
    inside = (a >= jnp.finfo(a.dtype).tiny) & (b >= jnp.finfo(a.dtype).tiny) & (a + b < jnp.inf)
    smaller = jnp.where(inside, jnp.where(b < a, b, a), jnp.nan)
    return smaller * _polynomial(0.5 - smaller * log_slope(a, b), _EXP[a.dtype.name])


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
    sinhc = _polynomial(half * half, [1 / math.factorial(2 * k + 1) for k in range(10)])
    gap = jnp.where(near, 1.0, b - a)
    return jnp.where(
        near,
        t * jnp.exp(-t * (a + b) / (2 * a * b)) * sinhc,
        a * (b / gap) * (jnp.exp(-t / b) - jnp.exp(-t / a)),
    )
