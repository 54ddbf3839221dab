"""The state in which population dynamics begins."""

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.special import ndtri

from rbn_jax.dynamics.connections import input_moments
from rbn_jax.dynamics.neurons import N_STAGES, NeuronState, Propagators, advance
from rbn_jax.dynamics.sampled_neurons import Sample
from rbn_jax.network import NetworkParams
from rbn_jax.rates import mean_field

STARTS = ("uniform", "rand", "synchronous", "asynchronous")
"""Names of the states in which a network may begin."""

# Neurons under the noise of the stationary theory forget their first state in this time [ms].
_RELAXATION = 100.0


def draw_potentials(uniform: Array, start: Array, threshold: Array) -> Array:
    """Return the potentials [mV] less E_L of a start, (cluster, neuron).

    uniform: (cluster, neuron) random numbers from 0 to 1
    start: its number in STARTS. It is no static choice, so that one program serves all of them;
        "asynchronous" begins with potentials as "synchronous"
    threshold: (neuron,) less E_L [mV]
    """
    dtype = threshold.dtype
    # from as far below E_L as the threshold is above it
    spread = threshold * (2 * uniform - 1).astype(dtype)
    # as NEST's example: 20 lognormal(0, 1) mV below the threshold
    below = threshold - 20 * jnp.exp(ndtri(uniform)).astype(dtype)
    at_rest = jnp.zeros_like(spread)
    return lax.select_n(jnp.minimum(start, 2), spread, below, at_rest)


def make_start(
    potentials: Array,
    key: Array,
    params: NetworkParams,
    sample: Sample,
    propagators: Propagators,
    dt: float,
    n_slots: int,
    is_asynchronous: bool,
) -> tuple[NeuronState, Array]:
    """Return the state of the neurons, and their spikes (n_slots, cluster, neuron) before it.

    potentials: (cluster, neuron) less E_L [mV]
    key: for the random numbers of "asynchronous"
    """
    currents = (2, N_STAGES[str(params.synapse)], *potentials.shape)
    state = NeuronState(
        V=potentials,
        currents=jnp.zeros_like(potentials, shape=currents),
        refractory=jnp.zeros_like(potentials, jnp.int32),
    )
    if is_asynchronous:
        return _relax(key, state, params, sample, propagators, dt, n_slots)
    return state, jnp.zeros_like(potentials, bool, shape=(n_slots, *potentials.shape))


def _relax(
    key: Array,
    state: NeuronState,
    params: NetworkParams,
    sample: Sample,
    propagators: Propagators,
    dt: float,
    n_slots: int,
) -> tuple[NeuronState, Array]:
    """Return neurons after a while under independent input of the mean and noise of the theory.

    The input of a neuron from a population is normally distributed in each step. Its mean differs
    between neurons, as the rates of their source neurons do.
    """
    dtype = propagators.membrane.dtype
    stationary = mean_field(params, "quenched")
    # per step, on the axes (target, source)
    rates = stationary.rates * (dt / 1000)
    rate_std = stationary.rate_std * (dt / 1000)
    square = jnp.square(rate_std)
    if params.connection_rule != "fixed_indegree":
        square = square + jnp.square(rates)
    mean_input, variance = input_moments(params, sample)
    moments = (mean_input * rates, jnp.sqrt(variance * rates), jnp.sqrt(variance * square))
    # (source, 1, target neuron)
    mean, noise, disorder = (moment.T[:, None, sample.population] for moment in moments)
    key, key_of_disorder = jax.random.split(key)
    shape = (2, *state.V.shape)
    mean = mean + disorder * jax.random.normal(key_of_disorder, shape, jnp.float32).astype(dtype)
    n_steps = round(_RELAXATION / dt)

    def step(i: Array, loop: tuple[NeuronState, Array]) -> tuple[NeuronState, Array]:
        state, spikes = loop
        normal = jax.random.normal(jax.random.fold_in(key, i), shape, jnp.float32).astype(dtype)
        state, fires = advance(state, mean + noise * normal, propagators)
        # the last step is that before the start
        return state, spikes.at[(i - n_steps) % n_slots].set(fires)

    spikes = jnp.zeros_like(state.V, bool, shape=(n_slots, *state.V.shape))
    return lax.fori_loop(0, n_steps, step, (state, spikes))
