"""Faults that fits once had, each as a test of its kind."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from fitted import BOUNDS, TIMES, TRUTH, noisy_trace, psp

from rbn_jax import Free, fit
from rbn_jax.fitting import kernels

X = np.arange(6.0)


def line(p):
    return p["a"] + p["b"] * jnp.asarray(X)


TIES = {
    "a root": lambda v: jnp.sqrt(v["a"]),
    "a fixed number": lambda v: v["c"],
    "a choice": lambda v: jax.lax.cond(v["a"] > 1, lambda: v["a"], lambda: 2 * v["a"]),
    "a sum": lambda v: jnp.stack([v["a"], v["c"]]).sum(),
    "a constant": lambda v: 2.0,
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", TIES)
def test_ties_are_functions_of_single_numbers(kind, dtype):
    start = {"a": 1.0, "b": 1.0, "c": 3.0}
    free = {"a": (0.1, 10), "b": Free(tie=TIES[kind])}
    targets = np.stack([4.0 + 0 * X, 9.0 + 0 * X])

    def constant(p):
        return p["a"] + 0 * p["b"] + 0 * jnp.asarray(X)

    rows = fit(constant, start, targets, free, n_starts=2, dtype=dtype)
    for i, a in enumerate((4.0, 9.0)):
        expected = float(TIES[kind]({"a": jnp.asarray(a), "c": jnp.asarray(3.0)}))
        assert rows.values["b"][i] == pytest.approx(expected, rel=1e-4)


def poisson(prediction, target):
    return jnp.sum(prediction - target * jnp.log(prediction))


def test_a_loss_has_neither_sigma_nor_chi_square():
    counts = np.random.default_rng(0).poisson(10 + 5 * X, (3, X.size)).astype(float)
    free = {"a": (1, 50), "b": (0, 20)}
    rows = fit(line, {"a": 5.0, "b": 1.0}, counts, free, loss=poisson, n_starts=4)
    assert not any(holds.any() for holds in rows.remarks().values())
    assert "chi-square" not in rows[0].report()
    axes = rows[0].plot()
    assert axes[2].get_ylabel() == "twice the loss"
    assert (axes[2].lines[0].get_ydata() < 0).all()
    assert axes[1].get_ylabel() == "fit - data [target's unit]"


def test_a_prior_goes_with_a_loss():
    """Half the sum of squares and a prior have the optimum of least squares with the prior."""

    def squares(prediction, target):
        return 0.5 * jnp.sum((prediction - target) ** 2)

    target = 1 + 2 * X
    free = {"a": Free(-10, 10, prior=(0.0, 0.5)), "b": (-10, 10)}
    start = {"a": 0.5, "b": 1.0}
    by_loss = fit(line, start, target, free, loss=squares, n_starts=2)
    by_sigma = fit(line, start, target, free, sigma=1.0, n_starts=2)
    # the loss is minimised to a decrease of 1e-6
    assert by_loss.values["a"] == pytest.approx(by_sigma.values["a"], abs=1e-3)


def interrupt_call(monkeypatch, number):
    """Raise KeyboardInterrupt in this call of the search, counted from 0."""
    search, calls = kernels.search, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == number + 1:
            raise KeyboardInterrupt
        return search(*arguments)

    monkeypatch.setattr(kernels, "search", interrupted)
    return calls


def test_ctrl_c_in_the_null_model_keeps_the_fit(monkeypatch):
    calls = interrupt_call(monkeypatch, 1)
    free = {"a": (-10, 10), "b": (-10, 10)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = fit(line, {"a": 0.0, "b": 0.0}, 1 + 2 * X, free, n_starts=1, null={"b": 0})
    assert len(calls) == 2
    assert result.null_aic is None
    assert result.values["b"] == pytest.approx(2)


def test_ctrl_c_in_the_second_pass_stops_the_rows_after_it(monkeypatch):
    calls = interrupt_call(monkeypatch, 1)
    targets = np.stack([noisy_trace(seed) for seed in range(3)])
    with pytest.warns(RuntimeWarning, match="stopped: 2 of 3 rows are marked 'not fitted'"):
        rows = fit(psp, TRUTH, targets, BOUNDS, n_starts=2, batch_size=1, max_steps=2)
    assert len(calls) == 2
    assert rows.status.tolist()[1:] == ["not fitted"] * 2
    assert np.isnan(rows.residuals["psp"][1:]).all()
    assert np.isfinite(rows.residuals["psp"][0]).all()


def test_the_null_model_counts_parameters_on_bounds_as_the_fit_does():
    target = np.random.default_rng(0).standard_normal(6) + 1 + 2 * X
    free = {"a": (5, 10), "b": (-10, 10)}
    result = fit(line, {"a": 6.0, "b": 1.0}, target, free, n_starts=2, null={"b": 1.9})
    assert result.at_bound == {"a": "low"}
    chi_square = np.sum((5 + 1.9 * X - target) ** 2)
    # a lies on its bound in both models, and counts in both
    assert result.null_aic == pytest.approx(6 * np.log(chi_square / 6) + 2)
    assert result.aic == pytest.approx(6 * np.log(result.chi_square / 6) + 4)


def test_a_prior_on_a_fixed_parameter_is_no_effect():
    target = np.random.default_rng(0).standard_normal(6) + 1 + 2 * X
    free = {"a": (-10, 10), "b": Free(-10, 10, prior=(2.0, 1.0))}
    result = fit(line, {"a": 0.0, "b": 1.0}, target, free, sigma=100, n_starts=2, null={"b": 2.0})
    assert result.null_aic < result.aic


def test_a_null_value_outside_the_domain_is_refused():
    from rbn_jax import NetworkParams, calculate_RBN_weights

    target = np.asarray(calculate_RBN_weights(NetworkParams()))
    free = {"tau_syn_ex": (0.5, 20), "gei": (0.1, 10)}
    with pytest.raises(ValueError, match=r"tau_syn_ex=-1"):
        fit(calculate_RBN_weights, NetworkParams(), target, free, null={"tau_syn_ex": -1.0})


def test_a_derivative_that_is_nan_is_named():
    def fn(p):
        return p["a"] + jnp.sqrt(0 * p["a"]) * jnp.ones(3)

    with pytest.raises(ValueError, match="its derivative or its distance to the target is not"):
        fit(fn, {"a": 1.0}, np.ones(3), {"a": (0.5, 2)}, n_starts=3)


def test_an_open_parameter_leaves_the_slopes_of_others():
    target = 1 + 2 * X
    start = {"a": 0.5, "b": 1.0, "c": 1.0, "d": 1.0}

    def fn(p):
        # only the product of c and d enters, and correlates with b
        return p["a"] + p["b"] * jnp.asarray(X) + p["c"] * p["d"] * jnp.asarray(X) ** 2

    free = {"a": (-10, 10), "b": (-10, 10), "c": (0.1, 10), "d": (0.1, 10)}
    slopes = fit(fn, start, target + X**2, free, n_starts=4).sensitivity()
    expected = np.linalg.pinv(np.stack([X**0, X, X**2], 1))
    np.testing.assert_allclose(slopes["a"]["fn"], expected[0], atol=1e-5)
    np.testing.assert_allclose(slopes["b"]["fn"], expected[1], atol=1e-5)
    assert np.isnan(slopes["c"]["fn"]).all()


def test_a_sigma_along_the_rows_is_that_of_each_row():
    targets = xr.DataArray(np.tile(1 + 2 * X, (6, 1)), dims=("cell", "x"))
    sigma = xr.DataArray(np.arange(1.0, 7.0), dims="cell")
    free = {"a": (-10, 10), "b": (-10, 10)}
    rows = fit(line, {"a": 0.0, "b": 1.0}, targets, free, sigma=sigma, n_starts=1)
    np.testing.assert_allclose(rows.stderr["a"], rows.stderr["a"][0] * sigma.values, rtol=1e-6)


@pytest.mark.parametrize("sigma", [1e-9, 1.0, 1e9])
def test_words_on_open_directions_do_not_depend_on_sigma(sigma):
    def fn(p):
        return jnp.stack([p["a"] * p["b"] * p["c"], p["d"]])

    free = dict.fromkeys("abcd", (0.1, 30))
    result = fit(fn, dict.fromkeys("abcd", 1.5), np.ones(2), free, sigma=sigma, n_starts=1)
    assert len(result.identifiability.directions) == 2
    assert all("only their product enters" in x for x in result.identifiability.directions)


def test_ends_near_0_on_a_log_scale_are_one_optimum():
    def fn(p):
        return p["a"] * jnp.arange(1.0, 4.0)

    free = {"a": Free(0, 10, scale="log")}
    result = fit(fn, {"a": 1.0}, -np.arange(1.0, 4.0), free, n_starts=8)
    assert len(result.optima) == 1


def test_optima_that_a_start_leaves_for_infinity_stay_distinct():
    """An end at a huge value does not make the others one."""

    def fn(p):
        # minima at 1e-12 and at 1e-10, and no slope beyond 1e-6
        z = jnp.log10(p["a"]) + 12
        return jnp.where(p["a"] > 1e-6, 3.0, z * (z - 2)) * jnp.ones(2)

    free = {"a": Free(1e-15, None, scale="log")}
    result = fit(fn, {"a": 2e-10}, np.zeros(2), free, n_starts=64, sigma=1.0)
    values = [optimum.values["a"] for optimum in result.optima]
    assert sorted(values[:2]) == pytest.approx([1e-12, 1e-10])
    assert max(values) > 1e-6


def test_the_interval_of_a_perfect_fit_is_its_value():
    def fn(p):
        return p["a"] * jnp.exp(-jnp.asarray(TIMES) / p["tau"])

    with jax.enable_x64(True):
        target = np.asarray(fn({"a": 1.3, "tau": 7.0}))
    free = {"a": (0.1, 10), "tau": (1, 100)}
    result = fit(fn, {"a": 1.0, "tau": 10.0}, target, free, n_starts=2)
    low, high = result.confidence("tau")
    assert low <= high
    assert (low, high) == pytest.approx((7.0, 7.0), rel=1e-6)


def test_known_errors_are_not_called_unknown():
    result = fit(
        line, {"a": 1.0, "b": 1.0}, [2.0, *[np.nan] * 5], {"a": (0, 9), "b": (0, 9)}, sigma=0.1
    )
    assert result.stderr["a"] == pytest.approx(0.1)
    assert not any("errors are not known" in text for text in result.advice)


def test_a_tie_may_name_a_parameter_with_a_space():
    def fn(p):
        return (p["tau m"] + p["b"]) * jnp.ones(3)

    free = {"tau m": (0, 9), "b": Free(tie="tau m")}
    result = fit(fn, {"tau m": 1.0, "b": 1.0}, np.full(3, 4.0), free, n_starts=2)
    assert result.values["b"] == pytest.approx(2)


def test_refit_works_without_rank_promotion():
    free = {"a": (-10, 10), "b": (-10, 10)}
    result = fit(line, {"a": 0.0, "b": 1.0}, 1 + 2 * X, free, n_starts=1)
    with jax.enable_x64(True), jax.numpy_rank_promotion("raise"):
        assert result.refit(jnp.asarray(3 + 2 * X))["a"] == pytest.approx(3)
        slopes = jax.jacobian(result.refit)(jnp.asarray(1 + 2 * X))
    np.testing.assert_allclose(slopes["a"], result.sensitivity()["a"]["line"], atol=1e-9)


def test_values_keep_the_order_of_the_free_parameters():
    free = {"b": (-10, 10), "a": (-10, 10), "Z": Free(tie="a"), "0": Free(tie="b")}

    def fn(p):
        return p["a"] + p["b"] * jnp.asarray(X) + 0 * (p["Z"] + p["0"])

    start = dict.fromkeys("abZ0", 1.0)
    rows = fit(fn, start, np.stack([1 + 2 * X] * 2), free, n_starts=2)
    for result in (rows, rows[0]):
        assert list(result.values) == list(result.stderr) == list(free)


@pytest.mark.parametrize("bounds", [(0.5, 10), (-10, 10), (None, None), (None, 3)])
def test_a_present_value_that_is_nan_is_outside_the_bounds(bounds):
    start = {"a": np.nan, "b": 1.0}
    result = fit(line, start, 1 + 2 * X, {"a": bounds, "b": (-10, 10)}, n_starts=4)
    assert result.values["a"] == pytest.approx(1.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, "one"])
def test_a_null_value_that_is_no_number_is_refused(value):
    free = {"a": (-10, 10), "b": (-10, 10)}
    with pytest.raises(ValueError, match=r"null of b is .* must be a finite number"):
        fit(line, {"a": 1.0, "b": 1.0}, 1 + 2 * X, free, n_starts=1, null={"b": value})
