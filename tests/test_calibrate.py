"""Parameters from rates, all the states of a network, regimes, and what is refused."""

import warnings

import jax
import numpy as np
import pytest

from rbn_jax import (
    NetworkParams,
    Populations,
    calibrate,
    firing_rates,
    fixed_points,
    mean_field,
    siegert_rate,
)
from rbn_jax.rates import REGIMES

GOOD = {
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


def test_500_targets_are_met_with_the_derivative_of_the_answer(x64):
    """Targets are rates of networks, so that each can be reached."""
    rng = np.random.default_rng(2026)
    there = {"I_th_E": rng.uniform(1.3, 3.0, 500), "I_th_I": rng.uniform(0.5, 1.2, 500)}
    wanted = np.asarray(firing_rates(NetworkParams(**there)))
    found = calibrate(NetworkParams(), wanted)
    np.testing.assert_allclose(firing_rates(found), wanted, rtol=1e-6)
    assert np.abs(found.I_th_E / there["I_th_E"] - 1).max() < 1e-6  # one network a target here

    # the derivative at the first of them, against differences of fourth order in the same batch
    def answer(target):
        net = calibrate(NetworkParams(), (target[0], target[1]))
        return net.I_th_E, net.I_th_I

    steps = 1e-3 * np.array([-2, -1, 1, 2])
    near = np.tile(wanted[0], (500, 1))
    near[:4, 0] += steps
    near[4:8, 1] += steps
    moved = calibrate(NetworkParams(), near)
    f = np.stack([moved.I_th_E, moved.I_th_I])[:, :8].reshape(2, 2, 4)
    expected = (8 * (f[..., 2] - f[..., 1]) - (f[..., 3] - f[..., 0])) / 12e-3
    slopes = np.stack(jax.jacfwd(answer)(wanted[0]))
    np.testing.assert_allclose(slopes, expected, rtol=1e-7)


def test_a_target_with_warnings_is_met_all_the_same():
    with pytest.warns(RuntimeWarning, match="quiescent: I_th_E <= 1"):
        net = calibrate(NetworkParams(), (3.0, 3.0), theory="shift")
    assert net.I_th_E < 1


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
            {"theory": "shift", "free": ("gei", "gii")},
            "no values of gei and gii were found that give E 150 and I 0.01",
        ),
    ],
)
def test_what_cannot_be_calibrated_is_refused(rates, options, message):
    with pytest.raises(ValueError, match=message):
        calibrate(NetworkParams(), rates, **options)


def test_both_states_of_a_bistable_population_and_the_one_between(x64):
    """Each is a root of Siegert's rate, checked on its own; stability from its slope."""
    own = {**GOOD, "weights": [[0.9]], "indegrees": [[100.0]], "mu_ext": [10.0]}
    points = fixed_points(Populations(**own), "white")
    rates = np.array([point.rates[0] for point in points])
    assert len(rates) == 3

    def missing(rate):
        k = 100 * 20e-3 * rate
        noise = 9.0 + k * 0.9**2
        return siegert_rate(10.0 + 0.9 * k, noise**0.5, 20.0, 2.0, 20.0, 0.0) - rate

    np.testing.assert_allclose([missing(rate) for rate in rates], 0, atol=1e-6)
    slopes = np.array([jax.grad(missing)(rate) for rate in rates])
    eigenvalues = np.array([point.eigenvalues[0] for point in points])
    # of ln rate, that of the relaxation is d ln F / d ln nu - 1, where F = nu the same
    np.testing.assert_allclose(eigenvalues, slopes, rtol=1e-6)
    assert [point.stable for point in points] == [True, False, True]


def test_fixed_points_refuse_what_they_cannot_start_from():
    for starts in ([[1.0]], [[1.0, -1.0]], [], [1.0, 2.0]):
        with pytest.raises(ValueError, match=r"starts of the shape .* must be \(k, 2\) rates > 0"):
            fixed_points(NetworkParams(), starts=starts)
    with pytest.raises(ValueError, match="must be one network"):
        fixed_points(NetworkParams(gei=[1.1, 1.2]))
    with pytest.raises(ValueError, match="tau_E=-1 ms"):
        fixed_points(NetworkParams(tau_E=-1.0))


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
def test_populations_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        mean_field(Populations(**{**GOOD, **changes}))


def test_a_network_without_a_state_that_is_known_is_nan(x64):
    """Noise of more than V_th - V_r is beyond the table of "exact"; other values beyond all."""
    nets = NetworkParams(
        gei=np.array([1.2, 1.2, np.nan]), V_r=np.array([0.0, 19.5, 0.0]), t_ref=[5.0, 5.0, 5.0]
    )
    found = jax.jit(mean_field, static_argnums=1)(nets, "exact")
    np.testing.assert_array_equal(found.converged, [True, False, False])
    for x in (found.rates, found.rate_std, found.mu, found.sigma, found.spread):
        np.testing.assert_array_equal(np.isnan(x).any(-1), ~np.asarray(found.converged))


def test_regimes_are_flags_and_words():
    nets = NetworkParams(
        I_th_E=np.array([1.25, 0.9, 1.25, 1.25, 1.25, 1.05]),
        tau_syn_in=np.array([5.0, 5.0, 7.0, 5.0, 5.0, 5.0]),
        N_E=np.array([4000.0, 4000.0, 4000.0, 1200.0, 4000.0, 4000.0]),
        gei=np.array([1.2, 1.2, 1.2, 1.2, 0.95, 1.2]),
        I_th_I=np.array([0.78, 0.78, 0.78, 0.78, 0.78, 1.5]),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # within a function there are data and no warnings
        flags = mean_field(nets, "shift").warnings
    assert set(flags) == set(REGIMES)
    found = [[name for name, flag in flags.items() if flag[i]] for i in range(6)]
    assert found == [
        [],
        ["quiescent"],
        ["lock_step", "slow_synapses"],
        ["small_network"],
        ["weak_inhibition"],
        ["low_rate"],
    ]


def test_a_silent_population_has_the_rate_zero(x64):
    """ln of it is -5000 and less, beyond what float64 has a number for."""
    found = mean_field(NetworkParams(I_th_E=-50.0, I_th_I=2.0))
    assert found.converged
    assert found.rates[0] == 0
    assert found.rates[1] > 1
