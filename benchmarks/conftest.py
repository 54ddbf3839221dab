"""One core for everybody, both precisions, and a table of ratios after the run."""

import os

if hasattr(os, "sched_setaffinity"):  # before JAX counts the cores
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import platform
from pathlib import Path

import jax
import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")


@pytest.fixture(scope="session", autouse=True)
def _memory_is_reused():
    """Once it has freed an array of nearly 32 MB, glibc reuses memory instead of mapping it anew.

    Else whoever comes first pays for page faults at every call, and the ratios are of those.
    """
    np.ones(2**25 - 2**16, np.uint8)


@pytest.fixture(params=["float64", "float32"])
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield np.dtype(request.param)


def pytest_terminal_summary(terminalreporter, config):
    """Median times, and their ratio to the first row of each workload."""
    session = getattr(config, "_benchmarksession", None)
    if not session or not session.benchmarks:
        return
    lines = ["| workload | way | median | spread | times the first |", "|---|---|---|---|---|"]
    first: dict[str, float] = {}
    for bench in filter(lambda bench: bench.stats.data, session.benchmarks):
        base = first.setdefault(bench.group, bench.stats.median)
        compiled = bench.extra_info.get("compile_s")
        way = bench.extra_info["way"] + (f" (compiled in {compiled:.2f} s)" if compiled else "")
        time, spread = bench.stats.median * 1e3, bench.stats.iqr / bench.stats.median
        ratio = base / bench.stats.median
        lines.append(f"| {bench.group} | {way} | {time:.4g} ms | {spread:.0%} | {ratio:.2f} |")
    text = "\n".join([f"{_machine()}, one core.", "", *lines, ""])
    terminalreporter.write("\n" + text)
    target = os.environ.get("RBN_JAX_BENCHMARKS")
    if target:
        Path(target).write_text(text, encoding="utf-8")


def _machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    versions = f"JAX {jax.__version__}, NumPy {np.__version__}, Python {platform.python_version()}"
    return f"{names[0] if names else platform.processor()}, {versions}"
