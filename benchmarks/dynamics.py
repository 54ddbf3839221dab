"""Benchmark of population dynamics: states, rates and clusters against NEST, and speed.

    python -m benchmarks.dynamics           all tables; twenty minutes on one core
    python -m benchmarks.dynamics states    run one of states, rates, clusters, speed

Prints tables and writes them to results/dynamics.md, where those of the other parts stay. The runs
of NEST are those of tests/data/nest_states.json, results/nest_rates.json and
results/nest_clusters.json.
"""

import functools
import os

# before JAX is imported, which counts the cores
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import json
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

import rbn_jax as rbn
from benchmarks import clusters as cluster_benchmark
from benchmarks import rates as rate_benchmark
from benchmarks.nest_runs import read_or_simulate
from benchmarks.sections import make_section
from benchmarks.timing import timed
from rbn_jax import nest
from rbn_jax.recordings import ACTIVE_RATE, ACTIVE_RATIO

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "dynamics.md"
NEST_STATES = ROOT / "tests" / "data" / "nest_states.json"
UNCLUSTERED = rbn.NetworkParams(n_clusters=1, rep=1.0)

N_SEEDS = 3
# of states, of which the last two thirds count
DURATION_MS = 1500.0
# of asynchronous rates, after a warm-up
RATES_DURATION_MS = 4000.0
RATES_WARMUP_MS = 1000.0
# of networks with clusters, which switch states
CLUSTER_DURATION_MS = 3000.0
CLUSTER_WARMUP_MS = 1000.0
N_CLUSTER_SEEDS = 6
HELD_SHARE = 0.9
SPEED_ROUNDS = 3


def simulate(
    net: rbn.NetworkParams, start: str, duration: float, warmup: float | None
) -> rbn.Dynamics:
    """Return the dynamics of a network from N_SEEDS seeds."""
    seeds = np.arange(N_SEEDS)
    return rbn.population_dynamics(net, duration, start=start, seed=seeds, warmup=warmup)


def medians(dynamics: rbn.Dynamics, is_locked: bool) -> np.ndarray:
    """Return median rates of E and I, Fano factor of E and volleys over the seeds in a state."""
    chosen = np.asarray(dynamics.locked) == is_locked
    columns = np.column_stack(
        [dynamics.mean_rates, dynamics.fano_factor[:, 0], dynamics.volleys_per_s]
    )
    return np.median(columns[chosen], axis=0) if chosen.any() else np.full(4, np.nan)


def percent(value: float) -> str:
    """Return a relative error as text."""
    return f"{100 * value:+.1f} %" if np.isfinite(value) else "-"


def compare_states() -> Iterator[str]:
    """Compare lock-step, rates and volleys with NEST's runs from several starts."""
    yield (
        "| network | start | NEST locked | seeds locked | E | error | I | error | volleys/s "
        "| error |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    wrong = 0
    runs = json.loads(NEST_STATES.read_text("utf-8"))["runs"]
    volley_errors = []
    for run in runs:
        net = UNCLUSTERED.replace(**run["changed"])
        dynamics = simulate(net, run["start"], DURATION_MS, None)
        n_locked = int(np.sum(dynamics.locked))
        is_right = (2 * n_locked > N_SEEDS) == run["lock_step"]
        wrong += not is_right
        rate_e, rate_i, _, volleys = medians(dynamics, run["lock_step"])
        errors = rate_e / run["rate_E"] - 1, rate_i / run["rate_I"] - 1
        cells = ["-", "-"]
        if run["volleys_per_s"]:
            error = volleys / run["volleys_per_s"] - 1
            if np.isfinite(error):
                volley_errors.append(abs(error))
            cells = [f"{run['volleys_per_s']:.1f}", percent(error)]
        name = ", ".join(f"{key} {value:g}" for key, value in run["changed"].items()) or "default"
        locked = "yes" if run["lock_step"] else "no"
        yield (
            f"| {name} | {run['start']} | {locked} | {n_locked} of {N_SEEDS}"
            f"{'' if is_right else ' (wrong)'} | {run['rate_E']:.2f} | {percent(errors[0])} "
            f"| {run['rate_I']:.2f} | {percent(errors[1])} | {cells[0]} | {cells[1]} |"
        )
    yield ""
    yield (
        f"Wrong by majority: {wrong} of {len(runs)}. Volleys per second: median error "
        f"{100 * statistics.median(volley_errors):.1f} %, largest {100 * max(volley_errors):.0f} %."
    )


def compare_rates() -> Iterator[str]:
    """Compare asynchronous rates and Fano factors with NEST's runs from uniform potentials."""
    yield "| network | seeds locked | E | error | I | error | Fano factor of E | error |"
    yield "|---|---|---|---|---|---|---|---|"
    errors = []
    missed = []
    for name, changes in rate_benchmark.NETWORKS.items():
        net = rate_benchmark.UNCLUSTERED.replace(**changes)
        run = read_or_simulate(
            name, net, rate_benchmark.SEEDS.get(name, 1), rate_benchmark.STORED_RUNS
        )
        is_locked = run["fano"] is not None and run["fano"] > 100
        net = net.replace(n_clusters=1)
        dynamics = simulate(net, "uniform", RATES_DURATION_MS, RATES_WARMUP_MS)
        n_locked = int(np.sum(dynamics.locked))
        if (2 * n_locked > N_SEEDS) != is_locked:
            missed.append(name)
        rate_e, rate_i, fano, _ = medians(dynamics, is_locked)
        row = rate_e / run["E"] - 1, rate_i / run["I"] - 1, fano / (run["fano"] or np.nan) - 1
        if not is_locked:
            errors.append(row)
        yield (
            f"| {name}{', in lock-step in NEST' if is_locked else ''} | {n_locked} of {N_SEEDS} "
            f"| {run['E']:.2f} | {percent(row[0])} | {run['I']:.2f} | {percent(row[1])} "
            f"| {run['fano'] or np.nan:.1f} | {percent(row[2])} |"
        )
    columns = np.abs(np.array(errors)).T
    typical, largest = np.nanmedian(columns, 1), np.nanmax(columns, 1)
    yield ""
    yield (
        f"Asynchronous networks: median error of E {100 * typical[0]:.1f} %, of I "
        f"{100 * typical[1]:.1f} %, of the Fano factor {100 * typical[2]:.0f} %; largest "
        f"{100 * largest[0]:.1f} %, {100 * largest[1]:.1f} %, {100 * largest[2]:.0f} %. Lock-step "
        f"wrong by majority: {', '.join(missed) or 'none'}."
    )


def describe_clusters(dynamics: rbn.Dynamics) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return shares of the time, rates of active clusters of E, and whether one is held.

    The first two are for 0 to 7 active clusters.
    """
    # rates are in bins of 1 ms, and clusters are active in windows of 100 ms
    late = np.asarray(dynamics.cluster_rates)[round(CLUSTER_WARMUP_MS) :, 0]
    windows = late.reshape(-1, 100, late.shape[-1]).mean(1)
    active = windows > max(ACTIVE_RATIO * windows.mean(), ACTIVE_RATE)
    numbers = active.sum(1)
    shares, rates = np.zeros(8), np.full(8, np.nan)
    for number in range(8):
        chosen = numbers == number
        shares[number] = chosen.mean()
        if number and chosen.any():
            rates[number] = windows[chosen][active[chosen]].mean()
    return shares, rates, bool((active.mean(0) > HELD_SHARE).any())


def compare_clusters() -> Iterator[str]:
    """Compare rates, active clusters and their rates with NEST's runs of clustered networks."""
    yield (
        "| network | seeds: NEST, here | E | error | I | error | active, longest: NEST, here "
        "| their rate of E | error | one held > 90 %, here |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for network in cluster_benchmark.read_networks():
        runs = network.runs
        rates = np.median([(run["E"], run["I"]) for run in runs], axis=0)
        activities = [run["clusters"] for run in runs if "clusters" in run]
        n = min(8, len(activities[0]["share_of_time"]))
        shares = np.mean([activity["share_of_time"][:n] for activity in activities], axis=0)
        longest = int(np.argmax(shares))
        n_seeds = N_CLUSTER_SEEDS if len(runs) > 1 else 2
        found = []
        for seed in range(n_seeds):
            dynamics = rbn.population_dynamics(
                network.net,
                CLUSTER_DURATION_MS,
                start="uniform",
                seed=seed,
                warmup=CLUSTER_WARMUP_MS,
            )
            found.append((np.asarray(dynamics.mean_rates), *describe_clusters(dynamics)))
        found_rates = np.median([row[0] for row in found], axis=0)
        found_longest = int(np.argmax(np.mean([row[1] for row in found], axis=0)))
        n_held = sum(row[3] for row in found)
        errors = found_rates / rates - 1
        cells = ["-", "-"]
        if longest:
            in_nest = [activity["rates_active"][longest][0] for activity in activities]
            expected = np.median([rate for rate in in_nest if rate is not None])
            here = np.nanmedian([row[2][longest] for row in found])
            cells = [f"{expected:.1f}", percent(here / expected - 1)]
        yield (
            f"| {network.name} | {len(runs)}, {n_seeds} | {rates[0]:.2f} | {percent(errors[0])} "
            f"| {rates[1]:.2f} | {percent(errors[1])} | {longest}, {found_longest} "
            f"| {cells[0]} | {cells[1]} | {n_held} of {n_seeds} |"
        )


def measure_speed() -> Iterator[str]:
    """Measure a second of biological time, with NEST in the same run on the same core."""
    yield "| network of 5,000 neurons | here [s] | first call less run [s] | NEST [s] | ratio |"
    yield "|---|---|---|---|---|"
    cases = {"without clusters": UNCLUSTERED, "20 clusters, rep 6": rbn.NetworkParams()}
    for name, net in cases.items():
        jax.clear_caches()
        first, _ = timed(functools.partial(run_second, net, 0))
        times, nest_times = [], []
        # in turn, as other work on the machine slows both
        for seed in range(1, SPEED_ROUNDS + 1):
            times.append(timed(functools.partial(run_second, net, seed))[0])
            nest_times.append(timed(functools.partial(run_nest, net, seed))[0])
        here, in_nest = statistics.median(times), statistics.median(nest_times)
        yield (
            f"| {name} | {here:.2f} | {first - here:.1f} | {in_nest:.1f} | {in_nest / here:.1f} |"
        )
    yield ""
    yield "| networks without clusters in a batch | seconds | seconds per network |"
    yield "|---|---|---|"
    for count in (1, 4, 16):
        seeds = np.arange(count)
        run_second(UNCLUSTERED, seeds)
        rounds = []
        for _ in range(3):
            rounds.append(timed(functools.partial(run_second, UNCLUSTERED, seeds))[0])
        seconds = statistics.median(rounds)
        yield f"| {count} | {seconds:.1f} | {seconds / count:.2f} |"


def run_second(net: rbn.NetworkParams, seed: Any) -> rbn.Dynamics:
    """Simulate a second."""
    dynamics = rbn.population_dynamics(net, 1000.0, start="uniform", seed=seed)
    return jax.block_until_ready(dynamics)


def run_nest(net: rbn.NetworkParams, seed: int) -> np.ndarray:
    """Build the network in NEST and simulate a second."""
    return nest.simulate(net, 1000.0, seed=seed, warmup=0.0, V_m=0.0, progress=False)


SECTIONS: dict[str, tuple[str, Callable[[], Iterator[str]]]] = {
    "states": ("States from several starts", compare_states),
    "rates": ("Rates from uniform potentials", compare_rates),
    "clusters": ("Clusters", compare_clusters),
    "speed": ("Speed", measure_speed),
}


def main() -> None:
    """Make the tables that the command line names, by default all."""
    names = sys.argv[1:] or list(SECTIONS)
    if unknown := [name for name in names if name not in SECTIONS]:
        sys.exit(f"{', '.join(unknown)}: must be of {', '.join(SECTIONS)}")
    for name in names:
        make_section(RESULTS, "Population dynamics", SECTIONS, name)


if __name__ == "__main__":
    main()
