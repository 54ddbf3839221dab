"""Whether a network falls into lock-step, from which start, and what it does then."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rbn_jax.dynamics.simulation import population_dynamics
from rbn_jax.dynamics.starts import STARTS
from rbn_jax.network import NetworkParams, check_single
from rbn_jax.parameters.checks import check_names, to_whole_number
from rbn_jax.parameters.optional import require
from rbn_jax.rates.stationary import check_network

if TYPE_CHECKING:
    import xarray

_RATE = {"units": "spikes/s"}


def network_states(
    params: NetworkParams,
    seeds: int | Iterable[int] = 8,
    *,
    starts: Sequence[str] = ("uniform", "rand", "synchronous"),
    duration: float = 1000.0,
    dt: float = 0.1,
    neurons: tuple[int, int] | None = None,
    warmup: float | None = None,
) -> "xarray.Dataset":
    """Return which share of the realisations of a network falls into lock-step, for each start.

    Each realisation is simulated by `population_dynamics`. A network may stay asynchronous from
    one start and fall into lock-step from another one, and it may leave either state later than
    `duration`.

    Args:
        params: one NetworkParams.
        seeds: how many seeds, which are then 0, 1, ..., or the seeds.
        starts: as in `population_dynamics`: "uniform", "rand", "synchronous", "asynchronous".
        duration, dt, neurons, warmup: as in `population_dynamics`.

    Returns:
        Dataset with these variables along `start` and `seed`:

        - locked: whether the network is in lock-step after the warm-up
        - rate (population) [spikes/s] and fano_factor (population) of counts in 5 ms
        - n_volleys; volleys_per_s [1/s], 0 for less than two; first_volley [ms], infinite
          without one

        and along `start`:

        - locked_share: the share of the seeds that are locked, NaN if a simulation has no result
        - rate_asynchronous, rate_locked (population) [spikes/s]: means over the seeds that are not
          locked, and over those that are; NaN if there are none

    Raises:
        ImportError: xarray is missing.
        ValueError: as in `population_dynamics`; a batch of networks; no seed or no start.

    >>> net = NetworkParams(N_E=800, N_I=200, n_clusters=1, tau_syn_ex=5.0, tau_syn_in=6.0)
    >>> states = network_states(net, seeds=2, starts=["synchronous"], duration=300.0)
    >>> print(states["locked_share"].values, states["rate"].shape)
    [1.] (1, 2, 2)
    """
    xarray = require("xarray", "sweep")
    net = check_network(params)
    check_single(net)
    if isinstance(starts, str):
        starts = (starts,)
    check_names(starts, STARTS, "start")
    numbers = np.asarray(seeds if np.ndim(seeds) == 0 else list(seeds))  # pyright: ignore[reportArgumentType]
    if numbers.ndim == 0:
        numbers = np.arange(to_whole_number("seeds", numbers.item(), 1))
    if numbers.ndim > 1 or not numbers.size or not len(starts):
        raise ValueError(
            f"seeds={seeds!r}, starts={starts!r}: must be a number or a list, at least one of each"
        )
    names = {
        "locked": ("locked", (), {}),
        "rate": ("mean_rates", ("population",), _RATE),
        "fano_factor": ("fano_factor", ("population",), {}),
        "n_volleys": ("n_volleys", (), {}),
        "volleys_per_s": ("volleys_per_s", (), {"units": "1/s"}),
        "first_volley": ("first_volley", (), {"units": "ms"}),
    }
    columns: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for start in starts:
        dynamics = population_dynamics(
            net, duration, start=start, seed=numbers, dt=dt, neurons=neurons, warmup=warmup
        )
        for name, (field, _, _) in names.items():
            columns[name].append(np.asarray(getattr(dynamics, field)))
    variables: dict[str, Any] = {}
    for name, (_, dims, attributes) in names.items():
        variables[name] = (("start", "seed", *dims), np.stack(columns[name]), attributes)
    coordinates = {"start": list(starts), "seed": numbers, "population": ["E", "I"]}
    attributes = {"duration": duration, "dt": dt}
    dataset = xarray.Dataset(variables, coordinates, attributes)
    locked = dataset["locked"]
    has_result = dataset["rate"].notnull().all("population")
    dataset["locked_share"] = locked.where(has_result).mean("seed", skipna=False)
    dataset["rate_asynchronous"] = dataset["rate"].where(~locked).mean("seed").assign_attrs(_RATE)
    dataset["rate_locked"] = dataset["rate"].where(locked).mean("seed").assign_attrs(_RATE)
    return dataset
