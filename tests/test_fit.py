"""fit: against SciPy and known truths, at bounds, with ties, priors, degeneracies and bad input."""

import functools
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit, minimize

import rbn_jax as rbn
from rbn_jax import Free, NetworkParams, fit
from rbn_jax.fit.free import read_free

NET = NetworkParams()
WEIGHTS = rbn.calculate_RBN_weights
TIMES = np.linspace(0.5, 80, 60)
TRUTH = {"weight": 90.0, "tau_m": 15.0, "tau_syn": 3.0}
BOUNDS = {"weight": (1, 1000), "tau_m": (5, 60), "tau_syn": (0.2, 4.9)}
EITHER = {"weight": (1, 1000), "tau_m": (0.5, 60), "tau_syn": (0.5, 60)}


def psp(p):
    return p["weight"] * rbn.psp_waveform(np.array(TIMES), p["tau_m"], p["tau_syn"], 250.0)


def plain_psp(t, weight, tau_m, tau_syn):
    rise = np.exp(-t / tau_syn) - np.exp(-t / tau_m)
    return weight * tau_m * tau_syn / (250 * (tau_syn - tau_m)) * rise


def line(p):
    return p["a"] + p["b"] * jnp.arange(6.0)


def of(fn, p):
    with jax.enable_x64(True):
        return np.asarray(fn(p))


def noisy(seed=0, sigma=0.005):
    noise = np.random.default_rng(seed).standard_normal(TIMES.size)
    return of(psp, TRUTH) + sigma * noise


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


def test_refit_takes_what_the_target_was():
    found = fit(line, {"a": 1.0, "b": 1.0}, np.arange(6.0), {"a": (None, None)}, n_starts=1)
    for bad in (1.0, {"line": np.ones(5)}, {"other": np.ones(6)}):
        with pytest.raises(ValueError, match="must have the names and shapes"):
            found.refit(bad)


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


def test_rows_are_the_single_fits_and_a_bad_row_stops_nothing():
    targets = np.stack([noisy(seed) for seed in range(9)])
    targets[3] = np.nan
    targets[5, :20] = np.nan
    rows = fit(psp, TRUTH, targets, BOUNDS, sigma=0.005, n_starts=8, batch_size=4)
    assert rows.status[3] == "no data"
    assert np.isnan(rows.values["tau_m"][3])
    assert (np.delete(rows.status, 3) == "converged").all()
    assert rows.n_data[5] == TIMES.size - 20
    for i in (0, 5, 8):
        one = fit(psp, TRUTH, targets[i], BOUNDS, sigma=0.005, n_starts=8)
        for name in BOUNDS:  # to a small part of what the data can tell
            close = pytest.approx(one.values[name], abs=1e-4 * one.stderr[name])
            assert rows.values[name][i] == close
            assert rows.stderr[name][i] == pytest.approx(one.stderr[name], rel=1e-3)
    assert "8 converged" in rows.report()
    assert rows.to_dataset()["tau_m"].dims == ("row",)
    assert rows.params["tau_m"].shape == (9,)


def test_rows_that_lie_on_a_bound_are_exactly_there():
    nets = NET.replace(gei=np.array([1.5, 0.7, 0.05]), gie=np.array([1.2, 20.0, 1.0]))
    free = {"gei": (0.1, 1.1), "gie": (0.1, 10)}
    rows = fit(WEIGHTS, NET, of(WEIGHTS, nets), free, n_starts=4)
    assert rows.values["gei"].tolist() == [1.1, pytest.approx(0.7), 0.1]
    assert rows.at_bound["gei"].tolist() == ["high", "", "low"]
    assert rows.at_bound["gie"].tolist() == ["", "high", ""]
    assert np.isnan(rows.stderr["gei"]).tolist() == [True, False, True]
    assert set(rows.status) == {"converged"}


def test_a_row_where_fn_is_nan_is_marked():
    def root(p):
        return jnp.sqrt(p["a"]) * jnp.ones(3)

    rows = fit(root, {"a": -1.0}, np.ones((2, 3)), {"a": (-5, -1)}, n_starts=4)
    assert set(rows.status) == {"not finite"}


def test_ctrl_c_keeps_the_rows_that_are_done(monkeypatch):
    from rbn_jax.fit import rows as module

    calls = []

    def interrupted(*arguments, own=module._batch):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return own(*arguments)

    monkeypatch.setattr(module, "_batch", interrupted)
    targets = np.stack([noisy(seed) for seed in range(12)])
    with pytest.warns(RuntimeWarning, match="8 of 12 rows are fitted"):
        rows = fit(psp, TRUTH, targets, BOUNDS, n_starts=8, batch_size=4)
    assert list(rows.status) == ["converged"] * 8 + ["not fitted"] * 4


def test_starts_where_fn_is_nan_are_lost_and_no_others():
    def root(p):
        return jnp.sqrt(p["a"]) * jnp.arange(1.0, 4)

    found = fit(root, {"a": 1.0}, 2 * np.arange(1.0, 4), {"a": (-10, 10)}, n_starts=32)
    assert found.values["a"] == pytest.approx(4)
    assert 8 < found.n_lost < 24
    assert found.n_reached == 32 - found.n_lost
    with pytest.raises(ValueError, match=r"not finite at any start: \(a -"):
        fit(root, {"a": -5.0}, np.ones(3), {"a": (-10, -1)})


def test_json_goes_round():
    target = np.full((2, 2), np.nan)
    target[1, 1] = -40
    for free in ({"gii": (0.1, 1.0)}, {"gii": (0.1, 10), "gie": (0.1, 10)}):
        found = fit(WEIGHTS, NET, target, free)
        again = rbn.FitResult.from_json(found.to_json())
        assert again.report() == found.report()
        assert again.params == found.params
        np.testing.assert_array_equal(
            again.residuals["calculate_RBN_weights"], found.residuals["calculate_RBN_weights"]
        )
        with pytest.raises(ValueError, match="read from JSON"):
            again.confidence("gii")


class Synapse(NamedTuple):
    tau: float
    weights: dict


def test_numbers_in_any_pytree_are_called_by_their_paths():
    def fn(p):
        synapse, offset = p
        return synapse.weights["ex"] * jnp.exp(-jnp.arange(5.0) / synapse.tau) + offset

    truth = (Synapse(2.0, {"ex": 3.0, "in": 4.0}), 0.5)
    free = {"0.tau": (0.1, 10), "0.weights.ex": (0.1, 10), "1": (-1, 1)}
    free["0.weights.in"] = Free(tie="2 * 0.tau")
    found = fit(fn, (Synapse(1.0, {"ex": 1.0, "in": 1.0}), 0.0), of(fn, truth), free, n_starts=4)
    np.testing.assert_allclose(jax.tree.leaves(found.params), jax.tree.leaves(truth), rtol=1e-7)
    with pytest.raises(ValueError, match=r"unknown parameter '0.tou'; did you mean 0.tau"):
        fit(fn, truth, np.ones(5), {"0.tou": (0, 1)})
    with pytest.raises(ValueError, match=r"1='x' is no number"):
        fit(fn, (truth[0], "x"), np.ones(5), free)
    again = rbn.FitResult.from_json(found.to_json())
    assert again.params["0.tau"] == found.params[0].tau


def test_float32_is_near_float64():
    one, other = (
        fit(psp, TRUTH, noisy(), BOUNDS, n_starts=8, dtype=d) for d in ("float64", "float32")
    )
    for name in BOUNDS:
        assert other.values[name] == pytest.approx(one.values[name], rel=2e-3)


def test_the_figure_has_data_fit_and_starts():
    axes = fit(psp, TRUTH, noisy(), BOUNDS, sigma=0.005, n_starts=8).plot()
    assert [len(x.lines) > 0 for x in axes] == [True] * 3
    assert axes[2].lines[0].get_xdata().size == 8


def test_a_perfect_fit_has_a_cost_of_nothing_in_its_figure():
    with jax.enable_x64(True):
        target = np.asarray(WEIGHTS(NET.replace(gei=1.5)))
    axes = fit(WEIGHTS, NET, target, {"gei": (0.1, 10)}, n_starts=8).plot()
    assert axes[2].lines[0].get_ydata().tolist() == [0.0] * 8


def test_the_report_says_what_was_held_fixed():
    free = {"gei": (0.1, 10), "baseline_conn_prob_EI": (0.1, 0.9)}
    target = np.asarray(WEIGHTS(NET.replace(gei=1.5)))
    text = fit(WEIGHTS, NET, target, {"gei": (0.1, 10)}, n_starts=2).report()
    held = text.split("[[Fixed]]\n")[1].split("\n[[")[0].split()
    assert "gei" not in held
    assert " ".join(held[held.index("tau_E") :][:3]) == "tau_E 20 ms,"
    assert "baseline_conn_prob [[0.2, 0.5], [0.5, 0.5]]" in " ".join(held)
    text = fit(WEIGHTS, NET, target, free, n_starts=2).report()
    assert "baseline_conn_prob_II 0.5" in text.split("[[Fixed]]")[1]
    assert "baseline_conn_prob_EI" not in text.split("[[Fixed]]\n")[1].split("\n[[")[0]


def test_values_outside_their_bounds_are_no_start_and_that_is_said():
    target = np.asarray(WEIGHTS(NET.replace(gei=3.0)))
    found = fit(WEIGHTS, NET, target, {"gei": (2, 10)}, n_starts=1)
    assert found.values["gei"] == pytest.approx(3)
    assert any("gei = 1.2 in params is outside its bounds" in text for text in found.advice)
    asked = fit(WEIGHTS, NET, target, {"gei": Free(2, 10, start=5)}, n_starts=1)
    assert not any("outside" in text for text in asked.advice)


def test_a_row_without_data_has_none_though_there_is_a_prior():
    rows = np.stack([np.asarray(WEIGHTS(NET)), np.full((2, 2), np.nan)])
    free = {"gei": Free(0.1, 10, prior=(1, 1))}
    assert fit(WEIGHTS, NET, rows, free, sigma=1.0).n_data.tolist() == [5, 0]


def test_targets_of_xarray_are_put_in_the_order_of_the_result():
    xr = pytest.importorskip("xarray")
    wanted = np.asarray(WEIGHTS(NET.replace(gei=1.5)))
    labels = {"target": ["E", "I"], "source": ["E", "I"]}
    array = xr.DataArray(wanted, labels, name="calculate_RBN_weights")
    turned = array.transpose("source", "target").sel(target=["I", "E"])
    for target in (turned, turned.to_dataset(), turned.expand_dims(row=3, axis=1)):
        found = fit(WEIGHTS, NET, target, {"gei": (0.1, 10)}, n_starts=2)
        np.testing.assert_allclose(found.values["gei"], 1.5)
    sigma = xr.DataArray([1.0, 2.0], {"target": ["E", "I"]})
    found = fit(WEIGHTS, NET, turned + 1, {"gei": (0.1, 10)}, sigma=sigma, n_starts=2)
    same = fit(WEIGHTS, NET, wanted + 1, {"gei": (0.1, 10)}, sigma=[[1.0], [2.0]], n_starts=2)
    assert found.chi_square == pytest.approx(same.chi_square)
    with pytest.raises(ValueError, match=r"has source \['X', 'I'\]"):
        fit(WEIGHTS, NET, array.assign_coords(source=["X", "I"]), {"gei": (0.1, 10)})


def test_one_fit_has_a_bar_over_its_starts_and_ends_as_without(capsys, monkeypatch):
    from tqdm.auto import tqdm

    counts = []
    update = tqdm.update
    monkeypatch.setattr(tqdm, "update", lambda bar, n=1: (counts.append(n), update(bar, n)))
    found = fit(psp, TRUTH, noisy(), BOUNDS, n_starts=40, progress=True)
    assert counts == [32, 8]
    assert (found.n_starts, found.n_reached) == (40, 40)


@given(
    low=st.none() | st.floats(-50, 5),
    width=st.none() | st.floats(0.5, 1e4),
    u=st.floats(-30, 30),
)
@settings(max_examples=100)
def test_coordinates_go_both_ways_and_stay_inside(low, width, u):
    high = None if width is None else (0 if low is None else low) + width
    (c,), _, _ = read_free({"a": 1.0}, {"a": (low, high)})
    x = of(c.to_user, u)
    assert c.low <= x <= c.high or x == pytest.approx(c.high, rel=1e-12)
    slope = of(functools.partial(jax.grad(c.to_user)), u)
    assert slope > 0
    if 1e-5 < abs(c.position(x)) < 1 - 1e-5 or (c.low == -np.inf and c.high == np.inf):
        assert c.from_user(x) == pytest.approx(u, rel=1e-5, abs=1e-6)


BAD = [
    ({"free": {"tau_x": (1, 2)}}, "unknown parameter 'tau_x'"),
    ({"free": {}}, "must map names"),
    ({"free": {"gei": 3}}, r"free\['gei'\]=3: must be \(low, high\)"),
    ({"free": {"gei": (2, 1)}}, "gei: the low bound 2 must be below the high one, 1"),
    ({"free": {"gei": (1, 1)}}, "must be below"),
    ({"free": {"gei": ("a", 1)}}, "the bound 'a' must be a number"),
    ({"free": {"gei": Free(1, 2, start=3)}}, "gei: start=3 must be from 1 to 2"),
    ({"free": {"gei": Free(1, 2, scale="sqrt")}}, "unknown scale 'sqrt'"),
    ({"free": {"gei": Free(-1, 2, scale="log")}}, "must not be below 0 on a log scale"),
    ({"free": {"gei": Free(tie="gie")}}, "every parameter is tied"),
    ({"free": {"gei": Free(tie="gii"), "gie": (1, 2)}}, "unknown free parameter in the tie of gei"),
    ({"free": {"gei": Free(1, tie="gie"), "gie": (1, 2)}}, "a tied parameter has no bounds"),
    ({"free": {"gei": Free(tie="gie + 1"), "gie": (1, 2)}}, "must be a name, as '2"),
    ({"free": {"gei": Free(1, 2, prior=(1, 0))}}, "prior=.*standard deviation > 0"),
    ({"free": {"tau_E": (-1, 2)}}, "tau_E=-1 ms: must be a finite number > 0"),
    ({"free": {"baseline_conn_prob_EI": (0.1, 2)}}, "baseline_conn_prob_EI=2: must be a prob"),
    ({"target": np.ones(3)}, r"shape \(3,\): fn returns \(2, 2\)"),
    ({"target": np.full((2, 2), np.nan)}, "NaN everywhere"),
    ({"target": np.full((2, 2), np.inf)}, "infinite"),
    ({"target": {"other": 1}}, "unknown name in the target 'other'"),
    ({"target": "text"}, "no array of numbers"),
    ({"sigma": 0}, "must be > 0"),
    ({"sigma": -np.ones((2, 2))}, "must be > 0"),
    ({"sigma": "0.1"}, "sigma of never is '0.1': must be a number > 0"),
    ({"sigma": np.array([[1, np.inf], [1, 1]])}, "is inf: must be > 0 and finite"),
    (
        {"fn": lambda p: {"a": p.gei, "b": p.gii}, "target": {"a": 1, "b": 1}, "sigma": {"a": 1}},
        "sigma lacks b",
    ),
    ({"robust": "huber"}, "robust loss is in units of sigma"),
    (
        {"free": {"gei": Free(1, 2, prior=(1, 0.1))}},
        "a prior or a robust loss is in units of sigma",
    ),
    ({"loss": max, "sigma": 1}, "sigma is for least squares"),
    ({"free": {"gei": Free(0, 2, start=0, scale="log")}}, "start=0 must be > 0 on a log scale"),
    ({"free": {"gei": Free(tie="nan * gie"), "gie": (1, 2)}}, "must be a name, as '2"),
    ({"sigma": np.ones(5)}, r"sigma.*\(5,\)"),
    ({"method": "newton"}, "unknown method 'newton'; valid names: lm, trf"),
    ({"robust": "cauchy"}, "unknown robust loss 'cauchy'"),
    ({"dtype": "float16"}, "unknown dtype 'float16'"),
    ({"n_starts": 0}, "n_starts=0"),
    ({"seed": -1}, "seed=-1"),
    ({"max_steps": 1.5}, "max_steps=1.5"),
    ({"loss": 3}, "loss is a int"),
    ({"fn": 3}, "fn is a int"),
    ({"params": 3}, "params is a int"),
    (
        {"fn": lambda p: np.cos(np.asarray(p.gei))},
        "result does what JAX cannot trace: compute with jax.numpy",
    ),
    ({"progress": 1}, "progress=1"),
]


@pytest.mark.parametrize(("change", "words"), BAD, ids=[w for _, w in BAD])
def test_bad_input_is_named_before_anything_is_compiled(change, words):
    def never(p):
        jax.debug.callback(lambda: pytest.fail("it ran"))
        return WEIGHTS(p)

    same = {"fn": never, "params": NET, "target": np.ones((2, 2)), "free": {"gei": (0.1, 10)}}
    with pytest.raises(ValueError, match=words):
        fit(**{**same, **change})
