"""Where the theory is known to fail, or was not tested, in words and as truth values."""

import warnings
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jax import Array

from rbn_jax.network import NetworkParams
from rbn_jax.numerics.arrays import as_floats
from rbn_jax.rates.populations import Populations

REGIMES = {
    "lock_step": (
        "all neurons may fire together, which no stationary theory sees: seen in NEST for "
        "synapses of up to 2 ms, tau_syn_in > tau_syn_ex, tau_E <= tau_I and a delay from 1.5 ms"
    ),
    "quiescent": "I_th_E <= 1: NEST falls silent, whatever active state the theory has",
    "low_rate": "a rate below 0.1 spikes/s, lower than any that was compared with NEST",
    "slow_synapses": "tau_syn / tau_m > 0.5, beyond what was compared with NEST",
    "small_network": "fewer than 4000 neurons: errors of 15 % were seen at 1500",
    "weak_inhibition": "gei <= 1: the spread of the input may exceed the threshold",
}
"""What each warning means."""


def regimes(params: NetworkParams | Populations, rates: Array) -> dict[str, Array]:
    """Whether each of REGIMES applies, in the shape of the batch; of Populations, low_rate."""
    low = (rates < 0.1).any(-1)
    if isinstance(params, Populations):
        return {"low_rate": low}
    p = params
    names = "tau_E tau_I tau_syn_ex tau_syn_in delay I_th_E gei N_E N_I".split()
    values = as_floats(*(getattr(p, name) for name in names))
    tau_e, tau_i, ex, inh, delay, i_e, gei, n_e, n_i = values
    fast = jnp.minimum(ex, inh) <= 2
    found = {
        "lock_step": fast | (inh > ex) | (tau_e <= tau_i) | (delay >= 1.5),
        "quiescent": i_e <= 1,
        "low_rate": low,
        "slow_synapses": jnp.maximum(ex, inh) / jnp.minimum(tau_e, tau_i) > 0.5,
        "small_network": n_e + n_i < 4000,
        "weak_inhibition": gei <= 1,
    }
    return {name: jnp.broadcast_to(x, rates.shape[:-1]) for name, x in found.items()}


def warn(flags: Mapping[str, Any]) -> None:
    """Each warning that applies as a RuntimeWarning, of the line that called the caller."""
    for words in in_words(flags):
        warnings.warn(words, RuntimeWarning, stacklevel=3)


def in_words(flags: Mapping[str, Any]) -> list[str]:
    """A sentence for each warning that applies, with how many networks of a batch it is for."""
    found = []
    for name, flag in flags.items():
        count, size = int(jnp.sum(flag)), jnp.size(flag)
        if count:
            of = "" if size == 1 else f" ({count} of {size} networks)"
            found.append(f"{name}: {REGIMES[name]}{of}")
    return found
