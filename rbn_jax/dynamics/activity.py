"""What a network did in time: counts of spikes, and statistics of volleys and lock-step."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from rbn_jax.dynamics.sampled_neurons import Sample
from rbn_jax.parameters.labels import labelled_field
from rbn_jax.recordings import ACTIVE_RATE, ACTIVE_RATIO, SYNCHRONY_BIN

VOLLEY_SHARE = 0.4
"""A volley: more than this share of I fires within SYNCHRONY_BIN ms."""
LOCKED_SHARES = (1 / 40, 1 / 5)
LOCKED_MINIMA = (40.0, 10.0)
"""The Fano factors of E and of I above which a network is in lock-step: these shares of their
numbers of neurons, 100 and 200 for 4000 and 1000, and at least these numbers. That of volleys in
which all fire is nearly the number of neurons. That of an asynchronous network does not grow with
it, and was 4 to 22 for E in the runs of benchmarks/results/nest_rates.json."""
ACTIVE_WINDOW = 100.0
"""Width [ms] of the windows in which active clusters are counted."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Dynamics:
    """The activity of a network in time; arrays of a batch have its axes in front.

    Everything but rates, cluster_rates and first_volley is of the time after the warm-up.

    time: (bin,) middles of the bins of rates and cluster_rates [ms]
    rates: (bin, 2) rates of E and I in bins [spikes/s]
    cluster_rates: (bin, 2, cluster) rates of the clusters in bins [spikes/s]
    mean_rates: (2,) mean rates of E and I [spikes/s]
    counts_E, counts_I: (neuron,) spikes of each neuron of the sample, cluster by cluster
    fano_factor: (2,) variance of the counts of E and I in windows of 5 ms, divided by their mean;
        NaN without spikes, and for less than two windows
    locked: () whether the network is in lock-step: whether the Fano factor of E is above 40 and
        N_E / 40 of the sample, or that of I above 10 and N_I / 5
    n_volleys: () number of volleys: times at which I has had more than 0.4 N_I spikes within 5 ms,
        after times at which it had not. Rates of I near 80 spikes/s reach this without volleys
    volleys_per_s: () inverse of the mean interval between volleys [1/s]; 0 for less than two
    first_volley: () time of the first volley from the start [ms], infinite without one
    active_clusters: (window,) how many clusters are active in windows of 100 ms, as
        `spike_statistics` counts them; 0 without clusters

    >>> [field.name for field in dataclasses.fields(Dynamics)][:3]
    ['time', 'rates', 'cluster_rates']
    """

    time: Array = labelled_field("ms", "time")
    rates: Array = labelled_field("spikes/s", "firing rate", "population")
    cluster_rates: Array = labelled_field("spikes/s", "firing rate of clusters")
    mean_rates: Array = labelled_field("spikes/s", "mean firing rate", "population")
    counts_E: Array = labelled_field("", "number of spikes of neurons in E")
    counts_I: Array = labelled_field("", "number of spikes of neurons in I")
    fano_factor: Array = labelled_field("", "Fano factor of the population", "population")
    locked: Array = labelled_field("", "whether in lock-step")
    n_volleys: Array = labelled_field("", "number of volleys")
    volleys_per_s: Array = labelled_field("1/s", "volleys per second")
    first_volley: Array = labelled_field("ms", "time of the first volley")
    active_clusters: Array = labelled_field("", "number of active clusters")


class Records(NamedTuple):
    """How the time is divided into records, short intervals in which spikes are counted.

    width: of a record [ms]
    n_bin: records in a bin of the rates
    n_warmup: records of the warm-up
    """

    width: float
    n_bin: int
    n_warmup: int


def describe(counts: Array, neuron_counts: Array, sample: Sample, records: Records) -> Dynamics:
    """Return the statistics of one network.

    counts: (record, 2, cluster) spikes of E and I in each record
    neuron_counts: (cluster, neuron) spikes of each neuron after the warm-up
    """
    dtype = counts.dtype
    milliseconds, bin_records, warmup_records = records
    neurons = jnp.asarray(sample.total, dtype)
    in_cluster = neurons / sample.n_clusters
    in_bins = _sum_windows(counts, bin_records)
    bin_seconds = bin_records * milliseconds / 1000
    cluster_rates = in_bins / in_cluster[:, None] / bin_seconds
    late = counts[warmup_records:]
    late_seconds = len(late) * milliseconds / 1000
    populations = counts.sum(-1)
    mean_rates = populations[warmup_records:].sum(0) / neurons / late_seconds
    n_window = round(SYNCHRONY_BIN / milliseconds)
    windows = _sum_windows(populations[warmup_records:], n_window)
    mean = windows.mean(0)
    fano_factor = jnp.where(mean > 0, windows.var(0) / jnp.where(mean > 0, mean, 1), jnp.nan)
    if len(windows) < 2:
        fano_factor = jnp.full(2, jnp.nan, dtype)
    least_fano_factor = jnp.maximum(
        jnp.array(LOCKED_SHARES, dtype) * neurons, jnp.array(LOCKED_MINIMA, dtype)
    )
    volleys = _describe_volleys(populations[:, 1] / neurons[1], n_window, records)
    counts_E, counts_I = sample.split(neuron_counts)
    return Dynamics(
        time=(jnp.arange(len(in_bins), dtype=dtype) + 0.5) * (bin_seconds * 1000),
        rates=cluster_rates.mean(-1),
        cluster_rates=cluster_rates,
        mean_rates=mean_rates,
        counts_E=counts_E,
        counts_I=counts_I,
        fano_factor=fano_factor,
        locked=(fano_factor > least_fano_factor).any(),
        n_volleys=volleys.number,
        volleys_per_s=volleys.per_second,
        first_volley=volleys.first,
        active_clusters=_count_active(late[:, 0], in_cluster[0], milliseconds),
    )


def _sum_windows(counts: Array, width: int) -> Array:
    """Return the sums of records (record, ...) in whole windows of so many records."""
    n_windows = len(counts) // width
    windows = counts[: n_windows * width].reshape(n_windows, width, *counts.shape[1:])
    return windows.sum(1)


class _Volleys(NamedTuple):
    """What `Dynamics` says of volleys."""

    number: Array
    per_second: Array
    first: Array


def _describe_volleys(shares: Array, width: int, records: Records) -> _Volleys:
    """Return volleys from the spikes of I per neuron in each record (record,).

    width: records in the window of a volley
    """
    in_window = lax.reduce_window(
        shares, np.zeros((), shares.dtype), lax.add, (width,), (1,), [(width - 1, 0)]
    )
    is_volley = in_window > VOLLEY_SHARE
    before = jnp.concatenate([jnp.zeros(1, bool), is_volley[:-1]])
    begins = is_volley & ~before
    # a window ends at these times [ms]
    times = jnp.arange(1, len(begins) + 1, dtype=shares.dtype) * records.width
    late_begins, late_times = begins[records.n_warmup :], times[records.n_warmup :]
    number = late_begins.astype(shares.dtype).sum()
    earliest = jnp.min(jnp.where(late_begins, late_times, jnp.inf))
    latest = jnp.max(jnp.where(late_begins, late_times, -jnp.inf))
    has_several = number > 1
    seconds = jnp.where(has_several, (latest - earliest) / 1000, 1)
    return _Volleys(
        number=number,
        per_second=jnp.where(has_several, (number - 1) / seconds, 0),
        first=jnp.min(jnp.where(begins, times, jnp.inf)),
    )


def _count_active(counts: Array, neurons: Array, milliseconds: float) -> Array:
    """Return how many clusters are active in windows, from their counts (record, cluster)."""
    n_window = round(ACTIVE_WINDOW / milliseconds)
    rates = _sum_windows(counts, n_window) / (neurons * (n_window * milliseconds / 1000))
    mean = rates.mean() if len(rates) else jnp.zeros((), rates.dtype)
    is_active = rates > jnp.maximum(ACTIVE_RATIO * mean, ACTIVE_RATE)
    if counts.shape[-1] == 1:
        # one cluster is no clustering
        is_active = jnp.zeros_like(is_active)
    return is_active.astype(rates.dtype).sum(-1)
