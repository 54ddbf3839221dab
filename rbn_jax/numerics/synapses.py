"""The response of a membrane to one event on each kind of current-based synapse.

An event of weight J has the current, or the charge,

    exp:    J exp(-t/tau_syn)
    alpha:  J t/tau_syn exp(1 - t/tau_syn), whose peak is J
    beta:   J n (exp(-t/tau_syn) - exp(-t/tau_rise)), whose peak is J by the factor n
    delta:  a charge that moves the potential by J

The response is a factor times that of a chain of filters (see `convolution`): the membrane, and
none, one or two of the synapse. Arrays have one floating dtype; J is 1, and so is the capacitance
of the membrane. Where an argument is outside its domain, the result and all derivatives are NaN.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from rbn_jax.numerics import exponential
from rbn_jax.numerics.alpha import alpha_peak
from rbn_jax.numerics.arrays import nan_unless, positive
from rbn_jax.numerics.convolution import response
from rbn_jax.numerics.peaks import falling_time, peak_of_response, rising_time, time_to_peak

SYNAPSES = ("exp", "alpha", "delta", "beta")


class TimeConstants(NamedTuple):
    """The time constants of a membrane and of a synapse of some kind, which is a name above.

    tau_rise: of "beta" alone, None for others
    """

    synapse: str
    tau_m: Array
    tau_syn: Array
    tau_rise: Array | None


def capacitance(synapse: str, c_m: Array) -> Array:
    """Return what divides a response: c_m, but ones for "delta", whose weight is a potential."""
    return jnp.ones_like(c_m) if synapse == "delta" else positive(c_m)


def _chain(constants: TimeConstants) -> tuple[Array, tuple[Array, ...]]:
    """Return the factor and the rates of the chain."""
    synapse, tau_m, tau_syn, tau_rise = constants
    ones = jnp.ones_like(tau_m)
    membrane = 1 / positive(tau_m)
    if synapse == "delta":
        return ones, (nan_unless(tau_syn >= 0, membrane),)
    decay = 1 / positive(tau_syn)
    if synapse == "exp":
        return ones, (membrane, decay)
    if synapse == "alpha":
        return math.e * decay, (membrane, decay, decay)
    assert tau_rise is not None
    rise = 1 / positive(tau_rise)
    return exponential.inverse_peak(tau_syn, tau_rise), (membrane, decay, rise)


def peak(constants: TimeConstants) -> Array:
    """Return the peak of the response."""
    synapse, tau_m, tau_syn, _ = constants
    if synapse == "exp":
        return exponential.peak(tau_m, tau_syn)
    if synapse == "alpha":
        return alpha_peak(positive(tau_m), positive(tau_syn))
    factor, rates = _chain(constants)
    return factor + 0 * rates[0] if synapse == "delta" else factor * peak_of_response(rates)


def inverse_peak(constants: TimeConstants) -> Array:
    """Return 1 / peak."""
    if constants.synapse == "exp":
        return exponential.inverse_peak(constants.tau_m, constants.tau_syn)
    return 1 / peak(constants)


def time_of_peak(constants: TimeConstants) -> Array:
    """Return the time from the event to the peak."""
    if constants.synapse == "exp":
        return exponential.time_of_peak(*_valid_pair(constants))
    _, rates = _chain(constants)
    return 0 * rates[0] if constants.synapse == "delta" else time_to_peak(rates)


def decay_to_peak(potential: Array, constants: TimeConstants) -> Array:
    """Return what is left, at the time of the peak, of a potential at the event."""
    if constants.synapse == "exp":
        return exponential.decay_to_peak(potential, constants.tau_m, constants.tau_syn)
    return potential * jnp.exp(-time_of_peak(constants) / constants.tau_m)


def waveform(t: Array, constants: TimeConstants) -> Array:
    """Return the response at time t, which is 0 before the event."""
    if constants.synapse == "exp":
        return exponential.difference_of_exponentials(t, *_valid_pair(constants))
    factor, rates = _chain(constants)
    return factor * response(t, rates)


def _valid_pair(constants: TimeConstants) -> tuple[Array, Array]:
    return (
        exponential.valid_time_constant(constants.tau_m),
        exponential.valid_time_constant(constants.tau_syn),
    )


def time_at_share(share: Array, constants: TimeConstants, *, after_peak: bool) -> Array:
    """Return the time at which the response is a share of its peak; NaN unless 0 < share < 1.

    Before the peak of a delta synapse, to which the potential jumps, it is 0.
    """
    _, rates = _chain(constants)
    share = nan_unless((share > 0) & (share < 1), share)
    if constants.synapse == "delta":
        return -jnp.log(share) / rates[0] if after_peak else 0 * share * rates[0]
    return falling_time(rates, share) if after_peak else rising_time(rates, share)


def rise_time(low: Array, high: Array, constants: TimeConstants) -> Array:
    """Return the time in which the response rises from a low to a high share of its peak."""
    synapse, *arrays = constants
    low, high, *arrays = jnp.broadcast_arrays(
        low, high, *(array for array in arrays if array is not None)
    )
    # both times by one search, which compiles in half of the time of two
    shares = jnp.stack([low, nan_unless(low < high, high)])
    arrays = [jnp.broadcast_to(array, shares.shape) for array in arrays]
    tau_m, tau_syn, *rest = arrays
    pair = TimeConstants(synapse, tau_m, tau_syn, rest[0] if rest else None)
    first, last = time_at_share(shares, pair, after_peak=False)
    return last - first


def charge(synapse: str, tau_syn: Array) -> Array:
    """Return the integral of the current of an event of weight 1 over time.

    It is tau_syn of "exp" and e tau_syn of "alpha". That of "delta" is 1 in units of the
    capacitance, as its weight is a potential.
    """
    if synapse == "delta":
        return nan_unless(tau_syn >= 0, jnp.ones_like(tau_syn))
    return math.e * tau_syn if synapse == "alpha" else tau_syn


def equivalent_time_constant(synapse: str, tau_m: Array, tau_syn: Array) -> Array:
    """Return the time constant of the exponential synapse that causes the same variance.

    Events of the same charge on this synapse and on the exponential one give a free membrane the
    same integral of the squared response, and so, at the same rate, the same variance. With
    a = tau_m, b = tau_syn and a charge of 1, `integral_of_square` is

        exp:    a^2 / (2 (a + b))
        alpha:  (2 a b + b^2) a^2 b^4 / (2 (a + b)^2 (2 b) b^4) = a^2 (2 a + b) / (4 (a + b)^2)
        delta:  a / 2

    where the alpha synapse is the chain a, b, b. An exponential synapse of tau has that of the
    alpha synapse if a + tau = 2 (a + b)^2 / (2 a + b), so tau = b (3 a + 2 b) / (2 a + b), which
    grows from 1.5 b of fast synapses to 2 b of slow ones. That of the delta synapse is 0.
    """
    if synapse == "delta":
        return 0 * (tau_m + tau_syn)
    if synapse == "alpha":
        return tau_syn * ((3 * tau_m + 2 * tau_syn) / (2 * tau_m + tau_syn))
    return tau_syn


def integral(constants: TimeConstants) -> Array:
    """Return the integral of the response over time: the factor by the product of the rates."""
    factor, rates = _chain(constants)
    return factor / math.prod(rates)


def integral_of_square(constants: TimeConstants) -> Array:
    """Return the integral of the squared response over time.

    Of a chain of time constants a, b, c it is that of the transfer function's square over all
    frequencies: (a b)^2 / (2 (a + b)) of two, and of three
    (a b + a c + b c) (a b c)^2 / (2 (a + b) (a + c) (b + c)).
    """
    factor, rates = _chain(constants)
    times = [1 / rate for rate in rates]
    if len(times) == 1:
        return factor * factor * times[0] / 2
    scale = jnp.square(factor * math.prod(times)) / 2
    if len(times) == 2:
        return scale / (times[0] + times[1])
    a, b, c = times
    return scale * (a * b + a * c + b * c) / ((a + b) * (a + c) * (b + c))
