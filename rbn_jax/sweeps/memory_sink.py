"""Results kept in memory: one block as it is, or many put together."""

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rbn_jax.parameters.labels import to_dataset
from rbn_jax.sweeps.evaluator import Job
from rbn_jax.sweeps.sinks import Done, Target


class Memory(Target):
    """The arrays of a sweep in this process."""

    def __init__(self, job: Job, attrs: dict[str, str]):
        needed, free = job.points * job.point_bytes, _free_memory()
        if needed > free:
            raise ValueError(
                f"the sweep needs {needed / 1e9:.3g} GB of memory, and {free / 1e9:.3g} GB are "
                "free: give a store= on disk, keep reduce= only, or take fewer points"
            )
        self.job, self.attrs = job, attrs
        self._arrays: dict[str, np.ndarray] = {}

    def has(self, unit: int) -> bool:
        """Nothing is there before it is computed."""
        return False

    def work(self, unit: int) -> Done:
        """Evaluate a block, in whatever process this is."""
        found, nan = evaluate(self.job, unit)
        return Done(unit, sum(x.nbytes for x in found.values()), nan, found)

    def accept(self, done: Done) -> None:
        """Put a block where it belongs."""
        if self.units == 1:
            self._arrays = done.data
            return
        for name, part in done.data.items():
            if name not in self._arrays:
                shape = (*self.job.sizes, *part.shape[len(self.job.sizes) :])
                self._arrays[name] = np.empty(shape, part.dtype)
            self._arrays[name][self.job.blocks.region(done.unit)] = part

    def state(self) -> str:
        """What is left after an interruption."""
        return "nothing is kept of a sweep in memory; with store= it can be resumed"

    def result(self) -> Any:
        """The labelled dataset, its arrays read-only."""
        for array in self._arrays.values():
            array.flags.writeable = False
        found = {name: x.with_data(self._arrays[name]) for name, x in self.job.found.items()}
        return to_dataset(found, self.job.axes.dims, self.job.axes.labels(), self.attrs)


def evaluate(job: Job, number: int) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The arrays of a block without its padding, and the names of those that hold NaN."""
    found, _ = job.evaluate(number)
    nan = tuple(name for name, bad in jax.device_get(any_nan(found)).items() if bad)
    inside = tuple(slice(part.stop - part.start) for part in job.blocks.region(number))
    return {name: np.asarray(x.data)[inside] for name, x in found.items()}, nan


def any_nan(found: dict[str, Any]) -> dict[str, jax.Array]:
    """Whether a block holds NaN, by variable; its padding repeats what is there."""
    with jax.enable_x64(True):  # the minimum of float64 takes no less
        return _any_nan({name: x.data for name, x in found.items()})


@jax.jit
def _any_nan(found: dict[str, Any]) -> dict[str, jax.Array]:
    floats = {name: x for name, x in found.items() if jnp.issubdtype(x.dtype, jnp.inexact)}
    return {name: _holds_nan(x) for name, x in floats.items()}


def _holds_nan(data: jax.Array) -> jax.Array:
    """Whether NaN is there: it is then the minimum, which XLA finds at the memory's speed."""
    if jnp.iscomplexobj(data):
        return jnp.isnan(data).any()
    return jnp.isnan(data.min(initial=jnp.inf))


def _free_memory() -> float:
    """Bytes that a process may still use, as far as the system tells."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
    if "SC_AVPHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return float("inf")
