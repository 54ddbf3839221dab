"""Time constants from features of a PSP: the inverse of functions of `peaks`."""

import math

import jax
import jax.numpy as jnp
from jax import Array, lax

from rbn_jax.numerics.arrays import nan_unless
from rbn_jax.numerics.convolution import response
from rbn_jax.numerics.peaks import falling_time, find_root, rising_time

# Steps of Newton's method. For times to the peak of 1e-3 to 1e3 tau_m, and for time constants that
# differ by 7 % or more, 10 steps led to the root. Near equal time constants, where the ratio has no
# slope, each step only halves the distance.
_STEPS_OF_MEAN = 12
_STEPS_OF_RATIO = 24


def synaptic_time_constant(time_to_peak: Array, tau_m: Array, *, is_alpha: bool) -> Array:
    """Return the time constant of an alpha or an exponential synapse from the time to the peak."""
    target = tau_m / time_to_peak
    if is_alpha:
        u = _inverse_mean(2, target)
        return tau_m / response(jnp.ones_like(u), (jnp.zeros_like(u), -u))
    return tau_m * jnp.exp(-_inverse_mean(1, target))


def _inverse_mean(n: int, target: Array) -> Array:
    """Return u with exp[0, ..., 0, u] = target, with n zeros: a mean of exp(x), 0 < x < u, by n!.

    ln of the mean is convex in u. So Newton's method leads to the root from any larger u without
    passing it. The mean of x is u/(n + 1), and by Jensen's inequality exp of it is below the mean.
    """

    def log_mean(u: Array) -> Array:
        return jnp.log(response(jnp.ones_like(u), (*[jnp.zeros_like(u)] * n, -u)))

    def residual(u: Array) -> Array:
        return log_mean(u) - jnp.log(target)

    def step(u: Array) -> Array:
        value, slope = jax.jvp(residual, (u,), (jnp.ones_like(u),))
        return u - value / slope

    start = (n + 1) * jnp.log(target * math.factorial(n))
    return find_root(residual, start, step, _STEPS_OF_MEAN)


def time_constants(
    rise_time: Array, half_width: Array, low: Array, high: Array
) -> tuple[Array, Array]:
    """Return the larger and the smaller time constant of a chain of two with these features.

    The time constants are 1 and exp(-z), times a factor. ln of the ratio of rise time and half
    width falls with z, with a slope that falls from 0 to -1. So Newton's method leads to the root
    from any larger z. The start is the z for a rise that is over before the decay begins: its ratio
    is above the true one.
    """
    rise_time, half_width, low, high = jnp.broadcast_arrays(rise_time, half_width, low, high)
    log_target = jnp.log(rise_time / half_width)

    def relative_times(z: Array) -> tuple[Array, Array]:
        """Return the rise time and the half width in units of the larger time constant."""
        half = jnp.full_like(z, 0.5)
        shares = jnp.stack([low, high, half])
        # one search for all shares compiles in less time
        rates = [jnp.broadcast_to(rate, shares.shape) for rate in (jnp.ones_like(z), jnp.exp(z))]
        begin, end, middle = rising_time(rates, shares)
        return end - begin, falling_time([rate[0] for rate in rates], half) - middle

    def log_ratio(z: Array) -> Array:
        rise, width = relative_times(z)
        return jnp.log(rise / width)

    def residual(z: Array) -> Array:
        return log_ratio(z) - log_target

    def step(z: Array) -> Array:
        value, slope = jax.jvp(residual, (z,), (jnp.ones_like(z),))
        return jnp.maximum(z - value / slope, 0)

    start = jnp.log(jnp.log((1 - low) / (1 - high)) / math.log(2)) - log_target
    z = find_root(residual, lax.stop_gradient(start), step, _STEPS_OF_RATIO)
    # that of equal time constants is the largest one, and may be above itself by rounding
    largest = lax.stop_gradient(log_ratio(jnp.zeros_like(z)))
    is_attainable = log_target <= largest + 16 * jnp.finfo(z.dtype).eps
    larger = nan_unless(is_attainable, half_width / relative_times(z)[1])
    return larger, larger * jnp.exp(-z)
