"""Sweeps on several devices and on the workers of a cluster: the same numbers, said as clearly."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import xarray as xr

import rbn_jax as rbn
from rbn_jax.sweeps.store import store_status

SETUP = """
import os, signal, sys, threading, time
from pathlib import Path
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
import rbn_jax as rbn
from rbn_jax.sweeps.axes import read_axes
from rbn_jax.sweeps.blocks import Blocks
from rbn_jax.sweeps.evaluator import TracedEvaluator, TracedFunction
from rbn_jax.sweeps.store import store_status

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
here = Path(sys.argv[1])
net, weights = rbn.NetworkParams(), rbn.calculate_RBN_weights
# no size is a multiple of 8
AXES = {"tau_E": np.linspace(5, 40, 13), "gei": np.linspace(1, 2, 5), "tau_I": [10.0, 20.0, 30.0]}

def product(p):  # of powers of two and small whole numbers: exact however it is compiled
    return 2.0 * p.tau_E
"""
AXES = {"tau_E": np.linspace(5, 40, 13), "gei": np.linspace(1, 2, 5), "tau_I": [10.0, 20.0, 30.0]}
EIGHT = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
NET = rbn.NetworkParams()
weights = rbn.calculate_RBN_weights


def product(p):
    return 2.0 * p.tau_E


def run(folder, body, **environment):
    """A Python process that runs SETUP and the body to its end."""
    script = folder / "script.py"
    script.write_text(SETUP + textwrap.dedent(body))
    command = [sys.executable, str(script), str(folder)]
    environment = {**os.environ, **environment}
    process = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert process.returncode == 0, process.stderr
    return process.stderr


def assert_same_to_the_last_bits(swept, one):
    """Other shapes are compiled to other vector loops, which round differently."""
    assert swept.sizes == one.sizes
    for name, x in one.variables.items():
        if x.dtype.kind == "f":
            np.testing.assert_array_max_ulp(swept[name].values, x.values, maxulp=4)
        else:
            np.testing.assert_array_equal(swept[name].values, x.values)


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """The folder in which a process with eight devices has swept."""
    folder = tmp_path_factory.mktemp("eight")
    body = """
        for dtype in ("float32", "float64"):
            memory = rbn.sweep(weights, net, AXES, dtype=dtype)
            memory.to_netcdf(here / f"{dtype}.nc", engine="netcdf4")
            rbn.sweep(weights, net, AXES, dtype=dtype, store=here / dtype, block_size=17)
        rbn.sweep(weights, net, AXES, store=here / "shared", block_size=17, shard=(0, 2))
        rbn.sweep(product, net, {"tau_E": np.arange(1.0, 14)}).to_netcdf(
            here / "exact.nc", engine="netcdf4"
        )

        def evaluate(axes):
            function = TracedFunction(weights, net, read_axes(net, axes))
            sizes = function.axes.sizes
            return TracedEvaluator(function, Blocks(sizes, sizes, sizes)).evaluate(0)

        for axes in (AXES, {"tau_E": np.linspace(5, 40, 13)}, {"gei": [1.0, 1.5, 2.0]}):
            variables, _ = evaluate(axes)
            data = variables[weights.__name__].data
            assert len(data.sharding.device_set) == 8, data.sharding
            parts = {x.device.id: x.data.nbytes for x in data.addressable_shards}
            assert len(parts) == 8 and sum(parts.values()) == data.nbytes, parts
        assert rbn.sweep(weights, net, {})[weights.__name__].shape == (2, 2)

        # what fills a block up to eight equal parts is counted in no reduction
        axes = {"tau_E": np.arange(1.0, 14), "gei": np.arange(1.0, 4)}
        swept = rbn.sweep(product, net, axes, reduce=["count", "mean", "maximum", "argmax"])
        assert swept["product_count"] == 39
        assert swept["product_mean"] == 14
        assert (swept["product_maximum"], swept["product_argmax_tau_E"]) == (26, 13)
        threes = rbn.sweep(lambda p: p.tau_E > 12, net, axes, block_size=3)["result"]
        assert threes.sum() == 3

        with jax.default_device(jax.devices()[3]):
            assert evaluate(AXES)[0][weights.__name__].data.devices() == {jax.devices()[3]}
            rbn.sweep(weights, net, AXES, store=here / "third", block_size=17)
    """
    run(folder, body, **EIGHT)
    return folder


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_eight_devices_give_the_result_of_one(eight, dtype):
    one = rbn.sweep(weights, NET, AXES, dtype=dtype)
    with xr.open_dataset(eight / f"{dtype}.nc", engine="netcdf4") as memory:
        assert_same_to_the_last_bits(memory, one)
    with xr.open_zarr(eight / dtype) as streamed:
        assert_same_to_the_last_bits(streamed, one)


def test_eight_devices_are_exact_where_no_value_is_rounded(eight):
    with xr.open_dataset(eight / "exact.nc", engine="netcdf4") as memory:
        np.testing.assert_array_equal(memory["product"], 2 * np.arange(1.0, 14))


def test_one_device_resumes_the_store_of_eight(eight):
    store = eight / "shared"
    assert store_status(store)["missing"]
    swept = rbn.sweep(weights, NET, AXES, store=store)
    assert store_status(store)["missing"] == []
    assert_same_to_the_last_bits(swept, rbn.sweep(weights, NET, AXES))


def test_the_default_device_of_jax_is_used(eight):
    with xr.open_zarr(eight / "third") as swept:
        one = rbn.sweep(weights, NET, AXES, block_size=17)
        np.testing.assert_array_equal(swept[weights.__name__], one[weights.__name__])


def on_cluster(folder, body, workers=2, threads=1):
    cluster = f"""
if __name__ == "__main__":
    import logging
    import distributed
    logging.disable(logging.CRITICAL)
    with distributed.LocalCluster(
        n_workers={workers}, threads_per_worker={threads}, processes=True,
        dashboard_address=None, silence_logs=logging.CRITICAL,
    ) as cluster, distributed.Client(cluster) as client:
"""
    return run(folder, cluster + textwrap.indent(textwrap.dedent(body), " " * 8))


def test_a_cluster_gives_the_same_result_and_reports_failures(tmp_path):
    """Also what a lambda, 64 bits, NaN, shards and a failing block do on workers."""
    body = """
        import warnings
        traces = here / "traces"
        def note():
            with traces.open("a") as file:
                file.write(f"{os.getpid()} ")
        fn = lambda p: (note(), weights(p))[1]
        for i, options in enumerate([{}, {"dtype": "float64"}]):
            options["block_size"] = 17
            alone = rbn.sweep(fn, net, AXES, store=here / f"alone{i}", **options).load()
            traces.write_text("")
            store = here / f"there{i}"
            there = rbn.sweep(fn, net, AXES, store=store, client=client, **options).load()
            pids = traces.read_text().split()
            workers = set(pids) - {str(os.getpid())}
            assert workers <= set(map(str, client.run(os.getpid).values())) and workers
            assert all(pids.count(pid) == 1 for pid in workers), pids
            assert there.identical(alone)
            assert rbn.sweep(fn, net, AXES, client=client, **options).identical(alone)
            kept = rbn.sweep(fn, net, AXES, reduce="mean", client=client, **options)
            assert kept.identical(rbn.sweep(fn, net, AXES, reduce="mean", **options))

        options = {"store": here / "shards", "block_size": 17, "client": client}
        for i in range(2):
            rbn.sweep(fn, net, AXES, shard=(i, 2), **options)
        assert store_status(here / "shards")["missing"] == []

        axes = {"tau_E": np.arange(1.0, 41)}
        def bad(p):
            return jnp.where(p.tau_E > 30, jnp.nan, p.tau_E)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            rbn.sweep(bad, net, axes, block_size=10, client=client)
        caught = [str(x.message) for x in caught if x.category is RuntimeWarning]
        assert caught == [
            "bad is NaN in 1 of 4 blocks, first in block 3 of 4 (tau_E 31 to 40 ms)"
        ], caught

        def fails(p):
            def call(tau):
                if tau > 30:
                    raise ArithmeticError("no convergence")
                return tau
            like = jax.ShapeDtypeStruct((), p.tau_E.dtype)
            return jax.pure_callback(call, like, p.tau_E, vmap_method="sequential")
        store = here / "fails"
        try:
            rbn.sweep(fails, net, axes, block_size=10, store=store, client=client)
        except RuntimeError as error:
            assert "block 3 of 4 (tau_E 31 to 40 ms)" in str(error), error
        else:
            raise AssertionError("it did not fail")
        assert 3 in store_status(store)["missing"]
    """
    on_cluster(tmp_path, body)


def test_no_worker_writes_after_a_sweep_has_failed(tmp_path):
    """The store is unlocked then: another process may start anew in it."""
    body = """
        def fn(p):
            def call(tau):
                if tau == 1:
                    for _ in range(1000):
                        if begun.exists():
                            raise ArithmeticError("no convergence")
                        time.sleep(0.01)
                begun.touch()
                time.sleep(1)
                return tau
            like = jax.ShapeDtypeStruct((), p.tau_E.dtype)
            return jax.pure_callback(call, like, p.tau_E, vmap_method="sequential")
        axes, store, begun = {"tau_E": [1.0, 2.0]}, here / "store", here / "begun"
        try:
            rbn.sweep(fn, net, axes, store=store, block_size=1, client=client)
        except RuntimeError:
            assert store_status(store)["missing"] == [0]
        else:
            raise AssertionError("it did not fail")
    """
    on_cluster(tmp_path, body)


@pytest.mark.skipif(
    not os.path.isdir("/proc/self/task"), reason="only Linux lists threads in /proc"
)
def test_a_worker_uses_as_many_threads_as_it_was_given(tmp_path):
    body = """
        def pool():
            tasks = Path("/proc/self/task").glob("*/comm")
            return sum(task.read_text().strip() == "tf_XLAEigen" for task in tasks)
        rbn.sweep(weights, net, AXES, block_size=17, client=client)
        assert list(client.run(lambda: os.environ["PJRT_NPROC"]).values()) == ["3"]
        assert list(client.run(pool).values()) == [3]
        assert "PJRT_NPROC" not in os.environ
    """
    on_cluster(tmp_path, body, workers=1, threads=3)


def test_a_killed_worker_and_ctrl_c_on_a_cluster_lose_no_block(tmp_path):
    body = """
        def slow(p):
            def wait(tau):
                time.sleep(0.01)
                return tau
            like = jax.ShapeDtypeStruct((), p.tau_E.dtype)
            return jax.pure_callback(wait, like, p.tau_E, vmap_method="sequential")
        axes, store = {"tau_E": np.linspace(5, 40, 300)}, here / "store"
        def after(blocks, act):
            def watch():
                while not store.exists() or store_status(store)["done"] < blocks:
                    time.sleep(0.01)
                act()
            thread = threading.Thread(target=watch)
            thread.start()
            return thread
        go = lambda: rbn.sweep(slow, net, axes, store=store, block_size=3, client=client)

        watcher = after(5, lambda: os.kill(os.getpid(), signal.SIGINT))
        try:
            go()
        except KeyboardInterrupt as error:
            text = str(error)
            assert f"of 100 blocks are kept in {store}; the same call goes on there" in text, text
            kept = int(text.split("stopped; ")[1].split()[0])
            assert 5 <= kept <= store_status(store)["done"] < 100
        else:
            raise AssertionError("it went on")
        watcher.join()

        pids = list(client.run(os.getpid).values())
        watcher = after(kept + 10, lambda: os.kill(pids[0], signal.SIGKILL))
        swept = go().load()
        watcher.join()
        assert store_status(store)["missing"] == []
        np.testing.assert_array_equal(swept["slow"], np.linspace(5, 40, 300).astype("float32"))
    """
    on_cluster(tmp_path, body)
