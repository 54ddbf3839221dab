"""The peak of the response of a chain of filters, and the times at which it crosses a level.

All functions take the rates of two filters or more, as arrays of one floating dtype that
broadcast. Times are roots, found by Newton's method; their derivatives, of every order, are those
of implicit functions. No root is missed: the iterations begin where the method cannot leave it.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax

from rbn_jax.numerics.convolution import response, response_slope, sorted_arrays
from rbn_jax.numerics.exponential import time_of_peak

# Steps of Newton's method. For any rates the peak was reached in 6 steps, and times of shares up to
# 0.99 of it in 10: all to rounding.
_STEPS_TO_PEAK = 6
_STEPS_TO_SHARE = 12

Rates = Sequence[Array]


def find_root(
    residual: Callable[[Array], Array],
    start: Array,
    step: Callable[[Array], Array],
    n_steps: int,
) -> Array:
    """Return where a residual is 0, element by element.

    The root has the derivatives in all that the residual refers to. Each step of the search
    leads from one time to the next.
    """

    def search(_: object, start: Array) -> Array:
        return lax.fori_loop(0, n_steps, lambda _, t: step(t), start)

    def divide_by_slope(linear: Callable[[Array], Array], value: Array) -> Array:
        return value / linear(jnp.ones_like(value))

    return lax.custom_root(residual, start, search, divide_by_slope)


def time_to_peak(rates: Rates) -> Array:
    """Return the time at which W is largest.

    There W' = V - r W = 0, where r is the lowest of the rates, and V the response of the others.
    ln(W/V) rises with a slope that falls. So Newton's method leads from any earlier time to where
    it is -ln r, without passing it. The response of only two of the filters has an earlier peak.
    """
    slowest, *others = sorted_arrays(jnp.broadcast_arrays(*rates))
    pair_peak = time_of_peak(1 / slowest, 1 / others[0])
    if len(others) == 1:
        return pair_peak

    def step(t: Array) -> Array:
        value = response(t, rates)
        of_others = response(t, others)
        slope = response_slope(t, rates) / value - response_slope(t, others) / of_others
        return t - jnp.log(slowest * value / of_others) / slope

    return find_root(lambda t: response_slope(t, rates), pair_peak, step, _STEPS_TO_PEAK)


@jax.custom_jvp
def peak_of_response(rates: tuple[Array, ...]) -> Array:
    """Return the largest W."""
    return response(time_to_peak(rates), rates)


@peak_of_response.defjvp
def _peak_jvp(
    primals: tuple[tuple[Array, ...]], tangents: tuple[tuple[Array, ...]]
) -> tuple[Array, Array]:
    # the time changes with the rates, too, but W has no slope in it
    t = time_to_peak(*primals)
    return jax.jvp(lambda rates: response(t, rates), primals, tangents)


def rising_time(rates: Rates, share: Array) -> Array:
    """Return the time before the peak at which W is this share of it, 0 < share < 1.

    ln W rises with ln t, with a slope that falls, so Newton's method leads from any earlier time
    to the level without passing it. As W is below t^(n-1) / (n-1)!, this reaches it earlier.
    """
    rates = tuple(jnp.broadcast_arrays(*rates))
    level = share * peak_of_response(rates)
    n = len(rates)
    start = (math.factorial(n - 1) * level) ** (1 / (n - 1))

    def step(t: Array) -> Array:
        value = response(t, rates)
        slope = t * response_slope(t, rates) / value
        return t * jnp.exp(jnp.log(level / value) / slope)

    return find_root(lambda t: response(t, rates) - level, start, step, _STEPS_TO_SHARE)


def falling_time(rates: Rates, share: Array) -> Array:
    """Return the time after the peak at which W is this share of it, 0 < share < 1.

    ln W falls, with a slope that falls to that of the slowest filter. So a decay with its rate
    from the peak on is below W. From its time of the level Newton's method leads beyond that of
    W, and from there back to it without passing it.
    """
    rates = tuple(jnp.broadcast_arrays(*rates))
    level = share * peak_of_response(rates)
    slowest = sorted_arrays(rates)[0]
    start = time_to_peak(rates) - jnp.log(share) / slowest

    def step(t: Array) -> Array:
        value = response(t, rates)
        return t + jnp.log(level / value) * value / response_slope(t, rates)

    return find_root(lambda t: response(t, rates) - level, start, step, _STEPS_TO_SHARE)
