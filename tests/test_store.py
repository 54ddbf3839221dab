"""Streamed sweeps: equal to those in memory, resumed from the files alone, never mixed up."""

import contextlib
import json
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import rbn_jax as rbn
from rbn_jax.sweep import folder
from rbn_jax.sweep.status import status

NET = rbn.NetworkParams(tau_syn_ex=3.0)
AXES = {"tau_E": np.linspace(5, 40, 7), "gei": np.linspace(1, 2, 5), "tau_I": [10.0, 20.0]}
PAIRED = {name: xr.DataArray(np.linspace(5, 40, 23), dims="sample") for name in ("tau_E", "tau_I")}
weights = rbn.calculate_RBN_weights


def several(p):
    return {
        "peak": p.tau_E * jnp.arange(3.0),
        "whole": jnp.int32(p.tau_E),
        "long": p.tau_E > 20,
    }


def slopes(p):
    return rbn.jacobian(weights, p, ["tau_E", "gei"])


def shares(p):
    return rbn.elasticity(weights, p, ["tau_E", "gei"])


def at_run_time(p, call):
    """p.tau_E, by way of Python at run time."""
    like = jax.ShapeDtypeStruct((), p.tau_E.dtype)
    return jax.pure_callback(call, like, p.tau_E, vmap_method="sequential")


def never(p):
    def fail(_):
        raise AssertionError("nothing may run")

    return at_run_time(p, fail)


def chunks(store, name):
    return sorted(x for x in Path(store, name, "c").rglob("*") if x.is_file())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("fn", "axes"),
    [(weights, AXES), (slopes, AXES), (shares, AXES), (several, AXES), (weights, PAIRED)],
)
def test_streamed_is_what_is_in_memory(tmp_path, fn, axes, dtype):
    whole = rbn.sweep(fn, NET, axes, dtype=dtype)
    store = tmp_path / "a.zarr"
    streamed = rbn.sweep(fn, NET, axes, dtype=dtype, store=store, block_size=9)
    assert all(x.chunks is not None for x in streamed.data_vars.values())
    xr.testing.assert_allclose(streamed.load(), whole, rtol=4 * np.finfo(dtype).eps)
    assert streamed.attrs == whole.attrs
    for name, x in whole.variables.items():
        assert (x.dtype, x.attrs) == (streamed[name].dtype, streamed[name].attrs)
    xr.testing.assert_identical(rbn.sweep(fn, NET, axes, dtype=dtype, block_size=9), streamed)


def test_one_point_can_be_stored(tmp_path):
    found = rbn.sweep(weights, NET, {}, store=tmp_path / "a.zarr").load()
    xr.testing.assert_identical(found, rbn.sweep(weights, NET, {}))


def test_xarray_opens_a_store_as_it_is(tmp_path):
    rbn.sweep(weights, NET, AXES, store=tmp_path / "a.zarr", block_size=9)
    found = xr.open_zarr(tmp_path / "a.zarr")
    assert found["tau_E"].attrs["units"] == "ms"
    assert rbn.NetworkParams.from_mapping(json.loads(found.attrs["params"])) == NET
    assert np.isfinite(found["calculate_RBN_weights"]).all()


def test_only_what_is_missing_or_damaged_is_computed_again(tmp_path):
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
    with files[1].open("r+b") as file:
        file.truncate(5)
    files[3].unlink()
    assert status(store)["missing"] == [1, 3]
    second = rbn.sweep(fn, NET, axes, store=store).load()
    assert sorted(calls) == [4, 5, 6, 10, 11, 12]
    xr.testing.assert_identical(first, second)
    assert status(store)["points_done"] == 12


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fn": lambda p: 2 * weights(p)}, "function: .*calculate_RBN_weights.*result"),
        ({"axes": {**AXES, "gei": [1.0, 2.0]}}, "axes gei: .*5 values from 1 to 2.*2 values"),
        ({"params": NET.replace(tau_syn_in=4.0)}, "parameters tau_syn_in: 5.0 .*4.0 here"),
        ({"dtype": "float64"}, "dtype: .*float32.*float64"),
        ({"block_size": 20}, "blocks of 9? ?.*points: leave block_size out"),
        ({"reduce": "minimum"}, "reduce: null in the store"),
    ],
)
def test_another_sweep_is_refused_until_it_is_to_be_overwritten(tmp_path, change, words):
    same = {"fn": weights, "params": NET, "axes": AXES, "store": tmp_path / "a.zarr"}
    rbn.sweep(**same, block_size=9)
    with pytest.raises(ValueError, match=words):
        rbn.sweep(**{**same, **change})
    rbn.sweep(**{**same, **change}, overwrite=True)
    assert os.listdir(tmp_path) == ["a.zarr"]


def test_a_function_of_the_same_name_that_computes_something_else_is_refused(tmp_path):
    def fn(p):
        return p.tau_E

    store, axes = tmp_path / "a.zarr", {"tau_E": [1.0, 2.0]}
    rbn.sweep(fn, NET, axes, store=store)

    def fn(p):
        return p.tau_E + 1.0

    with pytest.raises(ValueError, match="fn computed something else"):
        rbn.sweep(fn, NET, axes, store=store)


def test_another_format_is_refused(tmp_path):
    store = tmp_path / "a.zarr"
    rbn.sweep(weights, NET, AXES, store=store)
    meta = store / "zarr.json"
    meta.write_text(meta.read_text().replace('\\"format\\": 1', '\\"format\\": 9'))
    with pytest.raises(ValueError, match="format: 9 in the store, 1 here"):
        rbn.sweep(weights, NET, AXES, store=store)


def test_no_other_folder_is_deleted(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="holds no sweep"):
            rbn.sweep(weights, NET, AXES, store=tmp_path, overwrite=overwrite)
    assert (tmp_path / "thesis.tex").exists()


def test_nan_is_stored_and_its_block_named(tmp_path):
    def fn(p):
        return jnp.where((p.tau_E > 6) & (p.tau_E < 9), jnp.nan, p.tau_E)

    axes = {"tau_E": np.arange(1.0, 13.0)}
    with pytest.warns(RuntimeWarning, match=r"fn is NaN in 1 of 4 blocks, first in block 2 of 4"):
        found = rbn.sweep(fn, NET, axes, block_size=3, store=tmp_path / "a.zarr")
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(found["fn"])), [6, 7])


def fails_above(limit, how):
    def call(tau):
        if tau > limit and how == "raises":
            raise ArithmeticError("no convergence")
        return np.ones(3, tau.dtype) if tau > limit else tau

    return lambda p: at_run_time(p, call)


@pytest.mark.parametrize("how", ["raises", "another shape"])
def test_a_block_that_fails_is_named_and_the_others_kept(tmp_path, how):
    axes, store = {"tau_E": np.arange(1.0, 41.0)}, tmp_path / "a.zarr"
    with pytest.raises(RuntimeError, match=r"block 3 of 4 \(tau_E 31 to 40 ms\)"):
        rbn.sweep(fails_above(30, how), NET, axes, store=store, block_size=10)
    assert 3 in status(store)["missing"]
    with pytest.raises(RuntimeError, match=r"block 3 of 4 \(tau_E 31 to 40 ms\)"):
        rbn.sweep(fails_above(30, how), NET, axes, store=store)
    assert status(store)["missing"] == [3]


@pytest.mark.parametrize("reduce", [None, ["minimum", "mean", "argmax"]])
def test_shards_together_are_the_whole(tmp_path, reduce):
    same = {"fn": weights, "params": NET, "axes": AXES, "reduce": reduce}
    store = tmp_path / "a.zarr"
    for i in range(3):
        found = rbn.sweep(**same, store=store, block_size=1, shard=(i, 3))
        state = status(store)
        assert state["points_done"] == pytest.approx(70 * (i + 1) / 3, abs=6)
        assert (found is None) == (reduce is not None and i < 2)
    assert state["missing"] == []
    xr.testing.assert_allclose(found.load(), rbn.sweep(**same), rtol=1e-6)


def test_reductions_do_not_depend_on_blocks_and_resume(tmp_path):
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
    same = {"fn": products, "params": NET, "axes": AXES, "reduce": [*kinds, *more]}
    whole = rbn.sweep(**same)
    for block_size in (1, 9):
        xr.testing.assert_identical(rbn.sweep(**same, block_size=block_size), whole)
    store = tmp_path / "a.zarr"
    rbn.sweep(**same, store=store, block_size=1)
    part = store / "parts" / "4.npz"
    part.write_bytes(part.read_bytes()[:50])
    assert status(store)["missing"] == [4]
    xr.testing.assert_identical(rbn.sweep(**same, store=store), whole)
    xr.testing.assert_identical(xr.open_zarr(store).load().drop_attrs(), whole.drop_attrs())

    all_of_it = rbn.sweep(products, NET, AXES)["products"]
    dims = list(AXES)
    np.testing.assert_array_equal(whole["products_minimum"], all_of_it.min(dims))
    np.testing.assert_array_equal(whole["products_count"], 70)
    hit = all_of_it.sel(target="E", source="I") < -300
    assert whole["strong_fraction"] == hit.mean()
    first = hit.stack(point=dims)
    first = first[first.values].point.values[:3]
    for i, name in enumerate(dims):
        np.testing.assert_array_equal(
            whole[f"strong_examples_{name}"], [point[i] for point in first]
        )
    where = whole["products_argmin_tau_E"].sel(target="E", source="E")
    assert where == all_of_it.sel(target="E", source="E").min(["gei", "tau_I"]).idxmin("tau_E")


HUGE = {name: np.linspace(5, 40, 1000) for name in ("tau_E", "tau_I", "tau_syn_ex", "tau_syn_in")}
HUGE |= {name: np.linspace(1, 2, 1000) for name in ("gei", "gie", "gii", "C_m", "s")}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"store": "file"}, "file is a file"),
        ({"store": "none/a.zarr"}, "the folder .*none does not exist"),
        ({"block_size": 0}, "block_size=0: must be a whole number"),
        ({"block_size": -1, "store": "a.zarr"}, "block_size=-1"),
        ({"block_size": 1.5}, "block_size=1.5"),
        ({"shard": (3, 3), "store": "a.zarr"}, r"shard=\(3, 3\): must be"),
        ({"shard": (-1, 3), "store": "a.zarr"}, "shard"),
        ({"shard": (0, 0), "store": "a.zarr"}, "shard"),
        ({"shard": 3, "store": "a.zarr"}, "shard=3"),
        ({"shard": (0, 3)}, "are for a store"),
        ({"overwrite": True}, "are for a store"),
        ({"progress": "yes"}, "progress='yes'"),
        ({"client": "tcp://here"}, "client is a str"),
        ({"reduce": "median"}, "unknown reduction 'median'.*minimum"),
        ({"reduce": rbn.reductions.Minimum("tau_x")}, "tau_x.*tau_E"),
        ({"reduce": ["mean", "mean"]}, "twice"),
        ({"axes": HUGE}, "1.08e.18 GB|GB of memory, and .* GB are free.*reduce="),
        ({"axes": HUGE, "store": "a.zarr"}, "takes .* GB, and .* GB are free.*reduce="),
    ],
)
def test_bad_input_stops_before_any_work(tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(ValueError, match=words):
        rbn.sweep(**{"fn": never, "params": NET, "axes": AXES, **options})
    assert os.listdir() == ["file"]


def test_a_bar_when_asked_and_none_without_a_terminal(capsys):
    rbn.sweep(weights, NET, AXES, block_size=9)
    assert capsys.readouterr().err == ""
    rbn.sweep(weights, NET, AXES, block_size=9, progress=True)
    assert "70.0/70.0" in capsys.readouterr().err


@pytest.mark.parametrize("value", [np.nan, 0.0, 0, False])
def test_a_block_of_nothing_but_fill_values_is_done_too(tmp_path, value):
    calls = []

    def count(tau):
        calls.append(tau)
        return tau

    def fn(p):
        return jnp.where(at_run_time(p, count) > 0, value, value)

    same = {"axes": {"tau_E": np.arange(1.0, 13.0)}, "store": tmp_path / "a.zarr"}
    with pytest.warns(RuntimeWarning) if np.isnan(value) else contextlib.nullcontext():
        rbn.sweep(fn, NET, **same, block_size=3)
    assert status(tmp_path / "a.zarr")["missing"] == []
    rbn.sweep(fn, NET, **same)
    assert len(calls) == 12


def test_a_second_call_touches_no_file(tmp_path):
    store = tmp_path / "a.zarr"
    rbn.sweep(weights, NET, AXES, store=store, block_size=9)
    before = {x: (x.stat().st_mtime_ns, x.stat().st_ino) for x in store.rglob("*")}
    rbn.sweep(weights, NET, AXES, store=store)
    assert before == {x: (x.stat().st_mtime_ns, x.stat().st_ino) for x in store.rglob("*")}


def test_a_changed_bit_is_found_by_its_checksum(tmp_path):
    found = rbn.sweep(weights, NET, AXES, store=tmp_path / "a.zarr", block_size=9)
    file = chunks(tmp_path / "a.zarr", "calculate_RBN_weights")[2]
    data = bytearray(file.read_bytes())
    data[7] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match="checksum"):
        found.load()


def test_an_empty_folder_is_taken_and_a_relative_one_found_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.zarr").mkdir()
    found = rbn.sweep(weights, NET, AXES, store="a.zarr", block_size=9)
    monkeypatch.chdir("/")
    xr.testing.assert_identical(found.load(), rbn.sweep(weights, NET, AXES, block_size=9))
    assert os.listdir(tmp_path) == ["a.zarr"]


def test_labels_of_samples_and_of_results_come_back_from_a_store(tmp_path):
    def fn(p):
        return xr.DataArray(p.tau_E * jnp.arange(3.0), dims="k", coords={"k": list("xyz")})

    coords = {"sample": ["a", "bb", "ccc"], "note": ("sample", [1, 2, 3])}
    axes = {"tau_E": xr.DataArray([1.0, 2.0, 3.0], dims="sample", coords=coords)}
    memory = rbn.sweep(fn, NET, axes, block_size=2)
    for _ in range(2):
        found = rbn.sweep(fn, NET, axes, store=tmp_path / "a.zarr", block_size=2)
        xr.testing.assert_identical(found.load(), memory)


def test_the_warning_points_at_the_caller(tmp_path):
    def fn(p):
        return jnp.where(p.tau_E > 9, jnp.nan, p.tau_E)

    for options in ({}, {"block_size": 3}, {"block_size": 3, "store": tmp_path / "a.zarr"}):
        with pytest.warns(RuntimeWarning) as caught:
            rbn.sweep(fn, NET, {"tau_E": np.arange(1.0, 13.0)}, **options)
        assert caught[0].filename == __file__


def test_both_figures_of_a_disk_that_is_too_small(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(9, 0, 1000))
    with pytest.raises(ValueError, match=r"takes 1.12e-06 GB, and 1e-06 GB are free.*reduce="):
        rbn.sweep(weights, NET, AXES, store=tmp_path / "a.zarr")
    assert os.listdir(tmp_path) == []


def test_a_refused_sweep_overwrites_nothing(tmp_path, monkeypatch):
    store = tmp_path / "a.zarr"
    rbn.sweep(weights, NET, {"gei": [1.0]}, store=store)
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(9, 0, 1000))
    with pytest.raises(ValueError, match="are free"):
        rbn.sweep(weights, NET, {"gei": np.linspace(1, 2, 9999)}, store=store, overwrite=True)
    assert status(store)["missing"] == []


def test_a_link_to_a_store_can_be_overwritten(tmp_path):
    store, link = tmp_path / "a.zarr", tmp_path / "link"
    rbn.sweep(weights, NET, AXES, store=store)
    link.symlink_to(store)
    found = rbn.sweep(weights, NET, {"gei": [1.0]}, store=link, overwrite=True)
    assert found.sizes["gei"] == 1
    assert sorted(os.listdir(tmp_path)) == ["a.zarr", "link"]


def test_a_store_overwritten_just_before_the_work_is_not_mixed_up(tmp_path, monkeypatch):
    """Another process may start anew between the look at a store and the lock on it."""
    store, locked = tmp_path / "a.zarr", folder.locked
    other = NET.replace(tau_syn_in=4.0)
    rbn.sweep(weights, NET, AXES, store=store, block_size=9, shard=(0, 2))

    def late(path, alone):
        monkeypatch.setattr(folder, "locked", locked)
        rbn.sweep(weights, other, AXES, store=path, block_size=9, shard=(0, 2), overwrite=True)
        return locked(path, alone)

    monkeypatch.setattr(folder, "locked", late)
    with pytest.raises(ValueError, match="holds another sweep: parameters tau_syn_in"):
        rbn.sweep(weights, NET, AXES, store=store)
    assert status(store)["missing"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"block_size": True, "store": "a.zarr"}, "block_size=True"),
        ({"block_size": "9"}, "block_size='9'"),
        ({"store": "file/a.zarr"}, "folder .*file does not exist"),
        ({"store": "."}, "holds no sweep"),
        ({"store": 3}, "store"),
        ({"shard": (False, True), "store": "a.zarr"}, "shard"),
        ({"shard": (0.0, 3), "store": "a.zarr"}, "shard"),
        ({"overwrite": "no", "store": "a.zarr"}, "overwrite"),
        ({"progress": 1}, "progress=1"),
        ({"client": object()}, "client is a object"),
    ],
)
def test_more_bad_input_stops_before_any_work(tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(ValueError, match=words):
        rbn.sweep(**{"fn": never, "params": NET, "axes": AXES, **options})
    assert os.listdir() == ["file"]
