"""fit: what it takes and gives: any pytree, xarray, JSON, reports, figures, and bad input."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fitted import BOUNDS, NET, TRUTH, WEIGHTS, line, noisy, of, psp
from hypothesis import given, settings
from hypothesis import strategies as st

import rbn_jax as rbn
from rbn_jax import Free, fit
from rbn_jax.fitting.free_parameters import read_free


def test_refit_takes_what_the_target_was():
    found = fit(line, {"a": 1.0, "b": 1.0}, np.arange(6.0), {"a": (None, None)}, n_starts=1)
    for bad in (1.0, {"line": np.ones(5)}, {"other": np.ones(6)}):
        with pytest.raises(ValueError, match="must have the names and shapes"):
            found.refit(bad)


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
