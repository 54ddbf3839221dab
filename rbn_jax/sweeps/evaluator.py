"""The evaluation of a sweep: one compiled function for all of its blocks, in any process."""

import abc
import functools
import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import DTypeLike

from rbn_jax import __version__
from rbn_jax.parameters.access import Parameters, read_parameters, to_plain
from rbn_jax.parameters.labels import (
    Variable,
    explain_trace_errors,
    function_name,
    label_result,
    record_labels,
)
from rbn_jax.reductions import Condition
from rbn_jax.sweeps.axes import Axes, Layout
from rbn_jax.sweeps.blocks import Blocks
from rbn_jax.system.processes import Portable

_DTYPES = ("float32", "float64")
_evaluating = threading.Lock()

Template = dict[str, Variable]
"""Variables by name."""

Conditions = tuple[tuple[int, Condition], ...]
"""A number, as the position of a reduction, and the condition of that number."""

Evaluation = tuple[Template, dict[int, Array]]
"""fn's variables by name, and the truth values of the conditions by number."""


class Program(NamedTuple):
    """What is computed at a point.

    digest: a hash of the program
    calls_python: whether it calls Python code of which the hash holds nothing
    """

    digest: str
    calls_python: bool


class SweptFunction(Portable, abc.ABC):
    """A function, the parameters that are held fixed and axes.

    template: fn's variables at one point, with shapes and dtypes in place of data
    attrs: what is computed and with which versions, as attributes of a result
    """

    template: Template
    # what computes a point, and the version of it on which `program` depends
    backend = ("jax", jax.__version__)
    block_name = "block"

    def __init__(self, fn: Callable[..., Any], params: object, axes: Axes, dtype: str):
        self.fn = fn
        self.axes = axes
        self.dtype = dtype
        self.attrs = {
            "function": function_name(fn),
            "params": json.dumps(to_plain(params)),
            "dtype": dtype,
            "versions": json.dumps({"rbn_jax": __version__, "jax": jax.__version__}),
        }

    @property
    def point_bytes(self) -> int:
        """The bytes of fn's result at one point, at least 1."""
        return max(sum(variable.nbytes for variable in self.template.values()), 1)

    def describe(self, blocks: Blocks, block: int) -> str:
        """Describe a block as in "block 3 of 8 (tau_E 5 to 10 ms, gei 1.5)"."""
        points = self.axes.describe(blocks.region(block))
        return f"{self.block_name} {block} of {blocks.count} ({points})"

    @abc.abstractmethod
    def program(self) -> Program:
        """Return what tells this function from others; it is the same in every process."""


class TracedFunction(SweptFunction):
    """A function that JAX compiles, traced once, with conditions on what it returns."""

    def __init__(
        self,
        fn: Callable[..., Any],
        params: object,
        axes: Axes,
        dtype: DTypeLike | None = None,
        conditions: Conditions = (),
    ):
        super().__init__(fn, params, axes, _dtype_name(dtype))
        self.conditions = conditions
        self.params = read_parameters(params).astype(self.dtype)
        # A thread does not see the setting that a context of another thread made, and blocks are
        # evaluated in several threads: so each evaluation sets it again.
        self.x64 = self.dtype == "float64" or jnp.result_type(float) == np.float64
        self.template = self._evaluate_template()

    def program(self) -> Program:
        """Return a hash of the lowered program, and whether it has a callback."""
        # A callback is lowered for another platform only while the default device is of it.
        with jax.enable_x64(self.x64), jax.default_device(_first_cpu()):
            text = self._trace().lower(lowering_platforms=("cpu",)).as_text()
        # the name of a callback on a CPU; the same word elsewhere costs one more block
        return Program(hashlib.sha256(text.encode()).hexdigest(), "python_cpu_callback" in text)

    def _evaluate_template(self) -> Template:
        """Return fn's variables at one point as shapes and dtypes.

        Raises:
            ValueError: a condition gives something else than one truth value.
        """
        with jax.enable_x64(self.x64), explain_trace_errors(self.fn):
            variables, flags = self._trace().out_info
        ndim = len(self.axes.dims)
        for number, condition in self.conditions:
            flag = flags[number]
            if flag.ndim != ndim or flag.dtype != np.bool_:
                raise ValueError(
                    f"the condition {condition!r} gives {flag.dtype} values of the shape "
                    f"{flag.shape[ndim:]}: must give one truth value for a point"
                )
        template = {}
        for name, variable in variables.items():
            data = variable.data
            abstract = jax.ShapeDtypeStruct(data.shape[ndim:], data.dtype)
            template[name] = variable.with_data(abstract)
        return template

    def _trace(self) -> jax.stages.Traced:
        """Trace `_evaluate` for a sweep of one point."""
        axes = {name: np.zeros(1, self.dtype) for name in self.axes.values}
        return _evaluate.trace(self.fn, self.conditions, self.axes.layout, None, self.params, axes)


class TracedEvaluator(Portable):
    """A traced function and the blocks of its axes.

    One block is evaluated at a time: the second thread is for the time in which the block of the
    first is copied or written.
    """

    threads = 2
    preparation = "compiling"

    def __init__(self, function: TracedFunction, blocks: Blocks):
        self.function = function
        self.blocks = blocks
        # A context may have set the default device, which only the thread of the caller sees.
        _ = self._mesh

    @property
    def padded_shape(self) -> tuple[int, ...]:
        """The shape of a block, its longest side padded to a multiple of the device count."""
        shape = list(self.blocks.shape)
        if shape:
            longest = shape.index(max(shape))
            shape[longest] += -shape[longest] % self._mesh.size
        return tuple(shape)

    def evaluate(self, block: int) -> Evaluation:
        """Evaluate fn and the conditions in a block; the arrays are padded, and on devices.

        Raises:
            RuntimeError: the evaluation failed; names the block and its parameters.
        """
        function, layout = self.function, self.function.axes.layout
        region = self.blocks.region(block)
        values = {}
        for (_, names), points, length in zip(layout, region, self.padded_shape, strict=True):
            for name in names:
                row = function.axes.values[name][points].astype(function.dtype)
                # repeats the last value of the block, which adds neither NaN nor errors
                values[name] = np.pad(row, (0, length - row.size), mode="edge")
        try:
            # Alone in this process: XLA computes a block on all cores, and two threads that call
            # the function for the first time would both compile it.
            with _evaluating, jax.enable_x64(function.x64):
                evaluation = _evaluate(
                    function.fn, function.conditions, layout, self._mesh, function.params, values
                )
                return jax.block_until_ready(evaluation)
        # fn has been traced before, so a callback in it failed, or there is too little memory
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            place = function.describe(self.blocks, block)
            raise RuntimeError(f"fn failed in {place}: {lines[-1]}") from error

    def fetch(self, block: int) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """Return fn's variables in a block without padding, and problems with their details."""
        variables, _ = self.evaluate(block)
        arrays = {name: variable.data for name, variable in variables.items()}
        # with 32 bits only, JAX would convert float64 arrays to float32 first
        with jax.enable_x64(True):
            flags = jax.device_get(contains_nan(arrays))
        # with the ellipsis one number stays an array
        inside = (*map(slice, self.blocks.lengths(block)), ...)
        host_arrays = {name: np.asarray(array)[inside] for name, array in arrays.items()}
        return host_arrays, name_nan(flags)

    @functools.cached_property
    def _mesh(self) -> Mesh:
        """All devices of this process, or the one that JAX was told to use."""
        default = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(default, jax.Device):
            devices = [default]
        else:
            devices = jax.local_devices(backend=default)
        return Mesh(np.asarray(devices), ("block",))


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _evaluate(
    fn: Callable[..., Any],
    conditions: Conditions,
    layout: Layout,
    mesh: Mesh | None,
    params: Parameters,
    values: dict[str, Array],
) -> Evaluation:
    """Evaluate fn in a block of 1-D axes: one vmap for each dimension, the first outermost."""

    @record_labels()
    def evaluate(changes: dict[str, Array]) -> Evaluation:
        result = fn(params.replace(changes).build())
        flags = {}
        for number, condition in conditions:
            with explain_trace_errors(condition):
                flags[number] = jnp.asarray(condition(result))
        return label_result(fn, result), flags

    # the devices share the longest dimension; the compiler splits all that follows from it
    if mesh is not None and layout:
        _, longest = max(layout, key=lambda dimension: values[dimension[1][0]].size)
        split = NamedSharding(mesh, PartitionSpec("block"))
        for name in longest:
            values[name] = jax.lax.with_sharding_constraint(values[name], split)
    for _, names in reversed(layout):
        mapped_axes = {name: 0 if name in names else None for name in values}
        evaluate = jax.vmap(evaluate, in_axes=(mapped_axes,))
    return evaluate(values)


@jax.jit
def contains_nan(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return whether an array holds NaN, for each floating or complex one by name."""
    flags = {}
    for name, array in arrays.items():
        if jnp.iscomplexobj(array):
            flags[name] = jnp.isnan(array).any()
        elif jnp.issubdtype(array.dtype, jnp.floating):
            # NaN is then the minimum, which XLA finds as fast as it can read memory
            flags[name] = jnp.isnan(array.min(initial=jnp.inf))
    return flags


def name_nan(flags: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Return the problem of each variable that holds NaN, without details."""
    return {f"{name} is NaN": "" for name, has_nan in flags.items() if has_nan}


def _first_cpu() -> Any:
    """Return the first CPU; None where JAX was told to use none."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None


def _dtype_name(dtype: DTypeLike | None) -> str:
    """Return the name of a floating dtype, of JAX's default for None."""
    if dtype is None:
        return jnp.result_type(float).name
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in _DTYPES:
        raise ValueError(f"dtype={dtype!r}: must be {' or '.join(_DTYPES)}")
    return name
