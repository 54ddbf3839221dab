"""Measure the time of several implementations in one process, and the memory of one."""

import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.implementations import Implementation

_Result = TypeVar("_Result")

_LEAST_ROUNDS, _MOST_ROUNDS = 5, 25
_SECONDS_OF_ROUNDS = 2.0  # for each implementation; gives the number of rounds
_SECONDS_OF_WARM_UP = 0.5
_SHORTEST_ROUND = 2e-3  # a call of fewer seconds is repeated within a round


def timed(function: Callable[[], _Result]) -> tuple[float, _Result]:
    """Return the seconds that a call takes, and its result."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def measure_times(implementations: list[Implementation]) -> list[dict[str, Any]]:
    """Return one row of results for each implementation.

    Every implementation is prepared and warmed up first. Then all are called in turn, the same
    number of rounds for each, so that a busy machine slows all of them alike. `seconds` is the
    median, `compile_s` the time of preparing and of the first call less the median, and `spread`
    the interquartile range of the rounds, divided by the median.
    """
    calls, rows, first_seconds, warm_seconds = [], [], [], []
    for implementation in implementations:
        start = time.perf_counter()
        call = implementation.prepare()
        result = call()
        first_seconds.append(time.perf_counter() - start)
        check = implementation.check
        error, not_finite = (None, None) if check is None else check(result)
        # without this, the result would take memory while the next implementations run
        del result
        warm_seconds.append(_warm_up(call))
        calls.append(call)
        rows.append(
            {
                "implementation": implementation.name,
                "version": implementation.version,
                "device": implementation.device,
                "partial": implementation.partial,
                "points": implementation.points,
                "error": error,
                "not_finite": not_finite,
            }
        )
    affordable_rounds = round(_SECONDS_OF_ROUNDS * len(calls) / sum(warm_seconds))
    rounds = min(max(affordable_rounds, _LEAST_ROUNDS), _MOST_ROUNDS)
    repeats = [max(1, round(_SHORTEST_ROUND / seconds)) for seconds in warm_seconds]
    times = _call_in_turn(calls, rounds, repeats)
    for position, row in enumerate(rows):
        median = statistics.median(times[position])
        lower_quartile, _, upper_quartile = statistics.quantiles(times[position], n=4)
        row["seconds"] = median * implementations[position].scale
        row["rounds"] = rounds
        row["spread"] = (upper_quartile - lower_quartile) / median
        row["compile_s"] = max(first_seconds[position] - median, 0.0)
    return rows


def _warm_up(call: Callable[[], object]) -> float:
    """Call until threads and memory have settled; return the median seconds of the last calls."""
    seconds: list[float] = []
    warm_up_start = time.perf_counter()
    while not seconds or time.perf_counter() - warm_up_start < _SECONDS_OF_WARM_UP:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[-9:])


def _call_in_turn(
    calls: list[Callable[[], object]], rounds: int, repeats: list[int]
) -> list[list[float]]:
    """Return the seconds of one call, for each implementation in each round."""
    times: list[list[float]] = [[] for _ in calls]
    # the garbage collector runs between the rounds, not within a measured call
    gc.disable()
    for _ in range(rounds):
        for call, repeat, seconds in zip(calls, repeats, times, strict=True):
            start = time.perf_counter()
            for _ in range(repeat):
                call()
            seconds.append((time.perf_counter() - start) / repeat)
        gc.collect()
    gc.enable()
    return times


def measure_memory(implementation: Implementation) -> float | None:
    """Return by how many MB preparing and the first call raise the peak memory of this process.

    Return None where that would not be the memory of the workload: if the implementation runs
    on another device, or computes only a part of the workload; and where the system has no
    /proc/self/clear_refs.
    """
    status, clear_refs = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not clear_refs.exists() or implementation.scale != 1 or implementation.device != "cpu":
        return None

    def read_kilobytes(name: str) -> int:
        return int(status.read_text().split(f"{name}:")[1].split()[0])

    before = read_kilobytes("VmRSS")
    # "5" sets the peak that the kernel keeps (VmHWM) to the present memory
    clear_refs.write_text("5")
    implementation.prepare()()
    return max(read_kilobytes("VmHWM") - before, 0) / 1024
