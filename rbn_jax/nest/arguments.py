"""What NEST's Create and Connect need for a network, as Python numbers and without NEST."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rbn_jax.clusters import ClusterFactors, cluster_factors
from rbn_jax.network import NUMBER_FIELDS, NetworkParams, check_single, synapse_of_neuron
from rbn_jax.parameters.checks import raise_if_any
from rbn_jax.weights import calculate_RBN_weights, rheobase_current

POPULATIONS = ("E", "I")

# NEST's models that need exactly the parameters below
MODELS = (
    "iaf_psc_exp",
    "iaf_psc_exp_ps",
    "iaf_psc_alpha",
    "iaf_psc_alpha_ps",
    "iaf_psc_delta",
    "iaf_psc_delta_ps",
)


class NeuronArguments(NamedTuple):
    """The neurons of one population in one cluster: arguments of `nest.Create`.

    model: NEST's name of the neuron model
    n: number of neurons
    params: parameters by NEST's names [mV, ms, pF, pA]. I_e is the mean background current
    I_e_factors: (low, high); the current of each neuron is I_e times a number that is drawn
        uniformly from this range. None if all neurons have the current I_e
    V_m: initial membrane potential [mV]; "rand" draws it as V_th - 20 mV exp(x) for each neuron,
        with a normal number x of mean 0 and standard deviation 1

    >>> connection_args(NetworkParams()).neurons["I"].params["I_e"]
    1.56
    """

    model: str
    n: int
    params: dict[str, float]
    I_e_factors: tuple[float, float] | None
    V_m: float | str


class ConnectionArguments(NamedTuple):
    """Connections between populations of two clusters: arguments of `nest.Connect`.

    target, source: "E" or "I"
    within: whether these are the connections within a cluster; if not, those from each cluster
        to each other one
    conn_spec: the rule of the connections
    syn_spec: model, weight [pA, mV of delta synapses] and delay [ms] of the synapses
    repeats: how many times to call `nest.Connect`. More than once where a probability is above 1

    >>> within = connection_args(NetworkParams()).connections[0]
    >>> (within.target, within.source, within.within, within.conn_spec["p"])
    ('E', 'E', True, 0.2)
    """

    target: str
    source: str
    within: bool
    conn_spec: dict[str, Any]
    syn_spec: dict[str, Any]
    repeats: int


class NestArguments(NamedTuple):
    """All arguments for a network, in the order in which NEST's example uses them.

    n_clusters: number of clusters, each of which has a population E and a population I
    neurons: of one cluster, by population
    connections: EE, EI, IE and II (target, source), first within a cluster and then between

    >>> [c.target + c.source for c in connection_args(NetworkParams()).connections][::2]
    ['EE', 'EI', 'IE', 'II']
    """

    n_clusters: int
    neurons: dict[str, NeuronArguments]
    connections: list[ConnectionArguments]


def connection_args(net: NetworkParams, *, reference: bool = False) -> NestArguments:
    """Return what NEST's Create and Connect need for a network; NEST itself is not needed.

    A synapse has the weight s js/sqrt(N), with the factors of `cluster_factors`, and a neuron the
    background current I_th (V_th - E_L) C_m/tau_m. Where a probability within clusters is above 1,
    connections are made several times with an equal part of it. In-degrees are rounded down.

    Args:
        net: one network.
        reference: whether to repeat three errors of NEST's example: weights ignore C_m; the factor
            is 1 + (rep - 1)^rj where probabilities are clustered; delta_I_xE is used for I, too.

    Returns:
        Python numbers only, as NEST takes no JAX arrays.

    Raises:
        ValueError: as in `check`; a batch of networks, or tracers; numbers of neurons that are not
            multiples of n_clusters; a neuron model that is not in the list, or has other synapses
            than `synapse` says; an in-degree above the number of neurons.

    Source: NEST 3.10, pynest/examples/EI_clustered_network/network.py.

    >>> arguments = connection_args(NetworkParams(N_E=400, N_I=100, C_m=250.0))
    >>> between = arguments.connections[1]
    >>> print(between.conn_spec["rule"], round(between.syn_spec["weight"], 2))
    pairwise_bernoulli 130.77
    """
    _check(net)
    if reference:
        _check_reference(net)
    with jax.enable_x64(True):
        js = np.asarray(calculate_RBN_weights(net.replace(C_m=1.0) if reference else net))
        factors = cluster_factors(net)
        rheobase_E = float(rheobase_current(net.tau_E, net.E_L, net.V_th_E, net.C_m))
        rheobase_I = float(rheobase_current(net.tau_I, net.E_L, net.V_th_I, net.C_m))
        if reference and net.kappa == 0:
            factors = _factors_of_the_example(net)
    delta_I = (net.delta_I_xE, net.delta_I_xE if reference else net.delta_I_xI)
    neurons = {
        "E": _neuron_arguments(net, "E", float(net.I_th_E) * rheobase_E, float(delta_I[0])),
        "I": _neuron_arguments(net, "I", float(net.I_th_I) * rheobase_I, float(delta_I[1])),
    }
    # in the order of operations of the example, for the same last digit
    weights = js * float(net.s) / np.sqrt(float(net.N_E) + float(net.N_I))
    connections = []
    for i, j in np.ndindex(2, 2):
        for within in (True, False):
            connections.append(
                _connection_arguments(net, i, j, within, factors, weights[i, j], reference)
            )
    return NestArguments(int(net.n_clusters), neurons, connections)


def _check(net: object) -> None:
    """Raise a ValueError that says what is wrong for NEST."""
    if not isinstance(net, NetworkParams):
        raise ValueError(f"net is a {type(net).__name__}: must be a NetworkParams")
    for name in NUMBER_FIELDS:
        if isinstance(getattr(net, name), Tracer):
            raise ValueError(f"{name} is traced by JAX: NEST needs known numbers")
    # before `check`, which would ask for the synapse of a model that is of no use here
    if net.neuron_type not in MODELS:
        raise ValueError(
            f"neuron_type={net.neuron_type!r}: must be one of {', '.join(MODELS)}; models of other "
            "neurons, or with conductance-based synapses, have other parameters than a network here"
        )
    net.check()
    check_single(net)
    messages = []
    for name in ("N_E", "N_I"):
        size, n_clusters = float(getattr(net, name)), float(net.n_clusters)
        if size % n_clusters or size % 1 or n_clusters % 1:
            messages.append(
                f"{name}={size:.17g}: must be a whole multiple of n_clusters={n_clusters:.17g}"
            )
    if net.synapse != synapse_of_neuron(net.neuron_type):
        messages.append(
            f"synapse={net.synapse!r}: neuron_type={net.neuron_type!r} has "
            f"{synapse_of_neuron(net.neuron_type)!r} synapses; change one of the two"
        )
    raise_if_any(messages, "Correct the values named.")


def _check_reference(net: NetworkParams) -> None:
    """Raise a ValueError for a network that NEST's example cannot have."""
    if net.kappa not in (0, 1):
        raise ValueError(f"kappa={net.kappa}: must be 0 or 1 with reference=True")
    if net.neuron_type != "iaf_psc_exp" or net.connection_rule == "pairwise_poisson":
        raise ValueError(
            f"neuron_type={net.neuron_type!r}, connection_rule={net.connection_rule!r}: NEST's "
            "example has neither other models than iaf_psc_exp nor pairwise_poisson; leave out "
            "reference=True"
        )
    if net.kappa == 0 and net.n_clusters > 1:
        if net.rep < 1:
            raise ValueError(f"rep={net.rep}: must be >= 1 with reference=True")
        others = 1 + (float(net.rep) - 1) ** float(net.rj)
        if others > net.n_clusters:
            raise ValueError(
                f"1 + (rep - 1)^rj={others:g}: must be at most n_clusters={net.n_clusters:g}"
            )


def _factors_of_the_example(net: NetworkParams) -> ClusterFactors:
    """Return the factors of NEST's example with clustering of probabilities."""
    n_clusters, rep = float(net.n_clusters), float(net.rep)
    plus = minus = ones = jnp.ones((2, 2))
    if n_clusters > 1:
        others = 1 + (rep - 1) ** float(net.rj)
        plus = jnp.array([[rep, others], [others, others]])
        minus = (n_clusters - plus) / (n_clusters - 1)
    return ClusterFactors(plus, minus, ones, ones)


def _neuron_arguments(
    net: NetworkParams, population: str, current: float, delta_I: float
) -> NeuronArguments:
    params = {
        "E_L": net.E_L,
        "C_m": net.C_m,
        "tau_m": getattr(net, f"tau_{population}"),
        "t_ref": net.t_ref,
        "V_th": getattr(net, f"V_th_{population}"),
        "V_reset": net.V_r,
        "I_e": current,
    }
    if net.synapse != "delta":
        params |= {"tau_syn_ex": net.tau_syn_ex, "tau_syn_in": net.tau_syn_in}
    return NeuronArguments(
        model=net.neuron_type,
        n=int(getattr(net, f"N_{population}")) // int(net.n_clusters),
        params={name: float(value) for name, value in params.items()},
        I_e_factors=(1 - delta_I / 2, 1 + delta_I / 2) if delta_I else None,
        V_m=net.V_m if net.V_m == "rand" else float(net.V_m),
    )


def _connection_arguments(
    net: NetworkParams,
    i: int,
    j: int,
    within: bool,
    factors: ClusterFactors,
    weight: float,
    reference: bool,
) -> ConnectionArguments:
    """Return the connections to the population i from the population j."""
    target, source = POPULATIONS[i], POPULATIONS[j]
    place = "within" if within else "between"
    probability_factor = float(getattr(factors, f"probability_{place}")[i, j])
    weight_factor = float(getattr(factors, f"weight_{place}")[i, j])
    probability = probability_factor * float(np.asarray(net.baseline_conn_prob)[i, j])
    repeats = 1
    # a neuron has two connections to another one only where probabilities are clustered
    conn_spec: dict[str, Any] = {"rule": net.connection_rule, "allow_autapses": False}
    conn_spec["allow_multapses"] = bool(net.kappa != 1)
    if net.connection_rule == "pairwise_poisson":
        conn_spec |= {"pairwise_avg_num_conns": probability, "allow_multapses": True}
    else:
        if probability > 1:
            repeats = math.ceil(probability)
            probability /= repeats
        if net.connection_rule == "fixed_indegree":
            n_sources = float(getattr(net, f"N_{source}"))
            indegree = probability * n_sources / float(net.n_clusters)
            # 0.29 x 100 is below 29 by rounding
            conn_spec["indegree"] = int(indegree if reference else indegree + 1e-9)
            where = f"{target}{source} {place} clusters"
            n_neurons = n_sources / float(net.n_clusters)
            _check_indegree(where, conn_spec, n_neurons, within and i == j)
        else:
            conn_spec["p"] = probability
    syn_spec = {
        "synapse_model": "static_synapse",
        "weight": weight_factor * float(weight),
        "delay": float(net.delay),
    }
    return ConnectionArguments(target, source, within, conn_spec, syn_spec, repeats)


def _check_indegree(
    where: str, conn_spec: dict[str, Any], n_neurons: float, is_recurrent: bool
) -> None:
    """Raise a ValueError for an in-degree for which NEST would search without an end."""
    n_sources = n_neurons - is_recurrent  # a neuron has no connection to itself
    indegree = conn_spec["indegree"]
    is_possible = n_sources > 0 if conn_spec["allow_multapses"] else indegree <= n_sources
    if indegree > 0 and not is_possible:
        raise ValueError(
            f"{where}: an in-degree of {indegree}, but a cluster has {n_sources:g} neurons to "
            "connect from; lower baseline_conn_prob"
        )
