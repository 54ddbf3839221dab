"""The statistics of one simulated network: the function that sweeps of simulations call."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from rbn_jax.nest.simulation import simulate
from rbn_jax.network import NetworkParams
from rbn_jax.parameters.labels import labelled_field
from rbn_jax.recordings import spike_statistics


@dataclasses.dataclass(frozen=True)
class SimulationStatistics:
    """What `run` returns, as `spike_statistics` describes it.

    All but active_clusters are arrays (2,) of E and I. active_clusters is the mean number of
    active clusters over time, 0 for a network of one cluster.

    >>> SimulationStatistics.__dataclass_fields__["rate"].metadata["unit"]
    'spikes/s'
    """

    rate: np.ndarray = labelled_field("spikes/s", "firing rate in NEST", "population")
    n_silent: np.ndarray = labelled_field("", "number of silent neurons", "population")
    cv: np.ndarray = labelled_field("", "mean CV of intervals", "population")
    cv2: np.ndarray = labelled_field("", "mean CV2 of intervals", "population")
    fano_factor: np.ndarray = labelled_field("", "mean Fano factor of neurons", "population")
    synchrony: np.ndarray = labelled_field("", "Fano factor of the population count", "population")
    lock_step: np.ndarray = labelled_field("", "whether in lock-step", "population")
    active_clusters: np.ndarray = labelled_field("", "mean number of active clusters")


def run(
    params: NetworkParams | Mapping[str, Any],
    *,
    seed: int = 1,
    threads: int = 1,
    simtime: float = 5000.0,
    warmup: float = 1000.0,
    dt: float = 0.1,
) -> SimulationStatistics:
    """Simulate a network in NEST, and return the statistics of its spikes.

    For sweeps, in which each network has a process of its own:

        rbn.sweep(nest.run, net, {"I_th_E": currents}, store="nest.zarr", host=True)
        rbn.sweep(nest.run, {"net": net, "seed": 1}, {"seed": seeds, "net.gei": values}, host=True)

    `functools.partial(nest.run, simtime=2000.0)` has other options in a sweep.

    Args:
        params: one network; or a mapping with a network as "net", and some of the other arguments
            by their names.
        seed, threads, simtime, warmup, dt: as in `simulate`.

    Raises:
        ImportError: NEST or xarray is missing.
        ValueError: as in `simulate`; a mapping has no network, or an unknown name.
    """
    options: dict[str, Any] = {
        "seed": seed,
        "threads": threads,
        "simtime": simtime,
        "warmup": warmup,
        "dt": dt,
    }
    net = params
    if isinstance(params, Mapping):
        if unknown := params.keys() - options.keys() - {"net"}:
            raise ValueError(
                f"{', '.join(sorted(unknown))}: unknown; known are net, {', '.join(options)}"
            )
        if "net" not in params:
            raise ValueError("params lacks net: must have a NetworkParams under this name")
        for name in params.keys() & options.keys():
            options[name] = _to_python(params[name])
        net = params["net"]
    if not isinstance(net, NetworkParams):
        raise ValueError(f"the network is a {type(net).__name__}: must be a NetworkParams")
    spikes = simulate(net, progress=False, **options)
    simulated = options["simtime"]
    statistics = spike_statistics(spikes, net, tlim=(0.0, simulated))
    arrays = {}
    for field in dataclasses.fields(SimulationStatistics):
        if field.name in statistics:
            arrays[field.name] = np.asarray(statistics[field.name])
    active = statistics["active_clusters"].mean() if net.n_clusters > 1 else 0.0
    return SimulationStatistics(**{**arrays, "active_clusters": np.asarray(active)})


def _to_python(value: Any) -> Any:
    """Return a number as Python's, and a whole one as an integer: axes of a sweep are floats."""
    number = np.asarray(value).item()
    return int(number) if isinstance(number, float) and number.is_integer() else number
