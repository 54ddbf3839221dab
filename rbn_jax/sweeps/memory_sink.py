"""The results of a sweep in memory: one block as it is, or several put together."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rbn_jax.parameters.labels import to_dataset
from rbn_jax.sweeps.evaluator import Evaluator
from rbn_jax.sweeps.sinks import BlockResult, Sink

if TYPE_CHECKING:
    import xarray


class MemorySink(Sink):
    """The arrays of a sweep in the process that called `sweep`."""

    def __init__(self, evaluator: Evaluator, attrs: dict[str, str]):
        needed = evaluator.points * evaluator.point_bytes
        free = _free_memory()
        if needed > free:
            raise ValueError(
                f"the sweep needs {needed / 1e9:.3g} GB of memory, and {free / 1e9:.3g} GB "
                "are free: give a store= on disk, keep reduce= only, or take fewer points"
            )
        self.evaluator = evaluator
        self.attrs = attrs
        self._arrays: dict[str, np.ndarray] = {}

    def run(self, task: int) -> BlockResult:
        """Evaluate a block."""
        arrays, nan_names = self.evaluator.fetch(task)
        n_bytes = sum(array.nbytes for array in arrays.values())
        return BlockResult(task, n_bytes, nan_names, arrays)

    def accept(self, result: BlockResult) -> None:
        """Copy a block into the arrays of the sweep."""
        if self.task_count == 1:
            self._arrays = result.data
            return
        sizes = self.evaluator.sizes
        region = self.evaluator.blocks.region(result.task)
        for name, block in result.data.items():
            if name not in self._arrays:
                shape = (*sizes, *block.shape[len(sizes) :])
                self._arrays[name] = np.empty(shape, block.dtype)
            self._arrays[name][region] = block

    def state(self) -> str:
        """Say that nothing is left after an interruption."""
        return "nothing is kept of a sweep in memory; with store= it can be resumed"

    def result(self) -> "xarray.Dataset":
        """Return the labelled dataset, whose arrays are read-only."""
        variables = {}
        for name, variable in self.evaluator.template.items():
            array = self._arrays[name]
            array.flags.writeable = False
            variables[name] = variable.with_data(array)
        axes = self.evaluator.axes
        return to_dataset(variables, axes.dims, axes.labels(), self.attrs)


def _free_memory() -> float:
    """Return the bytes that a process may still use; infinity where the system does not say."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
    if "SC_AVPHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return float("inf")
