"""Longer benchmarks, one script each, and the results of all."""
