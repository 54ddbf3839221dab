"""fit: what it takes and gives: any pytree, xarray, JSON, reports, figures, and bad input."""

import dataclasses
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fitted import BOUNDS, NET, TRUTH, WEIGHTS, evaluate, line, noisy_trace, psp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

import rbn_jax as rbn
from rbn_jax import Free, fit
from rbn_jax.fitting.free_parameters import read_free


def test_refit_refuses_targets_of_another_name_or_shape():
    result = fit(line, {"a": 1.0, "b": 1.0}, np.arange(6.0), {"a": (None, None)}, n_starts=1)
    for bad in (1.0, {"line": np.ones(5)}, {"other": np.ones(6)}):
        with pytest.raises(ValueError, match="must have the names and shapes"):
            result.refit(bad)


def test_refit_takes_nan_and_masked_values_as_not_measured():
    target = noisy_trace()
    result = fit(psp, TRUTH, target, BOUNDS, sigma=0.005, n_starts=1)
    is_missing = np.arange(target.size) % 7 == 3
    with_nan = np.where(is_missing, np.nan, target)
    # the values below the mask are far off
    masked = np.ma.array(np.where(is_missing, 1e3, target), mask=is_missing)
    expected = fit(psp, TRUTH, with_nan, BOUNDS, sigma=0.005, n_starts=1).values
    with jax.enable_x64(True):
        from_masked = result.refit(masked)
        from_nan = result.refit({"psp": with_nan})
        slopes = jax.jacobian(result.refit)(jnp.asarray(with_nan))
    for name in BOUNDS:
        assert float(from_masked[name]) == pytest.approx(expected[name], rel=1e-7)
        assert float(from_nan[name]) == float(from_masked[name])
        assert np.isfinite(slopes[name]).all()
        np.testing.assert_array_equal(np.asarray(slopes[name]) == 0, is_missing)


def test_json_restores_the_result():
    target = np.full((2, 2), np.nan)
    target[1, 1] = -40
    for free in ({"gii": (0.1, 1.0)}, {"gii": (0.1, 10), "gie": (0.1, 10)}):
        result = fit(WEIGHTS, NET, target, free)
        restored = rbn.FitResult.from_json(result.to_json())
        assert restored.report() == result.report()
        assert restored.params == result.params
        np.testing.assert_array_equal(
            restored.residuals["calculate_RBN_weights"], result.residuals["calculate_RBN_weights"]
        )
        with pytest.raises(ValueError, match="read from JSON"):
            restored.confidence("gii")


class Synapse(NamedTuple):
    tau: float
    weights: dict


def test_numbers_in_a_pytree_are_named_by_paths():
    def fn(p):
        synapse, offset = p
        return synapse.weights["ex"] * jnp.exp(-jnp.arange(5.0) / synapse.tau) + offset

    truth = (Synapse(2.0, {"ex": 3.0, "in": 4.0}), 0.5)
    free = {"0.tau": (0.1, 10), "0.weights.ex": (0.1, 10), "1": (-1, 1)}
    free["0.weights.in"] = Free(tie="2 * 0.tau")
    result = fit(
        fn, (Synapse(1.0, {"ex": 1.0, "in": 1.0}), 0.0), evaluate(fn, truth), free, n_starts=4
    )
    np.testing.assert_allclose(jax.tree.leaves(result.params), jax.tree.leaves(truth), rtol=1e-7)
    with pytest.raises(ValueError, match=r"unknown parameter '0.tou'; did you mean 0.tau"):
        fit(fn, truth, np.ones(5), {"0.tou": (0, 1)})
    with pytest.raises(ValueError, match=r"1='x' is no number"):
        fit(fn, (truth[0], "x"), np.ones(5), free)
    restored = rbn.FitResult.from_json(result.to_json())
    assert restored.params["0.tau"] == result.params[0].tau


def test_array_elements_are_free_tied_and_reported():
    def fn(p):
        return p["w"] * jnp.arange(1.0, 4) + jnp.sum(p["m"] * jnp.eye(2, 3))

    start = {"w": np.ones(3), "m": np.zeros((2, 3))}
    free = {"w[0]": (0.1, 10), "w[2]": Free(tie="3 * w[0]"), "m[1,1]": (-5, 5)}
    truth = {"w": np.array([2.0, 1.0, 6.0]), "m": np.diag([0.0, 1.5, 0.0])[:2]}
    target = evaluate(fn, truth)
    result = fit(fn, start, target, free, sigma=0.1, n_starts=4, rows=False)
    assert result.values == pytest.approx({"w[0]": 2, "m[1,1]": 1.5, "w[2]": 6})
    np.testing.assert_allclose(result.params["w"], truth["w"], rtol=1e-7)
    np.testing.assert_allclose(result.params["m"], truth["m"], rtol=1e-7)
    assert result.stderr["w[2]"] == pytest.approx(3 * result.stderr["w[0]"])
    assert "w[0]" in result.report().split("[[Variables]]")[1].split("[[Fixed]]")[0]
    targets = np.stack([target, target + 1])
    rows = fit(fn, start, targets, free, sigma=0.1, n_starts=4, rows=True)
    assert rows.params["w"].shape == (2, 3)
    np.testing.assert_allclose(rows.values["m[1,1]"], [1.5, 2.5])
    with pytest.raises(ValueError, match=r"'w\[3\]': w has the shape \(3,\), and no such element"):
        fit(fn, start, target, {"w[3]": (0, 1)})
    with pytest.raises(ValueError, match=r"unknown parameter 'v\[0\]'; did you mean .*w\[0\]"):
        fit(fn, start, target, {"v[0]": (0, 1)})


@dataclasses.dataclass(frozen=True)
class Membrane:
    tau: float = dataclasses.field(default=10.0, metadata={"unit": "ms"})
    offset: float = dataclasses.field(default=0.0, metadata={"unit": "mV"})


@dataclasses.dataclass(frozen=True)
class Cell:
    """A dataclass that is not registered with JAX."""

    membrane: Membrane
    weights: np.ndarray
    label: str = "pyramidal"


def test_fields_of_a_nested_dataclass_are_fitted_and_reported_with_units():
    def fn(cell):
        assert cell.label == "pyramidal"
        decay = jnp.exp(-jnp.arange(6.0) / cell.membrane.tau)
        return cell.weights[0] * decay + cell.membrane.offset

    truth = Cell(Membrane(tau=4.0), np.array([2.0, 3.0]))
    free = {"membrane.tau": (1, 40), "weights[0]": (0.1, 10)}
    start = Cell(Membrane(), np.array([1.0, 3.0]))
    result = fit(fn, start, evaluate(fn, truth), free, sigma=0.01, n_starts=4)
    assert isinstance(result.params, Cell)
    assert result.params.membrane.tau == pytest.approx(4)
    np.testing.assert_allclose(result.params.weights, truth.weights)
    variables, fixed = result.report().split("[[Fixed]]")
    assert re.search(r"membrane.tau +4 ms ", variables)
    assert "membrane.offset 0 mV" in fixed
    assert "weights[1] 3" in fixed
    with pytest.raises(
        ValueError, match=r"unknown parameter 'membrane.tua'; did you mean mem.*tau"
    ):
        fit(fn, start, np.ones(6), {"membrane.tua": (1, 40)})


def test_rows_keyword_agrees_with_the_shape_of_the_target():
    start, free = {"a": 1.0, "b": 1.0}, {"a": (None, None)}
    target = np.arange(6.0)
    single = fit(line, start, target, free, rows=False, n_starts=1)
    assert isinstance(single, rbn.FitResult)
    assert single.values == fit(line, start, target, free, n_starts=1).values
    many = fit(line, start, target[None], free, rows=True, n_starts=1)
    assert isinstance(many, rbn.FitRows)
    assert many.values["a"] == pytest.approx(single.values["a"])


def test_figure_shows_data_fit_and_starts():
    axes = fit(psp, TRUTH, noisy_trace(), BOUNDS, sigma=0.005, n_starts=8).plot()
    assert [len(ax.lines) > 0 for ax in axes] == [True] * 3
    assert axes[2].lines[0].get_xdata().size == 8


def test_figure_of_a_perfect_fit_shows_costs_of_zero():
    with jax.enable_x64(True):
        target = np.asarray(WEIGHTS(NET.replace(gei=1.5)))
    axes = fit(WEIGHTS, NET, target, {"gei": (0.1, 10)}, n_starts=8).plot()
    assert axes[2].lines[0].get_ydata().tolist() == [0.0] * 8


def test_report_lists_fixed_parameters():
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


def test_xarray_targets_are_aligned_with_the_result():
    xr = pytest.importorskip("xarray")
    wanted = np.asarray(WEIGHTS(NET.replace(gei=1.5)))
    labels = {"target": ["E", "I"], "source": ["E", "I"]}
    array = xr.DataArray(wanted, labels, name="calculate_RBN_weights")
    reordered = array.transpose("source", "target").sel(target=["I", "E"])
    for target in (reordered, reordered.to_dataset(), reordered.expand_dims(row=3, axis=1)):
        result = fit(WEIGHTS, NET, target, {"gei": (0.1, 10)}, n_starts=2)
        np.testing.assert_allclose(result.values["gei"], 1.5)
    sigma = xr.DataArray([1.0, 2.0], {"target": ["E", "I"]})
    result = fit(WEIGHTS, NET, reordered + 1, {"gei": (0.1, 10)}, sigma=sigma, n_starts=2)
    from_arrays = fit(
        WEIGHTS, NET, wanted + 1, {"gei": (0.1, 10)}, sigma=[[1.0], [2.0]], n_starts=2
    )
    assert result.chi_square == pytest.approx(from_arrays.chi_square)
    with pytest.raises(ValueError, match=r"has source \['X', 'I'\]"):
        fit(WEIGHTS, NET, array.assign_coords(source=["X", "I"]), {"gei": (0.1, 10)})


@given(
    low=st.none() | st.floats(-50, 5),
    width=st.none() | st.floats(0.5, 1e4),
    share=st.floats(1e-6, 1 - 1e-6),
)
@settings(max_examples=100)
def test_starts_are_within_bounds_and_scales_are_invertible(low, width, share):
    high = None if width is None else (0 if low is None else low) + width
    variables = read_free({"a": 1.0}, {"a": (low, high)}).variables
    z = variables.from_shares(np.array([share]))
    (x,) = evaluate(variables.to_values, z)
    assert variables.low[0] <= x <= variables.high[0]
    np.testing.assert_allclose(variables.from_values(np.array([x])), z, rtol=1e-12, atol=1e-12)
    later = variables.from_shares(np.array([share + 5e-7]))
    assert (later > z).all()


BAD_INPUT = [
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
    ({"sigma": 0}, "sigma of never=0: must be a finite number > 0"),
    ({"sigma": -np.ones((2, 2))}, r"sigma of never\[0, 0\]=-1 and 3 more: must be a finite"),
    ({"sigma": "0.1"}, "sigma of never='0.1': must be a finite number > 0, not a str"),
    ({"sigma": np.array([[1, -np.inf], [1, 1]])}, r"never\[0, 1\]=-inf: must be a finite"),
    ({"sigma": np.inf}, "sigma of never=inf: must be a finite number > 0"),
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
    (
        {"free": {"gei": Free(0, 2, start=0, scale="log")}},
        "start=0 .* from 0 to 2, and > 0 on a log",
    ),
    ({"free": {"gei": Free(tie="nan * gie"), "gie": (1, 2)}}, "must be a name, as '2"),
    ({"sigma": np.ones(5)}, r"sigma.*\(5,\)"),
    ({"null": {}}, "null={}: must map names to numbers"),
    ({"null": {"gii": 1}}, "unknown free parameter in null 'gii'"),
    ({"null": {"gei": "no"}}, "null of gei"),
    ({"null": {"gei": 1}}, "null fixes every free parameter"),
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
    ({"rows": 1}, "rows=1: must be True, False or None"),
    ({"rows": True}, "rows=True: the target has the shape of one result of fn"),
    ({"rows": False, "target": np.ones((3, 2, 2))}, "rows=False: the target has 3 rows"),
    (
        {"free": {"baseline_conn_prob_EI": (0, 1), "baseline_conn_prob[0,1]": (0, 1)}},
        r"baseline_conn_prob_EI and baseline_conn_prob\[0,1\] are the same number",
    ),
    ({"free": {"baseline_conn_prob": (0, 1)}}, r"array of the shape \(2, 2\)"),
]


@pytest.mark.parametrize(
    ("change", "message"), BAD_INPUT, ids=[message for _, message in BAD_INPUT]
)
def test_bad_input_raises_before_fn_runs(change, message):
    def never(p):
        jax.debug.callback(lambda: pytest.fail("it ran"))
        return WEIGHTS(p)

    arguments = {"fn": never, "params": NET, "target": np.ones((2, 2)), "free": {"gei": (0.1, 10)}}
    with pytest.raises(ValueError, match=message):
        fit(**{**arguments, **change})


def test_masked_and_infinite_numbers_are_left_out():
    target = evaluate(line, {"a": 2.0, "b": 3.0})
    mask = [False, True, False, False, False, False]
    wrong = np.where(mask, 1e6, target)
    free = dict.fromkeys("ab", (None, None))
    start = {"a": 1.0, "b": 1.0}
    expected = fit(line, start, np.where(mask, np.nan, target), free, sigma=0.1, n_starts=1)
    options = {"free": free, "n_starts": 1}
    for result in (
        fit(line, start, np.ma.MaskedArray(wrong, mask), sigma=0.1, **options),
        fit(line, start, wrong, sigma=np.where(mask, np.inf, 0.1), **options),
        fit(line, start, wrong, sigma=np.ma.MaskedArray(np.full(6, 0.1), mask), **options),
    ):
        assert result.n_data == 5
        assert result.stderr == pytest.approx(expected.stderr)
        assert result.values == pytest.approx({"a": 2, "b": 3})
        assert np.isnan(result.residuals["line"]).tolist() == mask
    scipy_errors = np.sqrt(
        np.diag(
            curve_fit(
                lambda t, a, b: a + b * t,
                np.arange(6.0),
                wrong,
                sigma=np.where(mask, np.inf, 0.1),
                absolute_sigma=True,
            )[1]
        )
    )
    np.testing.assert_allclose(list(expected.stderr.values()), scipy_errors, rtol=1e-5)


@pytest.mark.parametrize(
    "option",
    [{"jax_debug_nans": True}, {"jax_numpy_rank_promotion": "raise"}, {"jax_disable_jit": True}],
    ids=lambda option: next(iter(option)),
)
def test_fit_works_under_options_of_jax(option):
    def root(p):
        return jnp.sqrt(p["a"]) * jnp.arange(1.0, 4)

    ((name, value),) = option.items()
    before = getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        result = fit(root, {"a": 1.0}, 2 * np.arange(1.0, 4), {"a": (-10, 10)}, n_starts=4)
        rows = fit(root, {"a": 1.0}, np.ones((2, 3)), {"a": (-5, -1)}, n_starts=2)
        # NaN marks what was not measured, also in what is computed later
        target = np.array([[2.0, np.nan, 6.1], [1.0, 2.0, 3.1]])
        gaps = fit(root, {"a": 1.0}, target, {"a": (0.1, 10)}, sigma=0.1, n_starts=1)
        assert np.isnan(gaps.residuals["root"]).tolist() == np.isnan(target).tolist()
        low, high = gaps[0].confidence("a")
        assert low < gaps[0].values["a"] < high
        gaps[0].plot()
        gaps.plot(1)
    finally:
        jax.config.update(name, before)
    assert result.values["a"] == pytest.approx(4)
    assert rows.status.tolist() == ["not finite"] * 2


DIRECTIONS = [
    (lambda p: p["a"] + p["b"], "a + b can vary together: only their sum enters"),
    (lambda p: p["a"] - p["b"], "a - b can vary together: only their difference enters"),
    (lambda p: p["a"] + 2 * p["b"], "a + 2 b can vary together: only their combination enters"),
    (lambda p: p["a"] * p["b"], "a x b can vary together: only their product enters"),
    (lambda p: p["a"] / p["b"], "a / b can vary together: only their ratio enters"),
    (lambda p: p["a"] * p["b"] ** 3, "a x b^3 can vary together: only their combination enters"),
    (
        lambda p: p["a"] / jnp.sqrt(p["b"]),
        "a / b^0.5 can vary together: only their combination enters",
    ),
    (lambda p: p["a"], "b has no effect on the data"),
    (
        lambda p: p["a"] ** 2 + p["b"],
        "near the optimum, a, b can vary together, in relative changes of",
    ),
]


@pytest.mark.parametrize("bounds", [(0.1, 10), (-10, 10), (None, None)], ids=str)
@pytest.mark.parametrize(("combine", "words"), DIRECTIONS, ids=[words for _, words in DIRECTIONS])
def test_directions_are_described_as_they_are(combine, words, bounds):
    def fn(p):
        return combine(p) * jnp.arange(1.0, 5)

    start = {"a": 1.3, "b": 1.7}
    target = 1.05 * evaluate(fn, start)
    result = fit(fn, start, target, dict.fromkeys("ab", bounds), sigma=0.1, n_starts=1)
    (text,) = result.identifiability.directions
    if bounds[0] != 0.1:
        # parameters that may be negative
        words = words.replace("in relative changes of", "in changes, in values or ranges, of")
    assert text.startswith(words)


@pytest.mark.parametrize("bounds", [(-1, 1), (0, 1), (None, None)], ids=str)
def test_direction_of_a_parameter_that_is_0_is_described(bounds):
    def alone(p):
        return p["a"] * jnp.arange(1.0, 5)

    def sums(p):
        return (p["a"] + p["b"]) * jnp.arange(1.0, 5)

    start = {"a": 2.0, "b": 0.0}
    free = {"a": (None, None), "b": Free(*bounds, start=0.0)}
    target = 2 * np.arange(1.0, 5)
    options = {"sigma": 0.1, "n_starts": 1}
    (text,) = fit(alone, start, target, free, **options).identifiability.directions
    assert text == "b has no effect on the data"
    (text,) = fit(sums, start, target, free, **options).identifiability.directions
    assert text == "a + b can vary together: only their sum enters"


def test_direction_of_three_parameters_is_described():
    def fn(p):
        return p["a"] * p["b"] * p["c"] * jnp.arange(1.0, 4)

    start = {"a": 1.0, "b": 2.0, "c": 3.0}
    result = fit(fn, start, 7 * np.arange(1.0, 4), dict.fromkeys("abc", (0.1, 30)), n_starts=1)
    assert len(result.identifiability.directions) == 2
    assert not any("near" in text for text in result.identifiability.directions)


def test_figure_is_drawn_on_one_axes_with_labels():
    import matplotlib.pyplot as plt

    result = fit(psp, TRUTH, noisy_trace(), BOUNDS, sigma=0.005, n_starts=2)
    _, ax = plt.subplots()
    assert result.plot(ax, xlabel="time [ms]", ylabel="potential [mV]") is ax
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time [ms]", "potential [mV]")
    assert len(ax.lines) > 1
    with pytest.raises(ValueError, match="2 were given: must be one or three"):
        result.plot(plt.subplots(1, 2)[1])


def test_html_for_notebooks_escapes_names_and_shows_units():
    result = fit(
        lambda p: p["<a>"] * jnp.ones(3), {"<a>": 1.0}, np.full(3, 2.0), {"<a>": (0, 5)}, n_starts=1
    )
    html = result._repr_html_()
    assert "&lt;a&gt;" in html
    assert "<a>" not in html
    network = fit(WEIGHTS, NET, np.asarray(WEIGHTS(NET)), {"tau_syn_ex": (0.5, 20)}, n_starts=1)
    assert "<td>ms</td>" in network._repr_html_()
