"""Regimes in which the theory fails or was not tested: their meaning, flags and warnings."""

import warnings
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from rbn_jax.clusters import cluster_factors
from rbn_jax.network import NetworkParams
from rbn_jax.numerics.arrays import as_floats
from rbn_jax.numerics.synapses import equivalent_time_constant
from rbn_jax.rates.populations import Populations

REGIMES = {
    "lock_step": (
        "all neurons may fire together, which no stationary theory sees: from a synchronous start "
        "nearly every network does; from potentials that are spread out it was seen in NEST for "
        "synapses of up to 2 ms, tau_syn_in > tau_syn_ex (of alpha synapses also if they are "
        "equal), tau_E <= tau_I and a delay from 1.5 ms. An alpha synapse counts as the "
        "exponential one of the same variance, a delta synapse as one of 0 ms. network_states "
        "tells from which start, in which share of realisations"
    ),
    "quiescent": "I_th_E <= 1: NEST falls silent, whatever active state the theory has",
    "low_rate": "a rate below 0.1 spikes/s, lower than any that was compared with NEST",
    "slow_synapses": "tau_syn / tau_m > 0.5, beyond what was compared with NEST",
    "small_network": "fewer than 4000 neurons: errors of 15 % were seen at 1500",
    "weak_inhibition": "gei <= 1: the spread of the input may exceed the threshold",
    "near_transition": (
        "a cluster gain above 0.8: near 1 clusters become active one by one, and the state in "
        "which all have the same rates ends (see cluster_states)"
    ),
    "split_probability": (
        "connection probabilities above 1 within clusters: the noise that neurons do not share "
        "jumps where one passes a whole number"
    ),
    "neuron_model": (
        "neuron_type is none of NEST's iaf_psc models: the rates are those of leaky "
        "integrate-and-fire neurons with a fixed threshold, whatever else the model does"
    ),
    "outside_theory": (
        "there is a state, but the transfer function of this theory is not known for its neurons, "
        "so its rates are NaN: the table of 'exact' ends there; take 'quenched'"
    ),
}
"""The meaning of each warning, by name."""


def flag_regimes(
    params: NetworkParams | Populations, rates: Array, cluster_gain: Array, outside_theory: Array
) -> dict[str, Array]:
    """Return whether a network with these rates (..., n) and gain (...) is in each of REGIMES.

    The flags have the shape of the batch. Populations have low_rate and outside_theory only: the
    others are limits of comparisons with NEST, which were made for a NetworkParams.

    outside_theory: (...) whether there is a state for which the theory is not known
    """
    low_rate = (rates < 0.1).any(-1)
    if isinstance(params, Populations):
        return {"low_rate": low_rate, "outside_theory": outside_theory}
    tau_e, tau_i, tau_syn_ex, tau_syn_in = as_floats(
        params.tau_E, params.tau_I, params.tau_syn_ex, params.tau_syn_in
    )
    synapse = str(params.synapse)
    # the smallest and the largest of the four time constants, which grow with tau_syn and fall
    # with tau_m
    fastest_synapse = equivalent_time_constant(
        synapse, jnp.maximum(tau_e, tau_i), jnp.minimum(tau_syn_ex, tau_syn_in)
    )
    slowest_synapse = equivalent_time_constant(
        synapse, jnp.minimum(tau_e, tau_i), jnp.maximum(tau_syn_ex, tau_syn_in)
    )
    fast_synapses = fastest_synapse <= 2
    slow_inhibition = tau_syn_in > tau_syn_ex
    if synapse == "alpha":
        slow_inhibition = tau_syn_in >= tau_syn_ex
    is_iaf_psc = str(params.neuron_type).startswith("iaf_psc_")
    flags = {
        "lock_step": fast_synapses | slow_inhibition | (tau_e <= tau_i) | (params.delay >= 1.5),
        "quiescent": params.I_th_E <= 1,
        "low_rate": low_rate,
        "slow_synapses": slowest_synapse / jnp.minimum(tau_e, tau_i) > 0.5,
        "small_network": params.N_E + params.N_I < 4000,
        "weak_inhibition": params.gei <= 1,
        "near_transition": cluster_gain > 0.8,
        "split_probability": _is_split(params),
        "neuron_model": jnp.asarray(not is_iaf_psc),
        "outside_theory": outside_theory,
    }
    # Each flag gets the shape of the batch, and the sharding of rates. One that only had the
    # shape, or that XLA knew to be constant, would be whole on every device. No rate is below 0,
    # but XLA does not know that.
    never = rates[..., 0] < -1
    return {name: jnp.where(never, ~flag, flag) for name, flag in flags.items()}


def _is_split(params: NetworkParams) -> Array:
    """Return whether the rule of connections divides a probability above 1 among several."""
    if params.connection_rule == "pairwise_poisson":
        return jnp.zeros((), bool)
    factors = cluster_factors(params)
    (probability,) = as_floats(params.baseline_conn_prob)
    largest = jnp.maximum(factors.probability_within, factors.probability_between)
    return (probability * largest > 1).any((-2, -1))


def warn(flags: Mapping[str, ArrayLike], n_wrappers: int = 0) -> None:
    """Issue a RuntimeWarning for each regime that a network is in.

    The message says how many networks of a batch are in it. The line shown is that which called
    the function that called this one, through so many wrappers.
    """
    for name, flag in flags.items():
        count = int(np.sum(flag))
        size = np.size(flag)
        if count:
            networks = "" if size == 1 else f" ({count} of {size} networks)"
            message = f"{name}: {REGIMES[name]}{networks}"
            warnings.warn(message, RuntimeWarning, stacklevel=3 + n_wrappers)
