"""Sweeps of any size: reductions, clusters of workers, and the state of a store."""

import contextlib
import functools
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from rbn_jax import reductions as red
from rbn_jax.cli.arguments import name_argument
from rbn_jax.cli.conditions import read_condition
from rbn_jax.cli.output import opening_call, print_speed
from rbn_jax.parameters.optional import require
from rbn_jax.sweeps.store import StoreDirectory, checked_path, store_status

if TYPE_CHECKING:
    import distributed

REDUCTIONS = f"{red.reduction_help()}, where CONDITION is as 'EI<-30&EE>=10'."
# of the missing blocks of a store
_MAX_LISTED_RUNS = 12


def parse_reductions(
    specs: list[str] | None, over: list[str] | None, fn: Callable[..., object]
) -> list[red.Reduction] | None:
    """Return the reductions that `REDUCTIONS` describes, over some dimensions or all.

    Raises:
        ValueError: another text; dimensions without a reduction.
    """
    if not specs:
        if over:
            raise ValueError(f"--over {over[0]}: is for --reduce")
        return None
    dims = tuple(over) if over else None
    read = functools.partial(read_condition, fn=fn)
    reductions = []
    for spec in specs:
        kind, _, text = spec.partition(":")
        with name_argument(f"--reduce {spec}"):
            reductions.append(red.reduction_class(kind).from_text(text, dims, read))
    return reductions


@contextlib.contextmanager
def dask_client(
    workers: int | None, scheduler: str | None
) -> Iterator["distributed.Client | None"]:
    """Yield a client of a scheduler, or of a new cluster of processes; None for neither.

    Raises:
        ValueError: both are asked for, or less than one process.
    """
    if workers is None and scheduler is None:
        yield None
        return
    if workers is not None and scheduler is not None:
        raise ValueError(f"--workers {workers} and --scheduler {scheduler}: give only one of them")
    if workers is not None and workers < 1:
        raise ValueError(f"--workers {workers}: must be a whole number >= 1")
    distributed = require("distributed", "sweep")
    with contextlib.ExitStack() as stack:
        cluster = scheduler
        if cluster is None:
            # without a dashboard, whose port may be in use
            cluster = stack.enter_context(
                distributed.LocalCluster(n_workers=workers, dashboard_address=None)
            )
        yield stack.enter_context(distributed.Client(cluster))


def stored_points(store: str, shard: tuple[int, int] | None) -> dict[int, int]:
    """Return the points of every task of a shard that is done in a store, by its number."""
    first, step = shard or (0, 1)
    try:
        directory = StoreDirectory.read(checked_path(store))
        tasks = range(first, directory.blocks.task_count, step)
        done = directory.done_tasks()
    except ValueError:
        # the store does not exist yet; whatever else is wrong, the sweep says it
        return {}
    return {task: directory.blocks.task_points(task) for task in done if task in tasks}


def print_status(store: str, as_json: bool, speed: dict[str, float] | None = None) -> None:
    """Print how much of the sweep in a store is done, what is missing, and how to open it."""
    state = store_status(store)
    if as_json:
        print(json.dumps({**state, **(speed or {})}))
        return
    units, missing = state["units"], state["missing"]
    print(f"{store}: {state['function']}, {state['done']:,} of {state['count']:,} {units} done,")
    print(f"{state['points_done']:,} of {state['points']:,} points")
    if missing:
        print(f"missing {units}: {_format_runs(missing)}")
    if speed:
        print_speed(speed)
    # a reduction has a result only when all of it is done
    if units == "blocks" or not missing:
        print(f"open it with {opening_call(store)}")


def _format_runs(numbers: list[int]) -> str:
    """Format 1, 2, 3, 7 as "1-3, 7"; of many runs only the first are listed."""
    breaks = np.flatnonzero(np.diff(numbers) > 1) + 1
    texts = []
    for run in np.split(np.array(numbers), breaks):
        texts.append(f"{run[0]}-{run[-1]}" if run.size > 1 else f"{run[0]}")
    more = len(texts) - _MAX_LISTED_RUNS
    if more > 0:
        texts[_MAX_LISTED_RUNS:] = [f"and {more} more runs (--json lists all)"]
    return ", ".join(texts)
