"""What `rbn-jax sweep` does with sweeps of any size: quantities, reductions, clusters, stores."""

import contextlib
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rbn_jax import _terminal as terminal
from rbn_jax._fields import unknown_name
from rbn_jax._labels import require
from rbn_jax.sensitivity import elasticity, jacobian
from rbn_jax.sweep import reductions as red
from rbn_jax.sweep.axes import spaced
from rbn_jax.sweep.folder import checked_path
from rbn_jax.sweep.status import status
from rbn_jax.weights import calculate_RBN_weights

_DERIVATIVES = {"jacobian": jacobian, "elasticity": elasticity}


def function(quantity: str, wrt: tuple[str, ...]) -> Callable[[Any], Any]:
    """What is swept: the weights, or derivatives of them."""
    if quantity == "weights":
        return calculate_RBN_weights
    if quantity not in _DERIVATIVES:
        raise unknown_name(quantity, ["weights", *_DERIVATIVES], "quantity")
    return functools.partial(_DERIVATIVES[quantity], calculate_RBN_weights, wrt=wrt)


def reductions(specs: list[str] | None, over: list[str] | None) -> list[Any] | None:
    """Reductions from their names, or histogram:START:STOP:NUM."""
    if not specs:
        if over:
            raise ValueError(f"--over {over[0]}: is for --reduce")
        return None
    found = []
    for spec in specs:
        kind, _, edges = spec.partition(":")
        dims = tuple(over) if over else None
        if kind == "histogram":
            try:
                found.append(red.Histogram(spaced(edges), dims))
            except ValueError as error:
                raise ValueError(f"--reduce {spec}: {error}") from None
            continue
        if edges:
            raise ValueError(f"--reduce {spec}: {kind} takes no numbers")
        found += [type(one)(dims) for one in red.read(kind)]  # pyright: ignore[reportCallIssue]
    return found


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """(i, n) from i/n."""
    if text is None:
        return None
    first, slash, count = text.partition("/")
    if not slash or not first.isdecimal() or not count.isdecimal():
        raise ValueError(f"--shard {text}: must be i/n, whole numbers with 0 <= i < n")
    return int(first), int(count)


@contextlib.contextmanager
def client(workers: int | None, scheduler: str | None) -> Iterator[Any]:
    """A client of a scheduler, or of a cluster of this many processes; None for neither."""
    if workers is None and scheduler is None:
        yield None
        return
    if workers is not None and scheduler is not None:
        raise ValueError(f"--workers {workers} and --scheduler {scheduler}: must be one of them")
    if workers is not None and workers < 1:
        raise ValueError(f"--workers {workers}: must be a whole number >= 1")
    distributed = require("distributed", "sweep")
    if scheduler is not None:
        with distributed.Client(scheduler) as found:
            yield found
        return
    with (
        distributed.LocalCluster(workers, dashboard_address=None) as cluster,
        distributed.Client(cluster) as found,
    ):
        yield found


def print_status(path: Path, as_json: bool) -> None:
    """What of a store is done and what is missing."""
    found = status(checked_path(path))
    if as_json:
        print(json.dumps(found))
        return
    print(
        f"{path}: {found['function']}, {found['done']} of {found['count']} {found['units']} done,"
    )
    print(f"{found['points_done']} of {found['points']} points")
    if found["missing"]:
        print(f"missing {found['units']}: {_spans(found['missing'])}")


def _spans(numbers: list[int]) -> str:
    """1, 2, 3, 7 as "1-3, 7"."""
    breaks = np.flatnonzero(np.diff(numbers) > 1) + 1
    spans = [part for part in np.split(np.array(numbers), breaks) if part.size]
    return ", ".join(f"{x[0]}-{x[-1]}" if x.size > 1 else f"{x[0]}" for x in spans)


def report(result: Any, store: Path | None, out: Path, as_json: bool) -> None:
    """Say what is there now; a result in memory is written as netCDF."""
    if store is not None:
        print_status(store, as_json)
        return
    out = out if out.suffix else out.with_suffix(".nc")
    require("netCDF4", "sweep")
    with terminal.whole_file(out) as data:
        result.to_netcdf(data, engine="netcdf4")
    if as_json:
        print(
            json.dumps({"files": [str(out)], **{k: v.values.tolist() for k, v in result.items()}})
        )
        return
    for name, array in result.data_vars.items():
        print(f"{name} {dict(array.sizes)}\n{array.values}\n")
    print(f"wrote {out}")
