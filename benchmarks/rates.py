"""Firing rates: NEST against the theories, calibrated networks in NEST, speed, states found.

    python -m benchmarks.rates              all of them
    python -m benchmarks.rates nest         one of nest, calibrated, speed, found

What NEST gave is kept in results/nest_rates.json, where a run of the same network and seed is not
run again: delete the file to start anew. Tables are printed; all of them together go to
results/rates.md.
"""

import itertools
import json
import os
import sys
import time
import warnings
from pathlib import Path

if hasattr(os, "sched_setaffinity"):  # before JAX counts the cores
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from nnmt_rates import of_network

import rbn_jax as rbn
from benchmarks.implementations import devices
from benchmarks.timing import timed
from rbn_jax.rates import field
from rbn_jax.rates.equations import THEORIES
from rbn_jax.rates.populations import from_network, lanes

RESULTS = Path(__file__).parent / "results"
KEPT = RESULTS / "nest_rates.json"
WARMUP, SIMULATED = 1000.0, 5000.0  # ms
SPARSE = {
    f"baseline_conn_prob_{pair}": p
    for pair, p in zip(("EE", "EI", "IE", "II"), (0.1, *(0.25,) * 3), strict=True)
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
    "half the connections": SPARSE,
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
SYNCHRONOUS = 100  # Fano factor of the population count: 3 to 20 where it is asynchronous


def simulated(net, seed):
    """Rates [spikes/s] of E and I in NEST, and the Fano factor of the E count in 5 ms bins."""
    import nest

    nest.verbosity = nest.VerbosityLevel.ERROR
    nest.ResetKernel()
    nest.rng_seed = seed
    pops = [_neurons(nest, net, x) for x in "EI"]
    js = net.s * np.asarray(rbn.calculate_RBN_weights(net), float) / np.sqrt(net.N_E + net.N_I)
    for (i, j), weight in np.ndenumerate(js):
        p = float(net.baseline_conn_prob[i, j])
        rule = {"rule": "pairwise_bernoulli", "p": p}
        if net.fixed_indegree:
            rule = {"rule": "fixed_indegree", "indegree": int(p * len(pops[j]))}
        rule |= {"allow_autapses": False, "allow_multapses": False}
        nest.Connect(pops[j], pops[i], rule, {"weight": weight, "delay": float(net.delay)})
    recorders = [nest.Create("spike_recorder", params={"start": WARMUP}) for _ in pops]
    for pop, recorder in zip(pops, recorders, strict=True):
        nest.Connect(pop, recorder)
    nest.Simulate(WARMUP + SIMULATED)
    times = [recorder.events["times"] for recorder in recorders]
    rates = [1000 * len(t) / len(pop) / SIMULATED for t, pop in zip(times, pops, strict=True)]
    counts = np.histogram(times[0], np.arange(WARMUP, WARMUP + SIMULATED + 1, 5.0))[0]
    fano = float(counts.var() / counts.mean()) if counts.any() else None
    return {"E": rates[0], "I": rates[1], "fano": fano}


def _neurons(nest, net, x):
    v_th, tau = getattr(net, f"V_th_{x}"), getattr(net, f"tau_{x}")
    current = getattr(net, f"I_th_{x}") * float(rbn.rheobase_current(tau, net.E_L, v_th, net.C_m))
    width = getattr(net, f"delta_I_x{x}") / 2
    if width:
        current = nest.random.uniform(current * (1 - width), current * (1 + width))
    return nest.Create(
        net.neuron_type,
        int(getattr(net, f"N_{x}")),
        params={
            "E_L": net.E_L, "C_m": net.C_m, "tau_m": tau, "t_ref": net.t_ref, "V_th": v_th,
            "V_reset": net.V_r, "tau_syn_ex": net.tau_syn_ex, "tau_syn_in": net.tau_syn_in,
            "I_e": current, "V_m": nest.random.uniform(-20.0, 20.0),
        },
    )  # fmt: skip


def kept(name, net, seed):
    """The run of this name, from the file if it was of this network and seed, or from NEST."""
    runs = json.loads(KEPT.read_text("utf-8")) if KEPT.exists() else {}
    what = {"network": repr(net), "seed": seed, "simulated": SIMULATED}
    if what.items() - runs.get(name, {}).items():
        print(f"NEST: {name}", file=sys.stderr, flush=True)
        runs[name] = what | simulated(net, seed)
        KEPT.write_text(json.dumps(runs, indent=1) + "\n", "utf-8")
    return runs[name]


def against_nest():
    """Relative errors of each theory, E / I, and the largest of those that the theory is for."""
    yield "| network | NEST E, I [spikes/s] | Fano | " + " | ".join(THEORIES) + " |"
    yield "|---|---|---|" + "---|" * len(THEORIES)
    counted = []
    for name, changed in RUNS.items():
        net = rbn.NetworkParams().replace(**changed)
        run = kept(name, net, 2 if "seed 2" in name else 1)
        truth = np.array([run["E"], run["I"]])
        errors = np.array([rbn.firing_rates(net, theory) for theory in THEORIES]) / truth - 1
        if run["fano"] < SYNCHRONOUS and net.N_E + net.N_I >= 5000:
            counted.append(errors)
        cells = " | ".join(f"{100 * e:+.1f} / {100 * i:+.1f} %" for e, i in errors)
        state = "" if run["fano"] < SYNCHRONOUS else ", lock-step"
        yield f"| {name} | {truth[0]:.2f}, {truth[1]:.2f}{state} | {run['fano']:.0f} | {cells} |"
    for word, of in (("median", np.median), ("largest", np.max)):
        sizes = 100 * of(np.abs(counted), axis=0)
        yield (
            f"| {word}, N >= 5000, not in lock-step | | | "
            + " | ".join(f"{e:.1f} / {i:.1f} %" for e, i in sizes)
            + " |"
        )


def calibrated():
    """What NEST gives for networks that were calibrated to rates."""
    yield "| network | I_th_E, I_th_I | NEST E, I [spikes/s] | error |"
    yield "|---|---|---|---|"
    for name, target in TARGETS.items():
        net = rbn.calibrate(rbn.NetworkParams(), target, theory=THEORIES[-1])
        run = kept(name, net, 1)
        errors = 100 * (np.array([run["E"], run["I"]]) / target - 1)
        yield (
            f"| {name} | {net.I_th_E:.3f}, {net.I_th_I:.3f} | {run['E']:.2f}, {run['I']:.2f} | "
            f"{errors[0]:+.1f} / {errors[1]:+.1f} % |"
        )


def speed(counts=(1600, 100_000)):
    """One core, and the first accelerator if there is one, against NNMT's least squares."""
    import nnmt

    warnings.filterwarnings("ignore", message="k=sqrt")  # NNMT's word on slow synapses
    head = ("solver", "device", "networks", "trace [s]", "compile [s]", "a network [µs]")
    yield f"| {' | '.join(head)} | speed-up over NNMT |"
    yield "|---" * (len(head) + 1) + "|"
    some, missed, drawn, begun = 20, 0, draws(counts[0]), time.perf_counter()
    for i in range(some):
        one = {name: x[i] for name, x in drawn.items()}
        try:
            of_network(rbn.NetworkParams().replace(**one))
        except RuntimeError:  # "converged in a local minimum"
            missed += 1
    theirs = 1e6 * (time.perf_counter() - begun) / some
    words = f"NNMT {nnmt.__version__}, shift, least squares, {missed} not solved"
    yield f"| {words} | cpu | {some} | | | {theirs:.0f} | 1 |"
    for kind, device in devices():
        sizes = counts[:1] if kind == "cpu" else counts
        dtypes = ("float64",) if kind == "cpu" else ("float64", "float32")
        for theory, count, dtype in itertools.product(THEORIES, sizes, dtypes):
            with jax.enable_x64(dtype == "float64"), jax.default_device(device):
                tracing, compiling, ours = measured(theory, draws(count), 5 if kind == "cpu" else 1)
            numbers = f"{tracing:.1f} | {compiling:.1f} | {ours:.2f} | {theirs / ours:.0f}"
            yield f"| rbn_jax, {theory}, {dtype} | {kind} | {count} | {numbers} |"


def draws(count):
    """Background currents and couplings of networks, most of them asynchronous."""
    rng = np.random.default_rng(2026)
    ends = {"I_th_E": (1.2, 3.0), "gei": (1.1, 1.4), "s": (0.8, 1.2), "I_th_I": (0.6, 1.2)}
    return {name: rng.uniform(*limits, count) for name, limits in ends.items()}


def measured(theory, drawn, compilations):
    """Median seconds to trace and to compile a batch, each anew, and microseconds a network."""
    net = rbn.NetworkParams().replace(**drawn)
    jitted = jax.jit(rbn.firing_rates, static_argnums=1)
    pairs = []
    for _ in range(compilations):
        jax.clear_caches()
        tracing, lowered = timed(lambda: jitted.lower(net, theory))
        compiling, compiled = timed(lowered.compile)
        pairs.append((tracing, compiling))
    times = [timed(lambda: jax.block_until_ready(compiled(net)))[0] for _ in range(7)]
    count = len(drawn["I_th_E"])
    return *np.median(pairs, 0), 1e6 * float(np.median(times)) / count


def random_networks(count, seed=2026):
    """Networks drawn from a box: all that rates depend on but C_m, E_L and the thresholds."""
    rng = np.random.default_rng(seed)
    box = {
        **{"tau_E": (10, 40), "tau_I": (5, 25), "tau_syn_ex": (1, 8), "tau_syn_in": (1, 8)},
        **{"t_ref": (0.5, 6), "V_r": (-10, 12), "gei": (1.02, 1.6), "gie": (0.7, 1.4)},
        **{"gii": (0.7, 1.3), "s": (0.5, 1.5), "I_th_E": (1.05, 4), "I_th_I": (0.5, 3)},
        **{"delta_I_xE": (0, 0.4), "N_E": (1000, 20000), "N_I": (300, 5000)},
        **{f"baseline_conn_prob_{pair}": (0.2, 0.7) for pair in ("EI", "IE", "II")},
        "baseline_conn_prob_EE": (0.05, 0.5),
    }
    draws = {name: rng.uniform(*ends, count) for name, ends in box.items()}
    return rbn.NetworkParams().replace(**draws | {x: np.round(draws[x]) for x in ("N_E", "N_I")})


def found(count=100_000):
    """Random networks of which no root was found, or one beyond the table of the theory."""
    yield "| theory | networks | no root | beyond the table |"
    yield "|---|---|---|---|"
    with jax.enable_x64(True):
        networks = random_networks(count)
        populations = lanes(from_network(networks))[0]
        search = jax.jit(
            lambda p, theory: field.self_consistent(field.coupled(p, theory), theory),
            static_argnums=1,
        )
        for theory in THEORIES:
            roots = int(jnp.isfinite(search(populations, theory)).all(0).sum())
            states = int(rbn.mean_field(networks, theory).converged.sum())
            yield f"| {theory} | {count} | {count - roots} | {roots - states} |"


PARTS = {"nest": against_nest, "calibrated": calibrated, "speed": speed, "found": found}

if __name__ == "__main__":
    chosen = sys.argv[1:] or list(PARTS)
    unknown = set(chosen) - set(PARTS)
    if unknown:
        sys.exit(f"{', '.join(unknown)}: must be of {', '.join(PARTS)}")
    text = ""
    for part in chosen:
        print(f"\n{PARTS[part].__doc__.splitlines()[0]}\n", file=sys.stderr)
        lines = [PARTS[part].__doc__.splitlines()[0], ""]
        for line in PARTS[part]():
            print(line, flush=True)
            lines.append(line)
        text += "\n".join(lines) + "\n\n"
    if chosen == list(PARTS):
        (RESULTS / "rates.md").write_text(f"# Firing rates\n\n{text.rstrip()}\n", "utf-8")
