"""Measure streamed and reduced sweeps: their speed and memory, and the gain by two workers.

    python -m benchmarks.streaming [FOLDER] [POINTS]

FOLDER is where the stores are written, by default the folder for temporary files; POINTS is the
size of the streamed sweep, by default 6e8 (9.7 GB). All cores are used. Each ratio compares times
of one run. The table goes to standard output; results/streaming.md keeps one with remarks.
"""

import shutil
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array

import rbn_jax as rbn
from benchmarks.timing import timed
from rbn_jax.sweeps.axes import read_axes
from rbn_jax.sweeps.blocks import Blocks, plan_blocks
from rbn_jax.sweeps.evaluator import TracedEvaluator, TracedFunction
from rbn_jax.sweeps.store import StoreDirectory, open_store

NETWORK = rbn.NetworkParams()
NAMES = ("tau_E", "tau_I", "tau_syn_ex", "tau_syn_in")
BYTES_PER_POINT = 16  # four float32 weights

Axes = dict[str, np.ndarray]
TableRow = tuple[str, str]


def make_evaluator(axes: Axes, one_block: bool = False) -> TracedEvaluator:
    """Return what `sweep` evaluates the blocks with that it chooses by default."""
    function = TracedFunction(rbn.calculate_RBN_weights, NETWORK, read_axes(NETWORK, axes))
    sizes = function.axes.sizes
    if one_block:
        return TracedEvaluator(function, Blocks(sizes, sizes, sizes))
    return TracedEvaluator(function, plan_blocks(sizes, function.point_bytes, None))


def sweep_weights(axes: Axes, **options: Any) -> Any:
    """Sweep the weights over the axes."""
    return rbn.sweep(rbn.calculate_RBN_weights, NETWORK, axes, **options)


def make_axes(points: float) -> Axes:
    """Return four axes of about this many points in all."""
    side = round(points**0.25)
    return {name: np.linspace(5, 40, side) for name in NAMES}


def peak_memory() -> float:
    """Return the largest memory that this process has had [MiB].

    `resource.getrusage` would begin with the peak of the parent process.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def write_only(directory: StoreDirectory) -> None:
    """Write the bytes of a sweep into its store, from an array that is in memory already."""
    array = directory.open_arrays()["calculate_RBN_weights"]
    blocks = directory.blocks
    data = np.random.default_rng(0).random((*blocks.shape, 2, 2), np.float32)
    data = data.astype(array.dtype)
    for block in range(blocks.count):
        # a block at the end of a dimension may be smaller
        array[blocks.region(block)] = data[tuple(map(slice, blocks.lengths(block)))]


def compare_streaming(folder: Path, points: float) -> Iterator[TableRow]:
    """Compare a sweep into a store with writing the same bytes, three times in turn."""
    axes = make_axes(points)
    count = len(axes["tau_E"]) ** 4
    size = count * BYTES_PER_POINT
    streaming_times, writing_times, ratios = [], [], []
    for repetition in range(3):
        store = folder / f"{repetition}.zarr"
        streaming_time, _ = timed(lambda s=store: sweep_weights(axes, store=s, progress=False))
        shutil.rmtree(store)
        evaluator = make_evaluator(axes)
        with open_store(store, evaluator.function, evaluator.blocks, (), None, False) as directory:
            writing_time, _ = timed(lambda d=directory: write_only(d))
        shutil.rmtree(store)
        streaming_times.append(streaming_time)
        writing_times.append(writing_time)
        ratios.append(writing_time / streaming_time)
    streaming_rate = size / statistics.median(streaming_times) / 1e6
    writing_rate = size / statistics.median(writing_times) / 1e6
    yield f"stream {count:.3g} points, {size / 1e9:.3g} GB", f"{streaming_rate:.0f} MB/s"
    yield "writing the same bytes without computing", f"{writing_rate:.0f} MB/s"
    yield "rate of streaming / of writing", f"{statistics.median(ratios):.2f}"


def measure_reduction(reduction: str, millions: float) -> tuple[float, float]:
    """Return seconds and peak memory [MiB] of a reduction over millions of points.

    It runs in a process of its own, for its memory. Half a million points are one block, whose
    time is the median of nine calls.
    """
    axes = {name: np.linspace(5, 40, 100) for name in NAMES}
    if millions < 1:
        axes["tau_I"] = axes["tau_I"][: round(100 * millions)]
    axes["tau_E"] = np.linspace(5, 40, max(round(millions), 1))
    first_blocks = {**axes, "tau_E": axes["tau_E"][:9]}
    # compile before the time is measured
    sweep_weights(first_blocks, reduce=reduction, progress=False)
    repetitions = 9 if millions < 1 else 1
    times = []
    for _ in range(repetitions):
        seconds, _ = timed(lambda: sweep_weights(axes, reduce=reduction, progress=False))
        times.append(seconds)
    return statistics.median(times), peak_memory()


def compare_reductions(reduction: str, sizes: tuple[int, ...]) -> Iterator[TableRow]:
    """Compare reductions over `sizes` (in millions of points) with one block.

    Each is the median of three processes, but of one at 1e10 points and more.
    """
    one_block_rate = None
    for millions in (0.5, *sizes):
        times, memories = [], []
        for _ in range(3 if millions < 10_000 else 1):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
                future = executor.submit(measure_reduction, reduction, millions)
                seconds, memory = future.result()
            times.append(seconds)
            memories.append(memory)
        rate = millions / statistics.median(times)
        if one_block_rate is None:
            one_block_rate = rate
            comparison = "one block"
        else:
            comparison = f"{rate / one_block_rate:.2f} of one block's rate"
        memory_range = f"{min(memories):.0f} to {max(memories):.0f}"
        yield (
            f"{reduction} of {millions}e6 points",
            f"{rate:.0f} Mpoints/s, {comparison}, "
            f"peak {statistics.median(memories):.0f} MiB ({memory_range})",
        )


def sum_by_hand(blocks: Iterable[np.ndarray]) -> np.ndarray:
    """Return the float64 sum of the weights of all points."""
    return np.sum([block.sum(axis=(0, 1, 2, 3), dtype=np.float64) for block in blocks], axis=0)


@jax.jit
def sum_block(block: Array) -> Array:
    """Return the float64 sum of the weights of a block, by XLA."""
    return block.sum((0, 1, 2, 3), np.float64)


def sum_by_xla(blocks: Iterable[Array]) -> np.ndarray:
    """Return the float64 sum of the weights of all points, summed where they are computed."""
    total = np.zeros((2, 2))
    for block in blocks:
        with jax.enable_x64(True):
            total += np.asarray(sum_block(block))
    return total


def minimum_by_hand(blocks: Iterable[np.ndarray]) -> np.ndarray:
    """Return the minimum of the weights of all points."""
    return np.min([block.min(axis=(0, 1, 2, 3)) for block in blocks], axis=0)


def histogram_by_hand(blocks: Iterable[np.ndarray], edges: np.ndarray) -> np.ndarray:
    """Return the histogram of each of the four weights."""
    total = np.zeros((4, len(edges) - 1), int)
    for block in blocks:
        for entry, values in enumerate(block.reshape(-1, 4).T):
            total[entry] += np.histogram(values, edges)[0]
    return total


def compare_by_hand(points: float) -> Iterator[TableRow]:
    """Compare reductions with loops over the same blocks, five times in turn."""
    axes = make_axes(points)
    count = len(axes["tau_E"]) ** 4
    evaluator = make_evaluator(axes)

    def device_blocks() -> Iterator[Array]:
        for block in range(evaluator.blocks.count):
            variables, _ = evaluator.evaluate(block)
            yield variables["calculate_RBN_weights"].data

    def host_blocks() -> Iterator[np.ndarray]:
        return map(np.asarray, device_blocks())

    equal, unequal = np.linspace(-100, 100, 51), np.geomspace(1, 100, 51)
    histogram = rbn.reductions.Histogram
    comparisons: list[tuple[str, object, str, Callable[[], object]]] = [
        ("mean", "mean", "sums by NumPy", lambda: sum_by_hand(host_blocks())),
        ("mean", "mean", "jitted sums", lambda: sum_by_xla(device_blocks())),
        ("minimum", "minimum", "minima by NumPy", lambda: minimum_by_hand(host_blocks())),
        (
            "histogram of 50 equal bins",
            histogram(equal),
            "np.histogram",
            lambda: histogram_by_hand(host_blocks(), equal),
        ),
        (
            "histogram of 50 bins on a log scale",
            histogram(unequal),
            "np.histogram",
            lambda: histogram_by_hand(host_blocks(), unequal),
        ),
    ]
    for name, reduction, other_name, by_hand in comparisons:

        def reduce(reduction: object = reduction) -> object:
            return sweep_weights(axes, reduce=reduction, progress=False)

        # compile both before the time is measured
        reduce()
        by_hand()
        times, ratios = [], []
        for _ in range(5):
            sweep_time, _ = timed(reduce)
            hand_time, _ = timed(by_hand)
            times.append(sweep_time)
            ratios.append(sweep_time / hand_time)
        yield (
            f"{name} of {count:.3g} points",
            f"{statistics.median(times) * 1e3:.0f} ms, {statistics.median(ratios):.2f} times "
            f"{other_name} of the same blocks ({min(ratios):.2f} to {max(ratios):.2f})",
        )


def measure_overhead() -> Iterator[TableRow]:
    """Measure the time that `sweep` of 1e4 points needs besides its one jitted call."""
    axes = make_axes(1e4)
    evaluator = make_evaluator(axes, one_block=True)
    evaluator.evaluate(0)
    sweep_weights(axes)
    medians = []
    for function in (
        lambda: evaluator.evaluate(0),
        lambda: sweep_weights(axes),
        lambda: sweep_weights(axes, reduce="minimum"),
    ):
        times = [timed(function)[0] for _ in range(50)]
        medians.append(statistics.median(times))
    call, full_sweep, reduced_sweep = medians
    yield "1e4 points: sweep beyond the jitted call", f"{(full_sweep - call) * 1e3:.2f} ms"
    yield "1e4 points: sweep with reduce beyond it", f"{(reduced_sweep - call) * 1e3:.2f} ms"


def slow_function(params: Any) -> Array:
    """Compute for so long that a block of 20 000 points takes over 0.2 s."""

    def step(_: int, state: Array) -> Array:
        return state + jax.numpy.sin(state) * 1e-3

    return jax.lax.fori_loop(0, 20000, step, params.tau_E + params.gei)


def time_of_workers(count: int) -> float:
    """Return the seconds of a sweep of 24 blocks on this many Dask workers of one thread."""
    import distributed

    axes = {"tau_E": np.linspace(5, 40, 96), "gei": np.linspace(1, 2, 5000)}
    # no dashboard: its port may be taken, or its packages missing
    cluster_options: dict[str, Any] = {"threads_per_worker": 1, "dashboard_address": None}
    with (
        distributed.LocalCluster(n_workers=count, **cluster_options) as cluster,
        distributed.Client(cluster) as client,
    ):

        def sweep_on_workers() -> object:
            return rbn.sweep(
                slow_function, NETWORK, axes, block_size=20000, client=client, progress=False
            )

        # compile on every worker before the time is measured
        sweep_on_workers()
        seconds, _ = timed(sweep_on_workers)
    return seconds


def main() -> None:
    """Measure everything, and print one row after the other."""
    folder = Path(tempfile.mkdtemp(dir=sys.argv[1] if len(sys.argv) > 1 else None))
    points = float(sys.argv[2]) if len(sys.argv) > 2 else 6e8
    # JAX takes most of its memory when it first computes
    jax.block_until_ready(jax.numpy.ones(3))
    memory_of_jax = peak_memory()
    print("| measure | result |\n|---|---|")
    print(f"| peak memory after importing JAX | {memory_of_jax:.0f} MiB |")
    try:
        print_rows(measure_overhead())
        print_rows(compare_by_hand(1e7))
        print_rows(compare_streaming(folder, points))
        streaming_memory = peak_memory() - memory_of_jax
        print(f"| peak memory of streaming, beyond that | {streaming_memory:.0f} MiB |")
        print_rows(compare_reductions("minimum", (100, 1000, 10000)))
        print_rows(compare_reductions("mean", (100,)))
        one_worker, two_workers = time_of_workers(1), time_of_workers(2)
        per_block = one_worker / 24
        print(f"| 24 blocks on one Dask worker | {one_worker:.1f} s, {per_block:.2f} s a block |")
        speedup = one_worker / two_workers
        print(f"| on two | {two_workers:.1f} s, {speedup:.2f} times as fast |")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def print_rows(rows: Iterable[TableRow]) -> None:
    """Print rows of the table as soon as each is measured."""
    for measure, result in rows:
        print(f"| {measure} | {result} |", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("error")
    main()
