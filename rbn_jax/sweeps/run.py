"""The function `sweep`: axes in, labelled results out, of any size."""

import contextlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, overload

from numpy.typing import DTypeLike

from rbn_jax.parameters.access import read_parameters
from rbn_jax.parameters.checks import to_whole_number
from rbn_jax.reductions import ReduceArgument, Reduction, is_float, read_reductions
from rbn_jax.sweeps.axes import read_axes
from rbn_jax.sweeps.blocks import Blocks, plan_blocks
from rbn_jax.sweeps.evaluator import TracedEvaluator, TracedFunction
from rbn_jax.sweeps.executors import run_tasks
from rbn_jax.sweeps.host import HostEvaluator, HostFunction
from rbn_jax.sweeps.identity import restore_template
from rbn_jax.sweeps.reduction_sink import ReductionSink
from rbn_jax.sweeps.sinks import MemorySink, StoreSink
from rbn_jax.sweeps.store import StoreDirectory, checked_path, open_store
from rbn_jax.sweeps.verification import check_sample
from rbn_jax.system.processes import Processes

if TYPE_CHECKING:
    import distributed
    import xarray

    from rbn_jax.sweeps.axes import AxesArgument

StorePath = str | os.PathLike[str]
Shard = tuple[int, int]


class _Options(TypedDict, total=False):
    """The arguments of `sweep` on which the type of its result does not depend."""

    dtype: DTypeLike | None
    store: StorePath | None
    reduce: ReduceArgument | None
    block_size: int | None
    host: bool | int
    client: "distributed.Client | None"
    overwrite: bool
    verify: bool
    progress: bool | None


@overload
def sweep(
    fn: Callable[..., Any],
    params: object,
    axes: "AxesArgument",
    *,
    shard: None = None,
    **options: Unpack[_Options],
) -> "xarray.Dataset": ...


@overload
def sweep(
    fn: Callable[..., Any],
    params: object,
    axes: "AxesArgument",
    *,
    shard: Shard | None,
    **options: Unpack[_Options],
) -> "xarray.Dataset | None": ...


def sweep(
    fn: Callable[..., Any],
    params: object,
    axes: "AxesArgument",
    *,
    dtype: DTypeLike | None = None,
    store: StorePath | None = None,
    reduce: ReduceArgument | None = None,
    block_size: int | None = None,
    shard: Shard | None = None,
    host: bool | int = False,
    client: "distributed.Client | None" = None,
    overwrite: bool = False,
    verify: bool = False,
    progress: bool | None = None,
) -> "xarray.Dataset | None":
    """Evaluate fn at every point of a grid of parameters, or of a list of samples.

    fn is compiled once and mapped along one dimension after the other, so that each part of
    it is evaluated only over the dimensions it depends on: over n values of each of four time
    constants the weights cost n^2 peaks, not n^4. Inputs stay arrays of one axis, but where
    several entries of one matrix are axes: then the matrix is made for every combination.

    With `store` the sweep runs block by block into a Zarr store. The same call resumes a sweep
    that stopped, however it was stopped: only blocks whose files are missing or incomplete are
    computed. Several processes may work on one store at once.

    Args:
        fn: a function of one argument like `params` that JAX can trace and that returns an
            array; or arrays in mappings, named tuples and dataclasses, also nested: each is a
            variable of the result; or an xarray object, whose dimensions, attributes and 1-D
            coordinates are kept. JAX compiles each function once: pass the same one again.
        params: the network whose other parameters are held fixed; or a mapping of numbers.
        axes: values by parameter name. A 1-D array, or the text "start:stop:num" or
            "start:stop:num:log", is a dimension of that name. Several parameters vary together
            as `xarray.DataArray`s along one dimension, as `sample` gives them; as a tuple of
            names with one array each, {("tau_E", "tau_I"): (a, b)}, along "tau_E_tau_I"; as the
            columns of a `pandas.DataFrame`, which is the argument itself, along "sample" or
            the dimension that its index names, or a value under the name of the dimension.
            `baseline_conn_prob_EI` names an entry of the matrix. No axes: one point.
        dtype: "float32" or "float64"; None for JAX's default. It needs no other setting.
        store: a folder for a Zarr store (version 3, uncompressed, with checksums), for
            results larger than memory.
        reduce: what to keep instead of every value: the name of a reduction, as "minimum",
            one made by `rbn_jax.reductions`, as Histogram(bins), or a list of them; over all
            dimensions of the sweep, or over those named. NaN is left out. Counts are int64
            and sums float64, merged in the order of the blocks: the last bits of a mean may
            depend on block_size, and nothing on interruptions, threads or workers. With a
            store it can be resumed like any other sweep.
        block_size: points evaluated at once. Default: without a store or reductions all;
            otherwise as many as give 8 MiB of results on a CPU, whose C library reuses arrays
            of this size, and 256 MiB on a GPU. A store keeps the blocks that it was made with.
        shard: (i, n) computes only every n-th block of the store, from the i-th on, for
            job arrays.
        host: True for a function that is ordinary Python, as a simulator or SciPy: it is called
            with numbers, which are all floats, at one point at a time, in as many processes as
            there are cores, or in this many. Its numbers become float64. A point where it
            raises an error, or ends its process, is NaN, and a warning names it; in a store it
            counts as done. In a script, what calls `sweep` must be under
            `if __name__ == "__main__":`, as each process imports the script. A store notices
            changes in the source of the function and in the numbers and texts that
            functools.partial gives it, but not in objects, in closures or in what it calls.
            With a client, the processes are those that the workers start.
        client: a `dask.distributed.Client` whose workers evaluate the blocks. A store must
            then lie where all of them can write.
        overwrite: start anew in a store that another sweep has made. Its own files are deleted,
            others that are there stay.
        verify: read all blocks that are done, verify their checksums, and compute those that are
            damaged again. Without it this is done for blocks of a process that was killed.
        progress: where there are several blocks, True for a progress bar, False for silence;
            None for a bar in a terminal or notebook, and for lines on stderr elsewhere.

    Returns:
        An `xarray.Dataset`: the function's result under the function's name, or under the
        names in its mapping; the axes as coordinates with their units; results that end in
        (2, 2) along `target` and `source` = "E", "I". `attrs` holds the function's name, the
        parameters as JSON, the dtype and the versions. In memory the arrays are read-only;
        from a store they are lazy, and NaN (integers 0, truth values False) where a shard or
            an interruption left blocks out.
        With `reduce`: variables such as `<name>_minimum`, `<name>_argmin_<parameter>`,
        `<name>_histogram`; None as long as other shards have parts to do.

    Raises:
        ValueError: fn is no function; as in `check` for the parameters; an axis that is
            unknown, empty, not 1-D, not finite or outside its domain; two axes, or an axis and
            a result, of one name; an unknown dtype; a store that is a file or that another
            sweep has made; a result larger than the memory or disk that is free.
        RuntimeError: fn failed in a block, which is named with its parameters; a Python function
            failed at every point.
        OSError: the store could not be written; the blocks finished until then are kept.
        ImportError: an optional package is missing.

    Warns:
        RuntimeWarning: results that are NaN, with the parameters of the first such block; points
            where a Python function failed.
        UserWarning: a shard has nothing to do.

    >>> from rbn_jax import NetworkParams, calculate_RBN_weights
    >>> axes = {"tau_syn_ex": [2.0, 5.0], "gei": [1.0, 1.5, 2.0]}
    >>> weights = sweep(calculate_RBN_weights, NetworkParams(), axes)["calculate_RBN_weights"]
    >>> dict(weights.sizes)
    {'tau_syn_ex': 2, 'gei': 3, 'target': 2, 'source': 2}
    >>> round(weights.sel(target="E", source="E", tau_syn_ex=5.0, gei=1.0).item(), 3)
    15.874
    """
    _check_options(fn, store, shard, client, progress, overwrite=overwrite, verify=verify)
    if host is not False:
        _check_host(host, dtype=dtype, reduce=reduce, block_size=block_size)
    reductions = () if reduce is None else read_reductions(reduce)
    parameters = read_parameters(params)
    checked_axes = read_axes(parameters, axes)
    path = None if store is None else checked_path(store)
    with contextlib.ExitStack() as stack:
        if host:
            processes = Processes(None if host is True else int(host))
            stack.callback(processes.close)
            template = None
            if path and not overwrite and (path / "zarr.json").exists():
                # the store tells what fn returns, so that no point is computed again
                template = restore_template(StoreDirectory.read(path).identity)
            function = HostFunction(fn, parameters, checked_axes, processes, template)
            blocks = function.blocks
        else:
            numbered = enumerate(reduction.condition for reduction in reductions)
            conditions = tuple((i, condition) for i, condition in numbered if condition)
            function = TracedFunction(fn, parameters, checked_axes, dtype, conditions)
            _check_reductions(function, reductions)
            blocks = Blocks(checked_axes.sizes, checked_axes.sizes, checked_axes.sizes)
            if path or reductions or block_size is not None:
                blocks = plan_blocks(
                    blocks.sizes,
                    function.point_bytes,
                    block_size,
                    shards=shard[1] if shard else 1,
                    group_blocks=bool(reductions),
                )
        directory = None
        if path:
            opened_store = open_store(path, function, blocks, reductions, block_size, overwrite)
            directory = stack.enter_context(opened_store)
            # a store that exists keeps its blocks
            blocks = directory.blocks
        if isinstance(function, HostFunction):
            evaluator = HostEvaluator(function, blocks)
        else:
            evaluator = TracedEvaluator(function, blocks)
        if reductions and isinstance(evaluator, TracedEvaluator):
            sink = ReductionSink(evaluator, reductions, directory)
        elif directory:
            sink = StoreSink(evaluator, directory)
        else:
            sink = MemorySink(evaluator)
        if directory and not isinstance(sink, MemorySink):
            check_sample(sink, directory)
        run_tasks(sink, shard, client, progress, verify)
        return sink.result()


def _check_options(
    fn: object, store: object, shard: object, client: object, progress: object, **flags: object
) -> None:
    if not callable(fn):
        raise ValueError(f"fn is a {type(fn).__name__}: must be a function of the parameters")
    if store is None and (shard is not None or any(flags.values())):
        names = ", ".join(("shard", *flags))
        raise ValueError(f"{names} are for a store: give store= too")
    if shard is not None and not _is_shard(shard):
        raise ValueError(f"shard={shard!r}: must be (i, n), whole numbers with 0 <= i < n")
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise ValueError(f"{name}={flag!r}: must be True or False")
    if progress is not None and not isinstance(progress, bool):
        raise ValueError(f"progress={progress!r}: must be True, False or None")
    if client is not None and not hasattr(client, "get_executor"):
        raise ValueError(f"client is a {type(client).__name__}: must be a distributed.Client")


def _check_host(host: object, **options: object) -> None:
    if host is not True:
        to_whole_number("host", host, 1)
    for name, value in options.items():
        if value is not None:
            raise ValueError(
                f"{name}={value!r}: is for functions that JAX computes; with host=, a point is one "
                "call, and its numbers are float64"
            )


def _is_shard(shard: object) -> bool:
    if not isinstance(shard, tuple | list) or list(map(type, shard)) != [int, int]:
        return False
    return 0 <= shard[0] < shard[1]


def _check_reductions(function: TracedFunction, reductions: tuple[Reduction, ...]) -> None:
    """Check dimensions and values of reductions, and that each result has a name of its own."""
    names = []
    for reduction in reductions:
        reduction.split_axes(function.axes.dims)
        if reduction.condition is not None:
            names.append(f"{reduction.name}_{reduction.kind}")
            continue
        for name, variable in function.template.items():
            is_float(variable.data.dtype)
            if 0 in variable.data.shape:
                raise ValueError(f"{name} has the shape {variable.data.shape}: nothing to reduce")
            names.append(f"{name}_{reduction.kind}")
    if reductions and not function.axes.dims:
        raise ValueError("reduce: there is no axis to reduce over")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"reduce makes {', '.join(repeated)} twice: leave one out; fractions and examples take "
            "a name="
        )
