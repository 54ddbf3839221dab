"""The synaptic input of all neurons without a connection matrix: a mean and structured noise.

The input of neuron i of population a from those neurons j of population b that fire is

    J sum_j A_ij x_j = J p n + J sum_j (A_ij - p) x_j,    n = sum_j x_j

where A_ij are connections of probability p. The first term is the exact mean field. In the second
one the random numbers A_ij - p are replaced by sqrt(p (1 - p)) (P H D)_ij. H is a Hadamard matrix,
D has random signs on its diagonal, and P assigns the rows of H to neurons in random order. So the
mean over neurons, the variance and the correlation in time are those of the network. H is a
Kronecker product of two small matrices, by which spikes are multiplied in turn.

With clusters, the Kronecker product of S and H takes the place of H. S has random signs between
clusters and 0 within one: connections within a cluster are few but strong, and their distribution
matters. They are drawn as they are in the network.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.custom_batching import custom_vmap

from rbn_jax.clusters import cluster_factors
from rbn_jax.dynamics.sampled_neurons import Sample
from rbn_jax.network import NetworkParams
from rbn_jax.numerics import hadamard
from rbn_jax.numerics.arrays import as_floats
from rbn_jax.weights import synaptic_weights

_SpikeLoop = tuple[Array, Array, Array, Array]

# More spikes than these in one time step are transformed at once, fewer one by one.
_FEW_SPIKES = 32


class Realisation(NamedTuple):
    """The random numbers that stand for connections.

    signs: (cluster, neuron) of each neuron as a source
    cluster_signs: (target cluster, source cluster), 0 on the diagonal; [[1]] without clusters
    rows: (source population, cluster, neuron) the row of the transform that is the input of a
        neuron from each population
    blocks: (cluster, source neuron, target neuron) numbers of synapses within each cluster; of
        no clusters without clusters
    """

    signs: Array
    cluster_signs: Array
    rows: Array
    blocks: Array


class Couplings(NamedTuple):
    """What a spike adds to the input of a neuron, (target, source) each [pA, mV of delta synapses].

    mean: of a spike in another cluster, on average; without clusters of any spike
    noise: of a spike, times the signs of the transform
    own_mean: of a spike in the own cluster, besides what the blocks add
    own: of one synapse in a block
    """

    mean: Array
    noise: Array
    own_mean: Array
    own: Array


class _Numbers(NamedTuple):
    """How many synapses connect a neuron to a source neuron, (target, source) each.

    mean: mean number
    n_parts: of how many independent draws it is the sum
    variance: of the number
    """

    mean: Array
    n_parts: Array
    variance: Array


def make_couplings(params: NetworkParams, sample: Sample) -> Couplings:
    """Return the couplings of one network, whose numbers may be traced."""
    within, between = _synapse_numbers(params)
    factors = cluster_factors(params)
    weights = synaptic_weights(params)
    neurons = jnp.stack(as_floats(params.N_E, params.N_I))
    # neurons of the network for each neuron of the sample
    ratio = neurons / jnp.asarray(sample.total, neurons.dtype)
    weights_within = weights * factors.weight_within
    weights_between = weights * factors.weight_between
    return Couplings(
        mean=weights_between * between.mean * ratio,
        noise=weights_between * jnp.sqrt(between.variance * ratio),
        # a block of the sample has the variance of the network if its deviations from the mean
        # are multiplied by the root of the ratio
        own_mean=weights_within * within.mean * (ratio - jnp.sqrt(ratio)),
        own=weights_within * jnp.sqrt(ratio),
    )


def input_moments(params: NetworkParams, sample: Sample) -> tuple[Array, Array]:
    """Return mean and variance of the input if each neuron fires once, (target, source)."""
    within, _ = _synapse_numbers(params)
    couplings = make_couplings(params, sample)
    neurons = jnp.asarray(sample.total, couplings.mean.dtype)
    own = neurons / sample.n_clusters if sample.n_clusters > 1 else 0 * neurons
    mean_of_own = couplings.own_mean + couplings.own * within.mean
    mean = couplings.mean * (neurons - own) + mean_of_own * own
    variance = jnp.square(couplings.noise) * (neurons - own)
    return mean, variance + jnp.square(couplings.own) * within.variance * own


def _synapse_numbers(params: NetworkParams) -> tuple[_Numbers, _Numbers]:
    """Return the numbers of synapses within a cluster, and between clusters."""
    factors = cluster_factors(params)
    (probability,) = as_floats(params.baseline_conn_prob)
    n_e, n_i, n_clusters = as_floats(params.N_E, params.N_I, params.n_clusters)
    neurons = jnp.stack([n_e, n_i]) / n_clusters
    numbers = []
    for factor in (factors.probability_within, factors.probability_between):
        mean = probability * factor
        # a probability above 1 is divided among several draws
        n_parts = jnp.maximum(jnp.ceil(mean), 1)
        if params.connection_rule == "pairwise_poisson":
            numbers.append(_Numbers(mean, n_parts, mean))
            continue
        part = mean / n_parts
        if params.connection_rule == "fixed_indegree":
            # rounded down; 0.29 x 100 is below 29 by rounding
            part = jnp.floor(part * neurons * (1 + 8 * jnp.finfo(mean.dtype).eps)) / neurons
        numbers.append(_Numbers(part * n_parts, n_parts, part * n_parts * (1 - part)))
    return numbers[0], numbers[1]


def realisation_shapes(params: NetworkParams, sample: Sample) -> list[tuple]:
    """Return the shapes of the uniform random numbers that `make_realisation` takes."""
    n_clusters, size = sample.n_clusters, sample.size
    shapes: list[tuple] = [
        (n_clusters, size),
        (n_clusters, n_clusters),
        (2, n_clusters, hadamard.smallest_order(size)),
    ]
    if n_clusters > 1 and params.connection_rule != "pairwise_poisson":
        shapes.append((n_clusters, size, size))
    return shapes


def make_realisation(
    uniform: Sequence[Array], key: Array, params: NetworkParams, sample: Sample, is_split: bool
) -> Realisation:
    """Return signs, rows and blocks; the same whatever dtype the network has.

    uniform: numbers from 0 to 1, of `realisation_shapes`
    key: for numbers of synapses that these do not give
    is_split: whether probabilities within clusters may be above 1
    """
    n_clusters, size = sample.n_clusters, sample.size
    signs, cluster_signs = (jnp.where(x < 0.5, -1, 1).astype(jnp.int8) for x in uniform[:2])
    # 16 bits halve the memory of a batch of realisations
    dtype = jnp.uint16 if uniform[2].shape[-1] <= 2**16 else jnp.uint32
    rows = jnp.argsort(uniform[2], axis=-1)[..., :size].astype(dtype)
    if n_clusters == 1:
        no_blocks = jnp.zeros((0, size, size), jnp.float32)
        return Realisation(signs, jnp.ones((1, 1), jnp.int8), rows, no_blocks)
    cluster_signs = cluster_signs * (1 - jnp.eye(n_clusters, dtype=jnp.int8))
    within, _ = _synapse_numbers(params)
    population = sample.population

    def of_neurons(matrix: Array) -> Array:
        """Return (target, source) as (source neuron, target neuron)."""
        return matrix.T[population][:, population].astype(jnp.float32)

    means = of_neurons(within.mean)
    shape = (n_clusters, size, size)
    if params.connection_rule == "pairwise_poisson":
        blocks = jax.random.poisson(key, means, shape)
    elif params.connection_rule == "fixed_indegree":
        blocks = _fixed_indegrees(uniform[3], means, sample)
    else:
        blocks = (uniform[3] < means).astype(jnp.float32)
        if is_split:
            n_parts = of_neurons(within.n_parts)
            sums = jax.random.binomial(key, n_parts, means / n_parts, shape, jnp.float32)
            # a probability that is not split gives the same synapses whether others may be
            blocks = jnp.where(n_parts > 1, sums, blocks)
    # NEST's example makes no connections of a neuron to itself. With some, clusters would stay
    # active for longer: these synapses are the strong ones within a cluster.
    blocks = jnp.where(jnp.eye(size, dtype=bool), 0, blocks.astype(jnp.float32))
    return Realisation(signs, cluster_signs, rows, blocks)


def _fixed_indegrees(uniform: Array, means: Array, sample: Sample) -> Array:
    """Return numbers of synapses of which each target has as many from each population.

    They are drawn without replacement, and those of a neuron to itself last; with more synapses
    than source neurons, each source makes the same number of them and some make one more.
    """
    blocks = []
    uniform = jnp.where(jnp.eye(sample.size, dtype=bool), 1, uniform)
    for first, stop in ((0, sample.n_E), (sample.n_E, sample.size)):
        size = stop - first
        mean = means[first:stop]
        place = jnp.argsort(jnp.argsort(uniform[:, first:stop], axis=1), axis=1)
        all_have = jnp.floor(mean)
        n_more = jnp.round((mean - all_have) * size)
        has_more = place.astype(n_more.dtype) < n_more
        blocks.append(all_have + has_more.astype(mean.dtype))
    return jnp.concatenate(blocks, axis=1)


def spike_input(
    spikes: Array, couplings: Couplings, realisation: Realisation, sample: Sample, rule: str
) -> Array:
    """Return the input (source, cluster, neuron) of all neurons from the spikes of one time step.

    spikes: (cluster, neuron) booleans
    rule: the rule of connections
    """
    dtype = couplings.mean.dtype
    population = sample.population
    fired = spikes.astype(dtype)
    # (source, cluster) numbers of spikes
    own = jnp.stack([fired[:, : sample.n_E].sum(-1), fired[:, sample.n_E :].sum(-1)])
    if rule == "fixed_indegree":
        # every neuron has the same number of inputs from a cluster: no noise by their mean
        share = own / np.array([[sample.n_E], [sample.n_I]], dtype)
        deviations = fired - share.T[:, population]
        transformed, within = _transform(deviations, fired, realisation, sample)
    else:
        transformed, within = _spike_transform(sample, dtype)(spikes, realisation)
    noise = jnp.take_along_axis(transformed, realisation.rows.astype(jnp.int32), -1)
    # (source, target neuron)
    mean, noise_factor, own_mean, own_factor = (matrix.T[:, population] for matrix in couplings)
    total = own.sum(-1, keepdims=True)
    others = total if sample.n_clusters == 1 else total - own
    result = mean[:, None] * others[..., None] + noise_factor[:, None] * noise
    if sample.n_clusters > 1:
        result = result + own_factor[:, None] * within + own_mean[:, None] * own[..., None]
    return result


def _transform(
    values: Array, fired: Array, realisation: Realisation, sample: Sample
) -> tuple[Array, Array]:
    """Return S (x) H D values for the sources E and I, and the synapses within clusters that fire.

    Returns:
        (source, cluster, row) and (source, cluster, target neuron).
    """
    dtype = values.dtype
    left, right = _matrices(sample, dtype)
    order = len(left) * len(right)
    signed = values * realisation.signs.astype(dtype)
    excitatory = jnp.asarray(sample.population == 0)
    sources = jnp.stack([jnp.where(excitatory, signed, 0), jnp.where(excitatory, 0, signed)])
    if sample.n_clusters > 1:
        sources = jnp.einsum("gh,shn->sgn", realisation.cluster_signs.astype(dtype), sources)
    padded = jnp.pad(sources, ((0, 0), (0, 0), (0, order - sample.size)))
    grid = padded.reshape(2, sample.n_clusters, len(left), len(right))
    transformed = jnp.einsum("ij,sgjk,lk->sgil", left, grid, right)
    within = jnp.zeros_like(values, shape=(2, 1, sample.size))
    if sample.n_clusters > 1:
        blocks = realisation.blocks.astype(dtype)
        parts = []
        for part in (slice(0, sample.n_E), slice(sample.n_E, sample.size)):
            parts.append(jnp.einsum("gn,gnm->gm", fired[:, part], blocks[:, part]))
        within = jnp.stack(parts)
    return transformed.reshape(2, sample.n_clusters, order), within


def _matrices(sample: Sample, dtype: np.dtype) -> tuple[Array, Array]:
    """Return the two factors of the Hadamard matrix H."""
    left, right = hadamard.factors(hadamard.smallest_order(sample.size))
    return jnp.asarray(left, dtype), jnp.asarray(right, dtype)


@functools.cache
def _spike_transform(
    sample: Sample, dtype: np.dtype
) -> Callable[[Array, Realisation], tuple[Array, Array]]:
    """Return `_transform` as a function of spikes, which adds few spikes of one network in turn.

    In most time steps few neurons fire, and then this takes a tenth of the time. In a batch the
    network with most spikes would make all others wait, and products of matrices are faster. All
    terms are whole numbers, so that both ways give the same digits.
    """

    def transform_all(spikes: Array, realisation: Realisation) -> tuple[Array, Array]:
        fired = spikes.astype(dtype)
        return _transform(fired, fired, realisation, sample)

    def add_in_turn(spikes: Array, realisation: Realisation) -> tuple[Array, Array]:
        left, right = _matrices(sample, dtype)

        # Spikes in rows of a grid: to find the next one, a row and a column are searched.
        width = math.isqrt(spikes.size) + 1
        grid = jnp.pad(spikes.reshape(-1), (0, width * width - spikes.size)).reshape(width, width)

        def add_spike(_: int, loop: _SpikeLoop) -> _SpikeLoop:
            grid, has_spikes, transformed, within = loop
            row = jnp.argmax(has_spikes)
            column = jnp.argmax(grid[row])
            rest = grid[row].at[column].set(False)
            grid = grid.at[row].set(rest)
            has_spikes = has_spikes.at[row].set(rest.any())
            cluster, neuron = jnp.divmod(row * width + column, sample.size)
            source = (neuron >= sample.n_E).astype(int)
            first, second = jnp.divmod(neuron, len(right))
            sign = realisation.signs[cluster, neuron].astype(dtype)
            entries = jnp.outer(sign * left[:, first], right[:, second]).reshape(-1)
            cluster_signs = realisation.cluster_signs[:, cluster].astype(dtype)
            transformed = transformed.at[source].add(jnp.outer(cluster_signs, entries))
            if sample.n_clusters > 1:
                block = realisation.blocks[cluster, neuron].astype(dtype)
                within = within.at[source, cluster].add(block)
            return grid, has_spikes, transformed, within

        shape = (2, sample.n_clusters)
        transformed = jnp.zeros_like(spikes, dtype, shape=(*shape, len(left) * len(right)))
        within = jnp.zeros_like(spikes, dtype, shape=(*shape, sample.size))
        loop = (grid, grid.any(1), transformed, within)
        return lax.fori_loop(0, spikes.sum(), add_spike, loop)[2:]

    @custom_vmap
    def transform(spikes: Array, realisation: Realisation) -> tuple[Array, Array]:
        return lax.cond(spikes.sum() > _FEW_SPIKES, transform_all, add_in_turn, spikes, realisation)

    @transform.def_vmap
    def _(
        axis_size: int, has_axis: tuple[bool, Realisation], spikes: Array, realisation: Realisation
    ) -> tuple[tuple[Array, Array], tuple[bool, bool]]:
        in_axes = jax.tree.map(lambda has: 0 if has else None, has_axis)
        batch = jax.vmap(transform_all, in_axes, axis_size=axis_size)
        return batch(spikes, realisation), (True, True)

    return transform
