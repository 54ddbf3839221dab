"""fit: many rows and many starts, those that fail, and where it is interrupted."""

import jax.numpy as jnp
import numpy as np
import pytest
from fitted import BOUNDS, NET, TIMES, TRUTH, WEIGHTS, noisy, of, psp

from rbn_jax import Free, fit


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
    from rbn_jax.fitting import rows as module

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


def test_one_fit_has_a_bar_over_its_starts_and_ends_as_without(capsys, monkeypatch):
    from tqdm.auto import tqdm

    counts = []
    update = tqdm.update
    monkeypatch.setattr(tqdm, "update", lambda bar, n=1: (counts.append(n), update(bar, n)))
    found = fit(psp, TRUTH, noisy(), BOUNDS, n_starts=40, progress=True)
    assert counts == [32, 8]
    assert (found.n_starts, found.n_reached) == (40, 40)
