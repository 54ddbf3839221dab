"""Streamed sweeps: equal to those in memory, resumed from the files alone, never mixed up."""

import contextlib
import json
import os
import random
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from stored import AXES, NET, PAIRED, at_run_time, chunks, several, shares, slopes, weights

import rbn_jax as rbn
from rbn_jax.sweeps.store import store_status
from rbn_jax.system.progress import Progress


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("fn", "axes"),
    [(weights, AXES), (slopes, AXES), (shares, AXES), (several, AXES), (weights, PAIRED)],
)
def test_a_stored_result_equals_the_result_in_memory(tmp_path, fn, axes, dtype):
    in_memory = rbn.sweep(fn, NET, axes, dtype=dtype)
    store = tmp_path / "a.zarr"
    streamed = rbn.sweep(fn, NET, axes, dtype=dtype, store=store, block_size=9)
    assert all(x.chunks is not None for x in streamed.data_vars.values())
    xr.testing.assert_allclose(streamed.load(), in_memory, rtol=4 * np.finfo(dtype).eps)
    assert streamed.attrs == in_memory.attrs
    for name, x in in_memory.variables.items():
        assert (x.dtype, x.attrs) == (streamed[name].dtype, streamed[name].attrs)
    xr.testing.assert_identical(rbn.sweep(fn, NET, axes, dtype=dtype, block_size=9), streamed)


def test_one_point_can_be_stored(tmp_path):
    stored = rbn.sweep(weights, NET, {}, store=tmp_path / "a.zarr").load()
    xr.testing.assert_identical(stored, rbn.sweep(weights, NET, {}))


def test_xarray_opens_a_store(tmp_path):
    rbn.sweep(weights, NET, AXES, store=tmp_path / "a.zarr", block_size=9)
    stored = xr.open_zarr(tmp_path / "a.zarr")
    assert stored["tau_E"].attrs["units"] == "ms"
    assert rbn.NetworkParams.from_mapping(json.loads(stored.attrs["params"])) == NET
    assert np.isfinite(stored["calculate_RBN_weights"]).all()


def test_only_missing_and_damaged_chunks_are_computed_again(tmp_path):
    calls = []

    def count(tau):
        calls.append(float(tau))
        return tau

    def fn(p):
        return at_run_time(p, count)

    axes = {"tau_E": np.arange(1.0, 13.0)}
    store = tmp_path / "a.zarr"
    first = rbn.sweep(fn, NET, axes, store=store, block_size=3).load()
    assert len(calls) == 12
    calls.clear()
    files = chunks(store, "fn")
    assert len(files) == 4
    with files[0].open("ab") as file:
        file.write(b"appended")
    with files[1].open("r+b") as file:
        file.truncate(5)
    files[3].unlink()
    assert store_status(store)["missing"] == [0, 1, 3]
    second = rbn.sweep(fn, NET, axes, store=store).load()
    # block 2 is computed once more, and compared: a function that calls Python may be another one
    assert sorted(calls) == sorted(axes["tau_E"])
    xr.testing.assert_identical(first, second)
    assert store_status(store)["points_done"] == 12


def test_nan_is_stored_and_a_warning_names_its_block(tmp_path):
    def fn(p):
        return jnp.where((p.tau_E > 6) & (p.tau_E < 9), jnp.nan, p.tau_E)

    axes = {"tau_E": np.arange(1.0, 13.0)}
    with pytest.warns(RuntimeWarning, match=r"fn is NaN in 1 of 4 blocks, first in block 2 of 4"):
        stored = rbn.sweep(fn, NET, axes, block_size=3, store=tmp_path / "a.zarr")
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(stored["fn"])), [6, 7])


def fails_above(limit, how):
    def call(tau):
        if tau > limit and how == "raises":
            raise ArithmeticError("no convergence")
        return np.ones(3, tau.dtype) if tau > limit else tau

    return lambda p: at_run_time(p, call)


@pytest.mark.parametrize("how", ["raises", "another shape"])
def test_an_error_names_the_failed_block_and_the_others_are_stored(tmp_path, how):
    axes, store = {"tau_E": np.arange(1.0, 41.0)}, tmp_path / "a.zarr"
    with pytest.raises(RuntimeError, match=r"block 3 of 4 \(tau_E 31 to 40 ms\)"):
        rbn.sweep(fails_above(30, how), NET, axes, store=store, block_size=10)
    assert 3 in store_status(store)["missing"]
    # blocks are computed in a random order, and those after the failed one are not begun
    for _ in range(10):
        with pytest.raises(RuntimeError, match=r"block 3 of 4 \(tau_E 31 to 40 ms\)"):
            rbn.sweep(fails_above(30, how), NET, axes, store=store)
        if store_status(store)["missing"] == [3]:
            break
    assert store_status(store)["missing"] == [3]


@pytest.mark.parametrize("reduce", [None, ["minimum", "mean", "argmax"]])
def test_all_shards_together_give_the_complete_result(tmp_path, reduce):
    arguments = {"fn": weights, "params": NET, "axes": AXES, "reduce": reduce}
    store = tmp_path / "a.zarr"
    for i in range(3):
        stored = rbn.sweep(**arguments, store=store, block_size=1, shard=(i, 3))
        state = store_status(store)
        assert state["points_done"] == pytest.approx(70 * (i + 1) / 3, abs=6)
        assert (stored is None) == (reduce is not None and i < 2)
    assert state["missing"] == []
    xr.testing.assert_allclose(stored.load(), rbn.sweep(**arguments), rtol=1e-6)


def test_reductions_do_not_depend_on_blocks_and_are_resumed(tmp_path):
    def products(p):  # one rounding each: XLA compiles longer ones differently for other shapes
        return jnp.stack([jnp.stack([p.tau_E * p.gei, -p.tau_I * p.tau_E])] * 2)

    def strong(js):
        return js[0, 1] < -300

    kinds = ["minimum", "maximum", "argmin", "count", "mean"]
    red = rbn.reductions
    more = [
        red.Histogram([-600, -300, 0, 300], "gei"),
        red.Fraction(strong),
        red.Examples(strong, 3),
    ]
    arguments = {"fn": products, "params": NET, "axes": AXES, "reduce": [*kinds, *more]}
    in_memory = rbn.sweep(**arguments)
    for block_size in (1, 9):
        xr.testing.assert_identical(rbn.sweep(**arguments, block_size=block_size), in_memory)
    store = tmp_path / "a.zarr"
    rbn.sweep(**arguments, store=store, block_size=1)
    part = store / "parts" / "4.npz"
    part.write_bytes(part.read_bytes()[:50])
    assert store_status(store)["missing"] == [4]
    xr.testing.assert_identical(rbn.sweep(**arguments, store=store), in_memory)
    xr.testing.assert_identical(xr.open_zarr(store).load().drop_attrs(), in_memory.drop_attrs())

    all_products = rbn.sweep(products, NET, AXES)["products"]
    dims = list(AXES)
    np.testing.assert_array_equal(in_memory["products_minimum"], all_products.min(dims))
    np.testing.assert_array_equal(in_memory["products_count"], 70)
    hit = all_products.sel(target="E", source="I") < -300
    assert in_memory["strong_fraction"] == hit.mean()
    first = hit.stack(point=dims)
    first = first[first.values].point.values[:3]
    for i, name in enumerate(dims):
        np.testing.assert_array_equal(
            in_memory[f"strong_examples_{name}"], [point[i] for point in first]
        )
    where = in_memory["products_argmin_tau_E"].sel(target="E", source="E")
    assert where == all_products.sel(target="E", source="E").min(["gei", "tau_I"]).idxmin("tau_E")


def test_progress_is_a_bar_on_request_and_lines_without_a_terminal(capsys, monkeypatch):
    rbn.sweep(weights, NET, AXES, block_size=9, progress=False)
    rbn.sweep(weights, NET, AXES)
    assert capsys.readouterr().err == ""
    rbn.sweep(weights, NET, AXES, block_size=9, progress=True)
    assert "70.0/70.0" in capsys.readouterr().err
    rbn.sweep(weights, NET, AXES, block_size=9)
    assert capsys.readouterr().err == "sweep of calculate_RBN_weights: compiling\n"


def test_the_log_says_points_rate_and_time_left(capsys, monkeypatch):
    clock = iter([0.0, 29.0, 31.0, 40.0, 62.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    progress = Progress(None, "sweep of fn", "compiling", total=5000, missing=4000)
    for _ in range(2):
        progress.add(310)
        progress.log()
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "sweep of fn: compiling",
        "sweep of fn: 1,620 of 5,000 points, 20 points/s, 169 s left",
    ]
    for _ in range(2):
        progress.log()
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("value", [np.nan, 0.0, 0, False])
def test_a_block_of_fill_values_counts_as_done(tmp_path, value):
    calls = []

    def count(tau):
        calls.append(tau)
        return tau

    def fn(p):
        return jnp.where(at_run_time(p, count) > 0, value, value)

    arguments = {"axes": {"tau_E": np.arange(1.0, 13.0)}, "store": tmp_path / "a.zarr"}
    with pytest.warns(RuntimeWarning) if np.isnan(value) else contextlib.nullcontext():
        rbn.sweep(fn, NET, **arguments, block_size=3)
    assert store_status(tmp_path / "a.zarr")["missing"] == []
    rbn.sweep(fn, NET, **arguments)
    # one block is compared with the function as it is now
    assert len(calls) == 15


def test_a_second_call_changes_no_file(tmp_path):
    store = tmp_path / "a.zarr"
    rbn.sweep(weights, NET, AXES, store=store, block_size=9)
    # Zarr lists the arrays of a group in any order
    metadata = json.loads((store / "zarr.json").read_text())
    arrays = metadata["consolidated_metadata"]["metadata"]
    metadata["consolidated_metadata"]["metadata"] = dict(reversed(arrays.items()))
    (store / "zarr.json").write_text(json.dumps(metadata))
    before = {x: (x.stat().st_mtime_ns, x.stat().st_ino) for x in store.rglob("*")}
    rbn.sweep(weights, NET, AXES, store=store)
    assert before == {x: (x.stat().st_mtime_ns, x.stat().st_ino) for x in store.rglob("*")}


def test_a_changed_bit_is_detected_by_the_checksum(tmp_path):
    stored = rbn.sweep(weights, NET, AXES, store=tmp_path / "a.zarr", block_size=9)
    file = chunks(tmp_path / "a.zarr", "calculate_RBN_weights")[2]
    data = bytearray(file.read_bytes())
    data[7] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match="checksum"):
        stored.load()


def test_an_empty_directory_and_a_relative_path_are_accepted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.zarr").mkdir()
    stored = rbn.sweep(weights, NET, AXES, store="a.zarr", block_size=9)
    monkeypatch.chdir("/")
    xr.testing.assert_identical(stored.load(), rbn.sweep(weights, NET, AXES, block_size=9))
    assert os.listdir(tmp_path) == ["a.zarr"]


def test_labels_of_samples_and_results_are_read_back_from_a_store(tmp_path):
    def fn(p):
        return xr.DataArray(p.tau_E * jnp.arange(3.0), dims="k", coords={"k": list("xyz")})

    coords = {"sample": ["a", "bb", "ccc"], "note": ("sample", [1, 2, 3])}
    axes = {"tau_E": xr.DataArray([1.0, 2.0, 3.0], dims="sample", coords=coords)}
    memory = rbn.sweep(fn, NET, axes, block_size=2)
    for _ in range(2):
        stored = rbn.sweep(fn, NET, axes, store=tmp_path / "a.zarr", block_size=2)
        xr.testing.assert_identical(stored.load(), memory)


def test_nested_parameters_and_elements_of_arrays_are_stored_and_resumed(tmp_path):
    params = {"synapse": {"tau": 5.0}, "w": [1.0, 2.0], "m": np.ones((2, 3))}
    axes = {"synapse.tau": [1.0, 2.0, 4.0], "w[0]": [0.5, 1.5], "m[1,2]": [-1.0, 3.0]}

    def fn(p):
        return p["synapse"]["tau"] * jnp.sum(p["w"]) + p["m"][1, 2]

    memory = rbn.sweep(fn, params, axes)
    for i in range(2):
        stored = rbn.sweep(fn, params, axes, store=tmp_path / "a.zarr", shard=(i, 2), block_size=2)
    xr.testing.assert_identical(stored.load(), memory)
    assert stored["fn"].dims == tuple(axes)
    assert store_status(tmp_path / "a.zarr")["missing"] == []
    for name, values in axes.items():
        np.testing.assert_array_equal(stored[name], values)
    other = {**params, "synapse": {"tau": 5.0}, "w": [1.0, 3.0]}
    with pytest.raises(ValueError, match="parameters w"):
        rbn.sweep(fn, other, axes, store=tmp_path / "a.zarr")


def test_a_lambda_of_one_number_is_stored(tmp_path):
    def sweep(**options):
        return rbn.sweep(lambda p: p["s"] * 2, {"s": 1.0}, {"s": [-1.0, 1.0]}, **options)

    np.testing.assert_array_equal(sweep()["result"], [-2.0, 2.0])
    for _ in range(2):
        stored = sweep(store=tmp_path / "a.zarr", block_size=1)
        np.testing.assert_array_equal(stored["result"], [-2.0, 2.0])


def test_missing_complex_results_are_nan(tmp_path):
    def fn(p):
        return p["a"] + 1j

    stored = rbn.sweep(fn, {"a": 0.0}, {"a": [1.0, 2.0]}, store=tmp_path / "a.zarr", shard=(0, 2))
    np.testing.assert_array_equal(np.isnan(stored["fn"]), [False, True])


def test_a_shard_without_work_says_so(tmp_path):
    options = {"store": tmp_path / "a.zarr", "shard": (2, 3)}
    with pytest.warns(UserWarning, match="shard 2 of 3 has nothing to do: the store has 2 blocks"):
        rbn.sweep(weights, NET, {"gei": [1.0, 2.0]}, **options)


def test_the_order_of_blocks_leaves_random_numbers_alone(tmp_path):
    random.seed(0)
    expected = random.random()
    random.seed(0)
    rbn.sweep(weights, NET, AXES, store=tmp_path / "a.zarr", block_size=9)
    assert random.random() == expected
