"""The stationary rate of a leaky integrate-and-fire neuron in Gaussian noise."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rbn_jax.numerics.arrays import as_floats, formula, nan_unless, positive, same_rank
from rbn_jax.numerics.siegert import SHIFT, log_siegert_integral, tangent
from rbn_jax.parameters.labels import label


class Neurons(NamedTuple):
    """The neurons of each population and their input; all arrays are (n, networks).

    tau_m, t_ref, v_th: membrane time constant, refractory period, threshold [ms, ms, mV]
    gap: distance of the reset below the threshold [mV]
    mu: mean of the free membrane potential [mV]; (..., n, networks) for several neurons
    sigma: intensity of its noise [mV]
    tau_ratio: tau_syn / tau_m
    spread: standard deviation of mu across neurons [mV]
    """

    tau_m: Array
    t_ref: Array
    v_th: Array
    gap: Array
    mu: Array
    sigma: Array
    tau_ratio: Array
    spread: Array


@label(units="ln(spikes/s)", long_name="logarithm of the firing rate")
@formula
def log_siegert_rate(
    mu: ArrayLike,
    sigma: ArrayLike,
    tau_m: ArrayLike,
    t_ref: ArrayLike,
    v_th: ArrayLike,
    v_r: ArrayLike,
    tau_syn: ArrayLike = 0.0,
) -> Array:
    """Return the natural logarithm of `siegert_rate` [ln(spikes/s)].

    It is finite where the rate itself underflows to 0. Arguments are those of `siegert_rate`.

    >>> print(f"{log_siegert_rate(0.0, 0.5, 20.0, 5.0, 20.0, 0.0):.1f}")
    -1593.0
    """
    mu, sigma, tau_m, t_ref, v_th, v_r, tau_syn = same_rank(
        *as_floats(mu, sigma, tau_m, t_ref, v_th, v_r, tau_syn)
    )
    tau_m = positive(tau_m)
    neurons = Neurons(
        tau_m=tau_m,
        t_ref=nan_unless(t_ref >= 0, t_ref),
        v_th=v_th,
        gap=positive(v_th - v_r),
        mu=mu,
        sigma=positive(sigma),
        tau_ratio=tau_syn / tau_m,
        spread=jnp.zeros_like(mu),
    )
    return log_rate(neurons, synaptic_shift(neurons.tau_ratio))


@label(units="spikes/s", long_name="firing rate")
@formula
def siegert_rate(
    mu: ArrayLike,
    sigma: ArrayLike,
    tau_m: ArrayLike,
    t_ref: ArrayLike,
    v_th: ArrayLike,
    v_r: ArrayLike,
    tau_syn: ArrayLike = 0.0,
) -> Array:
    """Return the stationary rate of a leaky integrate-and-fire neuron [spikes/s].

    1000 / rate = t_ref + tau_m sqrt(pi) int_{y_r}^{y_th} exp(u^2) (1 + erf u) du,
    y_x = (v_x - mu) / sigma + (|zeta(1/2)| / sqrt(2)) sqrt(tau_syn / tau_m)

    The free membrane potential, without threshold, has the mean mu and, for tau_syn = 0, the
    standard deviation sigma / sqrt(2). The term in tau_syn is the first order of the effect of
    exponential synapses, which filter the noise; it is accurate for tau_syn << tau_m.

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
    for the term in tau_syn.

    >>> print(f"{siegert_rate(15.0, 5.0, 20.0, 2.0, 20.0, 10.0):.4f}")
    9.4608
    """
    return jnp.exp(log_siegert_rate(mu, sigma, tau_m, t_ref, v_th, v_r, tau_syn))


def synaptic_shift(tau_ratio: Array) -> Array:
    """Return what synapses with tau_ratio = tau_syn / tau_m add to both limits of the integral."""
    # the square root has no finite slope at 0: there the shift is 0 and has the slope 0
    is_filtered = tau_ratio > 0
    shift = SHIFT * jnp.sqrt(jnp.where(is_filtered, tau_ratio, 1))
    return jnp.where(is_filtered, shift, jnp.where(tau_ratio == 0, 0, jnp.nan))


def log_rate(neurons: Neurons, shift: Array, log_factor: ArrayLike = 0.0) -> Array:
    """Return -ln(t_ref + T), the logarithm of the rates [ln(spikes/s)].

    T = tau_m sqrt(pi) I exp(-log_factor) is the mean passage time from reset to threshold, and I
    Siegert's integral with both limits moved by `shift`.
    """
    tau_m, t_ref, v_th, gap, mu, sigma, _, _ = neurons
    exponent, log_integral = log_siegert_integral(v_th - mu, gap, sigma, shift)
    # tau_m is in s here, as the result is in spikes/s; the exponent, by far the largest term of
    # a silent neuron, is added last: added first it would round off the digits of the others
    log_seconds = jnp.log(tau_m * (math.sqrt(math.pi) / 1000))
    log_passage_time = exponent + (log_integral - log_factor + log_seconds)
    return -_log_of_sum(*same_rank(t_ref / 1000, log_passage_time))


@jax.custom_jvp
def _log_of_sum(summand: Array, log_x: Array) -> Array:
    """Return ln(summand + exp(log_x)), summand >= 0."""
    return jnp.logaddexp(jnp.log(summand), log_x)


def _log_of_sum_jvp(
    primals: tuple[Array, Array], tangents: tuple[object, object]
) -> tuple[Array, Array]:
    # JAX's own derivative is that of ln(summand), which is infinite at summand = 0
    log_sum = _log_of_sum(*primals)
    slopes = (jnp.exp(-log_sum), jnp.exp(primals[1] - log_sum))
    return log_sum, tangent(slopes, tangents)


# symbolic_zeros: arguments that are not differentiated add no terms to the tangent
_log_of_sum.defjvp(_log_of_sum_jvp, symbolic_zeros=True)
