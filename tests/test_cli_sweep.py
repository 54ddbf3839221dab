"""`rbn-jax sweep` of any size: stores, shards, reductions, conditions, clusters, derivatives."""

import json
import os
import re
import warnings

import numpy as np
import pytest
import xarray as xr

import rbn_jax as rbn
from rbn_jax.cli import run
from rbn_jax.cli.conditions import read_condition

NET = rbn.NetworkParams()
WEIGHTS = rbn.calculate_RBN_weights
GRID = ["--axis", "tau_E=5:40:7", "--axis", "gei=0.5:2:6"]
AXES = {"tau_E": np.linspace(5, 40, 7), "gei": np.linspace(0.5, 2, 6)}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answer(capsys, *words):
    assert run(["sweep", *words]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def whole(fn=WEIGHTS, **options):
    return rbn.sweep(fn, NET, AXES, dtype="float64", **options)


def test_shards_fill_a_store_that_says_what_is_missing(capsys):
    words = [*GRID, "--store", "a.zarr", "--block-size", "6"]
    text = answer(capsys, *words, "--shard", "1/2")
    assert "3 of 7 blocks done" in text
    assert "missing blocks: 0, 2, 4, 6" in text
    state = json.loads(answer(capsys, "--status", "a.zarr", "--json"))
    assert (state["done"], state["points_done"], state["missing"]) == (3, 18, [0, 2, 4, 6])
    assert "7 of 7 blocks done" in answer(capsys, *words[:-2])
    found = xr.open_zarr("a.zarr").load()
    xr.testing.assert_allclose(found, whole(), rtol=1e-14)


def test_another_sweep_in_the_store_is_one_line_until_overwritten(capsys):
    answer(capsys, *GRID, "--store", "a.zarr")
    assert run(["sweep", *GRID, "--store", "a.zarr", "--set", "gii=2"]) == 2
    assert re.search("parameters gii: 1.0 in the store, 2.0 here", capsys.readouterr().err)
    answer(capsys, *GRID, "--store", "a.zarr", "--set", "gii=2", "--overwrite")


@pytest.mark.parametrize("options", [[], ["--store", "a.zarr", "--block-size", "5"]])
def test_reductions_of_every_kind(capsys, options):
    specs = ["minimum", "mean", "argmax", "histogram:-100:100:5", "fraction:EI<-30&EE>=10"]
    words = [word for spec in [*specs, "examples:2:EI<-30"] for word in ("--reduce", spec)]
    answer(capsys, *GRID, *words, *options)
    found = xr.open_zarr("a.zarr").load() if options else xr.load_dataset("sweep.nc")
    js = whole()["calculate_RBN_weights"]
    np.testing.assert_allclose(found["calculate_RBN_weights_minimum"], js.min(AXES), rtol=1e-14)
    np.testing.assert_allclose(found["calculate_RBN_weights_mean"], js.mean(AXES), rtol=1e-14)
    assert found["calculate_RBN_weights_histogram"].dims == ("target", "source", "bin")
    hit = (js.sel(target="E", source="I") < -30) & (js.sel(target="E", source="E") >= 10)
    assert 0 < hit.mean() < 1
    assert found["EI_below_-30_and_EE_at_least_10_fraction"] == hit.mean()
    first = np.argwhere((js.sel(target="E", source="I") < -30).values)[:2]
    np.testing.assert_array_equal(
        found["EI_below_-30_examples_gei"], AXES["gei"][first[:, 1]], strict=False
    )


def test_reductions_over_one_dimension(capsys):
    text = answer(capsys, *GRID, "--reduce", "maximum", "--reduce", "count", "--over", "gei")
    found = xr.load_dataset("sweep.nc")
    assert found["calculate_RBN_weights_maximum"].dims == ("tau_E", "target", "source")
    assert (found["calculate_RBN_weights_count"] == 6).all()
    assert "wrote sweep.nc" in text


@pytest.mark.parametrize("quantity", ["jacobian", "elasticity"])
def test_derivatives_are_swept_and_reduced(capsys, quantity):
    own = getattr(rbn, quantity)
    expected = whole(lambda p: own(WEIGHTS, p, ["tau_E", "gei"]))["calculate_RBN_weights"]
    answer(capsys, *GRID, "--quantity", quantity)
    np.testing.assert_allclose(
        xr.load_dataset("sweep.nc")["calculate_RBN_weights"], expected, rtol=1e-13, atol=1e-13
    )
    words = ["--quantity", quantity, "--wrt", "tau_E", "--reduce", "fraction:EI/tau_E<0.1"]
    answer(capsys, *GRID, *words)
    hit = expected.sel(target="E", source="I", parameter="tau_E") < 0.1
    assert xr.load_dataset("sweep.nc")["EI_per_tau_E_below_0.1_fraction"] == hit.mean()


def test_samples_are_streamed(capsys):
    words = ["--axis", "tau_E=5:40", "--axis", "tau_I=5:40:log", "--sample", "sobol:64:3"]
    answer(capsys, *words, "--store", "a.zarr", "--block-size", "10")
    found = xr.open_zarr("a.zarr")
    drawn = rbn.sample("sobol", {"tau_E": (5, 40), "tau_I": (5, 40, "log")}, 64, seed=3)
    expected = rbn.sweep(WEIGHTS, NET, drawn, dtype="float64")
    xr.testing.assert_allclose(found.load(), expected, rtol=1e-14)


def test_warnings_are_one_line_each(capsys):
    words = ["--axis", "tau_E=5:40", "--sample", "sobol:100", "--store", "a.zarr"]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert run(["sweep", *words]) == 0
    said = capsys.readouterr().err
    assert said.startswith("rbn-jax: warning: 100 points of a Sobol sequence are not balanced")
    assert said.count("\n") == 1


def test_of_many_runs_of_missing_blocks_the_first_are_listed(capsys):
    words = [*GRID, "--store", "a.zarr", "--block-size", "1"]
    answer(capsys, *words, "--shard", "0/2")
    text = answer(capsys, "--status", "a.zarr")
    assert text.rstrip().endswith("21, 23, and 9 more runs (--json has all)"), text
    assert json.loads(answer(capsys, "--status", "a.zarr", "--json"))["missing"][-1] == 41


def test_a_cluster_has_as_many_workers_as_asked(capsys, monkeypatch):
    distributed = pytest.importorskip("distributed")
    seen = []
    own = distributed.LocalCluster

    def threads_only(**options):
        cluster = own(**options, processes=False)
        seen.append(len(cluster.worker_spec))
        return cluster

    monkeypatch.setattr(distributed, "LocalCluster", threads_only)
    answer(capsys, *GRID, "--store", "a.zarr", "--block-size", "6", "--workers", "3")
    assert seen == [3]
    assert "PJRT_NPROC" not in os.environ  # of this process, where they ran
    xr.testing.assert_allclose(xr.open_zarr("a.zarr").load(), whole(), rtol=1e-14)


def test_a_condition_is_false_for_nan_and_compares_either_way():
    entries = {"EE": 2.0, "EI": float("nan"), "IE": -1.0, "II": 0.0}
    js = np.array([*entries.values()]).reshape(2, 2)
    for text, expected in [
        ("EE>1", True),
        ("EE<=2", True),
        ("EE<2", False),
        ("EI<0", False),
        ("EI>=0", False),
        ("II>=0 & IE<-0.5", True),
        ("II>=0&IE<-1", False),
    ]:
        assert read_condition(text, WEIGHTS)(js) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--shard 1/2", "--shard is for large sweeps: give --store"),
        ("--workers 2", "--workers is for large sweeps"),
        ("--block-size 7", "--block-size is for large sweeps"),
        ("--overwrite", "--overwrite is for large sweeps"),
        ("--store a.zarr --shard 2/2", "shard"),
        ("--store a.zarr --shard one", "--shard one: must be i/n"),
        ("--store a.zarr --block-size 0", "block_size=0"),
        ("--store a.zarr --workers 0", "--workers 0"),
        ("--store a.zarr --workers 1 --scheduler tcp://x", "must be one of them"),
        ("--over gei", "--over gei: is for --reduce"),
        ("--reduce median", "unknown reduction 'median'.*minimum"),
        ("--reduce minimum --over tau_I", "no dimension 'tau_I'"),
        ("--reduce minimum:3", "--reduce minimum:3: minimum takes nothing after a colon"),
        ("--reduce histogram:1:2", "--reduce histogram:1:2: must be start:stop:num"),
        ("--reduce fraction", "fraction: '' is no condition"),
        ("--reduce fraction:EI", "'EI' is no condition: must be an entry, <, <=, > or >="),
        ("--reduce fraction:EI<x", "'EI<x' is no condition"),
        ("--reduce fraction:EX<3", "unknown entry of the result 'EX'; valid names: EE, EI"),
        ("--reduce examples:none:EI<3", "'none' is no whole number of examples"),
        ("--reduce examples:0:EI<3", "k=0: must be a whole number >= 1"),
        ("--quantity rate", "unknown quantity 'rate'.*weights"),
        ("--status none.zarr", "none.zarr is missing"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_file(capsys, folder, words, message):
    assert run(["sweep", *GRID, *words.split()]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert re.search(message, err)
    assert list(folder.iterdir()) == []
