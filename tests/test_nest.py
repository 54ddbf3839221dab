"""Networks built in NEST, and comparison with it.

Each simulation has its own process, as NEST has one kernel in each.
"""

import functools
import json
import subprocess
import sys

import jax
import numpy as np
import pytest
import xarray as xr

import rbn_jax as rbn
from rbn_jax import NetworkParams, cluster_matrices, helper, nest
from rbn_jax.sweeps.host import HostFunction

pytestmark = pytest.mark.usefixtures("nest_wheel")
TIME_CONSTANTS = [(20.0, 5.0), (10.0, 5.0), (20.0, 3.0), (10.0, 2.0), (10.0, 10.0), (3.0, 12.0)]

PSP = """
import json, sys
import nest
nest.verbosity = nest.VerbosityLevel.ERROR
peaks = []
for tau_m, tau_syn in json.loads(sys.argv[1]):
    nest.ResetKernel()
    nest.resolution = 0.001
    neuron = nest.Create("iaf_psc_exp", params={
        "tau_m": tau_m, "tau_syn_ex": tau_syn, "C_m": 1.0, "E_L": 0.0, "V_m": 0.0, "V_th": 1e9})
    source = nest.Create("spike_generator", params={"spike_times": [0.1]})
    meter = nest.Create("multimeter", params={"record_from": ["V_m"], "interval": 0.001})
    nest.Connect(source, neuron, syn_spec={"weight": 1.0, "delay": 0.1})
    nest.Connect(meter, neuron)
    nest.Simulate(3.0 * max(tau_m, tau_syn))
    peaks.append(float(meter.events["V_m"].max()))
print("RESULT" + json.dumps(peaks))
"""

NETWORK = """
import json, sys
import nest
import numpy as np
from rbn_jax import NetworkParams, helper
nest.verbosity = nest.VerbosityLevel.ERROR
net = NetworkParams(N_E=400.0, N_I=100.0, delay=0.5).to_dict()
js = helper.calculate_RBN_weights(net)
js *= net["s"]
nest.ResetKernel()
nest.rng_seed = 1
pops = []
for pop, tau, v_th in (("E", net["tau_E"], net["V_th_E"]), ("I", net["tau_I"], net["V_th_I"])):
    current = net[f"I_th_{pop}"] * helper.rheobase_current(tau, net["E_L"], v_th, net["C_m"])
    pops.append(nest.Create(net["neuron_type"], net[f"N_{pop}"], params={
        "E_L": net["E_L"], "C_m": net["C_m"], "tau_m": tau, "t_ref": net["t_ref"], "V_th": v_th,
        "V_reset": net["V_r"], "I_e": current, "tau_syn_ex": net["tau_syn_ex"],
        "tau_syn_in": net["tau_syn_in"], "V_m": nest.random.uniform(-20.0, 20.0)}))
for i, j in np.ndindex(2, 2):
    nest.Connect(pops[j], pops[i], conn_spec={
        "rule": "pairwise_bernoulli", "p": net["baseline_conn_prob"][i, j]}, syn_spec={
        "weight": js[i, j] / np.sqrt(net["N_E"] + net["N_I"]), "delay": net["delay"]})
recorder = nest.Create("spike_recorder")
nest.Connect(pops[0] + pops[1], recorder)
nest.Simulate(500.0)
events = recorder.events
print("RESULT" + json.dumps([events["times"].tolist(), events["senders"].tolist()]))
"""


# builds networks; returns numbers of synapses between all populations, and their weights
BUILD = """
import json, sys
import nest
import numpy as np
import rbn_jax as rbn
from rbn_jax.nest import build
results = []
for changes in json.loads(sys.argv[1]):
    network = build(rbn.NetworkParams(**changes), seed=3, threads=2)
    populations = network.E + network.I
    counts, weights, in_degrees = [], [], []
    for targets in populations:
        for sources in populations:
            synapses = nest.GetConnections(sources, targets)
            counts.append(len(synapses))
            weights.append(sorted(set(np.atleast_1d(synapses.weight))) if len(synapses) else [])
            of_target = np.bincount(np.atleast_1d(synapses.target), minlength=targets[-1].global_id)
            in_degrees.append([int(n) for n in of_target[targets[0].global_id:]])
    neuron = network.I[0][0].get(["I_e", "tau_m", "V_m", "V_reset"])
    results.append([counts, weights, in_degrees, neuron])
print("RESULT" + json.dumps(results))
"""

SIMULATE = """
import json
import numpy as np
import nest as kernel
import rbn_jax as rbn
from rbn_jax import nest
net = rbn.NetworkParams(N_E=80, N_I=20, n_clusters=2, rep=1.5, I_th_E=1.5, delta_I_xI=0.4)
whole = nest.simulate(net, 250.0, seed=4, warmup=130.0, progress=False)
network = nest.build(net, seed=4, threads=1)
currents = np.array(network.I[0].I_e)
kernel.Simulate(380.0)
events = network.recorder.events
at_once = np.stack([events["times"] - 130.0, events["senders"] - 1.0])[:, events["times"] >= 130.0]
stimulus = nest.Stimulus([1], 2.0, 50.0, 150.0)
V_m = np.linspace(0.0, 5.0, 100)
stimulated = nest.simulate(net, 250.0, seed=4, stimuli=[stimulus], V_m=V_m, progress=False)
potentials = nest.build(net, seed=4, V_m=V_m).E[0].V_m
print("RESULT" + json.dumps([
    whole.tolist(), at_once.tolist(), stimulated.tolist(), currents.tolist(), list(potentials)]))
"""


def run_nest(script, *arguments):
    """Return what a script prints after RESULT; NEST prints a banner before."""
    command = [sys.executable, "-c", script, *arguments]
    process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.split("RESULT")[1])


def test_the_psp_of_an_iaf_psc_exp_neuron_has_the_peak_of_the_formula():
    peaks = run_nest(PSP, json.dumps(TIME_CONSTANTS))
    expected = [helper.postsynaptic_current_to_potential(*pair) for pair in TIME_CONSTANTS]
    np.testing.assert_allclose(peaks, expected, rtol=1e-6)


def test_a_network_with_these_weights_runs_and_is_drawn():
    spikes = np.array(run_nest(NETWORK))
    neurons, seconds = 500, 0.5
    rate = spikes.shape[1] / neurons / seconds
    # the network is active, and inhibition keeps it far below 1 / t_ref = 200 spikes/s
    assert 0.1 < rate < 50
    ax = helper.raster_plot({"times": spikes[0], "senders": spikes[1]})
    assert sum(len(line.get_xdata()) for line in ax.lines) == spikes.shape[1]


def test_simulations_are_swept_with_networks_and_seeds_as_axes(tmp_path, monkeypatch):
    net = NetworkParams(N_E=80, N_I=20, n_clusters=2, rep=1.5)
    fn = functools.partial(nest.run, simtime=800.0, warmup=100.0)
    arguments = (fn, {"net": net, "seed": 1}, {"net.I_th_E": [1.2, 1.6], "seed": [2, 3]})
    options = {"host": True, "store": tmp_path / "runs.zarr", "progress": False}
    swept = rbn.sweep(*arguments, **options).load()
    assert swept["rate"].dims == ("net.I_th_E", "seed", "population")
    assert swept["rate"].attrs["units"] == "spikes/s"
    assert (np.diff(swept["rate"].sel(population="E"), axis=0) > 0).all()
    assert len(np.unique(swept["cv"])) == swept["cv"].size
    assert ((swept["active_clusters"] >= 0) & (swept["active_clusters"] <= 2)).all()
    # what is stored is not simulated again
    monkeypatch.setattr(HostFunction, "outcome", None)
    xr.testing.assert_identical(rbn.sweep(*arguments, **options).load(), swept)


def test_run_names_what_is_wrong_in_its_mapping():
    with pytest.raises(ValueError, match="seeds: unknown; known are net, seed, threads, simtime"):
        nest.run({"net": NetworkParams(), "seeds": 1})
    with pytest.raises(ValueError, match="params lacks net"):
        nest.run({"seed": 1})
    with pytest.raises(ValueError, match=r"seed=1.5: must be a whole number"):
        nest.run({"net": NetworkParams(), "seed": 1.5})


SMALL = {"N_E": 200, "N_I": 50, "n_clusters": 2, "rep": 1.5, "C_m": 250.0, "delay": 0.5}
BUILT = [
    {**SMALL},
    {**SMALL, "kappa": 0.5, "gei": 1.4},
    {**SMALL, "kappa": 0.0, "rep": 1.9, "rj": 1.0, "baseline_conn_prob": [[0.6, 0.7], [0.5, 0.8]]},
    {**SMALL, "connection_rule": "pairwise_poisson", "kappa": 0.3},
    {**SMALL, "connection_rule": "fixed_indegree"},
    {**SMALL, "connection_rule": "fixed_indegree", "kappa": 0.0},
    {**SMALL, "n_clusters": 1},
    {**SMALL, "neuron_type": "iaf_psc_alpha", "V_m": 3.0},
    {**SMALL, "neuron_type": "iaf_psc_delta"},
]


def test_built_networks_have_the_connections_and_weights_of_the_formulas():
    results = run_nest(BUILD, json.dumps(BUILT))
    for changes, (counts, weights, in_degrees, neuron) in zip(BUILT, results, strict=True):
        net = NetworkParams(**changes)
        with jax.enable_x64(True):
            matrices = cluster_matrices(net)
        size = np.repeat([net.N_E, net.N_I], net.n_clusters) / net.n_clusters
        pairs = np.outer(size, size) - np.diag(size)
        probabilities = np.asarray(matrices.probabilities)
        counts = np.reshape(counts, pairs.shape)
        if net.connection_rule == "fixed_indegree":
            expected = np.floor(probabilities * size)
            np.testing.assert_array_equal(counts, expected * size[:, None])
            for degrees, degree in zip(in_degrees, expected.ravel(), strict=True):
                assert set(degrees) == {degree}
        else:
            # binomial counts, or the wider Poisson ones, are within 5 standard deviations
            deviation = np.sqrt(pairs * probabilities)
            assert (np.abs(counts - pairs * probabilities) < 5 * deviation).all(), changes
        expected = np.asarray(matrices.weights) / np.sqrt(net.N_E + net.N_I)
        for found, weight in zip(weights, expected.ravel(), strict=True):
            np.testing.assert_allclose(found, [weight], rtol=1e-14)
        rheobase = helper.rheobase_current(net.tau_I, net.E_L, net.V_th_I, net.C_m)
        assert neuron["I_e"] == pytest.approx(net.I_th_I * rheobase, rel=1e-14)
        assert neuron["tau_m"] == net.tau_I
        assert net.V_m == "rand" or neuron["V_m"] == net.V_m


def test_a_simulation_is_cut_into_slices_without_an_effect():
    whole, at_once, stimulated, currents, potentials = run_nest(SIMULATE)
    np.testing.assert_array_equal(whole, at_once)
    assert len(whole[0]) > 100
    times, neurons = np.array(stimulated)
    assert set(neurons) <= set(range(100))
    assert 0 <= times.min() <= times.max() <= 250
    # the second cluster of E is stimulated from 50 to 150 ms
    is_stimulated = (times > 50) & (times < 150)
    of_cluster = (neurons >= 40) & (neurons < 80)
    n_during = (is_stimulated & of_cluster).sum()
    assert n_during > 1.5 * (is_stimulated & (neurons < 40)).sum()
    # currents of I are from 0.8 to 1.2 times 0.78 of the rheobase current of 2 pA
    assert 1.248 <= min(currents) < 1.35
    assert 1.77 < max(currents) <= 1.872
    np.testing.assert_allclose(potentials, np.linspace(0.0, 5.0, 100)[:40])


BAD_NETWORKS = [
    ({"N_E": 4010}, "N_E=4010: must be a whole multiple of n_clusters=20"),
    ({"n_clusters": 30.0}, "N_E=4000: .*; N_I=1000: must be a whole multiple"),
    ({"neuron_type": "iaf_cond_exp", "synapse": "exp"}, "'iaf_cond_exp': must be one of iaf_psc"),
    ({"neuron_type": "gif_psc_exp"}, "'gif_psc_exp': must be one of iaf_psc_exp"),
    ({"synapse": "alpha"}, "neuron_type='iaf_psc_exp' has 'exp' synapses"),
    (
        {"connection_rule": "fixed_indegree", "baseline_conn_prob": np.ones((2, 2))},
        "EE within clusters: an in-degree of 200, but a cluster has 199 neurons",
    ),
    ({"gei": [1.0, 1.2]}, r"gei has the shape \(2,\): must be one network"),
    ({"tau_E": -1.0}, "tau_E=-1 ms"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_NETWORKS)
def test_networks_that_nest_cannot_have_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        nest.connection_args(NetworkParams(**changes))


BAD_RUNS = [
    ({"seed": 0}, "seed=0: must be a whole number >= 1"),
    ({"seed": 2**32}, "seed=4294967296"),
    ({"seed": 1.5}, "seed=1.5"),
    ({"threads": 0}, "threads=0"),
    ({"dt": 0.0}, "dt=0.0 ms"),
    ({"dt": 0.2}, "delay=0.1 ms: must be >= 0.2 and a multiple of dt=0.2 ms"),
    ({"simtime": 0.0}, "simtime=0.0 ms"),
    ({"simtime": 10.05}, "simtime=10.05 ms"),
    ({"simtime": np.inf}, "simtime=inf ms"),
    ({"simtime": "20"}, "simtime='20' ms"),
    ({"dt": 0.1234567}, "dt=0.1234567 ms: must be > 0 and a multiple of 0.001 ms"),
    ({"V_m": ["a"] * 5000}, "V_m"),
    ({"stimuli": nest.Stimulus([0], 1.0, 0.0, 5.0)}, "must be a list of them"),
    ({"stimuli": [([0], 1.0, 0.0, 5.0)]}, "must be a nest.Stimulus"),
    ({"stimuli": [nest.Stimulus(0, 1.0, 0.0, 5.0)]}, "clusters must be a list"),
    ({"stimuli": [nest.Stimulus([True], 1.0, 0.0, 5.0)]}, "cluster True"),
    ({"stimuli": [nest.Stimulus([0], "1", 0.0, 5.0)]}, "amplitude must be a finite number"),
    ({"warmup": -1.0}, "warmup=-1.0 ms"),
    ({"V_m": "random"}, "V_m='random'"),
    ({"V_m": [1.0, 2.0]}, r"V_m has the shape \(2,\)"),
    ({"V_m": np.nan}, "V_m: must be finite"),
    ({"stimuli": [nest.Stimulus([20], 1.0, 0.0, 5.0)]}, "cluster 20 must be .* from 0 to 19"),
    ({"stimuli": [nest.Stimulus([0], 1.0, 0.0, 50.0)]}, "start < stop <= 10 ms"),
    ({"stimuli": [nest.Stimulus([0], 1.0, 6.0, 5.0)]}, "start < stop"),
    ({"stimuli": [nest.Stimulus([1, 1], 1.0, 0.0, 5.0)]}, "cluster 1 is there twice"),
    ({"stimuli": [nest.Stimulus(np.int64(1), 1.0, 0.0, 5.0)]}, "clusters must be a list"),
    ({"simtime": 50000.05}, "simtime=50000.05 ms"),
    ({"stimuli": [nest.Stimulus([0], np.inf, 0.0, 5.0)]}, "amplitude must be a finite number"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_RUNS)
def test_runs_that_nest_cannot_make_are_named(changes, message):
    options = {"simtime": 10.0, "seed": 1, **changes}
    with pytest.raises(ValueError, match=message):
        nest.simulate(NetworkParams(), **options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"t_ref": 0.25}, "t_ref=0.25 ms: must be >= 0 and a multiple of dt=0.1 ms"),
        ({"t_ref": 0.0, "neuron_type": "iaf_psc_exp_ps"}, "t_ref=0.0 ms: must be >= 0.1 and"),
        ({"delay": 0.0}, "delay"),
    ],
)
def test_times_of_networks_that_nest_would_round_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        nest.simulate(NetworkParams(**changes), 10.0, seed=1)


def test_what_is_wrong_in_the_example_is_repeated_on_request():
    net = NetworkParams(C_m=250.0, clustering="probabilities", rep=3.0, delta_I_xE=0.5)
    right, reference = nest.connection_args(net), nest.connection_args(net, reference=True)
    assert right.neurons["I"].I_e_factors is None
    assert reference.neurons["I"].I_e_factors == (0.75, 1.25)
    right_ei, reference_ei = right.connections[2], reference.connections[2]
    assert right_ei.conn_spec["p"] == pytest.approx(0.5 * (1 + 2 * 0.82) / right_ei.repeats)
    assert reference_ei.conn_spec["p"] == 0.5 * (1 + 2**0.82) / reference_ei.repeats
    weights = [block.syn_spec["weight"] for block in (right_ei, reference_ei)]
    assert weights[0] == pytest.approx(250 * weights[1], rel=1e-14)
    for changes, message in [
        ({"kappa": 0.5}, "kappa=0.5: must be 0 or 1 with reference=True"),
        ({"rep": 0.5, "rj": 1.0}, "rep=0.5: must be >= 1"),
        ({"connection_rule": "pairwise_poisson"}, "example has neither"),
    ]:
        with pytest.raises(ValueError, match=message):
            nest.connection_args(net.replace(**changes), reference=True)


def test_in_degrees_are_not_lowered_by_rounding():
    net = NetworkParams(N_E=100, N_I=100, n_clusters=1, connection_rule="fixed_indegree")
    arguments = nest.connection_args(net.replace(baseline_conn_prob_EE=0.29))
    assert arguments.connections[0].conn_spec["indegree"] == 29


def test_traced_networks_are_refused():
    with pytest.raises(ValueError, match="gei is traced by JAX"):
        jax.jit(lambda gei: nest.connection_args(NetworkParams(gei=gei)))(1.2)


def test_numbers_of_float32_are_taken_for_multiples_of_the_time_step():
    net = NetworkParams(delay=np.float32(0.7), rep=1.5)
    with pytest.raises(ValueError, match="threads=0"):
        nest.simulate(net, np.float32(20.3), dt=np.float32(0.1), seed=1, threads=0)
