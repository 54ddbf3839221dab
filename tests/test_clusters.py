"""Clusters: factors, populations of groups, gain, transition and active states."""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rbn_jax as rbn
from rbn_jax import NetworkParams
from rbn_jax.numerics.newton import linearised
from rbn_jax.numerics.stability import largest_real_part
from rbn_jax.rates.couplings import make_couplings
from rbn_jax.rates.equations import residual
from rbn_jax.rates.groups import group_populations

NEST_FILE = Path(__file__).parent / "data" / "nest_clusters.json"
RULES = ("pairwise_bernoulli", "pairwise_poisson", "fixed_indegree")
# Rostami et al. (2024), Fig. 2d: rep at which the Fano factor is 1.5, read off the figure
PUBLISHED_CONTOUR = {10: 3.19, 20: 5.15, 40: 7.94, 55: 9.85}
PUBLISHED_NETWORK = NetworkParams(
    V_th_E=15.0, V_th_I=15.0, tau_syn_ex=3.0, tau_syn_in=2.0, I_th_E=2.14, I_th_I=1.26, rj=0.75
)

clustered_networks = st.builds(
    dict,
    rep=st.floats(1.0, 5.0),
    rj=st.floats(0.0, 1.0),
    kappa=st.floats(0.0, 1.0),
    n_clusters=st.integers(6, 60),
)


@settings(deadline=None, max_examples=50)
@given(values=clustered_networks)
def test_the_mean_input_does_not_depend_on_clusters(values):
    with jax.enable_x64(True):
        factors = rbn.cluster_factors(NetworkParams(**values))
        n_clusters = values["n_clusters"]
        within = factors.probability_within * factors.weight_within
        between = factors.probability_between * factors.weight_between
        mean = (within + (n_clusters - 1) * between) / n_clusters
    # two powers, a product and a sum
    np.testing.assert_allclose(mean, 1, rtol=4 * np.finfo(float).eps)


@pytest.mark.parametrize(("clustering", "kappa"), [("weight", 1.0), ("probabilities", 0.0)])
def test_clustering_is_a_name_of_kappa(clustering, kappa):
    by_name = rbn.cluster_factors(NetworkParams(clustering=clustering, rep=3.0))
    by_number = rbn.cluster_factors(NetworkParams(kappa=kappa, rep=3.0))
    for factor, other in zip(by_name, by_number, strict=True):
        np.testing.assert_array_equal(factor, other)


def test_factors_are_those_of_the_formula():
    factors = rbn.cluster_factors(NetworkParams(rep=4.0, rj=0.5, n_clusters=10, kappa=0.25))
    plus = np.array([[4.0, 2.5], [2.5, 2.5]])
    minus = (10 - plus) / 9
    np.testing.assert_allclose(factors.probability_within, plus**0.75, rtol=1e-6)
    np.testing.assert_allclose(factors.probability_between, minus**0.75, rtol=1e-6)
    np.testing.assert_allclose(factors.weight_within, plus**0.25, rtol=1e-6)
    np.testing.assert_allclose(factors.weight_between, minus**0.25, rtol=1e-6)


@pytest.mark.parametrize("rep", [-0.5, 21.0])
def test_factors_without_a_network_are_nan(rep):
    factors = rbn.cluster_factors(NetworkParams(rep=rep, rj=1.0))
    assert np.isnan(factors.weight_within).all()
    gradient = jax.grad(lambda rep: rbn.cluster_factors(NetworkParams(rep=rep)).weight_within.sum())
    assert np.isnan(gradient(rep))


def test_factors_of_one_cluster_are_1():
    for factor in rbn.cluster_factors(NetworkParams(n_clusters=1, rep=30.0)):
        np.testing.assert_array_equal(factor, 1)


def test_derivatives_of_factors_agree_with_differences(x64):
    def weight_between(name, value):
        net = NetworkParams(rep=4.0, kappa=0.5).replace(**{name: value})
        return rbn.cluster_factors(net).weight_between.sum()

    for name, value in {"rep": 4.0, "rj": 0.82, "kappa": 0.5, "n_clusters": 20.0}.items():
        step = 1e-6 * value
        above, below = (weight_between(name, value + sign * step) for sign in (1, -1))
        derivative = jax.grad(functools.partial(weight_between, name))(value)
        np.testing.assert_allclose(derivative, (above - below) / (2 * step), rtol=1e-7)


def test_matrices_have_blocks_in_the_order_of_nest(x64):
    net = NetworkParams(n_clusters=5, rep=3.0, kappa=0.5)
    weights, probabilities = rbn.cluster_matrices(net)
    factors = rbn.cluster_factors(net)
    js = rbn.calculate_RBN_weights(net)
    assert weights.shape == probabilities.shape == (10, 10)
    # E_1 from I_1, and from I_2
    assert weights[0, 5] == js[0, 1] * factors.weight_within[0, 1]
    assert weights[0, 6] == js[0, 1] * factors.weight_between[0, 1]
    assert probabilities[7, 2] == 0.5 * factors.probability_within[1, 0]
    # each neuron has the mean input of the network without clusters
    mean_weights = (weights * probabilities).reshape(2, 5, 2, 5).sum(-1) / 5
    expected = np.broadcast_to((js * net.baseline_conn_prob)[:, None], mean_weights.shape)
    np.testing.assert_allclose(mean_weights, expected, rtol=1e-14)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (
            NetworkParams(n_clusters=np.array([2.0, 3.0]), rep=1.5),
            "n_clusters has the values 2 to 3",
        ),
        (NetworkParams(rep=30.0), "rep=30"),
    ],
)
def test_matrices_refuse(net, message):
    with pytest.raises(ValueError, match=message):
        rbn.cluster_matrices(net)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rep": 25.0}, "rep=25: must be from 0 to n_clusters=20"),
        ({"rep": 0.1, "rj": 2.0}, r"1 \+ \(rep - 1\) rj=-0.8: must be from 0"),
        ({"rep": 20.0, "kappa": 0.5}, "rep=20: .* both excluded where 0 < kappa < 1"),
        ({"kappa": 1.5}, "kappa=1.5: must be a number from 0 to 1"),
        ({"connection_rule": "all_to_all"}, "connection_rule='all_to_all': must be"),
        ({"connection_rule": "pairwise_poisson", "fixed_indegree": True}, "must agree"),
    ],
)
def test_check_refuses_clusters_that_no_network_has(values, message):
    with pytest.raises(ValueError, match=message):
        NetworkParams(**values).check()


def test_kappa_and_the_connection_rule_follow_their_other_names():
    net = NetworkParams(kappa=0.3, connection_rule="pairwise_poisson")
    assert net.replace(clustering="probabilities").kappa == 0.0
    assert net.replace(fixed_indegree=True).connection_rule == "fixed_indegree"
    assert NetworkParams(connection_rule="fixed_indegree").fixed_indegree
    assert NetworkParams.from_mapping(net.to_dict()) == net
    assert not {"kappa", "connection_rule"} & set(NetworkParams(fixed_indegree=True).to_dict())
    # 1 is the default of kappa, but not with clustering by probabilities
    mixed = NetworkParams(clustering="probabilities", kappa=1.0)
    assert repr(mixed) == "NetworkParams(clustering='probabilities', kappa=1.0)"
    assert NetworkParams.from_mapping(mixed.to_dict()) == mixed


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kappa", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("theory", ["white", "quenched"])
def test_groups_of_clusters_have_the_symmetric_state(rule, kappa, theory, x64):
    net = NetworkParams(rep=2.0, kappa=kappa, connection_rule=rule, n_clusters=7)
    expected = rbn.firing_rates(net, theory)
    # the limit that the issue of clusters sets
    for sizes in ([1.0, 6.0], np.ones(7)):
        rates = rbn.firing_rates(group_populations(net, jnp.asarray(sizes)), theory)
        np.testing.assert_allclose(rates, np.repeat(expected, len(sizes)), rtol=1e-11)


@pytest.mark.parametrize("rule", RULES)
def test_without_clusters_populations_are_those_of_the_network(rule):
    net = NetworkParams(rep=1.0, kappa=0.4, connection_rule=rule)
    populations = rbn.clustered(net)
    indegrees = net.baseline_conn_prob * np.array([4000.0, 1000.0])
    np.testing.assert_array_equal(populations.indegrees, indegrees.astype(np.float32))
    expected = 0.0 if rule == "pairwise_poisson" else net.baseline_conn_prob
    np.testing.assert_array_equal(
        populations.connection_prob, np.float32(expected) + np.zeros((2, 2))
    )


def test_the_symmetric_state_has_the_noise_of_the_closed_form(x64):
    net = NetworkParams(rep=4.0, rj=0.5)
    clustered, unclustered = rbn.clustered(net), rbn.clustered(net.replace(rep=1.0))
    factor = 1 + (np.array([[4.0, 2.5], [2.5, 2.5]]) - 1) ** 2 / 19

    def noise(populations):
        return populations.indegrees * populations.weights**2

    np.testing.assert_allclose(noise(clustered), noise(unclustered) * factor, rtol=1e-14)
    np.testing.assert_allclose(clustered.connection_prob, net.baseline_conn_prob, rtol=1e-14)
    by_probabilities = rbn.clustered(net.replace(clustering="probabilities", rep=1.2))
    factor = 1 + (np.array([[1.2, 1.1], [1.1, 1.1]]) - 1) ** 2 / 19
    np.testing.assert_allclose(noise(by_probabilities), noise(unclustered), rtol=1e-14)
    np.testing.assert_allclose(
        by_probabilities.connection_prob, net.baseline_conn_prob * factor, rtol=1e-14
    )


def test_a_probability_above_1_is_split(x64):
    # 0.5 * 2.0004 is above 1: two synapses of half of it, with half of the shared input
    below, above = (
        rbn.clustered(NetworkParams(rep=rep, rj=1.0, clustering="probabilities"), active=1)
        for rep in (1.9996, 2.0004)
    )
    np.testing.assert_allclose(below.connection_prob[2, 2], 0.9998, rtol=1e-12)
    np.testing.assert_allclose(above.connection_prob[2, 2], 1.0002 / 2, rtol=1e-12)
    np.testing.assert_allclose(above.indegrees, below.indegrees, rtol=1e-3)
    state = rbn.mean_field(NetworkParams(rep=2.5, rj=1.0, clustering="probabilities"))
    assert state.warnings["split_probability"]


def test_fixed_indegrees_are_rounded_down_for_each_cluster():
    # 0.5 * 20 / 4 = 2.5 inhibitory inputs from each cluster
    net = NetworkParams(N_E=80, N_I=20, n_clusters=4, rep=1.0, fixed_indegree=True)
    np.testing.assert_array_equal(rbn.clustered(net).indegrees, [[16, 8], [40, 8]])
    slope = jax.grad(lambda p: rbn.clustered(net.replace(baseline_conn_prob_EI=p)).indegrees[0, 1])
    # the derivative of the number that is rounded, times the factor of rounding
    np.testing.assert_allclose(slope(0.5), 20 * 8 / 10, rtol=1e-6)


@pytest.mark.parametrize(
    ("active", "message"),
    [
        (20, "active=20: must be from 1 to n_clusters - 1 = 19"),
        (-1, "active=-1"),
        ([1, 30], "active=30"),
        ("all", "active='all': must be a number of clusters"),
        (None, "active=None: must be a number of clusters"),
    ],
)
def test_numbers_of_active_clusters_that_are_refused(active, message):
    for function in (rbn.clustered, rbn.cluster_state):
        with pytest.raises(ValueError, match=message):
            function(NetworkParams(), active)
    with pytest.raises(ValueError, match="nothing but 0, as there is one cluster"):
        rbn.cluster_state(NetworkParams(n_clusters=1), 1)


def test_largest_real_part_is_that_of_numpy(x64):
    matrices = np.random.default_rng(1).normal(size=(4, 4, 50)) * 10.0 ** np.arange(-25, 25)
    expected = np.linalg.eigvals(matrices.transpose(2, 0, 1)).real.max(-1)
    np.testing.assert_allclose(largest_real_part(jnp.asarray(matrices)), expected, rtol=1e-9)
    assert largest_real_part(jnp.zeros((4, 4, 1)))[0] == 0
    assert np.isnan(largest_real_part(jnp.full((2, 2, 1), jnp.nan))[0])


def test_derivatives_of_the_largest_real_part_agree_with_differences(x64):
    matrix, direction = np.random.default_rng(2).normal(size=(2, 4, 4))

    def real_part(t):
        return largest_real_part(jnp.asarray(matrix + t * direction)[..., None])[0]

    step = 1e-4
    values = [float(real_part(t)) for t in (-step, 0.0, step)]
    np.testing.assert_allclose(
        jax.grad(real_part)(0.0), (values[2] - values[0]) / (2 * step), rtol=1e-6
    )
    second = (values[2] - 2 * values[1] + values[0]) / step**2
    np.testing.assert_allclose(jax.hessian(real_part)(0.0), second, rtol=1e-4)


@pytest.mark.parametrize("theory", ["shift", "quenched"])
def test_the_gain_is_that_of_one_cluster_against_the_others(theory, x64):
    """The mode of groups of 1 and Q - 1 clusters has the matrix J_11 - J_12 / (Q - 1)."""
    net = NetworkParams(rep=5.0)
    state = rbn.mean_field(net, theory)
    unknowns = [np.log(state.rates)]
    if theory == "quenched":
        unknowns.append(np.log1p((state.rate_std / state.rates) ** 2))
    unknowns = np.repeat(np.concatenate(unknowns), 2)[:, None]
    populations = group_populations(net, jnp.array([1.0, 19.0]))
    couplings, _ = make_couplings(populations, rbn.rates.theories.find_theory(theory))
    value, jacobian = linearised(residual, jnp.asarray(unknowns), couplings)
    np.testing.assert_allclose(value, 0, atol=1e-9)
    matrix = np.asarray(jacobian[..., 0]) + np.eye(len(jacobian))
    mode = matrix[::2, ::2] - matrix[::2, 1::2] / 19
    expected = np.linalg.eigvals(mode).real.max()
    np.testing.assert_allclose(state.cluster_gain, expected, rtol=1e-8)
    batch = net.replace(rep=np.array([5.0, 6.0]))
    np.testing.assert_allclose(rbn.cluster_gain(batch, theory)[0], expected, rtol=1e-10)


def test_the_gain_marks_states_that_are_not_stable():
    state = rbn.mean_field(NetworkParams(rep=6.0))
    assert state.cluster_gain > 1
    assert not state.stable
    assert state.converged
    assert state.warnings["near_transition"]
    without = rbn.mean_field(NetworkParams(rep=1.0))
    # difference quotients of one network leave rounding errors
    assert abs(without.cluster_gain) < 1e-9
    assert without.stable
    assert not without.warnings["near_transition"]
    assert abs(rbn.cluster_gain(NetworkParams(n_clusters=1))) < 1e-9
    with pytest.raises(ValueError, match="must be a NetworkParams"):
        rbn.cluster_gain(rbn.clustered(NetworkParams()))


def test_derivatives_of_rates_and_gain_agree_with_differences(x64):
    def rates_and_gain(rep):
        state = rbn.mean_field(NetworkParams(rep=rep))
        return jnp.append(state.rates, state.cluster_gain)

    step = 1e-5
    batch = rbn.mean_field(NetworkParams(rep=np.array([4.0 - step, 4.0 + step])))
    values = np.column_stack([batch.rates, batch.cluster_gain])
    derivative = jax.jacfwd(rates_and_gain)(4.0)
    np.testing.assert_allclose(derivative, (values[1] - values[0]) / (2 * step), rtol=1e-7)


def test_the_transition_is_that_of_the_published_figure(x64):
    for n_clusters, rep in PUBLISHED_CONTOUR.items():
        critical = rbn.critical_rep(PUBLISHED_NETWORK.replace(n_clusters=n_clusters))
        assert abs(critical / rep - 1) < 0.05
        gain = rbn.cluster_gain(
            PUBLISHED_NETWORK.replace(n_clusters=n_clusters, rep=float(critical))
        )
        np.testing.assert_allclose(gain, 1, rtol=1e-8)


def test_the_critical_rep_of_a_batch_has_derivatives(x64):
    single = rbn.critical_rep(NetworkParams())

    def critical(rj, v_th):
        return rbn.critical_rep(NetworkParams(rj=rj, V_th_E=v_th))

    @jax.jit
    def value_and_slope(rj, tangents):
        return jax.jvp(critical, (rj, 20.0), tangents)

    value, slope = value_and_slope(0.82, (1.0, 0.0))
    np.testing.assert_allclose(value, single, rtol=1e-8)
    step = 1e-5
    above, _ = value_and_slope(0.82 + step, (1.0, 0.0))
    below, _ = value_and_slope(0.82 - step, (1.0, 0.0))
    np.testing.assert_allclose(slope, (above - below) / (2 * step), rtol=1e-6)
    # the potential has no scale of its own here: E_L and V_r are 0
    _, slope_of_threshold = value_and_slope(0.82, (0.0, 1.0))
    assert abs(slope_of_threshold * 20.0 / value) < 1e-6


def test_no_transition_is_nan():
    # noise of all inputs keeps the gain below 1
    assert np.isnan(rbn.critical_rep(NetworkParams(rep=1.0, rj=1.2), "shift"))


def test_active_states_solve_the_equations_of_all_clusters(x64):
    """Groups of k and Q - k clusters, and all clusters by themselves, have the same states."""
    net = NetworkParams(rep=8.0)
    state = rbn.cluster_state(net, active=2)
    assert state.converged
    assert state.stable
    # all eigenvalues of the 20 clusters, at the state with the second moments it has
    single = rbn.clustered(net, active=2)
    near = np.concatenate(
        [np.stack([state.rates_active[i], state.rates_inactive[i]]) for i in range(2)]
    )
    points = rbn.fixed_points(single, starts=near[None])
    np.testing.assert_allclose(points[0].rates, near, rtol=1e-8)
    expanded = group_populations(net, jnp.ones(20))
    rates = np.concatenate([np.repeat(near[:2], [2, 18]), np.repeat(near[2:], [2, 18])])
    (point,) = rbn.fixed_points(expanded, starts=rates[None])
    np.testing.assert_allclose(point.rates, rates, rtol=1e-8)
    np.testing.assert_allclose(1 + point.eigenvalues.real.max(), state.gain, rtol=1e-7)
    assert point.stable


def test_states_of_a_batch_are_those_of_single_networks(x64):
    active = np.array([1, 2, 4])
    batch = rbn.cluster_state(NetworkParams(rep=8.0), active)
    for i, number in enumerate(active):
        single = rbn.cluster_state(NetworkParams(rep=8.0), int(number))
        for field in ("rates_active", "rates_inactive", "gain"):
            np.testing.assert_allclose(getattr(batch, field)[i], getattr(single, field), rtol=1e-8)
        assert batch.stable[i] == single.stable
    dataset = rbn.cluster_states(NetworkParams(rep=8.0), active)
    np.testing.assert_allclose(dataset.gain, batch.gain, rtol=1e-8)
    assert list(dataset.active.values) == [1, 2, 4]
    assert dataset.rates_active.dims == ("active", "population")
    assert dataset.rates_active.attrs["units"] == "spikes/s"


def test_there_are_no_active_states_far_below_the_transition():
    state = rbn.cluster_state(NetworkParams(rep=3.0), 1)
    assert not state.converged
    assert not state.stable
    assert np.isnan(state.rates_active).all()
    assert np.isnan(state.gain)


def nest_runs():
    return json.loads(NEST_FILE.read_text("utf-8"))["runs"]


def test_symmetric_states_agree_with_nest(x64):
    n_compared = 0
    for run in nest_runs():
        net = NetworkParams(**run["changed"])
        state = rbn.mean_field(net)
        if not run["name"].startswith("clust_") or state.cluster_gain > 0.9:
            continue
        n_compared += 1
        errors = np.asarray(state.rates) / [run["rate_E"], run["rate_I"]] - 1
        assert abs(errors[0]) < 0.09, run["name"]
        assert abs(errors[1]) < 0.05, run["name"]
    assert n_compared == 5


def test_the_number_of_active_clusters_is_often_that_of_nest(x64):
    """The state of least gain near saturation has the number of clusters that NEST holds active."""
    for name in ("H03_Q20_rep6_rj0.5", "H04_Q20_rep3_rj0"):
        (run,) = (run for run in nest_runs() if run["name"] == name)
        net = NetworkParams(**run["changed"])
        states = rbn.cluster_states(net, range(1, 4))
        best = states.isel(active=int(states.gain.argmin("active")))
        assert best.active == run["active"][0]["active_clusters"]
        error = best.rates_active.sel(population="E") / run["active"][0]["rate_E_active"] - 1
        # rates near saturation are right, those just above the transition are not
        assert abs(error) < 0.16


def test_variability_of_cluster_rates_falls_with_the_window_and_ends_at_a_gain_of_0_6(x64):
    reps = np.array([1.0, 3.0, 5.0])
    cv = rbn.cluster_rate_cv(NetworkParams(rep=reps))
    assert cv[0] < cv[1]
    assert np.isnan(cv[2])
    # without clusters a cluster is a group of neurons whose spike counts do not influence its own
    rate = rbn.firing_rates(NetworkParams(rep=1.0))[0] / 1000
    np.testing.assert_allclose(cv[0], np.sqrt(0.75 / (200 * rate * 250)), rtol=1e-6)
    single = rbn.cluster_rate_cv(NetworkParams(rep=3.0), 1000.0)
    np.testing.assert_allclose(single, cv[1] / 2, rtol=1e-7)
    with pytest.raises(ValueError, match="window=0 ms"):
        rbn.cluster_rate_cv(NetworkParams(), 0.0)


# rates of E and I [spikes/s], gain; I_th_E, I_th_I and rep, from an independent solver
@pytest.mark.parametrize(
    ("rates", "gain", "expected"),
    [
        ((3.0, 4.0), 1.0, (1.583, 0.962, 6.13)),
        ((5.0, 8.0), 0.8, (3.853, 2.630, 5.77)),
        ((8.0, 10.0), 1.05, (3.011, 1.432, 7.20)),
    ],
)
def test_calibration_with_a_gain(rates, gain, expected):
    free = ("I_th_E", "I_th_I", "rep")
    net = rbn.calibrate(NetworkParams(), rates, free, gain=gain)
    np.testing.assert_allclose([net.I_th_E, net.I_th_I, net.rep], expected, rtol=1e-3)
    state = rbn.mean_field(net)
    np.testing.assert_allclose(state.rates, rates, rtol=1e-5)
    np.testing.assert_allclose(state.cluster_gain, gain, rtol=1e-5)


def test_calibration_with_a_gain_refuses():
    free = ("I_th_E", "I_th_I", "rep")
    with pytest.raises(
        ValueError, match="must be three parameters, as many as there are rates and"
    ):
        rbn.calibrate(NetworkParams(), (5.0, 8.0), gain=0.5)
    with pytest.raises(ValueError, match="must be two parameters"):
        rbn.calibrate(NetworkParams(), (5.0, 8.0), free)
    with pytest.raises(ValueError, match="gain=-1: must be a finite number > 0"):
        rbn.calibrate(NetworkParams(), (5.0, 8.0), free, gain=-1.0)
    with pytest.raises(ValueError, match=r"were found that give .* and the gain 30"):
        rbn.calibrate(NetworkParams(), (5.0, 8.0), free, gain=30.0)


def test_states_beyond_the_table_of_exact_are_named():
    net = NetworkParams(I_th_E=20.0, rep=1.0)
    with pytest.warns(RuntimeWarning, match="outside_theory: there is a state"):
        rates = rbn.firing_rates(net, "exact")
    assert np.isnan(rates).all()
    assert rbn.mean_field(net, "exact").warnings["outside_theory"]
    with pytest.raises(
        ValueError, match="the transfer function of the theory 'exact' is not known"
    ):
        rbn.calibrate(net, (80.0, 80.0), theory="exact")
