"""How clustering divides the connections of a network: factors, and matrices over clusters."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from rbn_jax.network import NetworkParams
from rbn_jax.numerics.arrays import as_floats, formula, nan_unless
from rbn_jax.weights import calculate_RBN_weights


class ClusterFactors(NamedTuple):
    """Factors on weights and probabilities of connections, (..., 2, 2) each, rows are targets.

    A connection is within a cluster if E or I of one cluster projects to E or I of the same one.

    >>> factors = cluster_factors(NetworkParams(rep=3.0, rj=0.5, n_clusters=10))
    >>> print(factors.weight_within)
    [[3. 2.]
     [2. 2.]]
    """

    probability_within: Array
    probability_between: Array
    weight_within: Array
    weight_between: Array


class ClusterMatrices(NamedTuple):
    """Matrices (..., 2 Q, 2 Q) over the populations E_1, ..., E_Q, I_1, ..., I_Q of Q clusters.

    weights: [pA sqrt(N), mV sqrt(N) of delta synapses], as `calculate_RBN_weights` gives them
        without clusters
    probabilities: connection probabilities. One above 1 is a mean number of synapses

    >>> matrices = cluster_matrices(NetworkParams(n_clusters=5, rep=4.0))
    >>> print(matrices.weights.shape, matrices.probabilities.shape)
    (10, 10) (10, 10)
    """

    weights: Array
    probabilities: Array


@formula
def cluster_factors(params: NetworkParams) -> ClusterFactors:
    """Factors by which clustering changes probabilities and weights of connections.

    With r_EE = rep, r = 1 + (rep - 1) rj for EI, IE and II, and Q = n_clusters:

        plus = r        minus = (Q - r) / (Q - 1)        (plus + (Q - 1) minus) / Q = 1
        probability: plus^(1 - kappa) within a cluster, minus^(1 - kappa) between clusters
        weight: plus^kappa within a cluster, minus^kappa between clusters

    So the mean input of a neuron is the same for every rep and kappa. One cluster is no
    clustering: with Q = 1 all factors are 1.

    Args:
        params: a NetworkParams, whose numbers broadcast.

    Returns:
        (..., 2, 2) factors for [[EE, EI], [IE, II]]; NaN where r is below 0 or above Q, and where
        it is 0 or Q while 0 < kappa < 1, as the power has no derivative there.

    Source: Rostami et al. (2024), doi 10.1038/s41467-024-49889-4, and NEST's
    EI_clustered_network/network.py, for kappa of 0 and 1; for other kappa bioRxiv
    10.64898/2026.03.16.712138 and its code, schmitfe/EI-Clustering. NEST's example computes
    1 + (rep - 1) ** rj for clustered probabilities, which is an error: its authors' later code has
    the product.

    >>> factors = cluster_factors(NetworkParams(rep=4.0, n_clusters=10, rj=0.5))
    >>> print(factors.weight_within)
    [[4.  2.5]
     [2.5 2.5]]
    >>> import numpy as np
    >>> print(np.asarray(factors.weight_between, float).round(3), factors.probability_within[0, 0])
    [[0.667 0.833]
     [0.833 0.833]] 1.0
    """
    rep, rj, n_clusters, kappa = jnp.broadcast_arrays(
        *as_floats(params.rep, params.rj, params.n_clusters, params.kappa)
    )
    others = 1 + (rep - 1) * rj
    is_ee = jnp.array([[True, False], [False, False]])
    rep, others, n_clusters, kappa = (x[..., None, None] for x in (rep, others, n_clusters, kappa))
    has_clusters = n_clusters > 1
    plus = jnp.where(has_clusters, jnp.where(is_ee, rep, others), 1)
    # a divisor other than 0, so that derivatives are finite with one cluster
    n_other = jnp.where(has_clusters, n_clusters - 1, 1)
    minus = jnp.where(has_clusters, (n_clusters - plus) / n_other, 1)
    has_derivatives = (plus > 0) & (minus > 0) | (kappa == 0) | (kappa == 1)
    valid = (plus >= 0) & (minus >= 0) & (n_clusters >= 1) & has_derivatives
    plus, minus = nan_unless(valid, plus), nan_unless(valid, minus)
    kappa = nan_unless((kappa >= 0) & (kappa <= 1), kappa)
    return ClusterFactors(
        probability_within=plus ** (1 - kappa),
        probability_between=minus ** (1 - kappa),
        weight_within=plus**kappa,
        weight_between=minus**kappa,
    )


def cluster_matrices(params: NetworkParams) -> ClusterMatrices:
    """Weights and connection probabilities between all populations of clusters.

    The entry from cluster h of population y to cluster g of population x is the weight, or the
    probability, of the network without clusters, times the factor of `cluster_factors` within a
    cluster if g = h, and between clusters if not.

    Args:
        params: a network or a batch, all with one n_clusters.

    Raises:
        ValueError: as in `check`; n_clusters is an array of different numbers, or is traced: the
            shape of the result depends on it.

    >>> weights, probabilities = cluster_matrices(NetworkParams(n_clusters=2, rep=1.5))
    >>> print(np.asarray(weights, float).round(1))
    [[ 23.8   7.9 -43.  -18. ]
     [  7.9  23.8 -18.  -43. ]
     [ 17.8   7.5 -71.3 -29.9]
     [  7.5  17.8 -29.9 -71.3]]
    """
    if isinstance(params.n_clusters, Tracer):
        raise ValueError(
            "n_clusters is traced: must be one known number, as the shape of the matrices depends "
            "on it"
        )
    params.check()
    numbers = np.unique(np.asarray(params.n_clusters, float))
    if numbers.size > 1:
        raise ValueError(
            f"n_clusters has the values {numbers[0]:g} to {numbers[-1]:g}: must be the same in all "
            "networks, as the shape of the matrices depends on it"
        )
    n_clusters = int(numbers[0])
    factors = cluster_factors(params)
    weights, probabilities = as_floats(calculate_RBN_weights(params), params.baseline_conn_prob)
    return ClusterMatrices(
        _expand(weights, factors.weight_within, factors.weight_between, n_clusters),
        _expand(probabilities, factors.probability_within, factors.probability_between, n_clusters),
    )


def _expand(matrix: Array, within: Array, between: Array, n_clusters: int) -> Array:
    """Return (..., 2, 2) matrices as (..., 2 Q, 2 Q), with the factors for Q clusters."""
    # (..., target population, target cluster, source population, source cluster)
    same_cluster = jnp.eye(n_clusters, dtype=bool)[:, None, :]
    matrix, within, between = (x[..., :, None, :, None] for x in (matrix, within, between))
    blocks = matrix * jnp.where(same_cluster, within, between)
    return blocks.reshape(*blocks.shape[:-4], 2 * n_clusters, 2 * n_clusters)
