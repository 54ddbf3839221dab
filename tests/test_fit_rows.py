"""fit: many rows and many starts, those that fail, and where it is interrupted."""

import jax.numpy as jnp
import numpy as np
import pytest
from fitted import BOUNDS, NET, TIMES, TRUTH, WEIGHTS, evaluate, noisy_trace, psp
from tqdm.auto import tqdm

import rbn_jax as rbn
from rbn_jax import Free, fit
from rbn_jax.fitting import kernels


def test_rows_equal_single_fits_and_a_row_without_data_is_marked():
    targets = np.stack([noisy_trace(seed) for seed in range(9)])
    targets[3] = np.nan
    targets[5, :20] = np.nan
    rows = fit(psp, TRUTH, targets, BOUNDS, sigma=0.005, n_starts=8, batch_size=4)
    assert rows.status[3] == "no data"
    assert np.isnan(rows.values["tau_m"][3])
    assert (np.delete(rows.status, 3) == "converged").all()
    assert rows.n_data[5] == TIMES.size - 20
    for i in (0, 5, 8):
        single = fit(psp, TRUTH, targets[i], BOUNDS, sigma=0.005, n_starts=8)
        for name, error in single.stderr.items():
            # a small share of the standard error
            assert rows.values[name][i] == pytest.approx(single.values[name], abs=1e-4 * error)
            assert rows.stderr[name][i] == pytest.approx(error, rel=1e-3)
    assert "8 converged" in rows.report()
    assert rows.to_dataset()["tau_m"].dims == ("row",)
    assert rows.params["tau_m"].shape == (9,)


def test_rows_on_a_bound_equal_the_bound():
    nets = NET.replace(gei=np.array([1.5, 0.7, 0.05]), gie=np.array([1.2, 20.0, 1.0]))
    free = {"gei": (0.1, 1.1), "gie": (0.1, 10)}
    rows = fit(WEIGHTS, NET, evaluate(WEIGHTS, nets), free, n_starts=4)
    assert rows.values["gei"].tolist() == [1.1, pytest.approx(0.7), 0.1]
    assert rows.at_bound["gei"].tolist() == ["high", "", "low"]
    assert rows.at_bound["gie"].tolist() == ["", "high", ""]
    assert np.isnan(rows.stderr["gei"]).tolist() == [True, False, True]
    assert set(rows.status) == {"converged"}


def test_row_where_fn_is_nan_is_marked():
    def root(p):
        return jnp.sqrt(p["a"]) * jnp.ones(3)

    rows = fit(root, {"a": -1.0}, np.ones((2, 3)), {"a": (-5, -1)}, n_starts=4)
    assert set(rows.status) == {"not finite"}


def interrupt_after(monkeypatch, n_calls):
    """Make the search raise KeyboardInterrupt in a later call."""
    search = kernels.search
    calls = []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) > n_calls:
            raise KeyboardInterrupt
        return search(*arguments)

    monkeypatch.setattr(kernels, "search", interrupted)


def test_ctrl_c_keeps_the_rows_fitted_so_far(monkeypatch):
    targets = np.stack([noisy_trace(seed) for seed in range(12)])
    interrupt_after(monkeypatch, 2)
    with pytest.warns(RuntimeWarning, match="4 of 12 rows are marked"):
        rows = fit(psp, TRUTH, targets, BOUNDS, n_starts=8, batch_size=4, null={"weight": 500})
    # the null model is not fitted after Ctrl-C
    assert rows.null_aic is None
    assert list(rows.status) == ["converged"] * 8 + ["not fitted"] * 4
    assert rows.n_data.tolist() == [60] * 12
    with pytest.raises(ValueError, match="row 9 has no result: not fitted"):
        rows[9]


def test_ctrl_c_keeps_rows_of_the_batch_in_progress(monkeypatch):
    monkeypatch.setattr(kernels, "batch_size", lambda objective, n_problems: 2)
    targets = np.stack([noisy_trace(seed) for seed in range(12)])
    interrupt_after(monkeypatch, 1)
    # the first call solves 8 problems, which are 2 rows of 4 starts
    with pytest.warns(RuntimeWarning, match="10 of 12 rows are marked"):
        rows = fit(psp, TRUTH, targets, {**BOUNDS, "tau_m": (6, 60)}, n_starts=4)
    assert list(rows.status) == ["converged"] * 2 + ["not fitted"] * 10
    assert np.isnan(rows.values["tau_m"][2:]).all()


def test_ctrl_c_before_a_row_is_fitted_stops_the_fit(monkeypatch):
    interrupt_after(monkeypatch, 0)
    with pytest.raises(KeyboardInterrupt):
        fit(psp, TRUTH, noisy_trace(), BOUNDS)


def test_starts_where_fn_is_nan_are_counted_as_lost():
    def root(p):
        return jnp.sqrt(p["a"]) * jnp.arange(1.0, 4)

    result = fit(root, {"a": 1.0}, 2 * np.arange(1.0, 4), {"a": (-10, 10)}, n_starts=32)
    assert result.values["a"] == pytest.approx(4)
    assert 8 < result.n_lost < 24
    assert result.n_reached == 32 - result.n_lost
    with pytest.raises(ValueError, match=r"not finite at any start, of which the first is \(a -"):
        fit(root, {"a": -5.0}, np.ones(3), {"a": (-10, -1)})


def test_value_outside_its_bounds_is_not_a_start():
    target = np.asarray(WEIGHTS(NET.replace(gei=3.0)))
    result = fit(WEIGHTS, NET, target, {"gei": (2, 10)}, n_starts=1)
    assert result.values["gei"] == pytest.approx(3)
    assert any("gei = 1.2 in params is outside its bounds" in text for text in result.advice)
    with_start = fit(WEIGHTS, NET, target, {"gei": Free(2, 10, start=5)}, n_starts=1)
    assert not any("outside" in text for text in with_start.advice)


def test_row_without_data_counts_no_prior():
    rows = np.stack([np.asarray(WEIGHTS(NET)), np.full((2, 2), np.nan)])
    free = {"gei": Free(0.1, 10, prior=(1, 1))}
    assert fit(WEIGHTS, NET, rows, free, sigma=1.0).n_data.tolist() == [5, 0]


def test_progress_bar_counts_the_starts_of_all_rows(monkeypatch):
    counts = []
    update = tqdm.update
    monkeypatch.setattr(tqdm, "update", lambda bar, n=1: (counts.append(n), update(bar, n)))
    targets = np.stack([noisy_trace(seed) for seed in range(3)])
    rows = fit(psp, TRUTH, targets, BOUNDS, n_starts=40, progress=True)
    assert sum(counts) == 120
    assert (rows.n_starts, rows.n_reached.tolist()) == (40, [40] * 3)


def test_log_of_long_work_counts_starts(capsys, monkeypatch):
    times = iter(range(0, 10_000, 31))
    monkeypatch.setattr("rbn_jax.system.progress.time.monotonic", lambda: next(times))
    fit(psp, TRUTH, noisy_trace(), BOUNDS, n_starts=4)
    assert "fit of psp: 4 of 4 starts" in capsys.readouterr().err


def test_row_is_the_same_result_as_a_fit_of_its_own():
    """The curvature of this target is nearly singular: one algorithm must give both errors."""
    net = NET.replace(tau_syn_ex=np.array([3.0, 4.0]))
    targets = evaluate(WEIGHTS, net)
    free = {"tau_syn_ex": (0.5, 20), "gei": (0.1, 10), "gie": (0.1, 10), "tau_m": None}
    del free["tau_m"]
    free["tau_syn_in"] = (0.5, 20)
    free["gii"] = Free(tie=lambda values: 1.1 * values["gie"])
    options = {"sigma": 1e-3, "n_starts": 4}
    rows = fit(WEIGHTS, NET, targets, free, **options, rows=True)
    for target, row in zip(targets, rows, strict=True):
        single = fit(WEIGHTS, NET, target, free, **options, rows=False)
        assert row.report() == single.report()
        assert row.stderr == single.stderr
        np.testing.assert_array_equal(row.covariance, single.covariance)
        np.testing.assert_array_equal(
            row.residuals["calculate_RBN_weights"], single.residuals["calculate_RBN_weights"]
        )
        assert row.confidence("gei") == single.confidence("gei")


def test_large_error_is_finite_alone_and_as_a_row():
    """A parameter that the data hardly determine: J^T J would lose it."""

    def nearly_open(p):
        return jnp.stack([p["a"] + p["b"], p["a"] + (1 + 1e-6) * p["b"], p["a"] + p["b"]])

    target = evaluate(nearly_open, {"a": 1.0, "b": 2.0})
    free = dict.fromkeys("ab", (None, None))
    options = {"sigma": 0.1, "n_starts": 1}
    single = fit(nearly_open, {"a": 1.0, "b": 1.0}, target, free, **options)
    (row,) = fit(nearly_open, {"a": 1.0, "b": 1.0}, target[None], free, **options)
    # the difference of the second datum and the mean of the others is 1e-6 b
    expected = 0.1 * np.sqrt(1.5) / 1e-6
    assert single.stderr["b"] == pytest.approx(expected, rel=1e-6)
    assert row.stderr == single.stderr


def test_rows_keep_the_labels_of_their_target():
    xr = pytest.importorskip("xarray")
    pandas = pytest.importorskip("pandas")
    traces = np.stack([noisy_trace(seed) for seed in range(3)])
    cells = ["a", "b", "c"]
    depth = ("cell", [10.0, 20.0, 30.0])
    array = xr.DataArray(traces, {"cell": cells, "depth": depth}, ("cell", "psp_dim_0"))
    rows = fit(psp, TRUTH, array, BOUNDS, sigma=0.005, n_starts=1)
    dataset = rows.to_dataset()
    assert dataset.tau_m.dims == ("cell",)
    assert dataset.depth.values.tolist() == [10.0, 20.0, 30.0]
    assert dataset.covariance.sel(cell="b", parameter="tau_m", other_parameter="tau_m") == (
        pytest.approx(rows.stderr["tau_m"][1] ** 2)
    )
    frame = rows.to_dataframe()
    assert frame.index.tolist() == cells
    assert frame.index.name == "cell"
    assert frame.loc["c", "tau_m"] == rows.values["tau_m"][2]
    from_frame = fit(psp, TRUTH, pandas.DataFrame(traces, cells), BOUNDS, sigma=0.005, n_starts=1)
    assert from_frame.name(2) == "c"
    assert fit(psp, TRUTH, traces, BOUNDS, n_starts=1).to_dataframe().index.tolist() == [0, 1, 2]


def test_report_counts_rows_to_look_at_and_names_the_first():
    traces = np.stack([noisy_trace(seed) for seed in range(5)])
    traces[1] *= -1  # the weight must be positive
    traces[3] += 0.05 * np.cos(TIMES)  # not the model
    rows = fit(psp, TRUTH, traces, BOUNDS, sigma=0.005, n_starts=4)
    text = rows.report()
    assert "3 converged, 2 converged with remarks" in text
    assert "on a bound: 1, the first is 1" in text
    assert "reduced chi-square far from 1: 2, the first is 1" in text
    assert rows.columns()["remarks"][3] == "reduced chi-square far from 1"


def test_failures_are_told_from_fits_by_the_null_model():
    times = np.linspace(0, 100, 200)

    def trace(p):
        return rbn.psp_trace(np.array(times), p)

    clean = []
    for amplitude in (0.5, 0.0, 1.0, 0.0):
        truth = rbn.PspTrace(baseline=-65.0, amplitude=amplitude, onset=20.0, tau_m=15.0)
        clean.append(evaluate(trace, truth))
    clean = np.stack(clean)
    targets = clean + 0.05 * np.random.default_rng(0).standard_normal(clean.shape)
    free = {"baseline": (-80, -50), "amplitude": (-5, 5), "onset": (0, 50), "tau_m": (4, 60)}
    rows = fit(trace, rbn.PspTrace(), targets, free, sigma=0.05, n_starts=4, null={"amplitude": 0})
    assert (rows.aic < rows.null_aic).tolist() == [True, False, True, False]
    # of one free parameter, the baseline, which is the mean
    chi_square = np.sum((targets - targets.mean(1, keepdims=True)) ** 2, 1) / 0.05**2
    np.testing.assert_allclose(rows.null_aic, 200 * np.log(chi_square / 200) + 2)
    assert "no better than the null model: 2, the first is 1" in rows.report()
    assert rows[0].null_aic == rows.null_aic[0]
    assert "Akaike of the null model" in rows[0].report()
    assert "the null model is as good" in rows[1].report()


def test_a_null_model_may_lie_outside_the_bounds():
    """An amplitude on a log scale is never 0, and the null model is the baseline alone."""

    def line(p):
        return p["baseline"] + p["amplitude"] * jnp.exp(-jnp.asarray(TIMES) / p["tau"])

    start = {"baseline": 1.0, "amplitude": 1.0, "tau": 10.0}
    rng = np.random.default_rng(0)
    targets = 2.0 + 0.1 * rng.standard_normal((2, TIMES.size))
    targets[0] += 3 * np.exp(-TIMES / 10)
    free = {"baseline": (None, None), "amplitude": (1e-3, 10), "tau": (1, 100)}
    rows = fit(line, start, targets, free, sigma=0.1, n_starts=4, null={"amplitude": 0.0})
    chi_square = np.sum((targets - targets.mean(1, keepdims=True)) ** 2, 1) / 0.1**2
    n = TIMES.size
    np.testing.assert_allclose(rows.null_aic, n * np.log(chi_square / n) + 2)
    assert rows.null_aic[0] > rows.aic[0] + 100


def test_figure_of_rows_shows_the_worst_first():
    traces = np.stack([noisy_trace(seed) for seed in range(7)])
    traces[4] += 0.05 * np.cos(TIMES)
    traces[5] = np.nan
    rows = fit(psp, TRUTH, traces, BOUNDS, sigma=0.005, n_starts=1)
    figure = rows.plot(4, x=TIMES, xlabel="time [ms]", ylabel="potential [mV]")
    titles = [ax.get_title() for ax in figure.axes]
    assert len(titles) == 4
    assert titles[0].startswith("4: ")
    line = figure.axes[0].lines[-1]
    np.testing.assert_allclose(line.get_xdata(), TIMES)
    np.testing.assert_allclose(line.get_ydata(), evaluate(psp, rows[4].values), rtol=1e-6)
    with pytest.raises(ValueError, match="n_rows=0"):
        rows.plot(0)


def test_rows_are_selected_as_elements_of_an_array():
    pytest.importorskip("xarray")
    traces = np.stack([noisy_trace(seed) for seed in range(5)])
    traces[3] = np.nan
    rows = fit(psp, TRUTH, traces, BOUNDS, sigma=0.005, n_starts=2, null={"weight": 1.0})
    assert rows[-1].values == rows[4].values == rows[np.int64(4)].values
    fitted = rows[rows.has_result]
    assert [fitted.name(row) for row in range(len(fitted))] == ["0", "1", "2", "4"]
    assert fitted[3].report() == rows[4].report()
    assert fitted.to_dataset().row.values.tolist() == [0, 1, 2, 4]
    assert "4 fits, 4 converged" in fitted.report()
    picked = rows[[4, 0]]
    assert picked.values["tau_m"].tolist() == rows.values["tau_m"][[4, 0]].tolist()
    assert picked.params["tau_m"].tolist() == picked.values["tau_m"].tolist()
    assert picked.null_aic.tolist() == rows.null_aic[[4, 0]].tolist()
    np.testing.assert_array_equal(picked.residuals["psp"], rows.residuals["psp"][[4, 0]])
    assert len(rows[1:3].plot(x=TIMES).axes) == 2
    assert list(rows[1:3].values) == list(rows.values)
    nothing = rows[rows.status == "not converged"]
    assert len(nothing) == 0
    assert "0 fits, 0 converged" in nothing.report()
    assert len(nothing.to_dataframe()) == 0
    assert nothing.residuals["psp"].shape == (0, TIMES.size)


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (2, "index 2 is out of bounds for axis 0 with size 2"),
        (-3, "index -3 is out of bounds"),
        ([0, 5], "index 5 is out of bounds"),
        ([True, False, True], "boolean index did not match"),
        (True, "rows have one axis"),
        ([[0, 1]], "rows have one axis"),
        ((0, 1), "too many indices"),
        (1.0, "only integers, slices"),
        ("gei", "only integers, slices"),
    ],
)
def test_index_that_is_no_row_is_an_index_error(index, words):
    rows = fit(WEIGHTS, NET, np.stack([WEIGHTS(NET)] * 2), {"gei": (0.1, 10)}, n_starts=1)
    with pytest.raises(IndexError, match=words) as caught:
        rows[index]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["status", "chi_square", "remarks", "covariance", "a_stderr"])
def test_name_of_another_column_of_the_table_is_refused(name):
    def product(p):
        return p["a"] * p[name] * jnp.ones(3)

    free = {"a": (0.1, 10), name: (0.1, 10)}
    params = {"a": 1.0, name: 2.0}
    with pytest.raises(ValueError, match=f"a column {name} of its own: rename the parameter"):
        fit(product, params, np.ones((2, 3)), free, n_starts=1)
    # a fit of its own has no table
    assert name in fit(product, params, np.ones(3), free, n_starts=1).values


def test_float32_converges_on_recordings_as_float64_does():
    """The cost of a trace at -65 mV is rounded by more than the last steps lower it."""
    times = np.linspace(0, 100, 400)

    def trace(p):
        return rbn.psp_trace(np.array(times), p)

    clean = evaluate(trace, rbn.PspTrace(baseline=-65.0, amplitude=0.8, onset=7.3))
    targets = clean + 0.05 * np.random.default_rng(0).standard_normal((20, 400))
    free = {
        "baseline": (-80, -50),
        "slope": (-0.1, 0.1),
        "amplitude": (-5, 5),
        "onset": (0, 20),
        "tau_m": (4, 60),
        "tau_syn": (0.2, 3.9),
    }
    start = rbn.PspTrace(baseline=-65.0, onset=5.0)
    options = {"sigma": 0.05, "n_starts": 1}
    double = fit(trace, start, targets, free, **options)
    single = fit(trace, start, targets, free, **options, dtype="float32")
    assert (single.status == "converged").sum() >= 19
    for name, error in double.stderr.items():
        difference = np.abs(single.values[name] - double.values[name]) / error
        assert np.nanmedian(difference) < 0.01
