"""What of a sweep on disk is done, from its files alone."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from rbn_jax.sweeps import store_directory as folder
from rbn_jax.sweeps.reduction_sinks import blocks_of_unit, has_part, units_of
from rbn_jax.sweeps.store_sink import has_block


def status(path: Path) -> dict[str, Any]:
    """Blocks (of a reduction, parts) and points in all and done, and the missing ones.

    Raises:
        ValueError: the folder holds no sweep.
    """
    found = folder.identity(path)
    blocks = folder.blocks_of(found)
    arrays = {}
    for name, (_, shape, dtype) in found["variables"].items():
        arrays[name] = len(shape), math.prod(shape) * np.dtype(dtype).itemsize
    if "reduce" in found:
        units = {unit: blocks_of_unit(blocks, unit) for unit in range(units_of(blocks))}
        missing = [unit for unit in units if not has_part(path, unit)]
    else:
        units = {unit: range(unit, unit + 1) for unit in range(blocks.count)}
        missing = [unit for unit in units if not has_block(path, blocks, arrays, unit)]
    points = sum(blocks.points(number) for unit in missing for number in units[unit])
    return {
        "function": found["function"],
        "units": "parts" if "reduce" in found else "blocks",
        "count": len(units),
        "done": len(units) - len(missing),
        "points": math.prod(blocks.sizes),
        "points_done": math.prod(blocks.sizes) - points,
        "missing": missing,
    }
