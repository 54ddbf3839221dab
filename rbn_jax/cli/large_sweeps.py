"""What `rbn-jax sweep` does with sweeps of any size: quantities, reductions, clusters, stores."""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rbn_jax.cli import terminal
from rbn_jax.cli.conditions import read_condition
from rbn_jax.parameters.checks import unknown_name_error
from rbn_jax.parameters.optional import require
from rbn_jax.rates import firing_rates
from rbn_jax.rates.theories import find_theory
from rbn_jax.sensitivity import elasticity, jacobian
from rbn_jax.sweeps import reductions as red
from rbn_jax.sweeps.axes import spaced
from rbn_jax.sweeps.named import read
from rbn_jax.sweeps.store_directory import checked_path
from rbn_jax.sweeps.store_status import status
from rbn_jax.weights import calculate_RBN_weights

REDUCTIONS = (
    "minimum, maximum, argmin, argmax, mean, count; histogram:START:STOP:NUM of edges; "
    "fraction:CONDITION, examples:[NUMBER:]CONDITION, as 'EI<-30&EE>=10'."
)
_SPANS = 12  # runs of missing blocks that are listed
_DERIVATIVES = {"jacobian": jacobian, "elasticity": elasticity}


def function(quantity: str, wrt: tuple[str, ...], theory: str | None) -> Callable[[Any], Any]:
    """What is swept: the weights, derivatives of them, or firing rates by a theory."""
    if theory is not None and quantity != "rates":
        raise ValueError(f"--theory {theory}: is for --quantity rates")
    if quantity == "rates":
        return rates_by(theory or "quenched")
    if quantity == "weights":
        return calculate_RBN_weights
    if quantity not in _DERIVATIVES:
        raise unknown_name_error(quantity, ["weights", "rates", *_DERIVATIVES], "quantity")
    return functools.partial(_DERIVATIVES[quantity], calculate_RBN_weights, wrt=wrt)


@functools.cache
def rates_by(theory: str) -> Callable[[Any], Any]:
    """`firing_rates` by a theory, with its labels; a store knows the theory by its name."""
    model = find_theory(theory)

    def found(params: Any) -> Any:
        return firing_rates(params, model)

    functools.update_wrapper(found, firing_rates)
    if theory != "quenched":
        found.__name__ = f"firing_rates_{theory}"
    return found


def reductions(
    specs: list[str] | None, over: list[str] | None, fn: Callable[[Any], Any]
) -> list[Any] | None:
    """Reductions from their names, or as `REDUCTIONS` has them."""
    if over and not specs:
        raise ValueError(f"--over {over[0]}: is for --reduce")
    dims = tuple(over) if over else None
    try:
        return [_reduction(spec, dims, fn) for spec in specs] if specs else None
    except ValueError as error:
        raise ValueError(f"--reduce {error}") from None


def _reduction(spec: str, over: tuple[str, ...] | None, fn: Callable[[Any], Any]) -> Any:
    kind, _, rest = spec.partition(":")
    try:
        if kind == "histogram":
            return red.Histogram(spaced(rest), over)
        if kind in ("fraction", "examples"):
            k, colon, text = rest.partition(":") if kind == "examples" else ("", "", rest)
            if not colon:
                k, text = "10", rest
            if not k.isdecimal():
                raise ValueError(f"{k!r} is no whole number of examples")
            test = read_condition(text, fn)
            if kind == "fraction":
                return red.Fraction(test, over, test.name)
            return red.Examples(test, int(k), over, test.name)
        if rest:
            raise ValueError(f"{kind} takes nothing after a colon")
    except ValueError as error:
        raise ValueError(f"{spec}: {error}") from None
    (one,) = read(kind)
    return dataclasses.replace(one, over=over)  # pyright: ignore[reportArgumentType]


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
        distributed.LocalCluster(n_workers=workers, dashboard_address=None) as cluster,
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
    """1, 2, 3, 7 as "1-3, 7"; of many spans the first."""
    breaks = np.flatnonzero(np.diff(numbers) > 1) + 1
    spans = [part for part in np.split(np.array(numbers), breaks) if part.size]
    told = [f"{x[0]}-{x[-1]}" if x.size > 1 else f"{x[0]}" for x in spans[:_SPANS]]
    more = len(spans) - len(told)
    return ", ".join([*told, f"and {more} more runs (--json has all)"] if more else told)


def report(result: Any, store: Path | None, out: Path, as_json: bool) -> None:
    """Say what is there now; a result in memory is written as netCDF."""
    if store is not None:
        print_status(store, as_json)
        return
    out = netcdf(out)
    write(result, out)
    if as_json:
        print(
            json.dumps({"files": [str(out)], **{k: v.values.tolist() for k, v in result.items()}})
        )
        return
    for name, array in result.data_vars.items():
        print(f"{name} {dict(array.sizes)}\n{array.values}\n")
    print(f"wrote {out}")


def netcdf(out: Path) -> Path:
    """The name of a netCDF file, its suffix added where there is none."""
    out = out if out.suffix else out.with_suffix(".nc")
    if out.suffix.lower() != ".nc":
        raise ValueError(f"--out {out}: must end in .nc, or in nothing")
    require("netCDF4", "sweep")
    return out


def write(result: Any, out: Path) -> None:
    """A dataset as netCDF, whole or not at all."""
    with terminal.whole_file(out) as data:
        result.to_netcdf(data, engine="netcdf4")
