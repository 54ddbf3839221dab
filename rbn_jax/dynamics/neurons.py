"""Leaky integrate-and-fire neurons with current-based synapses, advanced as NEST advances them.

Between spikes the equations are linear, so that a time step is a multiplication with the exact
solution (Rotter & Diesmann 1999, doi 10.1007/s004220050570). Spikes are on the grid of time steps.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from rbn_jax.dynamics.sampled_neurons import Sample
from rbn_jax.network import NetworkParams
from rbn_jax.numerics.arrays import as_floats, nan_unless, positive
from rbn_jax.numerics.convolution import response
from rbn_jax.numerics.synapses import charge


class NeuronState(NamedTuple):
    """The state of all neurons of a sample; each entry has the axes (cluster, neuron) last.

    V: membrane potential less E_L [mV]
    currents: (source population, stage of the synapse, ...) synaptic currents [pA]; an alpha
        synapse has two stages, of which the first is the derivative of the second [pA/ms]
    refractory: time steps until the end of the refractory period
    """

    V: Array
    currents: Array
    refractory: Array


class Propagators(NamedTuple):
    """What advances neurons by one time step.

    membrane: (neuron,) factor of the potential
    drive: (cluster, neuron) potential that the background current adds [mV]
    synaptic: (source, stage, neuron) factors of currents in the potential [mV/pA]
    decay: (source,) factor of the currents
    coupling: (source,) factor of the first stage of an alpha synapse in its second [ms]
    arrival: (source,) what a spike of weight 1 adds to the first stage
    threshold: (neuron,) V_th - E_L [mV]
    reset: V_r - E_L [mV]
    n_refractory: time steps of the refractory period
    """

    membrane: Array
    drive: Array
    synaptic: Array
    decay: Array
    coupling: Array
    arrival: Array
    threshold: Array
    reset: Array
    n_refractory: Array


N_STAGES = {"exp": 1, "alpha": 2, "delta": 0}
"""The number of currents of a synapse of each kind."""


def make_propagators(
    params: NetworkParams, sample: Sample, dt: float, current_factors: Array
) -> Propagators:
    """Return the propagators of one network.

    Args:
        params: one network; its numbers may be traced.
        sample: the neurons.
        dt: time step [ms].
        current_factors: (cluster, neuron) of each neuron's background current in that of its
            population.
    """
    e_l, c_m, v_r, t_ref, step = as_floats(params.E_L, params.C_m, params.V_r, params.t_ref, dt)
    tau_m = _pair(params.tau_E, params.tau_I)
    tau_syn = _pair(params.tau_syn_ex, params.tau_syn_in)
    threshold = _pair(params.V_th_E, params.V_th_I) - e_l
    rheobase_share = _pair(params.I_th_E, params.I_th_I)
    synapse = str(params.synapse)
    is_filtered = synapse != "delta"
    population = sample.population
    # what a constant current that holds the membrane at 1 mV adds in a step
    towards_steady = -jnp.expm1(-step / positive(tau_m))
    drive = (rheobase_share * threshold * towards_steady)[population] * current_factors
    rates = 1 / tau_m[:, None], 1 / (tau_syn if is_filtered else jnp.ones_like(tau_syn))[None]
    stages = {
        "exp": [response(step, rates)],
        "alpha": [response(step, (*rates, rates[1])), response(step, rates)],
        "delta": [],
    }[synapse]
    synaptic = jnp.zeros((2, 0, sample.size), step.dtype)
    if stages:
        # (stage, target, source) to (source, stage, neuron)
        by_population = jnp.stack(stages) / positive(c_m)
        synaptic = jnp.moveaxis(by_population, -1, 0)[..., population]
    decay = jnp.exp(-step * rates[1][0])
    return Propagators(
        membrane=(1 - towards_steady)[population],
        drive=drive,
        synaptic=synaptic,
        decay=decay,
        coupling=step * decay,
        # the charge of a spike divided by that of the response to a first stage of 1
        arrival=charge(synapse, tau_syn) / tau_syn ** N_STAGES[synapse],
        threshold=threshold[population],
        reset=v_r - e_l,
        # rounded up, as NEST does; but 5.0000001 steps are 5 with a rounding error
        n_refractory=jnp.ceil(nan_unless(t_ref >= 0, t_ref) / step - 1e-3).astype(jnp.int32),
    )


def advance(
    state: NeuronState,
    arriving: Array,
    propagators: Propagators,
) -> tuple[NeuronState, Array]:
    """Advance neurons by one time step; return their state, and which of them fire.

    The order is that of NEST's models: potentials first, by the currents of the step before;
    then the currents, to which the spikes that arrive at the end of the step are added. Delta
    synapses move the potential at the end of the step, before it is compared with the threshold;
    those that arrive in the refractory period are lost.

    arriving: (source, cluster, neuron) sum of the weights of all spikes that arrive [pA], [mV] of
        delta synapses
    """
    V, currents, refractory = state
    is_ready = refractory == 0
    relaxed = V * propagators.membrane + propagators.drive
    n_stages = currents.shape[1]
    for source in range(2):
        if n_stages == 0:
            relaxed = relaxed + arriving[source]
        for stage in range(n_stages):
            relaxed = relaxed + propagators.synaptic[source, stage] * currents[source, stage]
    V = jnp.where(is_ready, relaxed, V)
    advanced = []
    for source in range(2):
        decayed = [current * propagators.decay[source] for current in currents[source]]
        if n_stages == 2:
            decayed[1] = decayed[1] + propagators.coupling[source] * currents[source, 0]
        if n_stages:
            decayed[0] = decayed[0] + propagators.arrival[source] * arriving[source]
        advanced.append(jnp.stack(decayed) if decayed else currents[source])
    fires = propagators.threshold <= V
    refractory = jnp.where(is_ready, 0, refractory - 1)
    return (
        NeuronState(
            V=jnp.where(fires, propagators.reset, V),
            currents=jnp.stack(advanced),
            refractory=jnp.where(fires, propagators.n_refractory, refractory),
        ),
        fires,
    )


def _pair(excitatory: object, inhibitory: object) -> Array:
    """Return the values of E and of I, (2,)."""
    return jnp.stack(as_floats(excitatory, inhibitory))  # pyright: ignore[reportArgumentType]
