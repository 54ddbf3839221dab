"""The rate of one neuron, against mpmath at 30 digits, and its Chebyshev series."""

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
from rbn_jax.numerics import siegert as series
from rbn_jax.rates import log_siegert_rate

THRESHOLDS = [-200.0, -50.0, -8.0, -1.0, -1e-3, 0.0, 1e-3, 0.1, 0.5, 2.0, 5.0, 9.3, 20.0]
GAPS = [0.01, 2.0, 180.0]
# sigma, tau_m, t_ref, v_th, tau_syn: numbers that both precisions have
NEURONS = [(4.0, 20.0, 5.0, 20.0, 0.0), (0.5, 10.0, 0.0, -50.0, 2.5)]
NAMES = ("mu", "sigma", "tau_m", "t_ref", "v_th", "v_r", "tau_syn")


def cases():
    """Arguments in the order of NAMES, exact in both precisions; the neurons take turns."""
    found = []
    for n, (y, gap) in enumerate(itertools.product(THRESHOLDS, GAPS)):
        sigma, tau_m, t_ref, v_th, tau_syn = NEURONS[n % 2]
        mu, v_r = (float(np.float32(x)) for x in (v_th - sigma * y, v_th - sigma * gap))
        found.append((mu, sigma, tau_m, t_ref, v_th, v_r, tau_syn))
    return found


def erfcx_of_minus(u):
    """exp(u^2) (1 + erf u), whose asymptotic series takes over where erfc has no digits."""
    if u > -25:
        return mp.exp(u * u) * mp.erfc(-u)
    terms = ((-1) ** n * mp.fac2(2 * n - 1) / (2 * u * u) ** n for n in range(25))
    return sum(terms, mp.mpf(0)) / (-u * mp.sqrt(mp.pi))


def truth(mu, sigma, tau_m, t_ref, v_th, v_r, tau_syn):
    """ln rate and its derivatives in the order of NAMES."""
    mu, sigma, tau_m, t_ref, v_th, v_r, tau_syn = map(
        mp.mpf, (mu, sigma, tau_m, t_ref, v_th, v_r, tau_syn)
    )
    alpha = abs(mp.zeta(mp.mpf(1) / 2)) / mp.sqrt(2)
    shift = alpha * mp.sqrt(tau_syn / tau_m)
    low, high = ((v - mu) / sigma + shift for v in (v_r, v_th))
    inside = [high - x for x in (2, 0.5, 0.1) if low < high - x] if high > 0 else []
    points = sorted({low, high, *inside, *([mp.mpf(0)] if low < 0 < high else [])})
    integral = mp.quad(erfcx_of_minus, points)
    period, root = t_ref + tau_m * mp.sqrt(mp.pi) * integral, mp.sqrt(mp.pi)
    at_low, at_high = erfcx_of_minus(low), erfcx_of_minus(high)
    moved = at_high - at_low
    slopes = {
        "mu": -moved / sigma,
        "sigma": -((v_th - mu) * at_high - (v_r - mu) * at_low) / sigma**2,
        "tau_m": integral / tau_m - moved * shift / (2 * tau_m),
        "v_th": at_high / sigma,
        "v_r": -at_low / sigma,
        "tau_syn": moved * shift / (2 * tau_syn) if tau_syn else mp.mpf(0),
    }
    gradient = {name: -tau_m * root * slope / period for name, slope in slopes.items()}
    return mp.log(1000 / period), [*({**gradient, "t_ref": -1 / period}[name] for name in NAMES)]


@functools.cache
def truths():
    with mp.workdps(30):
        found = [truth(*x) for x in cases()]
        rates = np.array([float(mp.exp(value)) for value, _ in found])
        slopes = np.array([[float(x) for x in gradient] for _, gradient in found])
    return np.array([float(value) for value, _ in found]), rates, slopes


def test_rate_and_every_derivative_against_mpmath(dtype):
    """1e-13 and 1e-5, of the rate relative, as of every derivative of its logarithm.

    float32 reached 5.2e-6 where this was written; other processors get twice that.
    """
    logs, rates, slopes = truths()
    arguments = [jnp.asarray(x, dtype) for x in zip(*cases(), strict=True)]
    found = np.asarray(log_siegert_rate(*arguments), float)
    derivative = jax.vmap(jax.grad(log_siegert_rate, tuple(range(7))))
    gradient = np.stack([np.asarray(x, float) for x in derivative(*arguments)], 1)
    value = np.asarray(rbn.siegert_rate(*arguments), float)
    exact = dtype == np.float64
    tolerance = 1e-13 if exact else 2e-5
    assert np.all(np.abs(found - logs) < tolerance)
    apart = np.abs(gradient - slopes) / np.maximum(np.abs(slopes), 1e-30)
    assert np.all(apart < tolerance)
    seen = rates > (1e-300 if exact else 1e-30)
    assert np.all(np.abs(value / rates - 1)[seen] < tolerance)


@pytest.mark.parametrize(("mu", "tau_syn"), [(12.0, 4.0), (10.0, 0.0), (20.0, 0.0)])
def test_second_derivatives_against_mpmath(x64, mu, tau_syn):
    """In mu, sigma and v_r, also with the mean at reset and threshold; 1e-11, as of differences."""
    args, some = (mu, 5.0, 20.0, 2.0, 20.0, 10.0, tau_syn), (0, 1, 5)
    found = np.asarray(jax.hessian(log_siegert_rate, some)(*args))
    with mp.workdps(30):
        for (a, i), (b, j) in itertools.combinations_with_replacement(enumerate(some), 2):
            step = mp.mpf(10) ** -10
            ends = [
                truth(*(x + (k == j) * d for k, x in enumerate(args)))[1][i] for d in (step, -step)
            ]
            assert found[a, b] == pytest.approx(float((ends[0] - ends[1]) / (2 * step)), rel=1e-11)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("LOG_REST", lambda x: mp.quad(erfcx, [0, x / 2, x]) - log_part(x)),
        ("ERFCX", lambda x: (x + 1.5) / 3 * erfcx(x)),
        (
            "DAWSON",
            lambda x: (x * x + 12) / (24 * x) * mp.sqrt(mp.pi) / 2 * mp.exp(-x * x) * mp.erfi(x),
        ),
        ("REST", lambda x: ((x + 1.5) / 3) ** 2 * (1 / mp.sqrt(mp.pi) - x * erfcx(x))),
    ],
)
def test_series_against_mpmath(x64, name, function):
    points = np.array([1e-3, 0.1, 0.7, 1.5, 3.0, 6.0, 15.0])
    middle, power = (12, 2) if name == "DAWSON" else (1.5, 1)
    t = (points**power - middle) / (points**power + middle)
    found = np.asarray(series._series(getattr(series, name), jnp.asarray(t)))
    with mp.workdps(50):
        expected = np.array([float(function(mp.mpf(x))) for x in points])
    # a rounding of each of 50 terms; where terms cancel, of the largest of them
    least = 1e-16 if name in ("LOG_REST", "REST") else 0
    np.testing.assert_allclose(found, expected, rtol=2e-15, atol=least)


def erfcx(x):
    return mp.exp(x * x) * mp.erfc(x)


def log_part(x):
    return mp.log(1 + 4 * mp.exp(mp.euler) * x * x) / (2 * mp.sqrt(mp.pi))


finite = {"allow_nan": False, "allow_infinity": False}


@given(st.floats(-300, 300, **finite), st.floats(0.05, 50, **finite), st.floats(0, 10, **finite))
def test_a_rate_lies_below_the_refractory_bound_and_grows_with_the_mean(mu, sigma, t_ref):
    with jax.enable_x64(True):
        rates = rbn.siegert_rate(np.array([mu, mu + 1]), sigma, 20.0, t_ref, 20.0, 0.0, 5.0)
    low, high = np.asarray(rates).tolist()
    assert 0 <= low <= high
    assert t_ref == 0 or high <= 1000 / t_ref


@pytest.mark.parametrize(
    "bad",
    [
        {"sigma": 0.0},
        {"tau_m": -1.0},
        {"t_ref": -1.0},
        {"v_r": 20.0},
        {"tau_syn": -1.0},
        {"mu": np.nan},
    ],
)
def test_outside_the_domain_is_nan(bad):
    good = {"mu": 10.0, "sigma": 5.0, "tau_m": 20.0, "t_ref": 2.0, "v_th": 20.0, "v_r": 0.0}
    assert np.isnan(rbn.siegert_rate(**{**good, **bad}))
