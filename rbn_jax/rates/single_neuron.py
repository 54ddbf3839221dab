"""The stationary rate of a leaky integrate-and-fire neuron under noise."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rbn_jax.numerics.arrays import as_floats, jit, nan_unless, positive
from rbn_jax.numerics.siegert import SHIFT, log_escape_integral, tangent


@jit
def log_siegert_rate(
    mu: ArrayLike,
    sigma: ArrayLike,
    tau_m: ArrayLike,
    t_ref: ArrayLike,
    v_th: ArrayLike,
    v_r: ArrayLike,
    tau_syn: ArrayLike = 0.0,
) -> Array:
    """Natural logarithm of `siegert_rate` [ln(spikes/s)], finite where the rate underflows.

    Arguments as there.

    >>> print(f"{log_siegert_rate(0.0, 0.5, 20.0, 5.0, 20.0, 0.0):.1f}")
    -1593.0
    """
    args = as_floats(mu, sigma, tau_m, t_ref, v_th, v_r, tau_syn)
    mu, sigma, tau_m, t_ref, v_th, v_r, tau_syn = args
    sigma, tau_m, gap = positive(sigma), positive(tau_m), positive(v_th - v_r)
    t_ref = nan_unless(t_ref >= 0, t_ref)
    return log_rate(mu, sigma, tau_m, t_ref, v_th, gap, colour_shift(tau_syn / tau_m))


@jit
def siegert_rate(
    mu: ArrayLike,
    sigma: ArrayLike,
    tau_m: ArrayLike,
    t_ref: ArrayLike,
    v_th: ArrayLike,
    v_r: ArrayLike,
    tau_syn: ArrayLike = 0.0,
) -> Array:
    """Stationary rate of a leaky integrate-and-fire neuron in Gaussian noise [spikes/s].

    1000 / rate = t_ref + tau_m sqrt(pi) int_{y_r}^{y_th} exp(u^2) (1 + erf u) du,
    y_x = (v_x - mu) / sigma + (|zeta(1/2)| / sqrt(2)) sqrt(tau_syn / tau_m),

    for a potential that noise of the intensity sigma^2 drives: the free membrane has the mean mu
    and, for tau_syn = 0, the standard deviation sigma / sqrt(2). The term in tau_syn is the
    first order for noise that exponential synapses filter, good for tau_syn << tau_m.

    Args:
        mu: mean of the free membrane potential [mV].
        sigma: intensity of its noise [mV], > 0.
        tau_m: membrane time constant [ms], > 0.
        t_ref: refractory period [ms], >= 0.
        v_th, v_r: threshold and reset [mV], v_th > v_r.
        tau_syn: synaptic time constant [ms], >= 0.

    Returns:
        The rate, at most 1000 / t_ref, in the broadcast shape; NaN outside the domain.

    Source: Siegert (1951), doi 10.1103/PhysRev.81.617; Brunel (2000), doi
    10.1023/A:1008925309027, Eq. 21; Fourcaud & Brunel (2002), doi 10.1162/089976602320264015,
    the shift of both limits.

    >>> print(f"{siegert_rate(15.0, 5.0, 20.0, 2.0, 20.0, 10.0):.4f}")
    9.4608
    """
    return jnp.exp(log_siegert_rate(mu, sigma, tau_m, t_ref, v_th, v_r, tau_syn))


def colour_shift(colour: Array) -> Array:
    """What synapses of tau_syn / tau_m add to both limits; 0, with no slope, at 0."""
    coloured = colour > 0
    root = SHIFT * jnp.sqrt(jnp.where(coloured, colour, 1))
    return jnp.where(coloured, root, jnp.where(colour == 0, 0, jnp.nan))


def log_rate(
    mu: Array,
    sigma: Array,
    tau_m: Array,
    t_ref: Array,
    v_th: Array,
    gap: Array,
    shift: Array,
    lacking: Array | float = 0.0,
) -> Array:
    """ln rate [spikes/s], -ln(t_ref + tau_m sqrt(pi) I exp(-lacking)), neither term ever lost.

    Times are in s from the start, and the largest term comes last: float32 has few digits for it.
    """
    taken, integral = log_escape_integral(v_th - mu, gap, sigma, shift)
    passage = taken + (integral - lacking + jnp.log(tau_m * (math.sqrt(math.pi) / 1000)))
    return -_log_sum(t_ref / 1000, passage)


@jax.custom_jvp
def _log_sum(t: Array, log_x: Array) -> Array:
    """ln(t + x), t >= 0."""
    return jnp.logaddexp(jnp.log(t), log_x)


def _log_sum_jvp(primals: Any, tangents: Any) -> Any:
    """Slopes that exist at t = 0, too."""
    value = _log_sum(*primals)
    return value, tangent((jnp.exp(-value), jnp.exp(primals[1] - value)), tangents)


_log_sum.defjvp(_log_sum_jvp, symbolic_zeros=True)
