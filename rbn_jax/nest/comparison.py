"""Prediction beside simulation: what theory says of a network, and what NEST shows."""

import json
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from rbn_jax.nest.simulation import simulate
from rbn_jax.network import NetworkParams
from rbn_jax.parameters.access import to_plain
from rbn_jax.parameters.optional import require
from rbn_jax.rates import MeanField, cluster_rate_cv, cluster_states, mean_field
from rbn_jax.rates.theories import MeanFieldTheory, Theory, find_theory
from rbn_jax.recordings import spike_statistics

if TYPE_CHECKING:
    import xarray

SOURCES = ("theory", "NEST")

LARGEST_ACTIVE = 7
"""States with more active clusters are not searched for."""

CV_WINDOW = 250.0
"""Width [ms] of the windows in which the rates of clusters vary, as in `cluster_rate_cv`."""

# of the statistics of a recording, those that theory says nothing of
_MEASURED_ONLY = ("n_silent", "cv", "cv2", "fano_factor", "synchrony")


def compare(
    net: NetworkParams,
    simtime: float = 5000.0,
    *,
    seed: int = 1,
    theory: Theory | MeanFieldTheory = "quenched",
    warmup: float = 1000.0,
    threads: int = 1,
    dt: float = 0.1,
    V_m: ArrayLike | str | None = None,
    progress: bool | None = None,
) -> "xarray.Dataset":
    """Simulate a network in NEST, and put the statistics of its spikes beside a theory.

    Args:
        net, simtime, seed, warmup, threads, dt, V_m, progress: as in `simulate`.
        theory: as in `mean_field`.

    Returns:
        Dataset with the dimension `source`, "theory" and "NEST", and these variables:

        - rate (source, population) [spikes/s]; of clustered networks by theory those of the state
          in which all clusters have the same rates; and rate_error (population), theory / NEST - 1
        - lock_step (source): by theory whether all neurons may fire together, in NEST whether
          they do
        - n_silent, cv, cv2, fano_factor, synchrony (population), in NEST, as in
          `spike_statistics`

        and for a network with clusters:

        - active_clusters (source): by theory the number of active clusters in the state of least
          gain, of 0 to 7; in NEST the number that it shows for the longest time
        - gain (n_active): of the state with that many active clusters, NaN if none was found, and
          for more than 7. It is stable below 1
        - share_of_time (n_active): in which NEST shows that many active clusters
        - rates_active, rates_inactive (source, n_active, population) [spikes/s]: mean rates of
          active clusters, and of the others
        - cluster_rate_cv (source): std / mean of the rates of E in single clusters in windows of
          250 ms; by theory NaN at gains above 0.6

        Its attributes are the arguments without V_m, `params`, the network as JSON, and
        `warnings`, the names in `rbn_jax.rates.REGIMES` that apply.

    Raises:
        ImportError: NEST or xarray is missing.
        ValueError: as in `simulate`; an unknown theory.

    Sources: `mean_field`, `cluster_states` and `cluster_rate_cv` for the theory.

    >>> compare(NetworkParams(), seed=0)
    Traceback (most recent call last):
    ...
    ValueError: seed=0: must be a whole number >= 1
    """
    xarray = require("xarray", "sweep")
    model = find_theory(theory)
    spikes = simulate(
        net,
        simtime,
        seed=seed,
        warmup=warmup,
        threads=threads,
        dt=dt,
        V_m=V_m,
        progress=progress,
    )
    tlim = (0.0, float(simtime))
    measured = spike_statistics(spikes, net, tlim=tlim)
    with jax.enable_x64(True):
        symmetric = mean_field(net, model)
    predicted = np.asarray(symmetric.rates)
    rates = np.asarray(measured["rate"])
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = predicted / rates - 1
    lock_step = [bool(symmetric.warnings["lock_step"]), bool(measured["lock_step"].any())]
    variables: dict[str, Any] = {
        "rate": (("source", "population"), np.stack([predicted, rates]), {"units": "spikes/s"}),
        "rate_error": ("population", errors),
        "lock_step": ("source", lock_step),
    }
    for name in _MEASURED_ONLY:
        variables[name] = measured[name].variable
    coordinates: dict[str, Any] = {"source": list(SOURCES), "population": ["E", "I"]}
    if net.n_clusters > 1:
        in_windows = spike_statistics(spikes, net, tlim=tlim, cluster_window=CV_WINDOW)
        cluster_cv = float(in_windows["cluster_rate_cv"].sel(population="E"))
        variables |= _cluster_variables(net, model, symmetric, measured, cluster_cv)
        coordinates["n_active"] = measured["n_active"].variable
    regimes = [name for name, applies in symmetric.warnings.items() if bool(applies)]
    attributes = {
        "params": json.dumps(to_plain(net)),
        "theory": model.name,
        "seed": int(seed),
        "simtime": float(simtime),
        "warmup": float(warmup),
        "threads": int(threads),
        "dt": float(dt),
        "warnings": ", ".join(regimes),
    }
    return xarray.Dataset(variables, coordinates, attributes)


def _cluster_variables(
    net: NetworkParams,
    theory: MeanFieldTheory,
    symmetric: MeanField,
    measured: "xarray.Dataset",
    measured_cv: float,
) -> dict[str, Any]:
    """Return the variables of clusters.

    symmetric: the state in which all clusters have the same rates
    measured: the statistics of the spikes from NEST
    measured_cv: of the rates of E in single clusters in NEST
    """
    n_clusters = int(net.n_clusters)
    numbers = np.arange(1, min(LARGEST_ACTIVE, n_clusters - 1) + 1)
    with jax.enable_x64(True):
        states = cluster_states(net, numbers.tolist(), theory)
        predicted_cv = float(cluster_rate_cv(net, CV_WINDOW, theory))
    gain = np.full(n_clusters + 1, np.nan)
    gain[0] = symmetric.cluster_gain
    gain[numbers] = states["gain"]
    # a state that was not found has an infinite gain
    gain[~np.isfinite(gain)] = np.nan
    share = np.asarray(measured["share_of_time"])
    least_gain = np.nan if np.isnan(gain).all() else float(np.nanargmin(gain))
    longest = np.nan if np.isnan(share).any() else float(np.argmax(share))
    variables: dict[str, Any] = {
        "active_clusters": ("source", [least_gain, longest]),
        "gain": ("n_active", gain),
        "share_of_time": ("n_active", share),
        "cluster_rate_cv": ("source", [predicted_cv, measured_cv]),
    }
    for name in ("rates_active", "rates_inactive"):
        rates = np.full((2, n_clusters + 1, 2), np.nan)
        rates[0, numbers] = states[name].transpose("active", "population")
        rates[1] = measured[name].transpose("n_active", "population")
        if name == "rates_inactive":
            rates[0, 0] = symmetric.rates
        variables[name] = (("source", "n_active", "population"), rates, {"units": "spikes/s"})
    return variables
