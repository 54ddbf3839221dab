"""The peak of the response of a membrane to the current of an alpha synapse.

The current t/b exp(1 - t/b) has its peak, 1, at t = b. With a = tau_m/b, a time t = s b and
u = s (1 - 1/a), the potential is

    V = b s^2 exp(1 - s) P(u),        P(u) = (exp(u) - 1 - u) / u^2,

in units of the peak current by the capacitance. It is largest where exp(u) - 1 = a u.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array

from rbn_jax.numerics.exponential import log_slope, polynomial
from rbn_jax.numerics.peaks import peak_of_response

# The first terms left out of P up to |u| = 1, and of exp(x) - 1 up to |x| = 0.2, are below 1e-17.
_P = [1 / math.factorial(k + 2) for k in range(16)]
_EXPM1 = [1 / math.factorial(k + 1) for k in range(12)]
# For smaller |a - 1| the time is that of three terms of its series: the error of Newton's method
# grows as eps / (a - 1)^2.
_SMALLEST_DIFFERENCE = {"float32": 2e-2, "float64": 1e-3}


@jax.custom_jvp
def alpha_peak(tau_m: Array, tau_syn: Array) -> Array:
    """Return the peak of the potential, in ms, to an alpha current with the peak 1.

    As V has no slope at its peak, an error of its time counts by its square, and the time needs
    half of the digits.
    """
    a = tau_m / tau_syn
    difference = (tau_m - tau_syn) / tau_syn
    is_near_one = jnp.abs(difference) < _SMALLEST_DIFFERENCE[a.dtype.name]
    # operands of the formula that is not used are replaced
    safe_a = jnp.where(is_near_one, 2, a)
    safe_difference = jnp.where(is_near_one, 1, difference)
    u = _approximate_time(safe_a, safe_difference) * safe_difference / safe_a
    exp_u = jnp.exp(u)
    for _ in range(2):
        change = _halley_step(u, exp_u, safe_a)
        u = u + change
        exp_u = exp_u + exp_u * change * polynomial(change, _EXPM1)
    s_near_one = 2 + difference * (2 / 3 - 2 / 9 * difference)
    s = jnp.where(is_near_one, s_near_one, u * safe_a / safe_difference)
    u = jnp.where(is_near_one, s * difference / a, u)
    u_is_small = jnp.abs(u) < 1
    series = polynomial(jnp.where(u_is_small, u, 0), _P)
    definition = (exp_u - 1 - u) / jnp.where(u_is_small, 1, u * u)
    return tau_syn * (s * s) * (jnp.exp(1 - s) * jnp.where(u_is_small, series, definition))


def _approximate_time(a: Array, difference: Array) -> Array:
    """Return s with an error of u below 0.2; difference is a - 1.

    Below a = 1, s is nearly 1 + a. Above, one step of the iteration
    s = a ln(1 + s (a - 1)) / (a - 1) follows a function that is right, with its slope, at a = 1.
    """
    ones = jnp.ones_like(a)
    positive_difference = jnp.maximum(difference, 0)
    log_a = positive_difference * log_slope(ones, jnp.maximum(a, 1))
    start = 2 + log_a * (10 + 3 * log_a) / (15 + 3 * log_a)
    iterated = a * start * log_slope(ones, 1 + start * positive_difference)
    return jnp.where(a > 1, iterated, 1 + a)


def _halley_step(u: Array, exp_u: Array, a: Array) -> Array:
    """Return the step of Halley's method towards the root of exp(u) - 1 - a u."""
    value = exp_u - 1 - a * u
    slope = exp_u - a
    return -value * slope / (slope * slope - value * exp_u / 2)


@alpha_peak.defjvp
def _alpha_peak_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    def from_chain(tau_m: Array, tau_syn: Array) -> Array:
        return math.e / tau_syn * peak_of_response((1 / tau_m, 1 / tau_syn, 1 / tau_syn))

    return alpha_peak(*primals), jax.jvp(from_chain, primals, tangents)[1]
