"""Sweeps that are killed, stopped, starved of disk, shared, spread: what is kept is right."""

import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import xarray as xr

import rbn_jax as rbn
from rbn_jax.sweeps.store import store_status

SETUP = """
import os, signal, sys, time
import jax
import jax.numpy as jnp
import numpy as np
import rbn_jax as rbn

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
AXES = {"tau_E": np.linspace(5, 40, 60), "gei": np.linspace(1, 2, 4)}

def slow(p):
    def wait(tau):
        time.sleep(float(os.environ.get("DELAY", 0.002)))
        return tau
    like = jax.ShapeDtypeStruct((), p.tau_E.dtype)
    tau = jax.pure_callback(wait, like, p.tau_E, vmap_method="sequential")
    return rbn.calculate_RBN_weights(p.replace(tau_E=tau))

def go(store, fn=slow, **options):
    options = {"block_size": 4, "progress": False, **options}
    return rbn.sweep(fn, rbn.NetworkParams(), AXES, store=store, **options)
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
        if store.exists() and store_status(store)["done"] >= count:
            return
        time.sleep(0.01)
    raise AssertionError(f"{store} has not got {count} blocks")


def test_a_sweep_killed_ten_times_gives_the_same_bits(tmp_path):
    rng, store = random.Random(0), tmp_path / "a.zarr"
    kills = 0
    for i in range(10):
        before = store_status(store)["done"] if store.exists() else 0
        process = start("go(sys.argv[1])", store)
        # from within the making of the store to the middle of a write: a random moment of each
        if i:
            wait_for_blocks(store, min(before + rng.randint(0, 3), 59))
        else:
            time.sleep(1.5)
        time.sleep(rng.uniform(0, 0.02))
        process.kill()
        kills += finish(process)[0] == -signal.SIGKILL
        assert not store.exists() or store_status(store)["done"] >= before
    assert kills >= 7
    assert finish(start("go(sys.argv[1])", store)) == (0, "")
    assert finish(start("go(sys.argv[1])", tmp_path / "b.zarr")) == (0, "")
    with xr.open_zarr(store) as stored, xr.open_zarr(tmp_path / "b.zarr") as uninterrupted:
        for name, x in uninterrupted.variables.items():
            assert stored[name].values.tobytes() == x.values.tobytes()


def test_ctrl_c_stops_cleanly_and_says_how_to_resume(tmp_path):
    store = tmp_path / "a.zarr"
    process = start("go(sys.argv[1])", store)
    wait_for_blocks(store, 3)
    process.send_signal(signal.SIGINT)
    _, err = finish(process)
    kept = store_status(store)["done"]
    assert 3 <= kept < 60
    assert f"KeyboardInterrupt: stopped; {kept} of 60 blocks are kept in {store}; the same" in err
    assert not list(store.rglob("*.partial"))


def test_ctrl_c_within_a_finalizer_is_not_lost(tmp_path):
    """Python drops what is raised there; Dask's futures have one."""
    body = """
        from rbn_jax.sweeps.sinks import StoreSink

        class Last:
            def __del__(self):
                signal.raise_signal(signal.SIGINT)

        accept, last = StoreSink.accept, [Last()]

        def dropping(*stored):
            last.clear()
            return accept(*stored)

        StoreSink.accept = dropping
        go(sys.argv[1])
    """
    code, err = finish(start(body, tmp_path / "a.zarr"))
    kept = store_status(tmp_path / "a.zarr")["done"]
    assert code != 0
    assert "Exception ignored in" in err
    assert f"KeyboardInterrupt: stopped; {kept} of 60 blocks are kept" in err
    assert 1 <= kept < 60


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_on_the_command_line_says_how_to_resume(tmp_path, number):
    store = tmp_path / "a.zarr"
    words = "--axis tau_E=5:40:300 --axis gei=1:2:300 --block-size 90 --quiet --store".split()
    body = """
        from rbn_jax.cli import run
        sys.exit(run(["sweep", *sys.argv[1:]]))
    """
    process = start(body, *words, store)
    wait_for_blocks(store, 3)
    process.send_signal(number)
    code, err = finish(process)
    kept = store_status(store)["done"]
    assert kept < 1200
    assert (code, err.count("\n")) == (128 + number, 1)
    assert f"rbn-jax: stopped; {kept} of 1200 blocks are kept in {store}; the same call" in err


def test_ctrl_c_while_a_command_is_imported_waits_for_the_import():
    """Compiled parts of NumPy and JAX would print it, make it another error, or end Python."""
    body = """
        import importlib
        from rbn_jax.cli import run

        import_module = importlib.import_module

        def interrupted_import(name):
            if name == "rbn_jax.cli.weights_command":
                signal.raise_signal(signal.SIGTERM)
                print("imported", file=sys.stderr)
            return import_module(name)

        importlib.import_module = interrupted_import
        sys.exit(run(["weights"]))
    """
    assert finish(start(body)) == (143, "imported\nrbn-jax: stopped\n")


@pytest.mark.parametrize("command", ["weights", "rates"])
def test_ctrl_c_at_any_time_is_one_line(command):
    """Also while Python imports, and while JAX compiles."""
    body = """
        import threading
        from rbn_jax.__main__ import main
        interrupt = threading.Timer(float(sys.argv[1]), os.kill, (os.getpid(), signal.SIGINT))
        interrupt.daemon = True
        command, sys.argv = sys.argv[2], ["rbn-jax", sys.argv[2]]
        interrupt.start()
        main()
    """

    def seconds_of(*arguments):
        begin = time.monotonic()
        assert finish(start(*arguments, stdout=subprocess.DEVNULL))[0] == 0
        return time.monotonic() - begin

    uninterrupted = (body, 1000.0, command)
    seconds_of(*uninterrupted)  # compiles, which later runs do not
    # the timer starts after the set-up, which an empty body has alone
    duration = max(seconds_of(*uninterrupted) - seconds_of(""), 0.1)
    codes = []
    for share in (0.05, 0.1, 0.2, 0.35, 0.5, 0.7):
        process = start(body, share * duration, command, stdout=subprocess.DEVNULL)
        code, err = finish(process)
        codes.append(code)
        # the default network is near the transition of its clusters, which `rates` says
        lines = [line for line in err.splitlines() if not line.startswith("rbn-jax: warning: ")]
        assert (code, lines) in ((130, ["rbn-jax: stopped"]), (0, []))
    assert 130 in codes


def test_two_processes_share_a_store_and_a_third_cannot_overwrite_it(tmp_path):
    store, slowly = tmp_path / "a.zarr", {**os.environ, "DELAY": "0.05"}
    both = [start("go(sys.argv[1])", store, env=slowly) for _ in range(2)]
    wait_for_blocks(store, 1)
    with pytest.raises(ValueError, match="another process works on it"):
        rbn.sweep(rbn.calculate_RBN_weights, rbn.NetworkParams(), {}, store=store, overwrite=True)
    assert [finish(process) for process in both] == [(0, ""), (0, "")]
    assert store_status(store)["missing"] == []


def test_a_full_disk_is_reported_and_finished_blocks_remain(tmp_path):
    mount = ["unshare", "-rm", "sh", "-c"]
    tmpfs = f'mount -t tmpfs -o size=2m none {tmp_path} && exec "$@"'
    if not shutil.which("unshare") or subprocess.run([*mount, tmpfs, "sh", "true"]).returncode:
        pytest.skip("a small disk needs unshare and user namespaces, which are missing here")
    body = """
        import shutil
        from pathlib import Path
        from rbn_jax.sweeps.store import store_status
        shutil.disk_usage = lambda path: shutil._ntuple_diskusage(10**9, 0, 10**9)
        AXES = {"tau_E": np.linspace(5, 40, 600), "gei": np.linspace(1, 2, 600)}
        store = Path(sys.argv[1])
        try:
            go(store, rbn.calculate_RBN_weights, block_size=6000)
        except OSError as error:
            done = store_status(store)["done"]
            assert 3 < done < 60, done
            assert f"No space left on device; {done} of 60 blocks are kept in" in str(error), error
            sys.exit(3)
    """
    assert finish(start(body, tmp_path / "a.zarr", command=[*mount, tmpfs, "sh"])) == (3, "")


def test_a_read_only_store_is_reported_and_finished_blocks_remain(tmp_path):
    store = tmp_path / "a.zarr"
    assert finish(start("go(sys.argv[1], shard=(0, 2))", store)) == (0, "")
    mount = ["unshare", "-rm", "sh", "-c"]
    bind = f'mount --bind {store} {store} && mount -o remount,ro,bind {store} && exec "$@"'
    if not shutil.which("unshare") or subprocess.run([*mount, bind, "sh", "true"]).returncode:
        pytest.skip("a read-only mount needs unshare and user namespaces, missing here")
    code, err = finish(start("go(sys.argv[1])", store, command=[*mount, bind, "sh"]))
    assert code == 1
    assert "Read-only file system; 30 of 60 blocks are kept in" in err
    assert store_status(store)["done"] == 30
