"""The peak of the response of a chain of filters, and the times at which it crosses a level.

All functions take the rates of two filters or more, as arrays of one floating dtype that
broadcast. A time is the root of an equation, which Newton's method finds: it starts where each of
its steps leads nearer to the root. Derivatives of every order are those of an implicit function.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax

from rbn_jax.numerics.convolution import response, response_and_slope, sorted_arrays
from rbn_jax.numerics.exponential import time_of_peak

# Steps of Newton's method. For rates from 1e-3 to 1e3 the peak was reached in 6 steps, and times of
# shares of it up to 0.99 in 10: all to rounding.
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

    The root has derivatives in all arrays that the residual uses. The search begins at the start,
    and `step` returns the next value for each one.
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
        value, slope = response_and_slope(t, rates)
        others_value, others_slope = response_and_slope(t, others)
        log_ratio_slope = slope / value - others_slope / others_value
        return t - jnp.log(slowest * value / others_value) / log_ratio_slope

    return find_root(lambda t: response_and_slope(t, rates)[1], pair_peak, step, _STEPS_TO_PEAK)


def peak_of_response(rates: Rates) -> Array:
    """Return the largest W."""
    return _response_at_peak(time_to_peak(rates), tuple(rates))


@jax.custom_jvp
def _response_at_peak(t: Array, rates: tuple[Array, ...]) -> Array:
    """Return W at the time of its peak."""
    return response(t, rates)


@_response_at_peak.defjvp
def _response_at_peak_jvp(
    primals: tuple[Array, tuple[Array, ...]], tangents: tuple[Array, tuple[Array, ...]]
) -> tuple[Array, Array]:
    # the time changes with the rates, too, but W has no slope in it
    t, rates = primals
    return jax.jvp(lambda rates: response(t, rates), (rates,), (tangents[1],))


def rising_time(rates: Rates, share: Array) -> Array:
    """Return the time before the peak at which W is this share of it, 0 < share < 1.

    ln W rises with ln t, with a slope that falls, so Newton's method leads from any earlier time
    to the level without passing it. The start is the time at which t^(n-1) / (n-1)!, which is
    above W, reaches the level.
    """
    rates = tuple(jnp.broadcast_arrays(*rates))
    level = share * peak_of_response(rates)
    n = len(rates)
    start = (math.factorial(n - 1) * level) ** (1 / (n - 1))

    def step(t: Array) -> Array:
        value, slope = response_and_slope(t, rates)
        return t * jnp.exp(jnp.log(level / value) * value / (t * slope))

    return find_root(lambda t: response(t, rates) - level, start, step, _STEPS_TO_SHARE)


def falling_time(rates: Rates, share: Array) -> Array:
    """Return the time after the peak at which W is this share of it, 0 < share < 1.

    W falls no faster than the slowest filter decays, and the slope of ln W falls all the time. The
    start is the time at which a decay of this filter from the peak on reaches the level: W is still
    above it. The first step leads to a later time than that of the level, and all other steps lead
    back to it without passing it.
    """
    rates = tuple(jnp.broadcast_arrays(*rates))
    t_peak = time_to_peak(rates)
    level = share * _response_at_peak(t_peak, rates)
    slowest = sorted_arrays(rates)[0]
    start = t_peak - jnp.log(share) / slowest

    def step(t: Array) -> Array:
        value, slope = response_and_slope(t, rates)
        return t + jnp.log(level / value) * value / slope

    return find_root(lambda t: response(t, rates) - level, start, step, _STEPS_TO_SHARE)
