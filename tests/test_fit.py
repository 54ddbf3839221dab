"""fit: against SciPy and known truths, at bounds, with ties, priors, losses and degeneracies."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fitted import (
    BOUNDS,
    NET,
    SYMMETRIC_BOUNDS,
    TIMES,
    TRUTH,
    WEIGHTS,
    evaluate,
    line,
    noisy_trace,
    numpy_psp,
    psp,
)
from scipy.optimize import curve_fit, least_squares, minimize

from rbn_jax import Free, NetworkParams, fit


@pytest.mark.parametrize("sigma", [None, 0.005, np.linspace(0.003, 0.008, TIMES.size)])
def test_values_and_errors_equal_those_of_curve_fit(sigma):
    target = noisy_trace()
    result = fit(psp, TRUTH, target, BOUNDS, sigma=sigma, n_starts=8)
    sigmas = None if sigma is None else np.broadcast_to(sigma, TIMES.shape)
    best, covariance = curve_fit(
        numpy_psp,
        TIMES,
        target,
        list(TRUTH.values()),
        sigmas,
        absolute_sigma=sigma is not None,
        xtol=1e-12,
        ftol=1e-12,
    )
    np.testing.assert_allclose([result.values[n] for n in BOUNDS], best, rtol=1e-6)
    np.testing.assert_allclose(result.covariance, covariance, rtol=1e-3)  # SciPy takes differences
    r = (numpy_psp(TIMES, *best) - target) / (1.0 if sigmas is None else sigmas)
    assert result.chi_square == pytest.approx(r @ r, rel=1e-8)
    n = TIMES.size
    assert result.aic == pytest.approx(n * np.log(result.chi_square / n) + 6)
    assert result.bic == pytest.approx(n * np.log(result.chi_square / n) + 3 * np.log(n))
    np.testing.assert_allclose(result.residuals["psp"], r, atol=1e-5)
    assert (result.status, result.advice, result.n_reached) == ("converged", (), 8)


def test_symmetric_waveform_gives_two_optima():
    result = fit(psp, TRUTH, noisy_trace(), SYMMETRIC_BOUNDS, sigma=0.005)
    first, second = result.optima
    assert first.cost == pytest.approx(second.cost, rel=1e-9)
    assert first.values["tau_m"] == pytest.approx(second.values["tau_syn"], rel=1e-6)
    assert first.starts + second.starts == result.n_reached > 60
    assert "2 distinct" in result.report()
    assert result.identifiability.directions == ()


def test_network_with_a_free_matrix_entry_gives_a_network():
    wanted = NET.replace(tau_syn_ex=3.0, gei=1.7, baseline_conn_prob_EI=0.3)
    free = {"tau_syn_ex": (0.5, 20), "gei": (0.1, 10), "baseline_conn_prob_EI": (0.05, 1.0)}
    target = evaluate(WEIGHTS, wanted)
    result = fit(WEIGHTS, NET, target, {"tau_syn_ex": (0.5, 20), "gei": (0.1, 10)} | free)
    assert isinstance(result.params, NetworkParams)
    (text,) = result.identifiability.directions  # gei / sqrt(p): p_EI enters js_EI alone
    assert "gei" in text
    assert "baseline_conn_prob_EI" in text
    del free["gei"]
    result = fit(WEIGHTS, NET.replace(gei=1.7), target, free)
    assert result.values["baseline_conn_prob_EI"] == pytest.approx(0.3, rel=1e-9)
    np.testing.assert_allclose(evaluate(WEIGHTS, result.params), target, rtol=1e-9)


@pytest.mark.parametrize(
    ("free", "entries", "words"),
    [
        (("gei", "V_th_E"), [(0, 1)], "only their product|only their combination"),
        (("V_th_E", "C_m", "tau_E"), [(0, 0), (1, 0)], "can vary together"),
    ],
)
def test_open_directions_name_the_parameters(free, entries, words):
    target = np.full((2, 2), np.nan)
    for place in entries:
        target[place] = evaluate(WEIGHTS, NET)[place] * 1.1
    result = fit(WEIGHTS, NET, target, dict.fromkeys(free, (0.1, 60)), sigma=0.1)
    assert any(np.isinf(list(result.stderr.values())))
    text = " ".join(result.identifiability.directions)
    assert re.search(words, text), text
    assert text.split(";")[0] in result.report().replace("\n", " ") or text in result.report()


def test_more_parameters_than_data_gives_advice_and_no_errors():
    target = np.full((2, 2), np.nan)
    target[0, 1] = -40
    result = fit(WEIGHTS, NET, target, {"gei": (0.1, 10), "tau_syn_in": (1, 20)})
    assert "2 free parameters and 1 data" in " ".join(result.advice)
    assert not any(np.isfinite(x) for x in result.stderr.values())


def test_optimum_on_a_bound_equals_the_bound():
    target = evaluate(WEIGHTS, NET.replace(gei=1.5, gie=1.2))
    free = {"gei": (0.1, 1.1), "gie": (0.1, 10)}
    result = fit(WEIGHTS, NET, target, free, n_starts=8)
    assert result.values["gei"] == 1.1
    assert result.at_bound == {"gei": "high"}
    assert np.isnan(result.stderr["gei"])
    assert np.isfinite(result.stderr["gie"])
    assert "lies on its high bound" in result.report()
    assert result.n_reached == 8


def test_start_that_reaches_a_bound_still_finds_the_optimum():
    target = noisy_trace()
    bounds = {**BOUNDS, "tau_m": (17, 50)}  # the truth is 15
    low, high = zip(*bounds.values(), strict=True)
    best = least_squares(
        lambda x: (numpy_psp(TIMES, *x) - target) / 0.005, [90, 20, 1], bounds=(low, high)
    )
    for weight in (10, 900):
        for tau_m in (18, 45):
            start = {"weight": weight, "tau_m": tau_m, "tau_syn": 1.0}
            result = fit(psp, start, target, bounds, sigma=0.005, n_starts=1)
            assert result.chi_square == pytest.approx(2 * best.cost, rel=1e-6)
            assert (result.status, result.at_bound) == ("converged", {"tau_m": "low"})


def test_parameter_without_bounds_is_found_far_from_the_start():
    far = {"a": 1e7, "b": -1e5}
    free = dict.fromkeys(far, (None, None))
    # values as files may have them
    options = {"n_starts": 1.0, "seed": 0.0, "dtype": np.dtype("float64")}
    result = fit(line, {"a": 1.0, "b": 1.0}, evaluate(line, far), free, **options)
    assert result.values == pytest.approx(far, rel=1e-9)


def test_ties_priors_and_start_values():
    target = 2 + 3 * np.arange(6.0)
    tied = {"a": (None, None), "b": Free(tie="1.5 * a")}
    result = fit(line, {"a": 1.0, "b": 1.0}, target, tied, sigma=0.1)
    assert result.values == pytest.approx({"a": 2, "b": 3})
    assert result.stderr["b"] == pytest.approx(1.5 * result.stderr["a"])
    tied_by_function = {"a": (None, None), "b": Free(tie=lambda values: 1.5 * values["a"])}
    function_result = fit(line, {"a": 1.0, "b": 1.0}, target, tied_by_function, sigma=0.1)
    assert function_result.stderr == pytest.approx(result.stderr)
    targets = np.stack([target, target])
    rows = fit(line, {"a": 1.0, "b": 1.0}, targets, tied_by_function, sigma=0.1, rows=True)
    for name, error in result.stderr.items():
        assert rows.stderr[name] == pytest.approx(error)
    open_ends = {"a": Free(scale="log"), "b": Free(scale="log", high=20.0)}
    result = fit(line, {"a": 1.0, "b": 1.0}, target, open_ends, sigma=0.1)
    assert result.values == pytest.approx({"a": 2, "b": 3})
    # one number and a prior: the mean of both by their weights
    single = np.full(6, np.nan)
    single[0] = 5.0
    free = {"a": Free(start=3.0, prior=(1.0, 0.5))}
    result = fit(line, {"a": 1.0, "b": 1.0}, single, free, sigma=0.25, n_starts=1)
    assert result.values["a"] == pytest.approx((5 / 0.25**2 + 1 / 0.5**2) / (1 / 0.25**2 + 4))
    assert result.stderr["a"] == pytest.approx((1 / 0.25**2 + 4) ** -0.5)


@pytest.mark.parametrize("robust", ["soft_l1", "huber"])
def test_robust_losses_equal_those_of_scipy(robust):
    target = 2 + 3 * np.arange(6.0) + np.array([0.1, -0.2, 0.1, 30, 0.0, 0.1])
    result = fit(
        line,
        {"a": 1.0, "b": 1.0},
        target,
        {"a": (None, None), "b": (0, 20)},
        sigma=1.0,
        robust=robust,
    )
    expected = least_squares(
        lambda x: x[0] + x[1] * np.arange(6.0) - target, [1, 1], loss=robust, xtol=1e-12, ftol=1e-12
    )
    assert 0.5 * result.chi_square == pytest.approx(expected.cost, rel=1e-9)
    np.testing.assert_allclose(list(result.values.values()), expected.x, rtol=1e-4)


def test_user_loss_gives_the_maximum_likelihood():
    counts = np.array([3.0, 1, 4, 1, 5, 9])

    def poisson(prediction, target):
        return jnp.sum(prediction - target * jnp.log(prediction))

    def rate(p):
        return p["a"] * jnp.ones(6)

    result = fit(rate, {"a": 1.0}, counts, {"a": (0.1, 100)}, loss=poisson, n_starts=4)
    assert result.values["a"] == pytest.approx(counts.mean(), rel=1e-6)
    assert result.stderr["a"] == pytest.approx(np.sqrt(counts.mean() / 6), rel=1e-5)  # of Poisson
    assert result.method == "newton"


def test_loss_with_a_large_constant_is_minimised_accurately():
    """Poisson counts near 1e7 have a loss of 1e11, of which a millionth matters."""
    times = np.linspace(0, 1, 200)
    counts = np.random.default_rng(0).poisson(1e7 * np.exp(-0.1 * times)).astype(float)

    def rate(p):
        return p["r"] * jnp.exp(-p["s"] * np.array(times))

    def poisson(prediction, target):
        return jnp.sum(prediction - target * jnp.log(prediction))

    free = {"r": (1e5, 1e9), "s": (0.01, 2)}
    result = fit(rate, {"r": 3e6, "s": 1.0}, counts, free, loss=poisson, n_starts=4)
    r, s = result.values["r"], result.values["s"]
    fitted = r * np.exp(-s * times)
    score = [np.sum(counts - fitted) / r, -np.sum(times * (counts - fitted))]  # 0 at the optimum
    assert abs(score[0]) * result.stderr["r"] < 1e-3
    assert abs(score[1]) * result.stderr["s"] < 1e-3
    assert result.n_reached == 4
    assert result.aic == result.chi_square + 4
    assert result.bic == pytest.approx(result.chi_square + 2 * np.log(200))


def test_loss_of_a_product_reports_the_open_direction():
    def poisson(prediction, target):
        return jnp.sum(prediction - target * jnp.log(prediction))

    def rate(p):
        return p["x"] * p["y"] * jnp.ones(4)

    free = {"x": (0.1, 100), "y": (0.1, 100)}
    result = fit(rate, {"x": 1.0, "y": 1.0}, np.array([30.0, 10, 40, 10]), free, loss=poisson)
    assert result.identifiability.directions == (
        "x x y can vary together: only their product enters",
    )
    assert len(result.optima) == 1


def test_float32_finds_the_optimum_on_a_large_offset():
    t, rng = np.arange(200.0), np.random.default_rng(0)
    target = -65 + np.exp(-t / 10) + 1e-3 * rng.standard_normal(200)

    def trace(p):
        return p["v"] + p["w"] * jnp.exp(-jnp.arange(200.0) / p["tau"])

    start = {"v": -60.0, "w": 2.0, "tau": 20.0}
    free = {"v": (-80, -50), "w": (0.1, 10), "tau": (1, 100)}
    double = fit(trace, start, target, free, sigma=1e-3, n_starts=4, dtype="float64")
    single = fit(trace, start, target, free, sigma=1e-3, n_starts=4, dtype="float32")
    for name in free:
        # the rounding of 65 in float32 is 8e-6, or 0.01 sigma
        assert abs(double.values[name] - single.values[name]) < 0.1 * double.stderr[name]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_errors_do_not_depend_on_the_sigma_of_other_data(dtype):
    def both(p):
        return {"a": p["a"], "b": p["b"]}

    free = dict.fromkeys("ab", (0.1, 10))
    sigma = {"a": 1e-5, "b": 0.5}
    options = {"sigma": sigma, "dtype": dtype, "n_starts": 4}
    result = fit(both, {"a": 1.0, "b": 1.0}, {"a": 2.0, "b": 3.0}, free, **options)
    assert result.stderr == pytest.approx(sigma, rel=1e-3)
    assert result.identifiability.directions == ()
    rows = fit(both, {"a": 1.0, "b": 1.0}, {"a": [2.0, 1], "b": [3.0, 4]}, free, **options)
    assert rows.stderr["b"] == pytest.approx(0.5, rel=1e-3)


def test_fit_where_fn_has_no_derivative_is_not_converged():
    """At x = 0 JAX's derivatives of sqrt(x) are infinite, and NaN for every other parameter."""

    def root(p):
        return jnp.sqrt(p["x"]) + p["b"] * jnp.arange(6.0)

    target = -0.5 + 3 * np.arange(6.0)
    free = {"x": (0, 1), "b": (0, 10)}
    result = fit(root, {"x": 0.5, "b": 1.0}, target, free, sigma=0.1, n_starts=4)
    rows = fit(root, {"x": 0.5, "b": 1.0}, np.stack([target] * 2), free, sigma=0.1, n_starts=4)
    assert (result.status, *rows.status) == ("not converged",) * 3
    assert result.values["x"] < 1e-3
    assert "did not converge" in result.advice[0]


def test_ties_may_use_all_values_and_earlier_ties():
    def fn(p):
        return p["z"] * jnp.ones(3)

    start = {"x": 1.0, "y": 1.0, "z": 1.0, "d": 2.0, "u": 1.0}
    free = {
        "x": (0.1, 10),
        "y": (0.1, 10),
        "u": Free(tie=lambda v: v["x"] * v["d"]),
        "z": Free(tie=lambda v: v["u"] * v["y"]),
    }
    result = fit(fn, start, np.full(3, 6.0), free, sigma=0.3)
    assert result.values["z"] == pytest.approx(6)
    assert result.stderr["x"] == np.inf
    assert result.stderr["z"] == pytest.approx(0.3 / np.sqrt(3))  # what the data do know
    assert np.isnan(result.sensitivity()["x"]["fn"]).all()


def test_a_fit_by_a_loss_can_be_repeated_and_differentiated():
    """Half the sum of squares as a loss has the optimum of the fit by least squares."""

    def loss(prediction, target):
        return 0.5 * jnp.sum((prediction - target) ** 2)

    target = noisy_trace()
    by_loss = fit(psp, TRUTH, target, BOUNDS, n_starts=2, loss=loss)
    by_squares = fit(psp, TRUTH, target, BOUNDS, n_starts=2)
    other = jnp.asarray(target * 1.001)
    with jax.enable_x64(True):
        again, expected = by_loss.refit(other), by_squares.refit(other)
    slopes, expected_slopes = by_loss.sensitivity(), by_squares.sensitivity()
    for name in BOUNDS:
        # the loss is minimised to a decrease of 1e-6 in its value, of about 1e-3
        assert again[name] == pytest.approx(float(expected[name]), rel=1e-2)
        np.testing.assert_allclose(
            slopes[name]["psp"], expected_slopes[name]["psp"], rtol=0.02, atol=1e-3
        )


def test_derivatives_in_the_targets_equal_differences_of_fits():
    target = noisy_trace()
    result = fit(psp, TRUTH, target, BOUNDS, n_starts=8)
    slopes = result.sensitivity()
    with jax.enable_x64(True):
        traced = jax.jacobian(result.refit)(jnp.asarray(target))
    step = np.zeros(TIMES.size)
    step[7] = 1e-4
    up, down = (fit(psp, TRUTH, target + s, BOUNDS, n_starts=8) for s in (step, -step))
    for name in BOUNDS:  # refit ends 1e-9 from the optimum, and slopes are of order 1
        np.testing.assert_allclose(traced[name], slopes[name]["psp"], rtol=1e-6, atol=1e-7)
        difference = (up.values[name] - down.values[name]) / 2e-4
        assert slopes[name]["psp"][7] == pytest.approx(difference, rel=1e-4)


def test_profile_interval_equals_a_direct_minimisation():
    target = noisy_trace()
    result = fit(psp, TRUTH, target, BOUNDS, sigma=0.005, n_starts=8)
    low, high = result.confidence("tau_syn")
    for end in (low, high):

        def chi(x, end=end):
            r = (numpy_psp(TIMES, x[0], x[1], end) - target) / 0.005
            return r @ r

        best = minimize(
            chi,
            [result.values["weight"], result.values["tau_m"]],
            method="Nelder-Mead",
            options={"xatol": 1e-9, "fatol": 1e-9, "maxiter": 4000},
        )
        assert best.fun - result.chi_square == pytest.approx(3.841458820694124, rel=1e-3)
    half = 1.96 * result.stderr["tau_syn"]
    assert high - low == pytest.approx(2 * half, rel=0.05)
    assert result.confidence("tau_syn", 0.68)[0] > low


def test_float32_is_near_float64():
    double = fit(psp, TRUTH, noisy_trace(), BOUNDS, n_starts=8, dtype="float64")
    single = fit(psp, TRUTH, noisy_trace(), BOUNDS, n_starts=8, dtype="float32")
    for name in BOUNDS:
        assert single.values[name] == pytest.approx(double.values[name], rel=2e-3)


def test_loss_with_a_start_where_fn_is_nan_counts_it_as_lost():
    def root(p):
        return jnp.sqrt(p["a"]) * jnp.ones(3)

    def squares(prediction, target):
        return jnp.sum((prediction - target) ** 2)

    result = fit(root, {"a": 1.0}, np.full(3, 2.0), {"a": (-10, 10)}, loss=squares, n_starts=8)
    assert result.values["a"] == pytest.approx(4, rel=1e-6)
    assert 0 < result.n_lost < 8


def test_optimum_at_a_kink_is_found():
    """Where the cost has a kink no derivative is 0; the other parameters are minimised there."""
    times = np.arange(20.0)

    def ramp(p):
        return p["offset"] + 2 * jnp.maximum(times - p["onset"], 0)

    # the cost has its minimum over the onset at 8, where a sample is, for this noise
    noise = np.where(times == 8, 3.0, 0.3 * np.cos(7 * times))
    target = 1.0 + 2 * np.maximum(times - 8, 0) + noise
    free = {"offset": (-5, 5), "onset": (0, 15)}
    result = fit(ramp, {"offset": 0.0, "onset": 3.0}, target, free, sigma=1.0, n_starts=8)
    onsets = np.linspace(7, 9, 4001)[:, None]
    ramps = 2 * np.maximum(times - onsets, 0)
    offsets = np.mean(target - ramps, 1, keepdims=True)
    chi_squares = np.sum((target - ramps - offsets) ** 2, 1)
    assert result.status == "converged"
    assert result.chi_square == pytest.approx(chi_squares.min(), rel=1e-6)
    assert result.values["onset"] == pytest.approx(onsets[chi_squares.argmin(), 0], abs=1e-3)
