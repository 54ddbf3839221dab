"""Calibration, all states of a network, warnings of regimes, and errors."""

import warnings

import jax
import numpy as np
import pytest
from networks import unclustered

from rbn_jax import (
    Populations,
    calibrate,
    firing_rates,
    fixed_points,
    mean_field,
    siegert_rate,
)
from rbn_jax.rates import REGIMES
from rbn_jax.rates.validity import flag_regimes

# a cluster gain, and whether the theory is not known, of networks without these two flags
NO_FLAGS = (np.array(0.5), np.array(False))
TWO_POPULATIONS = {
    "weights": [[-0.2, 0.1], [0.1, -0.2]],
    "indegrees": [[100.0, 100.0], [100.0, 100.0]],
    "connection_prob": 0.1,
    "tau_m": 20.0,
    "tau_syn": 5.0,
    "t_ref": 2.0,
    "V_th": 20.0,
    "V_r": 0.0,
    "mu_ext": [18.0, 18.0],
    "sigma_ext": 3.0,
}


def test_500_calibrations_meet_their_targets_and_have_derivatives(x64):
    """The targets are rates of networks, so that all of them can be met."""
    rng = np.random.default_rng(2026)
    currents = {"I_th_E": rng.uniform(1.3, 3.0, 500), "I_th_I": rng.uniform(0.5, 1.2, 500)}
    targets = np.asarray(firing_rates(unclustered(**currents)))
    net = calibrate(unclustered(), targets)
    np.testing.assert_allclose(firing_rates(net), targets, rtol=1e-6)
    # only one network has each of these targets
    assert np.abs(net.I_th_E / currents["I_th_E"] - 1).max() < 1e-6

    # derivatives at the first target, against differences of fourth order in one batch
    def calibrated_currents(target):
        net = calibrate(unclustered(), (target[0], target[1]))
        return net.I_th_E, net.I_th_I

    steps = 1e-3 * np.array([-2, -1, 1, 2])
    targets_nearby = np.tile(targets[0], (500, 1))
    targets_nearby[:4, 0] += steps
    targets_nearby[4:8, 1] += steps
    nearby = calibrate(unclustered(), targets_nearby)
    currents_nearby = np.stack([nearby.I_th_E, nearby.I_th_I])[:, :8].reshape(2, 2, 4)
    far_below, below, above, far_above = np.moveaxis(currents_nearby, -1, 0)
    expected = (8 * (above - below) - (far_above - far_below)) / 12e-3
    derivatives = np.stack(jax.jacfwd(calibrated_currents)(targets[0]))
    np.testing.assert_allclose(derivatives, expected, rtol=1e-7)


def test_a_target_in_a_doubtful_regime_is_met_with_a_warning():
    # the silent state, which is the lower one, is stable, too
    with (
        pytest.warns(RuntimeWarning, match="quiescent: I_th_E <= 1"),
        pytest.warns(RuntimeWarning, match="mean_field returns another one") as caught,
    ):
        net = calibrate(unclustered(), (3.0, 3.0), theory="shift")
    assert net.I_th_E < 1
    # the line that called calibrate
    assert {warning.filename for warning in caught} == {__file__}


@pytest.mark.parametrize(
    ("rates", "options", "message"),
    [
        ((0.0, 5.0), {}, "the rate of E=0 spikes/s: must be a finite number > 0"),
        ((5.0, np.nan), {}, "the rate of I=nan"),
        ((-1.0, 5.0), {}, "the rate of E=-1"),
        ((5.0, 200.0), {}, "I=200 spikes/s: must be below 1000 / t_ref = 200"),
        ((5.0,), {}, r"rates of the shape \(1,\): must be \(E, I\)"),
        (np.ones((2, 3)), {}, r"rates of the shape \(2, 3\)"),
        (5.0, {}, "rates of the shape"),
        ((5.0, 8.0), {"free": ("I_th_E",)}, "must be two parameters"),
        ((5.0, 8.0), {"free": {"gei": (1, 2), "s": (0, 1)}}, "must be two names; bounds are for"),
        ((5.0, 8.0), {"free": ("I_th_E", "I_th_E")}, "must be two parameters"),
        ((5.0, 8.0), {"free": ("I_th_E", "C_m")}, "no rate depends on C_m"),
        ((5.0, 8.0), {"free": ("delay", "gei")}, "no rate depends on delay"),
        ((5.0, 8.0), {"free": ("gei", "delta_I_xE"), "theory": "shift"}, "depends on delta_I_xE"),
        ((5.0, 8.0), {"free": ("gej", "I_th_I")}, "did you mean .*gei"),
        ((5.0, 8.0), {"free": ("N_E", "I_th_I")}, "N_E is a whole number"),
        ((5.0, 8.0), {"theory": "quick"}, "'white', 'shift', 'quenched', 'exact'"),
        (
            (150.0, 0.01),
            {"theory": "shift", "free": ("gii", "gei")},
            "no values of gii and gei were found that give E 150 and I 0.01",
        ),
    ],
)
def test_impossible_calibrations_are_refused(rates, options, message):
    with pytest.raises(ValueError, match=message):
        calibrate(unclustered(), rates, **options)


def test_states_of_a_bistable_population_and_their_stability(x64):
    """Each state is a root of Siegert's rate minus the rate; its slope gives the stability."""
    changes = {"weights": [[0.9]], "indegrees": [[100.0]], "mu_ext": [10.0]}
    points = fixed_points(Populations(**(TWO_POPULATIONS | changes)), "white")
    rates = np.array([point.rates[0] for point in points])
    assert len(rates) == 3

    def excess(rate):
        spikes = 100 * 20e-3 * rate
        sigma = (9.0 + spikes * 0.9**2) ** 0.5
        return siegert_rate(10.0 + 0.9 * spikes, sigma, 20.0, 2.0, 20.0, 0.0) - rate

    np.testing.assert_allclose([excess(rate) for rate in rates], 0, atol=1e-6)
    slopes = np.array([jax.grad(excess)(rate) for rate in rates])
    eigenvalues = np.array([point.eigenvalues[0] for point in points])
    # the eigenvalue is d ln F / d ln nu - 1, which is dF / dnu - 1 where F = nu
    np.testing.assert_allclose(eigenvalues, slopes, rtol=1e-6)
    assert [point.stable for point in points] == [True, False, True]


def test_fixed_points_refuse_bad_starts_and_batches():
    for starts in ([[1.0]], [[1.0, -1.0]], [], [1.0, 2.0]):
        with pytest.raises(ValueError, match=r"starts of the shape .* must be \(k, 2\) rates > 0"):
            fixed_points(unclustered(), starts=starts)
    with pytest.raises(ValueError, match="must be one network"):
        fixed_points(unclustered(gei=[1.1, 1.2]))
    with pytest.raises(ValueError, match="tau_E=-1 ms"):
        fixed_points(unclustered(tau_E=-1.0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": [1.0, 2.0]}, r"weights has the shape \(2,\): must be \(..., n, n\)"),
        ({"indegrees": np.ones((2, 3))}, r"indegrees has the shape \(2, 3\)"),
        ({"tau_m": [20.0, 10.0, 5.0]}, r"tau_m has the shape \(3,\): must be \(..., 2\)"),
        ({"connection_prob": 1.5}, "connection_prob=1.5: must be a number from 0 to 1"),
        ({"connection_prob": [[0.1, -0.1], [0.1, 0.1]]}, r"connection_prob\[0, 1\]=-0.1"),
        ({"tau_m": [20.0, 0.0]}, r"tau_m\[1\]=0 ms: must be a finite number > 0"),
        ({"sigma_ext": np.nan}, "sigma_ext=nan mV"),
        ({"V_r": 20.0}, "V_th.* must be > V_r"),
    ],
)
def test_impossible_populations_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        mean_field(Populations(**{**TWO_POPULATIONS, **changes}))


def test_networks_without_a_known_state_are_nan(x64):
    """Noise of more than V_th - V_r is beyond the table of "exact"; gei is NaN in the third."""
    nets = unclustered(
        gei=np.array([1.2, 1.2, np.nan]), V_r=np.array([0.0, 19.5, 0.0]), t_ref=[5.0, 5.0, 5.0]
    )
    state = jax.jit(mean_field, static_argnums=1)(nets, "exact")
    np.testing.assert_array_equal(state.converged, [True, False, False])
    for array in (state.rates, state.rate_std, state.mu, state.sigma, state.spread):
        np.testing.assert_array_equal(np.isnan(array).any(-1), ~np.asarray(state.converged))


def test_regimes_are_flags_of_a_batch():
    nets = unclustered(
        I_th_E=np.array([1.25, 0.9, 1.25, 1.25, 1.25, 1.05]),
        tau_syn_in=np.array([5.0, 5.0, 7.0, 5.0, 5.0, 5.0]),
        N_E=np.array([4000.0, 4000.0, 4000.0, 1200.0, 4000.0, 4000.0]),
        gei=np.array([1.2, 1.2, 1.2, 1.2, 0.95, 1.2]),
        I_th_I=np.array([0.78, 0.78, 0.78, 0.78, 0.78, 1.5]),
    )
    with warnings.catch_warnings():
        # mean_field returns flags and issues no warnings
        warnings.simplefilter("error")
        flags = mean_field(nets, "shift").warnings
    assert set(flags) == set(REGIMES)
    regimes = [[name for name, flag in flags.items() if flag[i]] for i in range(6)]
    assert regimes == [
        [],
        # the silent state
        ["low_rate", "quiescent"],
        ["lock_step", "slow_synapses"],
        ["small_network"],
        ["weak_inhibition"],
        ["low_rate"],
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, set()),
        # lock_step: the faster synapse, either of them
        ({"tau_syn_ex": 2.0, "tau_syn_in": 2.0}, {"lock_step"}),
        ({"tau_syn_ex": 2.01, "tau_syn_in": 2.01}, set()),
        ({"tau_syn_in": 2.0}, {"lock_step"}),
        ({"tau_syn_in": 2.01}, set()),
        ({"tau_syn_ex": 2.0, "tau_syn_in": 3.0}, {"lock_step"}),
        # lock_step: inhibition slower than excitation
        ({"tau_syn_ex": 4.0, "tau_syn_in": 4.01}, {"lock_step"}),
        ({"tau_syn_ex": 4.0, "tau_syn_in": 4.0}, set()),
        # lock_step: excitatory neurons not slower than inhibitory ones
        ({"tau_I": 20.0}, {"lock_step"}),
        ({"tau_I": 20.01}, {"lock_step"}),
        ({"tau_I": 19.99}, set()),
        # lock_step: long delays
        ({"delay": 1.5}, {"lock_step"}),
        ({"delay": 1.49}, set()),
        ({"I_th_E": 1.0}, {"quiescent"}),
        ({"I_th_E": 1.01}, set()),
        ({"I_th_E": -1.0}, {"quiescent"}),
        # slow_synapses: the slower synapse by the faster neuron
        ({"tau_syn_ex": 5.01}, {"slow_synapses"}),
        ({"tau_syn_ex": 5.01, "tau_syn_in": 5.01}, {"slow_synapses"}),
        ({"tau_I": 9.99}, {"slow_synapses"}),
        ({"tau_E": 9.99, "tau_I": 10.5}, {"lock_step", "slow_synapses"}),
        ({"tau_E": 9.99, "tau_I": 9.0, "tau_syn_ex": 4.49, "tau_syn_in": 4.0}, set()),
        ({"N_E": 2999.0}, {"small_network"}),
        ({"N_E": 3000.0}, set()),
        ({"gei": 1.0}, {"weak_inhibition"}),
        ({"gei": 1.01}, set()),
    ],
)
def test_regimes_on_either_side_of_each_threshold(changes, expected):
    flags = flag_regimes(unclustered(**changes), np.array([3.0, 4.0]), *NO_FLAGS)
    assert {name for name, flag in flags.items() if flag} == expected


@pytest.mark.parametrize(
    ("rates", "is_low"),
    [([0.1, 4.0], False), ([0.099, 4.0], True), ([4.0, 0.1], False), ([4.0, 0.099], True)],
)
def test_low_rate_of_either_population(x64, rates, is_low):
    for params in (unclustered(), Populations(**TWO_POPULATIONS)):
        flags = flag_regimes(params, np.array(rates), *NO_FLAGS)
        assert {name for name, flag in flags.items() if flag} == ({"low_rate"} if is_low else set())
    assert set(flags) == {"low_rate", "outside_theory"}  # Populations have no other


def test_a_silent_population_has_the_rate_zero(x64):
    """The logarithm of its rate is below -5000, so the rate underflows in float64."""
    state = mean_field(unclustered(I_th_E=-50.0, I_th_I=2.0))
    assert state.converged
    assert state.rates[0] == 0
    assert state.rates[1] > 1
