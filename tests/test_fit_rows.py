"""fit: many rows and many starts, those that fail, and where it is interrupted."""

import jax.numpy as jnp
import numpy as np
import pytest
from fitted import BOUNDS, NET, TIMES, TRUTH, WEIGHTS, evaluate, noisy_trace, psp

from rbn_jax import Free, fit


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


def test_ctrl_c_keeps_the_rows_fitted_so_far(monkeypatch):
    from rbn_jax.fitting import rows as rows_module

    fit_batch = rows_module.fit_batch
    calls = []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return fit_batch(*arguments)

    monkeypatch.setattr(rows_module, "fit_batch", interrupted)
    targets = np.stack([noisy_trace(seed) for seed in range(12)])
    with pytest.warns(RuntimeWarning, match="8 of 12 rows are fitted"):
        rows = fit(psp, TRUTH, targets, BOUNDS, n_starts=8, batch_size=4)
    assert list(rows.status) == ["converged"] * 8 + ["not fitted"] * 4


def test_starts_where_fn_is_nan_are_counted_as_lost():
    def root(p):
        return jnp.sqrt(p["a"]) * jnp.arange(1.0, 4)

    result = fit(root, {"a": 1.0}, 2 * np.arange(1.0, 4), {"a": (-10, 10)}, n_starts=32)
    assert result.values["a"] == pytest.approx(4)
    assert 8 < result.n_lost < 24
    assert result.n_reached == 32 - result.n_lost
    with pytest.raises(ValueError, match=r"not finite at any start: \(a -"):
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


def test_progress_bar_of_one_fit_counts_starts(capsys, monkeypatch):
    from tqdm.auto import tqdm

    counts = []
    update = tqdm.update
    monkeypatch.setattr(tqdm, "update", lambda bar, n=1: (counts.append(n), update(bar, n)))
    result = fit(psp, TRUTH, noisy_trace(), BOUNDS, n_starts=40, progress=True)
    assert counts == [32, 8]
    assert (result.n_starts, result.n_reached) == (40, 40)
