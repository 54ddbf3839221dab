"""Benchmark of clustered networks: errors against NEST and published points, and speed.

    python -m benchmarks.clusters           errors and speed on one core
    python -m benchmarks.clusters errors    run one of errors, speed, figure

"errors" and "speed" print tables and write them to results/clusters.md, where the tables of the
other one stay. "figure" draws the phase diagram docs/clusters_phase.png. The runs of NEST are
stored in results/nest_clusters.json; a network is simulated only if no run of the same parameters
and seed is stored there.
"""

import os

# before JAX is imported, which counts the cores
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import functools
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import rbn_jax as rbn
from benchmarks.nest_runs import NestRun, read_or_simulate
from benchmarks.rates import draw_values
from benchmarks.sections import make_section
from benchmarks.timing import timed
from rbn_jax.nest.comparison import LARGEST_ACTIVE

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "clusters.md"
NEST_RUNS = ROOT / "benchmarks" / "results" / "nest_clusters.json"
FIGURE = ROOT / "docs" / "clusters_phase.png"

# What each network changes in NEST's example, and the seeds of its runs
NETWORKS: list[tuple[dict[str, Any], Sequence[int]]] = [
    ({"rep": 2.0}, [1]),
    ({"rep": 3.0}, [1]),
    ({"rep": 3.5}, [1]),
    ({"rep": 4.0}, [1]),
    ({"rep": 5.0}, [1]),
    ({"rep": 6.0}, range(1, 7)),
    ({"rep": 8.0}, [1]),
    ({"rep": 10.0}, [1]),
    ({"rep": 15.0}, [1]),
    ({"rep": 6.0, "rj": 0.5}, [1]),
    ({"rep": 3.0, "rj": 0.0}, [1]),
    (
        {
            "rep": 3.0,
            "N_E": 2400,
            "N_I": 600,
            "n_clusters": 6,
            "rj": 0.75,
            "tau_syn_ex": 3.0,
            "tau_syn_in": 2.0,
        },
        [1],
    ),
    ({"rep": 3.0, "kappa": 0.0}, [1]),
    ({"rep": 2.75, "rj": 0.75, "tau_syn_ex": 3.0, "tau_syn_in": 2.0}, [1]),
    ({"rep": 5.0, "I_th_E": 2.0, "I_th_I": 1.2}, range(1, 7)),
]

# States of active clusters that NEST shows for a smaller part of the time are left out
LEAST_SHARE = 0.05
# The least gain at which a state is not stable
CRITICAL_GAIN = 1.0

# The network of Rostami et al. (2024), Fig. 2d, apart from n_clusters and rep
PUBLISHED = rbn.NetworkParams(
    V_th_E=15.0,
    V_th_I=15.0,
    tau_syn_ex=3.0,
    tau_syn_in=2.0,
    I_th_E=2.14,
    I_th_I=1.26,
    rj=0.75,
)
# rep at which the published Fano factor passes 1.5, by n_clusters. The values are read off the
# figure, of which one pixel is 0.05.
PUBLISHED_REP = {10: 3.19, 20: 5.15, 40: 7.94, 55: 9.85}
# with rj = 0: rep at which the published Fano factor falls below 0.5, as states are frozen
PUBLISHED_REP_OF_E_CLUSTERS = {10: 1.75, 15: 2.26, 20: 2.88}

# Networks of the measurement of speed, drawn in the same way as those of benchmarks.rates
N_TIMED = 1600
ROUNDS = 7
REP_OF_SYMMETRIC = (2.0, 5.0)
REP_OF_ACTIVE = (7.0, 12.0)
N_ACTIVE = 2


class Activity(NamedTuple):
    """How long a number of clusters was active, and rates [spikes/s], NaN where none is stored.

    share: part of the simulated time
    rates: E in active clusters, E in other ones, I in active clusters, I in other ones
    range_E: lowest and highest rate of E in active clusters in one run
    """

    n_active: int
    share: float
    rates: np.ndarray
    range_E: tuple[float, float]


class NestNetwork(NamedTuple):
    """A network, and the runs of NEST that simulated it with different seeds.

    name: what the network changes in NEST's example
    rates: (2,) of E and I, averaged over the simulated time of all runs [spikes/s]
    """

    name: str
    net: rbn.NetworkParams
    runs: list[NestRun]
    rates: np.ndarray


def read_networks() -> list[NestNetwork]:
    """Return the networks with their runs, which are simulated if they are not stored."""
    networks = []
    for changes, seeds in NETWORKS:
        net = rbn.NetworkParams(**changes)
        name = describe(changes)
        runs = []
        for seed in seeds:
            runs.append(read_or_simulate(f"{name}, seed {seed}", net, seed, NEST_RUNS))
        rates = np.mean([(run["E"], run["I"]) for run in runs], axis=0)
        networks.append(NestNetwork(name, net, runs, rates))
    return networks


def describe(changes: dict[str, Any]) -> str:
    """Return what a network changes in NEST's example."""
    words = []
    for name, value in changes.items():
        words.append("probabilities" if name == "kappa" else f"{name} {value:g}")
    return ", ".join(words)


def percent(error: float) -> str:
    """Return a relative error in per cent, and a dash where there is none."""
    return f"{100 * error:+.1f} %" if np.isfinite(error) else "-"


def percent_pair(errors: np.ndarray) -> str:
    """Return the relative errors of E and I."""
    if not np.isfinite(errors).all():
        return "-"
    return f"{100 * errors[0]:+.1f} / {100 * errors[1]:+.1f} %"


def format_number(number: float) -> str:
    """Return a number with two decimals, and a dash where there is none."""
    return f"{number:.2f}" if np.isfinite(number) else "-"


def compare_symmetric(networks: Sequence[NestNetwork], beyond: bool) -> Iterator[str]:
    """Yield a table of the errors of the symmetric state, the largest of "quenched" first.

    beyond: take the networks beyond the transition by "quenched", and not those below it
    """
    yield (
        "| network | NEST E, I [spikes/s] | gain, quenched | quenched | gain, exact | exact |\n"
        "|---|---|---|---|---|---|"
    )
    rows = []
    for network in networks:
        quenched = rbn.mean_field(network.net)
        if (float(quenched.cluster_gain) >= CRITICAL_GAIN) != beyond:
            continue
        exact = rbn.mean_field(network.net, "exact")
        cells = []
        for state in (quenched, exact):
            errors = np.asarray(state.rates) / network.rates - 1
            cells += [format_number(float(state.cluster_gain)), percent_pair(errors)]
        largest = np.abs(np.asarray(quenched.rates) / network.rates - 1).max()
        rates = f"{network.rates[0]:.2f}, {network.rates[1]:.2f}"
        rows.append((largest, f"| {network.name} | {rates} | {' | '.join(cells)} |"))
    for _, row in sorted(rows, reverse=True):
        yield row


def average_activity(runs: Sequence[NestRun]) -> list[Activity]:
    """Return for each number of active clusters its share of the time, and the average rates.

    A run counts by the time for which it shows this number.
    """
    shares = np.array([run["clusters"]["share_of_time"] for run in runs])
    # (runs, numbers of active clusters, E and I), NaN for None
    active = np.array([run["clusters"]["rates_active"] for run in runs], float)
    inactive = np.array([run["clusters"]["rates_inactive"] for run in runs], float)
    rates = np.stack([active, inactive], axis=-1)
    activities = []
    for n_active in np.flatnonzero(shares.sum(0)):
        seen = shares[:, n_active] > 0
        # E in active clusters, E in others, and the same of I
        values = rates[seen, n_active].reshape(-1, 4)
        average = np.average(values, axis=0, weights=shares[seen, n_active])
        range_e = (values[:, 0].min(), values[:, 0].max())
        activities.append(Activity(int(n_active), shares[:, n_active].mean(), average, range_e))
    return activities


def theory_states(net: rbn.NetworkParams) -> dict[int, tuple[float, np.ndarray]]:
    """Return gain and rates, in the order of `Activity`, by the number of active clusters."""
    symmetric = rbn.mean_field(net)
    rates = np.asarray(symmetric.rates)
    states = {0: (float(symmetric.cluster_gain), np.array([np.nan, rates[0], np.nan, rates[1]]))}
    for n_active in range(1, min(LARGEST_ACTIVE, int(net.n_clusters) - 1) + 1):
        state = rbn.cluster_state(net, n_active)
        pairs = np.stack([state.rates_active, state.rates_inactive])
        states[n_active] = (float(state.gain), pairs.T.ravel())
    return states


def compare_active_numbers(networks: Sequence[NestNetwork]) -> Iterator[str]:
    """Yield a table of the most frequent number of active clusters, and that of least gain."""
    yield "| network | runs | NEST, most of the time | share | theory, least gain | gain |"
    yield "|---|---|---|---|---|---|"
    rows = []
    for network in networks:
        longest = max(average_activity(network.runs), key=lambda activity: activity.share)
        gains = {n: gain for n, (gain, _) in theory_states(network.net).items() if gain < np.inf}
        n_theory = min(gains, key=lambda n: gains[n])
        difference = abs(n_theory - longest.n_active)
        rows.append(
            (
                -difference,
                f"| {network.name} | {len(network.runs)} | {longest.n_active} "
                f"| {longest.share:.2f} | {n_theory} | {gains[n_theory]:.2f} |",
            )
        )
    for _, row in sorted(rows):
        yield row


def compare_active_rates(networks: Sequence[NestNetwork]) -> Iterator[str]:
    """Yield a table of rates with active clusters in NEST and by "quenched", worst first."""
    yield (
        "| network | active | share | gain | NEST E active, others; I active, others [spikes/s] "
        "| E active | E others | I active | I others |"
    )
    yield "|---" * 9 + "|"
    rows = []
    for network in networks:
        states = theory_states(network.net)
        for activity in average_activity(network.runs):
            if activity.share < LEAST_SHARE or activity.n_active == 0:
                continue
            gain, rates = states[activity.n_active]
            errors = rates / activity.rates - 1
            nest = [format_number(rate) for rate in activity.rates]
            low, high = activity.range_E
            if high > low:
                nest[0] += f" ({low:.1f} to {high:.1f})"
            cells = [percent(error) for error in errors]
            if not np.isfinite(gain):
                cells = ["no state"] * 4
            largest = np.abs(errors[0]) if np.isfinite(gain) else np.inf
            rows.append(
                (
                    largest,
                    f"| {network.name} | {activity.n_active} | {activity.share:.2f} "
                    f"| {format_number(gain)} | {nest[0]}, {nest[1]}; {nest[2]}, {nest[3]} "
                    f"| {' | '.join(cells)} |",
                )
            )
    for _, row in sorted(rows, reverse=True):
        yield row


def compare_critical_rep() -> Iterator[str]:
    """Yield a table of critical values of rep against the published ones, worst first."""
    yield "| clusters in | n_clusters | published rep | quenched | error | exact | error |"
    yield "|---|---|---|---|---|---|---|"
    rows = []
    for title, rj, published in (
        ("E and I, rj 0.75", 0.75, PUBLISHED_REP),
        ("E only, rj 0", 0.0, PUBLISHED_REP_OF_E_CLUSTERS),
    ):
        for n_clusters, published_rep in published.items():
            net = PUBLISHED.replace(rj=rj, n_clusters=n_clusters)
            cells = []
            errors = []
            for theory in ("quenched", "exact"):
                rep = float(rbn.critical_rep(net, theory))
                errors.append(rep / published_rep - 1)
                cells.append(f"{rep:.2f} | {percent(errors[-1])}")
            row = f"| {title} | {n_clusters} | {published_rep:.2f} | {' | '.join(cells)} |"
            rows.append((abs(errors[0]), row))
    for _, row in sorted(rows, reverse=True):
        yield row


def compare_variability(networks: Sequence[NestNetwork]) -> Iterator[str]:
    """Yield a table of the CV of the rates of clusters in windows of 250 ms, worst first."""
    yield "| network | gain | NEST | linear noise | error |"
    yield "|---|---|---|---|---|"
    rows = []
    for network in networks:
        stored = float(np.mean([run["clusters"]["cv"] for run in network.runs]))
        gain = float(rbn.cluster_gain(network.net))
        cv = float(rbn.cluster_rate_cv(network.net, window=250.0))
        error = cv / stored - 1
        row = (
            f"| {network.name} | {gain:.2f} | {stored:.2f} | {format_number(cv)} "
            f"| {percent(error)} |"
        )
        rows.append((abs(error) if np.isfinite(error) else np.inf, gain, row))
    for _, _, row in sorted(rows, reverse=True):
        yield row


def compare_all() -> Iterator[str]:
    """Yield the tables of errors, each below what it shows."""
    networks = read_networks()
    yield "Rates by theory / rates in NEST - 1, E / I, of networks below the transition.\n"
    yield from compare_symmetric(networks, beyond=False)
    yield (
        "\nThe same beyond the transition, where NEST's mean rate is that of clusters that switch, "
        "and not that of the symmetric state.\n"
    )
    yield from compare_symmetric(networks, beyond=True)
    yield (
        "\nThe number of active clusters that NEST shows for the longest time, and that of the "
        "state of least gain, 0 being the symmetric state.\n"
    )
    yield from compare_active_numbers(networks)
    yield (
        '\nRates of active and of other clusters, "quenched" / NEST - 1. NEST\'s rates are '
        "averages over the runs, each weighted by the time for which it shows this number of "
        "active clusters; in brackets are the lowest and the highest rate of a run. States seen "
        f"for less than {100 * LEAST_SHARE:.0f} % of the time are left out.\n"
    )
    yield from compare_active_rates(networks)
    yield "\nCritical rep against points read off Rostami et al. (2024), Fig. 2d.\n"
    yield from compare_critical_rep()
    yield "\nCV of the rates of E in single clusters, in windows of 250 ms.\n"
    yield from compare_variability(networks)


class TimedFunction(NamedTuple):
    """A function of a batch of networks whose time is measured."""

    title: str
    function: Callable[[rbn.NetworkParams], Any]
    net: rbn.NetworkParams


def measure_speed() -> Iterator[str]:
    """Yield a table of times of batches on one core in float64, relative to rates without clusters.

    Functions are called in turn, so that a busy machine slows all of them alike.
    """
    jax.config.update("jax_enable_compilation_cache", False)
    yield (
        f"One core, {N_TIMED} networks, float64, quenched: medians of {ROUNDS} rounds in which the "
        "functions are called in turn. The machine was shared with other work, so ratios say more "
        "than times.\n"
    )
    yield (
        "| function | networks | with a state | trace [s] | compile [s] | a network [µs] | ratio |"
    )
    yield "|---|---|---|---|---|---|---|"
    with jax.enable_x64(True):
        values = draw_values(N_TIMED)
        shares = np.random.default_rng(20).uniform(size=N_TIMED)
        unclustered_default = rbn.NetworkParams(rep=1.0)
        unclustered = unclustered_default.replace(**values)
        symmetric = unclustered.replace(rep=scale(shares, REP_OF_SYMMETRIC))
        active = unclustered.replace(rep=scale(shares, REP_OF_ACTIVE))
        default_values = {
            name: np.full(N_TIMED, getattr(unclustered_default, name)) for name in values
        }
        defaults = active.replace(**default_values)
        functions = [
            TimedFunction("`firing_rates`", rbn.firing_rates, unclustered),
            TimedFunction("`firing_rates`", rbn.firing_rates, symmetric),
            TimedFunction("`cluster_gain`", rbn.cluster_gain, symmetric),
            TimedFunction("`mean_field`, with gain", rbn.mean_field, symmetric),
            TimedFunction(
                f"`cluster_state`, {N_ACTIVE} active",
                lambda net: rbn.cluster_state(net, active=N_ACTIVE),
                active,
            ),
            TimedFunction(
                f"`cluster_state`, {N_ACTIVE} active, defaults",
                lambda net: rbn.cluster_state(net, active=N_ACTIVE),
                defaults,
            ),
        ]
        compiled = []
        preparation = []
        shares_with_state = []
        for entry in functions:
            # otherwise functions within this one would not be traced again
            jax.clear_caches()
            jitted = jax.jit(entry.function)
            tracing, lowered = timed(lambda jitted=jitted, net=entry.net: jitted.lower(net))
            compiling, program = timed(lowered.compile)
            preparation.append((tracing, compiling))
            compiled.append(program)
            result = jax.block_until_ready(program(entry.net))
            first_array = np.asarray(jax.tree.leaves(result)[0]).reshape(N_TIMED, -1)
            shares_with_state.append(np.isfinite(first_array).all(1).mean())
        times: list[list[float]] = [[] for _ in functions]
        for _ in range(ROUNDS):
            for entry, program, seconds in zip(functions, compiled, times, strict=True):
                seconds.append(timed(functools.partial(run, program, entry.net))[0])
    medians = [statistics.median(seconds) for seconds in times]
    for entry, share, (tracing, compiling), median in zip(
        functions, shares_with_state, preparation, medians, strict=True
    ):
        reps = np.asarray(entry.net.rep)
        networks = f"rep {reps.min():.0f}" + (f" to {reps.max():.0f}" if reps.size > 1 else "")
        yield (
            f"| {entry.title} | {networks} | {100 * share:.0f} % | {tracing:.1f} | {compiling:.1f} "
            f"| {1e6 * median / N_TIMED:.0f} | {median / medians[0]:.2f} |"
        )


def run(program: Callable[[rbn.NetworkParams], Any], net: rbn.NetworkParams) -> Any:
    """Return what a compiled program returns, when it is computed."""
    return jax.block_until_ready(program(net))


def scale(shares: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    """Return values between the bounds, from shares between 0 and 1."""
    return bounds[0] + (bounds[1] - bounds[0]) * shares


def draw_phase_diagram() -> Iterator[str]:
    """Draw critical rep over n_clusters, with the published points; yield the name of the file."""
    from matplotlib.figure import Figure

    numbers = np.array([5, 6, 8, 10, 12, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60])
    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    axes = figure.subplots()
    series = (
        (0.75, "tab:blue", "o", PUBLISHED_REP, "published: Fano factor 1.5"),
        (0.0, "tab:red", "^", PUBLISHED_REP_OF_E_CLUSTERS, "published: Fano factor below 0.5"),
    )
    for rj, color, marker, published, label in series:
        reps = [float(rbn.critical_rep(PUBLISHED.replace(rj=rj, n_clusters=n))) for n in numbers]
        axes.plot(numbers, reps, color=color, label=f"theory: gain 1, rj = {rj:g}")
        axes.plot(
            list(published), list(published.values()), marker, color=color, mec="k", label=label
        )
        if rj:
            axes.fill_between(numbers, 1, reps, color=color, alpha=0.12, lw=0)
    axes.text(43, 6.2, "rj 0.75: all clusters alike", ha="center", color="tab:blue")
    axes.text(39, 9.4, "clusters become active", ha="center", color="tab:blue")
    axes.set(
        xlabel="number of clusters, n_clusters",
        ylabel="relative weight within clusters, rep",
        xlim=(5, 60),
        ylim=(1, 11),
    )
    axes.legend(loc="upper left", fontsize=8, framealpha=0.9)
    figure.savefig(FIGURE, dpi=110)
    yield str(FIGURE.relative_to(ROOT))


# Title and function of each section of the results, by the name on the command line
SECTIONS: dict[str, tuple[str, Callable[[], Iterator[str]]]] = {
    "errors": ("Errors", compare_all),
    "speed": ("Speed", measure_speed),
}


def main() -> None:
    """Make what the command line names: by default the errors and the speed."""
    names = sys.argv[1:] or list(SECTIONS)
    known = [*SECTIONS, "figure"]
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"{', '.join(unknown)}: must be of {', '.join(known)}")
    for name in names:
        if name == "figure":
            print(*draw_phase_diagram())
            continue
        make_section(RESULTS, "Clusters", SECTIONS, name)


if __name__ == "__main__":
    main()
