"""Attempts to break stores and results by kind: each is mended, or refused by a plain error."""

import copy
import json
import random
import shutil
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from stored import AXES, NET, at_run_time, weights

import rbn_jax as rbn
from rbn_jax.sweeps.identity import IDENTITY_KEY, identity_attributes
from rbn_jax.sweeps.store import store_status

REDUCTIONS = ["minimum", "argmin", "mean"]


def sweep(store, reduce=None, **options):
    return rbn.sweep(
        weights, NET, AXES, store=store, reduce=reduce, block_size=9, progress=False, **options
    )


def truncate(file, rng):
    data = file.read_bytes()
    file.write_bytes(data[: rng.randrange(max(len(data), 1))])


def append(file, rng):
    file.write_bytes(file.read_bytes() + rng.randbytes(5))


def delete(file, rng):
    file.unlink()


def flip(file, rng):
    data = bytearray(file.read_bytes())
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)


def mend(store, reduce):
    """Return the result of the same call, or its error."""
    try:
        with warnings.catch_warnings():
            # it says which blocks were damaged
            warnings.simplefilter("ignore", RuntimeWarning)
            return sweep(store, reduce, verify=True).load()
    except ValueError as error:
        return error


@pytest.mark.parametrize("reduce", [None, REDUCTIONS], ids=["blocks", "reductions"])
@pytest.mark.parametrize("damage", [truncate, append, delete, flip])
def test_every_damaged_file_is_mended_or_named(tmp_path, reduce, damage):
    """The root metadata identify the sweep: damaged, they are refused, and nothing is touched."""
    rng = random.Random(f"{damage.__name__} {reduce}")
    intact, store = tmp_path / "intact.zarr", tmp_path / "a.zarr"
    expected = sweep(intact, reduce).load()
    for original in sorted(file for file in intact.rglob("*") if file.is_file()):
        for _ in range(1 if damage is delete else 3):
            shutil.rmtree(store, ignore_errors=True)
            shutil.copytree(intact, store)
            file = store / original.relative_to(intact)
            damage(file, rng)
            mended = mend(store, reduce)
            if isinstance(mended, ValueError):
                assert file == store / "zarr.json", file
                assert str(store) in str(mended)
                continue
            xr.testing.assert_identical(mended, expected)
            # what was mended stays so, without another look
            with xr.open_zarr(store) as stored:
                for name, variable in expected.variables.items():
                    np.testing.assert_array_equal(stored[name].values, variable.values)


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
        group = json.loads((store / "zarr.json").read_text())
        identity = json.loads(group["attributes"][IDENTITY_KEY])
        group["attributes"] |= identity_attributes({**identity, "version": "0.0.1"})
        (store / "zarr.json").write_text(json.dumps(group))
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
    group = json.loads((store / "zarr.json").read_text())
    identity = json.loads(group["attributes"][IDENTITY_KEY])
    axes = {"../victim": "", "..": "", "": "", str(victim): "", **identity["axes"]}
    group["attributes"] |= identity_attributes({**identity, "axes": axes})
    group["consolidated_metadata"]["metadata"] |= {"../victim": {}, str(victim): {}, "..": {}}
    (store / "zarr.json").write_text(json.dumps(group))
    sweep(store, overwrite=True)
    assert victim.exists()
    assert store_status(store)["missing"] == []


def changed(identity, **changes):
    return {**identity, **changes}


def without(identity, key):
    return {name: value for name, value in identity.items() if name != key}


def with_blocks(identity, **changes):
    return {**identity, "blocks": {**identity["blocks"], **changes}}


def variable(dims=(), shape=(), dtype="float32"):
    return {"dims": list(dims), "shape": list(shape), "dtype": dtype}


CRAFTED_IDENTITIES = {
    "no function": lambda x: without(x, "function"),
    "no blocks": lambda x: without(x, "blocks"),
    "no variables": lambda x: without(x, "variables"),
    "function of a number": lambda x: changed(x, function=3),
    "blocks of a list": lambda x: changed(x, blocks=[1]),
    "unknown part": lambda x: changed(x, other=1),
    "negative size": lambda x: with_blocks(x, sizes=[-7, 5, 2]),
    "size zero": lambda x: with_blocks(x, sizes=[0, 5, 2]),
    "size of text": lambda x: with_blocks(x, sizes=["7", 5, 2]),
    "size not whole": lambda x: with_blocks(x, sizes=[7.5, 5, 2]),
    "size true": lambda x: with_blocks(x, sizes=[True, 5, 2]),
    "one size": lambda x: with_blocks(x, sizes=[7]),
    "chunk zero": lambda x: with_blocks(x, chunk=[0, 1, 1]),
    "chunks not whole": lambda x: with_blocks(x, chunk=[7, 7, 7]),
    "task of no block": lambda x: with_blocks(x, task_length=0),
    "variable elsewhere": lambda x: changed(x, variables={"../x": variable()}),
    "variable without a name": lambda x: changed(x, variables={"": variable()}),
    "unknown dtype": lambda x: changed(x, variables={"x": variable(dtype="object")}),
    "shape of text": lambda x: changed(x, variables={"x": variable(dims=["a"], shape=["2"])}),
    "negative shape": lambda x: changed(x, variables={"x": variable(dims=["a"], shape=[-2])}),
    "variable of a list": lambda x: changed(x, variables={"x": [[], [], "float32"]}),
    "other labels": lambda x: changed(x, labels={}),
    "a pair of one": lambda x: changed(x, dimensions=[["tau_E"], ["gei"], ["tau_I"]]),
}

CRAFTED_TEXTS = {
    "empty": "",
    "no JSON": "{",
    "a list": "[]",
    "null": "null",
    "deep": "[" * 100_000,
    "bytes": b"\xff\xfe",
    "no attributes": '{"zarr_format": 3, "node_type": "group"}',
    "attributes of a list": '{"zarr_format": 3, "node_type": "group", "attributes": []}',
    "many digits": '{"attributes": ' + "9" * 5000 + "}",
}


@pytest.fixture(scope="module")
def small_store(tmp_path_factory):
    store = tmp_path_factory.mktemp("small") / "a.zarr"
    sweep(store)
    return store


def refused(store):
    for attempt in (store_status, sweep):
        with pytest.raises(ValueError, match=r"a\.zarr") as caught:
            attempt(store)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", CRAFTED_IDENTITIES)
def test_crafted_identities_are_refused(tmp_path, small_store, kind):
    store = tmp_path / "a.zarr"
    shutil.copytree(small_store, store)
    group = json.loads((store / "zarr.json").read_text())
    identity = json.loads(group["attributes"][IDENTITY_KEY])
    group["attributes"] |= identity_attributes(CRAFTED_IDENTITIES[kind](copy.deepcopy(identity)))
    (store / "zarr.json").write_text(json.dumps(group))
    refused(store)


@pytest.mark.parametrize("kind", CRAFTED_TEXTS)
def test_crafted_metadata_are_refused(tmp_path, small_store, kind):
    store = tmp_path / "a.zarr"
    shutil.copytree(small_store, store)
    text = CRAFTED_TEXTS[kind]
    (store / "zarr.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(store)


@pytest.mark.parametrize("change", [{"zarr_format": 99}, {"node_type": "array"}, {"new": 1}])
def test_another_format_of_the_group_is_refused(tmp_path, small_store, change):
    store = tmp_path / "a.zarr"
    shutil.copytree(small_store, store)
    group = json.loads((store / "zarr.json").read_text())
    (store / "zarr.json").write_text(json.dumps({**group, **change}))
    refused(store)


@pytest.mark.parametrize("reduce", [None, "minimum"])
def test_the_status_of_a_store_takes_the_time_of_its_files(tmp_path, reduce):
    """A store that claims 1e36 points answers at once."""
    store = tmp_path / "a.zarr"
    sweep(store, reduce)
    group = json.loads((store / "zarr.json").read_text())
    identity = json.loads(group["attributes"][IDENTITY_KEY])
    sizes = [10**12] * 3
    group["attributes"] |= identity_attributes(with_blocks(identity, sizes=sizes))
    (store / "zarr.json").write_text(json.dumps(group))
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


@pytest.fixture(scope="module")
def fit_text():
    def line(p):
        return p["a"] * jnp.arange(4.0) + p["b"]

    target = np.array([0.0, 1.0, 2.1, 2.9])
    free = {"a": (None, None), "b": (None, None)}
    return rbn.fit(line, {"a": 1.0, "b": 0.0}, target, free, n_starts=2).to_json()


CRAFTED_RESULTS = {
    "empty": lambda x: "",
    "no JSON": lambda x: "{",
    "a list": lambda x: [],
    "a number": lambda x: 3,
    "null": lambda x: None,
    "nothing": lambda x: {},
    "deep": lambda x: "[" * 100_000,
    "no values": lambda x: without(x, "values"),
    "no function": lambda x: without(x, "function"),
    "unknown part": lambda x: changed(x, other=1),
    "values of a list": lambda x: changed(x, values=[1.0]),
    "values of text": lambda x: changed(x, values={"a": "one", "b": 1.0}),
    "a value missing": lambda x: changed(x, values={"a": 1.0}),
    "names of numbers": lambda x: changed(x, names=[1, 2]),
    "other names": lambda x: changed(x, names=["a", "c"]),
    "covariance of another shape": lambda x: changed(x, covariance=[[1.0]]),
    "ragged covariance": lambda x: changed(x, covariance=[[1.0], [1.0, 2.0]]),
    "covariance of text": lambda x: changed(x, covariance="no"),
    "status of a number": lambda x: changed(x, status=1),
    "optima of text": lambda x: changed(x, optima="no"),
    "optimum lacks its cost": lambda x: changed(x, optima=[{"values": {}, "starts": 1}]),
    "unknown class": lambda x: changed(x, params_class="os.system"),
    "class elsewhere": lambda x: changed(x, params_class="rbn_jax.cli.app.StoppedError"),
    "numbers of text": lambda x: changed(x, n_data="four"),
}


@pytest.mark.parametrize("kind", CRAFTED_RESULTS)
def test_crafted_results_of_fits_are_refused(fit_text, kind):
    crafted = CRAFTED_RESULTS[kind](json.loads(fit_text))
    text = crafted if isinstance(crafted, str) else json.dumps(crafted)
    with pytest.raises(ValueError, match=r"must be what FitResult\.to_json wrote"):
        rbn.FitResult.from_json(text)


def test_a_result_of_a_fit_is_restored(fit_text):
    restored = rbn.FitResult.from_json(fit_text)
    assert restored.to_json() == fit_text


def test_fixed_parameters_that_are_not_finite_are_restored():
    start = {"a": 1.0, "b": np.nan, "c": [1.0, np.inf]}
    result = rbn.fit(lambda p: p["a"] * jnp.ones(3), start, np.ones(3), {"a": (0, 2)}, n_starts=1)
    restored = rbn.FitResult.from_json(result.to_json())
    assert np.isnan(restored.params["b"])
    assert np.isinf(restored.params["c"][1])
