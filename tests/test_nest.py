"""Comparison with NEST. Each simulation has its own process, as NEST has one kernel in each."""

import json
import subprocess
import sys

import numpy as np
import pytest

from rbn_jax import helper

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
