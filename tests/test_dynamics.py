"""Population dynamics against NEST, against explicit matrices, and against spike statistics."""

import dataclasses
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from scipy.integrate import quad
from scipy.optimize import brentq

import rbn_jax as rbn
from rbn_jax import NetworkParams, population_dynamics, population_spikes
from rbn_jax.dynamics import activity, connections, neurons
from rbn_jax.dynamics.sampled_neurons import Sample
from rbn_jax.numerics import hadamard

STATES = json.loads((Path(__file__).parent / "data/nest_states.json").read_text("utf-8"))["runs"]
SMALL = NetworkParams(N_E=80, N_I=20, n_clusters=1)
CLUSTERED = NetworkParams(N_E=80, N_I=20, n_clusters=4, rep=2.0)


def unclustered(**changes):
    return NetworkParams(n_clusters=1, rep=1.0, **changes)


# --- the neurons -----------------------------------------------------------------------------

NEST_NETWORK = """
import json, sys
import numpy as np
import nest
import rbn_jax as rbn
from rbn_jax import nest as bridge

settings, start = json.loads(sys.argv[1])
net = rbn.NetworkParams(**settings)
n = int(net.N_E + net.N_I)
spikes = bridge.simulate(net, 150.0, seed=3, warmup=0.0, V_m=start, progress=False)
bridge.build(net, seed=3, V_m=start)
found = nest.GetConnections(synapse_model="static_synapse")
rows = [row for row in zip(found.source, found.target, found.weight) if row[1] <= n]
print("RESULT" + json.dumps([spikes.tolist(), rows]))
"""


@pytest.mark.usefixtures("nest_wheel", "x64")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"neuron_type": "iaf_psc_alpha", "tau_syn_ex": 2.0, "delay": 1.5, "t_ref": 2.0},
        {"neuron_type": "iaf_psc_delta", "delay": 0.5},
        # equal time constants, and a reset other than the resting potential
        {"tau_E": 5.0, "C_m": 250.0, "E_L": -70.0, "V_th_E": -50.0, "V_th_I": -52.0, "V_r": -65.0},
    ],
)
def test_neurons_fire_at_the_times_of_nest(changes):
    settings = {"N_E": 160, "N_I": 40, "n_clusters": 2, "rep": 1.8, "I_th_E": 1.6} | changes
    net = NetworkParams(**settings)
    size = 200
    span = net.V_th_E - net.E_L
    start = (net.E_L + np.random.default_rng(5).uniform(-span, span, size)).tolist()
    process = subprocess.run(
        [sys.executable, "-c", NEST_NETWORK, json.dumps([settings, start])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    (times, ids), rows = json.loads(process.stdout.split("RESULT")[1])
    matrix = np.zeros((2, size, size))
    for source, target, weight in rows:
        matrix[int(source > 160), target - 1, source - 1] = weight
    # all neurons in one cluster, as the numbers of neurons are those of NEST
    sample = Sample(1, 160, 40)
    factors = jnp.ones((1, size))
    propagators = neurons.make_propagators(net, sample, 0.1, factors)
    n_stages = neurons.N_STAGES[net.synapse]
    state = neurons.NeuronState(
        jnp.array(start)[None] - net.E_L,
        jnp.zeros((2, n_stages, 1, size)),
        jnp.zeros((1, size), jnp.int32),
    )
    delay = round(net.delay / 0.1)
    advance = jax.jit(neurons.advance)
    fired = [np.zeros(size)] * delay
    found = []
    for step in range(1500):
        arriving = jnp.array(matrix @ fired[step])[:, None]
        state, fires = advance(state, arriving, propagators)
        fired.append(np.asarray(fires[0], float))
        for neuron in np.flatnonzero(fires[0]):
            found.append((round(0.1 * (step + 1), 1), int(neuron)))
    expected = sorted(
        (round(time, 1), int(neuron)) for time, neuron in zip(times, ids, strict=True)
    )
    assert len(expected) > 200
    assert sorted(found) == expected


# --- the transform ---------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2, 8, 12, 20, 24, 40, 44, 60, 88, 256, 960])
def test_rows_of_a_hadamard_matrix_are_orthogonal(order):
    left, right = hadamard.factors(order)
    matrix = np.kron(left, right).astype(int)
    assert set(np.unique(matrix)) <= {-1, 1}
    assert (matrix @ matrix.T == order * np.eye(order)).all()


def test_orders_of_hadamard_matrices_are_at_most_a_quarter_too_large():
    for size in range(33, 3000):
        assert size <= hadamard.smallest_order(size) <= 1.25 * size
    with pytest.raises(ValueError, match="order=28"):
        hadamard.factors(28)


def realisation_of(net, sample, seed=0, is_split=False):
    shapes = connections.realisation_shapes(net, sample)
    keys = jax.random.split(jax.random.key(seed), len(shapes) + 1)
    uniform = [jax.random.uniform(key, shape) for key, shape in zip(keys, shapes, strict=False)]
    return connections.make_realisation(uniform, keys[-1], net, sample, is_split)


def explicit_matrix(realisation, sample):
    """Return the structured part and the synapses within clusters, (source, target, source j)."""
    order = hadamard.smallest_order(sample.size)
    matrix = np.kron(*hadamard.factors(order)).astype(float)
    n, q = sample.size, sample.n_clusters
    noise = np.zeros((2, q, n, q, n))
    blocks = np.zeros((2, q, n, q, n))
    for g, h in np.ndindex(q, q):
        for source, part in enumerate((slice(0, sample.n_E), slice(sample.n_E, n))):
            rows = np.asarray(realisation.rows)[source, g]
            signed = matrix[rows][:, :n] * np.asarray(realisation.signs)[h]
            sign = np.asarray(realisation.cluster_signs)[g, h]
            noise[source, g, :, h, part] = sign * signed[:, part]
            if g == h and q > 1:
                blocks[source, g, :, g, part] = np.asarray(realisation.blocks)[g][part].T
    return noise, blocks


@pytest.mark.parametrize("net", [SMALL, CLUSTERED])
@pytest.mark.parametrize("share", [0.02, 0.7])
def test_input_of_spikes_is_the_product_with_the_explicit_matrix(net, share, x64):
    sample = Sample(int(net.n_clusters), 80 // int(net.n_clusters), 20 // int(net.n_clusters))
    realisation = realisation_of(net, sample)
    couplings = connections.make_couplings(net, sample)
    spikes = np.random.default_rng(1).random((sample.n_clusters, sample.size)) < share
    found = connections.spike_input(
        jnp.array(spikes), couplings, realisation, sample, net.connection_rule
    )
    noise, blocks = explicit_matrix(realisation, sample)
    fired = spikes.astype(float)
    population = sample.population
    own = np.stack([fired[:, population == i].sum(1) for i in (0, 1)])
    others = own.sum(1, keepdims=True) - (own if sample.n_clusters > 1 else 0)
    mean, noise_factor, own_mean, own_factor = (
        np.asarray(entry).T[:, None, population] for entry in couplings
    )
    expected = mean * others[..., None]
    expected = expected + noise_factor * np.einsum("sgihj,hj->sgi", noise, fired)
    if sample.n_clusters > 1:
        expected = expected + own_factor * np.einsum("sgihj,hj->sgi", blocks, fired)
        expected = expected + own_mean * own[..., None]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("net", [SMALL, CLUSTERED])
def test_few_spikes_in_turn_and_all_at_once_give_the_same_digits(net):
    sample = Sample(int(net.n_clusters), 80 // int(net.n_clusters), 20 // int(net.n_clusters))
    realisation = realisation_of(net, sample)
    transform = connections._spike_transform(sample, np.dtype(np.float32))
    shape = (5, sample.n_clusters, sample.size)
    spikes = jnp.array(np.random.default_rng(1).random(shape) < 0.1)
    in_batch = jax.vmap(transform, (0, None))(spikes, realisation)
    for i, one in enumerate(spikes):
        assert 0 < one.sum() < connections._FEW_SPIKES
        for array, batch in zip(transform(one, realisation), in_batch, strict=True):
            np.testing.assert_array_equal(array, batch[i])


@pytest.mark.parametrize("rule", ["pairwise_bernoulli", "pairwise_poisson", "fixed_indegree"])
@pytest.mark.parametrize("kappa", [1.0, 0.0])
def test_synapses_within_clusters_have_the_mean_and_variance_of_the_rule(rule, kappa):
    net = NetworkParams(N_E=800, N_I=400, n_clusters=4, rep=3.0, connection_rule=rule, kappa=kappa)
    sample = Sample(4, 200, 100)
    blocks = np.asarray(realisation_of(net, sample, is_split=kappa != 1).blocks)
    factors = rbn.cluster_factors(net)
    expected = net.baseline_conn_prob * np.asarray(factors.probability_within)
    for i, j in np.ndindex(2, 2):
        parts = [(slice(0, 200), slice(200, 300))[k] for k in (j, i)]
        block = blocks[:, parts[0], parts[1]]
        synapses = block
        n_sources = (200, 100)[j]
        if i == j:
            diagonal = np.einsum("gnn->gn", block)
            assert (diagonal == 0).all()
            synapses = block[:, ~np.eye(n_sources, dtype=bool)]
        mean = expected[i, j]
        n_parts = max(np.ceil(mean), 1)
        variance = mean if rule == "pairwise_poisson" else mean * (1 - mean / n_parts)
        if rule == "fixed_indegree":
            indegrees = block.sum(1)
            # the connections that a neuron may not have to itself are among those drawn last
            assert np.abs(
                indegrees - np.floor(mean / n_parts * n_sources + 1e-4) * n_parts
            ).max() <= (np.ceil(mean) if i == j else 0)
            continue
        # five standard errors of a mean of independent numbers
        assert abs(synapses.mean() - mean) < 5 * np.sqrt(variance / synapses.size)
        assert abs(synapses.var() / variance - 1) < 0.03


def test_noise_has_the_variance_of_random_connections():
    """The variance across neurons is that of binomial in-degrees, in and between populations."""
    net = unclustered(N_E=2000, N_I=500)
    sample = Sample(1, 2000, 500)
    couplings = connections.make_couplings(net, sample)
    realisation = realisation_of(net, sample)
    generator = np.random.default_rng(2)
    weights = np.asarray(net.weights(), float)
    probability = net.baseline_conn_prob
    for share in (0.05, 1.0):
        spikes = jnp.array(generator.random((1, 2500)) < share)
        found = np.asarray(
            connections.spike_input(spikes, couplings, realisation, sample, "pairwise_bernoulli")
        )[:, 0]
        counts = np.array([spikes[0, :2000].sum(), spikes[0, 2000:].sum()])
        for i, j in np.ndindex(2, 2):
            values = found[j, (slice(0, 2000), slice(2000, 2500))[i]]
            p, w, n = probability[i, j], weights[i, j], counts[j]
            deviation = abs(w) * np.sqrt(p * (1 - p) * n)
            # five standard errors of a mean and of a variance over the target neurons
            assert abs(values.mean() - w * p * n) < 5 * deviation / np.sqrt(len(values))
            assert abs(values.var() / deviation**2 - 1) < 5 * np.sqrt(2 / len(values))


def test_fixed_indegrees_have_no_noise_if_all_neurons_fire():
    net = unclustered(N_E=80, N_I=20, connection_rule="fixed_indegree")
    sample = Sample(1, 80, 20)
    couplings = connections.make_couplings(net, sample)
    spikes = jnp.ones((1, 100), bool)
    found = connections.spike_input(
        spikes, couplings, realisation_of(net, sample), sample, "fixed_indegree"
    )
    for i, j in np.ndindex(2, 2):
        values = np.asarray(found)[j, 0, sample.population == i]
        expected = net.weights()[i, j] * net.baseline_conn_prob[i, j] * (80, 20)[j]
        # rounding of float32
        np.testing.assert_allclose(values, expected, rtol=1e-5)


# --- the network against NEST ----------------------------------------------------------------


@functools.cache
def found_states(**changes):
    states = {}
    for start in ("uniform", "rand", "synchronous"):
        if any(run["changed"] == changes and run["start"] == start for run in STATES):
            states[start] = population_dynamics(
                unclustered(**changes), 600.0, start=start, seed=np.arange(3)
            )
    return states


# networks whose state NEST does not change, with few and many volleys
@pytest.mark.parametrize(
    "run",
    [
        run
        for run in STATES
        if run["name"] in ("tsyn_5_6", "tsyn_10_5", "IthI_1.1", "delay_1.0", "s_0.5")
    ],
    ids=lambda run: f"{run['name']}-{run['start']}",
)
def test_states_are_those_of_nest(run):
    dynamics = found_states(**run["changed"])[run["start"]]
    assert (dynamics.locked.sum() >= 2) == run["lock_step"]
    agreeing = np.asarray(dynamics.locked) == run["lock_step"]
    rates = np.median(np.asarray(dynamics.mean_rates)[agreeing], axis=0)
    expected = np.array([run["rate_E"], run["rate_I"]])
    # 400 ms hold 4 to 8 volleys, one more or less; rates of 0.4 spikes/s vary by a tenth
    np.testing.assert_allclose(rates, expected, rtol=0.2 if run["lock_step"] else 0.12)
    if run["volleys_per_s"]:
        volleys = np.median(np.asarray(dynamics.volleys_per_s)[agreeing])
        assert abs(volleys / run["volleys_per_s"] - 1) < 0.12


def test_rates_of_the_default_network_are_those_of_nest():
    dynamics = population_dynamics(unclustered(), 2000.0, start="uniform", seed=np.arange(2))
    # four seeds of NEST: 2.135 and 2.590, which differ by 1 %
    rates = np.asarray(dynamics.mean_rates).mean(0)
    np.testing.assert_allclose(rates, [2.135, 2.590], rtol=0.025)
    # and 16.8 with a spread of 1
    assert np.asarray(dynamics.fano_factor)[:, 0].mean() == pytest.approx(16.8, rel=0.25)
    assert not dynamics.locked.any()


def test_a_cluster_is_held_active_as_in_nest():
    net = NetworkParams(rep=3.0, rj=0.0)
    dynamics = population_dynamics(net, 900.0, start="uniform")
    assert (np.asarray(dynamics.active_clusters) == 1).all()
    late = np.asarray(dynamics.cluster_rates)[300:, 0].mean(0)
    # NEST: 144.9 and 0.35 spikes/s
    assert late.max() == pytest.approx(144.9, rel=0.05)
    assert np.sort(late)[:-1].mean() == pytest.approx(0.35, rel=0.3)


def test_asynchronous_start_is_the_stationary_state():
    net = unclustered()
    dynamics = population_dynamics(net, 30.0, start="asynchronous", seed=1, bin=5.0, warmup=0.0)
    expected = rbn.firing_rates(net)
    # 30 ms hold 240 spikes of E and 75 of I; the theory is 8 and 3 % off
    np.testing.assert_allclose(dynamics.mean_rates, expected, rtol=0.35)
    assert np.isinf(dynamics.first_volley)
    # a start that is out of balance, as "uniform", has hardly a spike in the first 5 ms
    first = np.asarray(dynamics.rates)[0]
    np.testing.assert_allclose(first, expected, rtol=0.7)


# --- statistics ------------------------------------------------------------------------------


@pytest.mark.parametrize("net", [unclustered(N_E=800, N_I=200), NetworkParams(N_E=800, N_I=200)])
@pytest.mark.parametrize("start", ["uniform", "synchronous"])
def test_statistics_are_those_of_the_spikes(net, start):
    net = net.replace(n_clusters=min(net.n_clusters, 4), rep=min(net.rep, 2.5))
    dynamics = population_dynamics(net, 600.0, start=start, seed=4, bin=2.0, warmup=100.0)
    spikes = population_spikes(net, 600.0, start=start, seed=4)
    # a spike in NEST's way is at the end of its time step
    times, ids = spikes[0] - 0.1, spikes[1]
    statistics = rbn.spike_statistics([times, ids], net, tlim=(100.0, 600.0))
    np.testing.assert_allclose(dynamics.mean_rates, statistics["rate"], rtol=1e-5)
    np.testing.assert_allclose(dynamics.fano_factor, statistics["synchrony"], rtol=1e-4)
    counts = np.concatenate([dynamics.counts_E, dynamics.counts_I])
    np.testing.assert_allclose(counts / 0.5, statistics["neuron_rate"], rtol=1e-5)
    edges = np.arange(0, 601, 2)
    for i, limits in enumerate(((0, 800), (800, 1000))):
        inside = (ids >= limits[0]) & (ids < limits[1])
        histogram = np.histogram(times[inside] + 1e-6, edges)[0]
        size = limits[1] - limits[0]
        np.testing.assert_allclose(dynamics.rates[:, i], histogram / size / 0.002, rtol=1e-5)
    np.testing.assert_allclose(dynamics.time, edges[:-1] + 1)
    if net.n_clusters > 1:
        np.testing.assert_array_equal(dynamics.active_clusters, statistics["active_clusters"])


def test_volleys_are_counted_once_each():
    sample = Sample(1, 8, 10)
    counts = np.zeros((300, 2, 1), np.float32)
    # volleys every 50 ms, spread over 3 ms, from 20 ms; below 40 % at 200 ms
    for start in (20, 70, 120, 170, 270):
        counts[start : start + 3, 1] = 3
    counts[220, 1] = 4
    records = activity.Records(1.0, 1, 100)
    dynamics = activity.describe(jnp.array(counts), jnp.zeros((1, 18)), sample, records)
    assert dynamics.n_volleys == 3
    # two intervals, of 50 and 100 ms
    assert dynamics.volleys_per_s == pytest.approx(1000 / 75)
    # 4 of 10 neurons are not more than 40 %: the second millisecond makes a volley
    assert dynamics.first_volley == 22


# --- batches, precision, bad input -----------------------------------------------------------


def leaves_equal(first, second):
    for field in dataclasses.fields(rbn.Dynamics):
        np.testing.assert_array_equal(
            getattr(first, field.name), getattr(second, field.name), err_msg=field.name
        )


def element(dynamics, index):
    return jax.tree.map(lambda array: array[index], dynamics)


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({}, "asynchronous"),
        ({"neuron_type": "iaf_psc_alpha"}, "rand"),
        ({"neuron_type": "iaf_psc_delta"}, "rand"),
        ({"connection_rule": "fixed_indegree"}, "rand"),
        ({"clustering": "probabilities", "rep": 3.0}, "rand"),
    ],
)
def test_every_kind_of_network_in_both_precisions(changes, start, dtype):
    """Under strict promotion of dtypes and ranks."""
    net = CLUSTERED.replace(I_th_E=2.0, **changes)
    with jax.numpy_rank_promotion("raise"):
        dynamics = population_dynamics(net, 60.0, start=start)
        spikes = population_spikes(net, 60.0, start=start)
    assert dynamics.mean_rates.dtype == dtype
    assert (np.asarray(dynamics.mean_rates) > 1).all()
    late = spikes[0] > 20.05
    assert late.sum() == float(dynamics.counts_E.sum() + dynamics.counts_I.sum())


def test_a_seed_is_one_realisation_whether_kappa_is_traced():
    one = population_dynamics(CLUSTERED, 60.0)
    batch = population_dynamics(CLUSTERED.replace(kappa=[1.0, 0.5]), 60.0)
    leaves_equal(element(batch, 0), one)


MESH = """
import sys
import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
import rbn_jax as rbn

net = rbn.NetworkParams(N_E=80, N_I=20, n_clusters=4, rep=2.0, I_th_E=2.0)
gei = np.linspace(1.0, 1.4, 8, dtype=np.float32)


def simulate(gei):
    return rbn.population_dynamics(net.replace(gei=gei), 30.0).mean_rates


expected = np.stack([simulate(value) for value in gei])
part = PartitionSpec("x")
for axis_type in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((8,), ("x",), axis_types=(axis_type,))
    placed = jax.device_put(gei, NamedSharding(mesh, part))
    results = [simulate(placed)]
    with jax.set_mesh(mesh):
        results.append(jax.jit(jax.shard_map(simulate, in_specs=part, out_specs=part))(placed))
    for result in results:
        assert len(result.addressable_shards) == 8
        assert result.addressable_shards[0].data.shape == (1, 2)
        # potentials may differ in the last digit, and then a spike in time
        np.testing.assert_allclose(result, expected, rtol=0.1)
"""


def test_devices_share_a_batch():
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    command = [sys.executable, "-W", "error", "-c", MESH]
    process = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("net", [SMALL, CLUSTERED])
def test_batches_are_their_networks(net):
    currents = np.array([[1.5], [2.0]])
    seeds = np.array([3, 4, 5])
    batch = population_dynamics(net.replace(I_th_E=currents), 60.0, seed=seeds)
    assert batch.rates.shape == (2, 3, 60, 2)
    mapped = jax.vmap(
        lambda current: jax.vmap(
            lambda seed: population_dynamics(net.replace(I_th_E=current), 60.0, seed=seed)
        )(seeds)
    )(currents[:, 0])
    for i, j in np.ndindex(2, 3):
        one = population_dynamics(net.replace(I_th_E=currents[i, 0]), 60.0, seed=int(seeds[j]))
        leaves_equal(element(batch, (i, j)), one)
        # potentials may differ in the last digit where XLA compiles other products
        np.testing.assert_allclose(mapped.mean_rates[i, j], one.mean_rates, rtol=0.05, atol=0.5)


def test_a_batch_of_potentials_and_delays():
    net = SMALL.replace(delay=np.array([0.1, 2.0, 0.5]))
    potentials = np.random.default_rng(0).uniform(-20, 20, (3, 100))
    batch = population_dynamics(net, 60.0, start=potentials)
    for i, delay in enumerate((0.1, 2.0, 0.5)):
        one = population_dynamics(SMALL.replace(delay=delay), 60.0, start=potentials[i])
        leaves_equal(element(batch, i), one)
    traced = jax.vmap(lambda delay: population_dynamics(SMALL.replace(delay=delay), 60.0))
    rates = traced(np.array([0.1, 20.0])).mean_rates
    assert np.isfinite(rates[0]).all()
    assert np.isnan(rates[1]).all()


def test_a_number_for_v_m_is_the_start_of_all_neurons():
    at_rest = population_dynamics(SMALL.replace(V_m=0.0), 60.0)
    leaves_equal(at_rest, population_dynamics(SMALL, 60.0, start="synchronous"))


def test_precision_changes_rates_by_less_than_a_seed():
    net = unclustered(N_E=800, N_I=200)
    dynamics = population_dynamics(net, 900.0, start="uniform", seed=np.arange(4))
    single = np.asarray(dynamics.mean_rates)
    with jax.enable_x64(True):
        dynamics = population_dynamics(net, 900.0, start="uniform", seed=np.arange(4))
        double = np.asarray(dynamics.mean_rates)
    assert single.dtype == np.float32
    assert double.dtype == np.float64
    spread = double.std(0)
    assert (np.abs(single.mean(0) - double.mean(0)) < 1.5 * spread).all()


def test_other_sizes_and_distributed_currents():
    net = unclustered(N_E=1000, N_I=100, delta_I_xE=0.5)
    dynamics = population_dynamics(net, 300.0, start="uniform")
    assert dynamics.counts_E.shape == (1000,)
    assert dynamics.counts_I.shape == (100,)
    with pytest.warns(RuntimeWarning, match="a sample of 400 neurons stands for N_E=1000"):
        sampled = population_dynamics(net, 300.0, start="uniform", neurons=(400, 100))
    assert sampled.counts_E.shape == (400,)
    np.testing.assert_allclose(sampled.mean_rates, dynamics.mean_rates, rtol=0.3)


def test_sweeps_reduce_and_keep_dynamics(tmp_path):
    store = tmp_path / "dynamics.zarr"
    # a sweep traces all parameters, on some of which shapes depend
    fn = functools.partial(population_dynamics, duration=150.0, neurons=(80, 20), n_clusters=1)
    net = SMALL.replace(I_th_E=2.0)
    dataset = rbn.sweep(fn, net, {"gei": [1.0, 1.5]}, store=store)
    assert dataset["mean_rates"].dims == ("gei", "population")
    again = rbn.sweep(fn, net, {"gei": [1.0, 1.5]}, store=store)
    xr.testing.assert_equal(dataset, again)
    means = rbn.sweep(fn, net, {"gei": [1.0, 1.5]}, reduce=rbn.reductions.Mean("gei"))
    expected = dataset["mean_rates"].mean("gei")
    np.testing.assert_allclose(means["mean_rates_mean"], expected, rtol=1e-6)


def test_another_number_of_clusters_than_said_gives_nan():
    fn = functools.partial(population_dynamics, duration=30.0, neurons=(80, 20), n_clusters=4)
    numbers = np.array([4.0, 5.0])
    rates = jax.vmap(lambda n: fn(CLUSTERED.replace(n_clusters=n)).mean_rates)(numbers)
    np.testing.assert_array_equal(np.isnan(rates).any(1), [False, True])
    with pytest.raises(ValueError, match="n_clusters=5: the networks have 4"):
        population_dynamics(CLUSTERED, 30.0, n_clusters=5)


def test_network_states_are_those_of_single_runs():
    states = rbn.network_states(SMALL, seeds=[2, 7], starts=["synchronous"], duration=150.0)
    for i, seed in enumerate((2, 7)):
        one = population_dynamics(SMALL, 150.0, start="synchronous", seed=seed)
        assert states["locked"].values[0, i] == one.locked
        np.testing.assert_array_equal(states["rate"].values[0, i], one.mean_rates)
    locked = states["locked"].values[0]
    assert states["locked_share"].values[0] == locked.mean()
    for name, selected in (("rate_locked", locked), ("rate_asynchronous", ~locked)):
        rates = states["rate"].values[0][selected]
        expected = rates.mean(0) if selected.any() else [np.nan, np.nan]
        np.testing.assert_allclose(states[name].values[0], expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"duration": 0.0}, "duration=0.0 ms: must be a finite number > 0"),
        ({"duration": 10.5}, "duration=10.5 ms: must be a multiple of bin=1.0"),
        ({"dt": 0.3}, "dt=0.3 ms: must divide 5 ms"),
        ({"bin": 0.25}, "bin=0.25 ms: must be a multiple of dt=0.1"),
        ({"warmup": 60.0}, "warmup=60.0 ms: .* less than duration=60.0"),
        ({"start": "random"}, "unknown start 'random'; did you mean rand?"),
        ({"start": np.zeros(7)}, r"start has the shape \(7,\): must be \(..., 100\)"),
        ({"start": np.full(100, np.nan)}, "start: potentials must be finite"),
        ({"start": ["uniform", "rand"]}, "start=.*network_states takes several starts"),
        ({"seed": -1}, "seed=-1: must be whole numbers from 0"),
        ({"seed": 0.5}, "seed=0.5: must be whole numbers"),
        ({"neurons": (80,)}, r"neurons=\(80,\): must be two whole numbers"),
        ({"neurons": (0, 20)}, r"neurons=\(0, 20\): must be two whole numbers"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        population_dynamics(SMALL, **{"duration": 60.0, **arguments})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"delay": 0.01}, "delay=0.01 ms: must be from dt=0.1 ms"),
        ({"delay": 70.0}, "delay=70.0 ms: .* to duration=60.0 ms"),
        ({"N_E": 81, "n_clusters": 4, "rep": 2.0}, "N_E=81: must be a multiple of n_clusters=4"),
        ({"N_E": np.array([80, 100])}, "N_E=.*: must be one whole number"),
        ({"tau_E": -1.0}, "tau_E=-1 ms: must be a finite number > 0"),
    ],
)
def test_bad_networks_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        population_dynamics(SMALL.replace(**changes), 60.0)


def test_traced_sizes_are_refused_with_advice():
    with pytest.raises(
        ValueError, match="N_E is traced: shapes of arrays depend on it; give neurons="
    ):
        jax.vmap(lambda n: population_dynamics(SMALL.replace(N_E=n), 60.0))(np.array([80.0, 90.0]))


def test_times_between_steps_are_rounded_with_a_warning():
    with pytest.warns(RuntimeWarning, match="delay=0.15 ms is no multiple of dt=0.1 ms"):
        rounded = population_dynamics(SMALL.replace(delay=0.15), 60.0)
    leaves_equal(rounded, population_dynamics(SMALL.replace(delay=0.2), 60.0))
    with pytest.warns(RuntimeWarning, match="t_ref=4.94 ms .* up to the next"):
        rounded = population_dynamics(SMALL.replace(t_ref=4.94), 60.0)
    leaves_equal(rounded, population_dynamics(SMALL.replace(t_ref=5.0), 60.0))


def test_other_functions_refuse_batches():
    batch = SMALL.replace(gei=np.array([1.0, 1.2]))
    with pytest.raises(ValueError, match=r"gei has the shape .*: must be one network"):
        population_spikes(batch, 60.0)
    with pytest.raises(ValueError, match="seed and start: must be those of one network"):
        population_spikes(SMALL, 60.0, seed=np.arange(2))
    with pytest.raises(ValueError, match=r"duration=60.05 ms: must be a multiple of dt=0.1"):
        population_spikes(SMALL, 60.05)
    with pytest.raises(ValueError, match="must be a number or a list"):
        rbn.network_states(SMALL, seeds=np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"gei has the shape .*: must be one network"):
        rbn.network_states(batch)
    with pytest.raises(ValueError, match="seeds=0"):
        rbn.network_states(SMALL, seeds=0)
    with pytest.raises(ValueError, match="unknown start 'slow'"):
        rbn.network_states(SMALL, starts=["slow"])
    dynamics = population_dynamics(batch, 60.0)
    with pytest.raises(ValueError, match="rates have the shape"):
        rbn.plot.plot_dynamics(dynamics)


def test_invalid_parameters_give_nan_under_a_trace():
    for name, good in {"tau_E": 20.0, "t_ref": 2.0}.items():

        def rates(value, name=name):
            return population_dynamics(SMALL.replace(**{name: value}), 10.0).mean_rates

        found = np.asarray(jax.vmap(rates)(np.array([good, -1.0])))
        assert np.isfinite(found[0]).all(), name
        assert np.isnan(found[1]).all(), name


# --- volleys ---------------------------------------------------------------------------------


def volley_time(net):
    """Return T by SciPy, from the current after a volley and the linear membrane."""
    inputs = np.asarray(net.weights(), float)[0] * net.baseline_conn_prob[0]
    inputs = inputs * [net.N_E, net.N_I]
    mean = net.E_L + net.I_th_E * (net.V_th_E - net.E_L)
    waited = net.t_ref - net.delay

    def current(t):
        total = 0.0
        for weight, tau in zip(inputs, (net.tau_syn_ex, net.tau_syn_in), strict=True):
            time = t + waited
            shape = np.exp(-time / tau)
            if net.synapse == "alpha":
                shape *= np.e * time / tau
            total += weight * shape
        return total

    def distance(T):
        def response(t):
            return current(t) * np.exp(-(T - t) / net.tau_E) / net.C_m

        potential = mean + (net.V_r - mean) * np.exp(-T / net.tau_E)
        return potential + quad(response, 0, T, epsabs=1e-12, limit=200)[0] - net.V_th_E

    return brentq(distance, 1.0, 300.0, xtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tau_syn_ex": 20.0, "tau_syn_in": 20.0},
        {"neuron_type": "iaf_psc_alpha"},
        {"I_th_E": 2.0, "delay": 1.5, "C_m": 200.0},
    ],
)
def test_volley_rate_is_that_of_the_integrated_membrane(changes):
    net = NetworkParams(**changes)
    expected = 1000 / (net.t_ref + volley_time(net))
    # the tolerance of the quadrature
    assert float(rbn.volley_rate(net)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.usefixtures("x64")
def test_volley_rate_of_delta_synapses_is_that_of_free_membranes():
    net = NetworkParams(neuron_type="iaf_psc_delta")
    time = 20 * np.log(1.25 / 0.25)
    assert float(rbn.volley_rate(net)) == pytest.approx(1000 / (5 + time), rel=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["tau_E", "tau_syn_in", "gei", "I_th_E", "t_ref", "delay", "V_r"])
def test_volley_rate_has_derivatives(name):
    net = NetworkParams(delay=0.5)

    def rate(value):
        return rbn.volley_rate(net.replace(**{name: value}))

    value = float(getattr(net, name))
    h = 1e-4
    below, at, above = (float(rate(value + shift)) for shift in (-h, 0.0, h))
    slope = (above - below) / (2 * h)
    curvature = (above - 2 * at + below) / h**2
    assert float(jax.grad(rate)(value)) == pytest.approx(slope, rel=1e-6)
    # rounding of the second difference, 1e-14 / h^2
    assert float(jax.grad(jax.grad(rate))(value)) == pytest.approx(curvature, rel=1e-3, abs=1e-4)


def test_volley_rate_outside_its_domain_is_nan():
    batch = NetworkParams(I_th_E=np.array([0.9, 1.0, 1.25]))
    np.testing.assert_array_equal(np.isnan(rbn.volley_rate(batch)), [True, True, False])
    assert np.isnan(rbn.volley_rate(NetworkParams(delay=6.0)))
    assert np.isnan(jax.jit(lambda d: rbn.volley_rate(NetworkParams(delay=d)))(-1.0))
    with jax.numpy_rank_promotion("raise"):
        rates = rbn.volley_rate(batch.replace(gei=np.array([[1.0], [1.2]])))
    assert rates.shape == (2, 3)
    assert np.isnan(jax.grad(lambda x: rbn.volley_rate(NetworkParams(I_th_E=x)))(0.9))


def test_volley_rate_is_that_of_nest_in_networks_that_all_fire():
    errors = []
    for run in STATES:
        all_fire = run["rate_E"] > 0.9 * run["rate_I"]
        if run["volleys_per_s"] and all_fire:
            expected = run["volleys_per_s"]
            errors.append(abs(rbn.volley_rate(NetworkParams(**run["changed"])) / expected - 1))
    assert len(errors) >= 10
    # 6 % over 23 runs in the study that the formula is from
    assert np.median(errors) < 0.08
