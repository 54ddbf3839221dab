"""Firing rates of a network, or of any populations, by mean-field theory."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from rbn_jax.network import NetworkParams
from rbn_jax.numerics.arrays import broadcast_any_rank, in_single_precision
from rbn_jax.numerics.sharding import with_auto_axes
from rbn_jax.parameters.access import as_array
from rbn_jax.parameters.domains import number_fields
from rbn_jax.parameters.html import html_table
from rbn_jax.parameters.labels import label, labelled_field
from rbn_jax.rates.cluster_modes import (
    cluster_gain_at,
    own_cluster,
    single_cluster_couplings,
    single_cluster_gain,
)
from rbn_jax.rates.couplings import Couplings, make_couplings, single_couplings
from rbn_jax.rates.equations import (
    find_single_state,
    find_state,
    nan_outside_theory,
    neurons_at,
    rates_at,
)
from rbn_jax.rates.populations import Populations
from rbn_jax.rates.theories import MeanFieldTheory, Theory, find_theory
from rbn_jax.rates.validity import flag_regimes, warn

Parameters = TypeVar("Parameters", bound=NetworkParams | Populations)
Result = TypeVar("Result")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MeanField:
    """The stationary state of n populations; arrays are (..., n) if nothing else is said.

    rates: mean rates [spikes/s], NaN where no asynchronous state was found
    rate_std: standard deviation of the rates across neurons [spikes/s]
    mu: mean of the free membrane potential [mV]
    sigma: intensity of its noise [mV], sqrt(2) times its standard deviation in white noise
    spread: standard deviation of mu across neurons [mV], 0 by "white" and "shift". Otherwise it,
        like sigma, is never exactly 0: without noise spread is 5e-6 and sigma 5e-4 of
        V_th - V_r, so that rates have derivatives
    converged: (...) whether a state was found
    stable: (...) whether it is stable, as in `fixed_points`: whether rates that relax to those of
        their input return to it; for clusters also, whether cluster_gain is below 1
    several_states: (...) whether the search found several states, of which this is the lowest
        stable one. Where it is False there may be others all the same: see `fixed_points`
    cluster_gain: (...) see `rbn_jax.cluster_gain`; 0 without clusters, and for Populations
    warnings: (...) for each regime in `rbn_jax.rates.REGIMES`, by name, whether the network is in
        it; for Populations low_rate and outside_theory only, as none but networks were compared
        with NEST

    >>> state = mean_field(NetworkParams(I_th_E=0.9), theory="shift")
    >>> [name for name, applies in state.warnings.items() if applies]
    ['low_rate', 'quiescent']
    """

    rates: Array = labelled_field("spikes/s", "firing rate", "population")
    rate_std: Array = labelled_field("spikes/s", "std of rates across neurons", "population")
    mu: Array = labelled_field("mV", "mean of the free membrane potential", "population")
    sigma: Array = labelled_field("mV", "noise intensity of the membrane", "population")
    spread: Array = labelled_field("mV", "std of mu across neurons", "population")
    converged: Array = labelled_field("", "a state was found")
    stable: Array = labelled_field("", "the state is stable")
    several_states: Array = labelled_field("", "several states were found")
    cluster_gain: Array = labelled_field("", "cluster gain")
    warnings: dict[str, Array] = labelled_field("", "the network is in this regime")

    def _repr_html_(self) -> str | None:
        """Return the state of one network as a table, or the ranges over a batch."""
        if isinstance(self.rates, Tracer):
            return None
        n_states = int(np.sum(self.converged))
        caption = f"{n_states:,} of {self.converged.size:,} networks have a state"
        if self.converged.size == 1:
            caption = "a stable state" if np.all(self.stable) else "a state that is not stable"
            caption = caption if n_states else "no state was found"
        flags = {"several states": self.several_states} | self.warnings
        caption = ", ".join([caption, *(name for name, flag in flags.items() if np.any(flag))])
        rows = []
        for name, title in _numbers_of_populations():
            numbers = np.asarray(getattr(self, name))
            columns = numbers.reshape(-1, numbers.shape[-1]).T
            rows.append((title, *map(_range_text, columns)))
        populations = [f"population {i}" for i in range(self.rates.shape[-1])]
        return html_table(caption, ("", *populations), rows)


def _range_text(numbers: np.ndarray) -> str:
    """Return the lowest and the highest number that is not NaN, once if they are equal."""
    finite = numbers[np.isfinite(numbers)]
    if not finite.size:
        return "nan"
    low, high = f"{finite.min():.4g}", f"{finite.max():.4g}"
    return low if low == high else f"{low} to {high}"


def _numbers_of_populations() -> list[tuple[str, str]]:
    """Return name and label with unit of the fields of a MeanField that populations have."""
    fields = []
    for field in dataclasses.fields(MeanField):
        if field.metadata["unit"]:
            fields.append((field.name, f"{field.metadata['long_name']} [{field.metadata['unit']}]"))
    return fields


@label()
@broadcast_any_rank
@in_single_precision
def mean_field(
    params: NetworkParams | Populations, theory: Theory | MeanFieldTheory = "quenched"
) -> MeanField:
    """Return the asynchronous state of a network, self-consistent in its firing rates.

    With the rates nu a population has the mean input mu = mu_ext + tau_m sum K w nu, whose noise
    is sigma^2 = tau_m sum K (1 - p) w^2 nu. Random in-degrees make the mean inputs of neurons
    differ by spread^2 = tau_m^2 sum K (1 - p) w^2 <nu^2>. w = s js tau_syn / (C_m sqrt(N)) is in
    mV. With fixed in-degrees the variance of nu takes the place of <nu^2>. External noise, and
    external spread such as that of delta_I_xE, are added. Of a clustered network this is the state
    in which all clusters have the same rates; `clustered` says how clusters change K, w and p.
    The rate of a population is `siegert_rate` of the input of each neuron, averaged over a normal
    distribution of mean inputs by 12 nodes.

    Args:
        params: a NetworkParams, whose numbers broadcast, or Populations.
        theory: "quenched", as above; "exact": also, the transfer function of neurons under
            coloured noise, from a table of solutions of its Fokker-Planck equation, for
            tau_syn up to 1.5 tau_m and (V_th - V_r) / sigma from 0.8 / sqrt(1 + tau_syn / tau_m);
            "shift": all neurons of a population are equal, whatever delta_I_x is, and all noise
            counts, as in NNMT's `lif.exp.firing_rates`; "white": also, synapses are
            instantaneous. Or a `MeanFieldTheory` of your own.

    Returns:
        A MeanField of the lowest stable state that is found: that in which the first population,
        E of a network, has the lowest rate. If no state is stable it is the lowest one, and
        `stable` is False. The search begins at 4 spikes/s and at low rates. Where these two do
        not both lead to the same stable state, or E fires at 50 spikes/s or more in it, it begins
        at 11 other points, too; where none leads to a state it goes on until a state is found,
        and where none is all numbers of that network are NaN. A silent state is found without a
        search. So a sweep stays on the lowest branch to where it ends in a fold, unless the
        search misses it, and derivatives are those along it. Rates that underflow are 0. A batch
        that devices share stays shared: each device searches for the states of its own networks.
        A single network outside of JAX's transformations is computed in float64, which compiles
        faster; the result has the dtype that a batch has.

    Raises:
        TypeError: a complex number.
        ValueError: an unknown theory; as in `check`, but under a trace, where a value outside
            its domain gives NaN; matrices of other shapes than (..., n, n).

    Source: Brunel (2000), doi 10.1023/A:1008925309027; Fourcaud & Brunel (2002), doi
    10.1162/089976602320264015; Layer et al. (2022), doi 10.3389/fninf.2022.835657, for NNMT.

    >>> state = mean_field(NetworkParams())
    >>> print(state.rates.round(2), np.asarray(state.rate_std, float).round(1), state.converged)
    [2.34 3.05] [1.8 1.9] True

    With rep 6 the state in which all clusters have the same rates is not stable:

    >>> print(state.stable, np.asarray(state.cluster_gain, float).round(3))
    False 1.048
    """
    return _compute(params, theory, None)


def _compute(
    params: NetworkParams | Populations, theory: Theory | MeanFieldTheory, field: str | None
) -> Any:
    """Return the state of `mean_field`, or only one field of it, for which less is compiled."""
    networks = read_networks(params, theory)
    if networks.is_single:
        state = _mean_field_of_single(networks)
        return getattr(state, field) if field else state
    return _mean_field(networks.params, networks.theory, field)


class Networks(NamedTuple, Generic[Parameters]):
    """What a function of networks is given.

    params: the networks, with arrays in place of lists
    theory: the theory
    dtype: that of the result
    is_single: whether it is one network outside of JAX's transformations: see `is_single`
    """

    params: Parameters
    theory: MeanFieldTheory
    dtype: np.dtype
    is_single: bool


def check_network(params: object) -> NetworkParams:
    """Return params if it is a NetworkParams.

    Raises:
        ValueError: it is something else, as Populations, whose clusters are not known.
    """
    if not isinstance(params, NetworkParams):
        raise ValueError(
            f"params is a {type(params).__name__}: must be a NetworkParams; for NEST's net_dict "
            "use NetworkParams.from_mapping(net_dict)"
        )
    return params


def read_networks(params: Parameters, theory: Theory | MeanFieldTheory) -> Networks[Parameters]:
    """Return what `mean_field` is given, checked if it is not traced.

    Raises:
        ValueError: as in `mean_field`.
    """
    model = find_theory(theory)
    if not isinstance(params, NetworkParams | Populations):
        raise ValueError(
            f"params is a {type(params).__name__}: must be a NetworkParams or Populations; for "
            "NEST's net_dict use NetworkParams.from_mapping(net_dict)"
        )
    leaves, tree = jax.tree.flatten(params, is_leaf=lambda leaf: isinstance(leaf, list | tuple))
    leaves = [_list_as_array(leaf) if isinstance(leaf, list | tuple) else leaf for leaf in leaves]
    dtype = jnp.result_type(float, *leaves)
    if not any(isinstance(leaf, Tracer) for leaf in leaves):
        params.check()
        network = tree.unflatten(leaves)
        if is_single(network):
            return Networks(network, model, dtype, True)
    # Python numbers become arrays of no axes, as JAX would compile again for the other kind
    leaves = [np.asarray(leaf, dtype) if isinstance(leaf, float | int) else leaf for leaf in leaves]
    return Networks(tree.unflatten(leaves), model, dtype, False)


def _list_as_array(numbers: list[object] | tuple[object, ...]) -> np.ndarray | Array:
    """Return an array, of floats also where all numbers are integers, as strict dtypes need it."""
    array = as_array(numbers)
    return array.astype(float) if array.dtype.kind == "i" else array


def is_single(params: NetworkParams | Populations) -> bool:
    """Return whether these are the numbers of one network on one device, and no mesh is set."""
    for name, field in number_fields(type(params)).items():
        array = getattr(params, name)
        if np.ndim(array) > (field.ndim or 0):
            return False
        if isinstance(array, Array) and len(array.sharding.device_set) > 1:
            return False
    return jax.sharding.get_abstract_mesh().empty


def _mean_field_of_single(networks: Networks[Any]) -> MeanField:
    """Return the state of one network, computed in float64."""
    # steps of the search may lead where the residual is NaN
    with jax.enable_x64(True), jax.debug_nans(False):
        network = in_float64(networks.params)
        own = None
        if isinstance(network, NetworkParams):
            couplings, own = single_cluster_couplings(network, networks.theory)
        else:
            couplings = single_couplings(network, networks.theory)
        root, stable, several = find_single_state(couplings)
        gain = 0.0 if own is None else single_cluster_gain(own, couplings, root)
    with jax.enable_x64(True):
        return _describe_single(network, couplings, root, stable, several, gain, networks.dtype)


def in_float64(params: Parameters) -> Parameters:
    """Return a copy with NumPy arrays in float64."""
    return jax.tree.map(functools.partial(np.array, dtype=float), params)


@functools.partial(jax.jit, static_argnames="field")
def _mean_field(
    params: NetworkParams | Populations, theory: MeanFieldTheory, field: str | None
) -> Any:
    def compute(params: NetworkParams | Populations) -> Any:
        state = _mean_field_of_arrays(params, theory)
        return getattr(state, field) if field else state

    return on_each_device(compute, params)


def on_each_device(compute: Callable[[Parameters], Result], params: Parameters) -> Result:
    """Return compute(params), where a batch that devices share stays shared."""
    arrays = []
    core_ndims = []
    for name, field in number_fields(type(params)).items():
        array = getattr(params, name)
        if array is not None:
            arrays.append(array)
            core_ndims.append(field.ndim or 0)
    return with_auto_axes(compute, params, arrays, core_ndims)


def _mean_field_of_arrays(
    params: NetworkParams | Populations, theory: MeanFieldTheory
) -> MeanField:
    couplings, batch = make_couplings(params, theory)
    root, stable, several = find_state(couplings)
    gain = jnp.zeros_like(root[0])
    if isinstance(params, NetworkParams):
        gain = cluster_gain_at(own_cluster(params, theory), couplings, root)
    return _describe(params, couplings, batch, root, stable, several, gain)


@functools.partial(jax.jit, static_argnames="dtype")
def _describe_single(
    params: NetworkParams | Populations,
    couplings: Couplings,
    root: Array,
    stable: Array,
    several: Array,
    gain: Array,
    dtype: np.dtype,
) -> MeanField:
    state = _describe(params, couplings, (), root[:, None], stable, several, gain)
    return jax.tree.map(lambda leaf: leaf if leaf.dtype == bool else leaf.astype(dtype), state)


def _describe(
    params: NetworkParams | Populations,
    couplings: Couplings,
    batch: tuple[int, ...],
    root: Array,
    root_stable: Array,
    several_roots: Array,
    gain: Array,
) -> MeanField:
    """Return the states at the roots (m, *batch) of the networks of a batch."""
    unknowns = nan_outside_theory(root, couplings)
    converged = jnp.isfinite(unknowns).all(0)
    outside_theory = jnp.isfinite(root).all(0) & ~converged
    neurons = neurons_at(unknowns, couplings)
    rates, relative_variance = rates_at(unknowns, len(couplings.tau_m))
    # rounding may leave less than 0 where neurons are equal, and the square root has no
    # finite slope at 0: there the standard deviation is 0 and has the slope 0
    neurons_differ = relative_variance > 0
    relative_std = jnp.sqrt(jnp.where(neurons_differ, relative_variance, 1))

    def in_batch(array: Array) -> Array:
        columns = jnp.where(converged, array, jnp.nan)
        return jnp.moveaxis(columns, 0, -1).reshape(*batch, len(array))

    return MeanField(
        rates=in_batch(rates),
        rate_std=in_batch(rates * jnp.where(neurons_differ, relative_std, 0)),
        mu=in_batch(neurons.mu),
        sigma=in_batch(neurons.sigma),
        spread=in_batch(neurons.spread),
        converged=converged.reshape(batch),
        stable=(root_stable & converged & (gain < 1)).reshape(batch),
        several_states=(several_roots & converged).reshape(batch),
        cluster_gain=jnp.where(converged, gain, jnp.nan).reshape(batch),
        warnings=flag_regimes(
            params, in_batch(rates), jnp.reshape(gain, batch), outside_theory.reshape(batch)
        ),
    )


@label(units="spikes/s", long_name="firing rate", last_dimension="population")
@broadcast_any_rank
@in_single_precision
def firing_rates(
    params: NetworkParams | Populations, theory: Theory | MeanFieldTheory = "quenched"
) -> Array:
    """Return the rates of all populations, (..., n), of a network those of E and I [spikes/s].

    They are `mean_field(params, theory).rates`; arguments, NaN and errors are those of
    `mean_field`. A batch of networks takes less time, and less time to compile.

    Warns:
        RuntimeWarning: rates are NaN as the theory is not known for a state, as beyond the table
            of "exact". Not under a trace.

    >>> rates = firing_rates(NetworkParams(I_th_E=2.0))
    >>> print(np.asarray(rates, float).round(2))
    [6.34 7.32]
    """
    if find_theory(theory).covers is None:
        return _compute(params, theory, "rates")
    state = _compute(params, theory, None)
    outside_theory = state.warnings["outside_theory"]
    if not isinstance(outside_theory, Tracer):
        # the three decorators are between this function and the line that called it
        warn({"outside_theory": outside_theory}, n_wrappers=3)
    return state.rates


@label(long_name="cluster gain")
@broadcast_any_rank
@in_single_precision
def cluster_gain(params: NetworkParams, theory: Theory | MeanFieldTheory = "quenched") -> Array:
    """Return how much a difference between the rates of clusters enhances itself, (...).

    In the state in which all clusters have the same rates, a small difference between clusters in
    ln of the rates x changes their input, and by it the rates that neurons have: dF = D dx. The
    gain is the largest real part of the eigenvalues of D. From 1 on the difference grows: clusters
    become active, and the state that `mean_field` returns is not that of the network. It is 0
    without clusters (rep=1, or n_clusters=1), and NaN where there is no state.

    Args:
        params: a NetworkParams, whose numbers broadcast.
        theory: as in `mean_field`.

    Raises:
        TypeError: a complex number.
        ValueError: as in `mean_field`; Populations, whose clusters are not known.

    Source: the stability analysis of Rostami et al. (2024), doi 10.1038/s41467-024-49889-4,
    applied to the theories of `mean_field`.

    >>> gains = cluster_gain(NetworkParams(rep=np.array([1.0, 4.0, 6.0])))
    >>> print(np.asarray(gains, float).round(3))
    [0.    0.683 1.048]
    """
    return _compute(check_network(params), theory, "cluster_gain")
