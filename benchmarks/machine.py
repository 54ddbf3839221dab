"""What a table was measured on, in words."""

import importlib.metadata
import platform
from pathlib import Path

from benchmarks.plain import compiler_version
from benchmarks.workloads import available

_PACKAGES = ("rbn_jax", "jax", "jaxlib", "numpy", "scipy", "numba", "matplotlib", "zarr")


def describe() -> dict[str, str]:
    """Processor, cores, memory, system, compiler, and the versions of what takes part."""
    found = {
        "processor": _processor(),
        "cores": str(available()),
        "memory": _memory(),
        "system": platform.platform(terse=True),
        "compiler": compiler_version(),
        "Python": platform.python_version(),
    }
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def _line(path: str, key: str) -> str:
    file = Path(path)
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return next((x.split(":", 1)[1].strip() for x in lines if x.startswith(key)), "")


def _processor() -> str:
    return _line("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()


def _memory() -> str:
    kb = _line("/proc/meminfo", "MemTotal").split()
    return f"{int(kb[0]) / 2**20:.0f} GiB" if kb else "unknown"
