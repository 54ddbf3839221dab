"""Timing of several ways to do one thing, in turn and in one process."""

import dataclasses
import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_MOST, _LEAST = 25, 5  # rounds of a workload
_BUDGET = 2.0  # seconds of rounds for each way
_WARM = 0.5  # seconds of warming up
_SHORT = 2e-3  # calls shorter than this many seconds are repeated within a round


@dataclasses.dataclass
class Way:
    """One way to do a workload.

    name, version: what is measured
    make: gives the call
    scale: of how many times the work that is called the workload consists
    check: the largest relative error and the count of what is no number, if that can be told
    device: where it runs
    points: of this way, where the ways of a workload differ in size
    baseline: it does less than the workload, to compare with
    """

    name: str
    make: Callable[[], Callable[[], Any]]
    version: str = ""
    scale: float = 1.0
    check: Callable[[Any], tuple[float, int]] | None = None
    device: str = "cpu"
    points: int | None = None
    baseline: bool = False


def measure(ways: list[Way]) -> list[dict[str, Any]]:
    """A row for each way.

    Every way is made and warmed up first. Then all are called in turn, as many rounds for each, so
    that a busy machine is busy for all. `compile_s` is what making and the first call took beyond
    the median; `spread` is the range of the middle half of the rounds, by the median.
    """
    calls, rows, first, once = [], [], [], []
    for way in ways:
        begin = time.perf_counter()
        call = way.make()
        result = call()
        first.append(time.perf_counter() - begin)
        error, bad = way.check(result) if way.check else (None, None)
        del result
        once.append(_warm_up(call))
        calls.append(call)
        rows.append(
            {
                "way": way.name,
                "version": way.version,
                "device": way.device,
                "baseline": way.baseline,
                "points": way.points,
                "error": error,
                "not_finite": bad,
            }
        )
    rounds = min(max(round(_BUDGET * len(ways) / sum(once)), _LEAST), _MOST)
    times = _in_turn(calls, rounds, [max(1, round(_SHORT / seconds)) for seconds in once])
    for way, row, made, seconds in zip(ways, rows, first, times, strict=True):
        middle, quarters = statistics.median(seconds), statistics.quantiles(seconds, n=4)
        row["seconds"], row["rounds"] = middle * way.scale, rounds
        row["spread"] = (quarters[2] - quarters[0]) / middle
        row["compile_s"] = max(made - middle, 0.0)
    return rows


def _warm_up(call: Callable[[], Any]) -> float:
    """Call until threads and memory have settled; the median seconds of the last calls."""
    seconds, begin = [], time.perf_counter()
    while not seconds or time.perf_counter() - begin < _WARM:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[-9:])


def _in_turn(calls: list[Callable[[], Any]], rounds: int, repeats: list[int]) -> list[list[float]]:
    """Seconds of a call, of each way in each round."""
    times: list[list[float]] = [[] for _ in calls]
    gc.disable()
    for _ in range(rounds):
        for call, repeat, seconds in zip(calls, repeats, times, strict=True):
            begin = time.perf_counter()
            for _ in range(repeat):
                call()
            seconds.append((time.perf_counter() - begin) / repeat)
        gc.collect()
    gc.enable()
    return times


def memory(way: Way) -> float | None:
    """By how many MB making a way and its first call raise the memory of this process at its peak.

    None where that would not be the workload's: on another device, or of a part of it.
    """
    status, peak = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not peak.exists() or way.scale != 1 or way.device != "cpu":
        return None

    def kb(name: str) -> int:
        return int(status.read_text().split(f"{name}:")[1].split()[0])

    before = kb("VmRSS")
    peak.write_text("5")  # the peak counts from here
    way.make()()
    return max(kb("VmHWM") - before, 0) / 1024
