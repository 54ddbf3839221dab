"""The one function of this package: axes in, labelled results out, whatever their size."""

import functools
import importlib.metadata
import json
from collections.abc import Callable, Mapping
from typing import Any

from rbn_jax.parameters.access import read_parameters, to_plain
from rbn_jax.parameters.labels import function_name
from rbn_jax.sweeps import store_directory as folder
from rbn_jax.sweeps.axes import read_axes
from rbn_jax.sweeps.blocks import plan
from rbn_jax.sweeps.evaluator import Job
from rbn_jax.sweeps.executors import drive
from rbn_jax.sweeps.memory_sink import Memory
from rbn_jax.sweeps.named import check_over, read
from rbn_jax.sweeps.reduced_dataset import names_of
from rbn_jax.sweeps.reduction_sinks import Reduced, ReducedStore
from rbn_jax.sweeps.reductions import Examples, Fraction, Reduction
from rbn_jax.sweeps.store_sink import Store


def sweep(
    fn: Callable[[Any], Any],
    params: Any,
    axes: Mapping[str, Any],
    *,
    dtype: Any = None,
    store: Any = None,
    reduce: Any = None,
    block_size: int | None = None,
    shard: tuple[int, int] | None = None,
    client: Any = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> Any:
    """fn of the parameters at every point of a grid, or of a list of samples.

    fn is compiled once and mapped along one dimension after the other, so that each part of
    it is evaluated only over the dimensions it depends on: over n values of each of four time
    constants the weights cost n^2 peaks, not n^4. The grid is never stored as inputs; only
    several entries of the matrix as axes make a matrix for each of their combinations.

    With `store` the sweep runs block by block into a Zarr store. The same call goes on where
    an earlier one stopped, however it was stopped: only blocks that are not whole on disk are
    computed. Several processes may work on one store at once.

    Args:
        fn: a function of one argument like `params` that JAX can trace and that returns an
            array, a mapping of arrays or an xarray object: its dimensions, attributes and 1-D
            coordinates are kept. JAX compiles each function once: pass the same one again.
        params: the network whose other parameters are held fixed; or a mapping of numbers.
        axes: values by parameter name. A 1-D array, or the text "start:stop:num" or
            "start:stop:num:log", is a dimension of that name; several `xarray.DataArray`s
            along one dimension, as `sample` gives them, vary together.
            `baseline_conn_prob_EI` names an entry of the matrix. No axes: one point.
        dtype: "float32" or "float64"; None for JAX's default. It needs no other setting.
        store: a folder for a Zarr store (version 3, uncompressed, with checksums), for
            results larger than memory.
        reduce: what to keep instead of every value: the name of a reduction, as "minimum",
            one made by `rbn_jax.reductions`, as Histogram(bins), or a list of them; over all
            dimensions of the sweep, or over those named. Each is exact: it does not depend on
            the blocks. NaN is left out. With a store it can be resumed like any other sweep.
        block_size: points evaluated at once. Default: in memory all; into a store as many
            as give 8 MiB of results on a CPU (such arrays reuse memory), 256 MiB on
            a GPU. A store keeps the blocks that it was made with.
        shard: (i, n) computes only every n-th block of the store, from the i-th on, for
            job arrays.
        client: a `dask.distributed.Client` whose workers evaluate the blocks. A store must
            then lie where all of them can write.
        overwrite: start anew in a store that another sweep has made.
        progress: True or False for a progress bar; None for one in a terminal or notebook
            when there are several blocks.

    Returns:
        An `xarray.Dataset`: the function's result under the function's name, or under the
        names in its mapping; the axes as coordinates with their units; results that end in
        (2, 2) along `target` and `source` = "E", "I". `attrs` holds the function's name, the
        parameters as JSON, the dtype and the versions. In memory the arrays are read-only;
        from a store they are lazy, and NaN where a shard or an interruption left blocks out.
        With `reduce`: variables such as `<name>_minimum`, `<name>_argmin_<parameter>`,
        `<name>_histogram`; None as long as other shards have parts to do.

    Raises:
        ValueError: fn is no function; as in `check` for the parameters; an axis that is
            unknown, empty, not 1-D, not finite or outside its domain; two axes, or an axis and
            a result, of one name; an unknown dtype; a store that is a file or that another
            sweep has made; a result larger than the memory or disk that is free.
        RuntimeError: fn failed in a block, which is named with its parameters.
        OSError: the store could not be written; the blocks finished until then are kept.
        ImportError: an optional package is missing.

    Warns:
        RuntimeWarning: results that are NaN, with the parameters of the first such block.

    >>> from rbn_jax import NetworkParams, calculate_RBN_weights
    >>> axes = {"tau_syn_ex": [2.0, 5.0], "gei": [1.0, 1.5, 2.0]}
    >>> weights = sweep(calculate_RBN_weights, NetworkParams(), axes)["calculate_RBN_weights"]
    >>> dict(weights.sizes)
    {'tau_syn_ex': 2, 'gei': 3, 'target': 2, 'source': 2}
    >>> round(weights.sel(target="E", source="E", tau_syn_ex=5.0, gei=1.0).item(), 3)
    15.874
    """
    if not callable(fn):
        raise ValueError(f"fn is a {type(fn).__name__}: must be a function of the parameters")
    if store is None and (shard is not None or overwrite):
        raise ValueError("shard and overwrite are for a store: give store= too")
    _check_shard(shard)
    if not isinstance(overwrite, bool):
        raise ValueError(f"overwrite={overwrite!r}: must be True or False")
    if progress is not None and not isinstance(progress, bool):
        raise ValueError(f"progress={progress!r}: must be True, False or None")
    if client is not None and not hasattr(client, "get_executor"):
        raise ValueError(f"client is a {type(client).__name__}: must be a distributed.Client")
    reductions = () if reduce is None else read(reduce)
    conditions = tuple(x.condition for x in reductions if isinstance(x, Fraction | Examples))
    parameters = read_parameters(params)
    job = Job(fn, parameters, read_axes(parameters, axes), dtype, conditions)
    if not (block_size is store is reduce is None):
        job.blocks = plan(job.sizes, job.point_bytes, block_size)
    _check_reductions(job, reductions)
    attrs = _attrs(fn, params, job.dtype)
    if store is None:
        target = Reduced(job, reductions, attrs) if reductions else Memory(job, attrs)
        drive(target, None, client, progress)
        return target.result()
    path = folder.checked_path(store)
    target = ReducedStore(job, reductions, attrs, path) if reductions else Store(job, path)
    new = folder.prepare(target, attrs, block_size is not None, overwrite)
    with folder.locked(path, alone=False):
        folder.confirm(target, new, block_size is not None)
        drive(target, shard, client, progress)
        return target.result()


def _check_reductions(job: Job, reductions: tuple[Reduction, ...]) -> None:
    for reduction in reductions:
        check_over(reduction, job.axes.dims)
    if reductions and not job.sizes:
        raise ValueError("reduce: there is no axis to reduce over")
    names = names_of(job, reductions)
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"reduce makes {', '.join(sorted(twice))} twice: give them other names")


def _check_shard(shard: Any) -> None:
    if shard is None:
        return
    pair = isinstance(shard, tuple | list) and len(shard) == 2
    if not pair or not all(type(x) is int for x in shard) or not 0 <= shard[0] < shard[1]:
        raise ValueError(f"shard={shard!r}: must be (i, n), whole numbers with 0 <= i < n")


def _attrs(fn: Callable[[Any], Any], params: Any, dtype: str) -> dict[str, str]:
    return {
        "function": function_name(fn),
        "params": json.dumps(to_plain(params)),
        "dtype": dtype,
        "versions": _versions(),
    }


@functools.cache
def _versions() -> str:
    return json.dumps({name: importlib.metadata.version(name) for name in ("rbn_jax", "jax")})
