"""One workload in a process of its own: `python -m benchmarks.child NAME [WAY]` prints JSON.

With the number of a way it runs that one alone, once, for its memory.
"""

import json
import os
import sys

import jax

from benchmarks.timing import measure, memory
from benchmarks.workloads import WORKLOADS


def main(arguments: list[str]) -> None:
    """Run it."""
    workload = WORKLOADS[arguments[0]]
    if workload.cores and hasattr(os, "sched_setaffinity"):  # before JAX counts the cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: workload.cores])
    with jax.enable_x64(workload.dtype != "float32"):
        ways = workload.ways(workload.size, workload.dtype, workload.cores is None)
        if len(arguments) > 1:
            print(json.dumps(memory(ways[int(arguments[1])])))
            return
        print(json.dumps(measure(ways)))


if __name__ == "__main__":
    main(sys.argv[1:])
