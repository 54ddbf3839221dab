"""The machine and the versions that a table was measured with."""

import importlib.metadata
import os
import platform
from pathlib import Path

from benchmarks.baselines import compiler_version

_PACKAGES = ("rbn_jax", "jax", "jaxlib", "numpy", "scipy", "numba", "matplotlib", "zarr")


def describe_machine() -> dict[str, str]:
    """Return processor, cores, memory, system, compiler, and the versions of the packages."""
    description = {
        "processor": _processor(),
        "cores": str(available_cores()),
        "memory": _memory(),
        "system": platform.platform(terse=True),
        "compiler": compiler_version(),
        "Python": platform.python_version(),
    }
    for name in _PACKAGES:
        description[name] = package_version(name) or "none"
    return description


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def package_version(name: str) -> str | None:
    """Return the version of an installed package; None if it is missing."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    model = _read_entry("/proc/cpuinfo", "model name")
    return model or platform.processor() or platform.machine()


def _memory() -> str:
    entry = _read_entry("/proc/meminfo", "MemTotal")
    if not entry:
        return "unknown"
    kilobytes = int(entry.split()[0])
    return f"{kilobytes / 2**20:.0f} GiB"


def _read_entry(path: str, key: str) -> str:
    """Return the first value of a key in a file of "key: value" lines; "" if there is none."""
    file = Path(path)
    if not file.exists():
        return ""
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith(key):
            return line.split(":", 1)[1].strip()
    return ""
