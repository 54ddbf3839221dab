"""Modes in which the rates of clusters of a group change, and become different."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rbn_jax.network import NetworkParams
from rbn_jax.numerics.newton import linearised, map_batch
from rbn_jax.numerics.single_search import SingleSystem
from rbn_jax.numerics.stability import largest_real_part
from rbn_jax.rates.couplings import Couplings, make_couplings, single_couplings
from rbn_jax.rates.equations import moments_at, residual
from rbn_jax.rates.groups import group_populations
from rbn_jax.rates.theories import MeanFieldTheory


class OwnCluster(NamedTuple):
    """By how much more a cluster acts on itself than on another cluster, as in `Couplings`.

    linear: (3, 2, 2, networks) factors of the rates in the mean and in two parts of sigma^2
    quadratic: (2, 2, networks) factors of their second moments in spread^2
    """

    linear: Array
    quadratic: Array


def own_cluster(params: NetworkParams, theory: MeanFieldTheory) -> OwnCluster:
    """Return the couplings within a cluster less those between two clusters."""
    # two single clusters, whose populations are E_1, E_2, I_1, I_2
    pair, _ = make_couplings(group_populations(params, jnp.ones(2)), theory)
    return OwnCluster(
        linear=pair.linear[:, ::2, ::2] - pair.linear[:, ::2, 1::2],
        quadratic=pair.quadratic[::2, ::2] - pair.quadratic[::2, 1::2],
    )


def cluster_couplings(
    own: OwnCluster, couplings: Couplings, unknowns: Array, group: int = 0
) -> Couplings:
    """Return the couplings of E and I of one cluster in a mode of its group.

    In a mode, the rates of the clusters of a group change, and the sum of the changes is 0. What a
    cluster receives from the other clusters thus changes as if the cluster sent it to itself, with
    the opposite sign. So the changes have the couplings `own`, and the rest of the input in the
    state is external. The result does not depend on the number of clusters in the group.

    Args:
        own: of the networks.
        couplings: of E and I of all groups of clusters, in the order of `group_populations`.
        unknowns: (m, *batch) the state, as in `equations`.
        group: which group of clusters.
    """
    n_groups = len(couplings.tau_m) // 2
    members = slice(group, None, n_groups)
    rates, variance = moments_at(unknowns, len(couplings.tau_m))
    state_input = (couplings.inputs(rates, variance) + couplings.external)[:, members]
    cluster = Couplings(
        tau_m=couplings.tau_m[members],
        t_ref=couplings.t_ref[members],
        v_th=couplings.v_th[members],
        gap=couplings.gap[members],
        linear=own.linear,
        quadratic=own.quadratic,
        external=state_input,
        fixed_indegree=couplings.fixed_indegree,
        theory=couplings.theory,
    )
    own_input = cluster.inputs(rates[members], variance[members])
    return dataclasses.replace(cluster, external=state_input - own_input)


def relaxation_jacobian(couplings: Couplings, unknowns: Array) -> Array:
    """Return the Jacobian (m, m, *batch) of the relaxation to a state.

    couplings: of all populations; or of E and I of one cluster, for the mode of this cluster
    unknowns: (m, *batch) of these populations in the state
    """

    def jacobian(unknowns: Array, couplings: Couplings) -> Array:
        return linearised(residual, unknowns, couplings)[1]

    # linearised gives (m, m, systems): vmap over further axes keeps those in front of the systems
    return map_batch(jacobian, unknowns.ndim - 1)(unknowns, couplings)


@functools.partial(jax.jit, static_argnums=1)
def single_cluster_couplings(
    params: NetworkParams, theory: MeanFieldTheory
) -> tuple[Couplings, OwnCluster]:
    """Return the couplings of one network in the symmetric state, and those of a cluster.

    One program computes both: to compile two takes longer.

    Raises:
        ValueError: there is more than one network.
    """
    return single_couplings(params, theory), own_cluster(params, theory)


_compiled_cluster_couplings = jax.jit(cluster_couplings, static_argnames="group")


def single_mode_jacobian(
    own: OwnCluster, couplings: Couplings, unknowns: np.ndarray, group: int = 0
) -> np.ndarray:
    """Return the Jacobian (m, m) of the mode of a group in one network, in float64.

    Much less is compiled for it than for `relaxation_jacobian`. It is NaN where there is no state.
    """
    cluster = _compiled_cluster_couplings(own, couplings, unknowns[:, None], group)
    n_groups = len(couplings.tau_m) // 2
    return SingleSystem(residual, cluster).jacobian_at(unknowns[group::n_groups])


def single_cluster_gain(own: OwnCluster, couplings: Couplings, unknowns: np.ndarray) -> float:
    """Return what `cluster_gain_at` does for one network in float64. Much less is compiled."""
    return gain_of_jacobian(single_mode_jacobian(own, couplings, unknowns))


def gain_of_jacobian(jacobian: np.ndarray) -> float:
    """Return what `gain_of_jacobians` does for one Jacobian (m, m) in NumPy."""
    if not np.isfinite(jacobian).all():
        return np.nan
    return float(np.linalg.eigvals(jacobian + np.eye(len(jacobian))).real.max())


def gain_of_jacobians(jacobians: Array) -> Array:
    """Return the gain (*batch) of each relaxation from its Jacobian (m, m, *batch).

    The Jacobian is D - 1, and the gain is the largest real part of the eigenvalues of D. It is not
    computed as 1 plus that of D - 1: where D is small, as in silent networks, all eigenvalues of
    D - 1 are nearly equal, and roots of their polynomial have a quarter of the digits.
    """
    ones = jnp.eye(len(jacobians), dtype=jacobians.dtype)
    return largest_real_part(jacobians + ones.reshape(*ones.shape, *[1] * (jacobians.ndim - 2)))


def cluster_gain_at(own: OwnCluster, couplings: Couplings, unknowns: Array) -> Array:
    """Return the cluster gain (*batch) in the symmetric state; see `cluster_gain`."""
    cluster = cluster_couplings(own, couplings, unknowns)
    return gain_of_jacobians(relaxation_jacobian(cluster, unknowns))
