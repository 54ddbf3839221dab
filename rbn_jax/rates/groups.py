"""The populations of a network: E and I, or those of groups of clusters."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import Tracer
from numpy.typing import ArrayLike

from rbn_jax.clusters import cluster_factors
from rbn_jax.network import NetworkParams, Numbers
from rbn_jax.numerics.arrays import as_floats, broadcast_any_rank
from rbn_jax.numerics.synapses import capacitance, charge
from rbn_jax.rates.populations import Populations
from rbn_jax.weights import calculate_RBN_weights


@broadcast_any_rank
def clustered(params: NetworkParams, active: ArrayLike = 0) -> Populations:
    """Return the populations of a clustered network in which some clusters are active.

    All Q = n_clusters clusters have the same parameters, so clusters with the same rates are one
    group. A neuron of group g receives from a group h of n_h clusters two kinds of synapses, of
    probabilities p and weights w by `cluster_factors`: from its own cluster, which is one of the
    n_h if g = h, and from others. With S1 = sum K w, S2 = sum K w^2 and C = sum K p w^2 over both
    kinds, where K = p N_y / Q for each cluster,

        weights = S2 / S1        indegrees = S1^2 / S2        connection_prob = C / S2

    keep the mean, the noise, the noise that neurons do not share, and the spread of the input. A
    probability above 1 is that of ceil(p) synapses with probabilities of p / ceil(p), as in NEST's
    example. "pairwise_poisson" connections share no noise: their C is 0. "fixed_indegree" rounds
    the in-degree from each cluster down, and otherwise counts as independent connections.

    Args:
        params: a NetworkParams, whose numbers broadcast.
        active: 0 for the symmetric state, in which all clusters have the same rates: E and I. Or
            a number k or an array of them, 1..Q-1, for E and I of k clusters, and of the Q - k
            other ones, in the order E active, E inactive, I active, I inactive. Which of the two
            groups has the higher rates is found by the theory.

    Raises:
        ValueError: as in `check`; active is no number from 1 to Q - 1. Not under a trace.

    >>> from rbn_jax import firing_rates
    >>> print(firing_rates(clustered(NetworkParams(rep=3.0), active=2)).round(2))
    [2.28 2.28 2.75 2.75]
    """
    if not isinstance(active, Tracer):
        if isinstance(active, int | float | np.number) and active == 0:
            return group_populations(params, as_floats(params.n_clusters)[0][..., None])
        check_active(params, active)
    n_active, n_clusters = jnp.broadcast_arrays(*as_floats(jnp.asarray(active), params.n_clusters))
    return group_populations(params, jnp.stack([n_active, n_clusters - n_active], -1))


def check_active(params: NetworkParams, active: ArrayLike) -> None:
    """Raise a ValueError for a number of active clusters that is not from 1 to n_clusters - 1."""
    numbers = np.asarray(active)
    if numbers.dtype.kind not in "iuf":
        raise ValueError(f"active={active!r}: must be a number of clusters, or an array of them")
    if isinstance(params.n_clusters, Tracer):
        return
    numbers, n_clusters = np.broadcast_arrays(numbers, np.asarray(params.n_clusters))
    outside = ~((numbers >= 1) & (numbers <= n_clusters - 1))
    if outside.any():
        largest = n_clusters[outside][0] - 1
        allowed = f"from 1 to n_clusters - 1 = {largest:g}"
        if largest < 1:
            allowed = "nothing but 0, as there is one cluster"
        raise ValueError(f"active={numbers[outside][0]:g}: must be {allowed}")


def to_populations(params: NetworkParams | Populations) -> Populations:
    """Return populations as they are, and a network as E and I in the symmetric state."""
    return params if isinstance(params, Populations) else clustered(params)


def group_populations(params: NetworkParams, sizes: Array) -> Populations:
    """Return the populations of G groups of clusters: E of each group, then I of each group.

    With J an entry of `calculate_RBN_weights`, an exponential synapse has s J / sqrt(N) pA, and
    its weight here is s J tau_syn / (sqrt(N) C_m) mV. That of an alpha synapse is e times as
    large, by its charge. A delta synapse has the weight s J / sqrt(N) mV.

    The background current, I_th times the rheobase current, moves the free membrane potential to
    E_L + I_th (V_th - E_L); delta_I_x is the full width of its uniform distribution, relative to
    its mean: the standard deviation is delta_I_x |I_th (V_th - E_L)| / sqrt(12).

    sizes: (..., G) numbers of clusters, which need not be whole
    """
    n_groups = sizes.shape[-1]
    # the same for both populations
    common = as_floats(params.E_L, params.s, params.C_m, params.V_r, params.t_ref)
    e_l, s, c_m, v_r, t_ref = (array[..., None] for array in common)
    neurons = _stack_pair(params.N_E, params.N_I)
    tau_syn = _stack_pair(params.tau_syn_ex, params.tau_syn_in)
    v_th = _stack_pair(params.V_th_E, params.V_th_I)
    drive = _stack_pair(params.I_th_E, params.I_th_I) * (v_th - e_l)
    widths = _stack_pair(params.delta_I_xE, params.delta_I_xI)
    synapse = str(params.synapse)
    mv_per_charge = s / capacitance(synapse, c_m) / jnp.sqrt(neurons.sum(-1, keepdims=True))
    mv_per_js = mv_per_charge * charge(synapse, tau_syn)
    weights, indegrees, connection_prob = _group_connections(
        params, calculate_RBN_weights(params) * mv_per_js[..., None, :], neurons, sizes
    )

    def in_groups(pair: Array) -> Array:
        return jnp.repeat(pair, n_groups, -1) if n_groups > 1 else pair

    return Populations(
        weights=weights,
        indegrees=indegrees,
        connection_prob=connection_prob,
        tau_m=in_groups(_stack_pair(params.tau_E, params.tau_I)),
        tau_syn=in_groups(tau_syn),
        t_ref=t_ref,
        V_th=in_groups(v_th),
        V_r=v_r,
        mu_ext=in_groups(e_l + drive),
        spread_ext=in_groups(jnp.abs(drive) * widths / 12**0.5),
        fixed_indegree=params.connection_rule == "fixed_indegree",
        synapse=synapse,
    )


class _Synapses(NamedTuple):
    """Synapses of one kind, within clusters or between them, relative to those without clusters.

    number: factor on the number of synapses
    weight: factor on their weight
    shared: probability that a neuron shares a synapse's source with another neuron
    """

    number: Array
    weight: Array
    shared: Array


def _group_connections(
    params: NetworkParams, weights: Array, neurons: Array, sizes: Array
) -> tuple[Array, Array, Array]:
    """Return weights, in-degrees and probabilities (..., 2 G, 2 G) between groups of clusters.

    weights: (..., 2, 2) without clusters [mV]
    neurons: (..., 2) numbers of neurons of E and of I
    """
    probability, n_clusters = as_floats(params.baseline_conn_prob, params.n_clusters)
    n_clusters = n_clusters[..., None, None]
    sources = neurons[..., None, :]
    factors = cluster_factors(params)
    within, between = (
        _make_synapses(params, probability, probability_factor, weight_factor, sources / n_clusters)
        for probability_factor, weight_factor in (
            (factors.probability_within, factors.weight_within),
            (factors.probability_between, factors.weight_between),
        )
    )
    # axes: (..., target population, target group, source population, source group)
    weights = _add_group_axes(weights)
    indegrees = _add_group_axes(probability * sources)
    n_clusters = _add_group_axes(n_clusters)
    within = _Synapses(*map(_add_group_axes, within))
    between = _Synapses(*map(_add_group_axes, between))
    # the own cluster is one of those of its group
    n_own = jnp.eye(sizes.shape[-1], dtype=sizes.dtype)[:, None, :]
    n_other = sizes[..., None, None, None, :] - n_own
    mean = square = shared = jnp.zeros_like(weights)
    for n_kind, kind in ((n_own, within), (n_other, between)):
        mean = mean + n_kind * kind.number * kind.weight
        square = square + n_kind * kind.number * kind.weight**2
        shared = shared + n_kind * kind.number * kind.weight**2 * kind.shared
    # Synapses of one kind have its weight and probability. They may be 0, and 0 / 0 is NaN.
    has_own = n_own > 0
    mean_or_1 = jnp.where(mean > 0, mean, 1)
    square_or_1 = jnp.where(square > 0, square, 1)
    weight = jnp.where(has_own, square / mean_or_1, between.weight)
    number = jnp.where(has_own, mean * (mean / square_or_1), n_other * between.number)
    # rounding may leave more than 1
    probability = jnp.minimum(jnp.where(has_own, shared / square_or_1, between.shared), 1)

    def merge(array: Array) -> Array:
        n_populations = 2 * sizes.shape[-1]
        return array.reshape(*array.shape[:-4], n_populations, n_populations)

    return merge(weights * weight), merge(indegrees * number / n_clusters), merge(probability)


def _make_synapses(
    params: NetworkParams,
    probability: Array,
    probability_factor: Array,
    weight_factor: Array,
    sources: Array,
) -> _Synapses:
    """Return synapses of one kind from the factors (..., 2, 2) of `cluster_factors`.

    probability: (..., 2, 2) without clusters
    sources: (..., 1, 2) neurons of each population in one cluster
    """
    clustered_probability = probability * probability_factor
    if params.connection_rule == "pairwise_poisson":
        nothing_shared = jnp.zeros_like(clustered_probability)
        return _Synapses(probability_factor, weight_factor, nothing_shared)
    # constants between two whole numbers, without derivatives
    n_split = jnp.maximum(jnp.ceil(lax.stop_gradient(clustered_probability)), 1)
    shared = clustered_probability / n_split
    if params.connection_rule == "fixed_indegree":
        probability_factor = probability_factor * _rounding_down(shared * sources)
    return _Synapses(probability_factor, weight_factor, shared)


def _rounding_down(numbers: Array) -> Array:
    """Return the factors by which rounding down changes numbers, without derivatives."""
    numbers = lax.stop_gradient(numbers)
    # rounding errors may leave a whole number slightly too small
    whole = jnp.floor(numbers * (1 + 8 * jnp.finfo(numbers.dtype).eps))
    return whole / jnp.where(numbers > 0, numbers, 1)


def _add_group_axes(array: Array) -> Array:
    """Return (..., 2, 2) as (..., 2, 1, 2, 1)."""
    return array[..., :, None, :, None]


def _stack_pair(excitatory: Numbers, inhibitory: Numbers) -> Array:
    """Return the values of the E and of the I population along a new last axis."""
    return jnp.stack(jnp.broadcast_arrays(*as_floats(excitatory, inhibitory)), -1)
