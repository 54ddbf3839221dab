"""How often all neurons of a network in lock-step fire, in closed form but for one root."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

from rbn_jax.network import NetworkParams
from rbn_jax.numerics.arrays import as_floats, broadcast_any_rank, formula, nan_unless, positive
from rbn_jax.numerics.convolution import response
from rbn_jax.numerics.synapses import capacitance, charge
from rbn_jax.parameters.labels import label
from rbn_jax.weights import synaptic_weights

# The first crossing of the threshold is looked for at so many times, in rising order.
_TIMES = 256
# from this share of tau_E to this multiple of the sum of all time constants
_RANGE = (1e-3, 30.0)
_HALVINGS = 60


@label(units="1/s", long_name="volleys per second in lock-step")
@formula
@broadcast_any_rank
def volley_rate(params: NetworkParams) -> Array:
    """Return how often all neurons fire together in a network in lock-step [1/s].

    After a volley of all neurons at t = 0 a neuron of E is refractory until t_ref, and then it is
    at V_r with the currents that the volley left. It reaches the threshold after a time T,

        V_th = mu + (V_r - mu) exp(-T / tau_E) + sum_b Q_b exp(-u / tau_b) W_b
        W_b = (exp(-T / tau_E) - exp(-T / tau_b)) tau_E / (tau_E - tau_b)

    with mu = E_L + I_th_E (V_th_E - E_L), Q_b = p_Eb N_b w_Eb, w_Eb the charge of a spike divided
    by C_m [mV], tau_b the synaptic time constants and u = t_ref - delay. The result is
    1000 / (t_ref + T) for the first T. This is for exponential synapses. Alpha synapses have
    other currents, and spikes on delta synapses arrive in the refractory period and are lost.

    Currents that earlier volleys left are neglected: they are exp(-(t_ref + T) / tau_b) of those
    of the last one. Neurons of I are taken to fire in the same volleys. Clusters, Poisson and fixed
    in-degrees make no difference, as all neurons of a population have the same mean input. Whether
    a network falls into lock-step is another question, for which see `network_states`.

    Args:
        params: a NetworkParams, whose numbers broadcast.

    Returns:
        The rate; NaN where E does not reach the threshold by itself, I_th_E <= 1, where volleys
        arrive after the refractory period, delay > t_ref, and outside the domains of the weights.

    >>> print(volley_rate(NetworkParams(tau_syn_ex=0.5, tau_syn_in=0.5)).round(2))
    26.89
    """
    v_th, v_r, e_l, tau_m, t_ref, delay, i_th, c_m, tau_ex, tau_in, n_e, n_i = jnp.broadcast_arrays(
        *as_floats(
            params.V_th_E, params.V_r, params.E_L, params.tau_E, params.t_ref, params.delay,
            params.I_th_E, params.C_m, params.tau_syn_ex, params.tau_syn_in, params.N_E, params.N_I,
        )
    )  # fmt: skip
    synapse = str(params.synapse)
    (probability,) = as_floats(params.baseline_conn_prob)
    inputs = synaptic_weights(params)[..., 0, :] * probability[..., 0, :]
    tau_syn = (tau_ex, tau_in)
    # sum of the charges of a volley of each population [mV]
    charges = []
    for source, neurons in enumerate((n_e, n_i)):
        per_weight = charge(synapse, tau_syn[source]) / capacitance(synapse, c_m)
        charges.append(inputs[..., source] * neurons * per_weight)
    # all have one rank, as derivatives are taken outside of this function
    v_th, v_r, e_l, tau_m, t_ref, delay, i_th, *charges = jnp.broadcast_arrays(
        v_th, v_r, e_l, tau_m, t_ref, delay, i_th, *charges
    )
    tau_syn = tuple(jnp.broadcast_to(tau, tau_m.shape) for tau in tau_syn)
    mean = e_l + i_th * (v_th - e_l)
    waited = t_ref - delay
    is_valid = (i_th > 1) & (waited >= 0) & (v_th > v_r) & (delay > 0)

    def distance(time: Array) -> Array:
        """Return how far V is above the threshold, so long after the refractory period."""
        potential = mean + (v_r - mean) * jnp.exp(-time / tau_m)
        if synapse == "delta":
            return potential - v_th
        for source in range(2):
            rate = 1 / positive(tau_syn[source])
            left = charges[source] * jnp.exp(-rate * waited)
            rates = (1 / positive(tau_m), rate)
            if synapse == "exp":
                potential = potential + left * rate * response(time, rates)
            else:
                stages = response(time, (*rates, rate)) + waited * response(time, rates)
                potential = potential + left * jnp.square(rate) * stages
        return potential - v_th

    longest = tau_m if synapse == "delta" else tau_m + sum(tau_syn)
    time = _first_root(distance, tau_m, longest)
    return 1000 / (t_ref + nan_unless(is_valid, time))


def _first_root(function: Callable[[Array], Array], shortest: Array, longest: Array) -> Array:
    """Return the first zero of a function that is negative at 0, elementwise; NaN without one.

    It is bracketed on a grid and then halved; derivatives of every order are those of the zero.
    """

    def solve(function: Callable[[Array], Array], _: Array) -> Array:
        low_end, high_end = _RANGE[0] * shortest, _RANGE[1] * longest
        shares = jnp.linspace(0, 1, _TIMES, dtype=shortest.dtype)
        shares = shares.reshape(-1, *[1] * shortest.ndim)
        times = low_end * (high_end / low_end) ** shares
        is_above = jax.vmap(function)(times) >= 0
        first = jnp.argmax(is_above, axis=0)
        high = jnp.take_along_axis(times, first[None], 0)[0]
        low = jnp.take_along_axis(times, jnp.maximum(first - 1, 0)[None], 0)[0]
        low = jnp.where(first == 0, 0, low)

        def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = bracket
            middle = (low + high) / 2
            is_above = function(middle) >= 0
            return jnp.where(is_above, low, middle), jnp.where(is_above, middle, high)

        low, high = lax.fori_loop(0, _HALVINGS, halve, (low, high))
        return nan_unless(is_above.any(0), (low + high) / 2)

    def solve_tangent(derivative: Callable[[Array], Array], value: Array) -> Array:
        # elementwise, so that its product with ones is its diagonal
        return value / derivative(jnp.ones_like(value))

    return lax.custom_root(function, shortest, solve, solve_tangent)
