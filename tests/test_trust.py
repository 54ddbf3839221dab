"""Attempts to break stores and results by kind: each is mended, or refused by a plain error."""

import random

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from attempts import (
    KINDS,
    find_faults,
    fit_text,
    flip,
    read_identity,
    sweep,
    with_blocks,
    with_identity,
)
from stored import AXES, NET, at_run_time, weights

import rbn_jax as rbn
from rbn_jax.sweeps.store import store_status

# Interrupts take ten minutes: test_survival.py has some. Of the kinds that take a minute or more,
# these are some attempts: `python tests/attempts.py` makes all of them.
SOME = {"damage": 60, "surroundings": 8}


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"interrupts"}))
def test_no_attempt_is_a_fault(tmp_path, kind):
    rng = random.Random(f"{kind} 2026")
    attempts = list(KINDS[kind](tmp_path, rng))
    assert len(attempts) >= 24
    if kind in SOME:
        attempts = rng.sample(attempts, SOME[kind])
    count, faults = find_faults(attempts)
    assert count == len(attempts)
    assert not faults


def test_a_warning_names_the_blocks_that_were_damaged(tmp_path):
    store = tmp_path / "a.zarr"
    expected = sweep(store).load()
    file = sorted((store / "calculate_RBN_weights" / "c").rglob("*"))[-1]
    flip(file, random.Random(0))
    with pytest.raises(ValueError, match="checksum"):
        sweep(store).load()
    with pytest.warns(RuntimeWarning, match=r"1 of \d+ blocks were damaged.*first block \d+ of"):
        mended = sweep(store, verify=True).load()
    xr.testing.assert_identical(mended, expected)


def test_blocks_of_a_killed_process_are_verified(tmp_path):
    store = tmp_path / "a.zarr"
    sweep(store)
    # what a process leaves that was killed before it wrote all blocks
    (store / ".rbn-jax-running-0").touch()
    for file in (store / "calculate_RBN_weights" / "c").rglob("*"):
        if file.is_file():
            flip(file, random.Random(1))
    with pytest.warns(RuntimeWarning, match="were damaged and are computed again"):
        sweep(store)
    assert not list(store.glob(".rbn-jax-*"))
    xr.testing.assert_identical(sweep(store).load(), sweep(tmp_path / "b.zarr").load())


@pytest.mark.parametrize("reduce", [None, "mean"])
@pytest.mark.parametrize("which", ["calls Python", "another JAX"])
def test_a_changed_function_is_found_by_one_block(tmp_path, reduce, which):
    store, factor = tmp_path / "a.zarr", 1.0

    def fn(p):
        if which == "another JAX":
            return factor * p.tau_E
        return at_run_time(p, lambda tau: (factor * tau).astype(tau.dtype))

    arguments = {"store": store, "reduce": reduce, "block_size": 3}
    axes = {"tau_E": np.arange(1.0, 41.0)}
    rbn.sweep(fn, NET, axes, **arguments)
    if which == "another JAX":
        group, identity = read_identity(store)
        (store / "zarr.json").write_text(with_identity(group, {**identity, "version": "0.0.1"}))
    rbn.sweep(fn, NET, axes, **arguments)
    factor = 1.01

    def fn(p):
        if which == "another JAX":
            return factor * p.tau_E
        return at_run_time(p, lambda tau: (factor * tau).astype(tau.dtype))

    with pytest.raises(ValueError, match=r"fn in block 0 of .* was not computed by this version"):
        rbn.sweep(fn, NET, axes, **arguments)


def test_overwrite_leaves_files_that_are_not_of_the_sweep(tmp_path):
    store = tmp_path / "a.zarr"
    for reduce, other in ((None, "minimum"), ("minimum", None)):
        sweep(store, reduce, overwrite=store.exists())
        (store / "notes.txt").write_text("mine")
        (store / "figures").mkdir(exist_ok=True)
        (store / "figures" / "1.png").touch()
        overwritten = sweep(store, other, overwrite=True)
        xr.testing.assert_identical(overwritten.load(), sweep(tmp_path / f"{other}", other).load())
        assert (store / "notes.txt").read_text() == "mine"
        assert (store / "figures" / "1.png").exists()


def test_overwrite_deletes_nothing_outside_of_the_store(tmp_path):
    """Whatever names the metadata hold."""
    store, victim = tmp_path / "a.zarr", tmp_path / "victim"
    victim.mkdir()
    sweep(store)
    group, identity = read_identity(store)
    axes = {"../victim": "", "..": "", "": "", str(victim): "", **identity["axes"]}
    group["consolidated_metadata"]["metadata"] |= {"../victim": {}, str(victim): {}, "..": {}}
    (store / "zarr.json").write_text(with_identity(group, {**identity, "axes": axes}))
    sweep(store, overwrite=True)
    assert victim.exists()
    assert store_status(store)["missing"] == []


@pytest.mark.parametrize("reduce", [None, "minimum"])
def test_the_status_of_a_store_takes_the_time_of_its_files(tmp_path, reduce):
    """A store that claims 1e36 points answers at once."""
    store = tmp_path / "a.zarr"
    sweep(store, reduce)
    group, identity = read_identity(store)
    sizes = [10**12] * 3
    identity = with_blocks(identity, sizes=sizes)
    (store / "zarr.json").write_text(with_identity(group, identity))
    status = store_status(store)
    assert status["points"] == 10**36
    assert status["points_done"] < 1000
    assert len(status["missing"]) == 100_000


def test_points_of_tasks_are_counted_without_a_loop_over_blocks(tmp_path):
    sizes = {"tau_E": np.linspace(5, 40, 7), "gei": np.linspace(1, 2, 5)}
    rbn.sweep(weights, NET, sizes, store=tmp_path / "a", reduce="mean", block_size=2, shard=(0, 2))
    status = store_status(tmp_path / "a")
    rbn.sweep(weights, NET, sizes, store=tmp_path / "a", reduce="mean", block_size=2)
    assert 0 < status["points_done"] < 35
    assert store_status(tmp_path / "a")["points_done"] == 35


def test_an_empty_name_of_a_store_is_refused():
    with pytest.raises(ValueError, match="store is ''"):
        rbn.sweep(weights, NET, AXES, store="")


def test_a_result_of_a_fit_is_restored():
    text = fit_text()
    restored = rbn.FitResult.from_json(text)
    assert restored.to_json() == text


def test_fixed_parameters_that_are_not_finite_are_restored():
    start = {"a": 1.0, "b": np.nan, "c": [1.0, np.inf]}
    result = rbn.fit(lambda p: p["a"] * jnp.ones(3), start, np.ones(3), {"a": (0, 2)}, n_starts=1)
    restored = rbn.FitResult.from_json(result.to_json())
    assert np.isnan(restored.params["b"])
    assert np.isinf(restored.params["c"][1])
