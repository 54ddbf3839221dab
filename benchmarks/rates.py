"""Firing rates: comparison of the theories with NEST, calibrated networks, speed, states found.

    python benchmarks/rates.py              makes all tables
    python benchmarks/rates.py nest         makes one of nest, calibrated, speed, found

Rates from NEST are stored in results/nest_rates.json. A network is not simulated again with the
same seed; delete the file to simulate all networks again. The tables are printed, and written to
results/rates.md if all of them are made.
"""

import itertools
import json
import os
import sys
import time
import warnings
from pathlib import Path

# one core, chosen before JAX counts them
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import jax
import jax.numpy as jnp
import numpy as np

# this program runs as a script, and NNMT's networks are those of the tests
ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from nnmt_rates import rates_of_network

import rbn_jax as rbn
from benchmarks.streaming import timed
from benchmarks.values import devices
from rbn_jax.rates.equations import find_root
from rbn_jax.rates.populations import make_couplings
from rbn_jax.rates.theories import THEORIES

RESULTS = Path(__file__).parent / "results"
NEST_FILE = RESULTS / "nest_rates.json"
# times [ms]
WARMUP = 1000.0
SIMULATED = 5000.0
HALF_THE_CONNECTIONS = {
    "baseline_conn_prob_EE": 0.1,
    "baseline_conn_prob_EI": 0.25,
    "baseline_conn_prob_IE": 0.25,
    "baseline_conn_prob_II": 0.25,
}
RUNS = {
    "default, seed 1": {},
    "default, seed 2": {},
    "tau_syn 3, 2": {"tau_syn_ex": 3.0, "tau_syn_in": 2.0},
    "gei 1.1": {"gei": 1.1},
    "gei 1.3": {"gei": 1.3},
    "I_th_E 1.5": {"I_th_E": 1.5},
    "I_th_E 2": {"I_th_E": 2.0},
    "I_th_I 1.1": {"I_th_I": 1.1},
    "N 10000": {"N_E": 8000.0, "N_I": 2000.0},
    "N 1500": {"N_E": 1200.0, "N_I": 300.0},
    "tau_m 40, 20": {"tau_E": 40.0, "tau_I": 20.0},
    "fixed in-degree": {"fixed_indegree": True},
    "t_ref 2": {"t_ref": 2.0},
    "V_r 8": {"V_r": 8.0},
    "s 0.8": {"s": 0.8},
    "half the connections": HALF_THE_CONNECTIONS,
    "delta_I_xE 0.2": {"delta_I_xE": 0.2},
    "tau_syn 2": {"tau_syn_ex": 2.0, "tau_syn_in": 2.0},
    "tau_m 15, 15": {"tau_E": 15.0, "tau_I": 15.0},
    "delay 1.5": {"delay": 1.5},
    "tau_syn 0.5": {"tau_syn_ex": 0.5, "tau_syn_in": 0.5},
    "tau_syn 3, 5": {"tau_syn_ex": 3.0, "tau_syn_in": 5.0},
}
TARGETS = {
    "calibrated to 5, 8": (5.0, 8.0),
    "calibrated to 8, 10": (8.0, 10.0),
    "calibrated to 3, 4": (3.0, 4.0),
    "calibrated to 3, 3": (3.0, 3.0),
}
# Fano factor of the count of E spikes above which the state is lock-step; it is 3 to 23 where the
# state is asynchronous
SYNCHRONOUS = 100


def simulate(net, seed):
    """Return rates [spikes/s] of E and I in NEST, and the Fano factor of the E count in 5 ms."""
    import nest

    nest.verbosity = nest.VerbosityLevel.ERROR
    nest.ResetKernel()
    nest.rng_seed = seed
    populations = [create_neurons(nest, net, name) for name in "EI"]
    weights = net.s * np.asarray(rbn.calculate_RBN_weights(net), float) / np.sqrt(net.N_E + net.N_I)
    for (target, source), weight in np.ndenumerate(weights):
        p = float(net.baseline_conn_prob[target, source])
        rule = {"rule": "pairwise_bernoulli", "p": p}
        if net.fixed_indegree:
            rule = {"rule": "fixed_indegree", "indegree": int(p * len(populations[source]))}
        rule |= {"allow_autapses": False, "allow_multapses": False}
        synapse = {"weight": weight, "delay": float(net.delay)}
        nest.Connect(populations[source], populations[target], rule, synapse)
    recorders = []
    for population in populations:
        recorder = nest.Create("spike_recorder", params={"start": WARMUP})
        nest.Connect(population, recorder)
        recorders.append(recorder)
    nest.Simulate(WARMUP + SIMULATED)
    times = [recorder.events["times"] for recorder in recorders]
    rates = []
    for spikes, population in zip(times, populations, strict=True):
        rates.append(1000 * len(spikes) / len(population) / SIMULATED)
    counts = np.histogram(times[0], np.arange(WARMUP, WARMUP + SIMULATED + 1, 5.0))[0]
    fano = float(counts.var() / counts.mean()) if counts.any() else None
    return {"E": rates[0], "I": rates[1], "fano": fano}


def create_neurons(nest, net, population):
    """Create the neurons of population "E" or "I" in NEST."""
    v_th = getattr(net, f"V_th_{population}")
    tau_m = getattr(net, f"tau_{population}")
    rheobase = float(rbn.rheobase_current(tau_m, net.E_L, v_th, net.C_m))
    current = getattr(net, f"I_th_{population}") * rheobase
    half_width = getattr(net, f"delta_I_x{population}") / 2
    if half_width:
        limits = (current * (1 - half_width), current * (1 + half_width))
        current = nest.random.uniform(*limits)
    return nest.Create(
        net.neuron_type,
        int(getattr(net, f"N_{population}")),
        params={
            "E_L": net.E_L,
            "C_m": net.C_m,
            "tau_m": tau_m,
            "t_ref": net.t_ref,
            "V_th": v_th,
            "V_reset": net.V_r,
            "tau_syn_ex": net.tau_syn_ex,
            "tau_syn_in": net.tau_syn_in,
            "I_e": current,
            "V_m": nest.random.uniform(-20.0, 20.0),
        },
    )


def nest_run(name, net, seed):
    """Return the stored run of this name, if it has this network and seed; or simulate it."""
    runs = json.loads(NEST_FILE.read_text("utf-8")) if NEST_FILE.exists() else {}
    settings = {"network": repr(net), "seed": seed, "simulated": SIMULATED}
    if settings.items() - runs.get(name, {}).items():
        print(f"NEST: {name}", file=sys.stderr, flush=True)
        runs[name] = settings | simulate(net, seed)
        NEST_FILE.write_text(json.dumps(runs, indent=1) + "\n", "utf-8")
    return runs[name]


def compare_with_nest():
    """Relative errors of each theory, E / I, and their size where the theories apply."""
    yield "| network | NEST E, I [spikes/s] | Fano | " + " | ".join(THEORIES) + " |"
    yield "|---|---|---|" + "---|" * len(THEORIES)
    errors_where_valid = []
    for name, changes in RUNS.items():
        net = rbn.NetworkParams().replace(**changes)
        run = nest_run(name, net, 2 if "seed 2" in name else 1)
        nest_rates = np.array([run["E"], run["I"]])
        rates = np.array([rbn.firing_rates(net, theory) for theory in THEORIES])
        errors = rates / nest_rates - 1
        is_asynchronous = run["fano"] < SYNCHRONOUS
        if is_asynchronous and net.N_E + net.N_I >= 5000:
            errors_where_valid.append(errors)
        cells = " | ".join(f"{100 * e:+.1f} / {100 * i:+.1f} %" for e, i in errors)
        state = "" if is_asynchronous else ", lock-step"
        yield f"| {name} | {run['E']:.2f}, {run['I']:.2f}{state} | {run['fano']:.0f} | {cells} |"
    for label, reduce in (("median", np.median), ("largest", np.max)):
        sizes = 100 * reduce(np.abs(errors_where_valid), axis=0)
        cells = " | ".join(f"{e:.1f} / {i:.1f} %" for e, i in sizes)
        yield f"| {label}, N >= 5000, not in lock-step | | | {cells} |"


def simulate_calibrated():
    """Rates in NEST of networks that were calibrated by "exact"."""
    yield "| network | I_th_E, I_th_I | NEST E, I [spikes/s] | error |"
    yield "|---|---|---|---|"
    for name, target in TARGETS.items():
        net = rbn.calibrate(rbn.NetworkParams(), target, theory="exact")
        run = nest_run(name, net, 1)
        errors = 100 * (np.array([run["E"], run["I"]]) / target - 1)
        yield (
            f"| {name} | {net.I_th_E:.3f}, {net.I_th_I:.3f} | {run['E']:.2f}, {run['I']:.2f} | "
            f"{errors[0]:+.1f} / {errors[1]:+.1f} % |"
        )


def measure_speed(batch_sizes=(1600, 100_000)):
    """Times on one core, and on the first accelerator if any, beside NNMT's least squares."""
    import nnmt

    # NNMT warns that its method is made for fast synapses
    warnings.filterwarnings("ignore", message="k=sqrt")
    head = ("solver", "device", "networks", "trace [s]", "compile [s]", "a network [µs]")
    yield f"| {' | '.join(head)} | NNMT's over this |"
    yield "|---" * (len(head) + 1) + "|"
    count = 20
    not_solved = 0
    networks = draw_networks(batch_sizes[0])
    start = time.perf_counter()
    for i in range(count):
        changes = {name: values[i] for name, values in networks.items()}
        try:
            rates_of_network(rbn.NetworkParams().replace(**changes))
        except RuntimeError:  # "converged in a local minimum"
            not_solved += 1
    nnmt_time = 1e6 * (time.perf_counter() - start) / count
    solver = f"NNMT {nnmt.__version__}, shift, least squares, {not_solved} not solved"
    yield f"| {solver} | cpu | {count} | | | {nnmt_time:.0f} | 1 |"
    for kind, device in devices():
        is_cpu = kind == "cpu"
        sizes = batch_sizes[:1] if is_cpu else batch_sizes
        dtypes = ("float64",) if is_cpu else ("float64", "float32")
        for theory, size, dtype in itertools.product(THEORIES, sizes, dtypes):
            with jax.enable_x64(dtype == "float64"), jax.default_device(device):
                times = measure(theory, draw_networks(size), 5 if is_cpu else 1)
            trace_time, compile_time, run_time = times
            cells = f"{trace_time:.1f} | {compile_time:.1f} | {run_time:.2f}"
            ratio = f"{nnmt_time / run_time:.0f}"
            yield f"| rbn_jax, {theory}, {dtype} | {kind} | {size} | {cells} | {ratio} |"


def draw_networks(count):
    """Return background currents and couplings of networks, most of them asynchronous."""
    rng = np.random.default_rng(2026)
    limits = {"I_th_E": (1.2, 3.0), "gei": (1.1, 1.4), "s": (0.8, 1.2), "I_th_I": (0.6, 1.2)}
    return {name: rng.uniform(low, high, count) for name, (low, high) in limits.items()}


def measure(theory, changes, compilations):
    """Return median seconds to trace and to compile a batch, and microseconds a network."""
    net = rbn.NetworkParams().replace(**changes)
    jitted = jax.jit(rbn.firing_rates, static_argnums=1)
    preparation_times = []
    for _ in range(compilations):
        jax.clear_caches()
        trace_time, lowered = timed(lambda: jitted.lower(net, theory))
        compile_time, compiled = timed(lowered.compile)
        preparation_times.append((trace_time, compile_time))
    run_times = [timed(lambda: jax.block_until_ready(compiled(net)))[0] for _ in range(7)]
    trace_time, compile_time = np.median(preparation_times, 0)
    return trace_time, compile_time, 1e6 * float(np.median(run_times)) / len(changes["I_th_E"])


def random_networks(count, seed=2026):
    """Draw networks from a box of all parameters that change rates but E_L and the thresholds."""
    limits = {
        "tau_E": (10, 40),
        "tau_I": (5, 25),
        "tau_syn_ex": (1, 8),
        "tau_syn_in": (1, 8),
        "t_ref": (0.5, 6),
        "V_r": (-10, 12),
        "gei": (1.02, 1.6),
        "gie": (0.7, 1.4),
        "gii": (0.7, 1.3),
        "s": (0.5, 1.5),
        "I_th_E": (1.05, 4),
        "I_th_I": (0.5, 3),
        "delta_I_xE": (0, 0.4),
        "N_E": (1000, 20000),
        "N_I": (300, 5000),
        "baseline_conn_prob_EI": (0.2, 0.7),
        "baseline_conn_prob_IE": (0.2, 0.7),
        "baseline_conn_prob_II": (0.2, 0.7),
        "baseline_conn_prob_EE": (0.05, 0.5),
    }
    rng = np.random.default_rng(seed)
    changes = {name: rng.uniform(low, high, count) for name, (low, high) in limits.items()}
    for name in ("N_E", "N_I"):
        changes[name] = np.round(changes[name])
    return rbn.NetworkParams().replace(**changes)


def count_states(count=100_000):
    """Random networks without a root, or with one beyond the table of the theory."""
    yield "| theory | networks | no root | beyond the table |"
    yield "|---|---|---|---|"

    @jax.jit
    def find_roots(params, theory):
        couplings, _ = make_couplings(params, theory)
        return find_root(couplings)

    with jax.enable_x64(True):
        networks = random_networks(count)
        for theory in THEORIES.values():
            roots = int(jnp.isfinite(find_roots(networks, theory)).all(0).sum())
            states = int(rbn.mean_field(networks, theory).converged.sum())
            yield f"| {theory.name} | {count} | {count - roots} | {roots - states} |"


TABLES = {
    "nest": compare_with_nest,
    "calibrated": simulate_calibrated,
    "speed": measure_speed,
    "found": count_states,
}

if __name__ == "__main__":
    chosen = sys.argv[1:] or list(TABLES)
    unknown = set(chosen) - set(TABLES)
    if unknown:
        sys.exit(f"{', '.join(unknown)}: must be of {', '.join(TABLES)}")
    text = ""
    for name in chosen:
        title = TABLES[name].__doc__.splitlines()[0]
        print(f"\n{title}\n", file=sys.stderr)
        lines = [title, ""]
        for line in TABLES[name]():
            print(line, flush=True)
            lines.append(line)
        text += "\n".join(lines) + "\n\n"
    if chosen == list(TABLES):
        (RESULTS / "rates.md").write_text(f"# Firing rates\n\n{text.rstrip()}\n", "utf-8")
