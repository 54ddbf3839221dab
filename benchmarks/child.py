"""Measure one workload in a process of its own, and print the measurement as JSON.

python -m benchmarks.child WORKLOAD              the times of all its implementations
python -m benchmarks.child WORKLOAD POSITION     the memory of one of them, called once
"""

import json
import os
import sys

import jax

from benchmarks.timing import measure_memory, measure_times
from benchmarks.workloads import WORKLOADS


def main(arguments: list[str]) -> None:
    """Measure the times of a workload, or the memory of one implementation."""
    workload = WORKLOADS[arguments[0]]
    if workload.cores is not None and hasattr(os, "sched_setaffinity"):
        # JAX counts the cores when it first computes; later changes do not limit its threads
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[: workload.cores])
    with jax.enable_x64(workload.dtype != "float32"):
        implementations = workload.implementations()
        if len(arguments) > 1:
            position = int(arguments[1])
            print(json.dumps(measure_memory(implementations[position])))
        else:
            print(json.dumps(measure_times(implementations)))


if __name__ == "__main__":
    main(sys.argv[1:])
