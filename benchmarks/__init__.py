"""Compare rbn_jax with the tools that a user would choose instead of it.

`python -m benchmarks` runs the comparison. Every workload runs in a process of its own, on one
core unless the workload is about threads. The implementations of a workload are called in turn,
so that a busy machine slows all of them alike.
"""
