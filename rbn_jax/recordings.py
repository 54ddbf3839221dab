"""Statistics of recorded spikes: rates, irregularity, variability, synchrony, active clusters."""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from rbn_jax.network import NetworkParams, cluster_sizes, population_limits
from rbn_jax.parameters.checks import is_number, to_whole_number
from rbn_jax.parameters.optional import require
from rbn_jax.spikes import as_spiketimes
from rbn_jax.spikes.recorded import Recording, read_time_limits

if TYPE_CHECKING:
    import xarray

Groups: TypeAlias = Mapping[str, Sequence[int]]
"""(first, last + 1) of the neurons of each population, by its name."""

FANO_WINDOW = 400.0
"""Width [ms] of the windows for Fano factors of neurons, as in Rostami et al. (2024)."""

SYNCHRONY_BIN = 5.0
"""Width [ms] of the bins for the synchrony of populations."""

LOCK_STEP_FANO_FACTOR = 100.0
"""The Fano factor of counts of a population above which it fires in lock-step."""

ACTIVE_RATIO = 2.5
ACTIVE_RATE = 8.0
"""A cluster is active if the rate of its E neurons is above both: so many times the mean rate of
all E neurons, and so many spikes/s."""

# Share of a bin by which rounding may move a time: NEST's times are multiples of the resolution,
# such as 0.1 ms, which are not exact in binary.
_TIME_TOLERANCE = 1e-9

# Larger numbers need more memory than a computer has.
_MAX_BINS = 100_000_000
_MAX_ID = 100_000_000


class _Spikes(NamedTuple):
    """Spikes sorted by neuron and, for each of them, by time.

    times: [ms]
    neurons: position of the neuron among all neurons of all groups
    counts: number of spikes of each neuron, also of the silent ones
    """

    times: np.ndarray
    neurons: np.ndarray
    counts: np.ndarray


def spike_statistics(
    spikes: Recording,
    net: NetworkParams | Groups,
    *,
    window: float = FANO_WINDOW,
    bin: float = SYNCHRONY_BIN,  # noqa: A002 - Python's function bin is not used here
    cluster_window: float = 100.0,
    tlim: Sequence[float] | None = None,
    first_id: int = 0,
) -> "xarray.Dataset":
    """Statistics of a recording: of its populations, of each neuron, and of clusters.

    With intervals x_i between the spikes of a neuron, and counts n of spikes in windows,

        CV = std(x) / mean(x)
        CV2 = mean of 2 |x_(i+1) - x_i| / (x_(i+1) + x_i)
        Fano factor = var(n) / mean(n)

    where std and var divide by the number of values. The expected value of all three is about 1
    for a Poisson process; regular spikes have CV = CV2 = 0, and a Fano factor near 0 in long
    windows.

    Args:
        spikes: 2xN array, times [ms] in row 0 and neuron IDs in row 1; the `events` of a NEST
            spike recorder, for which first_id=1; or another recording that
            `spikes.as_spiketimes` takes.
        net: the network, whose neurons have the IDs of E first, cluster by cluster; or a mapping
            of (first ID, last ID + 1) by the names of populations.
        window: width [ms] of the windows for the Fano factor of a neuron. Windows begin at
            tlim[0], and only whole ones count, as in all of the following.
        bin: width [ms] of the bins for the synchrony of a population.
        cluster_window: width [ms] of the windows for rates of clusters over time.
        tlim: (start, stop) of the recording [ms]; start <= t < stop. By default from 0 to the end
            of the bin with the last spike. Give it if the recording may end in silence, as rates
            depend on it.
        first_id: the ID of the first neuron of a network; without effect on groups.

    Returns:
        Dataset with these variables. Along `population`:

        - rate [spikes/s], in which silent neurons count, and n_silent, their number
        - cv, cv2, fano_factor: means over the neurons that have a value
        - synchrony: the Fano factor of the count of all spikes of a population in bins; and
          lock_step, whether it is above 100, which a silent population is not, and one of up to
          100 neurons never

        along `neuron`, with the ID as its coordinate:

        - neuron_population, neuron_rate [spikes/s]
        - neuron_cv and neuron_cv2, NaN for less than 3 spikes, and for intervals of 0
        - neuron_fano_factor, NaN for no spikes in whole windows, and for less than two windows

        and for a network with clusters:

        - cluster_rate (population, cluster) [spikes/s]
        - cluster_rate_in_time (population, cluster, time): in windows that begin at `time` [ms]
        - active_clusters (time): how many clusters are active, whose E neurons have a rate above
          2.5 times the mean of all E neurons over time and above 8 spikes/s. So a state counts as
          one of no active clusters if 40 % of the clusters or more are active all the time
        - share_of_time (n_active): the share of the time in which that many clusters are active;
          NaN for a recording shorter than cluster_window
        - rates_active, rates_inactive (n_active, population) [spikes/s]: mean rates of the active
          clusters, and of the others, while that many are active; NaN if none are
        - cluster_rate_cv (population): std / mean over time of the rates in windows, as the mean
          over the clusters that fire; NaN for less than two windows

    Raises:
        ImportError: xarray is missing.
        ValueError: spikes, groups or numbers that are not as described; an ID in no group.

    Warns:
        UserWarning: all spikes lie before or after tlim, as with tlim in seconds.

    >>> spikes = [[5.0, 15.0, 25.0, 40.0, 7.0], [0, 0, 0, 0, 2]]
    >>> statistics = spike_statistics(spikes, {"E": (0, 2), "I": (2, 3)}, tlim=(0, 100))
    >>> print(statistics["rate"].values, statistics["n_silent"].values)
    [20. 10.] [1 0]
    >>> print(statistics["neuron_cv2"].values.round(3))
    [0.2 nan nan]
    """
    xarray = require("xarray", "sweep")
    for name, value in {"window": window, "bin": bin, "cluster_window": cluster_window}.items():
        if not is_number(value) or not value > 0:
            raise ValueError(f"{name}={value!r} ms: must be a finite number > 0")
    if isinstance(net, NetworkParams):
        first_id = to_whole_number("first_id", first_id, 0)
        limits = population_limits(net, first_id)
        # names numbers that are not those of one network
        cluster_sizes(net)
    else:
        limits = _check_groups(net)
    times, ids = as_spiketimes(spikes)
    start, stop = _time_limits(tlim, times, bin)
    smallest_width = min(bin, window, cluster_window)
    if (stop - start) / smallest_width > _MAX_BINS:
        raise ValueError(
            f"{smallest_width!r} ms is a bin of a recording of {stop - start:g} ms: there must be "
            f"at most {_MAX_BINS:,} bins"
        )
    neurons = _positions_of_neurons(ids, limits)
    # times less an offset, as 1000.3 ms - 1000 ms, may be below the limit by rounding
    tolerance = _TIME_TOLERANCE * smallest_width
    inside = (times >= start - tolerance) & (times < stop - tolerance)
    if not inside.all():
        times, neurons = times[inside], neurons[inside]
    sizes = [last - first for first, last in limits.values()]
    sorted_spikes = _sort_by_neuron(times, neurons, sum(sizes))
    population_of_neuron = np.repeat(np.arange(len(sizes)), sizes)
    duration = stop - start
    counts = sorted_spikes.counts
    cv, cv2 = _interval_statistics(sorted_spikes)
    fano_factor = _fano_factors(sorted_spikes, start, stop, window)
    by_neuron = {"cv": cv, "cv2": cv2, "fano_factor": fano_factor}
    n_spikes = np.bincount(population_of_neuron, counts, len(sizes))
    n_silent = np.bincount(population_of_neuron, counts == 0, len(sizes)).astype(int)
    synchrony = _synchrony(sorted_spikes, population_of_neuron, len(sizes), start, stop, bin)
    variables: dict[str, Any] = {
        "rate": ("population", 1000 * n_spikes / np.array(sizes) / duration, _RATE),
        "n_silent": ("population", n_silent),
    }
    for name, values in by_neuron.items():
        means = _means_of_finite(values, population_of_neuron, len(sizes))
        variables[name] = ("population", means)
    variables["synchrony"] = ("population", synchrony)
    variables["lock_step"] = ("population", synchrony > LOCK_STEP_FANO_FACTOR)
    variables["neuron_rate"] = ("neuron", 1000 * counts / duration, _RATE)
    for name, values in by_neuron.items():
        variables[f"neuron_{name}"] = ("neuron", values)
    names = np.array(list(limits))
    coordinates: dict[str, Any] = {
        "population": names,
        "neuron": np.concatenate([np.arange(*pair) for pair in limits.values()]),
        "neuron_population": ("neuron", names[population_of_neuron]),
    }
    if isinstance(net, NetworkParams) and net.n_clusters > 1:
        _add_clusters(variables, coordinates, net, sorted_spikes, start, stop, cluster_window)
    attributes = {
        "start": start,
        "stop": stop,
        "window": window,
        "bin": bin,
        "cluster_window": cluster_window,
    }
    return xarray.Dataset(variables, coordinates, attributes)


_RATE = {"units": "spikes/s"}


def _check_groups(groups: object) -> dict[str, tuple[int, int]]:
    """Return the limits of each group, which do not overlap."""
    if not isinstance(groups, Mapping) or not groups:
        raise ValueError(
            f"net is {groups!r}: must be a NetworkParams, or (first ID, last ID + 1) by the names "
            'of populations, as {"E": (0, 4000), "I": (4000, 5000)}'
        )
    limits = {}
    for name, pair in groups.items():
        is_pair = isinstance(pair, Sequence | np.ndarray) and len(pair) == 2
        is_pair = is_pair and all(is_number(value) and value % 1 == 0 for value in pair)
        if not is_pair or not 0 <= pair[0] < pair[1]:
            raise ValueError(f"{name}: {pair!r} must be (first ID, last ID + 1), 0 <= first < last")
        if pair[1] > _MAX_ID:
            raise ValueError(f"{name}: {pair!r} must be at most {_MAX_ID:,}")
        limits[name] = (int(pair[0]), int(pair[1]))
    ordered = sorted(limits.items(), key=lambda item: item[1])
    for (name, pair), (other_name, other) in itertools.pairwise(ordered):
        if other[0] < pair[1]:
            raise ValueError(f"{name}: {pair} and {other_name}: {other} have neurons in common")
    return limits


def _time_limits(
    tlim: Sequence[float] | None, times: np.ndarray, bin_width: float
) -> tuple[float, float]:
    if tlim is None:
        if not times.size:
            raise ValueError("there are no spikes: give tlim, (start, stop) of the recording [ms]")
        if times.min() < 0:
            raise ValueError(f"a time is {times.min():g} ms: give tlim, which begins at 0 if not")
        # the last spike lies within the last bin, also if it is on its edge
        n_bins = np.floor(times.max() / bin_width + 2 * _TIME_TOLERANCE) + 1
        return 0.0, float(n_bins * bin_width)
    # 3: the caller of spike_statistics
    return read_time_limits(tlim, times, stacklevel=3)


def _positions_of_neurons(ids: np.ndarray, limits: dict[str, tuple[int, int]]) -> np.ndarray:
    """Return the positions of the neurons with these IDs among all neurons of all groups.

    Raises:
        ValueError: an ID is in no group, or no whole number.
    """
    lowest = min(first for first, _ in limits.values())
    n_ids = max(last for _, last in limits.values()) - lowest
    position_of_id = np.full(n_ids, -1, np.int32)
    n_neurons = 0
    for first, last in limits.values():
        size = last - first
        position_of_id[first - lowest : last - lowest] = np.arange(n_neurons, n_neurons + size)
        n_neurons += size
    ids = ids - lowest
    is_inside = (ids >= 0) & (ids < n_ids)
    numbers = (ids if is_inside.all() else np.where(is_inside, ids, 0)).astype(np.int64)
    is_fraction = is_inside & (numbers != ids)
    if is_fraction.any():
        raise ValueError(f"the ID {ids[is_fraction][0] + lowest:.17g} is no whole number")
    is_unknown = ~is_inside | (position_of_id[numbers] < 0)
    if is_unknown.any():
        unknown = ids[is_unknown][0] + lowest
        raise ValueError(
            f"the neuron {unknown:.17g} is in no group: {limits}; give the IDs of all neurons, or "
            "for a network first_id, which is 1 for NEST's own IDs"
        )
    return position_of_id[numbers]


def _sort_by_neuron(times: np.ndarray, neurons: np.ndarray, n_neurons: int) -> _Spikes:
    # NumPy sorts integers of 16 bits in linear time
    keys = neurons.astype(np.uint16) if n_neurons <= 2**16 else neurons
    times = times[np.argsort(keys, kind="stable")]
    counts = np.bincount(neurons, minlength=n_neurons)
    neurons = np.repeat(np.arange(n_neurons), counts)
    # NEST's threads write the spikes of a neuron in order of time; other recordings may not
    is_early = (np.diff(times) < 0) & (neurons[1:] == neurons[:-1])
    if is_early.any():
        ends = np.cumsum(counts)
        for neuron in np.unique(neurons[1:][is_early]):
            times[ends[neuron] - counts[neuron] : ends[neuron]].sort()
    return _Spikes(times, neurons, counts)


def _interval_statistics(spikes: _Spikes) -> tuple[np.ndarray, np.ndarray]:
    """Return CV and CV2 of the intervals of each neuron, NaN for less than two intervals."""
    is_interval = spikes.neurons[1:] == spikes.neurons[:-1]
    intervals = np.diff(spikes.times)[is_interval]
    owners = spikes.neurons[1:][is_interval]
    n = len(spikes.counts)
    counts = np.maximum(spikes.counts - 1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        means = np.bincount(owners, intervals, n) / counts
        variances = np.bincount(owners, (intervals - means[owners]) ** 2, n) / counts
        cv = np.sqrt(variances) / means
        is_pair = owners[1:] == owners[:-1]
        following, preceding = intervals[1:][is_pair], intervals[:-1][is_pair]
        ratios = 2 * np.abs(following - preceding) / (following + preceding)
        cv2 = np.bincount(owners[1:][is_pair], ratios, n) / (counts - 1)
    has_two = counts >= 2
    return np.where(has_two, cv, np.nan), np.where(has_two, cv2, np.nan)


def _bin_numbers(times: np.ndarray, start: float, width: float) -> np.ndarray:
    number = np.floor((times - start) / width + _TIME_TOLERANCE)
    return number.astype(np.int64)


def _n_whole(start: float, stop: float, width: float) -> int:
    return int(np.floor((stop - start) / width + _TIME_TOLERANCE))


def _fano_factors(spikes: _Spikes, start: float, stop: float, window: float) -> np.ndarray:
    """Return the Fano factor of the counts of each neuron in windows.

    It is NaN without spikes, and with less than two windows.
    """
    n_windows = _n_whole(start, stop, window)
    number = _bin_numbers(spikes.times, start, window)
    inside = number < n_windows
    # As the spikes are sorted, those of one neuron in one window are neighbours. So no array of
    # all neurons and windows is needed.
    place = spikes.neurons[inside] * n_windows + number[inside]
    if not place.size or n_windows < 2:
        return np.full(len(spikes.counts), np.nan)
    first = np.flatnonzero(np.concatenate([[True], place[1:] != place[:-1]]))
    counts = np.diff(np.concatenate([first, [place.size]])).astype(float)
    owners = place[first] // n_windows
    # sums of integers, which are exact
    total = np.bincount(owners, counts, len(spikes.counts))
    squares = np.bincount(owners, counts**2, len(spikes.counts))
    with np.errstate(divide="ignore", invalid="ignore"):
        return (squares * n_windows - total**2) / (n_windows * total)


def _synchrony(
    spikes: _Spikes,
    population_of_neuron: np.ndarray,
    n_populations: int,
    start: float,
    stop: float,
    width: float,
) -> np.ndarray:
    """Return the Fano factor of the counts of each population in bins.

    It is NaN without spikes, and with less than two bins.
    """
    n_bins = _n_whole(start, stop, width)
    if n_bins < 2:
        return np.full(n_populations, np.nan)
    counts = _counts_in_time(
        population_of_neuron[spikes.neurons], n_populations, spikes.times, start, width, n_bins
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return counts.var(axis=1) / counts.mean(axis=1)


def _counts_in_time(
    groups: np.ndarray, n_groups: int, times: np.ndarray, start: float, width: float, n_bins: int
) -> np.ndarray:
    """Return counts (n_groups, n_bins) of spikes of each group in bins."""
    number = _bin_numbers(times, start, width)
    inside = number < n_bins
    place = groups[inside] * n_bins + number[inside]
    return np.bincount(place, minlength=n_groups * n_bins).reshape(n_groups, n_bins)


def _means_of_finite(values: np.ndarray, groups: np.ndarray, n_groups: int) -> np.ndarray:
    finite = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        total = np.bincount(groups[finite], values[finite], n_groups)
        return total / np.bincount(groups[finite], minlength=n_groups)


def _add_clusters(
    variables: dict[str, Any],
    coordinates: dict[str, Any],
    net: NetworkParams,
    spikes: _Spikes,
    start: float,
    stop: float,
    width: float,
) -> None:
    """Add the variables of clusters, and their coordinates."""
    sizes = np.array(list(cluster_sizes(net).values()))
    n_clusters = int(net.n_clusters)
    n_bins = _n_whole(start, stop, width)
    # E of all clusters, and then I of all of them
    cluster_of_neuron = np.repeat(np.arange(2 * n_clusters), np.repeat(sizes, n_clusters))
    groups = cluster_of_neuron[spikes.neurons]
    shape = (2, n_clusters)
    counts = np.bincount(groups, minlength=2 * n_clusters).reshape(shape)
    rates = 1000 * counts / sizes[:, None] / (stop - start)
    counts = _counts_in_time(groups, 2 * n_clusters, spikes.times, start, width, n_bins)
    in_time = 1000 * counts.reshape(*shape, n_bins) / sizes[:, None, None] / width
    mean_rate = in_time[0].mean() if n_bins else 0.0
    threshold = max(ACTIVE_RATIO * mean_rate, ACTIVE_RATE)
    is_active = in_time[0] > threshold
    n_active = is_active.sum(axis=0)
    variables["cluster_rate"] = (("population", "cluster"), rates, _RATE)
    variables["cluster_rate_in_time"] = (("population", "cluster", "time"), in_time, _RATE)
    variables["active_clusters"] = ("time", n_active)
    share = np.full(n_clusters + 1, np.nan)
    if n_bins:
        share = np.bincount(n_active, minlength=n_clusters + 1) / n_bins
    variables["share_of_time"] = ("n_active", share)
    for name, selected in {"rates_active": is_active, "rates_inactive": ~is_active}.items():
        rates_of_state = np.full((n_clusters + 1, 2), np.nan)
        for number in np.unique(n_active):
            chosen = selected & (n_active == number)
            if chosen.any():
                rates_of_state[number] = in_time[:, chosen].mean(axis=1)
        variables[name] = (("n_active", "population"), rates_of_state, _RATE)
    with np.errstate(divide="ignore", invalid="ignore"):
        cv = np.full(shape, np.nan)
        if n_bins >= 2:
            cv = in_time.std(axis=2) / in_time.mean(axis=2)
    cluster_populations = np.repeat([0, 1], n_clusters)
    means = _means_of_finite(cv.ravel(), cluster_populations, 2)
    variables["cluster_rate_cv"] = ("population", means)
    coordinates["cluster"] = np.arange(n_clusters)
    coordinates["time"] = ("time", start + width * np.arange(n_bins), {"units": "ms"})
    coordinates["n_active"] = np.arange(n_clusters + 1)
