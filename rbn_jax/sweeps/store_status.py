"""What of a sweep in a directory is done, from its files alone."""

import math
from pathlib import Path
from typing import TypedDict

from rbn_jax.sweeps import store_directory
from rbn_jax.sweeps.blocks import block_runs
from rbn_jax.sweeps.reduction_sinks import has_part
from rbn_jax.sweeps.store_sink import has_block


class StoreStatus(TypedDict):
    """What of a sweep is done; units: "blocks", of a reduction "parts" (runs of blocks)."""

    function: str
    units: str
    count: int
    done: int
    points: int
    points_done: int
    missing: list[int]


def status(path: Path) -> StoreStatus:
    """Return how many blocks (of a reduction: parts) and points are done, and what is missing.

    Raises:
        ValueError: the directory holds no sweep.
    """
    identity = store_directory.read_identity(path)
    blocks = store_directory.stored_blocks(identity)
    if "reduce" in identity:
        runs = block_runs(blocks)
        missing = [i for i in range(len(runs)) if not has_part(path, i)]
    else:
        runs = [range(i, i + 1) for i in range(blocks.count)]
        variables = identity["variables"]
        missing = [i for i in range(blocks.count) if not has_block(path, blocks, variables, i)]
    points = math.prod(blocks.sizes)
    points_missing = sum(blocks.points(block) for i in missing for block in runs[i])
    return {
        "function": identity["function"],
        "units": "parts" if "reduce" in identity else "blocks",
        "count": len(runs),
        "done": len(runs) - len(missing),
        "points": points,
        "points_done": points - points_missing,
        "missing": missing,
    }
