"""States of clustered networks as datasets of xarray."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np
from numpy.typing import ArrayLike

from rbn_jax.network import NUMBER_FIELDS, NetworkParams
from rbn_jax.parameters.optional import require
from rbn_jax.rates.active_clusters import ClusterState, cluster_state, critical_rep
from rbn_jax.rates.stationary import check_network, mean_field, read_networks
from rbn_jax.rates.theories import MeanFieldTheory, Theory

if TYPE_CHECKING:
    import xarray

_SINGLE_NUMBERS = [name for name, field in NUMBER_FIELDS.items() if not field.ndim]


def cluster_states(
    params: NetworkParams,
    active: Sequence[int] = range(1, 8),
    theory: Theory | MeanFieldTheory = "quenched",
) -> "xarray.Dataset":
    """Return the states of one network for several numbers of active clusters.

    Needs xarray, of the extra "sweep". `cluster_state` gives them as arrays, for a batch of
    networks and under JAX's transformations.

    Args:
        params: one network, or a batch whose axes come before the axis `active`.
        active: numbers of active clusters, 1..n_clusters - 1.
        theory: as in `cluster_state`.

    Returns:
        The fields of `ClusterState` as variables along the dimension `active`.

    Raises:
        ImportError: xarray is missing.
        TypeError, ValueError: as in `cluster_state`; no number of clusters.

    >>> states = cluster_states(NetworkParams(rep=8.0), active=(1, 2, 3))
    >>> print(states.stable.values, states.rates_active.sel(population="E").values.round(0))
    [ True  True  True] [31. 25. 19.]
    """
    xarray = require("xarray", "sweep")
    numbers = np.atleast_1d(np.asarray(active))
    if not numbers.size:
        raise ValueError(f"active={active!r}: must hold a number of clusters")
    networks = read_networks(params, theory)
    if networks.is_single:
        single_states = [cluster_state(params, float(number), theory) for number in numbers]
        state = jax.tree.map(lambda *leaves: np.stack(leaves), *single_states)
    else:
        # the axis of `active` is the last one of the batch
        axes = {name: np.asarray(getattr(params, name))[..., None] for name in _SINGLE_NUMBERS}
        matrix = np.asarray(params.baseline_conn_prob)[..., None, :, :]
        state = cluster_state(params.replace(baseline_conn_prob=matrix, **axes), numbers, theory)
    dims = [f"network_dim_{i}" for i in range(state.converged.ndim - 1)] + ["active"]
    variables = {}
    for field in dataclasses.fields(ClusterState):
        field_dims = [*dims, "population"] if field.metadata["last_dimension"] else dims
        attributes = {"units": field.metadata["unit"], "long_name": field.metadata["long_name"]}
        variables[field.name] = (field_dims, np.asarray(getattr(state, field.name)), attributes)
    coords = {
        "active": ("active", numbers, {"units": "", "long_name": "number of active clusters"}),
        "population": ["E", "I"],
    }
    return xarray.Dataset(variables, coords)


def cluster_branches(
    params: NetworkParams,
    rep: ArrayLike,
    active: Sequence[int] = range(1, 8),
    theory: Theory | MeanFieldTheory = "quenched",
) -> "xarray.Dataset":
    """Return the states of one network over rep, as `plot.plot_cluster_states` draws them.

    Each state is computed by itself, since a batch would compile longer than this takes.

    Args:
        params: one network; its rep has no effect.
        rep: values of rep along one axis, in any order.
        active: numbers of active clusters, 1..n_clusters - 1.
        theory: as in `mean_field`.

    Returns:
        The variables of `cluster_states` along the dimensions (rep, active); along rep the rates
        of the state in which all clusters have the same rates, `rates_symmetric`, and the cluster
        gain, `gain_symmetric`; and the number `critical_rep`. NaN where there is no such state.

    Raises:
        ImportError: xarray is missing, of the extra "sweep".
        TypeError: a complex number.
        ValueError: a batch of networks; a rep, active or theory as in `cluster_states`.

    >>> branches = cluster_branches(NetworkParams(), rep=[5.0, 7.0], active=(1, 2))
    >>> print(branches.rates_active.sel(population="E").values.round(0))
    [[nan nan]
     [23. 18.]]
    >>> print(branches.gain_symmetric.values.round(2), branches.critical_rep.values.round(2))
    [0.89 1.17] 5.67
    """
    xarray = require("xarray", "sweep")
    check_network(params)
    reps = np.asarray(rep)
    if reps.ndim != 1 or not reps.size:
        raise ValueError(f"rep has the shape {reps.shape}: must be values along one axis")
    numbers = np.asarray(active)
    if numbers.ndim != 1 or not numbers.size:
        raise ValueError(f"active={active!r}: must be at least one number of clusters")
    # before minutes of computation; the value in `params` has no effect, and may be invalid
    params.replace(rep=reps).check()
    critical = critical_rep(params, theory)
    if np.ndim(critical):
        raise ValueError(f"params has the shape {np.shape(critical)}: must be one network")
    datasets = []
    for value in reps.tolist():
        network = params.replace(rep=value)
        states = cluster_states(network, numbers.tolist(), theory)
        symmetric = mean_field(network, theory)
        states["rates_symmetric"] = ("population", np.asarray(symmetric.rates))
        states["gain_symmetric"] = np.asarray(symmetric.cluster_gain)
        datasets.append(states)
    rep_axis = xarray.Variable("rep", reps, {"units": "1", "long_name": "rep"})
    branches = xarray.concat(datasets, rep_axis)
    branches["rates_symmetric"].attrs = {"units": "spikes/s", "long_name": "firing rate"}
    branches["gain_symmetric"].attrs = {"units": "", "long_name": "cluster gain"}
    branches["critical_rep"] = (
        (),
        np.asarray(critical),
        {"units": "", "long_name": "critical rep"},
    )
    return branches
