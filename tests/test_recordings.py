"""Statistics of spikes against Elephant, against processes with known statistics, and by hand."""

import numpy as np
import pytest
import quantities
from hypothesis import given
from hypothesis import strategies as st

import rbn_jax as rbn


def gamma_trains(order, n_neurons, rate, duration, seed=1):
    """Spikes (2, n) of neurons whose intervals have a gamma distribution; order 1 is Poisson."""
    rng = np.random.default_rng(seed)
    mean = 1000 / rate
    n = int(duration / mean * 1.5) + 50
    times = np.cumsum(rng.gamma(order, mean / order, (n_neurons, n)), axis=1)
    # the first interval began before the recording
    times -= rng.uniform(20 * mean, 21 * mean, (n_neurons, 1))
    neurons = np.broadcast_to(np.arange(n_neurons)[:, None], times.shape)
    inside = (times >= 0) & (times < duration)
    order_in_time = np.argsort(times[inside])
    return np.stack([times[inside][order_in_time], neurons[inside][order_in_time]])


def recording(name):
    """A recording of 3 s, and its populations."""
    rng = np.random.default_rng(7)
    groups = {"E": (0, 80), "I": (80, 100)}
    if name == "poisson":
        return gamma_trains(1, 100, 8.0, 3000.0), groups
    if name == "gamma":
        return gamma_trains(4, 100, 20.0, 3000.0), groups
    if name == "sparse":
        return gamma_trains(1, 100, 0.8, 3000.0), groups
    spikes = gamma_trains(2, 100, 10.0, 3000.0)
    if name == "on a grid":
        return np.stack([np.round(spikes[0], 1), spikes[1]]), groups
    return spikes[:, rng.permutation(spikes.shape[1])], groups


RECORDINGS = ["poisson", "gamma", "sparse", "on a grid", "unsorted"]


@pytest.mark.parametrize("name", RECORDINGS)
# Elephant and Quantities warn of what NumPy and SciPy will change
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_statistics_are_those_of_elephant(name):
    import neo
    from elephant import statistics

    spikes, groups = recording(name)
    ours = rbn.spike_statistics(spikes, groups, tlim=(0, 3000), window=500.0)
    for neuron in range(100):
        times = np.sort(spikes[0][spikes[1] == neuron])
        values = ours.sel(neuron=neuron)
        train = neo.SpikeTrain(times, units="ms", t_start=0, t_stop=3000)
        rate = statistics.mean_firing_rate(train).rescale("1/s").item()
        np.testing.assert_allclose(values["neuron_rate"], rate, rtol=1e-12)
        intervals = np.diff(times)
        expected = {"cv": np.nan, "cv2": np.nan, "fano_factor": np.nan}
        if len(times) > 2:
            expected["cv"] = statistics.cv(intervals)
            expected["cv2"] = statistics.cv2(intervals)
        if len(times):
            edges = np.arange(0, 3001, 500.0)
            parts = [times[(times >= a) & (times < a + 500)] for a in edges[:-1]]
            expected["fano_factor"] = statistics.fanofactor(parts)
        for key, value in expected.items():
            np.testing.assert_allclose(values[f"neuron_{key}"], value, rtol=1e-12, atol=1e-14)
    for population, (first, last) in groups.items():
        values = ours.sel(population=population)
        inside = (spikes[1] >= first) & (spikes[1] < last)
        # NumPy's histogram has another rounding at the edges
        bins = np.floor(spikes[0][inside] / 5 + 1e-9).astype(int)
        counts = np.bincount(bins, minlength=600)
        np.testing.assert_allclose(values["synchrony"], counts.var() / counts.mean(), rtol=1e-12)
        assert values["n_silent"] == (last - first) - len(set(spikes[1][inside]))
        for key in ("cv", "cv2", "fano_factor"):
            of_neurons = ours[f"neuron_{key}"][ours["neuron_population"] == population]
            np.testing.assert_allclose(values[key], np.nanmean(of_neurons), rtol=1e-12)


@pytest.mark.parametrize("order", [1, 3])
def test_poisson_and_gamma_processes_have_their_statistics(order):
    """Within five standard errors of the mean over 2000 neurons."""
    spikes = gamma_trains(order, 2000, 20.0, 40_000.0)
    statistics = rbn.spike_statistics(spikes, {"all": (0, 2000)}, tlim=(0, 40_000), window=2000.0)

    def assert_near(name, expected, bias):
        values = statistics[f"neuron_{name}"].values
        error = 5 * values.std() / np.sqrt(values.size)
        assert abs(values.mean() - expected) < error + bias, name

    assert float(statistics["rate"][0]) == pytest.approx(20, rel=5e-3)
    # 800 intervals and 20 windows: biases of finite numbers are of the order of one by the number
    assert_near("cv", order**-0.5, 2 / 800)
    if order == 1:
        assert_near("cv2", 1.0, 1 / 800)
    assert_near("fano_factor", 19 / 20 / order, 0.1 / 20)
    assert not statistics["lock_step"].any()


def test_regular_spikes_have_no_variability():
    """Ten spikes a second in every neuron at once are lock-step of a thousand neurons."""
    times = np.tile(np.arange(10, 3000, 100.0), 1000)
    neurons = np.repeat(np.arange(1000), 30)
    statistics = rbn.spike_statistics([times, neurons], {"E": (0, 1000)}, tlim=(0, 3000))
    for name in ("cv", "cv2", "fano_factor"):
        assert statistics[name] == pytest.approx(0, abs=1e-12)
    # a share 1/20 of the bins has 1000 spikes
    assert float(statistics["synchrony"][0]) == pytest.approx(1000 * (1 - 1 / 20))
    assert statistics["lock_step"].values.tolist() == [True]


def test_rates_and_numbers_of_active_clusters():
    net = rbn.NetworkParams(N_E=40, N_I=20, n_clusters=4)
    # E neurons of cluster 2, 20 to 29, fire in the second of three windows of 100 ms, and those of
    # cluster 3 in the second and third one; I of cluster 1, 45 to 49, in the first one
    times, neurons = [], []
    for neuron, fired in [(20, [150, 160]), (29, [170]), (30, [110, 120, 250]), (45, [50])]:
        times += fired
        neurons += [neuron] * len(fired)
    statistics = rbn.spike_statistics([times, neurons], net, tlim=(0, 300))
    assert statistics["cluster_rate"].sel(population="E").values == pytest.approx([0, 0, 1, 1])
    assert statistics["cluster_rate"].sel(population="I").values == pytest.approx([0, 2 / 3, 0, 0])
    in_time = statistics["cluster_rate_in_time"].sel(population="E")
    np.testing.assert_allclose(in_time, [[0, 0, 0], [0, 0, 0], [0, 3, 0], [0, 2, 1]])
    assert statistics["active_clusters"].values.tolist() == [0, 0, 0]  # below 8 spikes/s
    many = np.repeat(np.array([times, neurons], float), 5, axis=1)
    statistics = rbn.spike_statistics(many, net, tlim=(0, 300))
    # of a mean of 2.5 spikes/s: 15 and 10 spikes/s are active, and 5 are not
    assert statistics["active_clusters"].values.tolist() == [0, 2, 0]
    np.testing.assert_allclose(statistics["share_of_time"], [2 / 3, 0, 1 / 3, 0, 0])
    # while two are active: clusters 2 and 3 of E fire at 15 and 10 spikes/s, all else is silent;
    # while none is: cluster 3 of E and cluster 1 of I fire, in one of two windows each
    nan = np.nan
    active = [[nan, nan], [nan, nan], [12.5, 0], [nan, nan], [nan, nan]]
    np.testing.assert_allclose(statistics["rates_active"], active)
    inactive = [[5 / 8, 10 / 8], [nan, nan], [0, 0], [nan, nan], [nan, nan]]
    np.testing.assert_allclose(statistics["rates_inactive"], inactive)
    # rates of 0, 15, 0 and of 0, 10, 5; of 10, 0, 0 for I
    cv = np.mean([np.sqrt(2), np.std([0, 10, 5]) / 5]), np.sqrt(2)
    np.testing.assert_allclose(statistics["cluster_rate_cv"], cv)


@given(st.lists(st.tuples(st.integers(0, 2999), st.integers(0, 9)), max_size=60), st.data())
def test_statistics_do_not_depend_on_the_order_or_on_the_names_of_neurons(pairs, data):
    times = np.array([time / 10 for time, _ in pairs])
    neurons = np.array([neuron for _, neuron in pairs], int)
    order = np.array(data.draw(st.permutations(range(len(pairs)))), int)
    options = {"tlim": (0, 300), "window": 50.0}
    first = rbn.spike_statistics([times, neurons], {"all": (0, 10)}, **options)
    other = rbn.spike_statistics([times[order], neurons[order] + 5], {"all": (5, 15)}, **options)
    for name in first.data_vars:
        np.testing.assert_allclose(first[name], other[name], rtol=1e-12)


def test_recorders_events_and_cut_recordings_are_understood():
    events = {"times": np.array([1.0, 10.0, 600.0]), "senders": np.array([1, 5, 1])}
    net = rbn.NetworkParams(N_E=4, N_I=1, n_clusters=1)
    statistics = rbn.spike_statistics(events, net, first_id=1)
    assert statistics.attrs["stop"] == 605.0
    np.testing.assert_allclose(statistics["rate"], [2 / 4 / 0.605, 1 / 0.605])
    assert statistics["neuron"].values.tolist() == [1, 2, 3, 4, 5]
    cut = rbn.spike_statistics(events, net, first_id=1, tlim=(10.0, 600.0))
    np.testing.assert_allclose(cut["rate"], [0, 1 / 0.59])
    silent = rbn.spike_statistics(np.empty((2, 0)), net, tlim=(0, 1000))
    assert silent["n_silent"].values.tolist() == [4, 1]
    assert silent["fano_factor"].isnull().all()
    short = rbn.spike_statistics([[5.0], [0]], rbn.NetworkParams(), tlim=(0, 10))
    assert np.isnan(short["fano_factor"]).all()
    assert np.isnan(short["share_of_time"]).all()
    assert short["cluster_rate_in_time"].shape == (2, 20, 0)
    for name in ("rates_active", "rates_inactive", "cluster_rate_cv"):
        assert np.isnan(short[name]).all()
    one_window = rbn.spike_statistics([[5.0], [0]], rbn.NetworkParams(), tlim=(0, 150))
    assert np.isnan(one_window["cluster_rate_cv"]).all()


def test_limits_of_time_have_units_and_a_wrong_unit_is_told():
    spikes, groups = [[50.0, 150.0], [0, 1]], {"E": (0, 2)}
    in_seconds = (0.0 * quantities.s, 0.2 * quantities.s)
    with_unit = rbn.spike_statistics(spikes, groups, tlim=in_seconds)
    np.testing.assert_allclose(with_unit["rate"], [5.0])
    with pytest.warns(UserWarning, match=r"tlim=\(0, 0.2\) ms holds no spikes: .* from 50 to 150"):
        rbn.spike_statistics(spikes, groups, tlim=(0, 0.2))
    # a silence within the recording is none
    silent = rbn.spike_statistics(spikes, groups, tlim=(60, 140))
    np.testing.assert_allclose(silent["rate"], [0.0])


@given(st.integers(0, 30_000), st.sampled_from([0.1, 0.2, 0.3, 0.7, 0.9, 1.1, 2.5, 5.0]))
def test_the_last_spike_on_a_grid_counts(steps, bin_width):
    """Multiples of 0.1 ms and of the bin are rounded, and so are times less a warm-up."""
    for time in (steps * 0.1, steps / 10, (1000 + steps * 0.1) - 1000):
        spikes = [[0.0, time], [0, 1]]
        statistics = rbn.spike_statistics(spikes, {"E": (0, 2)}, bin=bin_width)
        assert statistics["n_silent"] == 0
        n_bins = round(statistics.attrs["stop"] / bin_width)
        n_first = 2 if time < bin_width * (1 - 1e-9) else 1
        mean = 2 / n_bins
        counts = [2] if n_first == 2 else [1, 1]
        variance = sum(count**2 for count in counts) / n_bins - mean**2
        if n_bins > 1:
            np.testing.assert_allclose(statistics["synchrony"], variance / mean, atol=1e-9)
    start = steps * 0.1
    cut = rbn.spike_statistics([[(1000 + start) - 1000], [0]], {"E": (0, 1)}, tlim=(start, 1e4))
    assert cut["n_silent"] == 0


@pytest.mark.parametrize(
    ("spikes", "net", "options", "message"),
    [
        ([[1.0], [5]], {"E": (0, 5)}, {}, "the neuron 5 is in no group"),
        ([[1.0], [1e19]], {"E": (0, 5)}, {}, r"the neuron 1e\+19 is in no group"),
        ([[1.0], [-1]], {"E": (0, 5)}, {}, "the neuron -1 is in no group"),
        ([[1.0], [5000]], rbn.NetworkParams(), {}, "the neuron 5000 .* first_id, which is 1 for"),
        ([[1.0], [0]], rbn.NetworkParams(), {"first_id": "1"}, "first_id='1'"),
        ([[1.0], [0]], rbn.NetworkParams(n_clusters=[2.0, 4.0]), {}, "n_clusters=.* one network"),
        ([[1.0], [0]], [("k", 0, 5, "E")], {}, "must be a NetworkParams, or"),
        ([[1.0], [0]], {"E": ("a", "b")}, {}, "must be .first ID, last ID"),
        ([[1.0], [0]], {"E": (0, 5), "I": (10**12, 10**12 + 1)}, {}, "at most 100,000,000"),
        ([[1e12], [0]], {"E": (0, 5)}, {}, "at most 100,000,000 bins"),
        ([[1.0], [0]], {"E": (0, 5)}, {"tlim": (0, None)}, "tlim=.0, None."),
        ([[1.0], [0.5]], {"E": (0, 5)}, {}, "ID 0.5 is no whole number"),
        ([[1.0], [0]], {"E": (0, 5), "I": (4, 6)}, {}, r"E: \(0, 5\) and I: \(4, 6\) have neurons"),
        ([[1.0], [0]], {"E": (5, 5)}, {}, r"E: \(5, 5\) must be"),
        ([[1.0], [0]], {}, {}, "must be a NetworkParams, or"),
        ([[1.0], [0]], 3, {}, "net is 3"),
        ([[], []], {"E": (0, 5)}, {}, "there are no spikes: give tlim"),
        ([[-1.0], [0]], {"E": (0, 5)}, {}, "a time is -1 ms"),
        ([[1.0], [0]], {"E": (0, 5)}, {"tlim": (5, 5)}, r"tlim=\(5, 5\)"),
        ([[1.0], [0]], {"E": (0, 5)}, {"window": 0.0}, "window=0.0 ms"),
        ([[1.0], [0]], {"E": (0, 5)}, {"bin": np.nan}, "bin=nan ms"),
        ([[1.0], [0]], rbn.NetworkParams(N_E=4001.0), {"tlim": (0, 500)}, "N_E=4001"),
        ([[1.0], [0]], rbn.NetworkParams(N_E=[4e3, 8e3]), {"tlim": (0, 500)}, "one network"),
    ],
)
def test_what_is_no_recording_is_named(spikes, net, options, message):
    with pytest.raises(ValueError, match=message):
        rbn.spike_statistics(np.array(spikes, float), net, **options)
