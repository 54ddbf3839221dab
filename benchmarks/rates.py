"""Benchmark of firing rates: errors against NEST, calibration, speed, and roots not found.

    python -m benchmarks.rates              run all four on one core
    python -m benchmarks.rates nest         run one of nest, calibrated, speed, found

Each prints a table; a run of all four also writes them to results/rates.md. The rates that NEST
gave are stored in results/nest_rates.json. A network is simulated only if no run of the same
parameters and seed is stored there; delete the file to simulate all of them again.
"""

import os

# before JAX is imported, which counts the cores
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import itertools
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from nnmt_rates import rates_of_network

import rbn_jax as rbn
from benchmarks.implementations import devices
from benchmarks.nest_runs import read_or_simulate
from benchmarks.timing import timed
from rbn_jax.rates.couplings import make_couplings
from rbn_jax.rates.equations import find_state
from rbn_jax.rates.theories import THEORIES, MeanFieldTheory
from rbn_jax.recordings import LOCK_STEP_FANO_FACTOR

RESULTS = Path(__file__).parent / "results"
STORED_RUNS = RESULTS / "nest_rates.json"

# Smaller networks are in the table, but not in its median and largest errors
SMALLEST_COMPARED_SIZE = 5000

# NEST's example without clusters, to which all networks of this benchmark are changes
UNCLUSTERED = rbn.NetworkParams(rep=1.0)

# What each network changes in it, by its name in the table and in the file
NETWORKS: dict[str, dict[str, Any]] = {
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
    "half the connections": {
        "baseline_conn_prob_EE": 0.1,
        "baseline_conn_prob_EI": 0.25,
        "baseline_conn_prob_IE": 0.25,
        "baseline_conn_prob_II": 0.25,
    },
    "delta_I_xE 0.2": {"delta_I_xE": 0.2},
    "tau_syn 2": {"tau_syn_ex": 2.0, "tau_syn_in": 2.0},
    "tau_m 15, 15": {"tau_E": 15.0, "tau_I": 15.0},
    "delay 1.5": {"delay": 1.5},
    "tau_syn 0.5": {"tau_syn_ex": 0.5, "tau_syn_in": 0.5},
    "tau_syn 3, 5": {"tau_syn_ex": 3.0, "tau_syn_in": 5.0},
}
# Networks with another seed than 1
SEEDS = {"default, seed 2": 2}

# Rates of E and I [spikes/s] that networks are calibrated to, and the networks
CALIBRATED: dict[str, tuple[tuple[float, float], rbn.NetworkParams]] = {
    "calibrated to 5, 8": ((5.0, 8.0), UNCLUSTERED),
    "calibrated to 5, 8, C_m 250": ((5.0, 8.0), UNCLUSTERED.replace(C_m=250.0)),
    "calibrated to 5, 8, cluster gain 0.5": ((5.0, 8.0), rbn.NetworkParams()),
    "calibrated to 8, 10": ((8.0, 10.0), UNCLUSTERED),
    "calibrated to 3, 4": ((3.0, 4.0), UNCLUSTERED),
    "calibrated to 3, 3": ((3.0, 3.0), UNCLUSTERED),
}
# The gain that clustered networks are calibrated to, which is a margin to their transition
CALIBRATED_GAIN = 0.5

# Bounds of the random networks of `speed`, most of which are asynchronous
SPEED_BOUNDS = {
    "I_th_E": (1.2, 3.0),
    "gei": (1.1, 1.4),
    "s": (0.8, 1.2),
    "I_th_I": (0.6, 1.2),
}

# Bounds of the random networks of `found`: every parameter that the rates depend on, except
# C_m, E_L and the thresholds. The order matters, as it is the order of the random draws.
FOUND_BOUNDS = {
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


def compare_with_nest(networks: Mapping[str, Mapping[str, Any]] = NETWORKS) -> Iterator[str]:
    """Yield a table of the relative errors of each theory, theory / NEST - 1.

    Its last rows have the median and the largest absolute error over the networks that the
    theories are made for: asynchronous ones of at least SMALLEST_COMPARED_SIZE neurons.
    """
    yield "| network | NEST E, I [spikes/s] | Fano | " + " | ".join(THEORIES) + " |"
    yield "|---|---|---|" + "---|" * len(THEORIES)
    compared_errors = []
    for name, changes in networks.items():
        net = UNCLUSTERED.replace(**changes)
        run = read_or_simulate(name, net, SEEDS.get(name, 1), STORED_RUNS)
        nest_rates = np.array([run["E"], run["I"]])
        theory_rates = np.array([rbn.firing_rates(net, theory) for theory in THEORIES.values()])
        errors = theory_rates / nest_rates - 1
        fano = run["fano"]
        if fano is None:
            raise ValueError(f"{name}: E is silent in NEST, and has no relative error")
        is_synchronous = fano > LOCK_STEP_FANO_FACTOR
        if not is_synchronous and net.N_E + net.N_I >= SMALLEST_COMPARED_SIZE:
            compared_errors.append(errors)
        cells = []
        for error_e, error_i in 100 * errors:
            cells.append(f"{error_e:+.1f} / {error_i:+.1f} %")
        state = ", lock-step" if is_synchronous else ""
        rates = f"{run['E']:.2f}, {run['I']:.2f}{state}"
        yield f"| {name} | {rates} | {fano:.0f} | {' | '.join(cells)} |"
    for statistic, reduction in (("median", np.median), ("largest", np.max)):
        cells = []
        for error_e, error_i in 100 * reduction(np.abs(compared_errors), axis=0):
            cells.append(f"{error_e:.1f} / {error_i:.1f} %")
        label = f"{statistic}, N >= {SMALLEST_COMPARED_SIZE}, not in lock-step"
        yield f"| {label} | | | {' | '.join(cells)} |"


def calibrate(rates: tuple[float, float], start: rbn.NetworkParams) -> rbn.NetworkParams:
    """Calibrate the currents of a network and, if it has clusters, rep."""
    if start.rep == 1:
        return rbn.calibrate(start, rates, theory="exact")
    free = ("I_th_E", "I_th_I", "rep")
    return rbn.calibrate(start, rates, free, "exact", CALIBRATED_GAIN)


def simulate_calibrated() -> Iterator[str]:
    """Yield a table of the rates in NEST of networks that were calibrated by "exact"."""
    yield "| network | I_th_E, I_th_I | NEST E, I [spikes/s] | error |"
    yield "|---|---|---|---|"
    for name, (rates, start) in CALIBRATED.items():
        net = calibrate(rates, start)
        run = read_or_simulate(name, net, 1, STORED_RUNS)
        error_e = 100 * (run["E"] / rates[0] - 1)
        error_i = 100 * (run["I"] / rates[1] - 1)
        yield (
            f"| {name} | {net.I_th_E:.3f}, {net.I_th_I:.3f} | {run['E']:.2f}, {run['I']:.2f} | "
            f"{error_e:+.1f} / {error_i:+.1f} % |"
        )


def measure_speed(small: int = 1600, large: int = 100_000, n_nnmt: int = 20) -> Iterator[str]:
    """Yield a table of times, on one core and on the first accelerator, against NNMT.

    Args:
        small: the number of networks in a batch, on the CPU the only one.
        large: the number of networks in a second batch on the accelerator.
        n_nnmt: the number of networks that NNMT solves, one after the other.
    """
    yield (
        "| solver | device | networks | trace [s] | compile [s] | a network [µs] "
        "| speed-up over NNMT |"
    )
    yield "|---" * 7 + "|"
    nnmt_version, nnmt_microseconds, n_failed = time_nnmt(draw_values(small), n_nnmt)
    yield (
        f"| NNMT {nnmt_version}, shift, least squares, {n_failed} not solved | cpu | {n_nnmt} "
        f"| | | {nnmt_microseconds:.0f} | 1 |"
    )
    for kind, device in devices():
        if kind == "cpu":
            sizes = (small,)
            dtypes = ("float64",)
            compilations = 5
        else:
            sizes = (small, large)
            dtypes = ("float64", "float32")
            compilations = 1
        for theory, size, dtype in itertools.product(THEORIES.values(), sizes, dtypes):
            with jax.enable_x64(dtype == "float64"), jax.default_device(device):
                tracing, compiling, microseconds = time_firing_rates(
                    theory, draw_values(size), compilations
                )
            yield (
                f"| rbn_jax, {theory.name}, {dtype} | {kind} | {size} | {tracing:.1f} "
                f"| {compiling:.1f} | {microseconds:.2f} | {nnmt_microseconds / microseconds:.0f} |"
            )


def draw_values(count: int) -> dict[str, np.ndarray]:
    """Return random values (count,) by name of the parameter, of the networks of `speed`."""
    rng = np.random.default_rng(2026)
    values = {}
    for name, bounds in SPEED_BOUNDS.items():
        values[name] = rng.uniform(*bounds, count)
    return values


def time_nnmt(values: Mapping[str, np.ndarray], count: int) -> tuple[str, float, int]:
    """Return NNMT's version, its microseconds a network, and how many it did not solve.

    It solves the first `count` networks of those that have these values.
    """
    # imported here, so that the import is not within the measured time
    import nnmt

    # NNMT warns that its expansion is not accurate for slow synapses
    warnings.filterwarnings("ignore", message="k=sqrt")
    n_failed = 0
    begin = time.perf_counter()
    for i in range(count):
        network_values = {name: array[i] for name, array in values.items()}
        try:
            rates_of_network(UNCLUSTERED.replace(**network_values))
        except RuntimeError:
            # NNMT: "converged in a local minimum"
            n_failed += 1
    microseconds = 1e6 * (time.perf_counter() - begin) / count
    return nnmt.__version__, microseconds, n_failed


def time_firing_rates(
    theory: MeanFieldTheory, values: Mapping[str, np.ndarray], compilations: int
) -> tuple[float, float, float]:
    """Return median seconds to trace and to compile a batch, and microseconds a network.

    Args:
        theory: the theory of the rates.
        values: (networks,) by name of the parameter.
        compilations: how often the function is traced and compiled anew.
    """
    net = UNCLUSTERED.replace(**values)
    count = len(net.I_th_E)
    jitted_rates = jax.jit(rbn.firing_rates)
    tracing_times, compiling_times, call_times = [], [], []
    for _ in range(compilations):
        # otherwise functions within this one would not be traced again
        jax.clear_caches()
        tracing_time, lowered = timed(lambda: jitted_rates.lower(net, theory))
        compiling_time, compiled = timed(lowered.compile)
        tracing_times.append(tracing_time)
        compiling_times.append(compiling_time)
    for _ in range(7):
        call_time, _ = timed(lambda: jax.block_until_ready(compiled(net, theory)))
        call_times.append(call_time)
    microseconds = 1e6 * float(np.median(call_times)) / count
    return float(np.median(tracing_times)), float(np.median(compiling_times)), microseconds


def random_networks(count: int, seed: int = 2026) -> rbn.NetworkParams:
    """Return a batch of networks whose parameters are uniform between `FOUND_BOUNDS`."""
    rng = np.random.default_rng(seed)
    values = {}
    for name, bounds in FOUND_BOUNDS.items():
        values[name] = rng.uniform(*bounds, count)
    for name in ("N_E", "N_I"):
        values[name] = np.round(values[name])
    return UNCLUSTERED.replace(**values)


@jax.jit
def has_root(networks: rbn.NetworkParams, theory: MeanFieldTheory) -> Array:
    """Return for each network whether a root is found, also where the theory does not hold."""
    couplings, _ = make_couplings(networks, theory)
    return jnp.isfinite(find_state(couplings)[0]).all(0)


def count_without_state(count: int = 100_000) -> Iterator[str]:
    """Yield a table of how many random networks have no root, or one beyond the theory's table.

    `mean_field` finds no state in either case.
    """
    yield "| theory | networks | no root | beyond the table |"
    yield "|---|---|---|---|"
    with jax.enable_x64(True):
        networks = random_networks(count)
        for theory in THEORIES.values():
            n_roots = int(has_root(networks, theory).sum())
            n_states = int(rbn.mean_field(networks, theory).converged.sum())
            yield f"| {theory.name} | {count} | {count - n_roots} | {n_roots - n_states} |"


# The title and the function of each table, by the name on the command line
TABLES: dict[str, tuple[str, Callable[[], Iterator[str]]]] = {
    "nest": (
        "Relative errors of each theory, E / I, and the largest of those that the theory is for.",
        compare_with_nest,
    ),
    "calibrated": (
        "What NEST gives for networks that were calibrated to rates.",
        simulate_calibrated,
    ),
    "speed": (
        "One core, and the first accelerator if there is one, against NNMT's least squares.",
        measure_speed,
    ),
    "found": (
        "Random networks of which no root was found, or one beyond the table of the theory.",
        count_without_state,
    ),
}


def main() -> None:
    """Print the tables that the command line names; write results/rates.md if it names none."""
    names = sys.argv[1:] or list(TABLES)
    unknown = [name for name in names if name not in TABLES]
    if unknown:
        sys.exit(f"{', '.join(unknown)}: must be of {', '.join(TABLES)}")
    sections = []
    for name in names:
        title, make_table = TABLES[name]
        # to standard error, so that standard output has the tables only
        print(f"\n{title}\n", file=sys.stderr)
        lines = [title, ""]
        for line in make_table():
            print(line, flush=True)
            lines.append(line)
        sections.append("\n".join(lines))
    if names == list(TABLES):
        text = "\n\n".join(["# Firing rates", *sections])
        (RESULTS / "rates.md").write_text(f"{text}\n", "utf-8")


if __name__ == "__main__":
    main()
