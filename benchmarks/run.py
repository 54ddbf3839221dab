"""Running workloads, each in a process of its own, and what comes out of them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.machine import describe
from benchmarks.workloads import WORKLOADS, available
from rbn_jax.parameters import checks

# glibc gives large blocks back to the system and takes them anew, a page fault for every 4 kB,
# or does not, depending on what was freed before: here it keeps them, for every way alike
KEPT = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
}
_OWN = {"OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "XLA_FLAGS", *KEPT}


def names(only: Sequence[str] | None) -> list[str]:
    """The workloads whose names start as asked, in their order; all of them by default.

    Raises:
        ValueError: nothing starts so.
    """
    if not only:
        return list(WORKLOADS)
    for start in only:
        if not any(name.startswith(start) for name in WORKLOADS):
            raise checks.unknown_name_error(start, WORKLOADS, "workload")
    return [name for name in WORKLOADS if name.startswith(tuple(only))]


def run(
    only: Sequence[str] | None = None,
    *,
    with_memory: bool = True,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Measure workloads: the machine, a row for each way, and what failed, as plain data.

    Ctrl-C ends it with what was measured before.

    Args:
        only: the starts of names of workloads; else all.
        with_memory: run each way once more, alone, for the memory that it takes.
        tell: is called with a line on what is measured next.

    Raises:
        ValueError: an unknown workload.
    """
    chosen = names(only)
    rows, failed = [], {}
    for i, name in enumerate(chosen, 1):
        tell(f"{i} of {len(chosen)}: {name}")
        try:
            rows += _rows(name, with_memory)
        except RuntimeError as error:
            failed[name] = str(error)
        except KeyboardInterrupt:  # what was measured is kept
            failed[name] = "stopped"
            break
    return {"machine": describe(), "rows": rows, "failed": failed}


def _rows(name: str, with_memory: bool) -> list[dict[str, Any]]:
    workload, found = WORKLOADS[name], _child(name)
    with_memory = with_memory and not name.startswith("scale")
    first: dict[int, float] = {}  # by size
    rows = []
    for i, row in enumerate(found):
        points = row.pop("points") or workload.points
        own = {
            "name": name,
            "workload": workload.title,
            "dtype": workload.dtype,
            "cores": workload.cores or available(),
            "points": points,
            "points_per_s": points / row["seconds"],
            "ratio": first.setdefault(points, row["seconds"]) / row["seconds"],
            "memory_mb": _child(name, str(i)) if with_memory else None,
        }
        rows.append(own | row)
    return rows


def _child(name: str, *way: str) -> Any:
    """What a workload prints; its memory is measured as the C library comes."""
    environment = {key: value for key, value in os.environ.items() if key not in _OWN}
    if not way and not WORKLOADS[name].own_allocator:
        environment |= KEPT
    command = [sys.executable, "-m", "benchmarks.child", name, *way]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = " | ".join(done.stderr.strip().splitlines()[-3:])
        raise RuntimeError(f"exit status {done.returncode}: {last or 'no words; memory?'}")
    return json.loads(done.stdout.splitlines()[-1])
