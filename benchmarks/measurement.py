"""Select workloads, measure each in a process of its own, and collect the results."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import available_cores, describe_machine
from benchmarks.workloads import WORKLOADS
from rbn_jax.parameters.checks import unknown_name_error

_REPOSITORY = Path(__file__).parents[1]

# glibc returns large blocks to the system or keeps them, depending on what was freed before. Each
# new block from the system costs a page fault for every 4 kB. With these settings glibc keeps the
# blocks, for every implementation alike.
KEEP_FREED_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
}

# variables that would change the number of threads or the allocator of a measured process
_IGNORED_VARIABLES = {"OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "XLA_FLAGS", *KEEP_FREED_MEMORY}


def select_workloads(prefixes: Sequence[str] | None) -> list[str]:
    """Return the workloads whose names start with a prefix, in their order; by default all.

    Raises:
        ValueError: no name starts with one of the prefixes.
    """
    if not prefixes:
        return list(WORKLOADS)
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in WORKLOADS):
            raise unknown_name_error(prefix, WORKLOADS, "workload")
    return [name for name in WORKLOADS if name.startswith(tuple(prefixes))]


def measure_workloads(
    prefixes: Sequence[str] | None = None,
    *,
    with_memory: bool = True,
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Measure workloads; after Ctrl-C, return what was measured before.

    Args:
        prefixes: starts of the names of workloads; by default all are measured.
        with_memory: run each implementation once more, alone, to measure its memory.
        report: called with one line before each workload.

    Returns:
        Plain data: "machine" describes it, "rows" has one dictionary per implementation, and
        "failed" maps the names of workloads to why they failed.

    Raises:
        ValueError: an unknown workload.
    """
    selected = select_workloads(prefixes)
    rows: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    for number, name in enumerate(selected, start=1):
        report(f"{number} of {len(selected)}: {name}")
        try:
            rows += _measure_workload(name, with_memory)
        except RuntimeError as error:
            failed[name] = str(error)
        except KeyboardInterrupt:
            failed[name] = "stopped"
            break
    return {"machine": describe_machine(), "rows": rows, "failed": failed}


def _measure_workload(name: str, with_memory: bool) -> list[dict[str, Any]]:
    workload = WORKLOADS[name]
    # the figures of scaling show times only
    with_memory = with_memory and not name.startswith("scale")
    first_seconds: dict[int, float] = {}  # of the first implementation, by number of points
    rows = []
    for position, times in enumerate(_run_child(name)):
        points = times.pop("points") or workload.points
        seconds = times["seconds"]
        row = {
            "name": name,
            "workload": workload.title,
            "dtype": workload.dtype,
            "cores": workload.cores or available_cores(),
            "points": points,
            "points_per_s": points / seconds,
            "ratio": first_seconds.setdefault(points, seconds) / seconds,
            "memory_mb": _run_child(name, str(position)) if with_memory else None,
        }
        rows.append(row | times)
    return rows


def _run_child(name: str, *position: str) -> Any:
    """Run `benchmarks.child` and return what it prints.

    Memory is measured with the C library's own settings.

    Raises:
        RuntimeError: the process failed; the message ends with its last lines.
    """
    environment = {}
    for variable, text in os.environ.items():
        if variable not in _IGNORED_VARIABLES:
            environment[variable] = text
    if not position and not WORKLOADS[name].default_allocator:
        environment |= KEEP_FREED_MEMORY
    # `python -m` looks for packages in the current folder first
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.child", name, *position],
        cwd=_REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        last_lines = " | ".join(process.stderr.strip().splitlines()[-3:])
        reason = last_lines or "no message; it may have run out of memory"
        raise RuntimeError(f"exit status {process.returncode}: {reason}")
    return json.loads(process.stdout.splitlines()[-1])
