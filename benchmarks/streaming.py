"""Streamed and reduced sweeps against writing alone, one block alone and one worker alone.

    python benchmarks/streaming.py [FOLDER] [POINTS]

All cores; each ratio within one run. The table goes to standard output.
"""

import shutil
import statistics
import sys
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import jax
import numpy as np

import rbn_jax as rbn
from rbn_jax.sweeps.axes import read_axes
from rbn_jax.sweeps.blocks import plan_blocks
from rbn_jax.sweeps.evaluator import Evaluator

NET, WEIGHTS = rbn.NetworkParams(), rbn.calculate_RBN_weights
NAMES = ("tau_E", "tau_I", "tau_syn_ex", "tau_syn_in")


def grid(points):
    """Four axes of about this many points in all."""
    side = round(points**0.25)
    return {name: np.linspace(5, 40, side) for name in NAMES}


def timed(function):
    start = time.perf_counter()
    found = function()
    return time.perf_counter() - start, found


def peak():
    """The most memory this process has had, in MiB; getrusage starts at the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def write_only(store, like):
    """The same bytes to the same layout, from an array that is there already."""
    import zarr

    group = zarr.open_group(store, mode="r+")
    array = group["calculate_RBN_weights"]
    job = Evaluator(WEIGHTS, NET, read_axes(NET, like))
    job.blocks = plan_blocks(job.sizes, job.point_bytes, None)
    data = np.random.default_rng(0).random((*job.blocks.shape, 2, 2), np.float32)
    for number in range(job.blocks.count):
        region = job.blocks.region(number)
        array[region] = data[tuple(slice(part.stop - part.start) for part in region)]


def streaming(folder, points):
    axes = grid(points)
    count = len(axes["tau_E"]) ** 4
    size = count * 16
    rows, ratios = [], []
    for i in range(3):
        store = folder / f"{i}.zarr"
        streamed, _ = timed(lambda s=store: rbn.sweep(WEIGHTS, NET, axes, store=s, progress=False))
        shutil.rmtree(store)
        rbn.sweep(WEIGHTS, NET, axes, store=store, shard=(10**9 - 1, 10**9))  # its layout alone
        written, _ = timed(lambda s=store: write_only(s, axes))
        shutil.rmtree(store)
        ratios.append(written / streamed)
        rows.append((streamed, written))
    streamed, written = map(statistics.median, zip(*rows, strict=True))
    yield f"stream {count:.3g} points, {size / 1e9:.3g} GB", f"{size / streamed / 1e6:.0f} MB/s"
    yield "writing the same bytes without computing", f"{size / written / 1e6:.0f} MB/s"
    yield "rate of streaming / of writing", f"{statistics.median(ratios):.2f}"


def reduced(kind, millions):
    """Seconds and peak memory, in a process of its own; half a million points are one block."""
    axes = {name: np.linspace(5, 40, 100) for name in NAMES}
    if millions < 1:
        axes["tau_I"] = axes["tau_I"][: round(100 * millions)]
    axes["tau_E"] = np.linspace(5, 40, max(round(millions), 1))
    whole = {"params": NET, "axes": axes, "reduce": kind, "progress": False}
    few = {**whole, "axes": {**axes, "tau_E": axes["tau_E"][:9]}}
    rbn.sweep(WEIGHTS, **few)  # to compile
    times = [timed(lambda: rbn.sweep(WEIGHTS, **whole))[0] for _ in range(9 if millions < 1 else 1)]
    return statistics.median(times), peak()


def reducing(kind, sizes):
    """Rates of a reduction and its peak memory, the median of three runs below 1e10 points."""
    block = None
    for millions in (0.5, *sizes):
        runs = []
        for _ in range(3 if millions < 10000 else 1):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
                runs.append(alone.submit(reduced, kind, millions).result())
        seconds, memory = map(statistics.median, zip(*runs, strict=True))
        rate = millions / seconds
        block = block or rate
        share = "one block" if millions < 1 else f"{rate / block:.2f} of one block's rate"
        spread = f"{min(m for _, m in runs):.0f} to {max(m for _, m in runs):.0f}"
        yield (
            f"{kind} of {millions}e6 points",
            f"{rate:.0f} Mpoints/s, {share}, peak {memory:.0f} MiB ({spread})",
        )


def one_block():
    axes = grid(1e4)
    job = Evaluator(WEIGHTS, NET, read_axes(NET, axes))
    job.evaluate(0)
    rbn.sweep(WEIGHTS, NET, axes)
    plain = statistics.median(timed(lambda: job.evaluate(0))[0] for _ in range(50))
    full = statistics.median(timed(lambda: rbn.sweep(WEIGHTS, NET, axes))[0] for _ in range(50))
    reduce = statistics.median(
        timed(lambda: rbn.sweep(WEIGHTS, NET, axes, reduce="minimum"))[0] for _ in range(50)
    )
    yield "1e4 points: sweep beyond the jitted call", f"{(full - plain) * 1e3:.2f} ms"
    yield "1e4 points: sweep with reduce beyond it", f"{(reduce - plain) * 1e3:.2f} ms"


def heavy(params):
    """Work enough for a block to take over 0.2 s."""
    step = lambda _, x: x + jax.numpy.sin(x) * 1e-3
    return jax.lax.fori_loop(0, 20000, step, params.tau_E + params.gei)


def workers(count):
    import distributed

    axes = {"tau_E": np.linspace(5, 40, 96), "gei": np.linspace(1, 2, 5000)}
    with (
        distributed.LocalCluster(
            n_workers=count, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        options = {"block_size": 20000, "client": client, "progress": False, "reduce": None}
        rbn.sweep(heavy, NET, axes, **options)
        seconds, _ = timed(lambda: rbn.sweep(heavy, NET, axes, **options))
    return seconds


def main():
    folder = Path(tempfile.mkdtemp(dir=sys.argv[1] if len(sys.argv) > 1 else None))
    points = float(sys.argv[2]) if len(sys.argv) > 2 else 6e8
    jax.block_until_ready(jax.numpy.ones(3))
    base = peak()
    print("| measure | result |\n|---|---|")
    print(f"| peak memory after importing JAX | {base:.0f} MiB |")

    def show(rows):
        for name, text in rows:
            print(f"| {name} | {text} |", flush=True)

    try:
        show(one_block())
        show(streaming(folder, points))
        print(f"| peak memory of streaming, beyond that | {peak() - base:.0f} MiB |")
        show(reducing("minimum", (100, 1000, 10000)))
        show(reducing("mean", (100,)))
        one, two = workers(1), workers(2)
        print(f"| 24 blocks on one Dask worker | {one:.1f} s, {one / 24:.2f} s a block |")
        print(f"| on two | {two:.1f} s, {one / two:.2f} times as fast |")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    warnings.simplefilter("error")
    main()
