"""Streamed sweeps: what is refused or overwritten, and that nothing else is touched."""

import json
import os
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from stored import AXES, NET, never, weights

import rbn_jax as rbn
from rbn_jax.sweeps import store as store_module
from rbn_jax.sweeps.identity import IDENTITY_KEY, identity_attributes
from rbn_jax.sweeps.store import store_status


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fn": lambda p: 2 * weights(p)}, "function: .*calculate_RBN_weights.*result"),
        ({"axes": {**AXES, "gei": [1.0, 2.0]}}, "axes gei: .*5 values from 1 to 2.*2 values"),
        ({"params": NET.replace(tau_syn_in=4.0)}, "parameters tau_syn_in: 5.0 .*4.0 here"),
        ({"dtype": "float64"}, "dtype: .*float32.*float64"),
        ({"block_size": 20}, "blocks of 9? ?.*points: leave block_size out"),
        ({"reduce": "minimum"}, "reduce: null in the store"),
    ],
)
def test_a_store_of_another_sweep_is_refused_unless_overwrite(tmp_path, change, message):
    arguments = {"fn": weights, "params": NET, "axes": AXES, "store": tmp_path / "a.zarr"}
    rbn.sweep(**arguments, block_size=9)
    with pytest.raises(ValueError, match=message):
        rbn.sweep(**{**arguments, **change})
    rbn.sweep(**{**arguments, **change}, overwrite=True)
    assert os.listdir(tmp_path) == ["a.zarr"]


def test_a_different_function_of_the_same_name_is_refused(tmp_path):
    def fn(p):
        return p.tau_E

    store, axes = tmp_path / "a.zarr", {"tau_E": [1.0, 2.0]}
    rbn.sweep(fn, NET, axes, store=store)

    def fn(p):
        return p.tau_E + 1.0

    with pytest.raises(ValueError, match="the store was made by a different version of fn"):
        rbn.sweep(fn, NET, axes, store=store)


def test_axes_that_differ_only_between_their_ends_are_refused(tmp_path):
    store, axes = tmp_path / "a.zarr", {"gei": [1.0, 1.5, 2.0]}
    rbn.sweep(weights, NET, axes, store=store)
    with pytest.raises(
        ValueError, match=r"axes gei: \"3 values from 1 to 2 .*3 values from 1 to 2"
    ):
        rbn.sweep(weights, NET, {"gei": [1.0, 1.6, 2.0]}, store=store)
    np.testing.assert_array_equal(rbn.sweep(weights, NET, axes, store=store)["gei"], axes["gei"])


def change_identity(store, **changes):
    """Change the record of the sweep that a store is of, as if another program had made it."""
    file = store / "zarr.json"
    metadata = json.loads(file.read_text())
    identity = json.loads(metadata["attributes"][IDENTITY_KEY])
    assert identity.keys() >= changes.keys()
    metadata["attributes"] |= identity_attributes({**identity, **changes})
    file.write_text(json.dumps(metadata))


def test_a_store_is_resumed_after_an_upgrade_of_jax(tmp_path):
    """Another version of JAX may lower the same function to another program."""
    store = tmp_path / "a.zarr"
    rbn.sweep(weights, NET, AXES, store=store, block_size=9, shard=(0, 2))
    change_identity(store, version="0.0.1", program="of another version")
    assert store_status(store)["missing"]
    rbn.sweep(weights, NET, AXES, store=store)
    assert store_status(store)["missing"] == []


def test_another_program_of_the_same_jax_is_refused(tmp_path):
    store = tmp_path / "a.zarr"
    rbn.sweep(weights, NET, AXES, store=store, block_size=9, shard=(0, 2))
    change_identity(store, program="of another function")
    missing = store_status(store)["missing"]
    with pytest.raises(ValueError, match="different version of calculate_RBN_weights"):
        rbn.sweep(weights, NET, AXES, store=store)
    assert store_status(store)["missing"] == missing


def test_another_format_is_refused(tmp_path):
    store = tmp_path / "a.zarr"
    rbn.sweep(weights, NET, AXES, store=store)
    meta = store / "zarr.json"
    meta.write_text(meta.read_text().replace(IDENTITY_KEY, "rbn_jax_sweep"))
    with pytest.raises(ValueError, match="must be a store that this version of sweep has made"):
        rbn.sweep(weights, NET, AXES, store=store)


def test_a_directory_without_a_sweep_is_never_deleted(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="holds no sweep"):
            rbn.sweep(weights, NET, AXES, store=tmp_path, overwrite=overwrite)
    assert (tmp_path / "thesis.tex").exists()


HUGE = {name: np.linspace(5, 40, 1000) for name in ("tau_E", "tau_I", "tau_syn_ex", "tau_syn_in")}
HUGE |= {name: np.linspace(1, 2, 1000) for name in ("gei", "gie", "gii", "C_m", "s")}


@pytest.mark.parametrize(
    ("options", "message"),
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
def test_bad_input_stops_before_any_work(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(ValueError, match=message):
        rbn.sweep(**{"fn": never, "params": NET, "axes": AXES, **options})
    assert os.listdir() == ["file"]


def test_the_warning_points_at_the_caller(tmp_path):
    def fn(p):
        return jnp.where(p.tau_E > 9, jnp.nan, p.tau_E)

    for options in ({}, {"block_size": 3}, {"block_size": 3, "store": tmp_path / "a.zarr"}):
        with pytest.warns(RuntimeWarning) as caught:
            rbn.sweep(fn, NET, {"tau_E": np.arange(1.0, 13.0)}, **options)
        assert caught[0].filename == __file__


def test_an_error_says_what_is_needed_and_free_on_a_small_disk(tmp_path, monkeypatch):
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
    assert store_status(store)["missing"] == []


def test_a_link_to_a_store_can_be_overwritten(tmp_path):
    store, link = tmp_path / "a.zarr", tmp_path / "link"
    rbn.sweep(weights, NET, AXES, store=store)
    link.symlink_to(store)
    stored = rbn.sweep(weights, NET, {"gei": [1.0]}, store=link, overwrite=True)
    assert stored.sizes["gei"] == 1
    assert sorted(os.listdir(tmp_path)) == ["a.zarr", "link"]


def test_a_store_overwritten_before_it_is_locked_is_refused(tmp_path, monkeypatch):
    """Another process may start anew between the look at a store and the lock on it."""
    store, locked = tmp_path / "a.zarr", store_module.lock_directory
    other = NET.replace(tau_syn_in=4.0)
    rbn.sweep(weights, NET, AXES, store=store, block_size=9, shard=(0, 2))

    def late(path, exclusive):
        monkeypatch.setattr(store_module, "lock_directory", locked)
        rbn.sweep(weights, other, AXES, store=path, block_size=9, shard=(0, 2), overwrite=True)
        return locked(path, exclusive)

    monkeypatch.setattr(store_module, "lock_directory", late)
    with pytest.raises(ValueError, match="holds another sweep: parameters tau_syn_in"):
        rbn.sweep(weights, NET, AXES, store=store)
    assert store_status(store)["missing"]


@pytest.mark.parametrize(
    ("options", "message"),
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
def test_more_bad_input_stops_before_any_work(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(ValueError, match=message):
        rbn.sweep(**{"fn": never, "params": NET, "axes": AXES, **options})
    assert os.listdir() == ["file"]


def test_nan_among_the_fixed_numbers_equals_itself(tmp_path):
    def fn(p):
        return p["a"]

    params, axes = {"a": 1.0, "b": np.nan}, {"a": [1.0, 2.0]}
    for _ in range(2):
        stored = rbn.sweep(fn, params, axes, store=tmp_path / "a.zarr")
    np.testing.assert_array_equal(stored["fn"], [1, 2])


def test_a_name_that_zarr_cannot_hold_is_refused(tmp_path):
    with pytest.raises(ValueError, match="a result is called 'x/y': Zarr takes no '/'"):
        rbn.sweep(lambda p: {"x/y": p.tau_E}, NET, AXES, store=tmp_path / "a.zarr")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("address", ["s3://bucket/w.zarr", "memory://w.zarr"])
def test_an_address_that_is_no_folder_is_refused(address):
    with pytest.raises(ValueError, match=f"store {address}: must be a folder of a file system"):
        rbn.sweep(weights, NET, AXES, store=address)


def test_a_directory_that_was_replaced_is_not_locked(tmp_path, monkeypatch):
    """Another process may delete and create a store between the opening and the lock."""
    store, old = tmp_path / "a.zarr", tmp_path / "old"
    store.mkdir()
    opened = os.open

    def replace_first(path, flags):
        number = opened(path, flags)
        os.rename(store, old)
        store.mkdir()
        return number

    monkeypatch.setattr(os, "open", replace_first)
    lock = store_module.lock_directory(store, exclusive=False)
    with pytest.raises(ValueError, match="has replaced it"):
        lock.__enter__()
