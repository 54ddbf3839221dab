"""fit: against SciPy and known truths, at bounds, with ties, priors, losses and degeneracies."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fitted import BOUNDS, EITHER, NET, TIMES, TRUTH, WEIGHTS, line, noisy, of, plain_psp, psp
from scipy.optimize import curve_fit, minimize

from rbn_jax import Free, NetworkParams, fit


@pytest.mark.parametrize("sigma", [None, 0.005, np.linspace(0.003, 0.008, TIMES.size)])
def test_values_and_errors_are_those_of_curve_fit(sigma):
    target = noisy()
    found = fit(psp, TRUTH, target, BOUNDS, sigma=sigma, n_starts=8)
    given = None if sigma is None else np.broadcast_to(sigma, TIMES.shape)
    best, cov = curve_fit(
        *(plain_psp, TIMES, target, list(TRUTH.values()), given),
        absolute_sigma=sigma is not None,
        xtol=1e-12,
        ftol=1e-12,
    )
    np.testing.assert_allclose([found.values[n] for n in BOUNDS], best, rtol=1e-6)
    np.testing.assert_allclose(found.covariance, cov, rtol=1e-3)  # SciPy's is by differences
    r = (plain_psp(TIMES, *best) - target) / (1.0 if given is None else given)
    assert found.chi_square == pytest.approx(r @ r, rel=1e-8)
    n = TIMES.size
    assert found.aic == pytest.approx(n * np.log(found.chi_square / n) + 6)
    assert found.bic == pytest.approx(n * np.log(found.chi_square / n) + 3 * np.log(n))
    np.testing.assert_allclose(found.residuals["psp"], r, atol=1e-5)
    assert (found.status, found.advice, found.n_reached) == ("converged", (), 8)


def test_lm_and_trf_agree():
    one, other = (fit(psp, TRUTH, noisy(), BOUNDS, method=m, n_starts=8) for m in ("lm", "trf"))
    assert one.chi_square == pytest.approx(other.chi_square, rel=1e-9)
    assert (one.method, other.method) == ("lm", "trf")


def test_a_symmetric_waveform_has_two_optima_and_both_are_named():
    found = fit(psp, TRUTH, noisy(), EITHER, sigma=0.005)
    first, second = found.optima
    assert first.cost == pytest.approx(second.cost, rel=1e-9)
    assert first.values["tau_m"] == pytest.approx(second.values["tau_syn"], rel=1e-6)
    assert first.starts + second.starts == found.n_reached > 60
    assert "2 distinct" in found.report()
    assert found.identifiability.directions == ()


def test_a_network_comes_back_as_a_network_with_an_entry_of_its_matrix():
    wanted = NET.replace(tau_syn_ex=3.0, gei=1.7, baseline_conn_prob_EI=0.3)
    free = {"tau_syn_ex": (0.5, 20), "gei": (0.1, 10), "baseline_conn_prob_EI": (0.05, 1.0)}
    target = of(WEIGHTS, wanted)
    found = fit(WEIGHTS, NET, target, {"tau_syn_ex": (0.5, 20), "gei": (0.1, 10)} | free)
    assert isinstance(found.params, NetworkParams)
    (text,) = found.identifiability.directions  # gei / sqrt(p): p_EI enters js_EI alone
    assert "gei" in text
    assert "baseline_conn_prob_EI" in text
    del free["gei"]
    found = fit(WEIGHTS, NET.replace(gei=1.7), target, free)
    assert found.values["baseline_conn_prob_EI"] == pytest.approx(0.3, rel=1e-9)
    np.testing.assert_allclose(of(WEIGHTS, found.params), target, rtol=1e-9)


@pytest.mark.parametrize(
    ("free", "entries", "words"),
    [
        (("gei", "V_th_E"), [(0, 1)], "only their product|only their combination"),
        (("V_th_E", "C_m", "tau_E"), [(0, 0), (1, 0)], "can vary together"),
    ],
)
def test_what_the_data_cannot_tell_is_said_in_names(free, entries, words):
    target = np.full((2, 2), np.nan)
    for place in entries:
        target[place] = of(WEIGHTS, NET)[place] * 1.1
    found = fit(WEIGHTS, NET, target, dict.fromkeys(free, (0.1, 60)), sigma=0.1)
    assert any(np.isinf(list(found.stderr.values())))
    text = " ".join(found.identifiability.directions)
    assert re.search(words, text), text
    assert text.split(";")[0] in found.report().replace("\n", " ") or text in found.report()


def test_more_parameters_than_data_is_said():
    target = np.full((2, 2), np.nan)
    target[0, 1] = -40
    found = fit(WEIGHTS, NET, target, {"gei": (0.1, 10), "tau_syn_in": (1, 20)})
    assert "2 free parameters and 1 data" in " ".join(found.advice)
    assert not any(np.isfinite(x) for x in found.stderr.values())


@pytest.mark.parametrize("method", ["lm", "trf"])
def test_an_optimum_on_a_bound_is_exactly_there(method):
    target = of(WEIGHTS, NET.replace(gei=1.5, gie=1.2))
    free = {"gei": (0.1, 1.1), "gie": (0.1, 10)}
    found = fit(WEIGHTS, NET, target, free, method=method, n_starts=8)
    assert found.values["gei"] == 1.1
    assert found.at_bound == {"gei": "high"}
    assert np.isnan(found.stderr["gei"])
    assert np.isfinite(found.stderr["gie"])
    assert "lies on its high bound" in found.report()
    assert found.n_reached == 8


def test_a_start_that_runs_into_a_bound_slides_along_it():
    target = noisy()
    bounds = {**BOUNDS, "tau_m": (17, 50)}  # the truth is 15
    best = fit(psp, TRUTH | {"tau_m": 20.0}, target, bounds, sigma=0.005, method="trf", n_starts=1)
    for weight in (10, 900):
        for tau_m in (18, 45):
            start = {"weight": weight, "tau_m": tau_m, "tau_syn": 1.0}
            found = fit(psp, start, target, bounds, sigma=0.005, n_starts=1)
            assert found.chi_square == pytest.approx(best.chi_square, rel=1e-6)
            assert (found.status, found.at_bound) == ("converged", {"tau_m": "low"})


def test_a_parameter_without_bounds_may_lie_far_away():
    far = {"a": 1e7, "b": -1e5}
    free = dict.fromkeys(far, (None, None))
    whole = {"n_starts": 1.0, "seed": 0.0, "dtype": np.dtype("float64")}  # as files may have them
    found = fit(line, {"a": 1.0, "b": 1.0}, of(line, far), free, **whole)
    assert found.values == pytest.approx(far, rel=1e-9)


def test_ties_priors_and_a_start():
    target = 2 + 3 * np.arange(6.0)
    tied = {"a": (None, None), "b": Free(tie="1.5 * a")}
    found = fit(line, {"a": 1.0, "b": 1.0}, target, tied, sigma=0.1)
    assert found.values == pytest.approx({"a": 2, "b": 3})
    assert found.stderr["b"] == pytest.approx(1.5 * found.stderr["a"])
    other = {"a": (None, None), "b": Free(tie=lambda v: 1.5 * v["a"])}
    assert fit(line, {"a": 1.0, "b": 1.0}, target, other, sigma=0.1).stderr == pytest.approx(
        found.stderr
    )
    open_ends = {"a": Free(scale="log"), "b": Free(scale="log", high=20.0)}
    found = fit(line, {"a": 1.0, "b": 1.0}, target, open_ends, sigma=0.1)
    assert found.values == pytest.approx({"a": 2, "b": 3})
    # one number and a prior: the mean of both by their weights
    one = np.full(6, np.nan)
    one[0] = 5.0
    free = {"a": Free(start=3.0, prior=(1.0, 0.5))}
    found = fit(line, {"a": 1.0, "b": 1.0}, one, free, sigma=0.25, n_starts=1)
    assert found.values["a"] == pytest.approx((5 / 0.25**2 + 1 / 0.5**2) / (1 / 0.25**2 + 4))
    assert found.stderr["a"] == pytest.approx((1 / 0.25**2 + 4) ** -0.5)


@pytest.mark.parametrize("robust", ["soft_l1", "huber"])
def test_robust_losses_are_scipys(robust):
    from scipy.optimize import least_squares

    target = 2 + 3 * np.arange(6.0) + np.array([0.1, -0.2, 0.1, 30, 0.0, 0.1])
    found = fit(
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
    assert 0.5 * found.chi_square == pytest.approx(expected.cost, rel=1e-9)
    np.testing.assert_allclose(list(found.values.values()), expected.x, rtol=1e-4)


def test_a_loss_of_the_users_own():
    counts = np.array([3.0, 1, 4, 1, 5, 9])

    def poisson(prediction, target):
        return jnp.sum(prediction - target * jnp.log(prediction))

    def rate(p):
        return p["a"] * jnp.ones(6)

    found = fit(rate, {"a": 1.0}, counts, {"a": (0.1, 100)}, loss=poisson, n_starts=4)
    assert found.values["a"] == pytest.approx(counts.mean(), rel=1e-6)
    assert found.stderr["a"] == pytest.approx(np.sqrt(counts.mean() / 6), rel=1e-5)  # of Poisson
    assert found.method == "bfgs"


def test_a_likelihood_with_a_large_constant_is_minimised_to_the_end():
    """Of Poisson counts near 1e7: to a millionth, where the loss itself is of 1e11."""
    at = np.linspace(0, 1, 200)
    counts = np.random.default_rng(0).poisson(1e7 * np.exp(-0.1 * at)).astype(float)

    def rate(p):
        return p["r"] * jnp.exp(-p["s"] * np.array(at))

    def poisson(prediction, target):
        return jnp.sum(prediction - target * jnp.log(prediction))

    free = {"r": (1e5, 1e9), "s": (0.01, 2)}
    found = fit(rate, {"r": 3e6, "s": 1.0}, counts, free, loss=poisson, n_starts=4)
    r, s = found.values["r"], found.values["s"]
    fitted = r * np.exp(-s * at)
    score = [np.sum(counts - fitted) / r, -np.sum(at * (counts - fitted))]  # 0 at the optimum
    assert abs(score[0]) * found.stderr["r"] < 1e-3
    assert abs(score[1]) * found.stderr["s"] < 1e-3
    assert found.n_reached == 4
    assert found.aic == found.chi_square + 4
    assert found.bic == pytest.approx(found.chi_square + 2 * np.log(200))


def test_a_loss_that_knows_a_product_only_says_so():
    def poisson(prediction, target):
        return jnp.sum(prediction - target * jnp.log(prediction))

    def rate(p):
        return p["x"] * p["y"] * jnp.ones(4)

    free = {"x": (0.1, 100), "y": (0.1, 100)}
    found = fit(rate, {"x": 1.0, "y": 1.0}, np.array([30.0, 10, 40, 10]), free, loss=poisson)
    assert found.identifiability.directions == (
        "x x y can vary together: only their product enters",
    )
    assert len(found.optima) == 1


def test_float32_ends_at_the_optimum_on_a_large_offset():
    t, rng = np.arange(200.0), np.random.default_rng(0)
    target = -65 + np.exp(-t / 10) + 1e-3 * rng.standard_normal(200)

    def trace(p):
        return p["v"] + p["w"] * jnp.exp(-jnp.arange(200.0) / p["tau"])

    start = {"v": -60.0, "w": 2.0, "tau": 20.0}
    free = {"v": (-80, -50), "w": (0.1, 10), "tau": (1, 100)}
    one, other = (
        fit(trace, start, target, free, sigma=1e-3, n_starts=4, dtype=d)
        for d in ("float64", "float32")
    )
    for name in free:  # a value of 65 has an eps of 8e-6 there, 0.01 sigma
        assert abs(one.values[name] - other.values[name]) < 0.1 * one.stderr[name]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_known_does_not_depend_on_the_sigma_of_the_rest(dtype):
    def both(p):
        return {"a": p["a"], "b": p["b"]}

    free = dict.fromkeys("ab", (0.1, 10))
    sigma = {"a": 1e-5, "b": 0.5}
    options = {"sigma": sigma, "dtype": dtype, "n_starts": 4}
    found = fit(both, {"a": 1.0, "b": 1.0}, {"a": 2.0, "b": 3.0}, free, **options)
    assert found.stderr == pytest.approx(sigma, rel=1e-3)
    assert found.identifiability.directions == ()
    rows = fit(both, {"a": 1.0, "b": 1.0}, {"a": [2.0, 1], "b": [3.0, 4]}, free, **options)
    assert rows.stderr["b"] == pytest.approx(0.5, rel=1e-3)


def test_where_fn_has_no_derivative_nothing_is_said_to_have_converged():
    """At x = 0 JAX's slopes of sqrt(x) are infinite, and NaN for every other parameter."""

    def root(p):
        return jnp.sqrt(p["x"]) + p["b"] * jnp.arange(6.0)

    target = -0.5 + 3 * np.arange(6.0)
    free = {"x": (0, 1), "b": (0, 10)}
    found = fit(root, {"x": 0.5, "b": 1.0}, target, free, sigma=0.1, n_starts=4)
    rows = fit(root, {"x": 0.5, "b": 1.0}, np.stack([target] * 2), free, sigma=0.1, n_starts=4)
    assert (found.status, *rows.status) == ("not converged",) * 3
    assert np.isnan([*found.stderr.values(), *rows.stderr["b"], *rows.stderr["x"]]).all()
    assert "did not converge" in found.advice[0]
    assert "not known" in found.report()


def test_ties_may_use_all_values_and_one_another():
    def fn(p):
        return p["z"] * jnp.ones(3)

    start = {"x": 1.0, "y": 1.0, "z": 1.0, "d": 2.0, "u": 1.0}
    free = {
        "x": (0.1, 10),
        "y": (0.1, 10),
        "u": Free(tie=lambda v: v["x"] * v["d"]),
        "z": Free(tie=lambda v: v["u"] * v["y"]),
    }
    found = fit(fn, start, np.full(3, 6.0), free, sigma=0.3)
    assert found.values["z"] == pytest.approx(6)
    assert found.stderr["x"] == np.inf
    assert found.stderr["z"] == pytest.approx(0.3 / np.sqrt(3))  # what the data do know
    assert np.isnan(found.sensitivity()["x"]["fn"]).all()


def test_derivatives_with_respect_to_the_targets_are_those_of_refitting():
    target = noisy()
    found = fit(psp, TRUTH, target, BOUNDS, n_starts=8)
    slopes = found.sensitivity()
    with jax.enable_x64(True):
        traced = jax.jacobian(found.refit)(jnp.asarray(target))
    step = np.zeros(TIMES.size)
    step[7] = 1e-4
    up, down = (fit(psp, TRUTH, target + s, BOUNDS, n_starts=8) for s in (step, -step))
    for name in BOUNDS:  # refit ends 1e-9 from the optimum, and slopes are of order 1
        np.testing.assert_allclose(traced[name], slopes[name]["psp"], rtol=1e-6, atol=1e-7)
        difference = (up.values[name] - down.values[name]) / 2e-4
        assert slopes[name]["psp"][7] == pytest.approx(difference, rel=1e-4)


def test_profile_intervals_against_a_direct_minimisation():
    target = noisy()
    found = fit(psp, TRUTH, target, BOUNDS, sigma=0.005, n_starts=8)
    low, high = found.confidence("tau_syn")
    for end in (low, high):

        def chi(x, end=end):
            r = (plain_psp(TIMES, x[0], x[1], end) - target) / 0.005
            return r @ r

        best = minimize(
            chi,
            [found.values["weight"], found.values["tau_m"]],
            method="Nelder-Mead",
            options={"xatol": 1e-9, "fatol": 1e-9, "maxiter": 4000},
        )
        assert best.fun - found.chi_square == pytest.approx(3.841458820694124, rel=1e-3)
    half = 1.96 * found.stderr["tau_syn"]
    assert high - low == pytest.approx(2 * half, rel=0.05)
    assert found.confidence("tau_syn", 0.68)[0] > low


def test_float32_is_near_float64():
    one, other = (
        fit(psp, TRUTH, noisy(), BOUNDS, n_starts=8, dtype=d) for d in ("float64", "float32")
    )
    for name in BOUNDS:
        assert other.values[name] == pytest.approx(one.values[name], rel=2e-3)
