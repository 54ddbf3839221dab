"""Runs of NEST that benchmarks compare with theory: read from a file, or simulated and stored."""

import json
import sys
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np

import rbn_jax as rbn
from rbn_jax import nest

WARMUP_MS = 1000.0
SIMULATED_MS = 5000.0
# initial potentials are drawn uniformly between these [mV]: those of NEST's example can lead into
# lock-step
V_M_RANGE = (-20.0, 20.0)


class ClusterActivity(TypedDict):
    """How long NEST showed each number of active clusters, and rates of clusters [spikes/s].

    share_of_time: of each number of active clusters from 0 on
    rates_active, rates_inactive: rates of E and I for each of these numbers; None if there are none
    cv: of the rates of E in single clusters in windows of 250 ms
    """

    share_of_time: list[float]
    rates_active: list[list[float | None]]
    rates_inactive: list[list[float | None]]
    cv: float


class NestRun(TypedDict):
    """A run and what it shows; these are also its keys in the file of stored runs.

    network, seed, simulated: what was simulated, and for how long [ms]
    E, I: mean rates of the populations [spikes/s]
    fano: Fano factor of the count of E spikes in bins of 5 ms; None if E does not fire
    clusters: only of networks with clusters, n_clusters and rep above 1
    """

    network: str
    seed: int
    simulated: float
    E: float
    I: float  # noqa: E741 - the name of the population
    fano: float | None
    clusters: NotRequired[ClusterActivity]


def simulate(net: rbn.NetworkParams, seed: int) -> NestRun:
    """Simulate a network by `nest.compare`, and return what NEST shows."""
    potentials = np.random.default_rng(seed).uniform(*V_M_RANGE, int(net.N_E + net.N_I))
    compared = nest.compare(
        net, SIMULATED_MS, seed=seed, warmup=WARMUP_MS, V_m=potentials, progress=False
    )
    rates = compared["rate"].sel(source="NEST")
    fano = float(compared["synchrony"].sel(population="E"))
    run: NestRun = {
        "network": repr(net),
        "seed": seed,
        "simulated": SIMULATED_MS,
        "E": float(rates.sel(population="E")),
        "I": float(rates.sel(population="I")),
        "fano": fano if np.isfinite(fano) else None,
    }
    if net.rep > 1 and net.n_clusters > 1:
        measured = compared.sel(source="NEST")
        run["clusters"] = {
            "share_of_time": measured["share_of_time"].values.tolist(),
            "rates_active": _to_lists(measured["rates_active"].values),
            "rates_inactive": _to_lists(measured["rates_inactive"].values),
            "cv": float(measured["cluster_rate_cv"]),
        }
    return run


def _to_lists(array: np.ndarray) -> list[list[float | None]]:
    """Return an array (rows, columns) as lists, with None for NaN, which JSON does not have."""
    rows = []
    for row in array:
        rows.append([None if np.isnan(value) else float(value) for value in row])
    return rows


def read_or_simulate(name: str, net: rbn.NetworkParams, seed: int, path: Path) -> NestRun:
    """Return the run of this name in a file, or simulate and store it.

    A run that is stored under the name is used only if its network, seed and duration are equal.
    """
    runs: dict[str, NestRun] = {}
    if path.exists():
        runs = json.loads(path.read_text("utf-8"))
    stored = runs.get(name)
    if stored is not None:
        is_same = stored["network"] == repr(net) and stored["seed"] == seed
        if is_same and stored["simulated"] == SIMULATED_MS:
            return stored
    print(f"NEST: {name}", file=sys.stderr, flush=True)
    runs[name] = simulate(net, seed)
    lines = [f"{json.dumps(run)}: {json.dumps(runs[run])}" for run in runs]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
    return runs[name]
