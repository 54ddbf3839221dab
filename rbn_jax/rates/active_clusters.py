"""States of clustered networks: which clusters are active, and where they begin to be."""

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import Tracer
from numpy.typing import ArrayLike

from rbn_jax.network import NetworkParams
from rbn_jax.numerics.arrays import as_floats, broadcast_any_rank, in_single_precision, nan_unless
from rbn_jax.numerics.newton import Comparison, lowest_stable_root
from rbn_jax.numerics.single_search import SingleSystem
from rbn_jax.parameters import checks, domains
from rbn_jax.parameters.access import as_array
from rbn_jax.parameters.labels import label, labelled_field
from rbn_jax.rates.cluster_modes import (
    OwnCluster,
    cluster_couplings,
    gain_of_jacobian,
    gain_of_jacobians,
    own_cluster,
    relaxation_jacobian,
    single_cluster_couplings,
    single_mode_jacobian,
)
from rbn_jax.rates.couplings import Couplings, make_couplings
from rbn_jax.rates.equations import (
    find_single_state,
    find_state,
    nan_outside_theory,
    rates_at,
    residual,
    start_unknowns,
)
from rbn_jax.rates.groups import check_active, clustered
from rbn_jax.rates.stationary import (
    check_network,
    cluster_gain,
    in_float64,
    on_each_device,
    read_networks,
)
from rbn_jax.rates.theories import MeanFieldTheory, Theory

# Rates [spikes/s] of E active, E inactive, I active and I inactive from which states are searched:
# near saturation, with clusters in E only, and just above the transition
_START_RATES = np.array(
    [
        (100.0, 0.3, 80.0, 3.0), (30.0, 1.0, 30.0, 2.5), (150.0, 0.3, 7.0, 8.0),
        (12.0, 1.5, 10.0, 2.5), (180.0, 1e-3, 160.0, 1.0), (50.0, 1e-3, 40.0, 0.5),
        (6.0, 1.8, 6.0, 2.8), (4.0, 1.0, 5.0, 2.0), (3.3, 2.0, 3.8, 2.9),
    ]
)  # fmt: skip
# All starts are searched from where E has less than 20 spikes/s in active clusters: near the
# transition other states are near, some of them with lower rates in the active clusters.
_COMPARISON = Comparison(always=2, ambiguous=9, high=-math.log(20.0), near=0.0)
# active and inactive clusters are one state if ln of the rates of E differs by less
_SAME_RATES = 0.01
# the squared CV of interspike intervals, of the networks in NEST that were compared
_SQUARED_CV = 0.75
# above this gain, fluctuations of cluster rates are larger than linear noise
_LARGEST_LINEAR_GAIN = 0.6
# Values of rep in each round of the search for a critical one. Four rounds divide the range of
# ln rep by 16^4, and interpolation leaves a relative error of about 1e-10.
_VALUES_PER_ROUND = 16
_ROUNDS = 4


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ClusterState:
    """The state of networks in which some clusters are active; arrays are (...) or (..., 2).

    rates_active, rates_inactive: (..., 2) rates of E and I in active and in other clusters
        [spikes/s], NaN where no such state was found
    converged: (...) whether a state was found
    stable: (...) whether it is stable to all changes of the rates of clusters: gain < 1
    gain: (...) the largest real part of the eigenvalues of d(rates of neurons)/d(rates that cause
        their input), in ln of the rates, over all modes of all clusters

    >>> state = cluster_state(NetworkParams(rep=8.0), active=2)
    >>> print(state.rates_inactive.round(1), np.asarray(state.gain, float).round(2))
    [0.7 1.5] 0.84
    """

    rates_active: Array = labelled_field("spikes/s", "firing rate of active clusters", "population")
    rates_inactive: Array = labelled_field(
        "spikes/s", "firing rate of inactive clusters", "population"
    )
    converged: Array = labelled_field("", "a state was found")
    stable: Array = labelled_field("", "the state is stable")
    gain: Array = labelled_field("", "gain of the state")


@label()
@broadcast_any_rank
@in_single_precision
def cluster_state(
    params: NetworkParams, active: ArrayLike = 1, theory: Theory | MeanFieldTheory = "quenched"
) -> ClusterState:
    """Return the state in which some clusters are active, at higher rates than the others.

    The populations are those of `clustered(params, active)`. Of the states with a higher rate of
    E in active clusters that a search from 9 starts finds, it is a stable one, and of those the
    one with the highest rate. Stable in the search means stable to changes that leave the rates
    in active clusters equal, and those in others; `stable` and `gain` are about all changes.

    Args:
        params: a NetworkParams, whose numbers broadcast with each other and with `active`.
        active: number of active clusters, 1..n_clusters - 1. It need not be whole.
        theory: as in `mean_field`. The table of "exact" ends below the rates of active clusters
            in most networks: they are NaN then.

    Raises:
        TypeError: a complex number.
        ValueError: as in `mean_field`; an active that is not from 1 to n_clusters - 1.

    Source: Rostami et al. (2024), doi 10.1038/s41467-024-49889-4, for states of active clusters;
    docs/clusters.md compares their rates with NEST.

    >>> state = cluster_state(NetworkParams(rep=8.0), active=2)
    >>> print(state.rates_active.round(0), state.stable)
    [25. 27.] True
    """
    networks = read_networks(check_network(params), theory)
    if not isinstance(active, Tracer):
        check_active(params, active)
    n_active = as_array(active)
    if networks.is_single and np.ndim(n_active) == 0 and not isinstance(n_active, Tracer):
        return _single_state(networks.params, float(n_active), networks.theory, networks.dtype)
    return _states(networks.params, jnp.asarray(n_active, networks.dtype), networks.theory)


def _active_starts(theory: MeanFieldTheory) -> tuple[tuple[float, ...], ...]:
    """Return starts of the mirrored unknowns of `_mirrored_residual`."""
    starts = np.array(start_unknowns(np.log(_START_RATES), theory))
    return tuple(map(tuple, (starts * _mirror(starts.shape[1])).tolist()))


def _mirror(m: int) -> np.ndarray:
    """Return -1 for the first of m unknowns, and 1 for the others."""
    return np.where(np.arange(m) == 0, -1.0, 1.0)


def _mirrored_residual(mirrored: Array, couplings: Couplings) -> Array:
    """Return the residual with the opposite sign of the first unknown, and of its residual.

    The search for the lowest stable root so finds that of the highest rate of E in active
    clusters. Which roots are stable does not change.
    """
    mirror = jnp.asarray(_mirror(len(mirrored)), mirrored.dtype)[:, None]
    return mirror * residual(mirror * mirrored, couplings)


def _has_active_clusters(unknowns: Array | np.ndarray) -> Array | np.ndarray:
    """Return whether E has a higher rate in active clusters; the first unknowns are ln of rates."""
    return unknowns[0] - unknowns[1] > _SAME_RATES


@functools.partial(jax.jit, static_argnums=2)
def _states(params: NetworkParams, n_active: Array, theory: MeanFieldTheory) -> ClusterState:
    def compute(params: NetworkParams) -> ClusterState:
        n_clusters = as_floats(params.n_clusters)[0]
        couplings, batch = make_couplings(clustered(params, n_active), theory)
        starts = _active_starts(theory)
        batch_ndim = max(len(batch), 1)
        mirrored, _, _ = lowest_stable_root(
            _mirrored_residual, starts, _COMPARISON, couplings, batch_ndim
        )
        mirror = jnp.asarray(_mirror(len(mirrored)), mirrored.dtype)
        unknowns = mirror.reshape(-1, *[1] * batch_ndim) * mirrored
        unknowns = nan_outside_theory(unknowns, couplings)
        unknowns = jnp.where(_has_active_clusters(unknowns), unknowns, jnp.nan)
        own = own_cluster(params, theory)
        gain = gain_of_jacobians(relaxation_jacobian(couplings, unknowns))
        group_sizes = (n_active, n_clusters - n_active)
        for group, size in enumerate(group_sizes):
            cluster = cluster_couplings(own, couplings, unknowns, group)
            mode = relaxation_jacobian(cluster, unknowns[group::2])
            # one cluster has no other one of its group to differ from
            gain = jnp.where(size > 1, jnp.maximum(gain, gain_of_jacobians(mode)), gain)
        rates, _ = rates_at(unknowns, 4)
        return _make_state(rates.reshape(4, *batch), gain.reshape(batch))

    return on_each_device(compute, params)


def _make_state(rates: Array, gain: Array) -> ClusterState:
    """Return the state with rates (4, ...) in the order of the unknowns."""
    pairs = jnp.moveaxis(rates, 0, -1)
    converged = jnp.isfinite(gain)
    return ClusterState(
        rates_active=pairs[..., ::2],
        rates_inactive=pairs[..., 1::2],
        converged=converged,
        stable=converged & (gain < 1),
        gain=gain,
    )


def _single_state(
    params: NetworkParams, n_active: float, theory: MeanFieldTheory, dtype: np.dtype
) -> ClusterState:
    """Return what `_states` does, for one network in float64. Much less is compiled."""
    # steps of the search may lead where the residual is NaN
    with jax.enable_x64(True), jax.debug_nans(False):
        network = in_float64(params)
        couplings, own = _single_active_couplings(network, n_active, theory)
        system = SingleSystem(_mirrored_residual, couplings)
        mirrored, _, _ = system.lowest_stable_root(_active_starts(theory), _COMPARISON)
        unknowns = _mirror(len(mirrored)) * mirrored
        unknowns = nan_outside_theory(jnp.asarray(unknowns)[:, None], couplings)
        unknowns = np.asarray(unknowns)[:, 0]
        rates = np.full(4, np.nan)
        gain = np.nan
        if _has_active_clusters(unknowns):
            rates = np.exp(unknowns[:4])
            mirror = _mirror(len(mirrored))
            jacobian = mirror[:, None] * system.jacobian_at(mirror * unknowns) * mirror
            gain = gain_of_jacobian(jacobian)
            for group, size in enumerate((n_active, float(network.n_clusters) - n_active)):
                if size > 1:
                    mode = single_mode_jacobian(own, couplings, unknowns, group)
                    gain = max(gain, gain_of_jacobian(mode))
    # NaN says that there is no such state
    with jax.debug_nans(False):
        return _make_state(jnp.asarray(rates, dtype), jnp.asarray(gain, dtype))


@functools.partial(jax.jit, static_argnums=2)
def _single_active_couplings(
    params: NetworkParams, n_active: float, theory: MeanFieldTheory
) -> tuple[Couplings, OwnCluster]:
    couplings, _ = make_couplings(clustered(params, n_active), theory)
    return couplings, own_cluster(params, theory)


@label(long_name="critical rep")
@broadcast_any_rank
@in_single_precision
def critical_rep(params: NetworkParams, theory: Theory | MeanFieldTheory = "quenched") -> Array:
    """Return the rep from which on clusters become active: the least with a cluster gain of 1.

    The gain is computed for 16 values of rep up to the largest one that the network can have, with
    equal distances of ln rep. The interval in which it first reaches 1 is divided in the same way,
    and so on, four times in all. A gain above 1 only within one of the first intervals is missed.
    Derivatives follow from the implicit function theorem, to first order.

    Args:
        params: a NetworkParams, whose numbers broadcast; its rep has no effect.
        theory: as in `mean_field`. By "shift" most networks have no transition.

    Returns:
        The critical rep (...), NaN where the gain is below 1 up to the largest rep, which is
        n_clusters, and with rj > 1 that where 1 + (rep - 1) rj is n_clusters.

    Raises:
        TypeError: a complex number.
        ValueError: as in `mean_field`.

    Source: Rostami et al. (2024), doi 10.1038/s41467-024-49889-4, Fig. 2d, shows the transition
    in NEST; docs/clusters.md compares it with this function.

    >>> print(np.asarray(critical_rep(NetworkParams()), float).round(3))
    5.668
    """
    # rep is not checked, as it has no effect
    networks = read_networks(check_network(params).replace(rep=1.0), theory)
    if networks.is_single:
        return _critical_rep_of_single(networks.params, networks.theory, networks.dtype)
    return _critical_rep(networks.params, networks.theory)


def largest_rep(params: NetworkParams) -> Array:
    """Return slightly less than the largest rep at which no factor is above n_clusters.

    At the end itself there is no state where 0 < kappa < 1.
    """
    n_clusters, rj = as_floats(params.n_clusters, params.rj)
    return 1 + (1 - 1e-5) * (n_clusters - 1) / jnp.maximum(rj, 1)


def _critical_rep_of_single(
    params: NetworkParams, theory: MeanFieldTheory, dtype: np.dtype
) -> Array:
    low, high = 1.0, float(largest_rep(in_float64(params)))
    gain_low = gain_high = 0.0
    with jax.enable_x64(True):
        network = in_float64(params)
        for _ in range(_ROUNDS):
            shares = np.arange(1, _VALUES_PER_ROUND + 1) / _VALUES_PER_ROUND
            for rep in low * (high / low) ** shares:
                gain = float(cluster_gain(network.replace(rep=rep), theory))
                if gain >= 1:
                    high, gain_high = rep, gain
                    break
                low, gain_low = rep, gain
            else:
                with jax.debug_nans(False):
                    return jnp.asarray(np.nan, dtype)
    return jnp.asarray(low + (high - low) * _crossing(gain_low, gain_high), dtype)


def _crossing(gain_low: float | Array, gain_high: float | Array) -> Array:
    """Return the share of an interval at which the gain is 1; its middle where a gain is NaN."""
    share = (1 - gain_low) / (gain_high - gain_low)
    return jnp.where(jnp.isfinite(share), share, 0.5)


@functools.partial(jax.jit, static_argnums=1)
def _critical_rep(params: NetworkParams, theory: MeanFieldTheory) -> Array:
    return on_each_device(functools.partial(_critical_rep_of_arrays, theory=theory), params)


class _Bracket(NamedTuple):
    """Values of rep between which the gain reaches 1, and the gains there."""

    low: Array
    high: Array
    gain_low: Array
    gain_high: Array


def _critical_rep_of_arrays(params: NetworkParams, theory: MeanFieldTheory) -> Array:
    def gain_at(rep: Array) -> Array:
        return cluster_gain(params.replace(rep=rep), theory)

    def narrow(bracket: _Bracket, _: None) -> tuple[_Bracket, None]:
        return _narrow(bracket, constants, theory), None

    constants = lax.stop_gradient(params)
    high = largest_rep(constants)
    # with the shape and the dtype of the batch
    zeros = jnp.zeros_like(high, shape=jax.eval_shape(gain_at, high).shape)
    bracket = _Bracket(zeros + 1, zeros + high, zeros, zeros)
    bracket, _ = lax.scan(narrow, bracket, None, _ROUNDS)
    width = bracket.high - bracket.low
    rep = bracket.low + width * _crossing(bracket.gain_low, bracket.gain_high)
    # One Newton step makes the value exact, and has the derivatives of the implicit function: rep
    # itself is a constant in it.
    gain, slope = jax.jvp(gain_at, (rep,), (jnp.ones_like(rep),))
    return rep - (gain - 1) / lax.stop_gradient(slope)


def _narrow(bracket: _Bracket, params: NetworkParams, theory: MeanFieldTheory) -> _Bracket:
    """Return a part of the bracket, which is NaN where the gain stays below 1."""
    low, high, gain_low, _ = bracket
    shares = jnp.arange(1, _VALUES_PER_ROUND + 1, dtype=low.dtype) / _VALUES_PER_ROUND
    reps = low * (high / low) ** jnp.expand_dims(shares, range(1, low.ndim + 1))
    gains = cluster_gain(params.replace(rep=reps), theory)
    reps = jnp.concatenate([low[None], reps])
    gains = jnp.concatenate([gain_low[None], gains])
    is_above = gains >= 1  # False for the NaN of a network without a state
    index_high = jnp.argmax(is_above, 0)[None]
    index_low = jnp.maximum(index_high - 1, 0)
    narrowed = []
    for array, index in (
        (reps, index_low), (reps, index_high), (gains, index_low), (gains, index_high)
    ):  # fmt: skip
        value = jnp.take_along_axis(array, index, 0)[0]
        narrowed.append(jnp.where(is_above.any(0), value, jnp.nan))
    return _Bracket(*narrowed)


@label(long_name="CV of cluster rates")
@broadcast_any_rank
@in_single_precision
def cluster_rate_cv(
    params: NetworkParams,
    window: ArrayLike = 250.0,
    theory: Theory | MeanFieldTheory = "quenched",
) -> Array:
    """Return the coefficient of variation of the rates of E in single clusters, in time windows.

    Spikes of the N_c = N / n_clusters neurons of a cluster are counted in windows of T ms. Noise
    of their number, of the relative variance CV^2 / (N_c nu T) for each population, is enhanced by
    the cluster's own connections: with D of `cluster_gain`, changes of ln of the rates are
    (1 - D)^-1 times the noise, and the variance of E is

        sum_j [(1 - D)^-1]_Ej^2 CV^2 / (N_c,j nu_j T),        j = E, I

    where CV^2 = 0.75 is that of interspike intervals. It holds for windows that are much longer
    than the time constants of membranes and synapses.

    Args:
        params: a NetworkParams, whose numbers broadcast with each other and with the window.
        window: length of the windows [ms], > 0.
        theory: as in `mean_field`.

    Returns:
        The coefficient of variation (...), NaN where the gain is above 0.6: the noise is not small
        then. For windows of 250 ms it was 2 % below to 27 % above that of NEST in four networks
        with gains up to 0.52, and 53 % above in one with a gain of 0.56.

    Raises:
        TypeError: a complex number.
        ValueError: as in `mean_field`.

    Source: linear response of fluctuations, as in Lindner, Doiron & Longtin (2005), doi
    10.1103/PhysRevE.72.061919, without the dependence on frequency.

    >>> cv = cluster_rate_cv(NetworkParams(rep=np.array([1.0, 3.0, 6.0])))
    >>> print(np.asarray(cv, float).round(3))
    [0.081 0.362   nan]
    """
    networks = read_networks(check_network(params), theory)
    if not isinstance(window, Tracer):
        checks.raise_if_any(
            [checks.check_domain("window", window, domains.POSITIVE, "ms")], "Correct the window."
        )
    if networks.is_single and np.ndim(window) == 0 and not isinstance(window, Tracer):
        with jax.enable_x64(True), jax.debug_nans(False):
            network = in_float64(networks.params)
            couplings, own = single_cluster_couplings(network, networks.theory)
            root, _, _ = find_single_state(couplings)
            unknowns = nan_outside_theory(jnp.asarray(root)[:, None], couplings)
            jacobian = single_mode_jacobian(own, couplings, np.asarray(unknowns)[:, 0])
            jacobian = jnp.asarray(jacobian)[..., None]
            cv = _linear_noise_cv(network, jacobian, unknowns, jnp.asarray(window))
            return cv[0].astype(networks.dtype)
    return _rate_cv(networks.params, jnp.asarray(window, networks.dtype), networks.theory)


@functools.partial(jax.jit, static_argnums=2)
def _rate_cv(params: NetworkParams, window: Array, theory: MeanFieldTheory) -> Array:
    def compute(params: NetworkParams) -> Array:
        couplings, batch = make_couplings(params, theory)
        own = own_cluster(params, theory)
        root, _, _ = find_state(couplings)
        unknowns = nan_outside_theory(root, couplings)
        cluster = cluster_couplings(own, couplings, unknowns)
        jacobian = relaxation_jacobian(cluster, unknowns)
        cv = _linear_noise_cv(params, jacobian, unknowns, window)
        return cv if batch else cv.reshape(np.shape(window))

    return on_each_device(compute, params)


def _linear_noise_cv(
    params: NetworkParams, jacobian: Array, unknowns: Array, window: Array
) -> Array:
    """Return the result of `cluster_rate_cv` from the Jacobian D - 1 (m, m, *batch) of the mode."""
    # noise is that of the rates; second moments of the rates have none of their own
    n_e, n_i, n_clusters, window = as_floats(params.N_E, params.N_I, params.n_clusters, window)
    rates_per_ms = jnp.exp(unknowns[:2]) / 1000
    responses = jnp.linalg.inv(jnp.moveaxis(jacobian, (0, 1), (-2, -1)))[..., 0, :2]
    variance = 0.0
    for i, neurons in enumerate((n_e, n_i)):
        count = neurons / n_clusters * rates_per_ms[i] * window
        variance = variance + jnp.square(responses[..., i]) * _SQUARED_CV / count
    gain = gain_of_jacobians(jacobian)
    return nan_unless(gain <= _LARGEST_LINEAR_GAIN, jnp.sqrt(variance))
