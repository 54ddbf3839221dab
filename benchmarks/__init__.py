"""The comparison with what a user would pick instead: one table, made by one run.

`rbn-jax bench` runs it. Every workload has a process of its own, pinned to one core unless it is
about threads; its ways are called in turn, so that a busy machine slows all of them alike.
"""

from benchmarks.run import run
from benchmarks.workloads import WORKLOADS

__all__ = ["WORKLOADS", "run"]
