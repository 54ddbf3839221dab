"""Sweeps that are killed, stopped, starved of disk, shared, spread: what is kept is right."""

import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import xarray as xr

import rbn_jax as rbn
from rbn_jax.sweep.status import status

SETUP = """
import os, sys, time
import jax
import jax.numpy as jnp
import numpy as np
import rbn_jax as rbn

AXES = {"tau_E": np.linspace(5, 40, 60), "gei": np.linspace(1, 2, 4)}

def slow(p):
    def wait(tau):
        time.sleep(float(os.environ.get("DELAY", 0.002)))
        return tau
    like = jax.ShapeDtypeStruct((), p.tau_E.dtype)
    tau = jax.pure_callback(wait, like, p.tau_E, vmap_method="sequential")
    return rbn.calculate_RBN_weights(p.replace(tau_E=tau))

def go(store, fn=slow, **options):
    return rbn.sweep(fn, rbn.NetworkParams(), AXES, store=store, **{"block_size": 4, **options})
"""


def start(body, *arguments, command=(), **options):
    """A Python process that runs SETUP and the body."""
    code = SETUP + textwrap.dedent(body)
    words = [*command, sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True, **options)


def finish(process):
    _, err = process.communicate(timeout=120)
    return process.returncode, err


def wait_for_blocks(store, count):
    for _ in range(3000):
        if store.exists() and status(store)["done"] >= count:
            return
        time.sleep(0.01)
    raise AssertionError(f"{store} has not got {count} blocks")


def test_killed_at_twenty_moments_the_result_is_the_same_bits(tmp_path):
    rng, store = random.Random(0), tmp_path / "a.zarr"
    kills = 0
    for i in range(20):
        before = status(store)["done"] if store.exists() else 0
        process = start("go(sys.argv[1])", store)
        # from within the making of the store to the middle of a write: a random moment of each
        if i:
            wait_for_blocks(store, min(before + rng.randint(0, 3), 59))
        else:
            time.sleep(1.5)
        time.sleep(rng.uniform(0, 0.02))
        process.kill()
        kills += finish(process)[0] == -signal.SIGKILL
        assert not store.exists() or status(store)["done"] >= before
    assert kills >= 15
    assert finish(start("go(sys.argv[1])", store)) == (0, "")
    assert finish(start("go(sys.argv[1])", tmp_path / "b.zarr")) == (0, "")
    with xr.open_zarr(store) as found, xr.open_zarr(tmp_path / "b.zarr") as whole:
        for name, x in whole.variables.items():
            assert found[name].values.tobytes() == x.values.tobytes()


def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(tmp_path):
    store = tmp_path / "a.zarr"
    process = start("go(sys.argv[1])", store)
    wait_for_blocks(store, 3)
    process.send_signal(signal.SIGINT)
    _, err = finish(process)
    kept = status(store)["done"]
    assert 3 <= kept < 60
    assert f"KeyboardInterrupt: stopped; {kept} of 60 blocks are kept in {store}; the same" in err
    assert not list(store.rglob("*.partial"))


def test_two_processes_share_a_store_and_a_third_cannot_overwrite_it(tmp_path):
    store, slowly = tmp_path / "a.zarr", {**os.environ, "DELAY": "0.05"}
    both = [start("go(sys.argv[1])", store, env=slowly) for _ in range(2)]
    wait_for_blocks(store, 1)
    with pytest.raises(ValueError, match="another process works on it"):
        rbn.sweep(rbn.calculate_RBN_weights, rbn.NetworkParams(), {}, store=store, overwrite=True)
    assert [finish(process) for process in both] == [(0, ""), (0, "")]
    assert status(store)["missing"] == []


def test_a_full_disk_is_named_and_what_is_finished_kept(tmp_path):
    mount = ["unshare", "-rm", "sh", "-c"]
    tmpfs = f'mount -t tmpfs -o size=2m none {tmp_path} && exec "$@"'
    if not shutil.which("unshare") or subprocess.run([*mount, tmpfs, "sh", "true"]).returncode:
        pytest.skip("this system lets nobody mount a small disk")
    body = """
        import shutil
        from pathlib import Path
        from rbn_jax.sweep.status import status
        shutil.disk_usage = lambda path: shutil._ntuple_diskusage(10**9, 0, 10**9)
        AXES = {"tau_E": np.linspace(5, 40, 600), "gei": np.linspace(1, 2, 600)}
        store = Path(sys.argv[1])
        try:
            go(store, rbn.calculate_RBN_weights, block_size=6000)
        except OSError as error:
            done = status(store)["done"]
            assert 3 < done < 60, done
            assert f"No space left on device; {done} of 60 blocks are kept in" in str(error), error
            sys.exit(3)
    """
    assert finish(start(body, tmp_path / "a.zarr", command=[*mount, tmpfs, "sh"])) == (3, "")


def test_a_read_only_store_is_named_and_what_is_finished_kept(tmp_path):
    store = tmp_path / "a.zarr"
    assert finish(start("go(sys.argv[1], shard=(0, 2))", store)) == (0, "")
    mount = ["unshare", "-rm", "sh", "-c"]
    bind = f'mount --bind {store} {store} && mount -o remount,ro,bind {store} && exec "$@"'
    if not shutil.which("unshare") or subprocess.run([*mount, bind, "sh", "true"]).returncode:
        pytest.skip("this system lets nobody mount a folder read-only")
    code, err = finish(start("go(sys.argv[1])", store, command=[*mount, bind, "sh"]))
    assert code == 1
    assert "Read-only file system; 30 of 60 blocks are kept in" in err
    assert status(store)["done"] == 30


def test_eight_devices_share_each_block(tmp_path):
    body = """
        from rbn_jax.sweep.axes import read_axes
        from rbn_jax.sweep.job import Job
        net, weights = rbn.NetworkParams(), rbn.calculate_RBN_weights
        job = Job(weights, net, read_axes(net, AXES))
        data = job.evaluate(0)[0]["calculate_RBN_weights"].data
        assert len(data.sharding.device_set) == 8 and not data.sharding.is_fully_replicated
        memory = rbn.sweep(weights, net, AXES)
        memory.to_netcdf(sys.argv[2], engine="netcdf4")
        go(sys.argv[1], weights, block_size=17)
    """
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    store, file = tmp_path / "a.zarr", tmp_path / "a.nc"
    assert finish(start(body, store, file, env={**os.environ, **flags})) == (0, "")
    axes = {"tau_E": np.linspace(5, 40, 60), "gei": np.linspace(1, 2, 4)}
    one = rbn.sweep(rbn.calculate_RBN_weights, rbn.NetworkParams(), axes)
    # other shapes are compiled to other vector loops: equal to the last bits, not bit for bit
    with xr.open_zarr(store) as streamed, xr.open_dataset(file, engine="netcdf4") as memory:
        for found in (streamed, memory):
            xr.testing.assert_allclose(found.drop_attrs(), one.drop_attrs(), rtol=5e-7)


CLUSTER = """
if __name__ == "__main__":
    import logging
    import distributed
    logging.disable(logging.CRITICAL)
    with distributed.LocalCluster(
        2, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
    ) as cluster, distributed.Client(cluster) as client:
"""


def on_cluster(tmp_path, body):
    script = tmp_path / "script.py"
    script.write_text(SETUP + CLUSTER + textwrap.indent(textwrap.dedent(body), " " * 8))
    words = [sys.executable, str(script), str(tmp_path / "a.zarr")]
    return subprocess.run(words, capture_output=True, text=True, timeout=120)


def test_a_cluster_computes_the_same_and_compiles_once_a_worker(tmp_path):
    body = """
        traces = sys.argv[1] + ".traces"
        def traced(p):
            with open(traces, "a") as file:
                file.write(f"{os.getpid()}\\n")
            return rbn.calculate_RBN_weights(p)
        here = go(sys.argv[1] + "1", traced).load()
        open(traces, "w").close()
        there = go(sys.argv[1], traced, client=client).load()
        assert there.identical(here)
        workers = open(traces).read().split()
        assert all(workers.count(pid) == 1 for pid in set(workers) - {str(os.getpid())}), workers
        net = rbn.NetworkParams()
        memory = rbn.sweep(traced, net, AXES, block_size=4, client=client)
        assert memory.identical(here)
        kept = rbn.sweep(traced, net, AXES, reduce="mean", block_size=4, client=client)
        assert kept.identical(rbn.sweep(traced, net, AXES, reduce="mean", block_size=4))
        threads = client.run(lambda: os.environ.get("PJRT_NPROC"))
        assert "1" in threads.values() and set(threads.values()) <= {"1", None}, threads
    """
    done = on_cluster(tmp_path, body)
    assert done.returncode == 0, done.stderr


def test_a_worker_killed_in_mid_sweep_costs_nothing(tmp_path):
    body = """
        import threading, signal
        from pathlib import Path
        from rbn_jax.sweep.status import status
        store = Path(sys.argv[1])
        def kill():
            while not store.exists() or status(store)["done"] < 5:
                time.sleep(0.01)
            os.kill(client.run(os.getpid).popitem()[1], signal.SIGKILL)
        killer = threading.Thread(target=kill)
        killer.start()
        there = go(store, client=client).load()
        killer.join()
        assert status(store)["missing"] == []
        assert there.equals(go(str(store) + "1").load())
    """
    done = on_cluster(tmp_path, body)
    assert done.returncode == 0, done.stderr
