"""The rate of one neuron, and its Chebyshev series, against mpmath."""

import functools
import itertools

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rbn_jax as rbn
from rbn_jax.numerics import coefficients, siegert
from rbn_jax.rates import log_siegert_rate

NAMES = ("mu", "sigma", "tau_m", "t_ref", "v_th", "v_r", "tau_syn")
# (V_th - mu) / sigma and (V_th - V_r) / sigma
THRESHOLDS = [-200.0, -50.0, -8.0, -1.0, -1e-3, 0.0, 1e-3, 0.1, 0.5, 2.0, 5.0, 9.3, 20.0]
GAPS = [0.01, 2.0, 180.0]
# sigma, tau_m, t_ref, v_th, tau_syn, all of them exact in float32
NEURONS = [(4.0, 20.0, 5.0, 20.0, 0.0), (0.5, 10.0, 0.0, -50.0, 2.5)]


def argument_sets():
    """Arguments in the order of NAMES, exact in float32, for the two neurons in turn."""
    sets = []
    for number, (threshold, gap) in enumerate(itertools.product(THRESHOLDS, GAPS)):
        sigma, tau_m, t_ref, v_th, tau_syn = NEURONS[number % 2]
        mu = float(np.float32(v_th - sigma * threshold))
        v_r = float(np.float32(v_th - sigma * gap))
        sets.append((mu, sigma, tau_m, t_ref, v_th, v_r, tau_syn))
    return sets


def erfcx(x):
    return mp.exp(x * x) * mp.erfc(x)


def integrand(u):
    """exp(u^2) (1 + erf u); by its asymptotic series where erfc loses all digits."""
    if u > -25:
        return erfcx(-u)
    terms = ((-1) ** n * mp.fac2(2 * n - 1) / (2 * u * u) ** n for n in range(25))
    return sum(terms, mp.mpf(0)) / (-u * mp.sqrt(mp.pi))


def exact_log_rate(*arguments):
    """ln rate and its derivatives in the order of NAMES."""
    mu, sigma, tau_m, t_ref, v_th, v_r, tau_syn = map(mp.mpf, arguments)
    alpha = abs(mp.zeta(mp.mpf(1) / 2)) / mp.sqrt(2)
    shift = alpha * mp.sqrt(tau_syn / tau_m)
    low, high = ((v - mu) / sigma + shift for v in (v_r, v_th))
    # the integral is split at 0, and near a high limit, where the integrand rises steeply
    limits = {low, high}
    if low < 0 < high:
        limits.add(mp.mpf(0))
    if high > 0:
        limits |= {high - depth for depth in (2, 0.5, 0.1) if low < high - depth}
    integral = mp.quad(integrand, sorted(limits))
    root_pi = mp.sqrt(mp.pi)
    period = t_ref + tau_m * root_pi * integral
    at_low, at_high = integrand(low), integrand(high)
    growth = at_high - at_low
    integral_slopes = {
        "mu": -growth / sigma,
        "sigma": -((v_th - mu) * at_high - (v_r - mu) * at_low) / sigma**2,
        "tau_m": integral / tau_m - growth * shift / (2 * tau_m),
        "v_th": at_high / sigma,
        "v_r": -at_low / sigma,
        "tau_syn": growth * shift / (2 * tau_syn) if tau_syn else mp.mpf(0),
    }
    slopes = {name: -tau_m * root_pi * s / period for name, s in integral_slopes.items()}
    slopes["t_ref"] = -1 / period
    return mp.log(1000 / period), [slopes[name] for name in NAMES]


@functools.cache
def exact_results():
    """Logarithms of the rates, rates, and derivatives of the logarithms."""
    with mp.workdps(30):
        results = [exact_log_rate(*arguments) for arguments in argument_sets()]
        rates = np.array([float(mp.exp(log_rate)) for log_rate, _ in results])
    log_rates = np.array([float(log_rate) for log_rate, _ in results])
    slopes = np.array([[float(slope) for slope in gradient] for _, gradient in results])
    return log_rates, rates, slopes


def test_rate_and_every_derivative_agree_with_mpmath(dtype):
    """1e-13 and 2e-5: absolute for ln rate, relative for the rate and the derivatives of ln rate.

    The largest float32 error was 5.2e-6 on the first machine; other processors have twice that.
    """
    exact_logs, exact_rates, exact_slopes = exact_results()
    arguments = [jnp.asarray(column, dtype) for column in zip(*argument_sets(), strict=True)]
    log_rates = np.asarray(log_siegert_rate(*arguments), float)
    gradient = jax.vmap(jax.grad(log_siegert_rate, tuple(range(7))))
    slopes = np.stack([np.asarray(column, float) for column in gradient(*arguments)], 1)
    rates = np.asarray(rbn.siegert_rate(*arguments), float)
    tolerance = 1e-13 if dtype == np.float64 else 2e-5
    smallest_rate = 1e-300 if dtype == np.float64 else 1e-30
    assert np.all(np.abs(log_rates - exact_logs) < tolerance)
    slope_errors = np.abs(slopes - exact_slopes) / np.maximum(np.abs(exact_slopes), 1e-30)
    assert np.all(slope_errors < tolerance)
    rate_errors = np.abs(rates / exact_rates - 1)
    assert np.all(rate_errors[exact_rates > smallest_rate] < tolerance)


@pytest.mark.parametrize(("mu", "tau_syn"), [(12.0, 4.0), (10.0, 0.0), (20.0, 0.0)])
def test_second_derivatives_agree_with_mpmath(x64, mu, tau_syn):
    """In mu, sigma and v_r, also with the mean at reset and threshold, within 1e-11.

    That is the error of the differences.
    """
    arguments = (mu, 5.0, 20.0, 2.0, 20.0, 10.0, tau_syn)
    positions = (0, 1, 5)
    hessian = np.asarray(jax.hessian(log_siegert_rate, positions)(*arguments))
    step = mp.mpf(10) ** -10
    for row, column in itertools.combinations_with_replacement(range(3), 2):
        gradients = []
        with mp.workdps(30):
            for sign in (1, -1):
                moved = list(arguments)
                moved[positions[column]] += sign * step
                gradients.append(exact_log_rate(*moved)[1][positions[row]])
            expected = float((gradients[0] - gradients[1]) / (2 * step))
        assert hessian[row, column] == pytest.approx(expected, rel=1e-11)


def integral_remainder(x):
    logarithm = mp.log(1 + 4 * mp.exp(mp.euler) * x * x) / (2 * mp.sqrt(mp.pi))
    return mp.quad(erfcx, [0, x / 2, x]) - logarithm


def scaled_dawson(x):
    dawson = mp.sqrt(mp.pi) / 2 * mp.exp(-x * x) * mp.erfi(x)
    return (x * x + 12) / (24 * x) * dawson


SERIES = {
    "ERFCX_INTEGRAL_REMAINDER": integral_remainder,
    "ERFCX": lambda x: (x + 1.5) / 3 * erfcx(x),
    "DAWSON": scaled_dawson,
    "ERFCX_REMAINDER": lambda x: ((x + 1.5) / 3) ** 2 * (1 / mp.sqrt(mp.pi) - x * erfcx(x)),
}


@pytest.mark.parametrize("name", SERIES)
def test_chebyshev_series_agrees_with_its_function(x64, name):
    points = np.array([1e-3, 0.1, 0.7, 1.5, 3.0, 6.0, 15.0])
    middle, power = (12, 2) if name == "DAWSON" else (1.5, 1)
    t = (points**power - middle) / (points**power + middle)
    values = np.asarray(siegert._series(getattr(coefficients, name), jnp.asarray(t)))
    with mp.workdps(50):
        expected = np.array([float(SERIES[name](mp.mpf(point))) for point in points])
    # each of 50 terms is rounded; where terms cancel, the error is that of the largest of them
    atol = 1e-16 if name.endswith("_REMAINDER") else 0
    np.testing.assert_allclose(values, expected, rtol=2e-15, atol=atol)


finite = {"allow_nan": False, "allow_infinity": False}


@given(st.floats(-300, 300, **finite), st.floats(0.05, 50, **finite), st.floats(0, 10, **finite))
def test_rate_grows_with_the_mean_up_to_the_limit_of_the_refractory_period(mu, sigma, t_ref):
    with jax.enable_x64(True):
        rates = rbn.siegert_rate(np.array([mu, mu + 1]), sigma, 20.0, t_ref, 20.0, 0.0, 5.0)
    low, high = np.asarray(rates).tolist()
    assert 0 <= low <= high
    assert t_ref == 0 or high <= 1000 / t_ref


@pytest.mark.parametrize(
    "invalid",
    [
        {"sigma": 0.0},
        {"tau_m": -1.0},
        {"t_ref": -1.0},
        {"v_r": 20.0},
        {"tau_syn": -1.0},
        {"mu": np.nan},
    ],
)
def test_rate_outside_the_domain_is_nan(invalid):
    valid = {"mu": 10.0, "sigma": 5.0, "tau_m": 20.0, "t_ref": 2.0, "v_th": 20.0, "v_r": 0.0}
    assert np.isnan(rbn.siegert_rate(**{**valid, **invalid}))
